"""The feeder of a stream: whose answer counts."""

from types import SimpleNamespace

from dspex_actors.inference.feeder import Feeder
from dspex_actors.lm.keys import NO_KEY
from dspex_actors.runs.evaluator.crew import Crew, Hand
from dspex_actors.runs.plan.bills import Bills
from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.sittings import Sitting
from dspex_actors.runs.plan.types import PlanSettings
from dspex_actors.runs.work import Result
from dspex_actors.workers.serving import Served
from supervisors import Ref
from supervisors.cluster.membership.messages import Member

LACKS = {"type": "AuthError", "code": NO_KEY, "message": "no key is here"}


class Kit(Feeder):
    """A feeder without a node, whose crew is one worker of its own node and one of another."""

    log = SimpleNamespace(warning=lambda *args, **about: None)
    node = {"name": "here"}  # noqa: RUF012 - as a server has it
    ref = Ref("127.0.0.1", 1, 9, 1, "9" * 16)

    def __init__(self):
        self._plan, self._bills = RunPlan(PlanSettings(max_in_flight=2, prefetch=0)), Bills()
        self._gathered, self._seconds, self._job = True, 10.0, None
        self._heard_of, self._loop = {}, SimpleNamespace(time=lambda: 0.0)
        self._inputs, self._out, self._waiting, self.sent = [], [], None, []
        self._crew = Crew(self, self, "stream:1", 1, None)
        self._crew.members["there"] = Member("there", "u", "h", 1)
        for number, node in enumerate(("here", "there"), 1):
            ref = Ref("127.0.0.1", 1, number, 1, str(number) * 16)
            hand = Hand(f"{node}/worker", node, ref, frozenset(), Sitting(number, 0.0))
            self._crew.hands[hand.name] = hand
            self.joined(hand)

    def cast(self, to, message):
        self.sent.append((to, message))

    def feed(self, count):
        for number in range(count):
            self._plan.feed(number, b"x")
        self._pump()


def test_what_a_node_without_the_key_gets_is_done_by_another_one():
    kit = Kit()
    kit.feed(2)
    (one, first), (two, second) = kit.sent
    kit.handle_cast(Served(two, [Result(index=second.numbers[0], send=0, error=dict(LACKS), again="no")]))
    assert kit._out == []
    kit.handle_cast(Served(one, [Result(index=first.numbers[0], send=0, prediction=b"")]))
    (again, third) = kit.sent[-1]
    assert again == one
    kit.handle_cast(Served(one, [Result(index=third.numbers[0], send=0, prediction=b"")]))
    assert [(answer.error, answer.attempts) for answer in kit._out] == [(None, 1)] * 2


def test_where_all_lack_the_key_the_input_fails_with_that():
    kit = Kit()
    kit.feed(1)
    for _ in range(2):
        to, work = kit.sent[-1]
        kit.handle_cast(Served(to, [Result(index=work.numbers[0], send=0, error=dict(LACKS), again="no")]))
    assert [answer.error["code"] for answer in kit._out] == [NO_KEY]
