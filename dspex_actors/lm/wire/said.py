"""What a reply says: its parts, read from what providers send. Garbage is left out, as everybody's SDK does."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from dspex_actors.lm.content.logprobs import Logprob
from dspex_actors.lm.content.parts import Other, Part, Text, Thinking, ToolCall, signature_of
from dspex_actors.lm.wire import bodies


def said(parts: Iterable[Part]) -> dict[str, Any]:
    """Return parts as the fields `text` and `parts` of a `WireReply`; empty texts are left out."""
    kept = tuple(part for part in parts if not (type(part) is Text and not part.text and part.signature is None))
    texts = [part for part in kept if type(part) is Text]
    is_bare = len(kept) == len(texts) < 2 and all(part.signature is None for part in texts)
    return {"text": "".join(part.text for part in texts), "parts": None if is_bare else kept}


def thoughts(text: object, provider: str, block: dict[str, Any] | None = None) -> Thinking:
    """Return what a model has thought, with the provider's own block of it."""
    return Thinking(
        text if isinstance(text, str) else "", provider, None if block is None else bodies.dump(block).decode()
    )


def other(block: dict[str, Any]) -> Other:
    """Return a part that only its provider knows."""
    return Other(bodies.dump(block).decode())


def call(name: object, arguments: object, number: object = "", signature: str | None = None) -> ToolCall | None:
    """Return a tool call; None: it has no name.

    Args:
        name: the tool's.
        arguments: JSON text, or what it would say; a text that is not JSON stays (`ToolCall.error` says why).
        number: the provider's id of the call.
        signature: Gemini's.
    """
    if not isinstance(name, str) or not name:
        return None
    if arguments is None:
        text = "{}"
    elif isinstance(arguments, str):
        text = bodies.whole(arguments)
    else:
        text = bodies.dump(arguments).decode()
    return ToolCall(name, text, number if isinstance(number, str) else "", signature)


def calls_in(told: object) -> list[Part]:
    """Return the tool calls of OpenAI's form; such as are none are left out."""
    found: list[Part] = []
    for each in told if isinstance(told, list) else ():
        if not isinstance(each, dict):
            continue
        function = each.get("function")
        if isinstance(function, dict):
            made = call(function.get("name"), function.get("arguments"), each.get("id"), signature_of(each))
            found += [made] if made else []
        elif each.get("type") == "custom":
            found.append(other(each))
    return found


def logprobs_in(told: object, names: tuple[str, str, str]) -> tuple[Logprob, ...] | None:
    """Return the log probabilities of tokens in a list of objects; None where there are none.

    Args:
        told: the list.
        names: of an object's fields for its token, its log probability, and the likeliest tokens in its place.
    """
    token, logprob, top = names
    rows: list[Logprob] = []
    for each in told if isinstance(told, list) else ():
        value = _number(each.get(logprob)) if isinstance(each, dict) else None
        if value is None or not isinstance(each.get(token), str):
            continue
        likeliest = logprobs_in(each.get(top), (token, logprob, "")) or ()
        rows.append(Logprob(each[token], value, tuple((one.token, one.logprob) for one in likeliest)))
    return tuple(rows) or None


def _number(value: object) -> float | None:
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_one else None  # type: ignore[arg-type]
