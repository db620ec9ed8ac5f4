"""Authenticated, encrypted frames: what travels on every connection of a node.

A frame is a header of 48 bytes and a body::

    magic 4 | sender 16 | counter 8 | length 4 | tag 16      body: length + 16 bytes

The header is authenticated by itself, so that its length is trusted before one byte of the body is kept.
Header and body are sealed with ChaCha20-Poly1305 under a key derived (HKDF-SHA256) from the cluster key and
the sender, and both are bound to the receiver's address: a frame recorded on its way to one process is
refused by every other one. The counter is the node's clock in nanoseconds (wire/clock.py), strictly increasing: it
makes the nonce unique, tells how old the frame is, and lets the receiver notice a frame that comes twice.

Nothing here knows sockets. `FrameCodec` seals, `Opener` holds what one receiver remembers of its senders,
and `FrameReader` cuts the byte stream of one connection into frames.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag

from supervisors.wire.codec import (
    BODY_NONCE,
    FIELDS,
    HEADER_NONCE,
    HEADER_SIZE,
    MAGIC,
    MAX_FRAME,
    TAG_SIZE,
    Forged,
    Frame,
    FrameCodec,
    FrameError,
    FrameTooLarge,
    Replayed,
    Stale,
    counter_of,
    identity_of,
)
from supervisors.wire.replay import Sender

__all__ = [
    "HEADER_SIZE",
    "MAX_FRAME",
    "Forged",
    "Frame",
    "FrameCodec",
    "FrameError",
    "FrameReader",
    "FrameTooLarge",
    "Opener",
    "Replayed",
    "Stale",
    "counter_of",
    "identity_of",
]

_SECOND = 1_000_000_000
# A sender repeats an unacknowledged frame for 300 s; the rest is for the way.
_MAX_AGE = 330 * _SECOND
# The clocks of two nodes may differ by so much.
_SKEW = 900 * _SECOND
_SWEEP_EVERY = 1024
# So many senders are remembered: with the cipher and the first counters of each, some 10 MiB.
_MAX_SENDERS = 2**13


@dataclass(slots=True)
class _Header:
    raw: bytes
    receiver: bytes
    sender: bytes
    counter: int
    size: int
    state: Sender
    replayed: bool
    personal: bool
    came: int


class Opener:
    """Open the frames that are sent to one receiver, and remember them, so that none is taken twice.

    Only authenticated frames make state. The state of a sender is dropped when its newest counter is so old that a
    frame with it would be refused for its age.

    Args:
        codec: has the key, the clock, the limit and the identity of this process.
        address: "ip:port" where this receiver listens. None: it opens frames to its identity only.

    What was sealed before this receiver was made is accepted within the 15 minutes by which the clocks of two nodes may
    differ. For so long an old frame can be replayed to a process that has taken over the address of another one; what
    is sealed for its identity cannot, and what is in a frame says for which process it is.
    """

    def __init__(self, codec: FrameCodec, address: str | None = None) -> None:
        """Be born now."""
        self._codec = codec
        self._personal = codec.identity.encode()
        self._receivers = (self._personal,) if address is None else (address.encode(), self._personal)
        self._born = codec.clock()
        self._senders: dict[bytes, Sender] = {}
        self._floor = 0
        self._opened = 0

    def open_header(self, raw: bytes, personal: bool = False) -> _Header:
        """Verify a header of `HEADER_SIZE` bytes; a `personal` one has to be sealed for this process's identity.

        Raises:
            Forged: nobody with the key made it for this receiver.
            Stale: its time is out of bounds.
            FrameTooLarge: it announces more than the limit.
        """
        magic, sender, counter, size = FIELDS.unpack_from(raw)
        if magic != MAGIC:
            raise Forged("not a frame of this protocol")
        state = self._senders.get(sender) or Sender(self._codec.cipher_of(sender))
        fields, tag, nonce = raw[: FIELDS.size], raw[FIELDS.size :], HEADER_NONCE + raw[20:28]
        for receiver in self._receivers[-1:] if personal else self._receivers:
            try:
                state.cipher.decrypt(nonce, tag, fields + receiver)
                break
            except InvalidTag:
                continue
        else:
            raise Forged("the header was not sealed with our key for this receiver")
        self._codec.check_size(size)
        now = self._codec.clock()
        replayed = state.has(counter)
        if counter < now - _SKEW - _MAX_AGE:
            raise Stale(f"sent {(now - counter) / _SECOND:.0f} s ago")
        if counter > now + _SKEW:
            ahead = (counter - now) / _SECOND
            raise Stale(f"sent {ahead:.0f} s in the future: check the clocks of the hosts")
        if counter < self._born - _SKEW:
            raise Stale("sent before this process was born")
        if not replayed and (counter <= state.floor or counter <= self._floor or state.newest - counter >= _MAX_AGE):
            raise Stale("older than what is remembered of its sender")
        return _Header(raw, receiver, sender, counter, size, state, replayed, receiver is self._personal, now)

    def open_body(self, header: _Header, body: bytes | bytearray | memoryview) -> Frame:
        """Decrypt the body that followed `header`, and remember the frame.

        Raises:
            Forged: the body does not belong to the header.
        """
        try:
            payload = header.state.cipher.decrypt(BODY_NONCE + header.raw[20:28], body, header.raw + header.receiver)
        except InvalidTag:
            raise Forged("the body does not belong to its header") from None
        state = self._senders.get(header.sender)
        self._opened += 1
        if state is None or not self._opened % _SWEEP_EVERY:
            self._forget_stale()
            state = self._senders.setdefault(header.sender, header.state)
        # Asked again: the same frame may have come on another connection in the meantime.
        replayed = state.has(header.counter)
        if not replayed:
            state.add(header.counter, header.counter - _MAX_AGE, header.came)
        return Frame(b"" if replayed else payload, header.sender, header.counter, replayed, header.personal)

    def skipped(self, header: _Header) -> Frame:
        """Return the frame of a replayed header, whose body nobody needs."""
        return Frame(b"", header.sender, header.counter, True, header.personal)

    def _forget_stale(self) -> None:
        now = self._codec.clock()
        oldest = now - _SKEW - _MAX_AGE
        if len(self._senders) >= _MAX_SENDERS:
            # The quarter that has been silent for longest: what still comes from them is refused as too old.
            oldest = max(oldest, sorted(state.newest for state in self._senders.values())[_MAX_SENDERS // 4])
        for sender, state in list(self._senders.items()):
            if state.newest < oldest:
                # Should the clock be set back, these frames must not become fresh again.
                self._floor = max(self._floor, state.newest)
                del self._senders[sender]
            elif state.heard < now - _MAX_AGE:
                state.forget()


class FrameReader:
    """Cut the bytes of one connection into frames.

    Before the first good header it holds at most `HEADER_SIZE` bytes, and bytes that cannot begin a frame
    are refused as they come. After an error it is of no further use: close the connection.

    Args:
        opener: of the receiver.
        greeted: the first frame is a greeting, whose answer tells the sender the receiver's identity; every later one
            has to be sealed for that. So no frame but a greeting can be replayed to a receiver that has taken over the
            address of another one.

    Attributes:
        authenticated: a good header came on this connection.
        peer: the identity of whoever sent the last frame; empty before the first.
    """

    def __init__(self, opener: Opener, greeted: bool = False) -> None:
        """Expect a header."""
        self.authenticated = False
        self.peer = ""
        self._opener = opener
        self._greeted = greeted
        self._sender = b""
        self._buffer = bytearray()
        self._header: _Header | None = None
        self._left = HEADER_SIZE

    @property
    def needed(self) -> int:
        """How many bytes complete the present header or body: never zero, never beyond the frame."""
        return self._left

    @property
    def idle(self) -> bool:
        """Whether no frame is in progress."""
        return self._header is None and self._left == HEADER_SIZE

    def feed(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Take the next bytes; return the payloads they complete.

        Raises:
            Forged: see `Opener.open_header`; also `Stale`.
            Replayed: a frame came a second time.
            FrameTooLarge: a header announces more than the limit.
        """
        frames = self.frames(data)
        for index, frame in enumerate(frames):
            if frame.replayed:
                error = Replayed("a frame was received twice")
                error.opened = frames[:index]
                raise error
        return [frame.payload for frame in frames]

    def frames(self, data: bytes | bytearray | memoryview) -> list[Frame]:
        """Take the next bytes; return the frames they complete, replayed ones too."""
        done: list[Frame] = []
        rest = memoryview(data)
        try:
            while rest:
                piece, rest = rest[: self._left], rest[self._left :]
                self._left -= len(piece)
                if self._header is None:
                    self._take_header(piece)
                elif frame := self._take_body(self._header, piece):
                    done.append(frame)
        except FrameError as error:
            self._buffer.clear()
            error.opened = done
            raise
        return done

    def _take_header(self, piece: memoryview) -> None:
        buffer = self._buffer
        buffer += piece
        if self._left:
            if not MAGIC.startswith(buffer[:4]):
                raise Forged("not a frame of this protocol")
            return
        self._header = self._opener.open_header(bytes(buffer), self._greeted and self.authenticated)
        buffer.clear()
        self.authenticated = True
        self._left = self._header.size + TAG_SIZE

    def _take_body(self, header: _Header, piece: memoryview) -> Frame | None:
        if header.replayed:
            if self._left:
                return None
            frame = self._opener.skipped(header)
        elif self._left:
            self._buffer += piece
            return None
        elif self._buffer:
            self._buffer += piece
            frame = self._opener.open_body(header, self._buffer)
            # A new one: clear() would keep the memory of the largest frame for as long as the connection.
            self._buffer = bytearray()
        else:
            frame = self._opener.open_body(header, piece)
        if header.sender != self._sender:
            self._sender, self.peer = header.sender, identity_of(header.sender)
        self._header = None
        self._left = HEADER_SIZE
        return frame
