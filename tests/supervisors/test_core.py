"""What a supervisor decides, row by row of OTP's semantics; no process is started."""

import random

import pytest
from core_world import BOOM, Server, World, specs, supervisor

from supervisors import errors
from supervisors.terms.reason import KILLED, NORMAL, SHUTDOWN, ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.spec import Backoff, ChildSpec

INFO = ExitReason("shutdown", "info")


# --- starting (rows 1 to 20) --------------------------------------------------------------------------------


# rows: 1
def test_children_start_in_the_order_of_the_list():
    world = World(supervisor("CABD")).start()
    assert world.take() == "+C +A +B +D"
    assert world.ready == 1


# rows: 11
def test_a_failed_start_stops_what_is_up_in_reverse_and_ends_the_supervisor():
    world = World(supervisor(), {"C": ["fail"]}).start()
    assert world.take() == "+A +B !C -B -A"
    assert world.finished.error.id == "C"
    assert world.finished.error.reason == BOOM
    assert [tell.kind for tell in world.told] == ["progress", "progress", "start_error"]
    assert world.ready == 0
    assert world.core.stamps == ()


# rows: 11, 18
def test_a_process_that_dies_in_its_init_is_a_failed_start():
    world = World(supervisor("A"), {"A": ["die"]}).start()
    assert world.finished.error.reason == KILLED


# rows: 11, G3
def test_an_init_that_takes_too_long_is_killed():
    world = World(supervisor(specs("A", start_timeout=3.0)), {"A": ["hang"]}).start()
    world.tick(2.9)
    assert world.finished is None
    world.tick(0.2)
    assert "more than 3 s" in str(world.finished.error)


# rows: 11
def test_the_error_of_a_nested_supervisor_names_the_whole_path():
    inner = errors.StartError("child 'x' did not start: error: ValueError: boom", id="x", reason=BOOM)
    world = World(supervisor("A"), {"A": [inner]}).start()
    assert world.finished.error.id == "A"
    assert str(world.finished.error) == "child 'A' did not start: child 'x' did not start: error: ValueError: boom"


# rows: 14, 15
@pytest.mark.parametrize(("restart", "kept"), [("permanent", 1), ("transient", 1), ("temporary", 0)])
def test_ignore_counts_as_started_and_keeps_the_spec_unless_temporary(restart, kept):
    world = World(supervisor(specs("A", restart=restart)), {"A": ["ignore"], "B": ["ignore"]}).start()
    assert world.ready == 1
    assert world.counts() == (kept, 0, 0, kept)
    assert world.call("start_child", ChildSpec("B", Server, restart=restart)) is None
    assert world.counts() == (2 * kept, 0, 0, 2 * kept)


# rows: 16
def test_ignore_leaves_nothing_under_simple_one_for_one():
    world = World(supervisor("A", "simple_one_for_one"), {"A": ["ignore"]}).start()
    assert world.call("start_child", ()) is None
    assert world.core.children.rows() == []


# rows: 20
def test_a_taken_name_is_returned_unwrapped():
    taken = errors.AlreadyStarted("taken", ref=Ref("h", 1, 1, 1, "x"))
    world = World(supervisor(""), {"B": [taken]}).start()
    assert world.call("start_child", ChildSpec("B", Server)) is taken
    assert world.counts() == (0, 0, 0, 0)


# --- exits (rows 21 to 32) ----------------------------------------------------------------------------------


# rows: 21, 22, 23, 24, 25, 26, 27, 38
@pytest.mark.parametrize(
    ("restart", "reason", "again"),
    [
        *[("permanent", reason, True) for reason in (NORMAL, SHUTDOWN, INFO, BOOM, KILLED)],
        *[("transient", reason, False) for reason in (NORMAL, SHUTDOWN, INFO)],
        *[("transient", reason, True) for reason in (BOOM, KILLED)],
        *[("temporary", reason, False) for reason in (NORMAL, SHUTDOWN, INFO, BOOM, KILLED)],
    ],
)
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_who_is_restarted(strategy, restart, reason, again):
    children = [*specs("A"), ChildSpec("B", Server, restart=restart), *specs("C")]
    world = World(supervisor(children, strategy)).start()
    world.take()
    world.end("B", reason)
    after = {"one_for_one": "xB +B", "one_for_all": "xB -C -A +A +B +C", "rest_for_one": "xB -C +B +C"}
    assert world.take() == (after[strategy] if again else "xB")
    expected = {"A": "running", "B": "running" if again else "stopped", "C": "running"}
    if restart == "temporary":
        del expected["B"]
    assert world.states() == expected
    assert len(world.core.stamps) == again
    quiet = not again and not reason.abnormal
    assert [tell.kind for tell in world.told if tell.kind != "progress"] == ([] if quiet else ["child_terminated"])


# rows: 23
def test_the_id_of_a_temporary_child_is_free_at_once():
    world = World(supervisor(specs("A", restart="temporary"))).start()
    world.end("A")
    assert isinstance(world.call("start_child", ChildSpec("A", Server)), Ref)


# rows: 22
def test_a_transient_child_that_is_done_can_be_restarted_by_hand():
    world = World(supervisor(specs("A", restart="transient"))).start()
    world.end("A", NORMAL)
    assert world.counts() == (1, 0, 0, 1)
    assert isinstance(world.call("restart_child", "A"), Ref)
    assert world.core.stamps == ()


# rows: 28
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_temporary_bystander_is_stopped_and_forgotten(strategy):
    children = [*specs("A"), ChildSpec("B", Server, restart="temporary"), *specs("C")]
    world = World(supervisor(children, strategy)).start()
    world.end("A")
    assert world.take() == "+A +B +C xA -C -B +A +C"
    assert world.states() == {"A": "running", "C": "running"}


# rows: 29, 66
def test_a_group_restart_revives_children_that_were_stopped():
    world = World(supervisor("ABC", "one_for_all")).start()
    world.call("terminate_child", "C")
    assert world.counts() == (3, 2, 0, 3)
    world.end("A")
    assert world.counts() == (3, 3, 0, 3)


# rows: 31
def test_word_of_an_older_process_is_ignored():
    from supervisors.supervisor.events import Exited

    world = World(supervisor("A")).start()
    world.end("A")
    world.event(Exited(world.key("A"), 1, BOOM))
    assert world.take() == "+A xA +A"


# --- intensity and escalation (33 to 50) --------------------------------------------------------------------


# rows: 34, 35, 36, 40
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("intensity", [0, 1, 3])
def test_one_restart_too_many_ends_the_supervisor(strategy, intensity):
    world = World(supervisor("AB", strategy, intensity)).start()
    for _ in range(intensity):
        world.end("A")
    assert world.finished is None
    world.take()
    world.end("B")
    assert world.take() == "xB -A"
    assert world.finished.reason == SHUTDOWN
    last = world.told[-1]
    assert (last.kind, last.id, last.reason) == ("reached_max_restart_intensity", "B", BOOM)
    assert last.extra["count"] == intensity + 1


# rows: 33
def test_the_window_is_exact():
    world = World(supervisor("A", intensity=1, period=5.0)).start()
    world.end("A")
    world.tick(5.0)
    world.end("A")
    assert world.finished is None
    world.tick(4.9)
    world.end("A")
    assert world.finished is not None


# rows: 39, 50
def test_a_failed_attempt_counts_and_is_made_again_behind_what_waits():
    world = World(supervisor("A", intensity=4), {"A": ["ok", *["fail"] * 9]}).start()
    world.end("A")
    assert world.take() == "+A xA !A !A !A !A"
    assert world.finished.reason == SHUTDOWN
    assert world.told[-1].reason == BOOM


# rows: 37, 44
def test_one_for_all_begins_again_when_another_child_fails_in_the_restart():
    world = World(supervisor("AB", "one_for_all"), {"B": ["ok", "fail"]}).start()
    world.take()
    world.end("A")
    assert world.take() == "xA -B +A !B -A +A +B"
    assert len(world.core.stamps) == 2


# rows: 37, 45
def test_rest_for_one_retries_only_the_one_that_failed_and_its_followers():
    world = World(supervisor("AB", "rest_for_one"), {"B": ["ok", "fail"]}).start()
    world.take()
    world.end("A")
    assert world.take() == "xA -B +A !B +B"
    assert len(world.core.stamps) == 2


def retrying():
    """A world in which B's restart has failed and its next attempt hangs in the air (or in the back-off)."""
    backoff = Backoff(first=1.0, factor=2.0, limit=8.0, jitter=0.0)
    kids = [ChildSpec(each, Server, backoff=backoff if each == "B" else None) for each in "ABC"]
    world = World(supervisor(kids, "rest_for_one", 5), {"B": ["ok", "fail", "fail", "fail"]}).start()
    world.end("B")
    world.tick(1.0)
    return world


# rows: 46, 47, 64
def test_what_shows_while_an_attempt_waits():
    world = retrying()
    assert world.states() == {"A": "running", "B": "restarting", "C": "stopped"}
    assert world.counts() == (3, 1, 0, 3)
    assert isinstance(world.call("start_child", ChildSpec("B", Server)), errors.AlreadyPresent)
    assert isinstance(world.call("restart_child", "B"), errors.ChildRestarting)
    assert isinstance(world.call("delete_child", "B"), errors.ChildRestarting)


# rows: 46
def test_the_child_whose_death_began_it_is_not_restarting_when_an_earlier_one_fails():
    world = World(supervisor("ABC", "one_for_all", 5), {"A": ["ok", "hang", "hang"]}).start()
    world.end("B")
    assert world.states() == {"A": "restarting", "B": "restarting", "C": "stopped"}
    world.end("A")
    assert world.states() == {"A": "restarting", "B": "stopped", "C": "stopped"}  # A's next attempt is under way


# rows: 47
def test_terminate_child_cancels_the_attempts():
    world = retrying()
    world.take()
    assert world.call("terminate_child", "B") is None
    assert world.call("delete_child", "B") is None
    world.tick(100)
    assert world.take() == ""
    assert world.states() == {"A": "running", "C": "stopped"}


# rows: 48
def test_a_stop_is_served_between_attempts():
    world = retrying()
    world.take()
    world.shutdown()
    world.tick(100)
    assert world.take() == "-A"
    assert world.finished is not None


# rows: 49
@pytest.mark.parametrize(("strategy", "kept"), [("one_for_one", 1), ("simple_one_for_one", 0)])
def test_ignore_at_a_restart(strategy, kept):
    world = World(supervisor("A", strategy), {"A": ["ok", "ignore"]}).start()
    if strategy == "simple_one_for_one":
        world.call("start_child", ())
    world.end("A")
    assert len(world.core.children) == kept
    assert world.finished is None


def test_backoff_grows_in_a_row_and_begins_anew_after_a_good_run():
    backoff = Backoff(first=1.0, factor=2.0, limit=8.0, jitter=0.0)
    world = World(supervisor(specs("A", backoff=backoff), intensity=100), {}, rng=random.Random(1)).start()
    waits = []
    for rest in (0, 0, 0, 0, 0, 9.0):
        world.tick(rest)
        began = world.now
        world.end("A")
        assert world.states() == {"A": "restarting"}
        while not world.live:
            world.tick(0.5)
        waits.append(world.now - began)
    assert waits == [1.0, 2.0, 4.0, 8.0, 8.0, 1.0]


# --- stopping (51 to 61) ------------------------------------------------------------------------------------


# rows: 51, 52
def test_children_stop_in_reverse_order_one_by_one():
    world = World(supervisor("ABC")).start()
    world.take()
    world.deaf = {"C"}
    world.shutdown()
    assert world.take() == ""  # B and A are not asked before C is gone
    world.tick(5.0)
    assert world.take() == "-C -B -A"
    assert [tell.id for tell in world.told if tell.kind == "shutdown_error"] == ["C"]
    assert world.finished.reason == SHUTDOWN


# rows: 54
def test_brutal_kill_does_not_ask():
    world = World(supervisor(specs("A", shutdown="brutal_kill"))).start()
    world.shutdown()
    assert not world.asked
    assert "shutdown_error" not in [tell.kind for tell in world.told]


# rows: 55
def test_infinity_waits():
    world = World(supervisor(specs("A", shutdown="infinity"))).start()
    world.deaf = {"A"}
    world.shutdown()
    world.tick(1e6)
    assert world.finished is None


# rows: 32, 52
def test_asking_twice_does_not_prolong_a_stop():
    world = World(supervisor(specs("A", shutdown=5.0))).start()
    world.deaf = {"A"}
    world.shutdown()
    world.tick(4)
    world.shutdown(INFO)
    world.tick(1)
    assert world.finished.reason == SHUTDOWN


# rows: 57
@pytest.mark.parametrize(
    ("restart", "reason", "error"),
    [
        ("permanent", SHUTDOWN, False), ("permanent", INFO, True), ("permanent", NORMAL, True),
        ("transient", SHUTDOWN, False), ("transient", INFO, False), ("transient", NORMAL, False),
        ("temporary", SHUTDOWN, False), ("temporary", INFO, False), ("temporary", NORMAL, False),
        *[(restart, BOOM, True) for restart in ("permanent", "transient", "temporary")],
    ],
)  # fmt: skip
def test_who_is_reported_when_it_ends_by_itself_in_a_stop(restart, reason, error):
    world = World(supervisor(specs("A", restart=restart))).start()
    world.deaf = {"A"}
    world.shutdown()
    world.end("A", reason)
    assert world.finished is not None
    assert ("shutdown_error" in [tell.kind for tell in world.told]) == error


# rows: 58
def test_simple_one_for_one_stops_all_at_once():
    world = World(supervisor(specs("A", shutdown=2.0), "simple_one_for_one")).start()
    for _ in range(3):
        world.call("start_child", ())
    world.deaf = {"A"}
    world.shutdown()
    assert len(world.asked) == 3
    world.tick(2.0)
    assert world.finished is not None


def test_a_worker_in_its_init_is_killed_and_a_supervisor_asked():
    world = World(supervisor([ChildSpec("A", Server), ChildSpec("S", supervisor(""))]), {"S": ["hang"]}).start()
    world.shutdown()
    assert world.take() == "+A -S -A"
    assert len(world.asked) == 2
    world = World(supervisor("AB"), {"B": ["hang"]}).start()
    world.shutdown()
    assert world.take() == "+A -B -A"
    assert len(world.asked) == 1
    assert world.ready == 0


# --- calls (62 to 78) ---------------------------------------------------------------------------------------


# rows: 62, 63, 64, 65
def test_start_child():
    world = World(supervisor("A"), {"C": ["fail"]}).start()
    assert isinstance(world.call("start_child", ChildSpec("B", Server)), Ref)
    running = world.call("start_child", ChildSpec("B", Server))
    assert isinstance(running, errors.AlreadyStarted)
    assert running.ref == world.ref(2)
    failed = world.call("start_child", ChildSpec("C", Server))
    assert isinstance(failed, errors.StartError)
    assert (failed.id, failed.reason) == ("C", BOOM)
    assert list(world.states()) == ["A", "B"]
    world.call("terminate_child", "B")
    assert isinstance(world.call("start_child", ChildSpec("B", Server)), errors.AlreadyPresent)
    assert isinstance(world.call("start_child", "B"), errors.SpecError)
    world.take()
    world.shutdown()
    assert world.take() == "-A"


# rows: 66, 67, 68, 69, 71
def test_terminate_restart_delete():
    world = World(supervisor("AB"), {"B": ["ok", "fail"]}).start()
    assert isinstance(world.call("restart_child", "B"), errors.ChildRunning)
    assert isinstance(world.call("delete_child", "B"), errors.ChildRunning)
    assert world.call("terminate_child", "B") is None
    assert world.call("terminate_child", "B") is None
    assert isinstance(world.call("restart_child", "B"), errors.StartError)
    assert world.states() == {"A": "running", "B": "stopped"}
    assert isinstance(world.call("restart_child", "B"), Ref)
    world.call("terminate_child", "B")
    assert world.call("delete_child", "B") is None
    for call in ("terminate_child", "restart_child", "delete_child", "get_childspec"):
        assert isinstance(world.call(call, "B"), errors.ChildNotFound), call
    assert isinstance(world.call("terminate_child", world.ref(1)), errors.ChildNotFound)
    assert isinstance(world.call("sing"), errors.CallFailed)
    assert world.core.stamps == ()


# rows: 23, 66
def test_a_temporary_child_that_is_terminated_is_forgotten():
    world = World(supervisor(specs("A", restart="temporary"))).start()
    assert world.call("terminate_child", "A") is None
    assert world.states() == {}


# rows: 70
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_restart_child_starts_that_child_only(strategy):
    world = World(supervisor("ABC", strategy)).start()
    world.call("terminate_child", "A")
    world.take()
    world.call("restart_child", "A")
    assert world.take() == "+A"


# rows: 4, 72, 75
def test_rows_are_newest_first_and_specs_have_their_defaults():
    world = World(supervisor("AB")).start()
    assert [row.id for row in world.call("which_children")] == ["B", "A"]
    assert world.call("get_childspec", "A").shutdown == 5.0


# rows: 1, 77
def test_reads_are_answered_while_a_child_starts_and_changes_wait_in_turn():
    world = World(supervisor("A"), {"B": ["hang"]}).start()
    world.begin("slow", "start_child", ChildSpec("B", Server))
    world.begin("next", "terminate_child", "A")
    assert len(world.call("which_children")) == 2
    assert "next" not in world.answers
    world.end("B")
    assert isinstance(world.answers["slow"], errors.StartError)
    assert world.answers["next"] is None


# rows: 48, 76
def test_calls_that_wait_are_refused_at_the_end():
    world = World(supervisor("A"), {"B": ["hang"]}).start()
    world.begin("slow", "start_child", ChildSpec("B", Server))
    world.begin("next", "terminate_child", "A")
    world.shutdown()
    world.begin("late", "terminate_child", "A")
    assert all(isinstance(world.answers[who], errors.ServerExited) for who in ("slow", "next", "late"))


# --- simple_one_for_one (79 to 85) --------------------------------------------------------------------------


# rows: 72, 80, 81, 82, 83, 75
def test_simple_one_for_one():
    world = World(supervisor(specs("A", args=(1,)), "simple_one_for_one"), alive=lambda ref: ref.uid != "dead").start()
    first = world.call("start_child", (2, 3))
    assert world.live[1][1].args == (1, 2, 3)
    world.end(1)
    assert world.live[1][1].args == (1, 2, 3)
    second = world.core.children.rows()[0].ref
    assert second != first
    assert [row.id for row in world.call("which_children")] == [None]
    for call in ("restart_child", "delete_child", "terminate_child"):
        assert isinstance(world.call(call, "A"), errors.NotAllowed), call
    assert isinstance(world.call("start_child", ChildSpec("X", Server)), errors.SpecError)
    assert isinstance(world.call("terminate_child", Ref("h", 1, 1, 1, "stranger")), errors.ChildNotFound)
    assert world.call("terminate_child", Ref("h", 1, 1, 1, "dead")) is None
    assert world.call("get_childspec", second).args == (1, 2, 3)
    assert world.call("terminate_child", second) is None
    assert world.counts() == (1, 0, 0, 0)


# rows: 47, 84, 85
def test_the_old_ref_cancels_a_retry_under_simple_one_for_one():
    backoff = Backoff(first=1.0, jitter=0.0)
    world = World(supervisor(specs("A", backoff=backoff), "simple_one_for_one"), {"A": ["ok", "fail"]}).start()
    ref = world.call("start_child", ())
    world.end(1)
    world.tick(1.0)
    assert world.counts() == (1, 0, 0, 1)
    assert world.call("terminate_child", ref) is None
    world.tick(100)
    assert world.take() == "+A xA !A"


# --- significant children (86 to 92) ------------------------------------------------------------------------


def significant(ids="AB", restart="transient", rule="any_significant", **fields):
    children = [*specs("X"), *specs(ids, restart=restart, significant=True, **fields), *specs("Z")]
    return supervisor(children, auto_shutdown=rule)


# rows: 87, 88
@pytest.mark.parametrize(
    ("restart", "reason", "ends"),
    [("transient", NORMAL, True), ("transient", INFO, True), ("transient", BOOM, False),
     ("temporary", NORMAL, True), ("temporary", BOOM, True)],
)  # fmt: skip
def test_any_significant(restart, reason, ends):
    world = World(significant(restart=restart)).start()
    world.take()
    world.end("A", reason)
    assert world.take() == ("xA -Z -B -X" if ends else "xA +A")
    assert (world.finished is not None) == ends


# rows: 89
def test_all_significant_waits_for_the_last_one():
    world = World(significant(rule="all_significant")).start()
    world.end("A", NORMAL)
    assert world.finished is None
    world.end("B", NORMAL)
    assert world.finished.reason == SHUTDOWN


# rows: 89
def test_a_significant_child_that_waits_for_its_restart_counts_as_active():
    world = World(significant(rule="all_significant", backoff=Backoff())).start()
    world.end("A", BOOM)
    world.end("B", NORMAL)
    assert world.finished is None


# rows: 90
def test_terminate_child_does_not_trigger_it():
    world = World(significant()).start()
    world.call("terminate_child", "A")
    assert world.finished is None


# rows: 90
def test_the_end_of_others_does_not_trigger_it():
    world = World(significant()).start()
    world.end("X", NORMAL)
    assert world.finished is None
