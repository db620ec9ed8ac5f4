"""Answers calls to one deployment inside one worker: waits its turn, asks, retries; a reply or one clear error."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dspex_actors.errors import AuthError, ConfigError, LMError, RateLimited, Timeout
from dspex_actors.foundation.tokens import CHARS_PER_TOKEN
from dspex_actors.lm import address
from dspex_actors.lm.attempts import current_ledger
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.keys import resolve, variable
from dspex_actors.lm.prices import cost, told_prices
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import Options
from dspex_actors.lm.usage import Usage, estimate_usage, longest_reply, prompt_tokens
from dspex_actors.lm.wire import PROVIDERS
from dspex_actors.lm.wire.exchange import RawReply, WireReply
from dspex_actors.lm.worker import books, retry
from dspex_actors.lm.worker.call import Call
from dspex_actors.lm.worker.http import MAX_CONNECTIONS, HttpClient, Target
from dspex_actors.lm.worker.outcome import Gate, Outcome
from dspex_actors.lm.worker.refusals import Refusals, Rejections
from dspex_actors.lm.worker.window import Slots, Window

#: Longest time, in seconds, that 429s silence the whole session. After it somebody asks again: a wrong header must
#: not keep an LM away for hours.
PAUSE_MAX = 60.0
#: How long a 429 that names no wait does; seconds.
PAUSE_SHORT = 0.25

_OPTIONS = Options()

_log = logging.getLogger(__name__)


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
        self._provider = PROVIDERS[deployment.provider]
        # Asked for with each price.
        self._at_home = deployment.at_home
        self._url = address.join(base, self._provider.path(deployment.model_name))
        Target(self._url, {})  # a wrong address is found now, while no key is near
        told_prices()  # and a wrong price before anything is paid
        self._gate = gate
        self._clock = clock
        self._wall = wall
        self._sleep = sleep
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._http = http or HttpClient()
        # Not more than there are connections: who waits, waits here, under the call's deadline, not inside a
        # request's.
        self._window = Window(max_in_flight or MAX_CONNECTIONS, is_known=self._at_home)
        self._slots = Slots(self._window)
        self._target: Target | None = None
        self._refusals = Refusals()
        self._rejections = Rejections()
        self._in_flight = 0
        self._paused_until = 0.0
        self._spread = 0.0

    async def complete(
        self,
        messages: list[dict[str, Any]],
        params: dict[str, Any] | None = None,
        *,
        options: Options = _OPTIONS,
    ) -> LMReply:
        """Answer one call.

        Args:
            messages: role/content messages.
            params: parameters of this call, the LM's own among them.
            options: how long the call and each of its requests may take.

        Returns:
            The reply, with usage, price and the number of requests it took.

        Raises:
            LMError: no answer; provider, model and asked are filled in.
        """
        total = options.deadline
        ledger = current_ledger()
        if ledger is not None and (left := ledger.left()) is not None:
            total = min(total, left)
        call = Call(messages, params or {}, self._clock(), total, options.timeout)
        task = asyncio.current_task()
        if ledger is not None:
            ledger.calls.add(task)
        try:
            wire = await self._answer(call)
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
        return LMReply(
            text=wire.text,
            usage=call.usage,
            cost=call.cost,
            model=wire.model or self.deployment.model_name,
            latency=self._clock() - call.start,
            finish_reason=wire.finish_reason,
            request_id=wire.request_id,
            asked=call.asked,
            provider=self.deployment.provider,
        )

    def resize(self, max_in_flight: int | None) -> None:
        """Make no more than so many requests at the same time from now on; None: as many as the connections allow."""
        self._window.bound(max_in_flight or MAX_CONNECTIONS)
        self._slots.refill()

    def move(self, base_url: str) -> None:
        """Ask another server from now on; a call that is under way asks there with its next request."""
        self._url = address.join(base_url, self._provider.path(self.deployment.model_name))
        self._target = None

    async def aclose(self) -> None:
        """Close the connections; the session must not be used any more."""
        await self._http.aclose()

    def _price(self, usage: Usage, told: str | None, tier: str | None) -> float | None:
        """Return the price of what was used, by the model that answered (None: nobody said which); None: unknown."""
        provider, model = self.deployment.provider, self.deployment.model_name
        # Another server than the provider's own has its own prices.
        listed = self._at_home
        price = cost(usage, provider, told or model, tier=tier, listed=listed)
        if price is None and told is not None and told != model:
            price = cost(usage, provider, model, tier=tier, listed=listed)
        return price

    def _price_of_failure(self, usage: Usage, tier: str | None) -> float | None:
        """Return the price of a request without an answer: that of guessed tokens is unknown."""
        if usage.estimated and self.deployment.provider != "embedded":
            return None
        return self._price(usage, None, tier) if usage.total else 0.0

    async def _answer(self, call: Call) -> WireReply:
        body = self._provider.body(self.deployment.model_name, call.messages, call.params)
        self._aim()  # a key that is not there is found out before any waiting
        while True:
            # What goes wrong before the request is made ends the call: it has waited as long as it may.
            tokens = await self._turn(call)
            try:
                return await self._request(call, self._aim(), body, tokens)
            except LMError as exc:
                # Without its frames: their variables hold the raw answer, and an answer may repeat the key.
                error = exc.with_traceback(None)
            finally:
                self._slots.release()
            kind = retry.kind_of(error)
            count = call.failed[kind] = call.failed.get(kind, 0) + 1
            step = retry.next_step(error, count, self._clock() - call.start, call.deadline, self._rng)
            if isinstance(step, retry.GiveUp):
                raise step.error
            call.last = error
            await self._sleep(step.delay)

    def _aim(self) -> Target:
        """Join address, headers and key, once. From here on the key is in the target, and nowhere else."""
        if self._target is not None:
            return self._target
        headers = self._provider.headers()
        reference = self.deployment.key_reference
        if reference is not None:
            try:
                key = resolve(reference)
            except LMError as error:
                error.message = (
                    f"{error.message}; {self.deployment.provider} needs {variable(reference)}, or another api_key"
                )
                error.args = (error.message,)
                raise
            name, prefix = self._provider.key(self._url)
            headers[name] = prefix + key
        elif os.environ.get(self.deployment.withheld_key or "") and not address.is_loopback(self._url):
            _log.warning("%s at %s: %s", self.deployment.model, address.origin(self._url), self.deployment.why_no_key)
        self._target = Target(self._url, headers)
        return self._target

    async def _turn(self, call: Call) -> int:
        """Wait until this call may make a request, take a slot, and return the tokens reserved for it."""
        while True:
            await self._wait_out_pause(call)
            if not await self._slots.take(self._left(call)):
                raise retry.out_of_time(call.deadline, call.last)
            if self._paused_until <= self._clock():
                break
            self._slots.release()  # a pause began while this call stood in line
        tokens = 0
        passed = leased = False
        try:
            if self._gate is not None:
                if self._gate.counts_tokens:
                    tokens = prompt_tokens(call.messages) + longest_reply(call.params)
                await self._gate.acquire(tokens, self._left(call))
                leased = True
                # A pause that began while this call waited for its lease holds for it too.
                await self._wait_out_pause(call)
            passed = True
        finally:
            if not passed:
                self._slots.release()
                if self._gate is not None and leased:
                    self._gate.report(Outcome(tokens, usage=Usage(), cancelled=True))
        return tokens

    async def _request(self, call: Call, target: Target, body: bytes, tokens: int) -> WireReply:
        ledger = current_ledger()
        if ledger is not None:
            ledger.left()  # an example that has its result asks for nothing more
        sent, at, epoch = self._clock(), self._wall(), self._window.epoch
        provider, model = self.deployment.provider, self.deployment.model_name
        # So many tokens, about: only if nothing more is heard of it.
        number = 0 if ledger is None else ledger.begin(at, provider, model, len(body) // CHARS_PER_TOKEN)
        raw: RawReply | None = None
        wire: WireReply | None = None
        error: LMError | None = None
        self._in_flight += 1
        try:
            raw = await self._post(call, target, body)
            wire = self._provider.read(raw, self._wall())
        except LMError as exc:
            error = exc
            raise
        finally:
            latency = self._clock() - sent
            self._in_flight -= 1
            pause = self._note(error) if raw is not None else None
            told = None if wire is None else wire.model
            if wire is not None:
                call.usage = usage = wire.usage or estimate_usage(call.messages, wire.text)
                call.cost = price = self._price(usage, told, wire.tier)
                self._window.answered(latency, call.timeout, epoch)
            else:
                usage = books.failed_usage(error, call.messages)
                price = self._price_of_failure(usage, call.params.get("service_tier"))
                if isinstance(error, Timeout):
                    self._window.late(epoch)
            self._hold_back(error, answered=wire is not None)
            if ledger is not None:
                ledger.book(
                    books.attempt(
                        number, at, provider, told or model, latency, wire=wire, error=error, usage=usage, cost=price
                    )
                )
            if self._gate is not None:
                self._gate.report(
                    Outcome(
                        estimated_tokens=tokens,
                        usage=usage if wire is not None else None,
                        error=error,
                        headers=raw.headers if raw else None,
                        latency=latency,
                        cancelled=wire is None and error is None,
                        pause=pause,
                    )
                )
        return wire

    def _hold_back(self, error: LMError | None, *, answered: bool) -> None:
        """Ask one at a time, with pauses, while a server that has answered nothing rejects what it is asked."""
        if answered:
            self._rejections.answered()
        elif error is not None and (wait := self._rejections.rejected(error)) is not None:
            self._window.narrow()
            self._paused_until = max(self._paused_until, self._clock() + wait)
        else:
            self._window.open_again()

    def _note(self, error: LMError | None) -> float | None:
        """Take note of how a request was answered; return for how long all calls wait now, if that is a pattern."""
        if not isinstance(error, RateLimited) or error.retryable is False:
            self._refusals.answered()
        elif self._refusals.refused(self._in_flight):
            return self.pause(error.retry_after)
        return None

    async def _post(self, call: Call, target: Target, body: bytes) -> RawReply:
        left = self._left(call)
        limit = min(left, call.timeout)
        self.asked += 1
        call.asked += 1
        try:
            async with asyncio.timeout(limit):
                return await self._http.post(target, body)
        except TimeoutError:
            pass
        if limit < call.timeout:
            error = retry.out_of_time(call.deadline, call.last)
            error.status = None  # of an earlier request, and this one has none
            raise error
        raise Timeout(f"no complete answer from {self.deployment.provider} within timeout={limit:g} s", retryable=True)

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
        wait = min(wait, PAUSE_MAX) if wait else PAUSE_SHORT
        until = self._clock() + wait
        if until > self._paused_until:
            self._paused_until = until
            self._spread = retry.spread(wait)
        return wait

    async def _wait_out_pause(self, call: Call) -> None:
        while (pause := self._paused_until - self._clock()) > 0:
            left = self._left(call)
            if pause >= left:
                raise RateLimited(
                    f"{self.deployment.provider} asked for {pause:.1f} s more, longer than this call may take",
                    retry_after=pause,
                    retryable=True,
                )
            await self._sleep(min(pause + self._rng.random() * self._spread, (pause + left) / 2))
