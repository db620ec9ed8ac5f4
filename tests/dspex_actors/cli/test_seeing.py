"""`dspex top`, `tree --watch` and `failures`: what they make of what they see; live pages on a real terminal."""

import fcntl
import io
import json
import os
import pty
import select
import struct
import sys
import termios
import time

import pytest
import warm
from rich.console import Console

from dspex_actors.cli import processes
from dspex_actors.cli.failures import lives_of
from dspex_actors.cli.look import Lights
from dspex_actors.cli.top import Row, Sample, ordered, page, rows
from supervisors import ExitReason, Node, ProcessStats, Report


def actor(name, pid, restarts=0, children=(), kind="worker", state="running"):
    return {"id": name, "name": name, "type": kind, "state": state, "pid": pid, "restarts": restarts,
            "children": list(children)}  # fmt: skip


def root(*children):
    return actor("root", 1, children=children, kind="supervisor")


def sample(at, messages, cpu, pid=7):
    usage = {pid: processes.Usage(10_000_000, cpu, at, proportional=True)}
    return Sample(at, root(actor("w", pid)), {pid: ProcessStats(pid, messages, 3, 0.0)}, usage)


def text(what, width=80):
    out = Console(width=width, file=io.StringIO(), color_system=None)
    out.print(what)
    return out.file.getvalue()


# --- top ------------------------------------------------------------------------------------------------------------


def test_rates_are_what_happened_between_two_looks():
    row = rows(sample(10.0, 100, 1.0), sample(12.0, 150, 1.5))[1]
    assert (row.rate, row.messages, row.mailbox) == (25.0, 150, 3)
    assert row.cpu == pytest.approx(25.0)


def test_a_restarted_process_is_counted_from_zero():
    row = rows(sample(10.0, 100, 1.0, pid=7), sample(11.0, 8, 0.2, pid=8))[1]
    assert (row.rate, row.cpu) == (8.0, pytest.approx(20.0))


def test_what_has_no_process_has_no_figures():
    gone = Sample(1.0, root(actor("w", None, state="stopped")), {}, {})
    row = rows(gone, gone)[1]
    assert (row.mailbox, row.rate, row.cpu, row.memory, row.uptime) == (None,) * 5
    assert "w stopped" in text(page(gone, [row], set(), 80))


def some(name, **fields):
    base = {"supervisor": "root", "type": "worker", "state": "running", "pid": 1, "mailbox": 0, "rate": 0.0,
            "messages": 0, "cpu": 0.0, "memory": 1, "restarts": 0, "uptime": 1.0, "busy": 0.0}  # fmt: skip
    return Row(actor=name, **(base | fields))


def test_the_most_comes_first_and_the_unknown_last():
    found = [some("a", cpu=1.0), some("b", cpu=None), some("c", cpu=9.0)]
    assert [row.actor for row in ordered(found, "cpu")] == ["c", "a", "b"]
    assert [row.actor for row in ordered(found, "cpu", upward=True)] == ["a", "c", "b"]
    assert [row.actor for row in ordered(found, "actor")] == ["a", "b", "c"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_page_fits_and_cuts_names_not_figures(width):
    name = "a-very-long-name-of-an-actor-that-does-not-fit-into-its-column-at-all-whatever-it-is"
    shown = text(page(sample(1.0, 1, 1.0), [some(name, pid=4_194_303, memory=999_000_000)], set(), width), width)
    assert all(len(line) <= width for line in shown.splitlines())
    assert "4194303" in shown
    assert "999 MB" in shown
    assert "PSS" in shown


def test_a_process_that_is_stuck_says_for_how_long():
    assert "w busy 1m05" in text(page(sample(1.0, 1, 1.0), [some("w", busy=65.0)], set(), 80))


# --- tree --watch ---------------------------------------------------------------------------------------------------


def test_only_what_was_restarted_lights_up_and_not_for_ever():
    lights = Lights(seconds=5.0)
    before, after = root(actor("a", 7), actor("b", 8)), root(actor("a", 9, restarts=1), actor("b", 8))
    assert lights.see(before, 0.0) == set()
    assert lights.see(after, 1.0) == {9}
    assert lights.see(after, 5.9) == {9}
    assert lights.see(after, 6.1) == set()


def test_a_new_child_lights_up_and_a_gone_one_does_not():
    lights = Lights()
    assert lights.see(root(actor(None, 7)), 0.0) == set()
    assert lights.see(root(actor(None, 7), actor(None, 8)), 1.0) == {8}
    assert lights.see(root(actor("c", None, state="restarting")), 2.0) == set()


# --- failures -------------------------------------------------------------------------------------------------------

CRASH = ExitReason("error", {"type": "ValueError", "message": "bad", "traceback": "Traceback\n  here\nValueError: bad"})


def report(kind, at, pid=3, reason=None, **extra):
    return Report(kind, "sup", "child", pid, reason, at, {"restart": "permanent", "type": "worker"} | extra)


def test_each_life_of_a_child_has_its_length_and_its_end():
    found = lives_of([
        report("progress", 1.0, pid=3),
        report("child_terminated", 4.5, pid=3, reason=CRASH),
        report("progress", 5.0, pid=4),
        report("child_terminated", 6.0, pid=4, reason=ExitReason("killed")),
        report("reached_max_restart_intensity", 6.0, pid=4, reason=ExitReason("killed"), count=2),
    ])  # fmt: skip
    (about,) = found
    assert (about["id"], about["deaths"], about["gave_up"]) == ("child", 2, 1)
    assert [(life["lived"], life["why"]) for life in about["lives"]] == [(3.5, "ValueError: bad"), (1.0, "killed")]
    assert "here" in about["lives"][0]["traceback"]


def written(tmp_path, *reports):
    folder = tmp_path / "home" / "logs"
    folder.mkdir(parents=True)
    lines = [
        {"kind": one.kind, "supervisor": one.supervisor, "id": one.id, "pid": one.pid, "at": one.at, "extra": one.extra,
         "reason": one.reason and [one.reason.kind, one.reason.detail]} for one in reports
    ]  # fmt: skip
    (folder / "reports.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_failures_show_tracebacks_only_on_demand_and_can_be_narrowed(run, tmp_path):
    now = time.time()
    written(tmp_path, report("child_terminated", now - 7200, pid=1, reason=ExitReason("killed")),
            report("child_terminated", now - 5, pid=2, reason=CRASH))  # fmt: skip
    assert "  here" not in run("failures").output
    assert "  here" in run("failures", "--traceback").output
    assert [one["pid"] for one in json.loads(run("failures", "--since", "1h", "--json").output)] == [2]
    assert json.loads(run("failures", "--child", "other", "--json").output) == []
    (about,) = json.loads(run("failures", "--history", "--json").output)
    assert about["deaths"] == 2


def test_failures_in_json_have_the_fields_of_otp(run, tmp_path):
    written(tmp_path, report("child_terminated", 1.0, reason=CRASH, shutdown=5.0))
    (one,) = json.loads(run("failures", "--json").output)
    assert {"pid", "id", "restart", "shutdown", "type", "kind", "supervisor", "at", "reason"} <= set(one)


def test_a_since_that_is_none_is_refused(run):
    result = run("failures", "--since", "yesterday")
    assert result.exit_code == 2
    assert "expected 90s, 10m" in result.output


# --- on a terminal --------------------------------------------------------------------------------------------------


class Terminal:
    """A command on a terminal of 80 × 24."""

    def __init__(self, *words):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.seen = ""
        self.process = warm.Popen(
            [sys.executable, "-m", "dspex_actors", *words], stdin=slave, stdout=slave, stderr=slave,
            env={name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm-256color"},
        )  # fmt: skip

    def until(self, wanted, seconds=20.0):
        """Read until `wanted` has appeared since the last time."""
        deadline, begin = time.monotonic() + seconds, len(self.seen)
        while wanted not in self.seen[begin:]:
            assert time.monotonic() < deadline, (wanted, self.seen[begin:][-2000:])
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536).decode("utf-8", "replace")

    def press(self, keys):
        os.write(self.master, keys.encode())

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A node, for commands on terminals."""
    folder = tmp_path_factory.mktemp("live")
    folder.chmod(0o700)
    with Node.start(data_dir=folder) as node:
        yield folder, node


@pytest.mark.parametrize(("words", "key"), [(("top", "--interval", "0.2"), "n"), (("tree", "--watch"), "j")])
def test_a_live_page_lights_up_a_restart_and_gives_the_terminal_back(live, monkeypatch, words, key):
    folder, node = live
    monkeypatch.setenv("DSPEX_HOME", str(folder))
    terminal = Terminal(*words)
    try:
        terminal.until("\x1b[?1049h")
        terminal.until("registry")
        terminal.press(key)
        terminal.until("registry")
        os.kill(next(row["pid"] for row in node.tree()["children"] if row["id"] == "registry"), 9)
        terminal.until("7;33m")
        terminal.press("q")
        terminal.until("\x1b[?1049l")
        assert terminal.process.wait(60) == 0
        assert termios.tcgetattr(terminal.slave)[3] == terminal.before[3]
    finally:
        terminal.end()


def test_a_live_page_without_a_terminal_is_refused(live, monkeypatch, run):
    monkeypatch.setenv("DSPEX_HOME", str(live[0]))
    result = run("top")
    assert result.exit_code == 2
    assert "--once" in result.output


def test_top_for_programs(live, monkeypatch, run):
    monkeypatch.setenv("DSPEX_HOME", str(live[0]))
    found = json.loads(run("top", "--json", "--interval", "0.1").output)
    assert {"root", "registry", "door"} & {row["actor"] for row in found} >= {"registry", "door"}
    assert "mailbox" in run("top", "--once", "--interval", "0.1").output
