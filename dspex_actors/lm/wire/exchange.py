"""What passes between the provider formats, which are pure, and the HTTP client, which is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dspex_actors.lm.content.logprobs import Logprob
from dspex_actors.lm.content.parts import Part
from dspex_actors.lm.usage import Usage


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request, without its key.

    Args:
        path: what follows the base URL.
        headers: all but the one that carries the key.
        key_header: name of the header that carries the key.
        key_prefix: what stands before the key in it.
        body: JSON.
    """

    path: str
    headers: Mapping[str, str]
    key_header: str
    key_prefix: str
    body: bytes


@dataclass(slots=True)
class RawReply:
    """One HTTP answer, read to its end: status, headers by lower-case name, body without content encoding.

    Not to be changed; frozen it would take three times as long to make.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class WireReply:
    """What a provider's answer says: `parse` reads its body, `read` adds what the headers tell.

    Args:
        text: the reply's text.
        usage: None when the provider did not say.
        finish_reason: in our normal form (see `LMReply`).
        model: the model that answered; None when not said.
        request_id: the provider's id of the request.
        tier: how it is billed, where that is not the standard way: batch, flex, priority, fast, or the provider's own
            word.
        parts: what it says, where that is more than one text; None: `text` is all.
        logprobs: of the tokens of its text; None: not told.
    """

    text: str
    usage: Usage | None
    finish_reason: str | None
    model: str | None
    request_id: str | None
    tier: str | None = None
    parts: tuple[Part, ...] | None = None
    logprobs: tuple[Logprob, ...] | None = None
