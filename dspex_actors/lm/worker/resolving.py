"""Looks up the names of language-model servers: one that means a cloud's metadata service is not asked.

A `base_url` is checked when it is written down, but a name in it may mean another address by the time of a connection.
What is connected to is what was looked at here. Private addresses are legal: a server of one's own has one.
"""

from __future__ import annotations

import ipaddress
import socket

from dspex_actors.lm.hosts import is_metadata
from dspex_actors.lm.worker import lean

with lean.imports():
    from aiohttp.abc import ResolveResult
    from aiohttp.resolver import ThreadedResolver


class MetadataServiceError(Exception):
    """A server's name means an address that hands out credentials."""


class Resolver(ThreadedResolver):
    """As aiohttp's own, but for that."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name.

        Raises:
            MetadataServiceError: one of them is a cloud's metadata service.
        """
        found = await super().resolve(host, port, family)
        for place in found:
            if is_metadata(ipaddress.ip_address(place["host"].partition("%")[0])):
                raise MetadataServiceError
        return found
