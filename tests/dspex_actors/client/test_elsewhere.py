"""Runs that are another node's: who pauses and cancels them, and who waits for an optimisation whose node is gone."""

from types import SimpleNamespace

import pytest

from dspex_actors import ConfigError, RunInterrupted
from dspex_actors.client import elsewhere
from dspex_actors.client.elsewhere import Carried, have_done
from dspex_actors.journal.errors import Fenced, NotHere
from supervisors.cluster.membership.messages import Member
from supervisors.errors import CallTimeout, NodeDown

A, B, C = (Member(name, f"uid-{name}", "127.0.0.1", port) for port, name in enumerate("abc", 7001))


@pytest.fixture
def cluster(monkeypatch):
    """Nodes: what each answers, an error or a value; `own` is that of the connection."""
    answers, asked = {}, []

    def answer(name, request):
        asked.append((name, request[0]))
        found = answers[name]
        if isinstance(found, list):  # one after the other, the last one for good
            found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(elsewhere, "others_of", lambda folder: [one for one in (A, B, C) if one.name in answers])
    monkeypatch.setattr(elsewhere, "_ask_at", lambda folder, member, request: answer(member.name, request))
    monkeypatch.setattr(elsewhere, "place_of", lambda folder: answers.get("place", {"address": "there"}))
    monkeypatch.setattr(elsewhere, "POLL_LAST", 0.0)
    monkeypatch.setattr(elsewhere, "where_else", lambda folder: "; other nodes of its cluster: a")
    system = SimpleNamespace(
        data_dir="folder",
        journal=SimpleNamespace(get_run=lambda run_id, code: SimpleNamespace(owner=answers.get("owner"))),
        _ask=lambda *request, timeout=60.0: answer("own", request),
    )
    return SimpleNamespace(answers=answers, asked=asked, system=system)


def test_what_is_another_nodes_is_passed_on_to_the_one_that_has_it(cluster):
    cluster.answers |= {"own": Fenced("not mine"), "a": ConfigError("no run here"), "b": NotHere("no"), "c": "done"}
    assert have_done(cluster.system, "cancel", "r", "why") == "done"
    assert [name for name, _ in cluster.asked] == ["own", "a", "b", "c"]
    cluster.answers["own"] = "done here"
    assert have_done(cluster.system, "cancel", "r", "why") == "done here"


def test_where_its_node_has_just_died_who_takes_it_over_is_waited_for(cluster):
    cluster.answers |= {"own": [Fenced("not mine"), Fenced("not mine"), "taken"], "a": NodeDown("gone")}
    assert have_done(cluster.system, "pause", "r", "why") == "taken"
    cluster.answers |= {"own": NodeDown("gone"), "b": [Fenced("not mine"), "taken"]}
    assert have_done(cluster.system, "pause", "r", "why") == "taken"


def test_where_nobody_has_it_one_line_says_which_node_does_not_answer(cluster, monkeypatch):
    monkeypatch.setattr(elsewhere, "FIND_SECONDS", 0.0)
    cluster.answers |= {"own": Fenced("not mine"), "a": NodeDown("gone"), "b": Fenced("not mine")}
    words = r"run r is another node's, and a \(127.0.0.1:7001\) does not answer: pause it there, once it is back"
    with pytest.raises(NotHere, match=words):
        have_done(cluster.system, "pause", "r", "why")
    del cluster.answers["a"], cluster.answers["b"]
    with pytest.raises(NotHere, match="run r is that of a node which this one does not know: cancel it there"):
        have_done(cluster.system, "cancel", "r", "why")
    cluster.answers["own"] = NotHere("take it with --force-resume")
    with pytest.raises(NotHere, match="take it with --force-resume"):
        have_done(cluster.system, "resume", "r", False)


def test_one_that_is_alone_and_gone_is_told_at_once(cluster):
    cluster.answers |= {"own": NodeDown("gone"), "a": NodeDown("gone")}
    words = r"the node is gone; nor do the others of its cluster answer: a \(.*\): connect again, and pause run r there"
    with pytest.raises(RunInterrupted, match=words):
        have_done(cluster.system, "pause", "r", "why")
    cluster.answers["own"] = CallTimeout("slow")
    with pytest.raises(RunInterrupted, match="the node does not answer"):
        have_done(cluster.system, "pause", "r", "why")


def test_a_run_of_several_disks_is_resumed_where_its_refusal_says(cluster):
    cluster.answers |= {"own": NotHere("resume it on b"), "b": "done", "place": None}
    with pytest.raises(NotHere, match="resume it on b"):
        have_done(cluster.system, "resume", "r", False)
    del cluster.answers["place"]
    assert have_done(cluster.system, "resume", "r", False) == "done"


class _Other:
    """A connection to another node of the journal."""

    def __init__(self, cluster, member):
        self.cluster, self.member, self.is_closed = cluster, member, False

    def call(self, name, request, timeout):
        return "ok", elsewhere._ask_at(None, self.member, request)

    def close(self):
        self.is_closed = True


def test_who_waits_for_an_optimisation_of_a_dead_node_waits_on_while_another_has_it(cluster, monkeypatch):
    by_address = {member.address: member for member in (A, B, C)}
    attached = []

    def attach(folder, home, at):
        if isinstance(cluster.answers[by_address[at].name], NodeDown):
            raise cluster.answers[by_address[at].name]
        attached.append(_Other(cluster, by_address[at]))
        return attached[-1]

    monkeypatch.setattr(elsewhere.Node, "attach", attach)
    carried = Carried(cluster.system, "o")
    cluster.answers |= {"own": "me", "owner": "me"}
    carried.check()
    cluster.answers |= {"own": NodeDown("gone"), "a": NodeDown("gone"), "b": "bee", "c": "sea"}
    carried.check()  # nobody has taken it yet
    cluster.answers["owner"] = "sea"
    carried.check()
    assert [(one.member.name, one.is_closed) for one in attached[-2:]] == [("b", True), ("c", False)]
    count = len(attached)
    carried.check()
    assert len(attached) == count  # it is known by now where it is
    cluster.answers |= {"c": NodeDown("gone"), "owner": "bee"}
    carried.check()
    assert attached[-1].member is B
    monkeypatch.setattr(elsewhere, "FIND_SECONDS", 0.0)
    cluster.answers["owner"] = "nobody that there is"
    carried.check()
    with pytest.raises(RunInterrupted, match=r"the node went away; .*other nodes of its cluster: a"):
        carried.check()
    carried.close()
    assert all(one.is_closed for one in attached)


@pytest.fixture
def copies(cluster, monkeypatch):
    """What other nodes say of an optimisation whose node is gone: states, the last one for good; None: nothing."""
    cluster.answers |= {"own": NodeDown("gone"), "place": None, "a": "a"}
    seen = []

    class Followed:
        def __init__(self, run_id, ask, data_dir, journal, patience):
            self.away, self.is_closed = None, False
            seen.append(self)

        def look(self):
            found = cluster.seen.pop(0) if len(cluster.seen) > 1 else cluster.seen[0]
            if found is None:
                raise RunInterrupted("nobody has it")
            self.away = B
            return {"summary": {"state": found, "reason": "why"}}

        def results(self, *, with_parts):
            return "fetched", with_parts

        def close(self):
            self.is_closed = True

    monkeypatch.setattr(elsewhere, "Following", Followed)
    return seen


def test_who_waits_for_an_optimisation_of_a_dead_node_follows_it_at_its_standby(cluster, copies):
    cluster.seen = [None, "running", None, "finished"]
    carried = Carried(cluster.system, "o")
    assert carried.fetched() is None
    for state in ("running", "running", "running", "finished"):
        carried.check()
        assert carried.standing()[0] == state
    assert carried.standing() == ("finished", "why")
    assert carried.fetched() == ("fetched", True)
    carried.close()
    assert [one.is_closed for one in copies] == [True]


def test_a_journal_of_the_nodes_own_goes_with_it_where_no_node_has_a_copy(cluster, copies, monkeypatch):
    words = r"Go on with system.optimization\('o'\).resume\(\); other nodes"
    cluster.seen = [None]
    carried = Carried(cluster.system, "o")
    carried.check()
    monkeypatch.setattr(elsewhere, "FIND_SECONDS", -1.0)
    with pytest.raises(RunInterrupted, match=words):
        carried.check()
    del cluster.answers["a"]
    monkeypatch.setattr(elsewhere, "FIND_SECONDS", 60.0)
    with pytest.raises(RunInterrupted, match=words):
        Carried(cluster.system, "o").check()  # it was alone
