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
#: Of the errors that may be hopeless those that leave no doubt, also when they are few.
_SURE = _ACCOUNT | {"InvalidRequest"}
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
    #: Whether anything of this run was no hopeless error.
    _other: bool = field(default=False, init=False)
    _why: str = field(default="", init=False)
    _sure: bool = field(default=True, init=False)

    def observe(self, result: Any, error: Mapping[str, Any] | None) -> list[Any]:
        """Take in a result and return those to write down now.

        Those that are held back when the verdict falls are never written down: the run, resumed with another key,
        asks them again.
        """
        if self.verdict is not None:
            return [] if error is not None else [result]
        if error is None or not is_hopeless(error, answered=self.answered):
            self.answered = self.answered or error is None
            self._other = True
            return [*self._let_go(), result]
        self._held.append(result)
        self._why = f"{error.get('type')}: {error.get('message')}"
        self._sure = self._sure and error.get("type") in _SURE
        if len(self._held) >= IN_A_ROW:
            self.verdict = f"{IN_A_ROW} examples in a row failed with {self._why}"
            self._held.clear()
        return []

    def close(self, *, complete: bool) -> list[Any]:
        """Return what is held back: nothing more comes.

        A run that has nothing but refusals of its key, its account or its model has no result either, however few
        examples it has: then there is a verdict, and nothing to write down.

        Args:
            complete: every example has been tried.
        """
        sure = complete and self._sure and not self.answered and not self._other
        held = self._let_go()
        if not held or not sure:
            return held
        self.verdict = f"all {len(held)} examples failed with {self._why}" if len(held) > 1 else self._why
        return []

    def _let_go(self) -> list[Any]:
        held, self._held = self._held, []
        self._sure = True
        return held
