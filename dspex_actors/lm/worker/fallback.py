"""Which LM to ask when one cannot answer, and which error tells the caller why nobody could. Pure.

The order is the one that was given. Another model is asked when this one is away, too slow, unknown, out of quota or
refuses the key, its circuit is open, or the prompt does not fit its window; not when the request itself is wrong: it
would be so there too. A blocked prompt is passed around only where there is a list for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspex_actors.errors import CircuitOpen, ContentBlocked, ContextWindowExceeded, InvalidRequest, LMError
from dspex_actors.lm.request import Parts
from dspex_actors.lm.worker.retry import is_retryable

#: What a provider answers when it has no model of the name.
NO_SUCH_MODEL = 404


def worth_another(error: LMError, *, fallback: bool = False) -> bool:
    """Tell whether another model may answer what failed with `error`.

    Args:
        error: what this one failed with.
        fallback: it was a fallback itself: the request that it found wrong was not wrong where it was asked first.
    """
    if isinstance(error, ContentBlocked):
        return False
    if isinstance(error, ContextWindowExceeded) or not isinstance(error, InvalidRequest):
        return True
    return fallback or error.status == NO_SUCH_MODEL


def what_to_tell(errors: Sequence[LMError]) -> LMError:
    """Return the error of a call that nobody answered: one that passes if there is any, else the first LM's.

    A fallback without a key must not make a call hopeless whose first LM is only away for a minute.

    Args:
        errors: of each LM that was asked, in order; at least one.
    """
    return next((error for error in errors if is_retryable(error)), errors[0])


class Candidates:
    """Who is asked next, and what became of those before.

    Args:
        lm: what was asked first.
        error: what it failed with.
    """

    def __init__(self, lm: Parts, error: LMError) -> None:
        """Begin behind the first one."""
        self._lm = lm
        self._asked = [lm]
        #: The list that is worked off.
        self._others: Sequence[Parts] = ()
        self.errors = [error]
        #: Nobody else is left: who is asked now waits for its circuit.
        self.is_last_hope = False

    def next(self) -> Parts | None:
        """Return whom to ask now; None: nobody.

        Where all that is left has an open circuit, the one that is tried again soonest is asked, and waited for.
        """
        if self.is_last_hope:
            return None
        # Whoever serves for this error, then those who are left of whose turn it was.
        for others in (mine, self._others) if (mine := self._list()) else ():
            found = next((lm for lm in others if not any(lm is other for other in self._asked)), None)
            if found is not None:
                self._others = others
                self._asked.append(found)
                return found
        self.is_last_hope = True
        shut = [
            (error.retry_after or 0.0, number)
            for number, error in enumerate(self.errors)
            if isinstance(error, CircuitOpen)
        ]
        return self._asked[min(shut)[1]] if shut else None

    def failed(self, error: LMError) -> None:
        """Take note that the last one could not answer either."""
        self.errors.append(error)

    def _list(self) -> Sequence[Parts]:
        error = self.errors[-1]
        if isinstance(error, ContentBlocked):
            return self._lm.content_fallbacks or ()
        if isinstance(error, ContextWindowExceeded) and self._lm.context_fallbacks is not None:
            return self._lm.context_fallbacks
        return self._lm.fallbacks if worth_another(error, fallback=len(self.errors) > 1) else ()

    @property
    def asked(self) -> int:
        """HTTP requests that were made in vain."""
        return sum(error.asked or 0 for error in self.errors)

    @property
    def why(self) -> dict[str, Any]:
        """What a reply says of it."""
        return {
            "instead_of": self._lm.deployment.model,
            "because": type(self.errors[0]).__name__,
            "message": self.errors[0].message,
        }

    def what_to_tell(self) -> LMError:
        """Return the error of the call: nobody has answered it."""
        if len(self.errors) == 1:
            return self.errors[0]
        told = what_to_tell(self.errors)
        others = [
            f"{error.provider}/{error.model} {type(error).__name__}" for error in self.errors if error is not told
        ]
        told.message = f"{told.message}; asked beside it: {', '.join(others)}" if others else told.message
        told.args = (told.message,)
        told.asked = self.asked
        return told
