"""Answers calls to one deployment inside one worker: waits its turn, asks, retries; a reply or one clear error."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from dspex_actors.errors import AuthError, ConfigError, InvalidRequest, LMError, RateLimited, Timeout
from dspex_actors.foundation.limits import Limit
from dspex_actors.foundation.telemetry.recorded import LMRequests
from dspex_actors.lm.attempts import current_ledger
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.prices import told_prices
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import Options, Whose
from dspex_actors.lm.usage import guessed_tokens, usage_of
from dspex_actors.lm.wire import wire_for
from dspex_actors.lm.wire.exchange import RawReply, WireReply
from dspex_actors.lm.worker import books, retry, turns
from dspex_actors.lm.worker.again import Again
from dspex_actors.lm.worker.aim import Aim
from dspex_actors.lm.worker.call import Call
from dspex_actors.lm.worker.hedging import Hedging
from dspex_actors.lm.worker.http import MAX_CONNECTIONS, HttpClient, Target
from dspex_actors.lm.worker.outcome import Circuit, Gate, Outcome
from dspex_actors.lm.worker.pauses import Pauses
from dspex_actors.lm.worker.pictures import with_pictures
from dspex_actors.lm.worker.ramp import Ramp
from dspex_actors.lm.worker.spending import has_limits, hold_for
from dspex_actors.lm.worker.streaming import Receiving, Sink
from dspex_actors.lm.worker.window import Slots, Window

_OPTIONS = Options()


class LMSession:
    """Asks one deployment, over connections that it keeps.

    Every call runs under one total deadline that covers waiting for a slot, the gate, pauses, requests and
    retries. A 429 makes its own call wait as it was asked to; several make all calls of the session wait, and they
    come back spread out.

    Args:
        deployment: whom to ask.
        max_in_flight: requests at the same time; None: as many as the connections allow.
        base_url_override: where, instead of the deployment's own address (the embedded LM's is known only to the
            worker).
        gate: paces requests; None: none.
        clock: monotonic seconds.
        wall: seconds since the epoch, for Retry-After dates.
        sleep: waits so many seconds.
        rng: source of jitter.
        http: makes the requests.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        max_in_flight: int | None = None,
        base_url_override: str | None = None,
        gate: Gate | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        rng: random.Random | None = None,
        http: HttpClient | None = None,
    ) -> None:
        """Make the session; nothing is opened and no key is read before the first call.

        Raises:
            ConfigError: the LM has no address, or none that can be asked; the user's prices are not usable.
        """
        base = base_url_override or deployment.server
        if base is None:
            raise ConfigError(
                f"{deployment.model} has no server here: expected base_url_override or base_url, got neither"
            )
        self.deployment = deployment
        #: HTTP requests made so far.
        self.asked = 0
        # Asked for with each price.
        self._at_home = deployment.at_home
        self._aim = Aim(deployment, base)
        told_prices()  # and a wrong price before anything is paid
        self._gate = gate
        self._meter = LMRequests(deployment.model_name, deployment.provider, deployment.digest)
        self._clock = clock
        self._wall = wall
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._http = http or HttpClient(secure=self._aim.is_secure)
        # Not more than there are connections: who waits, waits here, under the call's deadline, not inside a
        # request's.
        self._window = Window(max_in_flight or MAX_CONNECTIONS, is_known=self._at_home)
        self._slots = Slots(self._window)
        self._ramp = Ramp(is_over=deployment.provider == "embedded")
        #: What makes all its calls wait.
        self.pauses = Pauses(deployment.provider, clock, sleep, self._rng)
        self._again = Again(self._rng, clock())
        self._hedging = Hedging(self._request, self._second_turn, self._slots.release, clock)
        self._turns = turns.Turns(gate, self._ramp, self._meter, self.pauses, clock, sleep, self._left)
        #: Requests that are under way.
        self.in_flight = 0

    async def complete(
        self,
        messages: list[dict[str, Any]],
        params: dict[str, Any] | None = None,
        *,
        options: Options = _OPTIONS,
        whose: Whose = (None, None),
        model_type: str = "chat",
        sink: Sink | None = None,
        circuit: Circuit | None = None,
        waits: bool = True,
    ) -> LMReply:
        """Answer one call.

        Args:
            messages: role/content messages.
            params: parameters of this call, the LM's own among them.
            options: how long the call and each of its requests may take; of a stream, each of its pieces.
            whose: for whom it is, and what for.
            model_type: in which of the provider's formats it is asked.
            sink: takes the pieces of a reply that is to be streamed. After the first of them nothing is asked again.
            circuit: of the deployment; None: it heeds none.
            waits: whether it waits where the circuit is open.

        Returns:
            The reply, with usage, price and the number of requests it took.

        Raises:
            LMError: no answer; provider, model and asked are filled in.
        """
        total = options.deadline
        ledger = current_ledger()
        if ledger is not None and (left := ledger.left()) is not None:
            total = min(total, left)
        wire = wire_for(self.deployment.provider, model_type)
        if wire is None:
            raise InvalidRequest(f"{self.deployment.provider} has no {model_type}", retryable=False)
        call = Call(messages, params or {}, self._clock(), total, options.timeout, wire, *whose)
        call.sink, call.circuit, call.waits = sink, circuit, waits
        call.in_run, call.hedges = ledger is not None, options.hedge and sink is None
        self._again.begin(call)
        task = asyncio.current_task()
        if ledger is not None:
            ledger.calls.add(task)
        try:
            reply = await self._answer(call)
        except LMError as error:
            if isinstance(error, AuthError) and (hint := self.deployment.why_no_key):
                error.message = f"{error.message}; {hint}"
                error.args = (error.message,)
            error.provider = error.provider or self.deployment.provider
            error.model = error.model or self.deployment.model_name
            error.asked = call.asked
            raise
        finally:
            if ledger is not None:
                ledger.calls.discard(task)
        return call.reply(reply, self.deployment, self._clock() - call.start)

    def resize(self, max_in_flight: int | None) -> None:
        """Make no more than so many requests at the same time from now on; None: as many as the connections allow."""
        self._window.bound(max_in_flight or MAX_CONNECTIONS)
        self._slots.refill()

    def move(self, base_url: str) -> None:
        """Ask another server from now on; a call that is under way asks there with its next request."""
        self._aim.move(base_url)

    async def aclose(self) -> None:
        """Close the connections; the session must not be used any more."""
        await self._http.aclose()

    async def _answer(self, call: Call) -> WireReply:
        streams = call.sink is not None
        messages = call.messages
        if not call.wire.takes_addresses:
            messages = await with_pictures(self.deployment.provider, call, self._left)
        body = call.wire.body(self.deployment.model_name, messages, call.params, stream=streams)
        self._aim.target(call.wire, streams)  # a key that is not there is found out before any waiting
        while True:
            # What goes wrong before the request is made ends the call: it has waited as long as it may.
            lease = await self._turn(call)
            if call.is_held:  # the circuit opened while this call stood in line
                self._step_back(lease)
                continue
            if not await self._holds(call, body, lease):
                continue
            try:
                ask = self._hedging.ask if call.hedges and not call.probe else self._request
                return await ask(call, self._aim.target(call.wire, streams), body, lease)
            except LMError as exc:
                # Without its frames: their variables hold the raw answer, and an answer may repeat the key.
                error = exc.with_traceback(None)
            finally:
                self._slots.release()
                call.unmade()  # if it has made no request after all
            if call.sink is not None and call.sink.has_given:
                raise error
            if call.circuit is not None and call.circuit.holds(error):
                call.last = error  # that is no attempt: nobody is answered, and it waits as everybody does
                continue
            await self._sleep(self._again.delay(call, error, self._clock()))

    async def _holds(self, call: Call, body: bytes, lease: int, *, hedges: bool = False) -> bool:
        """Hold back what a request may cost; return False where that took a while: its turn has been given back."""
        if call.hold is not None or not has_limits():
            return True
        back = partial(self._step_back, lease)
        return await hold_for(call, self.deployment, body, self._left, back, is_needed=not hedges)

    async def _second_turn(self, call: Call, body: bytes) -> int:
        while not await self._holds(call, body, lease := await self._turn(call), hedges=True):
            pass
        return lease

    async def _turn(self, call: Call) -> int:
        """Wait until this call may make a request, take a slot, and return the lease of what is reserved for it."""
        if call.circuit is not None and call.circuit.is_open:
            call.unmade()  # others can use the money meanwhile
            call.probe = await call.circuit.enter(call, self._left(call))
        try:
            while True:
                if self.pauses.until > self._clock():
                    await self.pauses.wait_out(lambda: self._left(call))
                left = self._left(call)
                if call.probe is not None:
                    self._slots.take_more()  # all may be taken by what hangs
                elif not (self._slots.take_free() or await self._slots.take(left)):
                    raise retry.out_of_time(call.deadline, call.last)
                if self.pauses.until <= self._clock():
                    break
                self._slots.release()  # a pause began while this call stood in line
            gate = self._gate
            if self._ramp.is_over and (gate is None or not gate.paces(call.user, call.tags)):
                return 0
            try:
                return await self._turns.take(call)
            except BaseException:
                self._slots.release()
                raise
        except BaseException:
            call.unmade()
            raise

    def _step_back(self, lease: int) -> None:
        """Give back what a call has taken for a request that it does not make."""
        self._slots.release()
        if self._gate is not None:
            self._gate.report(turns.not_made(lease))

    async def _request(self, call: Call, target: Target, body: bytes, lease: int) -> WireReply:
        ledger = current_ledger()
        if ledger is not None:
            try:
                await ledger.may_ask()  # one that has its result asks for nothing more
            except BaseException:
                if self._gate is not None:
                    self._gate.report(turns.not_made(lease))
                raise
        circuit = call.circuit
        lived = 0 if circuit is None else circuit.epoch
        hold = call.taken()
        sent, at, epoch = self._clock(), self._wall(), self._window.epoch
        provider, model = self.deployment.provider, self.deployment.model_name
        # So many tokens, about: only if nothing more is heard of it.
        number = 0 if ledger is None else ledger.begin(at, provider, model, guessed_tokens(body, call.messages))
        raw: RawReply | None = None
        wire: WireReply | None = None
        error: LMError | None = None
        streamed = None if call.sink is None else Receiving(call.sink, call.messages, call.timeout, self._wall)
        self.in_flight += 1
        try:
            if streamed is not None:
                wire = await self._stream(call, streamed, target, body)
            else:
                raw = await self._post(call, target, body)
                wire = call.wire.read(raw, self._wall())
        except LMError as exc:
            error = exc
            raise
        finally:
            latency = self._clock() - sent
            self.in_flight -= 1
            if streamed is not None:
                raw = streamed.raw
                streamed.told(self._meter)
            pause = self.pauses.note(error, self.in_flight) if raw is not None else None
            told = None if wire is None else wire.model
            if wire is not None:
                call.usage = usage = usage_of(wire.usage, call.messages, wire.text)
                call.cost = price = books.price(self.deployment, usage, told, wire.tier, listed=self._at_home)
                # A stream that waited for its reader says nothing of the server.
                self._ramp.answered(latency)
                self._window.answered(latency - (streamed.blocked if streamed else 0.0), call.timeout, epoch)
            else:
                usage = (streamed and streamed.spent) or books.failed_usage(error, call.messages)
                tier = call.params.get("service_tier")
                price = books.price_of_failure(self.deployment, usage, tier, listed=self._at_home)
                if isinstance(error, Timeout):
                    self._window.late(epoch)
                elif isinstance(error, RateLimited):
                    self._ramp.refused(self._clock())
            if hold is not None:
                hold.settle(None if usage.estimated else price)
            self._hold_back(error, answered=wire is not None)
            if circuit is not None:
                circuit.ended(error, answered=wire is not None, probe=call.probe, epoch=lived)
                call.probe = None
            self._meter.ended(
                latency, usage.input_total, usage.output_total, price, answered=wire is not None, error=error
            )
            books.book(
                ledger, number, at, provider, told or model, latency,
                wire=wire, error=error, usage=usage, cost=price, user=call.user, tags=call.tags,
            )  # fmt: skip
            if self._gate is not None:
                self._gate.report(
                    Outcome(
                        lease,
                        usage=usage if wire is not None else None,
                        error=error,
                        headers=raw.headers if raw else None,
                        latency=latency,
                        cancelled=wire is None and error is None,
                        pause=pause,
                        under_way=self.in_flight,
                    )
                )
        return wire

    def _hold_back(self, error: LMError | None, *, answered: bool) -> None:
        """Ask one at a time, with pauses, while a server that has answered nothing rejects what it is asked."""
        if answered:
            self.pauses.answered()
        elif error is not None and self.pauses.rejected(error):
            self._window.narrow()
        else:
            self._window.open_again()

    async def _post(self, call: Call, target: Target, body: bytes) -> RawReply:
        left = self._left(call)
        limit = min(left, call.timeout)
        self.asked += 1
        call.asked += 1
        timer = Limit(limit)
        try:
            return await self._http.post(target, body)
        except asyncio.CancelledError:
            if not timer.has_ended_it():
                raise
        finally:
            timer.lift()
        if limit < call.timeout:
            error = retry.out_of_time(call.deadline, call.last)
            error.status = None  # of an earlier request, and this one has none
            raise error
        raise Timeout(f"no complete answer from {self.deployment.provider} within timeout={limit:g} s", retryable=True)

    async def _stream(self, call: Call, streamed: Receiving, target: Target, body: bytes) -> WireReply:
        left = self._left(call)
        self.asked += 1
        call.asked += 1
        with contextlib.suppress(TimeoutError):
            return await streamed.ask(self._http, call.wire, target, body, left)
        error = retry.out_of_time(call.deadline, call.last)
        error.status, error.partial = None, streamed.partial
        raise error

    def _left(self, call: Call) -> float:
        """Return the seconds the call has left; raise when there are none."""
        left = call.deadline - (self._clock() - call.start)
        if left <= 0:
            error = retry.out_of_time(call.deadline, call.last)
            error.was_sent = False
            raise error
        return left

    def pause(self, wait: float | None) -> float:
        """Make every call of the session wait: the provider said, here or to another worker, that the key is too fast.

        Args:
            wait: seconds; None: it did not say how long.

        Returns:
            The seconds that calls wait for it.
        """
        return self.pauses.begin(wait)
