"""What a voter has on its disk: its group, its vote, a snapshot and the log behind it, in one file of records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from supervisors.cluster.leases.disk import RecordFile
from supervisors.cluster.leases.raft_terms import Entry, Kept, Snapshot
from supervisors.wire.values import pack, unpack

#: The file is written anew when it has grown beyond so many bytes, and to so many times what is in it.
LEAST_GROWN, GROWN = 1 << 20, 4


class RaftFile:
    """The file.

    Args:
        path: where it is; it is made where there is none.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        """Read it; `group` and `kept` have what is in it."""
        self.path = path
        self._file = RecordFile(path)
        self.group, self.kept = "", Kept()
        for record in self._file.records:
            kind, *content = unpack(record)
            if kind == "group":
                self.group = content[0]
            else:
                _replay(self.kept, kind, content)
        self._file.records = []
        self._whole_size = self._file.size

    @property
    def has_grown(self) -> bool:
        """Whether it is time to write it anew."""
        return self._file.size > max(LEAST_GROWN, GROWN * self._whole_size)

    def save(self, group: str, saves: list[tuple[Any, ...]], kept: Kept) -> None:
        """Write what is ready to be; it is on the disk when this returns.

        Args:
            group: of the voter.
            saves: as in `Ready`.
            kept: all of it, for a file that is written anew.

        Raises:
            OSError: it is not.
        """
        if not saves:
            return
        if group != self.group or self.has_grown or any(what[0] == "snapshot" for what in saves):
            self.replace(group, kept)
        else:
            self._file.append(_packed(*what) for what in saves)

    def replace(self, group: str, kept: Kept) -> None:
        """Write it anew, at once."""
        vote = _packed("vote", kept.term, kept.voted)
        self._file.replace(
            [_packed("group", group), _packed("snapshot", kept.snapshot), vote, _packed("log", kept.log)]
        )
        self._whole_size = self._file.size
        self.group = group

    def close(self) -> None:
        """Close it."""
        self._file.close()


def _packed(kind: str, *content: Any) -> bytes:
    match kind:
        case "log":
            return pack(["log", [list(entry) for entry in content[0]]])
        case "snapshot":
            at, term, voters, data = content[0]
            return pack(["snapshot", at, term, list(voters), data])
    return pack([kind, *content])


def _replay(kept: Kept, kind: str, content: list[Any]) -> None:
    match kind:
        case "vote":
            kept.term, kept.voted = content
        case "log":
            entries = [Entry(*each) for each in content[0]]
            if entries:
                kept.log = [*kept.log[: entries[0].at - kept.snapshot.at - 1], *entries]
        case "snapshot":
            at, term, voters, data = content
            kept.snapshot = Snapshot(at, term, tuple(voters), data)
            kept.log = []  # what is behind it is written behind it
