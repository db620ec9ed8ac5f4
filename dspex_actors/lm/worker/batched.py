"""LM calls of a run that goes through batches, in one worker: each waits for the batch that has its request.

The collector (`lm.batches`) does the rest. Limits on speed, circuits, hedges and the deadlines of calls are for
requests that are made at once, and hold nobody here; money is held back before a request goes into a batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from dataclasses import replace
from typing import Any

import msgpack  # type: ignore[import-untyped,unused-ignore]

from dspex_actors.errors import ConfigError, InvalidRequest, LMError, Overloaded, from_record
from dspex_actors.lm.attempts import Attempt, Ledger, tags_text
from dspex_actors.lm.batches.collector import batches_spec
from dspex_actors.lm.batches.messages import BATCHES, AskInBatch, BatchNews, InBatch, KnowsRequest, Place
from dspex_actors.lm.batches.settings import EXAMPLE_SECONDS, refuse_parts
from dspex_actors.lm.prices import BATCH
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest
from dspex_actors.lm.usage import Usage, prompt_tokens, usage_of
from dspex_actors.lm.wire import wire_for
from dspex_actors.lm.wire.exchange import RawReply
from dspex_actors.lm.worker import books
from dspex_actors.lm.worker.beside import Beside
from dspex_actors.lm.worker.caching import AnswerCache
from dspex_actors.lm.worker.call import Call
from dspex_actors.lm.worker.spending import has_limits, hold_for
from dspex_actors.observe.branch import ensure
from supervisors import GenServer
from supervisors.errors import CallTimeout, NoProcess, ServerExited, SupervisorsError

#: A collector that is being restarted is asked again after so many seconds.
AGAIN_SECONDS = 0.2
#: One that cannot write is asked again after so many seconds.
DISK_SECONDS = 1.0


class _Waiting:
    """A call that waits."""

    __slots__ = ("ledger", "place")

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        #: As what its request is in the books, once it is in a batch.
        self.place: Place | None = None


class Batched:
    """The calls of one worker that wait for batches.

    Args:
        worker: the worker.
        cache: its answers.
    """

    def __init__(self, worker: GenServer, cache: AnswerCache) -> None:
        """Begin with none."""
        self._worker, self._cache = worker, cache
        self._waiting: dict[str, dict[bytes, list[_Waiting]]] = {}

    async def complete(self, request: LMRequest, ledger: Ledger) -> LMReply:
        """Answer one call, which may take a day.

        Raises:
            LMError: it was not answered.
            ConfigError: it cannot be made in a batch.
            BudgetExceeded: there is not so much money left.
        """
        lm, params = request.lm, request.params
        refuse_parts(lm, params)
        if request.sink is not None:
            raise ConfigError(
                f"batch is invalid with {lm.deployment.model}: got a reply to be streamed, expected whole ones, or "
                "batch=False"
            )
        beside = Beside(self._cache, request)
        if (kept := await beside.known()) is not None:
            return kept
        wire = wire_for(lm.deployment.provider, lm.model_type)
        if wire is None:
            raise InvalidRequest(f"{lm.deployment.provider} has no {lm.model_type}", retryable=False)
        body = wire.body(lm.deployment.model_name, request.messages, params)
        call = Call(
            request.messages,
            params,
            time.monotonic(),
            EXAMPLE_SECONDS,
            EXAMPLE_SECONDS,
            wire,
            request.user,
            request.tags,
        )
        key = _key(request, body, ledger, is_shared=beside.is_cached)
        task = asyncio.current_task()
        ledger.calls.add(task)
        try:
            reply, is_mine = await self._answer(call, request, ledger, key, body)
        except LMError as error:
            error.provider = error.provider or lm.deployment.provider
            error.model = error.model or lm.deployment.model_name
            error.asked = call.asked
            raise
        finally:
            ledger.calls.discard(task)
        if is_mine:
            beside.keep(reply)
            return reply
        return replace(reply, cost=0.0, usage=Usage(), asked=0, cached="memory")

    async def _answer(
        self, call: Call, request: LMRequest, ledger: Ledger, key: bytes, body: bytes
    ) -> tuple[LMReply, bool]:
        """Return the reply, and whether this example pays for it: another one may have asked the same."""
        deployment = request.lm.deployment
        if has_limits() and not await self._ask(KnowsRequest(ledger.run, key)):
            await hold_for(call, deployment, body, lambda call: EXAMPLE_SECONDS, lambda: None, in_batch=True)
        hold = call.taken()
        ledger.left()  # an example that has its result asks for nothing more
        ledger.count += 1
        waiting = _Waiting(ledger)
        mine = self._waiting.setdefault(ledger.run, {}).setdefault(key, [])
        mine.append(waiting)
        settled: float | None = 0.0
        try:
            settings = ledger.batch
            assert settings is not None
            told = await self._answered(
                ledger,
                AskInBatch(
                    ledger.run,
                    key,
                    _fields(deployment),
                    request.lm.model_type,
                    body,
                    (ledger.index, ledger.send, ledger.count),
                    settings,
                    self._worker.ref,
                ),
            )
            reply, settled, is_mine = self._told(call, request, ledger, told)
            return reply, is_mine
        except LMError:
            settled = call.cost if call.asked else 0.0
            raise
        except BaseException:
            if waiting.place is not None and waiting.place[0] == ledger.index:
                settled = None  # it may be paid: nobody knows
                self._book_lost(call, request, ledger, waiting.place)
            raise
        finally:
            if hold is not None and settled == 0.0 and not call.asked:
                hold.give_back()
            elif hold is not None:
                hold.settle(settled)
            self._left(ledger, key, waiting)

    async def _answered(self, ledger: Ledger, request: AskInBatch) -> Any:
        """Return what becomes of a request; while the collector has no disk to write it on, wait for that."""
        while (told := await self._ask(request))[0] == "again":
            ledger.waits_for = told[1]
            await asyncio.sleep(DISK_SECONDS)
        return told

    def _left(self, ledger: Ledger, key: bytes, waiting: _Waiting) -> None:
        mine = self._waiting[ledger.run]
        mine[key].remove(waiting)
        if not mine[key]:
            del mine[key]
        if not mine:
            del self._waiting[ledger.run]
        ledger.waits_for = None

    async def _ask(self, request: AskInBatch | KnowsRequest) -> Any:
        """Ask the collector, as often as it begins anew."""
        while True:
            try:
                return await self._worker.call(BATCHES, request, timeout=None)
            except NoProcess:
                with contextlib.suppress(SupervisorsError):
                    await ensure(self._worker, batches_spec())
                    continue
            except (ServerExited, CallTimeout):
                pass
            except SupervisorsError as error:
                raise Overloaded(f"the collector of batches cannot be asked: {error}", retryable=False) from None
            await asyncio.sleep(AGAIN_SECONDS)

    def _told(self, call: Call, request: LMRequest, ledger: Ledger, told: Any) -> tuple[LMReply, float | None, bool]:
        """Read what the collector has said: the reply, what it costs, and whether this example pays it."""
        if told[0] != "answer":
            error = from_record(told[1])
            raise error if isinstance(error, LMError) else Overloaded(str(error), retryable=False)
        _, status, request_id, body, place, asked = told
        deployment, now = request.lm.deployment, time.time()
        headers = {call.wire.request_id_header: request_id} if request_id else {}
        call.asked = 1
        wire, failed = None, None
        try:
            wire = call.wire.read(RawReply(status, headers, body), now)
        except LMError as error:
            failed = error.with_traceback(None)
        model = None if wire is None else wire.model
        if wire is not None:
            usage = usage_of(wire.usage, call.messages, wire.text)
            price = books.price(deployment, usage, model, BATCH, listed=deployment.at_home)
        else:
            usage = books.failed_usage(failed, call.messages)
            price = books.price_of_failure(deployment, usage, BATCH, listed=deployment.at_home)
        call.usage, call.cost = usage, price
        if place is not None:
            self._book(call, request, ledger, place, wire=wire, error=failed, at=asked, latency=max(0.0, now - asked))
        if failed is not None:
            raise failed
        assert wire is not None
        reply = call.reply(wire, deployment, max(0.0, now - asked))
        if place is None:
            return reply, 0.0, False
        return reply, None if usage.estimated else price, True

    def _book(
        self, call: Call, request: LMRequest, ledger: Ledger, place: Place, *, wire: Any, error: LMError | None,
        at: float, latency: float,
    ) -> None:  # fmt: skip
        """Enter a request that has ended, as what it is known already: entered twice it counts once."""
        outcome, name, status, reason, request_id = "failed", None, None, None, None
        model = request.lm.deployment.model_name
        if wire is not None:
            outcome, reason, request_id, model = "answered", wire.finish_reason, wire.request_id, wire.model or model
        elif error is not None:
            name, status, request_id = type(error).__name__, error.status, error.request_id
        ledger.book(
            Attempt(
                *place,
                at,
                request.lm.deployment.provider,
                model,
                outcome,
                name,
                status,
                call.cost,
                latency,
                reason,
                request_id,
                call.usage.to_json(),
                request.user,
                tags_text(request.tags),
            )
        )

    def _book_lost(self, call: Call, request: LMRequest, ledger: Ledger, place: Place) -> None:
        """Enter a request that is in a batch, and that nobody waits for now: replaced when it is answered after all."""
        deployment = request.lm.deployment
        usage = Usage(input_total=prompt_tokens(call.messages), estimated=True)
        ledger.book(
            Attempt(
                *place,
                time.time(),
                deployment.provider,
                deployment.model_name,
                "lost",
                usage=usage.to_json(),
                user=request.user,
                tags=tags_text(request.tags),
            )
        )

    # --- heard ------------------------------------------------------------------------------------------------------

    def hear(self, message: InBatch | BatchNews) -> None:
        """Take note of what the collector tells."""
        mine = self._waiting.get(message.run, {})
        if isinstance(message, InBatch):
            for key, place in zip(message.keys, message.places, strict=True):
                for waiting in mine.get(key, ()):
                    waiting.place = (place[0], place[1], place[2])
        else:
            for line in mine.values():
                for waiting in line:
                    waiting.ledger.waits_for = message.text


def _fields(deployment: Any) -> dict[str, Any]:
    return {
        "provider": deployment.provider,
        "model_name": deployment.model_name,
        "base_url": deployment.base_url,
        "api_key": deployment.api_key,
    }


def _key(request: LMRequest, body: bytes, ledger: Ledger, *, is_shared: bool) -> bytes:
    """Return what a request is within its run: the same again is the same request, whoever was killed meanwhile.

    Where answers are cached, two examples that ask the same are one request; else the example counts, and how often it
    has asked the same already.
    """
    parts: list[Any] = [request.lm.deployment.digest, request.lm.model_type, repr(request.params.get("rollout_id"))]
    content = hashlib.sha256(msgpack.packb([*parts, body])).digest()
    if is_shared:
        return content
    number = ledger.same[content] = ledger.same.get(content, 0) + 1
    return hashlib.sha256(msgpack.packb([content, ledger.index, number])).digest()
