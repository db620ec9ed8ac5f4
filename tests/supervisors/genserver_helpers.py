"""A server that does in its handlers what a test asks for, and readers of the node's log."""

import asyncio
import json
import os
import threading
import time

from supervisors import IGNORE, NO_REPLY, Down, GenServer, Stop
from supervisors.errors import SpecError


class Probe(GenServer):
    """Keeps what it was told in `seen`; a request is the name of a method and its arguments."""

    def init(self, *steps, trap=False):
        self.seen, self.waiting, self.secret = [], [], "hunter2"
        self.trap_exit = trap
        for name, *arguments in steps:
            getattr(self, name)(*arguments)

    def handle_call(self, request, caller):
        name, *arguments = request
        if name == "later":
            self.waiting.append(caller)
            return NO_REPLY
        if name == "watched":
            self.waiting.append(caller)
            self.when_given_up(caller, lambda: self.seen.append(("given up", *arguments)))
            return NO_REPLY
        if name == "forward":
            self.cast(arguments[0], ("answer", caller, "from another"))
            return NO_REPLY
        return getattr(self, name)(*arguments)

    def handle_cast(self, message):
        self.seen.append(("cast", message))
        if isinstance(message, tuple) and message[0] == "answer":
            self.reply(message[1], message[2])
            self.reply(message[1], "second")

    def handle_info(self, message):
        shown = (message.ref, message.reason.kind) if isinstance(message, Down) else message
        self.seen.append(("info", shown))

    def handle_continue(self, value):
        self.seen.append(("continue", value))
        if isinstance(value, int) and value > 0:
            self.continue_with(value - 1)

    def terminate(self, reason):
        path = getattr(self, "path", None)
        if path:
            with open(path, "a") as file:
                file.write(f"{reason.kind}\n")

    def format_status(self, status):
        return {**status, "state": {**status["state"], "secret": "hidden"}}

    # --- what it can be asked ---

    def ask_then(self, target, request, timeout=5.0):
        def answered(reply, error):
            self.seen.append(("answered", reply, type(error).__name__))
            if reply == "crash":
                raise RuntimeError("in the function of an answer")

        self.call_then(target, request, answered, timeout)

    def refused(self, target, timeout):
        try:
            self.ask_then(target, ("look",), timeout)
        except SpecError as error:
            return type(error).__name__

    def echo(self, value):
        return value

    def count_waiting(self):
        return len(self.waiting)

    def pid(self):
        return os.getpid()

    def look(self):
        return self.seen

    def answer(self, value):
        for caller in self.waiting:
            self.reply(caller, value)
            self.reply(caller, "second")
        self.waiting.clear()

    def fail(self, text):
        raise ValueError(text)

    def quit(self, reason, *reply):
        raise Stop(reason, *reply)

    def note(self, path):
        self.path = path

    def idle(self, seconds):
        self.set_idle_timeout(seconds)

    def idle_and_cast(self, seconds):
        self.cast(self.ref, "queued")
        self.set_idle_timeout(seconds)

    def go_on(self, value):
        self.send_after(0, "timer")
        self.continue_with(value)
        return "replied first"

    def lock(self):
        self.held = threading.Lock()

    def block(self, seconds):
        time.sleep(seconds)

    async def pause(self, seconds):
        await asyncio.sleep(seconds)

    async def ask(self, target, request):
        return await self.call(target, request)

    async def finish(self, target):
        await self.stop(target)

    def watch(self, target):
        return self.monitor(target)

    def unwatch(self, number, flush):
        self.demonitor(number, flush)

    async def when_queued(self, count, name, *arguments):
        """Do something as soon as so many messages wait in the mailbox."""
        while len(self._supervisors_engine.mailbox) < count:  # noqa: ASYNC110 - the mailbox tells nobody
            await asyncio.sleep(0.002)
        getattr(self, name)(*arguments)

    def bind(self, target, times=1):
        for _ in range(times):
            self.link(target)

    def unbind(self, target):
        self.unlink(target)

    def signal(self, target, reason):
        self.exit(target, reason)

    def say(self, target, message):
        self.send(target, message)


class Picky(GenServer):
    """Fails to start in every way there is, until the file `allow` exists."""

    def init(self, how, allow):
        if os.path.exists(allow):
            return None
        match how:
            case "raise":
                raise ValueError("no")
            case "stop":
                raise Stop(("shutdown", "no"))
            case "ignore":
                return IGNORE
            case "junk":
                return 42
            case "hang":
                time.sleep(60)
            case "die":
                os._exit(3)
        return None

    def handle_call(self, request, caller):
        return os.getpid()


def log_lines(node, event, actor=None):
    """Return the events of this name in the node's log."""
    lines = (node.data_dir / "logs" / "node.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines]
    return [item for item in items if item["event"] == event and actor in (None, item["actor"])]
