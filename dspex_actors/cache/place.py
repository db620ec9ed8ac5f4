"""What one process has of one cache folder: its claims, a connection to read, a thread that writes.

Every process that uses a folder has this of its own; there is no owner among them. SQLite sees to it that they read and
write one file, and the kernel to the claims. A folder that cannot be used (no space, no right, a newer file) is told
once, and looked at again after a while: answers go on without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from pathlib import Path

from dspex_actors.cache import store
from dspex_actors.cache.claims import Claims
from dspex_actors.cache.known import Known

#: A folder that could not be used is tried again after so many seconds; whether it is still the same one is looked at
#: this often.
AGAIN_SECONDS, LOOK_SECONDS = 30.0, 1.0
#: Answers are written so many seconds apart at least: together, where many come.
LINGER_SECONDS = 0.25
#: So many in one statement.
ROWS = 128
#: So many bytes may wait to be written; what comes then is not kept.
MOST_WAITING_BYTES = 64 << 20
#: Whether the file is too large is looked at after so many rows.
PRUNE_ROWS = 512

_log = logging.getLogger(__name__)
_TROUBLE = (sqlite3.Error, OSError, store.NotOurs)

_places: dict[Path, Place] = {}
_lock = threading.Lock()


def place_of(folder: Path) -> Place:
    """Return this process's place for a folder; nothing is opened yet."""
    with _lock:
        place = _places.get(folder)
        if place is None:
            place = _places[folder] = Place(folder)
        return place


def _forget_all() -> None:
    """Begin anew in a forked child: connections and threads are its parent's."""
    global _lock  # noqa: PLW0603 - it may be held by a thread that is not here
    _lock = threading.Lock()
    _kept_open.extend(_places.values())  # closing them would be felt by the parent
    _places.clear()


_kept_open: list[Place] = []
os.register_at_fork(after_in_child=_forget_all)


class Place:
    """One folder, as this process has it. All but `flush` is called by one thread, or under the caller's own lock.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        """Begin with nothing opened."""
        self.folder = folder
        #: How large the file may become: as it was told last.
        self.limit = 1 << 62
        #: Answers that are not written yet.
        self.pending: dict[bytes, tuple[bytes, float]] = {}
        self._reader: store.Reader | None = None
        self._claims: Claims | None = None
        self._known: Known | None = None
        self._writing: _Writing | None = None
        self._file: tuple[int, int] | None = None
        self._look_at = 0.0
        self._again_at = 0.0
        self._told: set[str] = set()

    def ready(self) -> bool:
        """Say whether the folder can be used now; open it, or open it anew, where need be."""
        now = time.monotonic()
        if self._reader is not None:
            if now < self._look_at:
                return True
            self._look_at = now + LOOK_SECONDS
            if self._file is not None and self._file == _file_of(self.folder):
                return True
            self.close()  # somebody has deleted or replaced it
        elif now < self._again_at:
            return False
        try:
            self._open()
        except _TROUBLE as error:
            self.trouble(error)
            return False
        self._look_at = now + LOOK_SECONDS
        return True

    def _open(self) -> None:
        reader = writer = claims = None
        try:
            reader = store.Reader(store.open_store(self.folder))
            writer = store.Writer(store.open_store(self.folder))
            claims = Claims(self.folder / "claims")
            self._file = _file_of(self.folder)
        except BaseException:
            for each in (reader, writer, claims):
                if each is not None:
                    each.close()
            raise
        self._reader, self._claims, self._known = reader, claims, Known(reader, claims)
        self._writing = _Writing(self, writer)

    def close(self, seconds: float = 0.0) -> None:
        """Write what waits, and close everything; the next use opens it anew.

        Args:
            seconds: the writing is waited for so long.
        """
        writing, reader, claims = self._writing, self._reader, self._claims
        self._writing = self._reader = self._claims = self._known = None
        if reader is not None:
            reader.close()
        if writing is not None:
            writing.close(seconds)
        if claims is not None:
            claims.close()
        self.pending.clear()

    def trouble(self, error: Exception) -> None:
        """Take note that the folder cannot be used now; say so, once for each kind of trouble."""
        self._again_at = time.monotonic() + AGAIN_SECONDS
        why = str(error)
        if why not in self._told:
            self._told.add(why)
            _log.warning("the cache in %s cannot be used: %s; answers go on without it", self.folder, why)

    # --- by key; only where `ready` ----------------------------------------------------------------------------------

    def claim(self, key: bytes) -> bool:
        """Claim a key; say whether no other process has it. What is computed under a claim is `put`, or `free`d."""
        claims = self._claims
        if claims is None:
            return True
        try:
            return claims.take(key)
        except OSError as error:
            self.trouble(error)
            return True

    def free(self, key: bytes) -> None:
        """Leave a claim."""
        if self._claims is not None:
            with contextlib.suppress(OSError):
                self._claims.free(key)

    def find(self, key: bytes) -> store.Found | None:
        """Return what is kept under a key; None: nothing, or it cannot be read just now."""
        waiting = self.pending.get(key)
        if waiting is not None:
            return store.Found(*waiting, is_due=False)
        reader, known = self._reader, self._known
        if reader is None or known is None:
            return None
        try:
            return reader.find(key) if known.may_have(key) else None
        except (sqlite3.Error, OSError) as error:
            self._unreadable(error)
            return None

    def _unreadable(self, error: Exception) -> None:
        self.trouble(error)
        if self.damaged(error):
            self.close()
            self._again_at = 0.0

    def damaged(self, error: Exception) -> bool:
        """Put the file aside if an error says that it is damaged, and say so; the next look begins it anew."""
        if not isinstance(error, sqlite3.Error) or not store.is_damage(error):
            return False
        if self._file is not None and self._file == _file_of(self.folder):  # else somebody else has done it
            with contextlib.suppress(OSError):
                store.put_aside(self.folder / store.FILE)
        self._file, self._look_at = None, 0.0
        return True

    def questions(self, scope: int, above: int) -> list[tuple[int, int, int, str, bytes]]:
        """Return the questions of a scope that have come in since one of them."""
        if self._reader is None:
            return []
        try:
            return self._reader.questions(scope, above)
        except sqlite3.Error as error:
            self._unreadable(error)
            return []

    def epoch(self) -> bytes:
        """Return what says whether answers were taken back anywhere."""
        return b"" if self._claims is None else self._claims.epoch()

    def put(self, key: bytes, value: bytes, tenant: int, *, is_claimed: bool, urgent: bool = False) -> None:
        """Keep an answer: soon. A claim on it is left once it is kept, and others find it.

        Args:
            key: the key.
            value: the answer's bytes.
            tenant: its number.
            is_claimed: whether the key is claimed.
            urgent: it is written at once.
        """
        if self._writing is None or not self._writing.takes(len(value)):
            if is_claimed:
                self.free(key)
            return
        now = time.time()
        self.pending[key] = (value, now)
        self._writing.put(key, store.row(key, value, tenant, now), is_claimed=is_claimed, urgent=urgent)

    def put_question(self, scope: int, key: bytes, tenant: int, text: str, vector: bytes) -> None:
        """Keep a question to an answer."""
        if self._writing is not None:
            self._writing.add("question", (scope, *store.halves(key), tenant, text, vector))

    def touch(self, key: bytes) -> None:
        """Write down that an answer was used."""
        if self._writing is not None:
            self._writing.add("touch", store.halves(key)[0])

    def forget(self, key: bytes) -> None:
        """Take an answer back, everywhere."""
        self.pending.pop(key, None)
        if self._writing is not None:
            self._writing.add("forget", store.halves(key)[0], urgent=True)

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until what was put is written; say whether it is."""
        return self._writing is None or self._writing.flush(seconds)

    def landed(self, keys: list[tuple[bytes, bytes, bool]]) -> None:
        """Take note that answers are written, or never will be; called by the thread that writes."""
        claims = self._claims
        if claims is not None:
            with contextlib.suppress(OSError):
                claims.turn_writes()  # before the claims are left: who has one then knows of the answer
        for key, value, is_claimed in keys:
            waiting = self.pending.get(key)
            if waiting is not None and waiting[0] is value:
                del self.pending[key]
            if is_claimed:
                self.free(key)

    def taken_back(self) -> None:
        """Let every process know that answers were taken back."""
        if self._claims is not None:
            with contextlib.suppress(OSError):
                self._claims.turn_epoch()


class _Writing:
    """The thread that writes for one place; begun with the first thing that there is to write.

    Args:
        place: whose it is.
        writer: the connection.
    """

    def __init__(self, place: Place, writer: store.Writer) -> None:
        self._place, self._writer = place, writer
        self._queue: deque[tuple[str, object]] = deque()
        self._taken = self._written = 0  # bytes; each is one thread's, so that none is lost
        self._wake, self._urgent = threading.Event(), threading.Event()
        self._is_awake = False
        self._is_closed = False
        self._rows = PRUNE_ROWS  # the first write looks
        self._thread: threading.Thread | None = None

    def takes(self, size: int) -> bool:
        """Say whether so many bytes more may wait."""
        return self._taken - self._written + size <= MOST_WAITING_BYTES

    def put(self, key: bytes, row: store.Row, *, is_claimed: bool, urgent: bool) -> None:
        """Have a row written."""
        self._taken += len(row[-1])
        self.add("put", (key, row, is_claimed), urgent=urgent)

    def add(self, kind: str, what: object, *, urgent: bool = False) -> None:
        """Have something done."""
        self._queue.append((kind, what))
        if urgent:
            self._urgent.set()
        if not self._is_awake:
            self._is_awake = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dspex cache", daemon=True)
                self._thread.start()
            self._wake.set()

    def flush(self, seconds: float) -> bool:
        """Wait until everything so far is done."""
        if self._thread is None or not self._thread.is_alive():
            return not self._queue
        done = threading.Event()
        self.add("told", done, urgent=True)
        return done.wait(seconds)

    def close(self, seconds: float) -> None:
        """Do the rest, and end; wait for it so long."""
        self._is_closed = True
        if self._thread is None:
            self._writer.close()
        else:
            self.add("told", threading.Event(), urgent=True)
            if seconds:
                self._thread.join(seconds)

    def _run(self) -> None:
        wrote = 0.0
        while True:
            self._wake.wait()
            self._wake.clear()
            while self._queue:
                pause = wrote + LINGER_SECONDS - time.monotonic()
                if pause > 0 and not self._is_closed:
                    self._urgent.wait(pause)
                self._urgent.clear()
                self._do([self._queue.popleft() for _ in range(len(self._queue))])
                wrote = time.monotonic()
            self._is_awake = False
            if self._queue:  # it came just before that
                self._is_awake = True
                self._wake.set()
            elif self._is_closed:
                self._writer.close()
                return

    def _do(self, orders: list[tuple[str, object]]) -> None:
        at = 0
        while at < len(orders):
            kind, until = orders[at][0], at + 1
            while until < len(orders) and orders[until][0] == kind:
                until += 1
            together = [what for _, what in orders[at:until]]
            if kind == "put":
                self._put(together)
            elif kind == "told":
                for event in together:
                    event.set()  # type: ignore[attr-defined]
            else:
                self._change(kind, together)
            at = until

    def _put(self, puts: list[object]) -> None:
        place = self._place
        rows: list[tuple[bytes, store.Row, bool]] = puts  # type: ignore[assignment]
        while rows:
            # Statements of few lengths: each is compiled once.
            count = min(ROWS, 1 << (len(rows).bit_length() - 1))
            batch, rows = rows[:count], rows[count:]
            try:
                # Of two with one key in one statement, the later one stays.
                self._writer.put([row for _, row, _ in batch])
                self._rows += count
                if self._rows >= PRUNE_ROWS:
                    self._rows = 0
                    self._writer.prune(place.limit)
            except Exception as error:
                place.trouble(error)
                place.damaged(error)
            self._written += sum(len(row[-1]) for _, row, _ in batch)
            place.landed([(key, row[-1], is_claimed) for key, row, is_claimed in batch])

    def _change(self, kind: str, what: list[object]) -> None:
        try:
            if kind == "question":
                self._writer.put_questions(what)  # type: ignore[arg-type]
            elif kind == "touch":
                ids = list(dict.fromkeys(what))
                for at in range(0, len(ids), ROWS):
                    self._writer.touch(ids[at : at + ROWS])  # type: ignore[arg-type]
            else:
                self._writer.forget(what)  # type: ignore[arg-type]
                self._place.taken_back()
        except Exception as error:
            self._place.trouble(error)


def _file_of(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(folder / store.FILE)
    except OSError:
        return None
    return found.st_dev, found.st_ino
