"""The reports of supervisors as events: each once, whatever is looked at how often."""

import json

from dspex_actors.foundation.events.record import to_event
from dspex_actors.observe.events.supervision import SupervisionReports
from supervisors.host.reports import REPORT_FILE


def line(at, kind="child_terminated", child="worker-1", reason=("killed", None)):
    told = {"kind": kind, "supervisor": "http_workers", "id": child, "pid": 7, "reason": reason, "at": at}
    return json.dumps(told | {"extra": {"n": 1}})


def write(folder, *lines):
    with (folder / REPORT_FILE).open("a") as file:
        file.write("".join(f"{one}\n" for one in lines))


def test_where_there_are_none_there_are_none(tmp_path):
    assert SupervisionReports(tmp_path, "node").new(5.0) == ([], 5.0)


def test_a_report_is_an_event_with_what_it_says(tmp_path):
    write(tmp_path, line(10.0))
    (record,), seen = SupervisionReports(tmp_path, "node").new(0.0)
    event = to_event(record)
    assert (event.type, event.at, event.node, event.actor, seen) == (
        "supervision.report", 10.0, "node", "http_workers", 10.0,
    )  # fmt: skip
    assert (event.report, event.child, event.pid, event.reason, event.extra) == (
        "child_terminated", "worker-1", 7, "killed", {"n": 1},
    )  # fmt: skip
    assert event.correlation_id is None


def test_only_what_is_new_comes_again_and_with_the_same_id(tmp_path):
    reports = SupervisionReports(tmp_path, "node")
    write(tmp_path, line(10.0), line(11.0))
    first, seen = reports.new(0.0)
    assert reports.new(seen) == ([], 11.0)
    write(tmp_path, line(12.0, child="worker-2"))
    second, seen = reports.new(seen)
    assert [record.at for record in second] == [11.0, 12.0]
    assert second[0].id == first[1].id, "the store has it already"
    again, _ = SupervisionReports(tmp_path, "node").new(0.0)
    assert [record.id for record in again] == [first[0].id, *(record.id for record in second)]


def test_half_a_line_and_nonsense_are_passed_over(tmp_path):
    write(tmp_path, line(10.0), line(11.0)[:40], '{"kind": 7}', line(12.0))
    records, seen = SupervisionReports(tmp_path, "node").new(0.0)
    assert ([record.at for record in records], seen) == ([10.0, 12.0], 12.0)


def test_reports_after_a_clock_was_set_back_are_not_lost(tmp_path):
    reports = SupervisionReports(tmp_path, "node")
    write(tmp_path, line(10.0), line(100.0))
    _, seen = reports.new(0.0)
    write(tmp_path, line(50.0, child="worker-2"))
    records, seen = reports.new(seen)
    assert ([record.at for record in records], seen) == ([100.0, 50.0], 50.0)
    write(tmp_path, line(51.0, child="worker-3"))
    assert [record.at for record in reports.new(seen)[0]] == [50.0, 51.0]


def test_reports_that_could_not_be_stored_come_again(tmp_path):
    reports = SupervisionReports(tmp_path, "node")
    write(tmp_path, line(10.0))
    assert len(reports.new(0.0)[0]) == 1
    assert reports.new(0.0)[0] == []
    reports.look_again()
    assert len(reports.new(0.0)[0]) == 1
