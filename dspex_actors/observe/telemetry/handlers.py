"""Handlers of a program: told once a second what has grown on the node."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import check_handler
from dspex_actors.foundation.repeats import Repeats
from dspex_actors.foundation.telemetry.recorder import recorder

#: `handler(name, measurements, tags)`.
Handler = Callable[[str, dict[str, float], dict[str, str]], Any]

SECONDS = 1.0
#: One that raises so many times in a row is detached.
MOST_FAILURES = 10

_log = logging.getLogger(__name__)


class _Attached:
    def __init__(self, handler_id: str, prefixes: tuple[str, ...], handler: Handler) -> None:
        self.handler_id, self.prefixes, self.handler = handler_id, prefixes, handler
        self.failures = 0
        self.repeats = Repeats(_log)
        #: (name, tags) → count and sum as they were when it was called last.
        self.seen: dict[tuple[Any, ...], tuple[int, float]] | None = None


class Handlers:
    """The handlers of one connection.

    Args:
        read: returns the node's metrics.
    """

    def __init__(self, read: Callable[[], dict[str, list[dict[str, Any]]]]) -> None:
        """Begin with none, and without a thread."""
        self._read = read
        self._attached: dict[str, _Attached] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def attach(self, handler_id: Any, prefixes: Any, handler: Any) -> None:
        """Add one; see `face.Telemetry.attach`."""
        wanted = (prefixes,) if isinstance(prefixes, str) else prefixes
        if not isinstance(handler_id, str) or not handler_id:
            raise ConfigError(f"the handler's id is invalid: got {handler_id!r:.80}, expected a text")
        if not isinstance(wanted, (list, tuple)) or not wanted or not all(isinstance(each, str) for each in wanted):
            raise ConfigError(f"prefixes is invalid: got {prefixes!r:.80}, expected a list of beginnings of names")
        check_handler(handler, "a function of a name, measurements and tags")
        attached = _Attached(handler_id, tuple(wanted), handler)
        self._first_look(attached)
        with self._lock:
            if handler_id in self._attached:
                raise ConfigError(f"the handler's id is invalid: got {handler_id!r}, expected one that is not taken")
            self._attached[handler_id] = attached
            if self._thread is None:
                self._stop.clear()
                self._thread = threading.Thread(target=self._run, name="dspex-telemetry-handlers", daemon=True)
                self._thread.start()

    def detach(self, handler_id: str) -> bool:
        """Remove one; return whether it was there."""
        with self._lock:
            return self._attached.pop(handler_id, None) is not None

    def close(self) -> None:
        """Remove all."""
        with self._lock:
            self._attached.clear()
        self._stop.set()

    def _first_look(self, attached: _Attached) -> None:
        """Take note of what is there: told is what comes from now on."""
        attached.seen = {key: (row["count"], row["sum"]) for key, _, row in _rows(self._read(), attached.prefixes)}

    def _run(self) -> None:
        while not self._stop.wait(SECONDS):
            with self._lock:
                todo = list(self._attached.values())
                if not todo:
                    self._thread = None
                    return
            try:
                metrics = self._read()
            except Exception as error:
                _log.debug("telemetry cannot be read: %s", error)
                continue
            for attached in todo:
                self.tell(attached, metrics)
        self._thread = None

    def tell(self, attached: _Attached, metrics: dict[str, list[dict[str, Any]]]) -> None:
        """Call a handler for what has grown since it was called last."""
        assert attached.seen is not None
        for key, name, row in _rows(metrics, attached.prefixes):
            count, total = attached.seen.get(key, (0, 0))
            new = row["count"] - count
            attached.seen[key] = (row["count"], row["sum"])
            if new <= 0 or self._attached.get(attached.handler_id) is not attached:
                continue
            more = row["sum"] - total
            measurements = {"count": new, "sum": more, "mean": more / new, "total": row["sum"]}
            if "value" in row:
                measurements["value"] = row["value"]
            try:
                attached.handler(name, measurements, dict(row["tags"]))
            except Exception as error:
                self._failed(attached, name, error)
            else:
                attached.failures = 0

    def _failed(self, attached: _Attached, name: str, error: Exception) -> None:
        attached.failures += 1
        recorder.counter("telemetry.handler.errors", handler=attached.handler_id[:200]).add()
        if attached.failures < MOST_FAILURES:
            what = f"the telemetry handler {attached.handler_id!r} failed for {name}"
            attached.repeats.log(error, what, level=logging.WARNING)
            return
        self.detach(attached.handler_id)
        _log.error(
            "the telemetry handler %r failed %d times in a row and is detached", attached.handler_id, MOST_FAILURES
        )


def _rows(metrics: dict[str, list[dict[str, Any]]], prefixes: tuple[str, ...]) -> Any:
    for name, rows in metrics.items():
        if name.startswith(prefixes):
            for row in rows:
                yield (name, *sorted(row["tags"].items())), name, row
