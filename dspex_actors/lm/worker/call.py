"""One LM call on its way through a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.errors import LMError
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire.base import Provider
from dspex_actors.lm.wire.exchange import WireReply
from dspex_actors.lm.worker.outcome import Circuit
from dspex_actors.lm.worker.purse import Hold
from dspex_actors.lm.worker.streaming import Sink

_NOTHING = Usage()


class Call:
    """What is asked, since when, and what has happened."""

    __slots__ = (
        "asked",
        "circuit",
        "cost",
        "deadline",
        "failed",
        "hedges",
        "held",
        "hold",
        "in_run",
        "last",
        "messages",
        "params",
        "probe",
        "sink",
        "start",
        "tags",
        "timeout",
        "usage",
        "user",
        "waits",
        "wire",
    )

    def __init__(
        self,
        messages: list[dict[str, Any]],
        params: dict[str, Any],
        start: float,
        deadline: float,
        timeout: float,
        wire: Provider,
        user: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Begin.

        Args:
            messages: role/content messages.
            params: all parameters of the call.
            start: monotonic seconds.
            deadline: seconds that it may take in all.
            timeout: seconds that one request may take.
            wire: the format in which it is asked.
            user: for whom it is; None: nobody said.
            tags: what it is for; None: nobody said.
        """
        self.messages = messages
        self.params = params
        self.start = start
        self.deadline = deadline
        #: Seconds for one request.
        self.timeout = timeout
        self.wire = wire
        self.user = user
        self.tags = tags
        self.asked = 0
        #: How many of its requests have failed, by kind.
        self.failed: dict[type[LMError], int] = {}
        self.last: LMError | None = None
        #: Takes the pieces of a reply that is streamed.
        self.sink: Sink | None = None
        #: What the request that was answered has used, and its price; None: unknown.
        self.usage = _NOTHING
        self.cost: float | None = None
        #: Its deployment's; None: it heeds none.
        self.circuit: Circuit | None = None
        #: Whether it waits where the circuit is open; else somebody else is asked.
        self.waits = True
        #: The epoch of the circuit when it first had to wait.
        self.held: int | None = None
        #: It is one of a run: so many are under way, whatever fails.
        self.in_run = False
        #: A second request may follow one that takes long.
        self.hedges = False
        #: Its request is the circuit's probe, with this number.
        self.probe: int | None = None
        #: The money that its request may cost; None: no limit that somebody has set.
        self.hold: Hold | None = None

    @property
    def is_held(self) -> bool:
        """Whether the circuit lets it make no request now."""
        return self.circuit is not None and self.circuit.is_open and self.probe is None

    def taken(self) -> Hold | None:
        """Return the money that is held back for the request that begins now, which settles it."""
        hold, self.hold = self.hold, None
        return hold

    def unmade(self) -> None:
        """Give back what it has for a request that it did not make."""
        if (hold := self.taken()) is not None:
            hold.give_back()
        self.no_probe()

    def no_probe(self) -> None:
        """Let another call be the probe, if it is this one: it makes no request."""
        if self.circuit is not None and self.probe is not None:
            self.circuit.ended(None, answered=False, probe=self.probe, epoch=0)
            self.probe = None

    def reply(self, wire: WireReply, deployment: Deployment, latency: float) -> LMReply:
        """Return the answer of the call.

        Args:
            wire: what the provider has answered.
            deployment: who was asked.
            latency: seconds that the call took.
        """
        return LMReply(
            text=wire.text,
            usage=self.usage,
            cost=self.cost,
            model=wire.model or deployment.model_name,
            latency=latency,
            finish_reason=wire.finish_reason,
            request_id=wire.request_id,
            asked=self.asked,
            provider=deployment.provider,
            content=wire.parts,
            logprobs=wire.logprobs,
        )
