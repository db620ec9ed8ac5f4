"""A live page on a terminal: the other screen, redrawn in place, keys read one by one.

A frame is one write, over the one before it and inside a synchronized update, so that nothing flickers; whatever ends
the page, Ctrl-Z included, gives the terminal back as it was.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import click

from supervisors.errors import SupervisorsError

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J", "\x1b[?25h\x1b[?1049l"
_BEGIN, _END = "\x1b[?2026h\x1b[H", "\x1b[J\x1b[?2026l"
_KEYS = {
    "\x1b[A": "up",
    "\x1b[B": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "k": "up",
    "j": "down",
    " ": "page down",
    "\x1b": "q",
}
Found = TypeVar("Found")


class Screen:
    """The terminal while a live page is on it; a context manager."""

    def __init__(self) -> None:
        """Refuse what is no terminal."""
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise click.UsageError("a live view needs a terminal; --once or --json print it one time")
        self.offset = 0
        self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
        self._before = termios.tcgetattr(self._input)

    def __enter__(self) -> Screen:
        """Take the terminal."""
        self._handlers = {
            signal.SIGTSTP: signal.signal(signal.SIGTSTP, self._suspend),
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, lambda *_: self._wake()),
        }
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._take()
        return self

    def __exit__(self, *error: object) -> None:
        """Give it back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._give()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _take(self) -> None:
        tty.setcbreak(self._input)
        self._write(_ENTER)

    def _give(self) -> None:
        self._write(_LEAVE)
        termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def _suspend(self, *_: Any) -> None:
        self._give()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()  # it goes on, in the foreground again
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b".")

    def _write(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self._output, data) :]

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        return os.get_terminal_size(self._output)

    def draw(self, head: list[str], body: list[str], foot: list[str]) -> None:
        """Show lines: `body` scrolls between `head` and `foot`, which stay."""
        room = max(1, self.size[1] - len(head) - len(foot))
        self.offset = max(0, min(self.offset, len(body) - room))
        shown = body[self.offset : self.offset + room]
        shown += [""] * (room - len(shown))
        lines = (head + shown + foot)[: self.size[1]]
        self._write(_BEGIN + "\r\n".join(f"{line}\x1b[0m\x1b[K" for line in lines) + _END)

    def key(self, seconds: float) -> str | None:
        """Return the next key, scrolling done; None when there was none in that time, or the window has changed."""
        ready, _, _ = select.select([self._input, self._wake_read], [], [], seconds)
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if self._input not in ready:
            return None
        data = os.read(self._input, 64).decode("utf-8", "replace")
        if not data:
            return "q"  # the terminal has gone
        name = _KEYS.get(data, data if data.startswith("\x1b") else _KEYS.get(data[-1], data[-1]))
        page = max(1, self.size[1] - 6)
        self.offset += {"up": -1, "down": 1, "page up": -page, "page down": page}.get(name, 0)
        return name


class Sampler(Generic[Found]):
    """Looks again and again, in a thread, so that keys are answered also while the node is not.

    Args:
        look: returns what there is; an error of the node is kept, and it looks again.
        interval: seconds between looks.
    """

    def __init__(self, look: Callable[[], Found], interval: float) -> None:
        """Look once now; that may fail."""
        self.latest, self.taken = look(), time.monotonic()
        self.trouble: str | None = None
        self._look, self._interval = look, interval
        threading.Thread(target=self._run, name="sampler", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(self._interval)
            try:
                self.latest = self._look()
                self.taken, self.trouble = time.monotonic(), None
            except SupervisorsError as error:
                self.trouble = str(error)
