"""Monitors and links of one process, without processes: what is said to whom, also to other hosts."""

import asyncio
import itertools

import pytest

from supervisors.errors import NoProcess
from supervisors.runtime.process.bonds import Bonds
from supervisors.terms.reason import KILLED, NODEDOWN, NOPROC, ExitReason
from supervisors.terms.ref import Ref
from supervisors.wire.messages import Link, Unlink, Unwatch, Watch

ME = Ref("10.0.0.1", 1, 1, 1, "me")
NEAR = Ref("10.0.0.1", 2, 2, 2, "near")
FAR = Ref("10.0.0.2", 3, 3, 3, "far")
BOOM = ExitReason("error", {"type": "E", "message": "boom", "traceback": ""})


class Peers:
    def __init__(self):
        self.dead, self.watched, self.answered, self.reason = set(), set(), [], NOPROC

    def watch(self, ref):
        if ref in self.dead:
            raise NoProcess("it has ended", reason=self.reason)
        if ref.host == ME.host:
            self.watched.add(ref)

    def sees(self, ref):
        return ref in self.watched

    def met(self, ref):
        self.answered.append(ref)

    def on_death(self, ref, callback):
        self.watch(ref)

    def awaited(self, ref):
        return False


class Calls:
    def __init__(self):
        self.ends, self.answers = [], []

    def asks(self, ref):
        return False

    def ended(self, ref, reason):
        self.ends.append((ref, reason))

    def answer(self, to, number, ok, value):
        self.answers.append((to, number, ok))


class Owner:
    ref = ME

    def __init__(self, loop):
        self.loop, self.peers, self.calls = loop, Peers(), Calls()
        self.posted, self.downs, self.signals, self.settling = [], [], [], []

    def post(self, to, message):
        self.posted.append((to, message))

    def down(self, number, ref, reason):
        self.downs.append((number, ref, reason))

    def exit_signal(self, ref, reason):
        self.signals.append((ref, reason))

    def settle(self, callback):
        self.settling.append(callback)


@pytest.fixture
def owner():
    loop = asyncio.new_event_loop()
    yield Owner(loop)
    loop.close()


@pytest.fixture
def bonds(owner):
    return Bonds(owner, itertools.count(1))


def turn(owner):
    """Run what was put off to the loop's next turn."""
    owner.loop.run_until_complete(asyncio.sleep(0))


# rows: X1
def test_a_monitor_on_this_host_speaks_when_the_process_is_gone_with_its_last_words(owner, bonds):
    first, second = bonds.monitor(NEAR), bonds.monitor(NEAR)
    assert owner.posted == [(NEAR, Watch("near", number, ME)) for number in (first, second)]
    bonds.is_ending(NEAR, BOOM)
    assert owner.downs == []
    bonds.bury(NEAR)
    assert owner.downs == [(first, NEAR, BOOM), (second, NEAR, BOOM)]
    bonds.bury(NEAR)
    assert len(owner.downs) == 2


# rows: X1
def test_a_monitor_on_another_host_speaks_at_its_last_word_or_when_nobody_takes_the_watch(owner, bonds):
    first = bonds.monitor(FAR)
    bonds.is_ending(FAR, BOOM)
    second = bonds.monitor(FAR)
    bonds.unwatchable(second)
    assert owner.downs == [(first, FAR, BOOM), (second, FAR, NOPROC)]


# rows: X1, X2
@pytest.mark.parametrize("last_words", [True, False])
def test_one_on_another_host_that_is_watched_there_speaks_when_it_is_gone_or_its_node(owner, bonds, last_words):
    owner.peers.watched.add(FAR)
    number = bonds.monitor(FAR)
    bonds.link(FAR)
    assert bonds.needs(FAR)
    bonds.unwatchable(number)  # nobody takes the Watch: the process is gone, or its whole node
    bonds.link_refused("far")
    if last_words:
        bonds.is_ending(FAR, BOOM)
    assert owner.downs == owner.signals == []
    bonds.bury(FAR, NODEDOWN)
    reason = BOOM if last_words else NODEDOWN
    assert (owner.downs, owner.signals) == ([(number, FAR, reason)], [(FAR, reason)])
    assert not bonds.needs(FAR)


# rows: X1, X2
@pytest.mark.parametrize("reason", [NODEDOWN, NOPROC])
def test_those_of_a_node_that_is_known_to_be_down_are_told_of_at_once(owner, bonds, reason):
    owner.peers.dead.add(FAR)
    owner.peers.reason = reason
    number = bonds.monitor(FAR)
    bonds.link(FAR)
    turn(owner)
    bonds.linked(FAR)
    owner.settling.pop()()
    assert owner.downs == [(number, FAR, reason)]
    assert owner.signals == [(FAR, reason), (FAR, NODEDOWN if reason == NODEDOWN else KILLED)]
    assert owner.posted == []


# rows: X1
def test_a_monitor_that_was_taken_back_says_nothing_and_a_refused_one_noproc(owner, bonds):
    taken_back, refused = bonds.monitor(NEAR), bonds.monitor(NEAR)
    bonds.demonitor(taken_back)
    assert owner.posted[-1] == (NEAR, Unwatch("near", taken_back, ME))
    bonds.unwatchable(refused)
    bonds.bury(NEAR)
    assert owner.downs == [(refused, NEAR, NOPROC)]
    looked_up = bonds.new_monitor()
    bonds.demonitor(looked_up)
    assert bonds.monitor(NEAR, looked_up) == looked_up
    bonds.bury(NEAR)
    assert len(owner.downs) == 1


# rows: X1
def test_one_that_accepted_its_watch_was_there(owner, bonds):
    taken_back, number = bonds.monitor(FAR), bonds.monitor(FAR)
    bonds.demonitor(taken_back)
    for each in (taken_back, number, 77):
        bonds.accepted(each)
    assert owner.peers.answered == [FAR]


# rows: X1
def test_the_dead_are_told_of_at_once_but_after_monitor_has_returned(owner, bonds):
    owner.peers.dead.add(NEAR)
    number = bonds.monitor(NEAR)
    bonds.link(NEAR)
    assert owner.downs == owner.signals == []
    turn(owner)
    assert owner.downs == [(number, NEAR, NOPROC)]
    assert owner.signals == [(NEAR, NOPROC)]


# rows: X2
@pytest.mark.parametrize("other", [NEAR, FAR])
def test_links_are_symmetric_idempotent_and_end_with_one_signal(owner, bonds, other):
    bonds.link(other)
    bonds.link(other)
    bonds.linked(other)  # both sides may have asked for it at the same time
    assert owner.posted == [(other, Link(other.uid, ME))]
    assert bonds.audience() == bonds.links == {other}
    bonds.is_ending(other, BOOM)
    bonds.bury(other)
    assert owner.signals == [(other, BOOM)]
    assert bonds.audience() == set()


# rows: X2
def test_an_unlinked_process_says_nothing_whoever_undid_the_link(owner, bonds):
    bonds.link(NEAR)
    bonds.unlink(NEAR)
    bonds.unlink(NEAR)
    assert [message for _, message in owner.posted] == [Link("near", ME), Unlink("near", ME)]
    bonds.linked(FAR)
    bonds.unlinked(FAR)
    for ref in (NEAR, FAR):
        bonds.is_ending(ref, BOOM)
        bonds.bury(ref)
    assert owner.signals == []


# rows: X2, X3
def test_one_that_linked_and_died_at_once_is_still_told_of_with_its_reason(owner, bonds):
    owner.peers.dead.add(NEAR)
    bonds.linked(NEAR)
    bonds.is_ending(NEAR, BOOM)
    owner.settling.pop()()
    assert owner.signals == [(NEAR, BOOM)]
    bonds.linked(NEAR)
    owner.settling.pop()()
    assert owner.signals[1:] == [(NEAR, KILLED)]


# rows: X2
def test_a_link_that_nobody_takes_is_noproc(owner, bonds):
    bonds.link(FAR)
    bonds.link_refused("far")
    bonds.link(NEAR)
    bonds.link_refused("near")
    bonds.bury(NEAR)
    assert owner.signals == [(FAR, NOPROC), (NEAR, NOPROC)]
    bonds.link(ME)
    assert bonds.links == set()
