"""What commands print when no node is needed for it."""

import io
import json
import subprocess
import sys
import time

import pytest
from rich.console import Console

from dspex_actors.cli.logs import Lines, show_line
from dspex_actors.cli.look import show_tree, walk
from dspex_actors.cli.main import SECTIONS
from dspex_actors.cli.output import clock_text, size_text


def row(name, kind="worker", state="running", children=(), restarts=0):
    return {"id": name, "name": None, "type": kind, "state": state, "pid": 7, "restarts": restarts,
            "children": list(children), "memory": 34_000_000, "cpu": 1.5}  # fmt: skip


def test_help_names_every_command_on_one_screen(run):
    result = run("--help")
    assert result.exit_code == 0
    for commands in SECTIONS.values():
        for name in commands:
            assert name in result.output
    assert len(result.output.splitlines()) <= 40
    assert run().output == result.output


def test_version(run):
    assert run("--version").output.startswith("dspex ")


@pytest.mark.parametrize("name", [name for commands in SECTIONS.values() for name in commands])
def test_every_command_has_a_help(run, name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Usage: dspex " + name in result.output


def test_help_imports_no_machinery():
    code = "import sys, dspex_actors.cli.main; print([m for m in ('aiohttp', 'httpx', 'thespian') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("count", "text"), [(None, "–"), (812, "812 B"), (1500, "1.5 kB"), (34_000_000, "34 MB"), (2.5e12, "2.5 TB")]
)
def test_sizes(count, text):
    assert size_text(count) == text


def test_moments_of_another_day_have_their_date():
    assert len(clock_text(time.time())) == 8
    assert clock_text(86400.0 * 365).startswith("197")


@pytest.mark.parametrize("seconds", [1.8e12, 1e18, -1e18])
def test_moments_that_no_calendar_has_are_seconds(seconds):
    assert clock_text(seconds) == f"{seconds:g} s"


@pytest.mark.parametrize("width", [80, 120])
def test_the_tree_shows_levels_states_and_restarts(width):
    root = row("root", "supervisor", children=[
        row("http_workers", "supervisor", children=[row("worker-1", restarts=2), row("worker-2", state="stopped")]),
        row("runs"),
    ])  # fmt: skip
    out = Console(width=width, file=io.StringIO(), color_system=None)
    root["name"] = "lab"
    show_tree(out, root, {})
    lines = out.file.getvalue().splitlines()
    assert lines[1].startswith("◆ lab")
    assert lines[2].startswith("├─ ◆ http_workers")
    assert lines[3].startswith("│  ├─ ● worker-1")
    assert lines[4].startswith("│  └─ ○ worker-2")
    assert "stopped" in lines[4]
    assert lines[5].startswith("└─ ● runs")
    assert lines[-1] == "2 supervisors, 3 workers, 2 restarts"
    assert all(len(line) <= width for line in lines)


def test_a_walk_goes_depth_first():
    root = row("a", children=[row("b", children=[row("c")]), row("d")])
    assert [item["id"] for item, _ in walk(root)] == ["a", "b", "c", "d"]


def test_a_log_is_followed_over_its_rotation(tmp_path):
    log = tmp_path / "node.jsonl"
    log.write_text('{"event": "one"}\n{"event": "tw')
    lines = Lines(tmp_path)
    assert [line["event"] for line in lines.new()] == ["one"]
    with log.open("a") as file:
        file.write('o"}\nnot json\n')
    assert [line["event"] for line in lines.new()] == ["two"]
    with log.open("a") as file:
        file.write('{"event": "last of the old"}\n')
    log.rename(tmp_path / "node.jsonl.1")
    log.write_text('{"event": "first of the new"}\n')
    assert [line["event"] for line in lines.new()] == ["last of the old", "first of the new"]


def test_a_log_line_keeps_square_brackets_and_shows_its_traceback():
    out = Console(width=120, file=io.StringIO(), color_system=None)
    show_line(out, {"level": "error", "actor": "a", "event": "[bold]x", "run": "r1", "exception": "Trace\nback"})
    text = out.file.getvalue()
    assert "[bold]x" in text
    assert "run=r1" in text
    assert text.splitlines()[1:] == ["  Trace", "  back"]


def test_logs_are_filtered_by_actor_and_level(run, tmp_path):
    folder = tmp_path / "home" / "logs"
    folder.mkdir(parents=True)
    lines = [{"level": level, "actor": actor, "event": f"{actor} {level}"}
             for actor in ("worker-1", "door") for level in ("debug", "info", "error")]  # fmt: skip
    (folder / "node.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = json.loads(run("logs", "--json", "--actor", "worker", "--level", "info").output)
    assert [line["event"] for line in found] == ["worker-1 info", "worker-1 error"]
    assert len(json.loads(run("logs", "--json", "-n", "1").output)) == 1


def test_failures_leave_out_progress(run, tmp_path):
    folder = tmp_path / "home" / "logs"
    folder.mkdir(parents=True)
    base = {"supervisor": "s", "id": "c", "pid": 3, "at": 1.0, "extra": {}}
    reports = [
        base | {"kind": "progress", "reason": None},
        base | {"kind": "child_terminated", "reason": ["error", {"type": "KeyError", "message": "'x'"}]},
    ]
    (folder / "reports.jsonl").write_text("".join(json.dumps(report) + "\n" for report in reports))
    (found,) = json.loads(run("failures", "--json").output)
    assert found["kind"] == "child_terminated"
    assert "KeyError: 'x'" in run("failures").output
    assert json.loads(run("runs", "--json").output) == []
