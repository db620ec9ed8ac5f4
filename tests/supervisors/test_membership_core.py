"""The membership's decisions without a process: which news counts, suspicion, fences; whole clusters in memory."""

import random
from dataclasses import replace
from types import SimpleNamespace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from supervisors.cluster.membership import file, server
from supervisors.cluster.membership.core import Core, Round
from supervisors.cluster.membership.effects import Changed, Down, Send, Twin, Up
from supervisors.cluster.membership.gossip import MAX_NEWS, Gossip
from supervisors.cluster.membership.messages import ALIVE, CORDONED, DOWN, SUSPECT, Member
from supervisors.cluster.membership.suspicion import LEAST_SECONDS, MOST, Suspicion
from supervisors.cluster.membership.table import LEFT, Known, known_of, overrides, refusal, row_of
from supervisors.testing.membership import MembershipWorld


def member(name, incarnation=1, seq=0, **fields):
    return Member(name, f"uid-{name}", f"10.0.0.{ord(name[0])}", 7000, incarnation, seq=seq, **fields)


def core_of(*others, name="a"):
    core = Core(member(name), 0.0, random.Random(1))
    for other in others:
        core.join(Known(other), 0.0)
    core.next_at(0.0)
    return core


def said(about, status, by, size=2):
    """A datagram of b with what it says of another."""
    news = msgpack.packb([about.uid, status, about.incarnation, about.seq, by, size])
    return msgpack.packb([5, 0, "", row_of(Known(member("b"))), [news]])


# --- which news is newer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "news", "changes"),
    [
        # what is known: status, incarnation, seq; the news; whether it changes anything
        ((ALIVE, 1, 3), (ALIVE, 1, 4), True),
        ((ALIVE, 1, 3), (ALIVE, 1, 3), False),
        ((ALIVE, 1, 3), (ALIVE, 1, 2), False),
        ((ALIVE, 1, 3), (ALIVE, 2, 0), True),
        ((ALIVE, 1, 3), (SUSPECT, 1, 3), True),
        ((ALIVE, 1, 3), (SUSPECT, 1, 2), False),
        ((SUSPECT, 1, 3), (ALIVE, 1, 3), False),
        ((SUSPECT, 1, 3), (ALIVE, 1, 4), True),
        ((SUSPECT, 1, 3), (SUSPECT, 1, 3), False),
        ((ALIVE, 1, 3), (DOWN, 1, 0), True),
        ((ALIVE, 2, 0), (DOWN, 1, 9), False),
        ((DOWN, 1, 3), (ALIVE, 1, 9), False),
        ((DOWN, 1, 3), (ALIVE, 2, 0), True),
        ((DOWN, 1, 3), (SUSPECT, 1, 9), False),
        ((DOWN, 1, 3), (LEFT, 1, 3), True),
        ((LEFT, 1, 3), (DOWN, 1, 3), False),
        ((LEFT, 1, 3), (LEFT, 1, 3), False),
        ((LEFT, 1, 3), (ALIVE, 2, 0), True),
    ],
)
def test_which_news_changes_what_is_known(known, news, changes):
    status, incarnation, seq = known
    assert overrides(Known(member("b", incarnation, seq), status), *news) is changes


_NEWS = st.tuples(st.sampled_from([ALIVE, SUSPECT, DOWN, LEFT]), st.integers(1, 3), st.integers(0, 3))


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(_NEWS, max_size=8), st.randoms())
def test_in_whatever_order_news_comes_all_end_with_the_same(news, chance):
    """Duplicated and reordered datagrams have no effect."""

    def heard(rows):
        core = core_of(member("b", 1, 0))
        for status, incarnation, seq in rows:
            core.merge([row_of(Known(member("b", incarnation, seq), LEFT if status == DOWN else status))], 1.0)
        found = core.table["uid-b"]
        return found.status, found.member.incarnation if found.is_up else 0

    shuffled = [*news, *news]
    chance.shuffle(shuffled)
    assert heard(shuffled) == heard(heard_in_order(news))


def heard_in_order(news):
    """The order in which they were said."""
    rank = {ALIVE: 0, SUSPECT: 1, DOWN: 2, LEFT: 2}
    return sorted(news, key=lambda each: (each[1], rank[each[0]] == 2, each[2], rank[each[0]]))


@settings(max_examples=examples(100), deadline=None)
@given(
    st.builds(
        Member,
        name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
        uid=st.text("0123456789abcdef", min_size=16, max_size=16),
        host=st.just("10.1.2.3"),
        port=st.integers(1, 65535),
        incarnation=st.integers(0, 1 << 40),
        labels=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=4),
        state=st.sampled_from([ALIVE, CORDONED]),
        load=st.floats(0, 100),
        workers=st.integers(0, 1000),
        seq=st.integers(0, 1 << 40),
    )
)
def test_a_row_says_all_of_a_member(one):
    assert known_of(msgpack.unpackb(msgpack.packb(row_of(Known(one, SUSPECT))))) == Known(one, SUSPECT)


@pytest.mark.parametrize("place", range(15))
@pytest.mark.parametrize("wrong", [None, -1, [], "\ud800", True, 1 << 70])
def test_what_is_no_row_is_refused(place, wrong):
    row = row_of(Known(member("b")))
    row[place] = wrong
    try:
        known_of(row)
    except ValueError:
        return
    row[place] = row_of(Known(member("b")))[place]
    assert type(row[place]) is type(wrong) or isinstance(wrong, int | bool | str)


# --- a node alone with its datagrams --------------------------------------------------------------------------------


def test_a_node_refutes_suspicion_by_its_next_word_and_death_by_its_next_incarnation():
    core = core_of(member("b"))
    core.received(said(core.me, SUSPECT, by="uid-b"), "10.0.0.98", 7000, 1.0)
    assert (core.me.incarnation, core.me.seq) == (1, 1)
    effects = core.received(said(core.me, DOWN, by="uid-b"), "10.0.0.98", 7000, 1.0)
    assert (core.me.incarnation, core.me.seq) == (2, 0)
    assert Changed(core.me) in effects  # what it owned is fenced, and its servers are told
    core.received(said(member("a", 1, 9), SUSPECT, by="uid-b"), "10.0.0.98", 7000, 1.0)  # old news
    assert (core.me.incarnation, core.me.seq) == (2, 0)


def test_a_node_that_was_started_anew_at_once_was_down_and_is_up():
    core = core_of(member("b", 1, 5))
    effects = core.merge([row_of(Known(member("b", 2, 0)))], 1.0)
    assert [type(effect) for effect in effects] == [Down, Up]
    assert (effects[0].member.incarnation, effects[1].member.incarnation) == (1, 2)


def test_that_somebody_is_down_is_only_a_suspicion_when_it_comes_from_the_other_half_of_a_partition():
    core = core_of(member("b"), member("c"))
    core.merge([row_of(Known(member("b"), DOWN))], 1.0)
    assert core.table["uid-b"].status == SUSPECT


ROWS = st.lists(st.tuples(st.sampled_from("bcdef"), st.integers(1, 3), st.integers(0, 3)), max_size=8)


@given(ROWS, ROWS)
@settings(max_examples=examples(100))
def test_two_that_compare_marks_know_the_same_afterwards_and_only_what_differs_is_told(mine, theirs):
    one, other = core_of(), core_of(name="z")
    for core, known in ((one, mine), (other, theirs)):
        core.merge([row_of(Known(member(*each))) for each in known], 1.0)
    before = {row[0]: row for row in map(tuple, one.marks())}
    differs = {row[0] for row in map(tuple, other.marks()) if before.get(row[0]) != row} | {
        uid for uid in before if uid not in {row[0] for row in other.marks()}
    }
    told, wanted = other.compared(one.marks())
    back = one.rows_of(wanted)
    assert {row[0] for row in (*told, *back)} == differs
    one.merge(told, 2.0)
    other.merge(back, 2.0)
    assert sorted(one.marks()) == sorted(other.marks())
    assert other.compared(one.marks()) == ([], [])


def test_what_is_no_mark_is_refused():
    for mark in ([], ["b"], ["b", ALIVE, 1], ["b", ALIVE, "1", 2], 3, ["b", ALIVE, 1, 2, 3]):
        with pytest.raises(ValueError, match="no mark of a member"):
            core_of().compared([mark])


def test_who_was_there_last_is_down_until_it_is_heard_of_and_then_up_whatever_its_incarnation():
    core = core_of()
    core.remember([member("b", 7, 7)], 0.0)
    assert [m.state for m in core.members(0.0)] == [ALIVE, DOWN]
    assert Up(member("b", 1, 0)) in core.merge([row_of(Known(member("b", 1, 0)))], 1.0)


def test_a_copied_data_folder_is_told_and_nothing_is_refuted():
    core = core_of(member("b"))
    twin = replace(core.me, host="10.9.9.9", incarnation=5)
    payload = msgpack.packb([5, 0, "", row_of(Known(twin)), []])
    assert core.received(payload, "10.9.9.9", 7000, 1.0) == [Twin("10.9.9.9:7000")]
    assert core.me.incarnation == 1


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=200) | st.recursive(st.integers(-9, 9) | st.text() | st.none(), st.lists).map(msgpack.packb))
def test_what_is_no_datagram_changes_nothing(payload):
    core = core_of(member("b"))
    before = dict(core.table), core.me
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever msgpack raises; the server takes all
        core.received(payload, "10.0.0.9", 1, 1.0)
    assert (dict(core.table), core.me) == before


def test_no_datagram_is_longer_than_its_limit_however_much_there_is_to_tell():
    core = core_of(*(member(chr(98 + n), labels={"label": "x" * 200}) for n in range(20)))
    sent = [effect for n in range(200) for effect in core.tick(n * 0.1) if isinstance(effect, Send)]
    assert sent
    assert max(len(effect.payload) for effect in sent) + 64 <= 1200
    assert MAX_NEWS + 64 <= 1200


def test_a_clock_that_was_not_looked_at_blames_nobody():
    """A process that was stopped, or did not run: while it did not listen, nothing could be heard."""
    core = core_of(*(member(chr(98 + n)) for n in range(5)))
    now = 0.0
    while core._probe is None:
        now = core.next_at(now)
        core.tick(now)
    core.next_at(now)
    effects = core.tick(now + 20.0)
    assert not [effect for effect in effects if isinstance(effect, Down | Changed)]


# --- who may join ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "others", "told"),
    [
        (member("a"), [], "is this node itself"),
        (replace(member("a"), port=1), [], "the same data folder runs at 10.0.0.97:7000"),
        (replace(member("x"), host="127.0.0.1"), [], "has started on loopback (127.0.0.1)"),
        (replace(member("x"), name="b"), [member("b")], "the name b is taken by the node at 10.0.0.98:7000"),
        (replace(member("x"), uid="uid-b"), [member("b")], "the same data folder runs at 10.0.0.98:7000"),
        (replace(member("x"), host="10.0.0.98"), [member("b")], "the address 10.0.0.98:7000 is that of the node b"),
        (replace(member("x"), name="b"), [replace(member("b"), state=DOWN)], None),
        (member("b", 2), [member("b")], None),
        (member("x"), [member("b")], None),
    ],
)
def test_who_may_join(new, others, told):
    found = refusal(others, new, member("a"))
    assert found is None if told is None else told in found
    assert found is None or "\n" not in found


# --- the parts ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers())
def test_each_has_its_turn_once_in_a_round(size, seed):
    turns = Round(random.Random(seed))
    for _ in range(3):
        assert sorted(turns.next(size) for _ in range(size)) == list(range(size))


def test_others_that_suspect_it_too_shorten_the_time_of_a_suspect():
    suspicion = Suspicion(0.0, 50, "a")
    assert suspicion.ends_at == LEAST_SECONDS * MOST
    times = [suspicion.ends_at]
    for by in ("b", "b", "c", "d", "e"):
        suspicion.confirm(by, 0.1)
        times.append(suspicion.ends_at)
    assert times[1] == times[2]  # the same one twice is one
    assert times[-1] == times[-2] == LEAST_SECONDS
    assert times == sorted(times, reverse=True)
    assert Suspicion(0.0, 2, "a").ends_at == LEAST_SECONDS  # nobody else could


def test_news_is_told_a_limited_number_of_times_the_urgent_first_and_the_newest_of_each_alone():
    gossip = Gossip()
    gossip.add("b", ["b", 1], 3, is_urgent=False)
    gossip.add("b", ["b", 2], 3, is_urgent=False)
    gossip.add("c", ["c"], 3, is_urgent=True)
    assert gossip.take(1000, but="") == [msgpack.packb(["c"]), msgpack.packb(["b", 2])]
    assert gossip.take(6, but="") == [msgpack.packb(["c"])]
    for _ in range(20):
        gossip.take(1000, but="")
    assert gossip.take(1000, but="") == []
    assert not gossip.is_urgent


# --- whole clusters in memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 10, 60])
def test_a_host_that_vanishes_is_down_for_all_within_five_seconds_and_nobody_else_is(size):
    world = MembershipWorld(size, loss=0.02, seed=size)
    world.run(3.0)
    died = world.now
    world.kill("n1")
    world.run(8.0)
    assert set(world.down_at) == {"n1"}
    assert len(world.down_at["n1"]) == size - 1
    assert max(world.down_at["n1"].values()) - died < 5.0


def test_five_percent_of_all_datagrams_lost_and_one_node_slow_is_no_death():
    world = MembershipWorld(30, loss=0.05, seed=5)
    world.run(60.0)
    assert not world.down_at


def test_where_all_are_slow_to_answer_nobody_asks_more_than_in_quiet_times_and_all_is_well_again_afterwards():
    """Else a host that has more to do than it can has several times as much to do, and does not get out of it."""
    world = MembershipWorld(30)
    world.run(10.0)
    quiet = world.sent
    world.run(20.0)
    quiet = world.sent - quiet
    world._delay = 0.4, 1.2
    world.run(30.0)
    slow = world.sent
    world.run(20.0)
    assert world.sent - slow < 1.5 * quiet
    assert (world.suspected, dict(world.down_at)) == (0, {})
    world._delay = 0.0002, 0.002
    world.run(60.0)
    assert {core.health.score for core in world.cores} == {0}
    world.kill("n7")
    world.run(5.0)
    assert len(world.down_at["n7"]) == 29


@pytest.mark.parametrize("seconds", [0.5, 20.0])
def test_a_node_that_is_paused_is_back_by_itself_and_fenced_if_it_was_down(seconds):
    world = MembershipWorld(8, seed=3)
    world.run(3.0)
    world.pause("n2", seconds)
    world.run(seconds + 8.0)
    assert set(world.down_at) <= {"n2"}
    assert all(core.table[world.members[2].uid].status == ALIVE for core in world.cores if core.me.name != "n2")
    assert world.core("n2").me.incarnation == (2 if seconds > 5 else 1)
    assert bool(world.up_at["n2"]) is (seconds > 5)


@pytest.mark.parametrize("one_way", [False, True])
def test_the_halves_of_a_partition_find_each_other_again(one_way):
    world = MembershipWorld(10, seed=4)
    world.run(3.0)
    left = {f"n{number}" for number in range(4)}
    world.cut = (lambda a, b: a in left and b not in left) if one_way else (lambda a, b: (a in left) != (b in left))
    world.run(20.0)
    world.cut = lambda a, b: False
    world.run(20.0)
    for core in world.cores:
        assert {known.status for uid, known in core.table.items() if uid != core.me.uid} == {ALIVE}
    # Those who were the more had been right all the time: nothing of theirs is fenced.
    if not one_way:
        assert [core.me.incarnation for core in world.cores] == [2] * 4 + [1] * 6
        assert not [name for name, times in world.down_at.items() if name not in left and not set(times) <= left]


def test_what_a_node_costs_does_not_depend_on_how_many_there_are():
    rates = []
    for size in (20, 200):
        world = MembershipWorld(size)
        world.run(2.0)
        before = world.sent
        world.run(5.0)
        rates.append((world.sent - before) / size / 5.0)
    assert rates[1] < 1.2 * rates[0] < 8


@pytest.mark.parametrize(
    ("changed", "at_once"),
    [
        ({"uid": "uid-b", "load": 0.5, "seq": 5000}, False),
        ({"uid": "uid-b", "state": "draining"}, False),
        ({"load": 0.5}, False),
        ({"seq": 899}, False),
        ({"seq": 901}, True),
        ({"state": "cordoned"}, True),
        ({"incarnation": 4}, True),
    ],
)
def test_only_what_the_next_start_needs_is_written_at_once(changed, at_once):
    me = member("a", 3, 7)
    other = replace(me, **changed)
    kept = file.Kept(me.uid, incarnation=3, seq=1000)
    shell = SimpleNamespace(_core=SimpleNamespace(me=other if other.uid == me.uid else me), _kept=kept)
    within = server.Membership._kept_within(shell, other)
    assert within == (server.SAVE_SECONDS if at_once else server.SAVE_NEWS_SECONDS)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_host_that_vanishes_is_noticed_within_three_seconds_whichever_it_is(seed):
    """Each is looked after by the one before it, or the one before that; by chance alone some wait for 4 s."""
    world = MembershipWorld(20, 0.05, seed=seed)
    world.run(6.0)
    for number in range(6):
        died = world.now
        world.kill(f"n{number}")
        world.run(5.0)
        found = world.down_at[f"n{number}"]
        assert max(found.values()) - died <= 3.0
        assert len(found) == 19 - number


@pytest.mark.parametrize(
    ("facts", "is_told"),
    [
        ({"load": 0.2}, False),
        ({"load": 0.3}, True),
        ({"work": 1}, True),
        ({"load": 0.2, "work": 1}, True),
        ({"load": 0.0, "state": "draining"}, True),
    ],
)
def test_a_load_that_changed_little_is_no_news(facts, is_told):
    """Else the datagrams of a hundred idle nodes are full of it, and each takes all of them apart."""
    core = MembershipWorld(3).core("n1")
    before = core.me
    core.tell(facts, 100.0)
    assert (core.me != before) is is_told
    assert core.me.seq == before.seq + is_told


def test_small_changes_of_a_load_are_told_once_they_are_a_large_one():
    core = MembershipWorld(3).core("n1")
    for step in range(1, 11):
        core.tell({"load": step / 10}, 100.0 + step)
    assert core.me.load == 0.9
    core.tell({"work": 100}, 200.0)
    core.tell({"work": 110}, 201.0)
    assert core.me.work == 100
    core.tell({"work": 0}, 202.0)
    assert core.me.work == 0
