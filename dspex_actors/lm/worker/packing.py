"""Unpacks bodies that came compressed though nobody asked for it, never further than a bound."""

from __future__ import annotations

import zlib

#: zlib's windowBits by encoding. What is called deflate comes with zlib's header, or without.
WINDOW_BITS: dict[str, tuple[int, ...]] = {"gzip": (47,), "deflate": (15, -15)}


def unpacked(encoding: str, body: bytes, most: int) -> tuple[bytes, bool]:
    """Return at most so many unpacked bytes, and whether the packed data came to its end.

    Raises:
        zlib.error: it is not packed so.
        KeyError: the encoding is unknown.
    """
    unpacker = Unpacker(encoding)
    return unpacker.feed(body, most), unpacker.is_whole


class Unpacker:
    """Unpacks what comes in pieces.

    Args:
        encoding: a key of `WINDOW_BITS`.
    """

    def __init__(self, encoding: str) -> None:
        """Begin before the first piece."""
        self._ways = list(WINDOW_BITS[encoding])
        self._unpacker = zlib.decompressobj(self._ways.pop(0))
        self._seen = b""

    def feed(self, piece: bytes, most: int) -> bytes:
        """Return what a piece unpacks to, at most `most` bytes: who gets that many has had enough.

        Raises:
            zlib.error: it is not packed so.
        """
        while True:
            try:
                data = self._unpacker.decompress(piece, most)
            except zlib.error:
                if not self._ways:
                    raise
            else:
                if self._ways and not data:
                    self._seen = self._seen + piece  # too little to tell one way from the other
                else:
                    self._ways, self._seen = [], b""
                return data
            self._unpacker = zlib.decompressobj(self._ways.pop(0))
            piece, self._seen = self._seen + piece, b""

    @property
    def is_whole(self) -> bool:
        """Whether the packed data has come to its end."""
        return self._unpacker.eof
