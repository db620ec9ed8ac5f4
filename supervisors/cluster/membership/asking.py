"""Asking the door of another node: one connection, one question."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from supervisors.terms.errors import CallFailed, CallTimeout, NodeDown
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values as wire
from supervisors.wire.frames import FrameCodec, FrameError, FrameReader, Opener

#: How long a door may take, in seconds.
ASK_SECONDS = 5.0
_READ_BYTES = 1 << 16


class OtherVersion(CallFailed):
    """The node there speaks another version than this program."""


async def ask_door(
    codec: FrameCodec, address: tuple[str, int], *operation: Any, seconds: float = ASK_SECONDS
) -> tuple[dict[str, Any], Any]:
    """Say hello to a door and ask it for something; return what it says of its node, and the answer.

    Args:
        codec: has the cluster key.
        address: IPv4 address and port of the door.
        operation: its name and arguments (wire/door_protocol.py); without any only hello is said.
        seconds: how long it may take in all.

    Raises:
        NodeDown: nobody answers there, or with another key; it says what to do.
        OtherVersion: it speaks another version.
        CallTimeout: it takes too long.
        SupervisorsError: what the door answers.
    """
    where = f"{address[0]}:{address[1]}"
    try:
        async with asyncio.timeout(seconds):
            try:
                reader, writer = await asyncio.open_connection(*address)
            except OSError as error:
                raise NodeDown(f"no node answers at {where}: {_words(error)}") from error
            try:
                line = _Line(reader, writer, codec, where)
                try:
                    about = await line.ask(1, protocol.HELLO, wire.VERSION, line.name)
                except CallFailed as error:  # a greeting is refused for nothing else
                    raise OtherVersion(error.message) from None
                return about, await line.ask(2, *operation) if operation else None
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise CallTimeout(f"the node at {where} has not answered within {seconds:g} s") from None


def _words(error: OSError) -> str:
    """Return what the system says of it: asyncio puts words of its own there, with its arguments."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)


class _Line:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, codec: FrameCodec, where: str
    ) -> None:
        self.name = f"member-{os.urandom(8).hex()}"
        self._reader, self._writer, self._codec, self._where = reader, writer, codec, where
        self._dest = where
        self._frames = FrameReader(Opener(codec, self.name))

    async def ask(self, number: int, *request: Any) -> Any:
        self._writer.write(self._codec.seal(wire.pack([number, *request]), self._dest))
        while True:
            try:
                data = await self._reader.read(_READ_BYTES)
                payloads = self._frames.feed(data)
            except (OSError, FrameError):
                data = b""
            if not data:
                raise NodeDown(
                    f"the node at {self._where} closed the connection: it has another cluster key (copy its "
                    "cluster.key), or is going down"
                )
            self._dest = self._frames.peer or self._dest
            for payload in payloads:
                answered, is_good, value = wire.unpack(payload)
                if answered != number:
                    continue
                if not is_good:
                    raise value
                return value
