"""The reports of a node's supervisors as events: what died, when and why stands among what happened."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.events.kinds import SupervisionReport
from dspex_actors.foundation.events.record import Record, to_record
from supervisors import Report
from supervisors.host.reports import REPORT_FILE, read_reports

#: So many of the last reports are looked at.
REPORTS = 1000
#: A reason is cut to so many characters: tracebacks stand in `dspex failures`.
REASON = 2000


class SupervisionReports:
    """The reports that came since the last time.

    Args:
        logs: the node's folder of logs.
        node: its name.
    """

    def __init__(self, logs: Path, node: str) -> None:
        """Look at nothing yet."""
        self._logs, self._node = logs, node
        self._stamp: tuple[int, int] | None = None

    def new(self, since: float) -> tuple[list[Record], float]:
        """Return the reports that came with or after the one of a time as records, and the time of the last one.

        It is their order that counts: a clock may be set back. One that comes again has the same id.
        """
        try:
            found = (self._logs / REPORT_FILE).stat()
        except OSError:
            return [], since
        stamp = (found.st_size, found.st_mtime_ns)
        if stamp == self._stamp:
            return [], since
        self._stamp = stamp
        reports = read_reports(self._logs, REPORTS)
        known = [number for number, report in enumerate(reports) if report.at == since]
        reports = reports[known[0] :] if known else [report for report in reports if report.at >= since]
        records = [record for report in reports if (record := self._record(report)) is not None]
        return records, reports[-1].at if reports else since

    def look_again(self) -> None:
        """Have what was new last time be new once more: it was not stored."""
        self._stamp = None

    def _record(self, report: Report) -> Record | None:
        told = repr((report.at, report.kind, report.supervisor, report.id, report.pid))
        try:
            return to_record(
                SupervisionReport(
                    id="report-" + hashlib.blake2b(told.encode(), digest_size=10).hexdigest(),
                    at=report.at,
                    node=self._node,
                    actor=str(report.supervisor)[:100],
                    report=report.kind,
                    supervisor=str(report.supervisor),
                    child=None if report.id is None else str(report.id),
                    pid=report.pid,
                    reason=None if report.reason is None else str(report.reason)[:REASON],
                    extra=report.extra,
                )
            )
        except (ConfigError, ValueError):
            return None  # a report that nobody can read
