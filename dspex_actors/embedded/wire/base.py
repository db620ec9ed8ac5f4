"""What every wire format is turned into, and what it must be able to write back.

A wire reads a provider's request into a `Call`, and writes an `Answer` or a `Trouble` in that provider's
words. It knows nothing of limits, faults or time, and touches no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dspex_actors.foundation.checks import is_whole

TroubleKind = Literal["invalid", "auth", "not_found", "too_large", "rate_limit", "server_error", "overloaded"]


@dataclass(slots=True)
class Call:
    """One request, whichever provider's.

    Attributes:
        model: the name asked for; any is served.
        messages: (role, text) pairs with roles system, user, assistant.
        attachments: how many parts were not text (pictures, sound, files); they are counted, not seen.
        max_tokens: the most that the answer may have; None: no bound.
        temperature: 0 when the request has none, so that the same request gets the same answer.
        seed: the request's own, if it has one.
        stop: texts that end the answer before them.
        choices: how many answers are wanted; 0: vectors of the messages are, not answers.
        json: whether the request asks for a JSON object by its parameters.
        schema: the JSON schema of that object, if given.
        vectors: of embeddings, float or base64, and how long each is to be.
        stream: whether the answer is wanted in pieces; Gemini's requests say so in their path.
        stream_usage: whether a stream is to tell the usage, where that is not told anyway.
    """

    model: str
    messages: list[tuple[str, str]]
    attachments: int = 0
    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    choices: int = 1
    json: bool = False
    schema: Any = None
    vectors: tuple[str, int] | None = None
    stream: bool = False
    stream_usage: bool = False


FinishKind = Literal["stop", "length", "stop_sequence"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: a text and a finish per choice, and the tokens of them all."""

    texts: list[str]
    finishes: list[FinishKind]
    input_tokens: int
    output_tokens: int
    stop_sequence: str | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no answer.

    Attributes:
        kind: decides the status and the provider's name for it.
        message: one line for a person.
        param: the request's field that is at fault, if one is.
        retry_after: seconds to wait, for kind rate_limit.
        limit: requests or tokens, for kind rate_limit.
    """

    kind: TroubleKind
    message: str
    param: str | None = None
    retry_after: float | None = None
    limit: str = "requests"


class RequestError(Exception):
    """The provider would not accept this request."""

    def __init__(self, message: str, param: str | None = None, kind: TroubleKind = "invalid") -> None:
        """Say what was expected, and of which field."""
        super().__init__(message)
        self.trouble = Trouble(kind, message, param)


@dataclass(frozen=True, slots=True)
class LimitState:
    """One limit as it stands: units a minute, units left now, seconds until all of the burst is free."""

    limit: int
    remaining: int
    reset_after: float


class Wire(Protocol):
    """One provider's format."""

    @property
    def name(self) -> str:
        """The provider's, as model strings have it."""
        ...

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Return the API key that the request carries."""
        ...

    def read(self, body: dict[str, Any], headers: Mapping[str, str], model: str) -> Call:
        """Read a request's body; `model` is the one in the path, for the format that has it there.

        Raises:
            RequestError: as the provider would refuse it.
        """
        ...

    def write(self, call: Call, answer: Answer, request_id: str, now: float) -> dict[str, Any]:
        """Return the body of a 200."""
        ...

    def refuse(self, trouble: Trouble, request_id: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the body of an error."""
        ...

    def headers(self, request_id: str, limits: Mapping[str, LimitState], now: float) -> dict[str, str]:
        """Return the headers that every response carries; `limits` by requests and tokens, those in force."""
        ...


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token of an ``Authorization: Bearer`` header."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def text_of(content: Any, where: str) -> tuple[str, int]:
    """Return the text of a message's content (a string, or parts) and how many parts were not text.

    Raises:
        RequestError: the content is neither.
    """
    if isinstance(content, str):
        return content, 0
    if content is None:
        return "", 0
    if not isinstance(content, list):
        raise RequestError(f"{where}: expected a string or a list of parts, got {type(content).__name__}", where)
    texts: list[str] = []
    others = 0
    for part in content:
        if not isinstance(part, dict):
            raise RequestError(f"{where}: expected parts that are objects, got {type(part).__name__}", where)
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            others += 1
    return "\n".join(texts), others


def read_messages(body: dict[str, Any], roles: Mapping[str, str]) -> tuple[list[tuple[str, str]], int]:
    """Read ``messages`` of role and content, as three of the four formats have them.

    Args:
        body: the request.
        roles: the provider's role names to system, user and assistant.

    Raises:
        RequestError: there are none, or one is not legal.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages: expected a list of at least one message", "messages")
    read: list[tuple[str, str]] = []
    attachments = 0
    for at, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in roles:
            raise RequestError(
                f"messages.{at}.role: expected one of {', '.join(roles)}; got {role!r}",
                f"messages[{at}].role",
            )
        text, others = text_of(message.get("content"), f"messages.{at}.content")
        attachments += others
        read.append((roles[role], text))
    return read, attachments


def model_of(body: dict[str, Any]) -> str:
    """Return the request's model.

    Raises:
        RequestError: it has none.
    """
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RequestError("model: you must provide a model parameter", "model")
    return model


def number(body: dict[str, Any], name: str, low: float, high: float) -> float | None:
    """Return an optional number of the request between two bounds.

    Raises:
        RequestError: it is something else.
    """
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RequestError(f"{name}: expected a number from {low:g} to {high:g}, got {value!r}", name)
    return value


def whole(body: dict[str, Any], name: str, low: int) -> int | None:
    """Return an optional whole number of the request, at least `low`.

    Raises:
        RequestError: it is something else.
    """
    value = body.get(name)
    if value is None:
        return None
    if not is_whole(value, low):
        raise RequestError(f"{name}: expected a whole number of at least {low}, got {value!r}", name)
    return int(value)


def flag(body: dict[str, Any], name: str) -> bool:
    """Return an optional yes or no of the request.

    Raises:
        RequestError: it is something else.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"{name}: expected true or false, got {value!r}", name)
    return bool(value)


def stops(body: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return the request's stop texts: a string or a list of them.

    Raises:
        RequestError: it is something else.
    """
    value = body.get(name)
    given = [value] if isinstance(value, str) else value or []
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise RequestError(f"{name}: expected a string or a list of strings", name)
    return tuple(one for one in given if one)


def retry_headers(trouble: Trouble) -> dict[str, str]:
    """Return a ``Retry-After`` of whole seconds, rounded up: a client that obeys it is not early."""
    if trouble.retry_after is None:
        return {}
    return {"Retry-After": str(max(1, -int(-trouble.retry_after // 1)))}
