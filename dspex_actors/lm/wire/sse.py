"""Server-sent events from bytes, as they come. Pure.

The format is the HTML standard's ("9.2.6 Interpreting an event stream"), with two differences: an event that is larger
than a bound is an error, and what stands at the end without an empty line behind it is an event all the same, for
servers that forget the line.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Bytes of one event at most, all its lines together: no provider comes near it.
MAX_EVENT = 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_LF, _CR, _COLON = 10, 13, 58


class EventTooLarge(ValueError):
    """An event, or a line of one, is larger than the bound."""


@dataclass(slots=True)
class Event:
    """One event.

    Args:
        data: its data lines, joined by line feeds.
        event: its type; empty where the server named none.
    """

    data: bytes
    event: str = ""


class EventReader:
    """Turns bytes, cut anywhere, into events. Lines end in LF, CR LF or CR.

    Args:
        most: bytes of an event at most.
    """

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_data",
        "_is_between",
        "_is_broken",
        "_kind",
        "_most",
        "_rest",
        "_size",
        "id",
        "retry",
    )

    def __init__(self, most: int = MAX_EVENT) -> None:
        """Begin at the start of a stream."""
        self._most = most
        self._at_start = True
        self._after_cr = self._is_broken = False
        #: Nothing has come of the next event.
        self._is_between = True
        #: What has come of a line that has not ended.
        self._rest: list[bytes] = []
        #: The event that is being read: its data lines, its type, and the bytes of both and of the rest.
        self._data: list[bytes] = []
        self._kind = ""
        self._size = 0
        #: The last event's id, and after how many milliseconds the server wants to be asked again; None: not told.
        self.id: str | None = None
        self.retry: int | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Take in what has come; return the events that are whole now.

        Raises:
            EventTooLarge: one is larger than the bound; what came before it has been returned.
        """
        if self._is_between and data[:6] == b"data: " and data[-2:] == b"\n\n":
            blocks = data[6:-2].split(b"\n\ndata: ")
            # Nothing but whole events of one data line each, as nearly always.
            if data.count(b"\n") == 2 * len(blocks) and b"\r" not in data and len(data) <= self._most:
                self._at_start = False
                return [Event(block) for block in blocks]
        if self._is_broken:
            raise self._too_large()
        if self._after_cr and data:
            self._after_cr = False
            if data[0] == _LF:
                data = data[1:]
        if not data:
            return []
        last = data[-1]
        self._after_cr = last == _CR
        lines = data.splitlines()  # of bytes: at LF, CR and CR LF only
        tail = None if last in (_LF, _CR) else lines.pop()
        events: list[Event] = []
        if lines:
            if self._rest:
                first = b"".join((*self._rest, lines[0]))
                self._size -= len(first) - len(lines[0])
                self._rest.clear()
                lines[0] = first
            self._take(lines, events)
        if tail is not None and not self._is_broken:
            self._rest.append(tail)
            self._size += len(tail)
            self._is_broken = self._size > self._most
        self._is_between = not (self._is_broken or self._after_cr or self._rest or self._data or self._kind)
        if self._is_broken and not events:
            raise self._too_large()
        return events

    def end(self) -> list[Event]:
        """Return what the end of the stream makes an event: one without the empty line behind it.

        Raises:
            EventTooLarge: as `feed`.
        """
        if self._is_broken:
            raise self._too_large()
        events: list[Event] = []
        last = b"".join(self._rest)
        self._size -= len(last)
        self._rest.clear()
        self._take([last, b""] if last else [b""], events)
        return events

    def _take(self, lines: list[bytes], events: list[Event]) -> None:
        if self._at_start:
            self._at_start = False
            lines[0] = lines[0].removeprefix(_BOM)
        for line in lines:
            if not line:
                if self._data:
                    data = self._data
                    events.append(Event(data[0] if len(data) == 1 else b"\n".join(data), self._kind))
                    self._data = []
                self._kind = ""
                self._size = 0
                continue
            if self._size + len(line) > self._most:
                self._is_broken = True
                return
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._size += len(line)
            elif line[0] != _COLON:
                self._field(line)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._kind = value.decode("utf-8", "replace")
        elif name == b"data":
            self._data.append(b"")  # no colon: an empty line
            self._size += len(line)
        elif name == b"id" and b"\0" not in value:
            self.id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            self.retry = int(value[:18])

    def _too_large(self) -> EventTooLarge:
        return EventTooLarge(f"an event of more than {self._most} bytes")
