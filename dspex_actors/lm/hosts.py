"""Which hosts and addresses may be asked: what a host's name really is, and what its addresses are. Pure.

Parsers disagree about hosts. `2852039166`, `0x7f.1` and `[::ffff:a9fe:a9fe]` are addresses to those who connect and
names to those who only compare texts: here they are what a connection would make of them.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Names at which clouds hand out credentials to whoever asks from inside.
_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)
#: The same by address, beside all that are link-local: AWS's over IPv6, Alibaba's, Oracle's, Azure's.
_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
#: A number as C libraries read one: decimal, octal, hexadecimal.
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
#: What Unicode's rules for names take for a full stop.
_STOPS = str.maketrans("。．｡", "...")


def plain_host(host: str) -> str:
    """Return a host as a resolver sees it: in lower case, without a final stop, in the letters that it stands for."""
    return unicodedata.normalize("NFKC", host.translate(_STOPS)).lower().rstrip(".")


def address_of(host: str) -> Address | None:
    """Return the address that a host is, in whatever notation; None: it is a name."""
    host = plain_host(host).strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return _numeric(host)


def _numeric(host: str) -> Address | None:
    """Return the IPv4 address of C's notations: `0x7f.1`, `2130706433`, `0177.0.0.1`."""
    parts = host.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        numbers = [_whole(part) for part in parts]
    except ValueError:
        return None
    last = numbers.pop()
    if any(number > 255 for number in numbers) or last >= 256 ** (4 - len(numbers)):
        return None
    for place, number in enumerate(numbers):
        last += number << (8 * (3 - place))
    return ipaddress.IPv4Address(last)


def _whole(text: str) -> int:
    if text[:2].lower() == "0x":
        return int(text[2:] or "0", 16)
    return int(text, 8) if len(text) > 1 and text.startswith("0") else int(text)


def is_trick(host: str) -> bool:
    """Tell whether a host is written so that people, or other parsers, take it for another."""
    if plain_host(host) != host.lower().rstrip("."):
        return True
    address = address_of(host)
    if address is None:
        return False
    bare = host.strip("[]").partition("%")[0].lower()
    return isinstance(address, ipaddress.IPv4Address) and bare != str(address)


def reached(address: Address) -> Address:
    """Return the address that is reached: IPv4 in its IPv6 forms is IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        inside = address.ipv4_mapped or address.sixtofour
        if inside is None and (address in _NAT64 or (address in _COMPATIBLE and int(address) > 0xFFFF)):
            inside = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inside is None and address.teredo is not None:
            inside = address.teredo[1]
        return inside or address
    return address


def is_metadata(host: str | Address) -> bool:
    """Tell whether a host or address hands out credentials: link-local, or a cloud's own."""
    if isinstance(host, str):
        address = address_of(host)
        if address is None:
            return plain_host(host) in _METADATA_NAMES
        host = address
    return any(one.is_link_local or one in _METADATA for one in (host, reached(host)))


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the open internet."""
    return all(one.is_global and not one.is_multicast for one in (address, reached(address)))


class BadHostError(ValueError):
    """An entry of a list of hosts is none."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Hosts that may be asked.

    Args:
        origins: (scheme, host, port) of each.
        addresses: those that are listed as addresses: these may be private.
    """

    origins: frozenset[tuple[str, str, int]] = frozenset()
    addresses: frozenset[Address] = frozenset()

    @classmethod
    def of(cls, entries: Iterable[str]) -> Allowed:
        """Read a list: `host`, `host:port`, or with the scheme, `http://host`, which allows http.

        Raises:
            BadHostError: an entry is none of it.
        """
        origins: set[tuple[str, str, int]] = set()
        addresses: set[Address] = set()
        for entry in entries:
            scheme, host, port = _entry(entry)
            address = address_of(host)
            if address is not None:
                addresses.add(address)
            origins.add((scheme, host, port))
        return cls(frozenset(origins), frozenset(addresses))

    def takes(self, scheme: str, host: str, port: int | None) -> bool:
        """Tell whether a host is listed, with this scheme and port (None: the scheme's own)."""
        return (scheme, plain_host(host).strip("[]"), port or _PORTS.get(scheme, 0)) in self.origins

    def reaches(self, address: Address) -> bool:
        """Tell whether an address may be connected to: a public one, or one that is listed."""
        if address in self.addresses or reached(address) in self.addresses:
            return True
        return is_public(address) and not is_metadata(address)


_PORTS = {"http": 80, "https": 443}


def _entry(entry: object) -> tuple[str, str, int]:
    legal = "a host such as 'images.example.org' or 'host:8443', with http:// in front where http is meant"
    text = entry if isinstance(entry, str) else ""
    scheme, mark, rest = text.rpartition("://")
    scheme = scheme.lower() if mark else "https"
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    beside = parts.path or parts.query or parts.fragment or parts.username
    if scheme not in _PORTS or not host or beside or port == 0 or is_trick(host) or not _is_name(host):
        raise BadHostError(f"got {entry!r:.60}, expected {legal}")
    return scheme, plain_host(host), port or _PORTS[scheme]


def _is_name(host: str) -> bool:
    return address_of(host) is not None or all(char.isalnum() or char in "-._" for char in host)
