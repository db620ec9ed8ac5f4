"""OTP's five report kinds, from real processes: in the report store and as structured lines of the log."""

import json
import os
import signal
from pathlib import Path

import pytest
from node_helpers import Counter, until

from supervisors import ChildSpec, ExitReason, GenServer, Report, SupervisorSpec, errors
from supervisors.host.log import open_log
from supervisors.host.reports import REPORT_FILE, Reporter, read_reports

#: What observers of OTP's supervisors rely on.
FIELDS = {"restart", "shutdown", "type"}


class Stubborn(GenServer):
    """Fails when it is asked to end."""

    def terminate(self, reason):
        raise RuntimeError("not tidy")


class Unable(GenServer):
    """Does not start."""

    def init(self):
        raise OSError("no such device")


def of(node, kind, child):
    return [report for report in node.reports() if report.kind == kind and report.id == child]


def logged(node, kind, child):
    lines = [json.loads(line) for line in (Path(node.data_dir) / "logs" / "node.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("report") == kind and line.get("child") == child]


def seen(node, kind, child):
    """Return the one report of a kind about a child, in both places."""
    (report,) = until(lambda: of(node, kind, child))
    (line,) = until(lambda: logged(node, kind, child))
    assert set(report.extra) >= FIELDS
    assert set(line) >= FIELDS | {"child", "child_pid", "reason", "at", "level", "actor"}
    assert (line["child_pid"], line["restart"]) == (report.pid, report.extra["restart"])
    return report, line


# rows: 21, progress and child_terminated
def test_a_start_and_an_end_are_reported_with_pid_id_restart_shutdown_and_type(node, supervise):
    supervise([ChildSpec("mortal", Counter, name="mortal", restart="temporary", shutdown=2.5)], name="of mortals")
    pid = node.pid("mortal")
    report, line = seen(node, "progress", "mortal")
    assert (report.pid, report.supervisor, line["level"]) == (pid, "of mortals", "info")
    with pytest.raises(errors.ServerExited):
        node.call("mortal", "boom")
    report, line = seen(node, "child_terminated", "mortal")
    assert (report.pid, report.extra["shutdown"], report.extra["type"]) == (pid, 2.5, "worker")
    assert report.reason.detail["type"] == "ValueError"
    assert "node_helpers.py" in report.reason.detail["traceback"]
    assert line["level"] == "error"


# rows: 11, start_error
def test_a_start_that_failed_is_reported(node):
    with pytest.raises(errors.StartError):
        node.start_supervisor(SupervisorSpec([ChildSpec("unable", Unable)]))
    report, _ = seen(node, "start_error", "unable")
    assert report.reason.detail["message"] == "no such device"


# rows: 57, shutdown_error
def test_an_end_that_was_not_as_asked_is_reported(node):
    top = node.start_supervisor(SupervisorSpec([ChildSpec("stubborn", Stubborn)]))
    node.stop(top, timeout=10.0)
    report, _ = seen(node, "shutdown_error", "stubborn")
    assert report.reason.detail["message"] == "not tidy"


# rows: 40, reached_max_restart_intensity
def test_giving_up_is_reported_with_child_count_and_window(node):
    top = node.start_supervisor(SupervisorSpec([ChildSpec("last", Counter, name="last")], intensity=0, period=7.0))
    monitor = node.monitor(top)
    os.kill(node.pid("last"), signal.SIGKILL)
    assert monitor.wait(20.0).reason.kind == "shutdown"
    report, line = seen(node, "reached_max_restart_intensity", "last")
    assert (report.extra["count"], report.extra["intensity"], report.extra["period"]) == (1, 0, 7.0)
    assert report.reason.kind == "killed"
    assert line["level"] == "critical"
    assert "last" in line["event"]


def test_what_is_written_is_read_again_and_a_broken_line_is_left_out(tmp_path):
    told = [
        Report("progress", "top", "a", 12, None, 1.5, {"restart": "permanent"}),
        Report("child_terminated", "top", None, None, ExitReason("error", {"type": "ValueError"}), 2.5, {}),
        Report("start_error", "top", "b", None, ExitReason("shutdown", ["odd", object]), 3.5, {"type": "worker"}),
    ]
    reporter = Reporter(tmp_path, open_log(tmp_path, "top"))
    reporter.tell(told[0])
    with (tmp_path / REPORT_FILE).open("a") as file:
        file.write('{"kind": "progress"}\n[]\n"text"\n{"kind": \n')
    for report in told[1:]:
        reporter.tell(report)
    read = read_reports(tmp_path, 100)
    assert read[:2] == told[:2]
    assert read[2].reason == ExitReason("shutdown", ["odd", repr(object)])  # what is no plain data is text
    assert read_reports(tmp_path, 1) == read[2:]
    assert read_reports(tmp_path / "nowhere", 5) == []
