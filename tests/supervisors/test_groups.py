"""Process groups, as Erlang's pg: the pure table, and the running server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from node_helpers import Counter, kill, until

from supervisors import AsyncGroups, ChildSpec, GroupChange, Groups, ProcessGroups, Ref, errors
from supervisors.groups.core import GroupTable


def ref(number):
    return Ref("h", number, number, number, str(number))


A, B, C = ref(1), ref(2), ref(3)


# rows: X7
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["join", "leave", "drop"]),
            st.sampled_from([1, 1.0, True, "g"]),
            st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3),
        ),
        max_size=25,
    )
)
def test_a_process_is_a_member_until_it_has_left_as_often_as_it_joined(steps):
    table, model = GroupTable(), {}
    for what, group, members in steps:
        present = model.setdefault((type(group), group), [])
        if what == "join":
            table.join(group, members)
            present.extend(members)
        elif what == "leave":
            expected = []
            for member in members:
                if member in present:
                    present.remove(member)
                    expected.append(member)
            if expected:
                assert table.leave(group, members) == expected
            else:
                with pytest.raises(errors.NotJoined):
                    table.leave(group, members)
        else:
            gone = table.drop(members[0])
            assert sum(len(times) for _, times in gone) == sum(each.count(members[0]) for each in model.values())
            model = {key: [each for each in value if each != members[0]] for key, value in model.items()}
        for kind, name in [(int, 1), (float, 1.0), (bool, True), (str, "g")]:
            assert table.members(name) == model.get((kind, name), [])
        assert len(table.which_groups()) == sum(1 for value in model.values() if value)
    for member in (A, B, C):
        table.drop(member)
    assert not table._groups
    assert not table._joined


class Member(Counter):
    """Joins and leaves by itself."""

    async def handle_call(self, request, caller):
        match request:
            case ("groups", method, arguments):
                return await getattr(AsyncGroups(self, "pg"), method)(*arguments)
        return super().handle_call(request, caller)

    def handle_info(self, message):
        self.seen.append(message)


@pytest.fixture
def groups(node, supervise):
    supervise(
        [ChildSpec("pg", ProcessGroups, name="pg")]
        + [ChildSpec(name, Member, name=name, restart="temporary") for name in "abc"]
    )
    return Groups(node, "pg")


# rows: X7
def test_join_and_leave(node, groups):
    a, b = node.whereis("a"), node.whereis("b")
    node.call("a", ("groups", "join", ("g",)))
    groups.join("g", a, b)
    groups.join("other", b)
    assert groups.members("g") == [a, a, b]
    assert sorted(groups.which_groups()) == ["g", "other"]
    groups.leave("g", a)
    assert groups.members("g") == [a, b]
    node.call("a", ("groups", "leave", ("g",)))
    assert groups.members("g") == [b]
    assert node.call("b", ("groups", "members", ("g",))) == [b]
    with pytest.raises(errors.NotJoined):
        groups.leave("g", a)
    with pytest.raises(errors.NotJoined):
        groups.leave("nothing", a)
    groups.leave("g", b)
    assert groups.members("g") == []
    assert groups.which_groups() == ["other"]


# rows: X7
def test_dead_members_and_empty_groups_vanish(node, groups):
    a, b = node.whereis("a"), node.whereis("b")
    groups.join("g", a, a, b)
    groups.join("alone", a)
    kill(a.pid)
    until(lambda: groups.members("g") == [b])
    assert groups.which_groups() == ["g"]
    with pytest.raises(errors.NoProcess):
        groups.join("g", a)
    node.stop(b)
    until(lambda: groups.which_groups() == [])


# rows: X7
def test_a_monitor_of_a_group_sees_joins_leaves_and_deaths(node, groups):
    a, b = node.whereis("a"), node.whereis("b")
    groups.join("g", a)
    monitor, members = node.call("c", ("groups", "monitor", ("g",)))
    assert members == [a]
    groups.join("g", b, b)
    groups.join("other", b)
    groups.leave("g", a)
    kill(b.pid)
    until(lambda: len(node.call("c", "seen")) >= 3)
    expected = [("join", [b, b]), ("leave", [a]), ("leave", [b, b])]
    assert node.call("c", "seen") == [GroupChange(monitor, kind, "g", members) for kind, members in expected]
    node.call("c", ("groups", "demonitor", (monitor,)))
    groups.join("g", a)
    assert len(node.call("c", "seen")) == 3


# rows: X7
def test_a_monitor_is_set_for_another_and_goes_with_it(node, groups):
    a, b, c = (node.whereis(name) for name in "abc")
    monitor, members = groups.monitor("g", watcher=c)
    assert members == []
    groups.monitor("g", watcher=b)
    groups.join("g", b)
    until(lambda: node.call("c", "seen") == [GroupChange(monitor, "join", "g", [b])])
    kill(b.pid)
    until(lambda: len(node.call("c", "seen")) == 2)
    groups.join("g", a)
    until(lambda: len(node.call("c", "seen")) == 3)
    groups.demonitor(monitor)
    with pytest.raises(errors.NoProcess):
        groups.monitor("g", watcher=b)
    with pytest.raises(errors.SpecError):
        groups.monitor("g")


# rows: X7
def test_only_processes_of_this_node_join(node, groups):
    for wrong in (Ref("10.0.0.9", 1, 1, 1, "x"), "a"):
        with pytest.raises(errors.SpecError):
            groups.join("g", wrong)
    with pytest.raises(errors.SpecError):
        groups.join("g")
    with pytest.raises(errors.CallFailed):
        node.call("pg", "junk")
    with pytest.raises(errors.NoProcess, match="nowhere"):
        Groups(node, "nowhere").members("g")
    assert groups.which_groups() == []
