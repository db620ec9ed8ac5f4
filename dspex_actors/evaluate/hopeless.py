"""When going on is no use: a key that is refused, an account without money, a model that is not there.

Pure. No retry mends such an error, and it is the same for every example: a run of 100,000 must not find that out
100,000 times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: So many results in a row, and the run is over.
IN_A_ROW = 20
#: Whatever the example is, and however many have been answered before.
_ACCOUNT = frozenset({"AuthError", "QuotaExhausted"})
#: Errors that another attempt at the same example cannot mend.
_FINAL = _ACCOUNT | {"ConfigError", "InvalidRequest", "ContextWindowExceeded", "ContentBlocked", "CodecError"}
_NOT_FOUND = 404


def is_final(error: Mapping[str, Any]) -> bool:
    """Tell whether another attempt at the example is no use, from its error's record."""
    return error.get("type") in _FINAL or bool(error.get("final"))


def is_hopeless(error: Mapping[str, Any], *, answered: bool) -> bool:
    """Tell whether every other example will fail the same way.

    Args:
        error: the error's record.
        answered: whether any example of the run has been answered: then the settings are right.
    """
    kind = error.get("type")
    if kind in _ACCOUNT:
        return True
    if answered:
        return False
    if kind == "Overloaded":
        # No HTTP status: nobody answers there, or what answers is no LM. Each has been tried for half a minute by now.
        return error.get("status") is None
    return kind == "ConfigError" or (kind == "InvalidRequest" and error.get("status") == _NOT_FOUND)


@dataclass(slots=True)
class HopelessRule:
    """Hold results back while they look hopeless, until it is clear whether the run is.

    Args:
        answered: whether an earlier part of the run has answers.
    """

    answered: bool = False
    #: What ends the run, once that is so.
    verdict: str | None = field(default=None, init=False)
    _held: list[Any] = field(default_factory=list, init=False)

    def observe(self, result: Any, error: Mapping[str, Any] | None) -> list[Any]:
        """Take in a result and return those to write down now.

        Those that are held back when the verdict falls are never written down: the run, resumed with another key,
        asks them again.
        """
        if self.verdict is not None:
            return [] if error is not None else [result]
        if error is None or not is_hopeless(error, answered=self.answered):
            self.answered = self.answered or error is None
            return [*self.let_go(), result]
        self._held.append(result)
        if len(self._held) >= IN_A_ROW:
            self.verdict = f"{error.get('type')}: {error.get('message')}"
            self._held.clear()
        return []

    def let_go(self) -> list[Any]:
        """Return what is held back: nothing more comes."""
        held, self._held = self._held, []
        return held
