"""What the supervisors of a node report: one file of JSON lines, which they write and anybody may read."""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson

from supervisors.host.log import LineFile, last_lines
from supervisors.terms.reason import ExitReason
from supervisors.terms.views import Report

REPORT_FILE = "reports.jsonl"

_FIELDS = tuple(field.name for field in fields(Report))


class Reporter:
    """One supervisor's way to the file of reports and to the node's log.

    Args:
        logs: the node's `logs` folder.
        log: the supervisor's logger.
    """

    def __init__(self, logs: Path, log: Any) -> None:
        """Open nothing yet."""
        self._file, self._log = LineFile(logs / REPORT_FILE), log

    def tell(self, report: Report) -> None:
        """Write a report to the file and to the log."""
        self._file.write(_line(report))
        reason, extra = report.reason, report.extra
        told = {
            "report": report.kind,
            "child": report.id,
            "child_pid": report.pid,
            "reason": str(reason) if reason else None,
            **extra,
        }
        match report.kind:
            case "progress":
                self._log.info("progress", **told)
            case "reached_max_restart_intensity":
                self._log.critical(
                    f"supervisor {report.supervisor} gives up: child {report.id} ended {extra['count']} times within "
                    f"{extra['period']:g} s, {extra['intensity']} restarts are allowed; the last reason: {reason}",
                    **told,
                )
            case _:
                self._log.error(report.kind, **told)


def read_reports(logs: Path, limit: int) -> list[Report]:
    """Return the last `limit` reports of a node's supervisors, oldest first; works while no node runs too."""
    reports = []
    for line in last_lines(logs / REPORT_FILE, limit):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # what a full disk left of a line
            reports.append(_report(line))
    return reports


def _line(report: Report) -> str:
    reason = report.reason
    item = {name: getattr(report, name) for name in _FIELDS}
    item["reason"] = None if reason is None else [reason.kind, reason.detail]
    return orjson.dumps(item, default=repr).decode()


def _report(line: str) -> Report:
    item = json.loads(line)
    reason = item["reason"]
    item["reason"] = None if reason is None else ExitReason(*reason)
    return Report(**{name: item[name] for name in _FIELDS})
