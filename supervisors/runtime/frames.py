"""Authenticated, encrypted frames: what travels on every connection of a node.

A frame is a header of 48 bytes and a body::

    magic 4 | sender 16 | counter 8 | length 4 | tag 16      body: length + 16 bytes

The header is authenticated by itself, so that its length is trusted before one byte of the body is kept.
Header and body are sealed with ChaCha20-Poly1305 under a key derived (HKDF-SHA256) from the cluster key and
the sender, and both are bound to the receiver's address: a frame recorded on its way to one process is
refused by every other one. The counter is the sender's clock in nanoseconds, strictly increasing: it makes
the nonce unique, tells how old the frame is, and lets the receiver notice a frame that comes twice.

Nothing here knows sockets. `FrameCodec` seals, `Opener` holds what one receiver remembers of its senders,
and `FrameReader` cuts the byte stream of one connection into frames.
"""

import os
import struct
import threading
import time
import weakref
from array import array
from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from supervisors.runtime.keys import KEY_SIZE

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
    "identity_of",
]

MAGIC = b"DSX1"
MAX_FRAME = 64 * 1024 * 1024

_FIELDS = struct.Struct(">4s16sQI")
_COUNTER = struct.Struct(">Q")
_TAG = 16
HEADER_SIZE = _FIELDS.size + _TAG

# One counter seals twice; the prefix keeps the two nonces apart.
_HEADER_NONCE = b"head"
_BODY_NONCE = b"body"

_SECOND = 1_000_000_000
# A sender repeats an unacknowledged frame for 300 s; the rest is for clocks that differ.
_MAX_AGE = 330 * _SECOND
_MAX_AHEAD = 60 * _SECOND
_SKEW = 5

# Counters remembered per sender: 2 MiB, two minutes at 2,000 frames a second.
_WINDOW = 2**18
_TRIM_EVERY = 4096
_SWEEP_EVERY = 1024


class FrameError(Exception):
    """Base of what can be wrong with a frame. `opened` has the good frames of the same piece of input."""

    opened: "list[Frame]" = []  # noqa: RUF012 - replaced, never changed


class Forged(FrameError):
    """Not made by a holder of the cluster key for this receiver."""


class Stale(Forged):
    """Authentic but too old, from the future, or from before this receiver was born."""


class Replayed(FrameError):
    """Authentic, and received before."""


class FrameTooLarge(FrameError, ValueError):
    """The payload exceeds the frame limit."""


class Frame(NamedTuple):
    """One opened frame.

    Attributes:
        payload: what the sender sealed; empty if the frame was replayed.
        sender: the sending process, 16 bytes.
        counter: the sender's counter of this frame.
        replayed: the frame was received before; its body was skipped.
        personal: it was addressed to this process's identity and not to its network address.
    """

    payload: bytes
    sender: bytes
    counter: int
    replayed: bool
    personal: bool


def identity_of(sender: bytes) -> str:
    """Return the address of a process that listens nowhere: seal with it to answer the sender of a frame."""
    return "id:" + sender.hex()


_codecs: "weakref.WeakSet[FrameCodec]" = weakref.WeakSet()


def _renew_after_fork() -> None:
    # Two processes with one sender id would use the same nonces.
    for codec in list(_codecs):
        codec._renew()


os.register_at_fork(after_in_child=_renew_after_fork)


class FrameCodec:
    """Seal frames as one process; a forked child becomes another sender by itself.

    Args:
        key: the cluster key, 32 bytes.
        clock: nanoseconds since the epoch.
        limit: the largest payload, in bytes.

    Raises:
        ValueError: the key has the wrong length.
    """

    def __init__(self, key: bytes, clock: Callable[[], int] = time.time_ns, limit: int = MAX_FRAME) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"expected a key of {KEY_SIZE} bytes, got {len(key)}")
        self._key = key
        self.clock = clock
        self.limit = limit
        self._renew()
        _codecs.add(self)

    def _renew(self) -> None:
        # The lock too: another thread of the parent may have held it during the fork.
        self._lock = threading.Lock()
        self._last = 0
        self.sender = os.urandom(16)
        self._cipher = self.cipher_of(self.sender)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: the key must not travel."""
        raise TypeError("a FrameCodec holds the cluster key and cannot be pickled")

    @property
    def identity(self) -> str:
        """The address of this process where it listens nowhere."""
        return identity_of(self.sender)

    def cipher_of(self, sender: bytes) -> ChaCha20Poly1305:
        """Return the cipher of one sender's frames."""
        kdf = HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=b"dspex frame 1" + sender)
        return ChaCha20Poly1305(kdf.derive(self._key))

    def check_size(self, size: int) -> None:
        """Raise `FrameTooLarge` if a payload of `size` bytes fits in no frame."""
        if size > self.limit:
            raise FrameTooLarge(
                f"a payload of {size} bytes exceeds the frame limit of {self.limit}: send it in pieces"
            )

    def seal(self, payload: bytes, dest: str) -> bytes:
        """Return the frame of `payload` for the receiver at `dest` ("ip:port", or an identity).

        Raises:
            FrameTooLarge: the payload exceeds the limit.
        """
        size = len(payload)
        self.check_size(size)
        with self._lock:
            self._last = counter = max(self._last + 1, self.clock())
            sender, cipher = self.sender, self._cipher
        nonce = _COUNTER.pack(counter)
        receiver = dest.encode()
        head = _FIELDS.pack(MAGIC, sender, counter, size)
        head += cipher.encrypt(_HEADER_NONCE + nonce, b"", head + receiver)
        return head + cipher.encrypt(_BODY_NONCE + nonce, payload, head + receiver)


def counter_of(frame: bytes) -> int:
    """Return the counter of a sealed frame."""
    return int.from_bytes(frame[20:28], "big")


class _Sender:
    """What a receiver remembers of one sender: its cipher and the counters that came, in order."""

    __slots__ = ("cipher", "floor", "seen")

    def __init__(self, cipher: ChaCha20Poly1305) -> None:
        self.cipher = cipher
        self.seen = array("Q")
        # Counters up to here are forgotten, so nothing at or below it can be told from a replay.
        self.floor = 0

    def has(self, counter: int) -> bool:
        seen = self.seen
        if not seen or counter > seen[-1]:
            return False
        return seen[bisect_left(seen, counter)] == counter

    def add(self, counter: int, oldest: int) -> None:
        seen = self.seen
        if not seen or counter > seen[-1]:
            seen.append(counter)
        else:
            insort(seen, counter)
        if not len(seen) % _TRIM_EVERY:
            cut = bisect_left(seen, oldest)
            if len(seen) >= _WINDOW:
                cut = max(cut, _WINDOW // 4)
            if cut:
                self.floor = seen[cut - 1]
                del seen[:cut]


@dataclass(slots=True)
class _Header:
    raw: bytes
    receiver: bytes
    sender: bytes
    counter: int
    size: int
    state: _Sender
    replayed: bool


class Opener:
    """Open the frames sent to one receiver, and remember which came.

    State is made by authenticated frames only, and forgotten when its newest counter is too old to be
    accepted anyway.

    Args:
        codec: gives key, clock, limit and this process's identity.
        address: "ip:port" where this receiver listens; without it only frames to the identity are opened.
        grace: how many seconds before its birth a frame may have been sealed. By default 0 at an address of
            127.*, where one clock rules, and 5 elsewhere. More lets frames be replayed to a process that took
            over the address of another one.
    """

    def __init__(self, codec: FrameCodec, address: str | None = None, grace: float | None = None) -> None:
        self._codec = codec
        self._personal = codec.identity.encode()
        self._receivers = (self._personal,) if address is None else (address.encode(), self._personal)
        if grace is None:
            grace = 0 if address is not None and address.startswith("127.") else _SKEW
        self._born = codec.clock() - int(grace * _SECOND)
        self._senders: dict[bytes, _Sender] = {}
        self._floor = 0
        self._opened = 0

    def open_header(self, raw: bytes) -> _Header:
        """Verify a header of `HEADER_SIZE` bytes.

        Raises:
            Forged: nobody with the key made it for this receiver.
            Stale: its time is out of bounds.
            FrameTooLarge: it announces more than the limit.
        """
        magic, sender, counter, size = _FIELDS.unpack_from(raw)
        if magic != MAGIC:
            raise Forged("not a frame of this protocol")
        state = self._senders.get(sender) or _Sender(self._codec.cipher_of(sender))
        fields, tag, nonce = raw[: _FIELDS.size], raw[_FIELDS.size :], _HEADER_NONCE + raw[20:28]
        for receiver in self._receivers:
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
        if counter < now - _MAX_AGE:
            raise Stale(f"sent {(now - counter) / _SECOND:.0f} s ago")
        if counter > now + _MAX_AHEAD:
            raise Stale(f"sent {(counter - now) / _SECOND:.0f} s in the future: check the clocks of the hosts")
        if counter < self._born:
            raise Stale("sent before this process was born")
        if not replayed and (counter <= state.floor or counter <= self._floor):
            raise Stale("older than what is remembered of its sender")
        return _Header(raw, receiver, sender, counter, size, state, replayed)

    def open_body(self, header: _Header, body: bytes | bytearray | memoryview) -> Frame:
        """Decrypt the body that followed `header`, and remember the frame.

        Raises:
            Forged: the body does not belong to the header.
        """
        try:
            payload = header.state.cipher.decrypt(
                _BODY_NONCE + header.raw[20:28], body, header.raw + header.receiver
            )
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
            state.add(header.counter, self._codec.clock() - _MAX_AGE)
        personal = header.receiver is self._personal
        return Frame(b"" if replayed else payload, header.sender, header.counter, replayed, personal)

    def skipped(self, header: _Header) -> Frame:
        """Return the frame of a replayed header, whose body nobody needs."""
        return Frame(b"", header.sender, header.counter, True, header.receiver is self._personal)

    def _forget_stale(self) -> None:
        oldest = self._codec.clock() - _MAX_AGE
        for sender, state in list(self._senders.items()):
            newest = state.seen[-1] if state.seen else state.floor
            if newest < oldest:
                # Should the clock be set back, these frames must not become fresh again.
                self._floor = max(self._floor, newest)
                del self._senders[sender]


class FrameReader:
    """Cut the bytes of one connection into frames.

    Before the first good header it holds at most `HEADER_SIZE` bytes, and bytes that cannot begin a frame
    are refused as they come. After an error it is of no further use: close the connection.

    Attributes:
        authenticated: a good header came on this connection.
    """

    def __init__(self, opener: Opener) -> None:
        self.authenticated = False
        self._opener = opener
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
        self._header = self._opener.open_header(bytes(buffer))
        buffer.clear()
        self.authenticated = True
        self._left = self._header.size + _TAG

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
        self._header = None
        self._left = HEADER_SIZE
        return frame
