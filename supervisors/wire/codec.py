"""What a frame is made of, and how one is sealed. See `supervisors.wire.frames` for the layout."""

import os
import struct
import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from supervisors.wire.clock import OWN_CLOCK
from supervisors.wire.keys import KEY_SIZE

MAGIC = b"DSX1"
MAX_FRAME = 64 * 1024 * 1024

FIELDS = struct.Struct(">4s16sQI")
COUNTER = struct.Struct(">Q")
TAG_SIZE = 16
HEADER_SIZE = FIELDS.size + TAG_SIZE

# One counter seals twice; the prefix keeps the two nonces apart.
HEADER_NONCE = b"head"
BODY_NONCE = b"body"


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
        clock: nanoseconds since the epoch, never set back; that of the node (wire/clock.py) where it is known.
        limit: the largest payload, in bytes.

    Raises:
        ValueError: the key has the wrong length.
    """

    def __init__(self, key: bytes, clock: Callable[[], int] = OWN_CLOCK, limit: int = MAX_FRAME) -> None:
        """Become a new sender."""
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
        kdf = HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=b"supervisors frame 1" + sender)
        return ChaCha20Poly1305(kdf.derive(self._key))

    def check_size(self, size: int) -> None:
        """Raise `FrameTooLarge` if a payload of `size` bytes fits in no frame."""
        if size > self.limit:
            raise FrameTooLarge(f"a payload of {size} bytes exceeds the frame limit of {self.limit}: send it in pieces")

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
        nonce = COUNTER.pack(counter)
        receiver = dest.encode()
        head = FIELDS.pack(MAGIC, sender, counter, size)
        head += cipher.encrypt(HEADER_NONCE + nonce, b"", head + receiver)
        return head + cipher.encrypt(BODY_NONCE + nonce, payload, head + receiver)


def counter_of(frame: bytes) -> int:
    """Return the counter of a sealed frame."""
    return int.from_bytes(frame[20:28], "big")
