"""Loads aiohttp without what it does at import for others, which is a part of a node's start.

It reads the system's certificates, twice, for sessions that are given no context. Such a context reads them when it is
first used; ours (http.py) are never among them.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from typing import Any


class LateContext(ssl.SSLContext):
    """A context that reads the system's certificates when it is first used."""

    _has_read = False

    def _read(self) -> None:
        if not self._has_read:
            self.set_default_verify_paths()
            self._has_read = True

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin TLS over buffers, as asyncio does."""
        self._read()
        return super().wrap_bio(*args, **options)

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Begin TLS over a socket."""
        self._read()
        return super().wrap_socket(*args, **options)


@contextlib.contextmanager
def imports() -> Iterator[None]:
    """Have what is imported in the block do without; a library that is loaded already stays as it is."""
    here = threading.get_ident()
    read = ssl.SSLContext.set_default_verify_paths

    def later(self: ssl.SSLContext) -> None:
        if threading.get_ident() == here:
            self.__class__ = LateContext
        else:
            read(self)

    ssl.SSLContext.set_default_verify_paths = later  # type: ignore[method-assign]
    try:
        yield
    finally:
        ssl.SSLContext.set_default_verify_paths = read  # type: ignore[method-assign]
