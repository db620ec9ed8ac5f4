"""The modules of a node on its disk: one SQLite file, written by the manager, read by the workers.

What a version is made of stands there once, by digest, however many versions share it. A change is one transaction that
is on the disk before anybody hears of it: a kill leaves the module as it was, or as it is to be.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import msgpack

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.sqlite import ask
from dspex_actors.modules.core import Module, Version

#: In the node's data folder.
MODULES_FILE = "modules.db"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS blobs (digest TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS modules (id TEXT PRIMARY KEY, current INTEGER NOT NULL, last INTEGER NOT NULL, "
    "about TEXT NOT NULL, orders TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS versions (module TEXT NOT NULL, number INTEGER NOT NULL, program TEXT NOT NULL, "
    "around TEXT NOT NULL, followed INTEGER, at REAL NOT NULL, note TEXT NOT NULL, PRIMARY KEY (module, number))",
    "CREATE TABLE IF NOT EXISTS counts (module TEXT NOT NULL, number INTEGER NOT NULL, figures BLOB NOT NULL, "
    "PRIMARY KEY (module, number))",
)


def digest_of(data: bytes) -> str:
    """Return the name of a blob."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()


def read_blobs(path: Path, digests: Iterable[str]) -> list[bytes]:
    """Return blobs; for a worker.

    Raises:
        ConfigError: one is not there any more.
        sqlite3.Error, OSError: as SQLite has it.
    """
    wanted = list(digests)

    def find(db: sqlite3.Connection) -> dict[str, bytes]:
        marks = ",".join("?" * len(wanted))
        return dict(db.execute(f"SELECT digest, data FROM blobs WHERE digest IN ({marks})", wanted))  # noqa: S608

    nothing: dict[str, bytes] = {}
    found = ask(path, find, nothing)
    if missing := [digest for digest in wanted if digest not in found]:
        raise ConfigError(f"{path} does not have the program {missing[0][:12]} any more: its version was removed")
    return [found[digest] for digest in wanted]


class Store:
    """The file.

    Args:
        folder: the node's data folder.
    """

    def __init__(self, folder: Path) -> None:
        """Open it."""
        self.path = folder / MODULES_FILE
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(self.path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        for statement in _SCHEMA:
            self._db.execute(statement)
        #: Of versions that are being made.
        self._staged: list[str] = []
        self._sweep()

    def close(self) -> None:
        """Close it."""
        self._db.close()

    # --- reading ----------------------------------------------------------------------------------------------------

    def modules(self) -> list[Module]:
        """Return all modules."""
        versions: dict[str, dict[int, Version]] = {}
        rows = "SELECT module, number, program, around, followed, at, note FROM versions ORDER BY module, number"
        for module, *row in self._db.execute(rows):
            versions.setdefault(module, {})[row[0]] = Version(*row)
        return [
            Module(
                id_,
                current,
                last,
                versions[id_],
                json.loads(about),
                tuple((token, number) for token, number in json.loads(orders)),
            )
            for id_, current, last, about, orders in self._db.execute(
                "SELECT id, current, last, about, orders FROM modules ORDER BY id"
            )
        ]

    def blob(self, digest: str) -> bytes:
        """Return a blob that a version has."""
        [[data]] = self._db.execute("SELECT data FROM blobs WHERE digest = ?", (digest,))
        return bytes(data)

    def counts(self) -> dict[tuple[str, int], Any]:
        """Return what was counted, by module and version."""
        return {
            (module, number): msgpack.unpackb(figures, strict_map_key=False)
            for module, number, figures in self._db.execute("SELECT module, number, figures FROM counts")
        }

    # --- writing ----------------------------------------------------------------------------------------------------

    def stage(self, *blobs: bytes) -> list[str]:
        """Write what a version is made of, before there is one; return the digests.

        Raises:
            OSError: it cannot be written.
        """
        digests = [digest_of(data) for data in blobs]
        self._staged += digests
        with self._writing():
            self._db.executemany("INSERT OR IGNORE INTO blobs VALUES (?, ?)", zip(digests, blobs, strict=True))
        return digests

    def unstage(self, digests: Iterable[str]) -> None:
        """The version is there, or will not be."""
        for digest in digests:
            self._staged.remove(digest)

    def write(self, before: Module | None, after: Module) -> None:
        """Let a module be so from now on.

        Raises:
            OSError: it cannot be written; it is as before.
        """
        known: Collection[int] = before.versions if before is not None else ()
        added = [version for number, version in after.versions.items() if number not in known]
        gone = [number for number in known if number not in after.versions]
        with self._writing():
            self._db.execute(
                "INSERT OR REPLACE INTO modules VALUES (?, ?, ?, ?, ?)",
                (after.id, after.current, after.last, json.dumps(after.about), json.dumps(after.orders)),
            )
            self._db.executemany(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (after.id, each.number, each.program, each.around, each.followed, each.at, each.note)
                    for each in added
                ],
            )
            for table in ("versions", "counts"):
                self._db.executemany(
                    f"DELETE FROM {table} WHERE module = ? AND number = ?",  # noqa: S608
                    [(after.id, number) for number in gone],
                )
            if gone:
                self._drop_unused([before.versions[number] for number in gone])  # type: ignore[union-attr]

    def remove(self, module: Module) -> None:
        """Have a module no more.

        Raises:
            OSError: it cannot be written.
        """
        with self._writing():
            self._db.execute("DELETE FROM modules WHERE id = ?", (module.id,))
            self._db.execute("DELETE FROM versions WHERE module = ?", (module.id,))
            self._db.execute("DELETE FROM counts WHERE module = ?", (module.id,))
            self._drop_unused(module.versions.values())

    def count(self, figures: Iterable[tuple[str, int, Any]]) -> None:
        """Write what was counted; it need not outlive the machine.

        Raises:
            OSError: it cannot be written.
        """
        self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            with self._writing():
                self._db.executemany(
                    "INSERT OR REPLACE INTO counts SELECT ?1, ?2, ?3 "
                    "WHERE EXISTS (SELECT 1 FROM versions WHERE module = ?1 AND number = ?2)",
                    [(module, number, msgpack.packb(each)) for module, number, each in figures],
                )
        finally:
            self._db.execute("PRAGMA synchronous = FULL")

    def _writing(self) -> _Transaction:
        return _Transaction(self._db)

    def _drop_unused(self, versions: Iterable[Version]) -> None:
        digests = {digest for version in versions for digest in (version.program, version.around)}
        self._db.executemany(
            "DELETE FROM blobs WHERE digest = ?1 AND NOT EXISTS "
            "(SELECT 1 FROM versions WHERE program = ?1 OR around = ?1)",
            [(digest,) for digest in digests.difference(self._staged)],
        )

    def _sweep(self) -> None:
        """Remove what was staged by one that was killed."""
        with self._writing():
            self._db.execute(
                "DELETE FROM blobs WHERE digest NOT IN (SELECT program FROM versions UNION SELECT around FROM versions)"
            )


class _Transaction:
    """All of it or nothing; what SQLite cannot do is an OSError."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise OSError(str(error)) from None

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        try:
            self._db.execute("COMMIT" if error is None else "ROLLBACK")
        except sqlite3.Error as broken:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise OSError(str(broken)) from None
        if isinstance(error, sqlite3.Error):
            raise OSError(str(error)) from None
