"""How what processes told becomes what a node knows. Pure.

A process tells all figures of a series since it began, so a telling that is lost or doubled does no harm. What a
process had when it ended stays in the totals, but for its gauges: they say what is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dspex_actors.foundation.telemetry.checks import Kind, Tags
from dspex_actors.foundation.telemetry.recorder import MOST_SERIES, OVERFLOW, OVERFLOW_NAME
from dspex_actors.foundation.telemetry.stats import Stats

#: Whose figures they are once so many actors have ended.
ENDED = "(ended)"
MOST_ENDED = 64
#: A table has so many names: each program may bring names of its own.
MOST_TOLD = 5000


@dataclass(slots=True)
class Told:
    """A series as it was told."""

    kind: Kind
    stats: Stats


#: Name → tags → series.
Table = dict[str, dict[Tags, Told]]


def row_of(row: Any) -> tuple[Kind, str, Tags, Stats]:
    """Open a row of `Recorder.take`, as it came over the wire."""
    kind, name, tags, plain = row
    return kind, name, tuple((str(tag), str(value)) for tag, value in tags), Stats.from_plain(plain)


def enter(table: Table, kind: Kind, name: str, tags: Tags, stats: Stats) -> Stats | None:
    """Put in what a process says now; return what it had said before."""
    series = table.setdefault(name, {})
    before = series.get(tags)
    series[tags] = Told(kind, stats)
    return None if before is None else before.stats


def add_to(table: Table, more: Table, *, gauges: bool = True) -> None:
    """Add one table's series to another's; a name has so many, a table so many names; the rest is
    one, as in a process.

    Args:
        table: changed; shares nothing with `more`.
        more: what is added.
        gauges: add them too.
    """
    for name, series in more.items():
        for tags, told in series.items():
            if told.kind == "gauge" and not gauges:
                continue
            if name not in table and len(table) >= MOST_TOLD:
                _add(table.setdefault(OVERFLOW_NAME, {}), (), Told("counter", told.stats))
                continue
            mine = table.setdefault(name, {})
            _add(mine, tags if tags in mine or len(mine) < MOST_SERIES else OVERFLOW, told)


def _add(series: dict[Tags, Told], tags: Tags, told: Told) -> None:
    found = series.get(tags)
    if found is None:
        series[tags] = Told(told.kind, told.stats.copy())
    elif found.kind == told.kind:  # two programs may mean different things by a name
        found.stats.merge(told.stats)


@dataclass(slots=True)
class Source:
    """A process that tells.

    Args:
        actor: its name.
        pid: its process id.
        born: when it began, see `host.processes.born`.
        table: what it told last.
    """

    actor: str
    pid: int
    born: int
    table: Table = field(default_factory=dict)


class Book:
    """What all processes of a node told: those that are there, and the totals of those that have ended."""

    def __init__(self) -> None:
        """Begin with nothing."""
        #: By incarnation.
        self.sources: dict[str, Source] = {}
        #: By actor.
        self.ended: dict[str, Table] = {}

    def tell(self, incarnation: str, source: Source, rows: Iterable[Any]) -> list[tuple[str, Tags, float]]:
        """Take in what a process tells.

        Returns:
            By how much its series have grown: a counter's sum, the count of all others.
        """
        known = self.sources.setdefault(incarnation, source)
        grown = []
        for row in rows:
            kind, name, tags, stats = row_of(row)
            before = enter(known.table, kind, name, tags, stats)
            more = _size(kind, stats) - (0 if before is None else _size(kind, before))
            if more > 0:
                grown.append((name, tags, more))
        return grown

    def end(self, incarnation: str) -> None:
        """Put what a process has told into the totals: it has ended."""
        source = self.sources.pop(incarnation, None)
        if source is None:
            return
        actor = source.actor if source.actor in self.ended or len(self.ended) < MOST_ENDED else ENDED
        add_to(self.ended.setdefault(actor, {}), source.table, gauges=False)

    def by_actor(self, prefix: str = "") -> dict[str, Table]:
        """Return the series of each actor, over all its incarnations; arguments as of `whole`."""
        found: dict[str, Table] = {}
        for actor, table in self._tables():
            add_to(found.setdefault(actor, {}), _only(table, prefix))
        return found

    def whole(self, prefix: str = "") -> Table:
        """Return the series of the node.

        Args:
            prefix: only those whose name begins with it.
        """
        found: Table = {}
        for _, table in self._tables():
            add_to(found, _only(table, prefix))
        return found

    def _tables(self) -> Iterable[tuple[str, Table]]:
        yield from self.ended.items()
        yield from ((source.actor, source.table) for source in self.sources.values())

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "ended": {actor: plain_rows(table) for actor, table in self.ended.items()},
            "sources": {
                incarnation: [source.actor, source.pid, source.born, plain_rows(source.table)]
                for incarnation, source in self.sources.items()
            },
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Book:
        """Rebuild what `to_plain` has made."""
        book = cls()
        for actor, rows in plain["ended"].items():
            book.ended[actor] = _table(rows)
        for incarnation, (actor, pid, born, rows) in plain["sources"].items():
            book.sources[incarnation] = Source(actor, pid, born, _table(rows))
        return book


def _only(table: Table, prefix: str) -> Table:
    return {name: series for name, series in table.items() if name.startswith(prefix)}


def plain_rows(table: Table) -> list[Any]:
    """Return series as rows of plain data, see `row_of`."""
    return [
        [told.kind, name, tags, told.stats.to_plain()]
        for name, series in table.items()
        for tags, told in series.items()
    ]


def _table(rows: Iterable[Any]) -> Table:
    table: Table = {}
    for row in rows:
        enter(table, *row_of(row))
    return table


def _size(kind: Kind, stats: Stats) -> float:
    return stats.sum if kind == "counter" else stats.count


def view(table: Table, rates: Mapping[tuple[str, Tags], float] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return series as people and programs read them.

    Args:
        table: the series.
        rates: how fast each grows, per second.

    Returns:
        Name → a row for each set of tags, in their order: kind, tags, `Stats.figures`, rate; a gauge's `value`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name in sorted(table):
        rows = found[name] = []
        for tags, told in sorted(table[name].items()):
            row = {"tags": dict(tags), "kind": told.kind, **told.stats.figures()}
            row["rate"] = (rates or {}).get((name, tags), 0.0)
            if told.kind == "gauge":
                row["value"] = told.stats.last
            rows.append(row)
    return found
