"""The coordinator: leads every inference through the members, many at the same time.

    validator ┐
              ├→ http worker → processor → the caller, the cache, and all members
    cache ────┘

The processor is asked where there are transformations; the worker has checked other outputs.

A member that is away is passed over, and the answer says so; only a strict validator cannot be done without. What each
member is sent waits in a lane while its last batch is out (`lane.py`), so a busy ecosystem sends few, large messages.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from dspex_actors.cache.core import Flights
from dspex_actors.ecosystem.inference.base import InferenceMember
from dspex_actors.ecosystem.inference.dispatch import Dispatch
from dspex_actors.ecosystem.inference.inference import Asker, Inference
from dspex_actors.ecosystem.inference.lane import Lane
from dspex_actors.ecosystem.inference.messages import (
    CACHE,
    PROCESSOR,
    ROLES,
    VALIDATOR,
    Answer,
    Check,
    Checked,
    Concluded,
    Exchange,
    Infer,
    Look,
    Process,
    Processed,
)
from dspex_actors.ecosystem.inference.reports import Reports
from dspex_actors.ecosystem.inference.rules import told
from dspex_actors.ecosystem.inference.sessions import Sessions
from dspex_actors.ecosystem.inside import ecosystem_of
from dspex_actors.errors import DeadlineExceeded, DspexError, InvalidInputs, MemberAway
from dspex_actors.observe.reporting import report_from_actor
from dspex_actors.runs.spec import Job
from dspex_actors.runs.work import GetJob
from dspex_actors.workers.serving import GiveUp, Served
from supervisors import NO_REPLY, Caller, Down, Ref

#: A member that takes longer to answer than this, in seconds, counts as away for what it was asked.
MEMBER_SECONDS = 2.0
#: Answers of so many bytes are given to the cache at once.
KEPT_BYTES = 4 << 20
#: Deadlines that are closer to each other than this, in seconds, are the same.
SLACK_SECONDS = 0.05


class InferenceCoordinator(InferenceMember):
    """Leads inferences.

    Arguments: what workers open, whether inputs that do not fit are refused, and what a handle has to know: the digest
    of the program, and the deadline in seconds.
    """

    def init(self, job: Job, strict: bool, program: str, seconds: float) -> None:
        """Begin without any inference."""
        self._job, self._strict = job, strict
        self._about = (program, seconds)
        self._members = ecosystem_of(self)
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._under_way: dict[int, Inference] = {}
        self._by_key: dict[str, Inference] = {}
        self._flights: Flights[Asker] = Flights()
        self._asked: dict[Asker, Inference] = {}
        self._sessions = Sessions(self, self._gone, lambda: len(self._under_way))
        #: Answers that the cache has not been given yet.
        self._answered: dict[str, bytes] = {}
        self._answered_bytes = 0
        self._counts = dict.fromkeys(("inferences", "shared", "cached", "completed", "failed", "given_up"), 0)
        self._reports = Reports(f"{self._members.kind}:{self._members.id}", self._tell)
        self._workers = Dispatch(self, self._fail)
        self._processor: Ref | None = None
        #: Processor → the inferences that it has.
        self._processing: dict[Ref, dict[int, Inference]] = {}
        self._checks = self._lane(self._check)
        self._looks = self._lane(self._look)
        self._processes = self._lane(self._process)
        self._events = report_from_actor(self)

    def _lane(self, send: Callable[[list[Inference], Callable[[], None]], None]) -> Lane[Inference]:
        return Lane(send, lambda inference: inference.size, lambda: len(self._under_way))

    def _go(self) -> None:
        """Send what has become of what came, in the same turn of the loop."""
        for lane in (self._checks, self._looks, self._processes):
            lane.go()
        self._workers.go()
        self._sessions.go()

    # --- messages ---------------------------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Take inferences in; tell workers what the program is; show the counts."""
        match request:
            case Exchange():
                self._sessions.wait(request.session, caller)
                self._take(request)
                self._go()
                return NO_REPLY
            case GetJob():
                return self._job
            case "about":
                return self._about
            case "stats":
                return {**self._counts, "under_way": len(self._under_way), "workers": self._workers.stats()}
        return super().handle_call(request, caller)

    def handle_cast(self, message: Any) -> None:
        """Take inferences in; go on with what workers and the processor have done."""
        match message:
            case Exchange():
                self._take(message)
            case Served(worker, results):
                for result in results:
                    inference = self._workers.done(worker, result.index)
                    if inference is None or inference.is_over:
                        continue
                    inference.at = None
                    inference.book(result)
                    if result.error is None and self._job.metric:
                        self._end(inference, None)  # the worker has checked it: there is nothing to transform
                    elif result.error is None:
                        inference.stage = PROCESSOR
                        self._processes.put(inference)
                    elif result.failure == "DeadlineExceeded" and self._may_go_on(inference):
                        self._workers.put(inference)
                    else:
                        self._end(inference, result.error)
                self._workers.pump()
            case Processed(processor, numbers, predictions, errors):
                there = self._processing.get(processor, {})
                for number, prediction, error in zip(numbers, predictions, errors, strict=True):
                    inference = there.pop(number, None)
                    if inference is not None and not inference.is_over:
                        inference.prediction = prediction if prediction is not None else inference.prediction
                        self._end(inference, error)
            case _:
                super().handle_cast(message)
        self._go()

    def handle_info(self, message: Any) -> None:
        """Go on without a worker or a processor that has died."""
        if isinstance(message, Down) and message.ref is not None and not self._workers.down(message.ref):
            if message.ref == self._processor:
                self._processor = None
            for inference in self._processing.pop(message.ref, {}).values():
                self._unprocessed(inference)
        self._go()

    # --- in ---------------------------------------------------------------------------------------------------------

    def _take(self, request: Exchange) -> None:
        for number in request.given_up:
            self._leave((request.session, number))
        for row in request.asked:
            self._begin((request.session, row.number), row)

    def _begin(self, asker: Asker, row: Infer) -> None:
        self._counts["inferences"] += 1
        now = self._loop.time()
        if self._flights.board(row.key, asker):
            inference = Inference(next(self._numbers), row.key, row.inputs, row.operation, now)
            self._under_way[inference.number] = self._by_key[row.key] = inference
            self._checks.put(inference)
            self._looks.put(inference)
        else:
            self._counts["shared"] += 1
            inference = self._by_key[row.key]
        timer = self._loop.call_later(row.seconds, self._late, asker, row.seconds)
        inference.askers[asker] = (now + row.seconds, timer)
        self._asked[asker] = inference

    def _late(self, asker: Asker, seconds: float) -> None:
        inference = self._asked[asker]
        error = DeadlineExceeded(
            f"the inference was not done within {seconds:g} s; it was at: {inference.stage}", retryable=False
        )
        is_shared = len(inference.askers) > 1  # what it costs is told with the last one's end
        self._sessions.answer(asker, self._answer(inference, error.to_record(), is_shared=is_shared))
        row = self._concluded(inference, "DeadlineExceeded", is_shared=is_shared)
        self._reports.add(row, inference, error.to_record())
        self._counts["failed"] += 1
        self._leave(asker)
        self._go()

    def _leave(self, asker: Asker) -> None:
        """Somebody waits no more; where it was the last one, nobody needs to go on."""
        inference = self._asked.pop(asker, None)
        if inference is None:
            return
        inference.askers.pop(asker)[1].cancel()
        if self._flights.leave(inference.key, asker):
            self._counts["given_up"] += 1
            self._workers.drop(inference)
            if inference.at in self._processing:
                self._processing[inference.at].pop(inference.number, None)
                self.cast(inference.at, GiveUp(self.ref, [inference.number]))
            self._forget(inference)

    def _gone(self, session: str) -> None:
        """A program has ended, or its connection has."""
        for asker in [asker for asker in self._asked if asker[0] == session]:
            self._leave(asker)
        self._go()

    def _forget(self, inference: Inference) -> None:
        inference.is_over = True
        del self._under_way[inference.number], self._by_key[inference.key]

    def _may_go_on(self, inference: Inference) -> bool:
        """Whether a worker gave up at its first caller's deadline, and one that came later waits longer."""
        return self._loop.time() > inference.end - SLACK_SECONDS and inference.until() > inference.end + SLACK_SECONDS

    # --- validator and cache ----------------------------------------------------------------------------------------

    def _check(self, batch: list[Inference], arrived: Callable[[], None]) -> None:
        request = Check([inference.inputs for inference in batch])
        self._ask(VALIDATOR, request, arrived, lambda answer: self._checked(batch, answer))

    def _checked(self, batch: list[Inference], answer: Any) -> None:
        verdicts = answer.verdicts if isinstance(answer, Checked) else [None] * len(batch)
        for inference, verdict in zip(batch, verdicts, strict=True):
            if verdict is None:
                inference.skipped.append(VALIDATOR)
                if self._strict:
                    away = MemberAway(
                        "the validator is away: strict inputs cannot be checked; ask again", role=VALIDATOR
                    )
                    inference.refused = away.to_record()
            elif verdict.findings:
                what = InvalidInputs(f"the inputs are invalid: {told(verdict.findings)}", findings=verdict.findings)
                inference.refused = what.to_record()
            else:
                inference.inputs = verdict.inputs if verdict.inputs is not None else inference.inputs
                inference.warnings = verdict.warnings
            self._heard(inference)

    def _look(self, batch: list[Inference], arrived: Callable[[], None]) -> None:
        # What was answered a moment ago goes along, and is found.
        request = Look([inference.key for inference in batch], *self._to_keep())
        self._ask(CACHE, request, arrived, lambda found: self._looked(batch, found))

    def _looked(self, batch: list[Inference], found: Any) -> None:
        answers = found if isinstance(found, list) else [None] * len(batch)
        for inference, prediction in zip(batch, answers, strict=True):
            if not isinstance(found, list):
                inference.skipped.append(CACHE)
            inference.found = prediction
            self._heard(inference)

    def _ask(self, role: str, request: Any, arrived: Callable[[], None], heard: Callable[[Any], None]) -> None:
        """Ask a member; it is told to `heard`: what it says, or None where it is away."""

        def answered(reply: Any, error: Exception | None) -> None:
            arrived()
            if error is not None:
                self.log.warning("a member of the ecosystem is away", role=role, error=str(error))
            heard(reply)
            self._go()

        self._members.call_then(role, request, answered, MEMBER_SECONDS)

    def _heard(self, inference: Inference) -> None:
        inference.asked -= 1
        if inference.asked or inference.is_over:
            return
        if inference.refused is not None:
            self._end(inference, inference.refused)
        elif inference.found is not None:
            inference.prediction, inference.is_cached = inference.found, True
            self._end(inference, None)
        else:
            self._workers.put(inference)

    # --- processor --------------------------------------------------------------------------------------------------

    def _process(self, batch: list[Inference], arrived: Callable[[], None]) -> None:
        if self._processor is None:
            self.spawn(self._find_processor(batch, arrived))
        else:
            arrived()
            self._have_processed(batch, self._processor)

    async def _find_processor(self, batch: list[Inference], arrived: Callable[[], None]) -> None:
        ref = await self._members.whereis(PROCESSOR)
        arrived()
        self._have_processed(batch, ref)
        self._go()

    def _have_processed(self, batch: list[Inference], ref: Ref | None) -> None:
        rows = [inference for inference in batch if not inference.is_over and inference.prediction is not None]
        if not rows:
            return
        if ref is None:
            for row in rows:
                self._unprocessed(row)
            return
        if ref not in self._processing:
            self._processor, self._processing[ref] = ref, {}
            self.monitor(ref)
        for row in rows:
            row.at = ref
            self._processing[ref][row.number] = row
        work = Process(
            self.ref,
            [row.number for row in rows],
            [row.prediction or b"" for row in rows],
            [row.operation for row in rows],
        )
        self.cast(ref, work)

    def _unprocessed(self, inference: Inference) -> None:
        if not inference.is_over:
            inference.skipped.append(PROCESSOR)
            self._end(inference, None)

    # --- out --------------------------------------------------------------------------------------------------------

    def _fail(self, inference: Inference, error: DspexError) -> None:
        if not inference.is_over:
            self._end(inference, error.to_record())
            self._sessions.go()

    def _end(self, inference: Inference, error: dict[str, Any] | None) -> None:
        """Answer all who wait for an inference."""
        is_shared = False
        for asker in self._flights.land(inference.key):
            del self._asked[asker]
            inference.askers.pop(asker)[1].cancel()
            self._sessions.answer(asker, self._answer(inference, error, is_shared=is_shared))
            self._counts["completed" if error is None else "failed"] += 1
            self._counts["cached"] += inference.is_cached
            row = self._concluded(inference, None if error is None else str(error["type"]), is_shared=is_shared)
            self._reports.add(row, inference, error)
            is_shared = True
        if error is None and inference.prediction is not None and not (inference.is_cached or inference.skipped):
            self._answered[inference.key] = inference.prediction
            self._answered_bytes += len(inference.prediction)
            if self._answered_bytes > KEPT_BYTES:
                self._members.cast(CACHE, Look([], *self._to_keep()))
        self._forget(inference)

    def _answer(self, inference: Inference, error: dict[str, Any] | None, *, is_shared: bool) -> Answer:
        return Answer(
            prediction=inference.prediction if error is None else None,
            error=error,
            is_cached=inference.is_cached,
            is_shared=is_shared,
            skipped=inference.skipped,
            warnings=inference.warnings,
            usage={} if is_shared else inference.usage,
            cost=0.0 if is_shared else inference.cost,
            asked=0 if is_shared else inference.requests,
        )

    def _concluded(self, inference: Inference, error: str | None, *, is_shared: bool) -> Concluded:
        # Of many who share an inference one has its tokens and its cost: they were paid once.
        tokens, cost = (0, 0.0) if is_shared else (inference.tokens, inference.cost)
        return Concluded(self._loop.time() - inference.began, error, inference.is_cached, tokens, cost)

    def _to_keep(self) -> tuple[list[str], list[bytes]]:
        kept, self._answered, self._answered_bytes = self._answered, {}, 0
        return list(kept), list(kept.values())

    def _tell(self, conclusions: Any) -> None:
        """Tell the members how inferences ended."""
        if self._answered:
            self._members.cast(CACHE, Look([], *self._to_keep()))
        for role in ROLES:
            if role != self._members.role:
                self._members.cast(role, conclusions)
