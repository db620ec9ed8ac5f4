"""What the tests with real processes share: servers, and helpers that wait for what they want to see."""

import asyncio
import contextlib
import os
import signal
import sys
import time

import psutil

from supervisors import IGNORE, NO_REPLY, Down, GenServer, Stop, errors
from supervisors.testing import wait_until as until


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def family(pid):
    """Return the pids of a process and of all below it, and what they are called."""
    process = psutil.Process(pid)
    found = {}
    for each in [process, *process.children(recursive=True)]:
        try:
            found[each.pid] = each.name()
        except psutil.NoSuchProcess:
            continue
    return found


def ready_again(node, name, old_pid, seconds=20.0):
    """Wait until another process than `old_pid` answers under `name`; return its pid."""

    def successor():
        try:
            pid = node.call(name, "pid", timeout=1.0)
        except errors.SupervisorsError:
            return None
        return pid if pid != old_pid else None

    return until(successor, seconds)


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)


def kill_quietly(pid):
    with contextlib.suppress(ProcessLookupError):
        kill(pid)


class Counter(GenServer):
    """Counts, and does whatever a test asks for."""

    def init(self, value=0, **options):
        self.value, self.options, self.waiting, self.seen = value, options, [], []

    def handle_call(self, request, caller):
        match request:
            case ("add", n):
                self.value += n
                return self.value
            case "pid":
                return os.getpid()
            case "stop":
                raise Stop("normal", reply="bye")
            case ("stop", reason):
                raise Stop(reason)
            case "boom":
                raise ValueError("bo\u00f6m")
            case "exit":
                sys.exit(3)
            case "later":
                self.waiting.append(caller)
                return NO_REPLY
            case "answer":
                for each in self.waiting:
                    self.reply(each, "first")
                    self.reply(each, "second")
                return len(self.waiting)
            case ("echo", value):
                return value
            case "lock":
                import threading

                return threading.Lock()
            case "block":
                while True:
                    time.sleep(0.1)
            case "seen":
                return self.seen
            case ("after", seconds, message):
                self.send_after(seconds, message)
            case ("monitor", ref):
                self.monitor(ref)
            case "spawn":
                self.spawn(self.fail_later())
            case "spawn exit":
                self.spawn(self.exit_later())
            case "name":
                return self.name, self.ref
        return None

    async def fail_later(self):
        await asyncio.sleep(0.01)
        raise RuntimeError("task")

    async def exit_later(self):
        await asyncio.sleep(0.01)
        sys.exit(4)

    def handle_cast(self, message):
        match message:
            case ("add", n):
                self.value += n
            case "boom":
                raise ValueError("cast")
            case _:
                self.seen.append(message)

    def handle_info(self, message):
        self.seen.append((message.ref, message.reason.kind) if isinstance(message, Down) else message)


class Async(GenServer):
    """Its handlers are coroutines, and it asks others."""

    async def init(self, wait=0.0):
        await asyncio.sleep(wait)

    async def handle_call(self, request, caller):
        match request:
            case ("ask", target, what, timeout):
                return await self.call(target, what, timeout=timeout)
            case ("ask self",):
                return await self.call(self.ref, "x")
            case ("cast", target, what):
                self.cast(target, what)
            case "pid":
                await asyncio.sleep(0)
                return os.getpid()
        return None


class Init(GenServer):
    """Its init does what its argument says."""

    def init(self, what):
        match what:
            case "ignore":
                return IGNORE
            case "raise":
                raise ValueError("no start")
            case "die":
                os._exit(7)
            case "hang":
                time.sleep(600)
            case "stop":
                raise Stop(("shutdown", "not today"))
        return None


class Stubborn(GenServer):
    """Does not end when it is asked."""

    def terminate(self, reason):
        time.sleep(600)

    def handle_call(self, request, caller):
        return os.getpid()


class Recorder(GenServer):
    """Writes a line when it starts and when it terminates."""

    def init(self, path, label):
        self.path, self.label = path, label
        self.write(f"+{label}")

    def handle_call(self, request, caller):
        return os.getpid()

    def terminate(self, reason):
        self.write(f"-{self.label} {reason.kind}")

    def write(self, text):
        with open(self.path, "a") as file:
            file.write(text + "\n")
