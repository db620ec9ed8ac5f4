"""By which key an answer of an LM is found: a digest of everything that decides it, and of nothing else.

It is taken over msgpack, where the length of every part stands before it: no two calls have one text. What means the
same has one key: 1 and 1.0, parameters in another order, a typed message and the plain one. A key reference is part of
it, as of the deployment: what one key may see is not shown to another, also where both are of one account.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgpack  # type: ignore[import-untyped,unused-ignore]

from dspex_actors.lm.deployment import Deployment

#: Part of every key: what answers are, and how keys are made. Another one finds none of the old answers.
VERSION = "dspex-answer-2"
#: LMs whose parts are remembered as bytes.
_MOST_HEADS = 256
_WHOLE = 2**53


class Asked(Protocol):
    """What of an LM decides an answer: `lm.request.Parts` has it."""

    @property
    def model_type(self) -> str:
        """In which form it is asked."""
        ...

    @property
    def deployment(self) -> Deployment:
        """Whom to ask."""
        ...

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters."""
        ...


_heads: dict[int, tuple[Asked, bytes, bytes]] = {}


def answer_key(lm: Asked, messages: Sequence[Any], params: Mapping[str, Any] | None = None, tenant: str = "") -> bytes:
    """Return the key of a call's answer: 16 bytes.

    Args:
        lm: what is asked.
        messages: role/content messages.
        params: all parameters of the call, where it has some beside the LM's.
        tenant: whose answers these are; those of another are never found.

    Raises:
        TypeError, ValueError: something in it is no plain data.
    """
    known = _heads.get(id(lm))
    if known is None or known[0] is not lm:
        known = _head(lm)
    # Each part says by itself where it ends.
    parts = known[1] + (known[2] if params is None else _packed(canonical(params)))
    if tenant:
        parts += _packed(tenant)
    return hashlib.sha256(parts + _packed([_message(each) for each in messages])).digest()[:16]


def question_of(lm: Asked, messages: Sequence[Any], params: Mapping[str, Any], tenant: str) -> tuple[bytes, str] | None:
    """Return a key of everything but the user's text, and that text; None: there is more than instructions and a text.

    Args:
        lm: what is asked.
        messages: role/content messages.
        params: all parameters of the call.
        tenant: as of `answer_key`.
    """
    *before, last = [canonical(each) for each in messages]
    text = last.get("content")
    if set(last) != {"role", "content"} or last["role"] != "user" or not isinstance(text, str):
        return None
    if any(
        each.get("role") not in ("system", "developer") or not isinstance(each.get("content"), str) for each in before
    ):
        return None
    rest = _packed([tenant, before, canonical(params)])
    return hashlib.sha256(b"\xc1".join([_head(lm)[1], rest])).digest()[:16], text


def canonical(value: Any) -> Any:
    """Return plain data in the one form that all ways of writing it have in common.

    Raises:
        TypeError: something in it is no plain data.
    """
    kind = value.__class__
    if kind is str or kind is int or kind is bool or value is None or kind is bytes:
        return value
    if kind is float:
        return int(value) if value.is_integer() and abs(value) < _WHOLE else value
    if kind is dict:
        return {str(name): canonical(value[name]) for name in sorted(value, key=str)}
    if kind is list or kind is tuple:
        return [canonical(item) for item in value]
    if hasattr(value, "to_plain"):
        return canonical(value.to_plain())
    base: Any
    for base in (str, int, float, dict, list, tuple):
        if isinstance(value, base):
            return canonical(base(value))
    raise TypeError(f"expected plain data, got {value!r:.80} ({kind.__name__})")


def _message(message: Any) -> Any:
    if message.__class__ is dict and len(message) == 2:  # nearly all of them
        role, content = message.get("role"), message.get("content")
        if role.__class__ is str and content.__class__ is str:
            return {"content": content, "role": role}
    return canonical(message)


def _packed(value: Any) -> bytes:
    try:
        return bytes(msgpack.packb(value))
    except UnicodeEncodeError:  # halves of surrogate pairs
        return bytes(msgpack.packb(value, unicode_errors="surrogatepass"))
    except OverflowError:  # an integer that no provider takes
        return repr(value).encode("utf-8", "surrogatepass")


def _head(lm: Asked) -> tuple[Asked, bytes, bytes]:
    deployment = lm.deployment
    head = _packed([VERSION, deployment.digest, lm.model_type])
    if len(_heads) >= _MOST_HEADS:
        _heads.clear()
    made = _heads[id(lm)] = (lm, head, _packed(canonical(lm.params)))
    return made
