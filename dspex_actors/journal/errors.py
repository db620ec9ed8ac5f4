"""What can go wrong with a journal file, in words that say what to do about it.

::

    DspexError
     ├─ JournalError        the journal cannot be used just now (locked by another program, an I/O error)
     │   ├─ JournalFull     no space left; nothing of the batch was written, try again once there is space
     │   └─ JournalReadOnly the file or its file system refuses writing
     ├─ Fenced              the run was claimed by another coordinator: this one writes it no more
     └─ ConfigError
         ├─ NotHere         the run goes on at another node, or that one has what is missing here
         └─ JournalCorrupt  damaged, not a journal, or written by a newer version
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dspex_actors.errors import ConfigError, DspexError


class JournalError(DspexError):
    """The journal cannot be used just now; what was written before is safe."""


class JournalFull(JournalError):
    """No space is left for the journal; the batch was rolled back and can be written again later."""


class JournalReadOnly(JournalError):
    """The journal's file or file system refuses writing."""


class Fenced(DspexError):
    """The run was claimed by another coordinator; nothing of the batch was written, and nothing ever will be."""


class NotHere(ConfigError):
    """The run is another node's at present; that says nothing of the run."""


class JournalCorrupt(ConfigError):
    """The file is damaged, is no journal, or was written by a newer version."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise inside the block into the errors above."""
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(path, error) from error
    except OSError as error:
        raise _from_os(path, error) from error


def corrupt(path: Path, what: str) -> JournalCorrupt:
    """Return the error for a damaged file: what is wrong, and the two ways out."""
    return JournalCorrupt(
        f"{path} {what}. Recover what is readable with `sqlite3 {path.name} .recover | sqlite3 recovered.db` "
        f"and put that in its place, or move {path.name} away to start with an empty journal"
    )


def _from_sqlite(path: Path, error: sqlite3.Error) -> DspexError:
    code = getattr(error, "sqlite_errorcode", None)
    primary = (code or 0) & 0xFF
    match primary:
        case sqlite3.SQLITE_FULL:
            return _full(path)
        case sqlite3.SQLITE_READONLY:
            return _read_only(path)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return corrupt(path, f"is damaged ({error})")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return JournalError(f"{path} is locked by another program (an open sqlite3 shell?): close that")
        case sqlite3.SQLITE_CANTOPEN:
            return JournalError(f"{path} cannot be opened: check the permissions of file and folder")
    return JournalError(f"{path}: {error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})")


def _from_os(path: Path, error: OSError) -> DspexError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(path)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return _read_only(path)
    return JournalError(f"{path}: {error.strerror or error}")


def _full(path: Path) -> JournalFull:
    return JournalFull(f"no space left for {path}: free some and go on; everything acknowledged is kept")


def _read_only(path: Path) -> JournalReadOnly:
    return JournalReadOnly(f"{path} cannot be written: make the file and its folder writable for this user")
