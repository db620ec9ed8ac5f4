"""When going on is no use: a key that is refused, an account without money, a server that is gone. Pure.

No retry mends such an error, and it is the same for every example: a run of 100,000 must not find that out 100,000
times. What counts is the class of our error (`Result.failure`): a user's class may have the same name.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

#: So many results in a row, and the run is over.
IN_A_ROW = 20
#: An example whose calls have waited so many times for a limit on speed, each until its deadline, without an answer to
#: anybody meanwhile: the run is over.
PATIENCE = 3
#: Whatever the example is, and however many have been answered before.
_ACCOUNT = frozenset({"AuthError", "QuotaExhausted"})
#: Errors that say something of the request: hopeless only where they say the same of every request.
_REQUEST = frozenset({"InvalidRequest", "RateLimited"})
_NOT_FOUND = 404
#: Nobody answers: what each example that fails so has been tried for, call by call and attempt by attempt. Without an
#: HTTP status, or a gateway answers in the place of a server that it does not reach.
_AWAY = frozenset({"Overloaded", "Timeout", "DeadlineExceeded", "CircuitOpen"})
#: Of these who say nothing of the example: a call may take too long since it is what it is.
_DOWN = frozenset({"Overloaded", "CircuitOpen"})
_GATEWAY = frozenset({None, 502, 503, 504})
#: What differs in a provider's words from request to request: numbers, ids.
_OWN = re.compile(r"\b(?=\w*\d)[\w-]+\b")


def is_hopeless(failure: str | None, error: Mapping[str, Any], *, answered: bool) -> bool:
    """Tell whether every other example will fail the same way.

    Args:
        failure: the class of our error; None: the error is none of ours.
        error: its record.
        answered: whether any example of the run has been answered: then the settings are right.
    """
    if failure in _ACCOUNT:
        return True
    if failure in _AWAY:
        return _is_away(failure, error)
    return not answered and (failure == "ConfigError" or failure in _REQUEST)


def _is_away(failure: str | None, error: Mapping[str, Any]) -> bool:
    # What says that it is final says something of its own example: its program took too long.
    return failure in _AWAY and error.get("status") in _GATEWAY and error.get("retryable") is not False


def is_outage(errors: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether errors, all that there are, say nothing but that nobody answers."""
    met = [error.get("type") for error in errors if "traceback" not in error and _is_away(error.get("type"), error)]
    return len(met) == len(errors) and not _DOWN.isdisjoint(met)


def _is_sure(failure: str | None, error: Mapping[str, Any]) -> bool:
    """Tell whether a hopeless error leaves no doubt, also when there are few."""
    return failure in _ACCOUNT or (failure == "InvalidRequest" and error.get("status") == _NOT_FOUND)


def _shape(failure: str | None, error: Mapping[str, Any]) -> Hashable:
    """Return what hopeless errors have in common that say something of the request; None: nothing of it."""
    if failure not in _REQUEST:
        return None
    return failure, error.get("status"), error.get("code"), _OWN.sub("#", str(error.get("message")))


#: How the verdict of a run begins whose requests or settings are wrong, whoever answers them.
_OWN_FAULT = re.compile(r"((all )?\d+ examples (in a row )?failed with )?(ConfigError|InvalidRequest): ")


def is_own_fault(reason: str | None) -> bool:
    """Tell whether a run has failed by what it is, and would again: not by a key, an account, or who answers nobody.

    Args:
        reason: why it failed, as the journal has it.
    """
    return reason is not None and _OWN_FAULT.match(reason) is not None


@dataclass(slots=True)
class HopelessRule:
    """Hold results back while they look hopeless, until it is clear whether the run is.

    Args:
        answered: whether an earlier part of the run has answers.
        decides: something hangs on all of its results, as in an optimisation: that a key or an account is refused is
            no example's result then, also where there are few such and others are answered; nor is that nobody answers
            where nobody has answered any of them, however few they are.
    """

    answered: bool = False
    decides: bool = False
    #: What ends the run, once that is so.
    verdict: str | None = field(default=None, init=False)
    _held: list[Any] = field(default_factory=list, init=False)
    #: Examples that failed by an account and are nobody's result.
    _refused: int = field(default=0, init=False)
    #: Whether anything of this run was no hopeless error.
    _other: bool = field(default=False, init=False)
    _why: str = field(default="", init=False)
    _sure: bool = field(default=True, init=False)
    #: Whether all that is held back failed since nobody answers, and some of it for no reason of its own.
    _away: bool = field(default=True, init=False)
    _down: bool = field(default=False, init=False)
    _common: Hashable = field(default=None, init=False)
    _waited: dict[int, int] = field(default_factory=dict, init=False)

    def observe(self, result: Any, failure: str | None, error: Mapping[str, Any] | None) -> list[Any]:
        """Take in a result and return those to write down now.

        Those that are held back when the verdict falls are never written down: the run, resumed with another key,
        asks them again.

        Args:
            result: the result.
            failure: the class of our error; None: there is none, or it is none of ours.
            error: the error's record; None: it went well.
        """
        self._waited.clear()
        if error is None and not self._held:
            self.answered = self._other = True  # nearly all
            return [result]
        if self.verdict is not None:
            return [] if error is not None else [result]
        if self.decides and failure in _ACCOUNT and error is not None:
            self._refused += 1
            self._why = f"{failure}: {error.get('message')}"
            if self._refused >= IN_A_ROW:
                self.verdict = f"{IN_A_ROW} examples failed with {self._why}"
            return []
        if error is None or not is_hopeless(failure, error, answered=self.answered):
            self.answered = self.answered or error is None
            self._other = True
            return [*self._let_go(), result]
        shape = _shape(failure, error)
        gone = self._let_go() if self._held and None not in (shape, self._common) and shape != self._common else []
        self._other = self._other or bool(gone)
        self._common = shape or self._common
        self._held.append(result)
        self._why = f"{failure}: {error.get('message')}"
        self._sure = self._sure and _is_sure(failure, error)
        self._away, self._down = self._away and failure in _AWAY, self._down or failure in _DOWN
        if len(self._held) >= IN_A_ROW:
            self.verdict = f"{IN_A_ROW} examples in a row failed with {self._why}"
            self._held.clear()
        return gone

    def waited(self, index: int, error: Mapping[str, Any]) -> None:
        """Take in that an example's call has waited for a limit on speed until its deadline, and was asked for that."""
        count = self._waited[index] = self._waited.get(index, 0) + 1
        if count >= PATIENCE and self.verdict is None:
            self.verdict = (
                f"a limit on speed let nothing through: {count} calls in turn for one example, each until its "
                f"deadline, and none for the others meanwhile; the last: {error.get('type')}: {error.get('message')}"
            )

    def close(self, *, complete: bool) -> list[Any]:
        """Return what is held back: nothing more comes.

        A run that has nothing but refusals of its key, its account or its model (one that decides: or nobody who
        answers) has no result either, however few examples it has: then there is a verdict, and nothing to write down.

        Args:
            complete: every example has been tried.
        """
        leaves_no_doubt = self._sure or (self.decides and self._away and self._down)
        sure = complete and leaves_no_doubt and not self.answered and not self._other
        held = self._let_go()
        if self._refused and complete and self.verdict is None:
            self.verdict = f"{self._refused} examples failed with {self._why}" if self._refused > 1 else self._why
            return held
        if not held or not sure:
            return held
        self.verdict = f"all {len(held)} examples failed with {self._why}" if len(held) > 1 else self._why
        return []

    def _let_go(self) -> list[Any]:
        held, self._held = self._held, []
        self._sure, self._away, self._down = True, True, False
        self._common = None
        return held
