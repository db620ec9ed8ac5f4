"""The child's main: locks itself in, then runs what it is told, until its parent is gone."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from dspex_actors.sandbox.frames import HEAD, body_of, frame, length_of
from dspex_actors.sandbox.session import Session, told
from dspex_actors.sandbox.walls import Walls

#: Bytes of a message that the parent may send; it is believed.
_MOST = 1 << 30


class ToolFailed(RuntimeError):
    """A tool of the host's has raised."""


class _Line:
    """The way to the parent. Code has no other: its own 0, 1 and 2 lead nowhere."""

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        os.close(nowhere)

    def send(self, message: dict[str, Any]) -> None:
        data = frame(message)
        while data:
            data = data[os.write(self._out, data) :]

    def receive(self) -> dict[str, Any]:
        return body_of(self._read(length_of(self._read(HEAD), _MOST)))

    def _read(self, length: int) -> bytes:
        parts = []
        while length:
            part = os.read(self._in, min(length, 1 << 20))
            if not part:
                os._exit(0)  # the parent is gone
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def ask(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        self.send({"type": "tool", "name": name, "args": list(args), "kwargs": kwargs})
        answer = self.receive()
        if answer["type"] != "tool_result":
            raise ToolFailed(str(answer.get("error")))
        return answer.get("value")


def main() -> None:
    """Serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    line = _Line()
    told_by_parent = line.receive()
    sys.path += [place for place in dict.fromkeys(told_by_parent["packages"]) if place not in sys.path]
    walls = Walls(**told_by_parent["walls"])
    walls.put_up()
    line.send({"type": "ready", **walls.report()})
    session = Session(line.ask, told_by_parent["output"], walls.scratch)
    gc.freeze()
    while True:
        request = line.receive()
        try:
            answer = frame(session.run(request))
        except BaseException as error:  # what it gave cannot be told
            answer = frame({"type": "error", "error": told(error), "printed": ""})
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        while answer:
            answer = answer[os.write(line._out, answer) :]


if __name__ == "__main__":
    main()
