"""The inference ecosystem, as a program outside has it."""

from __future__ import annotations

import asyncio
import copy
import os
import time
from concurrent.futures import Future
from typing import Any, Self

from dspex_actors.cache.key import answer_key, pack_inputs
from dspex_actors.ecosystem.handle import EcosystemHandle, find_ecosystem
from dspex_actors.ecosystem.inference.asking import Asking, asking_of
from dspex_actors.ecosystem.inference.messages import COORDINATOR, Answer
from dspex_actors.ecosystem.inference.plan import INFERENCE, check_deadline
from dspex_actors.ecosystem.inference.prediction import InferredPrediction
from dspex_actors.errors import (
    ConfigError,
    DeadlineExceeded,
    MemberAway,
    Overloaded,
    from_record,
)
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.foundation.codec import CodecError
from supervisors import Node, carried
from supervisors.errors import CallFailed, CallTimeout, NodeDown, NoProcess, ServerExited, SupervisorsError

#: Inputs are not larger than this together: they pass through several processes.
MOST_BYTES = 32 << 20
#: The ecosystem keeps the deadline itself; so many seconds later nothing comes any more.
SLACK_SECONDS = 2.0
#: A coordinator that is being restarted has been asked nothing: it is waited for so long, and tried this often.
COME_BACK_SECONDS, PAUSE_SECONDS = 3.0, 0.02
#: A member is waited for so long when it is asked for its counts.
STATS_SECONDS = 2.0


class InferenceEcosystem(EcosystemHandle):
    """Serves a program: `infer(**inputs)`. Made by `System.ecosystem`; thread-safe."""

    _program: str
    _seconds: float
    _asking: Asking

    @classmethod
    def of(cls, handle: EcosystemHandle, program: str, seconds: float) -> Self:
        """Return the handle of an inference ecosystem.

        Args:
            handle: its plain handle.
            program: digest of what it serves.
            seconds: deadline of an inference.
        """
        made = cls(handle.node, handle._place, handle.roles)
        made._program, made._seconds = program, seconds
        made._asking = asking_of(handle.node, handle._place.at(COORDINATOR).name)
        return made

    def within(self, seconds: float) -> Self:
        """Return a handle of the same ecosystem whose inferences have another deadline, in seconds.

        Raises:
            ConfigError: it is no positive number.
        """
        twin = copy.copy(self)
        twin._seconds = check_deadline(seconds)
        return twin

    def infer(self, /, **inputs: Any) -> InferredPrediction:
        """Have the program answer, and wait.

        1. The validator looks at the inputs, and the cache whether the answer is known.
        2. If not, an http worker runs the program. Of many callers with the same inputs one has it run.
        3. The processor applies the transformations and checks the outputs.

        Args:
            **inputs: the program's, by name.

        Returns:
            The prediction; `.skipped` has the members that were not there, `.inference` how it came about.

        Raises:
            InvalidInputs: an input is not what the program takes; `findings` has them all.
            DeadlineExceeded: it took too long.
            MemberAway: the coordinator died meanwhile, or the validator of a strict ecosystem is not there.
            TransformationFailed, InvalidOutputs: as their names say.
            LMError, AdapterParseError: as for a call of the program; what else it raises is a DspexError.
            ConfigError: an input cannot be sent, or the ecosystem has ended.
        """
        began, left = time.monotonic(), self._seconds
        while True:
            number, future = self._ask(inputs, left)
            try:
                return _opened(future.result(left + SLACK_SECONDS), began)
            except TimeoutError:
                raise self._late() from None
            except SupervisorsError as error:
                self._again(error, began)
            finally:
                if not future.done():
                    self._asking.give_up(number)
            time.sleep(PAUSE_SECONDS)
            left = self._left(began)

    async def ainfer(self, /, **inputs: Any) -> InferredPrediction:
        """Do what `infer` does, from an event loop."""
        began, left = time.monotonic(), self._seconds
        while True:
            number, future = self._ask(inputs, left)
            try:
                async with asyncio.timeout(left + SLACK_SECONDS):
                    return _opened(await asyncio.wrap_future(future), began)
            except TimeoutError:
                raise self._late() from None
            except SupervisorsError as error:
                failed = error
            finally:
                if not future.done() or future.cancelled():
                    self._asking.give_up(number)
            await in_thread(lambda error=failed: self._again(error, began))  # type: ignore[misc]
            await asyncio.sleep(PAUSE_SECONDS)
            left = self._left(began)

    def stats(self) -> dict[str, Any]:
        """Return what each member has counted, by role; None for one that is not there.

        The monitor's are over the last 60 s: latency, tokens, cost, errors, hits.
        """
        asked = {role: self.node.send_request(self._name(role), "stats") for role in self.roles}
        found: dict[str, Any] = {}
        until = time.monotonic() + STATS_SECONDS
        for role, request in asked.items():
            try:
                found[role] = request.receive_response(deadline=until)
            except SupervisorsError:
                found[role] = None
        return found

    async def astats(self) -> dict[str, Any]:
        """Do what `stats` does, from an event loop."""
        found: dict[str, Any] = await in_thread(self.stats)
        return found

    def _left(self, began: float) -> float:
        """Return the seconds that an inference still has: what was waited for a coordinator is part of its time."""
        return max(PAUSE_SECONDS, round(self._seconds - (time.monotonic() - began), 2))

    def _ask(self, inputs: dict[str, Any], seconds: float) -> tuple[int, Future[Answer]]:
        self._check()
        try:
            packed = pack_inputs(inputs)
        except CodecError as error:
            raise ConfigError(f"the inputs cannot be sent: {error.message}") from None
        if len(packed) > MOST_BYTES:
            raise ConfigError(
                f"the inputs are too large: got {len(packed):,} bytes, expected at most {MOST_BYTES:,}; give the place "
                "where the program finds them"
            )
        if self._asking.pid != os.getpid():  # this process was forked
            self._asking = asking_of(self.node, self._name(COORDINATOR))
        here = carried.get()
        operation = b"" if here is None else here if isinstance(here, bytes) else here.to_bytes()
        return self._asking.ask(answer_key(self._program, inputs, packed), packed, seconds, operation)

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the ecosystem did not answer within {self._seconds:g} s", retryable=False)

    def _again(self, error: SupervisorsError, began: float) -> None:
        """Return where asking again is worth it, since nothing was asked; raise an error of ours where not."""
        self._check()
        waited = time.monotonic() - began
        if isinstance(error, CallTimeout):
            raise DeadlineExceeded(
                f"the ecosystem did not answer within {self._seconds:g} s", retryable=False
            ) from None
        if isinstance(error, NodeDown):
            raise Overloaded(f"the node does not answer: {error}; see `dspex status`, or connect again") from None
        if isinstance(error, CallFailed):
            raise ConfigError(f"the inputs cannot be sent: {error}") from None
        if isinstance(error, NoProcess):
            self.rows()  # raises where the whole ecosystem has ended
            if waited < min(COME_BACK_SECONDS, self._seconds):
                return
        what = "died during the inference" if isinstance(error, ServerExited) else "is away"
        raise MemberAway(f"the coordinator {what}; it is being restarted: ask again", role=COORDINATOR) from None


def find_any(node: Node, key: tuple[str, str]) -> EcosystemHandle:
    """Return the handle of an ecosystem that runs; an `InferenceEcosystem` of one that is.

    Raises:
        ConfigError: there is none of this kind and id, or its coordinator does not come back.
    """
    found = find_ecosystem(node, key)
    if found.kind != INFERENCE:
        return found
    until = time.monotonic() + COME_BACK_SECONDS
    while True:
        try:
            return InferenceEcosystem.of(found, *found.call(COORDINATOR, "about"))
        except (NoProcess, ServerExited, CallTimeout) as error:
            if time.monotonic() > until:
                raise ConfigError(f"the coordinator of {found.kind}:{found.id} does not answer: {error}") from None
        time.sleep(PAUSE_SECONDS)


def _opened(reply: Answer, began: float) -> InferredPrediction:
    if reply.error is not None:
        raise from_record(reply.error)
    return InferredPrediction.of(reply, time.monotonic() - began)
