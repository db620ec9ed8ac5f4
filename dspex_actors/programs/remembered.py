"""What a program remembers of its own calls in this process, and who hears of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from dspex_actors.foundation.setting_checks import check_values
from dspex_actors.lm.history import HISTORY, Entries, show
from dspex_actors.programs.walk import Part


class Remembered(Part):
    """Base of programs: callbacks of its own, and the LM calls that its calls have made.

    Args:
        callbacks: `BaseCallback`s that hear of this program's calls, beside those of the settings.

    Raises:
        ConfigError: they are no list of such.
    """

    #: The LM calls that its calls have made in this process, oldest first, as DSPy's entries.
    history = Entries(HISTORY.of_module)

    def __init__(self, callbacks: Sequence[Any] | None = None) -> None:
        """Keep the callbacks; a subclass that has none of its own need not call this."""
        if callbacks is not None:
            check_values({"callbacks": callbacks})
            self.callbacks = list(callbacks)

    def inspect_history(self, n: int = 1, file: TextIO | None = None) -> None:
        """Print the last LM calls that its calls have made in this process, as `dspex.inspect_history` does."""
        show(HISTORY.of_module(self), n, file)
