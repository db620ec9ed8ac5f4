"""Replies as they are kept: bytes that msgpack made, and what stands there in their place."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped,unused-ignore]

from dspex_actors.errors import AuthError, ContentBlocked, InvalidRequest, LMError, QuotaExhausted, from_record
from dspex_actors.foundation.secrets import scrub
from dspex_actors.lm.content.parts import Text, Thinking, ToolCall
from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.usage import Usage

#: What a reply that is kept uses.
_NOTHING = Usage()
#: Refusals that everybody would get who asks the same with the same key.
_FOR_ALL = (AuthError, InvalidRequest, ContentBlocked, QuotaExhausted)
#: What such a refusal begins with where an answer would stand: no msgpack begins so.
_REFUSED = b"\xc1"


def packed(reply: LMReply) -> bytes:
    """Return a reply as it is kept."""
    return bytes(msgpack.packb({**reply.to_dict(), "cached": None, "request_id": None}))


def revived(kept: bytes, tier: str, latency: float) -> tuple[LMReply, float | None]:
    """Return a reply that is kept, no request and for nothing, and what it had cost in USD (None: unknown).

    Args:
        kept: from `packed`.
        tier: where it was.
        latency: seconds that it took to find it.
    """
    data = msgpack.unpackb(kept)
    saved: float | None = data["cost"]
    if "content" not in data and "logprobs" not in data:  # nearly all, and in half the time
        get = data.get
        said = get("model", ""), latency, get("finish_reason"), None, 0, get("provider", "")
        return LMReply(data["text"], _NOTHING, 0.0, *said, cached=tier), saved
    data.update(cost=0.0, usage=None, asked=0, cached=tier, latency=latency)
    return LMReply.from_dict(data), saved


def holds_key(reply: LMReply, kept: bytes) -> bool:
    """Say whether a reply repeats a key: nobody else is shown it."""
    if scrub(reply.text) != reply.text:
        return True
    if reply.content is None:
        return False
    text = kept.decode("utf-8", "replace")  # tool calls and the like
    return scrub(text) != text


def refused(error: BaseException) -> bytes | None:
    """Return an error in the place of an answer, if everybody would get it; else None."""
    if not isinstance(error, _FOR_ALL) or error.retryable is True:
        return None
    record = {**error.to_record(), "asked": 0}
    return _REFUSED + bytes(msgpack.packb({**record, "context": None, "usage": None}, default=str))


def is_refusal(kept: bytes) -> bool:
    """Say whether an error stands in the place of an answer."""
    return kept.startswith(_REFUSED)


def refusal(kept: bytes) -> LMError:
    """Return the error that stands in the place of an answer."""
    record: dict[str, Any] = msgpack.unpackb(kept[len(_REFUSED) :])
    error = from_record({name: value for name, value in record.items() if value is not None})
    assert isinstance(error, LMError)
    return error


def pieces_of(reply: LMReply) -> list[Piece]:
    """Return a whole reply as the pieces of a stream: one for each of its parts."""
    pieces: list[Piece] = []
    calls = 0
    for part in reply.parts:
        if isinstance(part, ToolCall):
            pieces.append(Piece("tool_call", part.text, calls, part.id or None, part.name))
            calls += 1
        elif isinstance(part, Text | Thinking) and part.text:
            pieces.append(Piece("text" if isinstance(part, Text) else "thinking", part.text))
    return pieces
