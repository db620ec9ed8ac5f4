"""Which of n partitions a key leads to: the same one in every process."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from supervisors.terms.checks import check_size
from supervisors.terms.errors import NoProcess, SpecError
from supervisors.terms.reason import NOPROC
from supervisors.terms.ref import Ref
from supervisors.terms.showing import shown


def partition_of(key: Any, partitions: int) -> int:
    """Return the partition of a key: `abs(key) % partitions` of an int, else a hash that is the same everywhere.

    Args:
        key: int, text, bytes, float, bool, None, a Ref, and tuples, lists, dicts and sets of these. Keys are
            compared strictly: 1, 1.0 and True are three keys.
        partitions: how many there are.

    Raises:
        NoProcess: there are 0.
        SpecError: a key of another type, whose bytes may differ between processes.
    """
    if partitions < 1:
        raise NoProcess(f"no process for key {shown(key, 100)}: the supervisor has 0 partitions now", reason=NOPROC)
    if type(key) is int:
        return abs(key) % partitions
    digest = hashlib.blake2b(canonical(key), digest_size=8).digest()
    return int.from_bytes(digest, "big") % partitions


def canonical(key: Any) -> bytes:
    """Return plain data as bytes: equal for the same value in every process, different for different ones.

    Python's own `hash` of a text is salted per process.

    Raises:
        SpecError: not plain data.
    """
    check_size("key", key)
    try:
        return _canonical(key)
    except SpecError:
        raise
    except (RecursionError, ValueError):  # too deep; a number with too many digits to be written down
        expected = "plain data that is not nested without end, and no number of thousands of digits"
        raise SpecError.of("key", key, expected) from None


def _canonical(key: Any) -> bytes:
    match key:
        case None | bool():
            return _tagged(b"c", repr(key).encode())
        case int():
            return _tagged(b"i", str(int(key)).encode())
        case float():
            return _tagged(b"f", struct.pack(">d", key))
        case str():
            return _tagged(b"s", key.encode("utf-8", "surrogatepass"))
        case bytes():
            return _tagged(b"b", key)
        case tuple():
            return _tagged(b"t", b"".join(_canonical(item) for item in key))
        case list():
            return _tagged(b"l", b"".join(_canonical(item) for item in key))
        case set() | frozenset():
            return _tagged(b"u", b"".join(sorted(_canonical(item) for item in key)))
        case dict():
            return _tagged(b"d", b"".join(sorted(_canonical(each) for each in key.items())))
        case Ref():
            return _tagged(b"r", _canonical((key.host, key.port, key.pid, key.born, key.uid)))
    raise SpecError.of("key", key, f"plain data (numbers, texts, tuples, ...), not {type(key).__name__}")


def _tagged(tag: bytes, data: bytes) -> bytes:
    return tag + str(len(data)).encode() + b":" + data
