"""What was paid: by model, provider, run, tag, user or day, from the sums of all journals under DSPEX_HOME."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.durations import moment
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.journal.gone import GONE_FILE, paid_by_gone
from dspex_actors.journal.opening import readers_under
from dspex_actors.journal.spend import HOUR_SECONDS, Spent

#: What it can be told by, and the columns of the sums that this needs.
BY = {
    "model": ("provider", "model"),
    "provider": ("provider",),
    "run": ("run",),
    "tag": ("tags",),
    "user": ("user",),
    "day": ("hour",),
}
_DAY_HOURS = 24
_COUNTS = ("requests", "answered", "failed", "given_up", "unpriced", "cached")
_MONEY = ("cost", "saved")
_TOKENS = ("input_total", "output_total", "cache_read", "cache_write", "reasoning")


def costs(by: str | Iterable[str] = ("model",), since: float | str | None = None, *folders: Path) -> dict[str, Any]:
    """Return what was paid, as plain data: the keys of `dspex cost --json`.

    Args:
        by: what it is told by: names of `BY`, also several, also as "model,run".
        since: seconds since 1970, or as the command has it ("2h", "1d", an ISO time); the hour that it is in counts
            as a whole. None: all that is known.
        *folders: data folders of nodes beside those under DSPEX_HOME.

    Returns:
        `by`, `since` (ISO, None: all), `rows`, `total`, `notes` (what these figures leave open, in sentences).
        A row has the names of `by`, `requests` and its parts `answered`, `failed`, `given_up`; `usage`; `cost`, USD of
        those whose price is known, and `unpriced`, how many others there are; `cached`, answers that a cache gave, and
        `saved`, USD that they had cost. By tag a request counts in the row of each of its tags, and once in the total.

    Raises:
        ConfigError: it cannot be told by that.
    """
    names = _checked(by)
    columns = sorted({column for name in names for column in BY[name]})
    if isinstance(since, str):
        try:
            since = moment(since, time.time())
        except ValueError as error:
            raise ConfigError(f"since is invalid: {error}") from None
    first = 0 if since is None else int(since // HOUR_SECONDS)
    home = default_data_dir().absolute()
    found: list[Spent] = paid_by_gone(home / GONE_FILE, first)
    for reader in readers_under(home, *folders):
        found += reader.spent(first, columns)
    rows: dict[tuple[str | None, ...], dict[str, Any]] = {}
    total = _empty()
    for one in found:
        _add(total, one)
        for key in _keys(one, names):
            _add(rows.setdefault(key, _empty()), one)
    listed = [dict(zip(names, key, strict=True)) | row for key, row in rows.items()]
    listed.sort(key=lambda row: (-row["cost"], -row["requests"], *(row[name] or "" for name in names)))
    began = None if since is None else dt.datetime.fromtimestamp(first * HOUR_SECONDS, dt.UTC)
    return {
        "by": names,
        "since": None if began is None else began.isoformat().replace("+00:00", "Z"),
        "rows": listed,
        "total": total,
        "notes": _notes(total, names),
    }


def _checked(by: Any) -> list[str]:
    given = by.split(",") if isinstance(by, str) else by
    names = [name.strip() if isinstance(name, str) else name for name in given] if isinstance(given, Iterable) else [by]
    if not names or any(not isinstance(name, str) or name not in BY for name in names):
        raise ConfigError(f"by is invalid: got {by!r:.100}, expected some of {', '.join(BY)}")
    return list(dict.fromkeys(names))


def _keys(one: Spent, names: Sequence[str]) -> Iterable[tuple[str | None, ...]]:
    """Give the rows that sums belong to: one, but for tags, of which there may be several."""
    tags: list[str | None] = [f"{name}={text}" for name, text in orjson.loads(one.tags or "{}").items()] or [None]
    for tag in tags if "tag" in names else [None]:
        values = {
            "model": f"{one.provider}/{one.model}",
            "provider": one.provider,
            "run": one.run or None,
            "tag": tag,
            "user": one.user or None,
            "day": dt.date.fromordinal(_EPOCH + one.hour // _DAY_HOURS).isoformat(),
        }
        yield tuple(values[name] for name in names)


_EPOCH = dt.date(1970, 1, 1).toordinal()


def _empty() -> dict[str, Any]:
    return {**dict.fromkeys(_COUNTS, 0), **dict.fromkeys(_MONEY, 0.0), "usage": dict.fromkeys(_TOKENS, 0)}


def _add(row: dict[str, Any], one: Spent) -> None:
    for name in (*_COUNTS, *_MONEY):
        row[name] += getattr(one, name)
    for name in _TOKENS:
        row["usage"][name] += getattr(one, name)


def _notes(total: dict[str, Any], names: Sequence[str]) -> list[str]:
    notes = []
    if total["unpriced"]:
        one = total["unpriced"] == 1
        notes.append(
            f"{total['unpriced']:,} {'request has' if one else 'requests have'} no known price (another server than "
            "the provider's own, a model that nobody lists, or no answer that told its tokens): give prices in a file "
            "that DSPEX_PRICES names"
        )
    if "tag" in names:
        notes.append("a request counts in the row of each of its tags, and once in the total")
    notes.append(
        "not in here: the last second of a worker or program that was killed, or of a worker that went with a program "
        "that did not close its connection"
    )
    return notes
