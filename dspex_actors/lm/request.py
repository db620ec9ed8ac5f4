"""What an LM call asks, as a value: it goes from `LM` to whatever answers, which may be another process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from dspex_actors.lm.answer_key import answer_key
from dspex_actors.lm.deployment import Deployment, Limits
from supervisors import message

#: For whom a call is, and what for (name → text); None: nobody said.
Whose = tuple[str | None, Mapping[str, str] | None]


@dataclass(frozen=True, slots=True)
class Options:
    """How a call is made; no part of any identity.

    Args:
        timeout: seconds for one request.
        deadline: seconds for one call, waits and retries included.
        cache: whether an earlier answer may be used.
        hedge: whether a second request follows one that takes long.
        cache_ttl: seconds for which one is; None: as `configure_cache` says.
    """

    timeout: float = 60.0
    deadline: float = 600.0
    cache: bool = True
    hedge: bool = False
    cache_ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Parts:
    """An LM in its parts, made once per LM and shared by its requests; not to be changed.

    Args:
        settings: all of it as plain data (`LM.to_dict`).
        deployment: whom to ask: owns budget, circuit and connections.
        limits: how fast, as this LM tells it.
        params: what changes the answer: temperature, max_tokens and the like.
        options: how to ask.
        fallbacks: LMs to ask when this one cannot answer, each with its own parts.
        context_fallbacks: the same where the prompt does not fit; None: `fallbacks`.
        content_fallbacks: the same where the content is blocked; None: nobody.
        circuit: what it says of its circuit; False: it has none; None: as the configuration says.
        model_type: what it is asked for, and with it the provider's format: chat or embeddings.
    """

    settings: dict[str, Any]
    deployment: Deployment
    limits: Limits
    params: dict[str, Any]
    options: Options
    fallbacks: tuple[Parts, ...] = ()
    context_fallbacks: tuple[Parts, ...] | None = None
    content_fallbacks: tuple[Parts, ...] | None = None
    circuit: dict[str, Any] | Literal[False] | None = None
    model_type: str = "chat"

    @property
    def others(self) -> tuple[Parts, ...]:
        """All that may be asked when this one cannot answer."""
        return (*self.fallbacks, *(self.context_fallbacks or ()), *(self.content_fallbacks or ()))

    @property
    def seconds(self) -> float:
        """How long a call may take: each fallback has a deadline of its own."""
        return self.options.deadline + sum(other.options.deadline for other in self.others)


@dataclass(slots=True)
class LMRequest:
    """One LM call; not to be changed (frozen it would take three times as long to make).

    Args:
        lm: the parts of the LM that is asked.
        messages: role/content messages.
        given: checked parameters of this call, over the LM's own; None in it takes one away.
        user: for whom it is made; None: nobody said. With `tags` it is in the books, and in no identity.
        tags: what it is for: name → text; None: nobody said.
        sink: takes the pieces of a reply that is to be streamed (lm/worker/streaming.py); None: it comes as a whole.
    """

    lm: Parts
    messages: list[dict[str, Any]]
    given: dict[str, Any]
    user: str | None = None
    tags: Mapping[str, str] | None = None
    sink: Any = None

    @property
    def params(self) -> dict[str, Any]:
        """The LM's parameters with the call's over them; not to be changed."""
        if not self.given:
            return self.lm.params
        both = {**self.lm.params, **self.given}
        return {name: value for name, value in both.items() if value is not None}

    @property
    def cache_key(self) -> str:
        """A digest of what decides the answer: deployment, messages and parameters, `rollout_id` too."""
        return answer_key(self.lm, self.messages, self.params if self.given else None).hex()


@message(66)
@dataclass(frozen=True, slots=True)
class Complete:
    """One LM call of a program outside, to an http worker. The reply is ("ok", the reply) or ("error", its record).

    Args:
        lm: the LM's settings (`LM.to_dict`).
        messages: role/content messages.
        given: checked parameters of this call, over the LM's own.
        user: for whom it is made.
        tags: what it is for.
        cache: how answers are cached, as `lm.told_cache` packs it; None: as where nobody says anything.
    """

    VERSION: ClassVar[int] = 2

    lm: dict[str, Any]
    messages: list[dict[str, Any]]
    given: dict[str, Any]
    user: str | None = None
    tags: dict[str, str] | None = None
    cache: bytes | None = None


@message(110)
@dataclass(frozen=True, slots=True)
class OpenStream:
    """One LM call whose reply is streamed, to an http worker.

    The reply is ("ok", the stream's number and the worker), or ("error", its record). Who has opened it holds it
    (`HoldStream`) and asks for the pieces (`NextPieces`) one call after the other.

    Args:
        call: what is asked.
    """

    VERSION: ClassVar[int] = 1

    call: Complete


@message(111)
@dataclass(frozen=True, slots=True)
class HoldStream:
    """Says that a stream is wanted, as long as no answer has come and the caller waits for one.

    Args:
        number: the stream's.
    """

    VERSION: ClassVar[int] = 1

    number: int


@message(112)
@dataclass(frozen=True, slots=True)
class NextPieces:
    """Asks for the next pieces: all that have come, at least one.

    The reply is the pieces as plain data, and behind the last ones ("ok", the reply) or ("error", its record), else
    None.

    Args:
        number: the stream's.
    """

    VERSION: ClassVar[int] = 1

    number: int


@message(140)
@dataclass(frozen=True, slots=True)
class Unusable:
    """The answer to a call is of no use, as a program outside has found out: nobody is to get it again. A cast.

    Args:
        call: the call.
    """

    VERSION: ClassVar[int] = 1

    call: Complete
