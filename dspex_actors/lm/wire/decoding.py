"""What every decoder of a stream has in common. Pure.

A decoder gives out pieces as they come, and puts the events together to the body that the provider would have answered
as a whole: `finish` has it read by the provider's `parse`, and so a reply is the same whichever way it came.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dspex_actors.errors import LMError, Overloaded, StreamTruncated
from dspex_actors.lm.content.pieces import Piece
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire import bodies
from dspex_actors.lm.wire.exchange import RawReply, WireReply
from dspex_actors.lm.wire.failures import excerpt
from dspex_actors.lm.wire.sse import Event

#: What an event that has not the provider's shape makes a decoder raise: it is left out, as one of an unknown type.
_MISSHAPEN = (LookupError, TypeError, ValueError, AttributeError)


class Format(Protocol):
    """What a decoder needs of its provider's wire format."""

    @property
    def name(self) -> str:
        """The provider's."""
        ...

    def error_in(self, data: Any) -> Any:
        """Return what in an event's JSON is an error; None: it is none."""
        ...

    def refusal(self, raw: RawReply, now: float, data: Any, whole: Any = None) -> LMError:
        """Turn an error into the exception for it."""
        ...

    def read_data(self, raw: RawReply, now: float, data: Any) -> WireReply:
        """Read the JSON of an answer."""
        ...

    def usage(self, data: dict[str, Any]) -> Usage | None:
        """Return the usage that an answer's JSON tells."""
        ...


class Decoder(ABC):
    """Reads one stream.

    Args:
        provider: whose format it is.
        status: of the HTTP answer.
        headers: of the HTTP answer, by lower-case name.
    """

    def __init__(self, provider: Format, status: int, headers: Mapping[str, str]) -> None:
        """Begin with nothing."""
        self._provider = provider
        self._raw = RawReply(status, headers, b"")
        #: The provider has said that nothing more comes: who reads on may wait for ever.
        self.has_ended = False
        #: The reply has its end; without, it was cut.
        self.is_whole = False

    @abstractmethod
    def _event(self, data: dict[str, Any], pieces: list[Piece]) -> None:
        """Take in an event's JSON; add its pieces."""

    @abstractmethod
    def _body(self) -> dict[str, Any]:
        """Return what has come as the body of a whole answer."""

    def feed(self, event: Event, now: float = 0.0) -> list[Piece]:
        """Take in an event; return its pieces, as `take` adds them."""
        pieces: list[Piece] = []
        self.take(event, pieces, now)
        return pieces

    def take(self, event: Event, pieces: list[Piece], now: float = 0.0) -> None:
        """Take in an event; add its pieces.

        Args:
            event: the event. One of a type that is not known, or without a piece, gives none.
            pieces: where to.
            now: the wall clock in seconds since the epoch.

        Raises:
            LMError: the provider tells of an error, or sends what is not its format.
        """
        if event.data == b"[DONE]":
            self.has_ended = self.is_whole = True
            return
        try:
            data = bodies.load(event.data)
        except ValueError:
            data = None
        if data is None:
            if event.data.strip() and not self.is_whole:
                raise self._no_json(event)
            return
        if type(data) is list and len(data) == 1:
            data = data[0]
        if type(data) is not dict:
            return
        told = self._provider.error_in(data)
        if told is not None:
            raise self._provider.refusal(self._raw, now, told, data)
        with contextlib.suppress(*_MISSHAPEN):
            self._event(data, pieces)

    def finish(self, now: float = 0.0) -> WireReply:
        """Return the reply that has come.

        Raises:
            StreamTruncated: it has no end.
            LMError: it is a refusal.
        """
        if not self.is_whole:
            raise StreamTruncated(
                f"{self._provider.name}'s stream ended before its reply did", status=self._raw.status, retryable=True
            )
        return self._provider.read_data(self._raw, now, self._body())

    def usage(self) -> Usage | None:
        """Return the usage that was told so far, if any was."""
        try:
            return self._provider.usage(self._body())
        except _MISSHAPEN:
            return None

    def _no_json(self, event: Event) -> LMError:
        start = excerpt(event.data[:65536].decode("utf-8", "replace"), 120)
        return Overloaded(
            f"{self._provider.name} streamed something that is not JSON: '{start}' — is base_url right?",
            status=self._raw.status,
            retryable=True,
        )


class Texts:
    """Texts that grow by pieces, by name: joined once, at the end."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        """Begin with none."""
        self._parts: dict[str, list[str]] = {}

    def grow(self, name: str) -> Callable[[str], None]:
        """Return what adds to a text."""
        return self._parts.setdefault(name, []).append

    def add(self, name: str, text: str) -> None:
        """Add to a text."""
        if name in self._parts:
            self._parts[name].append(text)
        else:
            self._parts[name] = [text]

    def joined(self) -> dict[str, str]:
        """Return the texts."""
        return {name: "".join(parts) for name, parts in self._parts.items() if parts}
