"""JSON lines and CSV files as datasets."""

from __future__ import annotations

import csv
import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dspex_actors.data.content import stamp_of
from dspex_actors.data.dataset import Dataset, with_limit
from dspex_actors.data.lines import MAX_LINE, read_lines
from dspex_actors.errors import ConfigError

_KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"}


class FileDataset(Dataset):
    """A text file with one example per row."""

    def __init__(self, path: Path, *, zipped: bool, **settings: Any) -> None:
        """Remember the file; it is opened for each reading."""
        super().__init__(**settings)
        self.path = path
        self.zipped = zipped
        self._count: int | None = None
        self._digest: str | None = None
        self._stamp: list[int] | None = None
        self._bytes = 0

    @property
    def descriptor(self) -> dict[str, Any]:
        """Return kind, absolute path, settings, and what tells whether the file is still the same."""
        return {
            "kind": self.kind,
            "path": str(self.path.absolute()),
            "input_names": None if self.input_names is None else list(self.input_names),
            "on_bad_line": self.on_bad_line,
            "limit": self.limit,
            "digest": self.digest,
            "stamp": self._stamp,
            "bytes": self._bytes,
        }

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the file's bytes, with the limit; read once."""
        if self._digest is None:
            try:
                # Before it is read: what changes meanwhile has another stamp afterwards.
                self._stamp, self._bytes = stamp_of(self.path), self.path.stat().st_size
                with self.path.open("rb") as file:
                    self._digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise ConfigError(f"{self.path} cannot be read: {error.strerror or error}") from error
        return with_limit(self._digest, self.limit)

    def read_digest(self) -> str:
        """Return the digest of what is in the file now."""
        self._digest = None
        return self.digest

    def count(self) -> int:
        """Return the number of usable rows; the first time by reading through the file."""
        if self._count is None:
            rows = self._rows(0) if self.on_bad_line == "skip" else self._uninspected()
            self._count = sum(1 for _ in rows)
        return self._cut(self._count)

    def _rows(self, start: int) -> Iterator[dict[str, Any]]:
        index = 0
        if self.on_bad_line == "skip":
            # Whether a row counts is known only after a look at it.
            for line, raw in self._uninspected():
                row = self._usable(line, raw)
                if row is not None:
                    if index >= start:
                        yield row
                    index += 1
            return
        for line, raw in self._uninspected():
            if index >= start:
                row = self._usable(line, raw)
                if row is not None:
                    yield row
            index += 1

    def _usable(self, line: int, raw: Any) -> dict[str, Any] | None:
        try:
            row = self._parse(raw)
            for name in self.input_names or ():
                if name not in row:
                    raise _BadRow(f"no field {name!r}, an input of the program; it has: {', '.join(row) or 'nothing'}")
        except _BadRow as bad:
            self._bad(line, str(bad), f"{self.path.name} line")
            return None
        return row

    @abstractmethod
    def _uninspected(self) -> Iterator[tuple[int, Any]]:
        """Give (line number, row not yet looked at) of every row that is not blank."""

    @abstractmethod
    def _parse(self, raw: Any) -> dict[str, Any]:
        """Return the row's fields, or raise _BadRow."""


class JsonLines(FileDataset):
    """A JSON object per line; blank lines are passed over."""

    kind = "jsonl"

    def _uninspected(self) -> Iterator[tuple[int, bytes]]:
        return (pair for pair in read_lines(self.path, zipped=self.zipped) if not pair[1].isspace())

    def _parse(self, raw: bytes) -> dict[str, Any]:
        # Not orjson: it turns integers over 64 bits into floats, and an id would silently be another one.
        try:
            row = json.loads(raw)
        except UnicodeDecodeError as error:
            raise _BadRow(f"not UTF-8: {error.reason} at byte {error.start + 1:,}") from None
        except json.JSONDecodeError as error:
            raise _BadRow(f"not valid JSON: {error.msg} at column {error.colno:,}") from None
        except (ValueError, RecursionError) as error:
            raise _BadRow(f"not usable JSON: {error}") from None
        if not isinstance(row, dict):
            hint = " (a JSON array: put each of its objects on a line of its own)" if isinstance(row, list) else ""
            raise _BadRow(f"expected an object with a key per field, got {_json_name(row)}{hint}")
        return row


class CsvRows(FileDataset):
    """A CSV file with a header line; every value is text."""

    kind = "csv"

    def __init__(self, path: Path, *, zipped: bool, **settings: Any) -> None:
        """Read and check the header."""
        super().__init__(path, zipped=zipped, **settings)
        # The limit belongs to the whole process; it is raised, never lowered.
        csv.field_size_limit(max(MAX_LINE, csv.field_size_limit()))
        _, header = next(self._parsed(), (0, []))
        self._header = self._checked(header)

    def _uninspected(self) -> Iterator[tuple[int, list[str] | str]]:
        rows = self._parsed()
        next(rows, None)
        return rows

    def _parse(self, raw: list[str] | str) -> dict[str, Any]:
        if isinstance(raw, str):
            raise _BadRow(raw)
        if len(raw) != len(self._header):
            raise _BadRow(f"expected {len(self._header)} columns as in the header, got {len(raw)}")
        return dict(zip(self._header, raw, strict=True))

    def _parsed(self) -> Iterator[tuple[int, Any]]:
        lines = _Decoded(self)
        reader = csv.reader(lines, strict=True)
        while True:
            first = lines.number + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except (csv.Error, _BadRow) as error:
                # The row is lost; the reader begins anew behind it.
                reader = csv.reader(lines, strict=True)
                yield first, f"not valid CSV: {error}"
                continue
            if row:
                yield first, row

    def _checked(self, found: list[str] | str) -> list[str]:
        name = self.path.name
        if isinstance(found, str):
            raise ConfigError(f"{name} line 1: {found}")
        if not found:
            raise ConfigError(f"{name} holds no examples")
        header = [column.strip() for column in found]
        twice = sorted({column for column in header if header.count(column) > 1})
        if twice:
            raise ConfigError(f"{name} line 1: the header has {', '.join(map(repr, twice))} more than once; rename one")
        if "" in header:
            raise ConfigError(f"{name} line 1: column {header.index('') + 1} of the header has no name; give it one")
        for wanted in self.input_names or ():
            if wanted not in header:
                other = len(header) == 1 and any(mark in header[0] for mark in ";\t|")
                hint = " (columns must be separated by commas)" if other else ""
                raise ConfigError(
                    f"{name} has no column {wanted!r}, an input of the program; it has: {', '.join(header)}{hint}"
                )
        return header


class _BadRow(Exception):
    """A row that is not usable, and why."""


class _Decoded:
    """The file's lines as text for the csv module, and the number of the last one."""

    def __init__(self, dataset: FileDataset) -> None:
        self._lines = read_lines(dataset.path, zipped=dataset.zipped)
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, raw = next(self._lines)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise _BadRow(f"not UTF-8: {error.reason} at byte {error.start + 1:,}") from None


def open_file(path: Path, **settings: Any) -> FileDataset:
    """Open a JSONL or CSV file by its suffix, and look at its first example.

    Raises:
        ConfigError: the suffix is unknown, the file is not there, is empty, or its first example is not
            usable.
    """
    name = path.name.lower()
    zipped = name.endswith(".gz")
    kind = _KINDS.get(Path(name.removesuffix(".gz")).suffix)
    if kind is None:
        raise ConfigError(f"{path} is of no known kind; expected a name ending in {', '.join(_KINDS)}, also with .gz")
    dataset = (JsonLines if kind == "jsonl" else CsvRows)(path, zipped=zipped, **settings)
    for _ in dataset:
        return dataset
    skipped = f" ({dataset.skipped.count:,} bad lines were skipped)" if dataset.skipped.count else ""
    raise ConfigError(f"{path.name} holds no examples{skipped}")


def _json_name(value: Any) -> str:
    names = {list: "an array", str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
