"""Spools: examples that cannot be read a second time (a list, a generator), in a file that can.

The file is written once, front to back, and appears under its name only when it is whole::

    "DSPEXSP1"
    per example:   length (4 bytes), packed example
    sparse index:  offset (8 bytes) of every 256th example
    trailer:       count (8), offset of the sparse index (8), SHA-256 of all examples (32), "DSPEXEND"

The SHA-256 is over the packed examples; of one that holds objects over what they are, where its maker can tell.

Numbers are little-endian. Writing and reading need the memory of one example; a seek reads at most 255
records.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from dspex_actors.data.dataset import Dataset, with_limit
from dspex_actors.data.fields import pack_example, split, unpack_example
from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.foundation.codec import may_hold_objects

_HEAD, _END = b"DSPEXSP1", b"DSPEXEND"
_EVERY = 256
_LENGTH = struct.Struct("<I")
_OFFSET = struct.Struct("<Q")
_TRAILER = struct.Struct("<QQ32s8s")


class SpoolError(DspexError):
    """The spool cannot be written: no space, no permission."""


def spool(
    items: Iterable[Any],
    path: str | os.PathLike[str],
    input_names: Sequence[str] | None = None,
    tell: Callable[[Any], str] | None = None,
) -> dict[str, Any]:
    """Write examples to a spool file, one at a time, and return its descriptor.

    Args:
        items: Examples or dicts; read once.
        path: where the spool goes; replaced if it is there. Mode 0600.
        input_names: the program's inputs; None leaves it to each Example's `with_inputs`.
        tell: returns the identity of an example's inputs and labels, for those that hold objects: the bytes of a
            pickle are others in each process. None: the bytes it is.

    Returns:
        Plain data for `opening.from_descriptor`: kind, path, count, digest.

    Raises:
        ConfigError: an item is no example or lacks an input (says which one), or there are none.
        SpoolError: no space or no permission; nothing is left behind.
    """
    target = Path(path)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", 1 << 18) as out:
            count, digest = _write(out, items, input_names, tell)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
    except OSError as error:
        what = "no space left for" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"{error.strerror}:"
        raise SpoolError(f"{what} the spool of the examples, {target}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return {"kind": SpoolDataset.kind, "path": str(target.absolute()), "count": count, "digest": digest}


class SpoolReader:
    """Read a spool, from any example on.

    Args:
        path: what `spool` wrote.

    Raises:
        ConfigError: it is not there, or not whole.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the trailer."""
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                head = file.read(len(_HEAD))
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TRAILER.size))
                trailer = file.read()
        except OSError as error:
            raise ConfigError(f"the spool {self.path} cannot be read: {error.strerror}") from error
        if head != _HEAD or len(trailer) != _TRAILER.size or not trailer.endswith(_END):
            raise ConfigError(f"{self.path} is not a whole spool: start the run anew from its examples")
        self.count, self._index_at, digest, _ = _TRAILER.unpack(trailer)
        self.digest: str = digest.hex()

    def iter_packed(self, start: int = 0) -> Iterator[bytes]:
        """Give packed examples from index `start` on."""
        if start >= self.count:
            return
        with self.path.open("rb") as file:
            file.seek(self._index_at + start // _EVERY * _OFFSET.size)
            file.seek(_OFFSET.unpack(self._exactly(file, _OFFSET.size))[0])
            for _ in range(start % _EVERY):
                file.seek(_LENGTH.unpack(self._exactly(file, 4))[0], os.SEEK_CUR)
            for _ in range(start, self.count):
                yield self._exactly(file, _LENGTH.unpack(self._exactly(file, 4))[0])

    def offsets(self, indices: Sequence[int]) -> array[int]:
        """Return where the records of these indices begin in the file.

        Raises:
            ConfigError: there is none of such an index, or the file is damaged.
        """
        found, number, at = array("Q", bytes(8 * len(indices))), -1, 0
        with self.path.open("rb") as file:
            # In the order of the file, so that each part of it is passed over once.
            for place in sorted(range(len(indices)), key=indices.__getitem__):
                wanted = indices[place]
                if not 0 <= wanted < self.count:
                    raise ConfigError(f"{self.path} has {self.count:,} examples, and none of index {wanted:,}")
                if number // _EVERY != wanted // _EVERY:
                    number = wanted // _EVERY * _EVERY
                    file.seek(self._index_at + wanted // _EVERY * _OFFSET.size)
                    at = _OFFSET.unpack(self._exactly(file, _OFFSET.size))[0]
                while number < wanted:
                    file.seek(at)
                    at += _LENGTH.size + _LENGTH.unpack(self._exactly(file, _LENGTH.size))[0]
                    number += 1
                found[place] = at
        return found

    def iter_at(self, offsets: Iterable[int]) -> Iterator[bytes]:
        """Give the packed examples that begin there."""
        with self.path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                yield self._exactly(file, _LENGTH.unpack(self._exactly(file, _LENGTH.size))[0])

    def _exactly(self, file: BinaryIO, size: int) -> bytes:
        data = file.read(size)
        if len(data) != size:
            raise ConfigError(f"{self.path} is damaged: start the run anew from its examples")
        return data


class SpoolDataset(Dataset):
    """Examples that `spool` wrote to a file."""

    kind = "spool"

    def __init__(self, path: str | os.PathLike[str], **settings: Any) -> None:
        """Open the spool."""
        super().__init__(**settings)
        self._spool = SpoolReader(path)

    @property
    def descriptor(self) -> dict[str, Any]:
        """Return kind, path, count and digest."""
        found = {"kind": self.kind, "path": str(self._spool.path.absolute()), "count": self._spool.count}
        return found | {"digest": self._spool.digest, "limit": self.limit}

    def read_digest(self) -> str:
        """Return the digest that stands in the file, whatever the limit: nobody edits a spool, it is made anew."""
        return self._spool.digest

    @property
    def digest(self) -> str:
        """Return the digest of the spooled examples."""
        return with_limit(self._spool.digest, self.limit)

    def count(self) -> int:
        """Return the number of examples."""
        return self._cut(self._spool.count)

    def iter_packed(self, start: int = 0) -> Iterator[bytes]:
        """Give the packed examples as they are in the file."""
        return islice(self._spool.iter_packed(start), max(0, self.count() - start))

    def _rows(self, start: int) -> Iterator[Any]:
        for data in self._spool.iter_packed(start):
            inputs, labels = unpack_example(data)
            yield inputs | labels


def framed_record(record: bytes) -> bytes:
    """Return a packed example as it stands in the file."""
    return _LENGTH.pack(len(record)) + record


def told_record(
    framed: bytes, item: Any, input_names: Sequence[str] | None, tell: Callable[[Any], str] | None
) -> bytes:
    """Return what of an example the digest is over.

    Args:
        framed: as it stands in the file.
        item: the example.
        input_names: as of `spool`; so is `tell`.
        tell: tells the identity of what holds objects.
    """
    if tell is not None and may_hold_objects(framed[_LENGTH.size :]):
        return tell(split(item, input_names)).encode("utf-8", "surrogatepass")
    return framed


def _write(
    out: BinaryIO, items: Iterable[Any], input_names: Sequence[str] | None, tell: Callable[[Any], str] | None
) -> tuple[int, str]:
    out.write(_HEAD)
    at, count, content = len(_HEAD), 0, hashlib.sha256()
    offsets = bytearray()
    for item in items:
        try:
            record = pack_example(item, input_names)
        except ConfigError as error:
            raise ConfigError(f"example {count:,} (counted from 0): {error.message}") from error
        if count % _EVERY == 0:
            offsets += _OFFSET.pack(at)
        framed = framed_record(record)
        content.update(told_record(framed, item, input_names, tell))
        out.write(framed)
        at += len(framed)
        count += 1
    if not count:
        raise ConfigError("the dataset holds no examples")
    out.write(offsets)
    out.write(_TRAILER.pack(count, at, content.digest(), _END))
    return count, content.hexdigest()
