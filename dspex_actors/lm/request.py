"""What an LM call asks, as a value: it goes from `LM` to whatever answers, which may be another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from dspex_actors.lm.deployment import Deployment, Limits
from dspex_actors.lm.identity import digest
from supervisors import message


@dataclass(frozen=True, slots=True)
class Options:
    """How a call is made; no part of any identity.

    Args:
        timeout: seconds for one request.
        deadline: seconds for one call, waits and retries included.
        cache: whether an earlier answer may be used.
    """

    timeout: float = 60.0
    deadline: float = 600.0
    cache: bool = True


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
    """

    settings: dict[str, Any]
    deployment: Deployment
    limits: Limits
    params: dict[str, Any]
    options: Options
    fallbacks: tuple[Parts, ...] = ()

    @property
    def seconds(self) -> float:
        """How long a call may take: each fallback has a deadline of its own."""
        return self.options.deadline + sum(other.options.deadline for other in self.fallbacks)


@dataclass(frozen=True, slots=True)
class LMRequest:
    """One LM call.

    Args:
        lm: the parts of the LM that is asked.
        messages: role/content messages.
        given: checked parameters of this call, over the LM's own; None in it takes one away.
    """

    lm: Parts
    messages: list[dict[str, Any]]
    given: dict[str, Any]

    @property
    def params(self) -> dict[str, Any]:
        """The LM's parameters with the call's over them; not to be changed."""
        if not self.given:
            return self.lm.params
        both = {**self.lm.params, **self.given}
        return {name: value for name, value in both.items() if value is not None}

    @property
    def cache_key(self) -> str:
        """A digest of what decides the answer: model, server, messages and parameters, `rollout_id` too."""
        deployment = self.lm.deployment
        parts = {
            "model": deployment.model,
            "server": deployment.server,
            "messages": self.messages,
            "params": self.params,
        }
        return digest(parts, "answer")


@message(66)
@dataclass(frozen=True, slots=True)
class Complete:
    """One LM call of a program outside, to an http worker. The reply is ("ok", the reply) or ("error", its record).

    Args:
        lm: the LM's settings (`LM.to_dict`).
        messages: role/content messages.
        given: checked parameters of this call, over the LM's own.
    """

    VERSION: ClassVar[int] = 1

    lm: dict[str, Any]
    messages: list[dict[str, Any]]
    given: dict[str, Any]
