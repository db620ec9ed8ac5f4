"""The parent's side of a child: it is started, told, heard with a deadline, and killed. Nothing here trusts it."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from dspex_actors.sandbox import scratch
from dspex_actors.sandbox.frames import HEAD, BadFrame, body_of, frame, length_of

#: Seconds that a child may take until it is ready; a busy host takes long.
_START_SECONDS = 60.0
#: Children of one process at a time; more wait, so many seconds: until those before have asked their LMs.
MOST, _PLACE_SECONDS = 64, 600.0
#: How often is looked at what is written to a scratch folder on the host.
_LOOK_SECONDS = 0.5
#: The child's code: it is imported from where this is, and sees nothing else of there afterwards.
_CODE = """
import sys
sys.path.insert(0, {place!r})
from dspex_actors.sandbox.child import main
sys.path.remove({place!r})
main()
"""


class Gone(Exception):
    """The child has ended, or was ended; says why."""


class Late(Gone):
    """The child took too long, and was ended."""


class _Starter:
    """A thread that starts all children of this process.

    A child gets SIGKILL when the thread that started it ends: so that thread has to live as long as the process.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh; in a forked child, whose threads did not come along."""
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] | None = None

    def run(self, job: Callable[[], Any]) -> Any:
        """Do something in that thread."""
        with self._lock:
            if self._jobs is None:
                self._jobs = queue.SimpleQueue()
                threading.Thread(target=self._serve, args=(self._jobs,), name="dspex-code", daemon=True).start()
        done: Future[Any] = Future()
        self._jobs.put((job, done))
        return done.result()

    def _serve(self, jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]]) -> None:
        while True:
            job, done = jobs.get()
            try:
                done.set_result(job())
            except BaseException as error:
                done.set_exception(error)
            del job, done


_starter = _Starter()
os.register_at_fork(after_in_child=_starter.forget)


class _Places:
    """How many children there may be in this process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start afresh; in a forked child."""
        self._free = threading.BoundedSemaphore(MOST)

    def take(self) -> None:
        """Wait for a place."""
        if not self._free.acquire(timeout=_PLACE_SECONDS):
            raise OSError(f"{MOST} interpreters are open in this process, and none was shut down in ten minutes")

    def give_back(self) -> None:
        """Leave it to others."""
        with contextlib.suppress(ValueError):  # taken before a fork
            self._free.release()


_places = _Places()
os.register_at_fork(after_in_child=_places.forget)


class Child:
    """A process that runs code.

    Args:
        walls: as of `Walls`, without scratch and parent.
        output: characters that a piece of code may print.
        environment: variables of its environment.

    Raises:
        OSError: no process can be started.
        Gone: it ended before it was ready.
    """

    def __init__(self, walls: dict[str, Any], output: int, environment: dict[str, str]) -> None:
        """Start it, and wait until it is locked in."""
        self._most = 8 * output + (1 << 20)  # JSON may take six characters for one
        self._disk: int = walls["disk"]
        self._memory: int = walls["memory"]
        self._scratch = scratch.new()
        self._is_over = False
        self._talk = threading.RLock()  # whoever reads or writes; pipes are closed by nobody else meanwhile
        try:
            _places.take()
        except BaseException:
            scratch.remove(self._scratch)
            raise
        try:
            self._process: subprocess.Popen[bytes] = _starter.run(lambda: self._start(environment))
        except BaseException:
            _places.give_back()
            scratch.remove(self._scratch)
            raise
        try:
            self._talk_without_waiting()
            packages = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
            told = {**walls, "read": [*packages, *walls["read"]], "scratch": self._scratch, "parent": os.getpid()}
            deadline = time.monotonic() + _START_SECONDS
            self.send({"type": "begin", "walls": told, "packages": packages, "output": output}, deadline)
            self.report = self.receive(deadline)
        except Late:
            raise Gone(
                f"its process was not ready within {_START_SECONDS:g} s: this host is too busy; run less at a time"
            ) from None
        except Gone as error:
            raise Gone(f"{error}, before it was ready") from None
        except BaseException:
            self.end()
            raise
        self._looks = not self.report.get("in_memory")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _start(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        place = str(Path(__file__).resolve().parents[2])
        # Without `site`: what packages run when an interpreter starts (.pth files) is not run here.
        return subprocess.Popen(  # noqa: S603 - our own interpreter and our own code
            [sys.executable, "-I", "-S", "-X", "utf8", "-c", _CODE.format(place=place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self._scratch,
            env={"LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "HOME": self._scratch,
                 "TMPDIR": self._scratch, **environment},
            start_new_session=True,
            close_fds=True,
        )  # fmt: skip

    def _talk_without_waiting(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    def send(self, message: dict[str, Any], deadline: float) -> None:
        """Tell it something.

        Raises:
            TypeError, ValueError: it is not JSON.
            Gone: it has ended, or does not listen.
        """
        data = memoryview(frame(message))
        with self._talk:
            while data:
                self._wait([], [self._in], deadline)
                try:
                    data = data[os.write(self._in, data) :]
                except BlockingIOError:
                    continue
                except OSError:
                    raise self._lost() from None

    def receive(self, deadline: float) -> dict[str, Any]:
        """Hear what it says.

        Raises:
            Gone: it has ended, was late, or said what is no message.
        """
        with self._talk:
            try:
                return body_of(self._read(length_of(self._read(HEAD, deadline), self._most), deadline))
            except BadFrame as error:
                self.end()
                raise Gone(f"it wrote to where only answers go ({error})") from None

    def _read(self, length: int, deadline: float) -> bytes:
        parts = []
        while length:
            self._wait([self._out], [], deadline)
            try:
                part = os.read(self._out, min(length, 1 << 20))
            except BlockingIOError:
                continue
            except OSError:
                part = b""
            if not part:
                raise self._lost()
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _wait(self, reading: list[int], writing: list[int], deadline: float) -> None:
        """Wait until it can be read from, or written to."""
        while not self._is_over:
            left = deadline - time.monotonic()
            if left <= 0:
                self.end()
                raise Late("it took too long")
            events = select.poll()
            for each in reading:
                events.register(each, select.POLLIN)
            for each in writing:
                events.register(each, select.POLLOUT)
            try:
                if events.poll(1000 * min(left, _LOOK_SECONDS)):
                    return
            except OSError:
                break
            if self._looks_full():
                self.end()
                raise Gone(f"it wrote more than {self._disk:,} bytes to its folder")
        raise self._lost()

    _looks = False

    def _looks_full(self) -> bool:
        return self._looks and scratch.size(self._scratch) > self._disk

    def _lost(self) -> Gone:
        """Say how it ended."""
        ended_by_us = self._is_over
        self.end()
        code = self._process.returncode
        if ended_by_us:
            return Gone("the interpreter was shut down")
        if code == -9:
            return Gone("it was killed: it used more CPU time or memory than it may have")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Gone(f"its process ended ({how}); it may have {self._memory:,} bytes of memory")

    def end(self) -> None:
        """Kill it, and what it has left; again, and from any thread."""
        self._is_over = True
        if self._process.returncode is None:
            with contextlib.suppress(OSError):  # it has ended, or has no group yet
                os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                self._process.kill()
        self._process.wait()
        with self._talk:  # who waits for it sees its end
            if self._process.stdin is None or self._process.stdin.closed:
                return
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
        scratch.remove(self._scratch)
        _places.give_back()
