"""The node's own names: what a registry that is killed leaves to its successor."""

import signal

import pytest
from node_helpers import Counter, kill, until

from supervisors import ChildSpec, Ref, errors
from supervisors.runtime.node.registry import SPARE_LINES, NameFile


def ref(number):
    return Ref("h", number, number, number, str(number))


# rows: G5
def test_the_names_of_the_living_are_read_again(tmp_path):
    path = tmp_path / "names"
    first = NameFile(path, "run")
    assert first.load(lambda each: True) == {}
    names = {}
    for number, name in enumerate(["a", "b", "new\nline", "\udc80", "a"]):
        names[name] = ref(number)
        first.add(name, names[name], names)
    assert NameFile(path, "run").load(lambda each: True) == names
    del names["b"]
    assert NameFile(path, "run").load(lambda each: each != ref(1)) == names
    with path.open("a") as file:
        file.write('["c", "h", 1')  # killed in the middle of it
    assert NameFile(path, "run").load(lambda each: True) == names
    path.write_text(path.read_text() + '["c", "h", 1["d", 5]\n[]\n')
    assert NameFile(path, "run").load(lambda each: True) == names
    assert NameFile(path, "another run").load(lambda each: True) == {}
    assert path.stat().st_mode & 0o077 == 0


# rows: R16
def test_the_file_of_names_stays_small(tmp_path):
    path = tmp_path / "names"
    names = NameFile(path, "run")
    names.load(lambda each: True)
    for number in range(3 * SPARE_LINES):
        names.add("a", ref(number), {"a": ref(number)})
    assert len(path.read_text().split("\n")) < SPARE_LINES + 10
    assert NameFile(path, "run").load(lambda each: True) == {"a": ref(3 * SPARE_LINES - 1)}


# rows: G5, 20
def test_a_name_is_not_taken_from_a_holder_that_is_slow_after_the_registry_was_killed(node, supervise):
    top = supervise([ChildSpec("holder", Counter, name="held")])
    holder = node.whereis("held")
    kill(holder.pid, signal.SIGSTOP)
    try:
        kill(next(row["pid"] for row in node.tree()["children"] if row["id"] == "registry"))
        with pytest.raises(errors.AlreadyStarted) as failed:
            node.start_child(top, ChildSpec("thief", Counter, name="held"))
        assert failed.value.ref == holder
    finally:
        kill(holder.pid, signal.SIGCONT)
    assert node.call("held", "pid") == holder.pid
    kill(holder.pid)
    until(lambda: node.whereis("held") not in (None, holder))
