"""The finer points of OTP's supervisor in the pure core; no process is started."""

import pytest
from core_world import BOOM, Server, World, specs, supervisor

from supervisors import ChildSpec, Ref, errors
from supervisors.supervisor import events
from supervisors.terms.reason import KILLED, NORMAL, SHUTDOWN


# rows: 17
def test_what_init_gives_beside_its_success_goes_to_who_asked_for_the_start():
    world = World(supervisor("")).start()
    effects = world.core.call("who", "start_child", ChildSpec("A", Server), 0.0)
    spawn = next(each for each in effects if isinstance(each, events.Spawn))
    ref = Ref("h", 1, 1, 1, "a")
    effects = world.core.event(events.Started(spawn.key, spawn.generation, ref, b"info"), 0.0)
    assert [each.value for each in effects if isinstance(each, events.Answer)] == [(ref, b"info")]
    assert world.core.children.rows()[0].ref == ref


# rows: 19
@pytest.mark.parametrize("strategy", ["one_for_one", "simple_one_for_one"])
def test_a_restart_uses_the_arguments_of_the_start_and_a_temporary_child_keeps_none(strategy):
    for restart, kept in (("permanent", (1, 2)), ("temporary", ())):
        child = ChildSpec("A", Server, args=(1, 2), kwargs={"k": 1}, restart=restart)
        world = World(supervisor([child], strategy)).start()
        if strategy == "simple_one_for_one":
            world.call("start_child", ())
        (known,) = world.core.children
        assert known.spec.args == kept
        assert world.live[known.key][1].args == (1, 2)
        world.end(known.key)
        if kept:
            assert world.live[known.key][1].args == (1, 2)


# rows: 29
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_group_restart_revives_whatever_is_stopped_in_its_range(strategy):
    children = [*specs("A"), ChildSpec("T", Server, restart="transient"), *specs("IM")]
    world = World(supervisor(children, strategy), {"I": ["ignore"]}).start()
    world.end("T", NORMAL)
    world.call("terminate_child", "M")
    assert world.counts() == (4, 1, 0, 4)
    world.take()
    world.end("A")
    assert world.take() == "xA +A +T +I +M"
    assert world.counts() == (4, 4, 0, 4)


# rows: 31
def test_word_of_strangers_is_ignored():
    world = World(supervisor("A")).start()
    for event in (events.Exited(77, 1, KILLED), events.Started(77, 1, Ref("h", 1, 1, 1, "x")), events.Tick(77, 1, "x")):
        assert world.core.event(event, world.now) == []
    assert world.states() == {"A": "running"}


# rows: 37
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_group_restart_costs_one(strategy):
    world = World(supervisor("ABCDE", strategy, 2)).start()
    world.end("A")
    world.end("A")
    assert len(world.core.stamps) == 2
    assert world.finished is None


# rows: 38, 78
def test_two_thousand_temporary_children_end_for_nothing():
    world = World(supervisor(specs("A", restart="temporary"), "simple_one_for_one", 2)).start()
    for _ in range(2000):
        world.call("start_child", ())
        world.now += 1e-6
    assert world.counts() == (1, 2000, 0, 2000)
    for key in list(world.live):
        world.end(key, KILLED)
    assert world.counts() == (1, 0, 0, 0)
    assert world.finished is None
    assert world.core.stamps == ()
    assert not world.core.children._key_of


# rows: 40
def test_an_escalation_stops_the_rest_backwards_each_by_its_own_rule():
    children = [ChildSpec("A", Server, shutdown=3.0), ChildSpec("B", Server, shutdown="brutal_kill"), *specs("CD")]
    world = World(supervisor(children, intensity=0)).start()
    world.deaf = {"A"}
    world.take()
    world.end("C")
    assert world.take() == "xC -D -B"
    assert len(world.asked) == 2
    assert world.finished is None
    world.tick(3.0)
    assert world.take() == "-A"
    assert world.finished.reason == SHUTDOWN


# rows: 43
def test_the_window_survives_group_restarts_and_begins_anew_with_a_new_supervisor():
    world = World(supervisor("AB", "one_for_all", 2)).start()
    world.end("A")
    world.end("B")
    assert len(world.core.stamps) == 2
    assert World(supervisor("AB", "one_for_all", 2)).start().core.stamps == ()


# rows: 46
def test_an_attempt_that_is_under_way_shows_as_restarting_too():
    world = World(supervisor("ABC", "rest_for_one", 5), {"B": ["ok", "hang"]}).start()
    world.end("B")
    assert world.states() == {"A": "running", "B": "restarting", "C": "stopped"}
    assert world.counts() == (3, 1, 0, 3)
    first = World(supervisor("AB"), {"B": ["hang"]}).start()
    assert first.states() == {"A": "running", "B": "stopped"}


# rows: 47
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_calls_that_come_during_an_attempt_are_served_before_the_next_one(strategy):
    world = World(supervisor("AB", strategy, 9), {"A": ["ok", "hang", "hang"]}).start()
    world.end("A")
    calls = [("add", "start_child", ChildSpec("A", Server)), ("again", "restart_child", "A"),
             ("delete", "delete_child", "A"), ("stop", "terminate_child", "A")]  # fmt: skip
    for caller, name, argument in calls:
        world.begin(caller, name, argument)
    assert not world.answers
    attempts, told = world.core.stamps, len(world.told)
    world.end("A")
    answers = [type(world.answers[caller]).__name__ for caller in ("add", "again", "delete", "stop")]
    assert answers == ["AlreadyPresent", "ChildRestarting", "ChildRestarting", "NoneType"]
    assert world.states()["A"] == "stopped"
    assert world.core.stamps == attempts
    assert [tell.kind for tell in world.told[told:]] == ["start_error"]
    world.tick(100)
    assert [tell.kind for tell in world.told[told:]] == ["start_error"]


# rows: 50
def test_without_a_backoff_a_restart_waits_for_nothing():
    world = World(supervisor("A", intensity=9), {"A": ["ok", "fail", "fail", "ok"]}).start()
    began = world.now
    world.end("A")
    assert world.take() == "+A xA !A !A +A"
    assert world.now == began


# rows: 53
def test_a_shutdown_of_zero_asks_and_kills():
    world = World(supervisor(specs("A", shutdown=0))).start()
    world.deaf = {"A"}
    world.shutdown()
    assert world.asked
    world.tick(0)
    assert world.take() == "+A -A"
    assert world.finished is not None


# rows: 73
def test_which_child():
    world = World(supervisor("AB")).start()
    assert world.call("which_child", "B") == world.call("which_children")[0]
    assert isinstance(world.call("which_child", "X"), errors.ChildNotFound)
    assert isinstance(world.call("which_child", world.ref(1)), errors.ChildNotFound)
    world = World(supervisor("A", "simple_one_for_one")).start()
    ref = world.call("start_child", ())
    assert world.call("which_child", ref).ref == ref
    assert isinstance(world.call("which_child", "A"), errors.NotAllowed)
    assert isinstance(world.call("which_child", Ref("h", 1, 1, 1, "x")), errors.ChildNotFound)


# rows: 84
def test_counts_of_simple_one_for_one_while_two_of_three_restart():
    from supervisors import Backoff

    world = World(supervisor(specs("A", backoff=Backoff()), "simple_one_for_one", 9)).start()
    for _ in range(3):
        world.call("start_child", ())
        world.now += 1
    world.end(1)
    world.end(2)
    assert world.counts() == (1, 1, 0, 3)


# rows: 86
def test_start_child_refuses_a_significant_child_under_never():
    world = World(supervisor("A")).start()
    child = ChildSpec("B", Server, restart="transient", significant=True)
    assert isinstance(world.call("start_child", child), errors.SpecError)
    assert world.states() == {"A": "running"}


# rows: 89
def test_all_significant_does_not_wait_for_one_that_was_never_running():
    children = specs("AB", restart="transient", significant=True)
    world = World(supervisor(children, auto_shutdown="all_significant"), {"B": ["ignore"]}).start()
    world.end("A", NORMAL)
    assert world.finished is not None


# rows: 90
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("rule", ["any_significant", "all_significant"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_significant_bystander_triggers_nothing(strategy, rule, restart):
    children = [*specs("A"), *specs("S", restart=restart, significant=True), *specs("N", restart=restart)]
    world = World(supervisor(children, strategy, auto_shutdown=rule)).start()
    world.end("N", NORMAL)
    world.end("A")
    assert world.finished is None
    expected = {"A": "running", "S": "running", "N": "stopped" if strategy == "one_for_one" else "running"}
    if restart == "temporary":
        del expected["N"]
        if strategy != "one_for_one":
            del expected["S"]
    assert world.states() == expected


# rows: 41, 91
@pytest.mark.parametrize(
    ("fields", "after"),
    [({"restart": "transient", "significant": True}, "ends"), ({"restart": "transient"}, "stays"),
     ({"restart": "permanent"}, "restarts"), ({"restart": "temporary"}, "forgets")],
)  # fmt: skip
def test_what_the_parent_does_when_a_supervisor_has_shut_itself_down(fields, after):
    inner = ChildSpec("S", supervisor("X"), **fields)
    world = World(supervisor([*specs("A"), inner], auto_shutdown="any_significant")).start()
    world.end("S", SHUTDOWN)
    assert (world.finished is not None) == (after == "ends")
    assert world.take() == {"ends": "+A +S xS -A", "restarts": "+A +S xS +S"}.get(after, "+A +S xS")
    if after in ("stays", "forgets"):
        assert world.states() == {"A": "running", **({"S": "stopped"} if after == "stays" else {})}


# rows: 34, 40
def test_an_escalation_names_child_count_window_and_last_reason():
    world = World(supervisor("A", intensity=1, period=7.0)).start()
    world.end("A", KILLED)
    world.end("A", BOOM)
    tell = next(tell for tell in world.told if tell.kind == "reached_max_restart_intensity")
    assert (tell.id, tell.reason, tell.extra["count"], tell.extra["intensity"], tell.extra["period"]) == (
        "A", BOOM, 2, 1, 7.0)  # fmt: skip
