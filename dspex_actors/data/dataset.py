"""Datasets: examples one at a time from a file, a list, a generator or a spool; never loaded whole.

A dataset has a `descriptor` (plain data with its kind, from which `opening.from_descriptor` opens it again anywhere
on the host), a `digest` (identity of its content), a `count`, and can be read from any index. What cannot be read
twice says so with `needs_spool`; `spool.spool` makes a file of it. The kinds are in `memory`, `files` and `spool`.

The digest of a file is the SHA-256 of its bytes (1 GB takes about a second), not its size and time: a copied
or touched file is the same dataset, and an edited one never is. A limit is part of it; `on_bad_line` is not,
as the examples before the first bad line have the same index either way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from numbers import Integral
from typing import Any, ClassVar, Literal

from dspex_actors.data.fields import pack_example
from dspex_actors.errors import ConfigError

OnBadLine = Literal["stop", "skip"]
_LISTED = 20


@dataclass(slots=True)
class Skipped:
    """Rows that were left out: how many, and where and why for the first 20."""

    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)
    _highest: int = 0

    def note(self, line: int, why: str) -> None:
        """Count a row, once however often the file is read."""
        if line > self._highest:
            self._highest = line
            self.count += 1
            if len(self.first) < _LISTED:
                self.first.append((line, why))


class Dataset(ABC):
    """Examples in a fixed order, each with its index from 0.

    Args:
        input_names: the fields that the program takes; the rest are labels. None: each Example's own.
        on_bad_line: `stop` raises at a row that is not usable, `skip` leaves it out and notes it in
            `skipped`.
        limit: only the first so many examples.
    """

    #: What its descriptor calls it.
    kind: ClassVar[str]
    needs_spool: ClassVar[bool] = False

    def __init__(
        self,
        input_names: Sequence[str] | None = None,
        on_bad_line: OnBadLine = "stop",
        limit: int | None = None,
    ) -> None:
        """Check the settings that all datasets have."""
        if on_bad_line not in ("stop", "skip"):
            raise ConfigError(f"on_bad_line is 'stop' or 'skip'; got {on_bad_line!r}")
        if limit is not None and (not isinstance(limit, Integral) or limit < 1):
            raise ConfigError(f"limit is a number of examples, 1 or more; got {limit!r}")
        self.input_names = None if input_names is None else tuple(input_names)
        self.on_bad_line: OnBadLine = on_bad_line
        self.limit = limit
        self.skipped = Skipped()

    @property
    @abstractmethod
    def descriptor(self) -> dict[str, Any]:
        """Return the plain data that opens this dataset again."""

    @property
    @abstractmethod
    def digest(self) -> str | None:
        """Return the identity of the content; None where only reading would tell."""

    @abstractmethod
    def count(self) -> int | None:
        """Return the number of examples, reading through the file if need be; None where it is unknown."""

    @abstractmethod
    def _rows(self, start: int) -> Iterator[Any]:
        """Give the usable rows from index `start` on, whatever the limit."""

    def iter_from(self, start: int) -> Iterator[Any]:
        """Give examples from index `start` on, one at a time, passing cheaply over those before."""
        if self.limit is None:
            return self._rows(start)
        return islice(self._rows(start), max(0, self.limit - start))

    def iter_packed(self, start: int = 0) -> Iterator[bytes]:
        """Give examples from index `start` on in the form that workers, spool and journal take."""
        return (pack_example(item, self.input_names) for item in self.iter_from(start))

    def __iter__(self) -> Iterator[Any]:
        """Give the examples, one at a time."""
        return self.iter_from(0)

    def _cut(self, count: int) -> int:
        return count if self.limit is None else min(count, self.limit)

    def _bad(self, line: int, why: str, where: str) -> None:
        if self.on_bad_line == "stop":
            raise ConfigError(f"{where} {line:,}: {why}; fix it, or pass --skip-bad-lines (Python: on_bad_line='skip')")
        self.skipped.note(line, why)


def with_limit(digest: str, limit: int | None) -> str:
    """Return the digest of the first `limit` examples of what `digest` identifies."""
    return digest if limit is None else f"{digest}-first-{limit}"
