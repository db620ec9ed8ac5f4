"""`isolated_system`: a node that nobody else has, gone afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspex_actors.client.connect import connect
from dspex_actors.client.system import System
from dspex_actors.foundation.home import HOME
from dspex_actors.lm.base import BaseLM
from dspex_actors.settings import settings
from dspex_actors.workflow.stale import forget_answers


@contextmanager
def isolated_system(
    lm: BaseLM | str | None = None, *, workers: int = 1, embedded: dict[str, Any] | None = None
) -> Iterator[System]:
    """Give a connection to a node of one's own; it, its data folder and its runs are gone afterwards.

    Nothing is shared with the user's daemon or data folder: meanwhile DSPEX_HOME is a folder of this test's, for this
    whole program; what `execute_module_with_cache_fallback` has kept is forgotten. Before and after, the settings are
    what they were. A start takes about a second: a fixture of a module shares one where its tests do not disturb each
    other.

    Args:
        lm: for programs that have none of their own: an LM (`scripted_lm`) or a model string.
        workers: http workers of the node.
        embedded: settings of its embedded LM.

    Raises:
        ConfigError: an argument is not usable.
    """
    folder = Path(tempfile.mkdtemp(prefix="dspex-test-"))
    before_home, before_lm = os.environ.get(HOME.variable), settings.beneath("lm")
    os.environ[HOME.variable] = str(folder)
    forget_answers()
    try:
        with connect(lm, home=folder, workers=workers, embedded=embedded) as system:
            yield system
    finally:
        if before_home is None:
            os.environ.pop(HOME.variable, None)
        else:
            os.environ[HOME.variable] = before_home
        settings.assign(lm=before_lm)
        forget_answers()
        shutil.rmtree(folder, ignore_errors=True)
