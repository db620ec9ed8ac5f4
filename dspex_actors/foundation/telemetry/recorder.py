"""The recorder of a process: what is measured is summed up here, and told about once a second.

Code that measures often asks for its series once and adds to it: `series = recorder.histogram("lm.request.duration",
model=...)`, then `series.add(0.3)`: a tenth of a microsecond. A value goes on a list; when the recorder is asked what
is new, or 512 wait, the list goes into the figures.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.ids import new_id
from dspex_actors.foundation.telemetry.checks import Kind, Tags, check_name, check_tags
from dspex_actors.foundation.telemetry.stats import Stats

#: Values wait until so many are there.
WAITING = 512
#: A name has so many series, and a process so many names; what is more is counted together.
MOST_SERIES, MOST_NAMES = 1000, 1000
OVERFLOW: Tags = (("overflow", "true"),)
OVERFLOW_NAME = "telemetry.overflow"
#: "0" in this variable: nothing is recorded.
SWITCH = "DSPEX_TELEMETRY"
_ON, _OFF = ("", "1", "on", "true", "yes"), ("0", "off", "false", "no")

_log = logging.getLogger(__name__)


class Series:
    """One thing that is measured, for one set of tags. Adding is safe in any thread, in finalisers and signal handlers.

    Args:
        recorder: whose it is.
        kind: counter, gauge, histogram or summary.
        name: of the metric.
        tags: of this series.
    """

    __slots__ = ("_lock", "_recorder", "_stats", "_told", "_waiting", "kind", "name", "tags")

    def __init__(self, recorder: Recorder, kind: Kind, name: str, tags: Tags) -> None:
        """Begin with nothing."""
        self.kind, self.name, self.tags = kind, name, tags
        self._recorder = recorder
        self.forget()

    def forget(self) -> None:
        """Begin again; in a forked child, whose parent tells what was before."""
        self._lock = threading.Lock()
        self._stats = Stats(has_bins=self.kind != "counter")
        self._told = 0
        self._waiting: list[float] = []

    def add(self, value: float = 1) -> None:
        """Add a value: what a counter grows by, what a histogram sees, what a gauge is."""
        waiting = self._waiting
        waiting.append(value)  # atomic
        count = len(waiting)
        if count == 1:
            self._recorder.has_news()
        elif count >= WAITING and self._lock.acquire(blocking=False):  # else somebody is at it
            try:
                self._fold()
            finally:
                self._lock.release()

    def _fold(self) -> None:
        """Put what waits into the figures; with the lock held."""
        waiting = self._waiting
        values = waiting[:]
        del waiting[: len(values)]  # what came meanwhile stands behind them
        self._stats.add(values, time.time())
        if waiting:
            self._recorder.has_news()

    def news(self, *, everything: bool) -> Stats | None:
        """Return all that is known of it, if there is something that was not told yet.

        Args:
            everything: tell what was told, too.
        """
        if not self._waiting and not everything and self._told == self._stats.count:
            return None
        with self._lock:
            if self._waiting:
                self._fold()
            self._told = self._stats.count
            return self._stats.copy() if self._told else None


class _Silent(Series):
    """A series of a recorder that is off."""

    __slots__ = ()

    def add(self, value: float = 1) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _Metric:
    kind: Kind
    series: dict[Tags, Series]
    is_full: bool = False


class Recorder:
    """All series of a process.

    Args:
        is_on: whether anything is recorded, ever.
    """

    def __init__(self, *, is_on: bool = True) -> None:
        """Begin with none."""
        #: Whose figures these are; another one after a fork.
        self.incarnation = new_id()
        self._can_be_on = self.is_on = is_on
        self._metrics: dict[str, _Metric] = {}
        self._known: dict[tuple[Any, ...], Series] = {}
        self._lock = threading.RLock()  # a signal handler may look for its series in the midst of it
        self._listener: Callable[[], None] | None = None
        self._has_told_of_news = False

    # --- recording --------------------------------------------------------------------------------------------------

    def counter(self, name: str, **tags: Any) -> Series:
        """Return the series of a counter: it only grows."""
        return self.series("counter", name, tags)

    def gauge(self, name: str, **tags: Any) -> Series:
        """Return the series of a gauge: what it is now counts. It goes with its process."""
        return self.series("gauge", name, tags)

    def histogram(self, name: str, **tags: Any) -> Series:
        """Return the series of a histogram: how values are distributed."""
        return self.series("histogram", name, tags)

    def summary(self, name: str, **tags: Any) -> Series:
        """Return the series of a summary: as a histogram; the exposition has its quantiles in the place of buckets."""
        return self.series("summary", name, tags)

    def series(self, kind: Kind, name: str, tags: Mapping[str, Any]) -> Series:
        """Return a series; the same one for the same name and tags.

        Raises:
            ConfigError: the name or a tag is none, or the name is that of a metric of another kind.
        """
        key = (kind, name, *tags.items())
        try:
            found = self._known.get(key)
        except TypeError:  # a tag that cannot be one: said below
            found = None
        if found is None:
            found = self._find(kind, check_name(name), check_tags(tags))
            if all(type(value) is str for value in tags.values()) and len(self._known) < MOST_SERIES * 4:
                self._known[key] = found  # True and 1 are one key, and two tags
        return found

    def _find(self, kind: Kind, name: str, tags: Tags) -> Series:
        with self._lock:
            metric = self._metrics.get(name)
            if metric is None:
                if len(self._metrics) >= MOST_NAMES and name != OVERFLOW_NAME:
                    kind, name, tags = "counter", OVERFLOW_NAME, ()
                metric = self._metrics.setdefault(name, _Metric(kind, {}))
            if metric.kind != kind:
                raise ConfigError(f"the kind of {name} is invalid: got a {kind}, expected a {metric.kind}, as before")
            found, was_full = metric.series.get(tags), metric.is_full
            if found is None:
                if len(metric.series) >= MOST_SERIES:
                    tags, metric.is_full = OVERFLOW, True
                made = (Series if self.is_on else _Silent)(self, kind, name, tags)
                found = metric.series.setdefault(tags, made)
        if metric.is_full and not was_full:  # said without the lock: what takes a log may count, too
            _log.warning("%s has %d series: what has other tags is counted together", name, MOST_SERIES)
        return found

    def switch(self, *, is_on: bool) -> None:
        """Record from now on, or do not; one that was made to be off stays so."""
        with self._lock:
            self.is_on = is_on and self._can_be_on
            for series in self._all():
                series.__class__ = Series if self.is_on else _Silent  # adding asks nobody whether it is on

    # --- telling ----------------------------------------------------------------------------------------------------

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Have a function called when there is something new, once until it is taken; None: nobody listens any more.

        Args:
            listener: called in any thread; must not block, and must not raise.
        """
        self._listener = listener
        self._has_told_of_news = False
        if listener is not None and any(series._waiting for series in self._all()):
            self.has_news()

    def has_news(self) -> None:
        """Let the listener know."""
        if not self._has_told_of_news and self._listener is not None:
            self._has_told_of_news = True
            self._listener()

    def take(self, *, everything: bool = False) -> list[list[Any]]:
        """Return a row for each series with something new: kind, name, tags, all its figures since this process began.

        Args:
            everything: rows of all that have anything.
        """
        self._has_told_of_news = False
        rows = []
        for series in self._all():
            stats = series.news(everything=everything)
            if stats is not None:
                rows.append([series.kind, series.name, series.tags, stats.to_plain()])
        return rows

    def _all(self) -> list[Series]:
        return [series for metric in list(self._metrics.values()) for series in list(metric.series.values())]

    def forget(self) -> None:
        """Be another process's: what was recorded before the fork is told by the parent."""
        self.incarnation = new_id()
        self._lock = threading.RLock()
        self._listener = None
        self._has_told_of_news = False
        for series in self._all():
            series.forget()


def check_switch() -> None:
    """Refuse what the variable DSPEX_TELEMETRY may not hold; everywhere else it counts as on.

    Raises:
        ConfigError: it says neither on nor off.
    """
    told = os.environ.get(SWITCH, "")
    if told.lower() not in (*_ON, *_OFF):
        raise ConfigError(f"{SWITCH} is invalid: got {told!r:.100}, expected 1 or 0")


#: The process's own.
recorder = Recorder(is_on=os.environ.get(SWITCH, "").lower() not in _OFF)
os.register_at_fork(after_in_child=recorder.forget)
