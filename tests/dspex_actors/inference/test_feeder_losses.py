"""A feeder whose worker loses what it is sent, or what it sends: each input has one answer all the same."""

import pytest

from dspex_actors.inference import feeder
from dspex_actors.inference.feeder import Feeder
from dspex_actors.inference.messages import Exchange
from dspex_actors.names import WORKERS, worker_name
from dspex_actors.runs.plan.types import PlanSettings
from dspex_actors.runs.spec import Job
from dspex_actors.runs.work import Result
from dspex_actors.workers.serving import Lacks, Serve, Served
from supervisors import ChildSpec, GenServer, Node, SupervisorSpec
from supervisors.testing import wait_until


class Losing(GenServer):
    """Stands for an http worker: loses the first inputs that it is given, or their answers."""

    def init(self, loses):
        self.loses, self.seen, self.kept = loses, [], []

    def handle_cast(self, work):
        assert isinstance(work, Serve)
        is_first = not self.seen
        self.seen.append(work.numbers)
        if is_first and self.loses == "keeps":
            self.kept = work.numbers  # it is at them for a while
        elif not is_first or self.loses == "nothing":
            self.answer(work.coordinator, work.numbers)

    def answer(self, coordinator, numbers):
        self.cast(coordinator, Served(self.ref, [Result(number, prediction=b"p") for number in numbers]))

    def handle_call(self, request, caller):
        if isinstance(request, Lacks):
            if self.kept:
                self.answer(request.coordinator, self.kept)  # just done: on its way before the reply
            return [number for number in request.numbers if number not in self.kept]
        return self.seen


class Quick(Feeder):
    def init(self, *arguments):
        feeder.ASK_SECONDS = 0.2
        super().init(*arguments)


@pytest.mark.parametrize(("loses", "sendings"), [("nothing", 1), ("first", 2), ("keeps", 1)])
def test_what_is_lost_on_the_way_goes_out_again_and_what_is_there_does_not(loses, sendings):
    with Node.start() as node:
        worker = ChildSpec(worker_name(1), Losing, args=(loses,), name=worker_name(1))
        node.start_supervisor(SupervisorSpec([worker], name=WORKERS))
        job = Job("stream:test", "infer", b"", b"")
        fed = ChildSpec("feeder", Quick, args=(job, PlanSettings(prefetch=0), None, 60.0), name="feeder")
        node.start_supervisor(SupervisorSpec([fed]))
        answers, got = [], 0
        given = node.call("feeder", Exchange([0, 1, 2], [b"a", b"b", b"c"], 0, 0.0))

        def all_there():
            nonlocal given, got
            got = max(got, given.first + len(given.answers) - 1)
            answers.extend(given.answers)
            given = node.call("feeder", Exchange([], [], got, 0.2), timeout=10.0)
            return len(answers) >= 3

        wait_until(all_there, 30.0)
        assert sorted(answer.number for answer in answers) == [0, 1, 2]
        assert all(answer.prediction == b"p" and answer.attempts == 1 for answer in answers)
        assert not given.answers
        sent = [number >> 16 for numbers in node.call(worker_name(1), "seen") for number in numbers]
        assert sorted(sent) == sorted([0, 1, 2] * sendings)
