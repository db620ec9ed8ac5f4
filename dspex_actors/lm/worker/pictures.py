"""The pictures of a call, for providers that take no addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dspex_actors.lm.worker import retry
from dspex_actors.lm.worker.call import Call
from dspex_actors.lm.worker.media import MEDIA


async def with_pictures(provider: str, call: Call, left: Callable[[Call], float]) -> list[dict[str, Any]]:
    """Return a call's messages with what stands at addresses in them.

    Args:
        provider: who is asked.
        call: the call.
        left: returns the seconds that it has left.

    Raises:
        LMError: an address is refused, or it takes longer than the call may.
    """
    try:
        async with asyncio.timeout(left(call)):
            return await MEDIA.inlined(provider, call.messages)
    except TimeoutError:
        raise retry.out_of_time(call.deadline, call.last) from None
