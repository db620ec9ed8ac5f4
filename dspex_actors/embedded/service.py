"""From a request's bytes to a reply's, without a network: validation, key, limits, the learner, usage.

`Service` is what the HTTP server calls; everything that happens to sockets and time is the server's.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from dspex_actors.embedded import tokens
from dspex_actors.embedded.config import EmbeddedConfig
from dspex_actors.embedded.faults import FaultKind, FaultPlan
from dspex_actors.embedded.learner import Learner
from dspex_actors.embedded.limiter import RateLimiter
from dspex_actors.embedded.wire import Answer, Call, RequestError, Trouble, Wire
from dspex_actors.embedded.wire.base import FinishKind, LimitState, retry_headers
from dspex_actors.embedded.wire.events import error_event, events_of
from dspex_actors.foundation.tokens import count

_PROXY_PAGE = b"<html><head><title>502 Bad Gateway</title></head>\n<body><h1>502 Bad Gateway</h1></body></html>\n"
#: Faults that come in the midst of a stream.
_IN_STREAMS = ("stream_error", "stall")
#: Seconds that an injected rate limit asks the client to wait.
FAULT_RETRY_AFTER = 1.0


@dataclass
class Stats:
    """What the server has done since its start; `refused` is what the client got wrong (400, 401, 413)."""

    requests: int = 0
    answered: int = 0
    refused: int = 0
    rate_limited: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    #: Streams, and of these the ones that their client did not wait for.
    streams: int = 0
    abandoned: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        return asdict(self)

    def line(self) -> str:
        """Return the numbers as one line for a person."""
        faults = ", ".join(f"{kind} {n}" for kind, n in sorted(self.faults.items())) or "none"
        return (
            f"{self.requests} requests, {self.answered} answered, {self.rate_limited} rate limited, "
            f"{self.refused} refused, faults: {faults}; at most {self.max_in_flight} at once; "
            f"{self.input_tokens} tokens in, {self.output_tokens} out"
        )


@dataclass(slots=True)
class Outcome:
    """What is to be sent: status, body and headers, or a fault that is a matter of the socket; and what it is worth.

    `events` are those of a stream, which has no body then; a fault in the midst of it comes after the half of them.
    """

    status: int
    body: bytes
    headers: dict[str, str]
    fault: FaultKind | None = None
    answer: Answer | None = None
    events: list[bytes] | None = None

    def booked(self, number: int) -> dict[str, Any]:
        """Return what a provider would write down of a request."""
        answer = self.answer
        return {
            "id": f"{number:016x}",
            "status": self.status,
            "fault": self.fault,
            "input": answer.input_tokens if answer else 0,
            "output": answer.output_tokens if answer else 0,
            "finish": answer.finishes[0] if answer and answer.finishes else None,
        }


class Service:
    """Answers requests of every wire format under one config."""

    def __init__(self, config: EmbeddedConfig) -> None:
        """Start with fresh limits, counters and an empty mind."""
        self.stats = Stats()
        self._config = config
        self._learner = Learner(config.seed)
        self._limiter = RateLimiter(config.rpm, config.tpm, config.burst_seconds)
        self._plan = FaultPlan(config.faults, config.seed)

    def answer(
        self,
        wire: Wire,
        path_model: str,
        headers: Mapping[str, str],
        raw: bytes,
        request_number: int,
        now: float,
        clock: float,
        *,
        stream: bool = False,
    ) -> Outcome:
        """Answer one request.

        1. Check the key, then the request, as the provider would.
        2. Admit it under the rate limits.
        3. Draw its fault.
        4. Let the learner answer; count tokens.

        Args:
            wire: the format the request came in.
            path_model: the model in the path, for the format that has it there.
            headers: of the request, case-insensitive.
            raw: the request's body.
            request_number: counts from 1; decides the fault.
            now: seconds since the epoch.
            clock: seconds of a clock that is never set back, for the limits.
            stream: the path says that the answer is to be streamed.
        """
        request_id = f"{request_number:016x}"
        trouble = self.key_trouble(wire, headers)
        if trouble is None:
            try:
                call = wire.read(_parse(raw), headers, path_model)
                call.stream = call.stream or stream
            except RequestError as bad:
                trouble = bad.trouble
        if trouble is not None:
            self.stats.refused += 1
            return self.refuse(wire, trouble, request_id, now, clock)
        input_tokens = tokens.count_messages(call.messages, call.attachments)
        reserved = input_tokens + (call.max_tokens or 0)
        refusal = self._limiter.admit(reserved, clock)
        if refusal is not None:
            self.stats.rate_limited += 1
            message = (
                f"Rate limit reached for {call.model} on {refusal.limit} per minute: "
                f"limit {refusal.per_minute:g}. Please try again in {refusal.retry_after:.3f}s."
            )
            trouble = Trouble("rate_limit", message, None, refusal.retry_after, refusal.limit)
            return self.refuse(wire, trouble, request_id, now, clock)
        fault = self._plan.fault(request_number)
        if fault is not None:
            self.stats.faults[fault] = self.stats.faults.get(fault, 0) + 1
            if fault != "truncated" and not (call.stream and fault in _IN_STREAMS):
                return self._faulty(wire, fault, request_id, now, clock)
        answer = self._answer(call, input_tokens)
        self._limiter.settle(reserved, answer.input_tokens + answer.output_tokens, clock)
        written = wire.write(call, answer, request_id, now)
        if fault is None:
            self.stats.answered += 1
            self.stats.input_tokens += answer.input_tokens
            self.stats.output_tokens += answer.output_tokens
        headers = wire.headers(request_id, self._limits(clock), now)
        if not call.stream:
            return Outcome(200, orjson.dumps(written), headers, fault, answer)
        events = events_of(wire.name, call, answer, written)
        if fault is not None:
            events = events[: len(events) // 2]
        if fault == "stream_error":
            _, error = wire.refuse(Trouble("overloaded", "Overloaded (injected)."), request_id)
            events.append(error_event(wire.name, error))
        return Outcome(200, b"", headers, fault, answer, events)

    def refuse(self, wire: Wire, trouble: Trouble, request_id: str, now: float, clock: float) -> Outcome:
        """Return a trouble in the provider's words."""
        status, body = wire.refuse(trouble, request_id)
        headers = wire.headers(request_id, self._limits(clock), now)
        # Gemini says how long to wait in its body only.
        if headers:
            headers.update(retry_headers(trouble))
        return Outcome(status, orjson.dumps(body), headers)

    def key_trouble(self, wire: Wire, headers: Mapping[str, str]) -> Trouble | None:
        """Return why a request of these headers may not come in, or None."""
        expected = self._config.require_key
        if expected is None:
            return None
        given = wire.key(headers)
        if given is None:
            return Trouble("auth", "No API key was given.")
        if not hmac.compare_digest(given.encode(), expected.encode()):
            # The key itself is not repeated: messages end up in logs.
            return Trouble("auth", "Incorrect API key provided.")
        return None

    def _faulty(self, wire: Wire, fault: FaultKind, request_id: str, now: float, clock: float) -> Outcome:
        if fault == "rate_limit":
            trouble = Trouble("rate_limit", "Rate limit reached (injected).", None, FAULT_RETRY_AFTER)
            return self.refuse(wire, trouble, request_id, now, clock)
        if fault == "server_error":
            return self.refuse(
                wire, Trouble("server_error", "Internal server error (injected)."), request_id, now, clock
            )
        if fault in ("overloaded", "stream_error"):
            return self.refuse(wire, Trouble("overloaded", "Overloaded (injected)."), request_id, now, clock)
        if fault == "html":
            return Outcome(502, _PROXY_PAGE, {"Content-Type": "text/html"})
        if fault == "garbage":
            return Outcome(200, b'{"id": "\xff\xfe, {]', {})
        return Outcome(200, b"", {}, "hang" if fault == "stall" else fault)

    def _answer(self, call: Call, input_tokens: int) -> Answer:
        texts: list[str] = []
        finishes: list[FinishKind] = []
        output_tokens = 0
        met: str | None = None
        for choice in range(call.choices):
            text = self._config.answer
            if text is None:
                # The first choice is what a request for one answer gets.
                seed = call.seed if choice == 0 else (call.seed or 0) + choice
                text = self._learner.answer(
                    call.messages, temperature=call.temperature, seed=seed, json=call.json, schema=call.schema
                )
            finish: FinishKind = "stop"
            for stop in call.stop:
                if stop in text:
                    text, finish, met = text[: text.index(stop)], "stop_sequence", stop
            if call.max_tokens is not None:
                short = tokens.cut(text, call.max_tokens)
                if short is not text:
                    text, finish, met = short, "length", None
            output_tokens += count(text)
            texts.append(text)
            finishes.append(finish)
        return Answer(texts, finishes, input_tokens, output_tokens, met)

    def _limits(self, clock: float) -> dict[str, LimitState]:
        found = {}
        for name, limit in (("requests", self._limiter.requests), ("tokens", self._limiter.tokens)):
            if limit is not None:
                found[name] = LimitState(int(limit.per_minute), limit.remaining(clock), limit.reset_after(clock))
        return found


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the request's body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise RequestError(f"the request's body must be a JSON object, got {type(body).__name__}")
    return body
