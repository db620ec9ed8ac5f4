"""The inference ecosystem: what comes out, what is refused, what is given up."""

import asyncio
import math
import threading
import time
from typing import Literal

import pytest
from e2e_kit import ANSWER, Answering, Background, LMServer, gone, until
from pydantic import BaseModel

import dspex_actors as dspex
from dspex_actors.ecosystem.handle import list_ecosystems
from dspex_actors.ecosystem.inference.handle import MOST_BYTES
from dspex_actors.ecosystem.inference.plan import check_cache
from supervisors.errors import CallFailed


class Ticket(BaseModel):
    text: str
    level: int = 1


class Sort(dspex.Signature):
    """Sort a ticket."""

    ticket: str = dspex.InputField()
    level: int = dspex.InputField(ge=1, le=5)
    team: str = dspex.OutputField()


def echo(ticket: str, level: int = 1):
    return dspex.Prediction(team=ticket, level=level)


def everything(**inputs):
    return {"seen": sorted(inputs)}


async def slowly(seconds: float):
    await asyncio.sleep(seconds)
    return {"slept": seconds}


def broken(ticket):
    raise ValueError(f"no team for {ticket}")


class AsyncOnly(dspex.Module):
    async def aforward(self, ticket: str):
        await asyncio.sleep(0)
        return dspex.Prediction(team=ticket.upper())


class OfModels(dspex.Module):
    def forward(self, ticket: Ticket):
        return dspex.Prediction(ticket=Ticket(text=ticket.text.upper(), level=ticket.level + 1))


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with dspex.connect(home=tmp_path_factory.mktemp("home"), workers=2) as made:
        yield made
        assert not list_ecosystems(made.node)


@pytest.fixture(scope="module")
def lms():
    server = LMServer("--answer", ANSWER)
    yield server
    server.close()


def test_an_answer_is_asked_for_once_and_then_known(system, lms):
    before = lms.requests
    with system.ecosystem(dspex.Predict("ticket -> team"), lm=lms.lm()) as eco:
        first, again = eco.infer(ticket="a"), eco.infer(ticket="a")
        assert first.team == again.team == "billing"
        assert isinstance(first, dspex.Prediction)
        assert (first.inference.is_cached, again.inference.is_cached) == (False, True)
        assert (first.inference.asked, again.inference.asked) == (1, 0)
        assert first.inference.usage["output_total"] > 0
        assert first.skipped == again.skipped == ()
        other = asyncio.run(eco.ainfer(ticket="b"))
        assert not other.inference.is_cached
        assert lms.requests - before == 2
        stats = until(lambda: (found := eco.stats())["monitor"]["inferences.count"] == 3 and found)
        assert until(lambda: eco.stats()["cache"]["entries"] == 2)  # it is told after the answer
        assert stats["cache"]["hits"] == 1
        assert stats["coordinator"]["completed"] == 3
        assert stats["monitor"]["cache.hit_share"] == pytest.approx(1 / 3)
        assert stats["monitor"]["tokens.count"] > 0
        assert list(eco.members()) == ["validator", "cache", "processor", "monitor", "coordinator"]
        pids = [ref.pid for ref in eco.members().values()]
    until(lambda: all(map(gone, pids)))


def test_64_callers_with_the_same_inputs_make_one_call(system):
    server = LMServer("--answer", ANSWER, "--latency-ms", "300")
    try:
        with system.ecosystem(dspex.Predict("ticket -> team"), lm=server.lm()) as eco:

            async def all_at_once():
                return await asyncio.gather(*(eco.ainfer(ticket="same") for _ in range(64)))

            found = asyncio.run(all_at_once())
            assert {one.team for one in found} == {"billing"}
            assert sum(not one.inference.is_shared and not one.inference.is_cached for one in found) == 1
            assert server.requests == 1
            # It was paid once, whoever adds up: the callers, or the monitor.
            assert sum(one.inference.asked for one in found) == 1
            tokens = sum(
                sum(one.inference.usage.get(f"{way}_total", 0) for way in ("input", "output")) for one in found
            )
            told = until(lambda: (now := eco.stats()["monitor"])["inferences.count"] == 64 and now)
            assert told["tokens.count"] == tokens > 0
    finally:
        server.close()


def test_a_strict_one_tells_all_that_is_wrong_at_once(system, lms):
    before = lms.requests
    with system.ecosystem(dspex.Predict(Sort), strict=True, lm=lms.lm()) as eco:
        with pytest.raises(dspex.InvalidInputs) as caught:
            eco.infer(tickets="a", level="3")
        assert {(each["input"], each["problem"]) for each in caught.value.findings} == {
            ("tickets", "unknown"),
            ("ticket", "missing"),
            ("level", "mistyped"),
        }
        with pytest.raises(dspex.InvalidInputs, match="less than or equal to 5"):
            eco.infer(ticket="a", level=9)
        assert isinstance(caught.value, dspex.ConfigError)
        assert lms.requests == before
        assert eco.infer(ticket="a", level=3).team == "billing"


def test_a_lenient_one_takes_what_it_can_and_says_what_it_did(system):
    with system.ecosystem(echo) as eco:
        found = eco.infer(ticket=7, level="3", nonsense=1)
        assert (found.team, found.level) == ("7", 3)
        assert len(found.inference.warnings) == 3
        assert any("'nonsense'" in warning and "left out" in warning for warning in found.inference.warnings)


def shout(prediction):
    prediction.team = prediction.team.upper()
    return prediction


async def count(prediction):
    await asyncio.sleep(0)
    return {"letters": len(prediction.team)}


def lost(prediction):
    prediction.team = "lost"


def lock(prediction):
    return {"lock": threading.Lock()}


def trip(prediction):
    raise RuntimeError("over its feet")


def nap(prediction):
    if prediction.team == "tired":
        time.sleep(30)
    return prediction


def test_transformations_are_applied_in_order_and_one_that_fails_names_itself(system):
    with system.ecosystem(
        echo, transformations=[shout, ("letters", count), lambda made: {"last": sorted(made)}]
    ) as eco:
        found = eco.infer(ticket="bugs")
        assert found.toDict() == {"team": "BUGS", "level": 1, "letters": 4, "last": ["letters", "level", "team"]}
        assert eco.infer(ticket="bugs").toDict() == found.toDict()  # what is kept is what went out
    for function, said in (
        (lost, "returned None"),
        (trip, "RuntimeError: over its feet"),
        (lock, "field 'lock' cannot be sent"),
    ):
        with (
            system.ecosystem(echo, transformations=[shout, function]) as eco,
            pytest.raises(dspex.TransformationFailed, match=said) as caught,
        ):
            eco.infer(ticket="bugs")
        assert caught.value.transformation == function.__name__


def test_outputs_are_checked_against_the_signature_after_the_transformations(system, lms):
    with (
        system.ecosystem(dspex.Predict(Sort), transformations=[lambda made: {"team": 3}], lm=lms.lm()) as eco,
        pytest.raises(dspex.InvalidOutputs, match="expected str") as caught,
    ):
        eco.infer(ticket="a", level=1)
    assert caught.value.findings[0]["output"] == "team"


class Mistaken(dspex.Module):
    signature = Sort

    def forward(self, ticket: str, level: int = 1):
        return dspex.Prediction(team=3 if ticket == "wrong" else ticket)


def test_outputs_are_checked_without_transformations_too_where_they_come_from(system):
    with system.ecosystem(Mistaken()) as eco:
        system.node.terminate_child(eco._place.name, "processor")  # it is not needed for that
        with pytest.raises(dspex.InvalidOutputs, match="expected str") as caught:
            eco.infer(ticket="wrong", level=1)
        assert caught.value.findings[0]["output"] == "team"
        found = [eco.infer(ticket="right", level=1) for _ in range(2)]
        assert [(each.team, each.skipped, each.inference.is_cached) for each in found] == [
            ("right", (), False),
            ("right", (), True),
        ]


def test_a_transformation_that_sleeps_keeps_nobody_else_waiting(system):
    with system.ecosystem(echo, transformations=[nap], deadline=20.0) as eco:
        tired = Background(eco.within(1.0).infer, ticket="tired")
        assert eco.infer(ticket="awake").team == "awake"  # it naps for longer than this may take
        with pytest.raises(dspex.DeadlineExceeded, match="processor"):
            tired.result()
        assert eco.infer(ticket="awake still").team == "awake still"


@pytest.mark.parametrize(
    ("program", "inputs", "fields"),
    [
        (AsyncOnly(), {"ticket": "x"}, {"team": "X"}),
        (
            everything,
            {"self": 1, "timeout": 2, "seconds": 3, "key": 4},
            {"seen": ["key", "seconds", "self", "timeout"]},
        ),
        (everything, {}, {"seen": []}),
        (lambda ticket: ticket, {"ticket": [1, 2]}, {"output": [1, 2]}),
    ],
)
def test_any_callable_is_a_program(system, program, inputs, fields):
    with system.ecosystem(program, strict=True) as eco:
        assert eco.infer(**inputs).toDict() == fields


def test_classes_of_a_script_go_in_and_come_out(system):
    with system.ecosystem(OfModels(), strict=True) as eco:
        found = eco.infer(ticket=Ticket(text="a")).ticket
        assert (found.text, found.level) == ("A", 2)
        assert eco.infer(ticket=Ticket(text="a")).inference.is_cached
        with pytest.raises(dspex.InvalidInputs):
            eco.infer(ticket={"text": "a"})
    with system.ecosystem(OfModels()) as eco:
        assert eco.infer(ticket={"text": "b"}).ticket.text == "B"


def test_what_a_program_raises_comes_back_and_is_not_kept(system):
    with system.ecosystem(broken) as eco:
        for _ in range(2):
            with pytest.raises(dspex.DspexError, match="ValueError: no team for x"):
                eco.infer(ticket="x")
        assert eco.stats()["cache"]["entries"] == 0


def test_an_inference_has_a_deadline_and_one_that_comes_later_its_own(system):
    with system.ecosystem(slowly) as eco:
        impatient = Background(eco.within(0.3).infer, seconds=1.0)
        patient = Background(eco.within(20.0).infer, seconds=1.0)
        with pytest.raises(dspex.DeadlineExceeded, match=r"within 0\.3 s"):
            impatient.result()
        assert patient.result().slept == 1.0


def test_what_nobody_waits_for_is_given_up(system):
    with system.ecosystem(slowly) as eco:

        async def impatient():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await eco.ainfer(seconds=60.0)

        asyncio.run(impatient())
        counts = until(lambda: (found := eco.stats()["coordinator"])["given_up"] == 1 and found)
        assert counts["under_way"] == 0
        assert sum(counts["workers"]["doing"].values()) == 0


def test_the_cache_may_be_off_and_an_answer_may_be_kept_for_no_time(system):
    for settings, hits in (
        ({"cache_bytes": 0}, [False, False]),
        ({"cache_ttl": 0}, [False, False]),
        ({"cache_ttl": None, "cache_strategy": "lfu"}, [False, True]),
    ):
        with system.ecosystem(echo, **settings) as eco:
            assert [eco.infer(ticket="x").inference.is_cached for _ in range(2)] == hits
    assert check_cache("lfu", None, 1) == check_cache("lfu", math.inf, 1) == ("lfu", math.inf, 1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"program": 7}, "the program is invalid"),
        ({"program": AsyncOnly}, "got the class AsyncOnly"),
        ({"program": dspex.Predict("ticket -> team")}, "no LM is set"),
        ({"strict": "yes"}, "strict is invalid"),
        ({"transformations": shout}, "the transformations are invalid"),
        ({"transformations": [7]}, "the transformation 0 is invalid"),
        ({"transformations": [("name", 7)]}, "the transformation 0 is invalid"),
        ({"transformations": [threading.Lock().__enter__]}, "the transformations cannot be sent"),
        ({"alerts": [7]}, "an alert is invalid"),
        ({"alerts": dspex.Alert("latency.p99", above=1)}, "the alerts are invalid"),
        ({"cache_strategy": "fifo"}, "expected lru or lfu"),
        ({"cache_ttl": -1}, "cache_ttl is invalid"),
        ({"cache_ttl": math.nan}, "cache_ttl is invalid"),
        ({"cache_bytes": -1}, "cache_bytes"),
        ({"cache_bytes": 1.5}, "cache_bytes"),
        ({"deadline": 0}, "the deadline is invalid"),
        ({"deadline": math.inf}, "the deadline is invalid"),
        ({"id": "a/b"}, "the id of an ecosystem is invalid"),
        ({"lm": 7}, "an LM is needed"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_starts(system, settings, said):
    with pytest.raises(dspex.ConfigError, match=said):
        system.ecosystem(**{"program": echo, **settings})
    assert not list_ecosystems(system.node)


def test_inputs_that_cannot_be_sent_are_refused_here(system):
    with system.ecosystem(echo) as eco:
        with pytest.raises(dspex.ConfigError, match="cannot be sent"):
            eco.infer(ticket=threading.Lock())
        with pytest.raises(dspex.ConfigError, match="too large"):
            eco.infer(ticket="x" * MOST_BYTES)
        large = "x" * (5 << 20)  # more than goes in one message with others
        assert eco.infer(ticket=large).team == large


def test_two_stop_it_at_once_and_afterwards_it_has_ended(system):
    eco = system.ecosystem(echo, id="short")
    with pytest.raises(dspex.ConfigError, match="runs already"):
        system.ecosystem(echo, id="short")
    other = system.find_ecosystem(("inference", "short"))
    for thread in [Background(eco.stop), Background(eco.stop), Background(other.stop)]:
        thread.result()
    with pytest.raises(dspex.ConfigError, match="has ended"):
        eco.infer(ticket="x")
    eco = system.ecosystem(echo, id="short")
    system.find_ecosystem(("inference", "short")).stop()
    with pytest.raises(dspex.ConfigError, match="has ended"):
        eco.infer(ticket="x")


def test_an_alert_fires_once_when_its_threshold_is_crossed(system, tmp_path):
    seen = tmp_path / "seen"

    def note(told):
        with seen.open("a") as file:
            file.write(f"{told['metric']}\n")

    with Answering(200, b"{}") as url:
        alerts = [
            dspex.Alert("inferences.count", above=2, action=url),
            dspex.Alert("inferences.count", above=2, action=note),
            dspex.Alert("inferences.count", above=2, action="event"),
            dspex.Alert("inferences.count", above=2),
            dspex.Alert("latency.max", above=1000.0, action=note),
            dspex.Alert("inferences.count", above=2, action=lambda told: 1 / 0),
        ]
        with system.ecosystem(echo, alerts=alerts) as eco:
            for number in range(4):
                eco.infer(ticket=f"{number}")
            told = until(lambda: (found := eco.call("monitor", "stats", 10)["alerts"])["failed"] == 1 and found)
            assert told["fired"] == 5
            assert "ZeroDivisionError" in told["last_failure"]
            eco.infer(ticket="one more")
            until(lambda: eco.call("monitor", "stats", 10)["inferences.count"] == 5)
            assert seen.read_text() == "inferences.count\n"
            assert eco.call("monitor", "stats", 10)["alerts"]["fired"] == 5


def test_an_inference_belongs_to_the_operation_around_it(system):
    with system.ecosystem(AsyncOnly(), strict=True, id="traced") as eco, dspex.operation("answer") as op:
        eco.infer(ticket="x")
        with pytest.raises(dspex.DspexError):
            eco.infer(ticket=3)
    kinds = until(
        lambda: (
            (found := {event.type for event in system.events.query(correlation_id=op.correlation_id)})
            >= {"inference.completed", "inference.failed", "module.execution.completed"}
            and found
        )
    )
    assert "operation.started" in kinds
    (completed,) = system.events.query(type="inference.completed", where={"ecosystem": "inference:traced"})
    assert completed.parent_id == op.id


class Touchy(BaseModel):
    text: str

    def __eq__(self, other):
        raise RuntimeError("do not touch")

    __hash__ = None


def touched(ticket: Touchy, level: Literal["a", "b"] = "a"):
    return {"team": ticket.text}


def test_nothing_that_members_are_sent_ends_them(system):
    with system.ecosystem(touched) as eco:
        pids = eco.members()
        for role in eco.roles:
            with pytest.raises(CallFailed, match="does not know the request"):
                eco.call(role, "nonsense")
        eco.broadcast(("nonsense", 1))
        found = eco.infer(ticket=Touchy(text="x"), level=Touchy(text="y"))
        assert found.team == "x"
        assert any("cannot be checked" in warning for warning in found.inference.warnings)
        assert eco.members() == pids
