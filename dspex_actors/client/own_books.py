"""What LMs of a program's own were asked outside of runs, on its way to the journal: in sums, once a second."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import threading
import time
from contextvars import Context

from dspex_actors.journal.schema import Values, attempt_values
from dspex_actors.journal.spend import Sums
from dspex_actors.lm.attempts import Attempt, book_outside_no_more, book_outside_with
from dspex_actors.names import RUNS
from dspex_actors.observe.away import is_gone
from dspex_actors.observe.reporting import report_from_program
from dspex_actors.runs.messages import Paid
from supervisors import Node, Ref
from supervisors.errors import NodeDown, SupervisorsError
from supervisors.host import processes

#: Sums are told this often, and a keeper that does not answer is asked again after so many seconds.
TELL_SECONDS, AGAIN_SECONDS = 1.0, 0.2
#: At the end of a connection the rest is told within so many seconds, or left.
CLOSE_SECONDS = 2.0
#: The thread that tells them ends when there was nothing to tell for so many seconds.
IDLE_SECONDS = 5.0


class OwnBooks:
    """The sums of one connection; thread-safe.

    Args:
        node: the connection.
    """

    def __init__(self, node: Node) -> None:
        """Take what this program's own LMs enter from now on."""
        self._node, self._pid = node, os.getpid()
        #: Who tells them: another one for each connection, so that batches are told apart.
        self._me = Ref("127.0.0.1", 0, self._pid, processes.born(self._pid), secrets.token_hex(8))
        self._sums, self._batch = Sums(), 0
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        book_outside_with(self.enter)
        atexit.register(self.close)

    def enter(self, attempt: Attempt) -> None:
        """Add a request; whoever enters it does not wait."""
        if os.getpid() != self._pid or self._closing.is_set():
            return  # a forked child has neither the thread nor the connection
        with self._news:
            self._sums.add("", (attempt_values(attempt),))
            self._news.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dspex-own-books", daemon=True)
                Context().run(self._thread.start)  # its calls belong to no operation

    def _run(self) -> None:
        while True:
            with self._news:
                if not self._sums and not self._closing.is_set():
                    self._news.wait(IDLE_SECONDS)
                rows = self._sums.take()
                if not rows:
                    self._thread = None
                    return
            self._bring(rows)
            self._closing.wait(TELL_SECONDS)

    def _bring(self, rows: list[Values]) -> None:
        """Have rows written down, however long the keeper of runs is away; not where the node is gone."""
        self._batch += 1
        message, last = Paid(self._me, self._batch, rows), float("inf")
        while time.monotonic() < last:
            try:
                kind, _ = self._node.call(RUNS, message, 10.0)
                if kind == "ok":
                    return
            except NodeDown:
                if is_gone(self._node):
                    return
            except SupervisorsError:
                pass
            if self._closing.wait(AGAIN_SECONDS):
                last = min(last, time.monotonic() + CLOSE_SECONDS)
                time.sleep(AGAIN_SECONDS)

    def close(self) -> None:
        """Tell the rest, and end."""
        book_outside_no_more(self.enter)
        with contextlib.suppress(Exception):
            atexit.unregister(self.close)
        self._closing.set()
        with self._news:
            self._news.notify()
            thread = self._thread
        if thread is not None and self._pid == os.getpid():
            thread.join(CLOSE_SECONDS)


class Reporting:
    """What tells a node of this program: events, figures, and what its own LMs were asked.

    Args:
        node: the connection.
    """

    def __init__(self, node: Node) -> None:
        """Begin."""
        self._reporting = report_from_program(node)
        self.events = self._reporting.events
        self._books = OwnBooks(node)

    def close(self) -> None:
        """Tell the rest, and end."""
        self._books.close()
        self._reporting.close()
