"""Which LM to ask when one cannot answer, and which error tells the caller why nobody could. Pure.

The order is the one that was given. Another model is asked when this one is away, too slow, unknown, out of quota or
refuses the key, or when the prompt does not fit its window; not when the request itself is wrong or was blocked: it
would be so there too, and a blocked prompt is not passed around.
"""

from __future__ import annotations

from collections.abc import Sequence

from dspex_actors.errors import ContentBlocked, ContextWindowExceeded, InvalidRequest, LMError
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
