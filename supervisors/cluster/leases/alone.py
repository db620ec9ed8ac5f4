"""The leases of a node alone: a table on a file, on its disk before anybody is answered."""

from __future__ import annotations

from pathlib import Path

from supervisors.cluster.leases.clock import now
from supervisors.cluster.leases.core import Command, Expire, Outcome, Put, Row, Table
from supervisors.cluster.leases.disk import RecordFile
from supervisors.cluster.leases.tables import TableStore
from supervisors.terms.errors import NoMajority
from supervisors.wire.values import pack, unpack

#: A file that has grown to so many times what is in it, and beyond so many bytes, is written anew.
GROWN, LEAST_GROWN = 4, 1 << 20
_WHOLE, _LEASE, _VALUE = 0, 1, 2


class FileStore(TableStore):
    """Leases on a file. After a restart of the node, leases that were held have their whole time again.

    Args:
        path: of the file; nobody else opens it.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        """Open the file."""
        super().__init__()
        self._file = RecordFile(path)
        for record in self._file.records:
            self._replay(record)
        self._file.records = []
        self._whole_size = len(self._whole())
        self.deadlines.begin(self.table, now())

    def _replay(self, record: bytes) -> None:
        kind, content = unpack(record)
        if kind == _WHOLE:
            self.table = Table.from_plain(content)
        elif kind == _LEASE:
            name, *row = content
            self.table.take(name, Row(*row))
        else:
            name, value, version, token = content
            self.table.take_value(name, value, version, token)

    def start(self) -> None:
        """Count the time of what is held; on the loop."""
        self.count(self._end)

    async def do(self, command: Command) -> tuple[Outcome, float]:
        """Carry out a command; what it changed is on the disk when this returns."""
        if isinstance(command, Put):
            command = command._replace(token="")  # nobody sends it again: it need not be remembered
        outcome = self._do(command)
        self.count(self._end)
        return outcome, self.deadlines.left(command.name, now())

    def _do(self, command: Command) -> Outcome:
        before = self.table.leases.get(command.name), self.table.values.get(command.name)
        outcome = self.table.apply(command)
        if outcome.changed:  # that a lease was renewed needs no disk: after a restart it has its whole time again
            try:
                self._write(command)
            except OSError as error:
                self.table.restore(command.name, *before)
                why = f"the store of leases cannot write {self._file.path}: {error.strerror or error}"
                raise NoMajority(f"{why}; make room, or mend it, and try again") from None
        self.noticed(command, outcome)
        return outcome

    def _write(self, command: Command) -> None:
        name = command.name
        record = (
            pack([_VALUE, [name, *self.table.value_row(name)]])
            if isinstance(command, Put)
            else pack([_LEASE, [name, *self.table.leases[name]]])
        )
        if self._file.size + len(record) > max(LEAST_GROWN, GROWN * self._whole_size):
            whole = self._whole()
            self._file.replace([whole])
            self._whole_size = len(whole)
        else:
            self._file.append([record])

    def _whole(self) -> bytes:
        return pack([_WHOLE, self.table.to_plain()])

    def _end(self, commands: list[Expire]) -> None:
        for command in commands:
            try:
                self._do(command)
            except NoMajority:
                continue  # it is told again

    async def close(self) -> None:
        """Close the file."""
        await super().close()
        self._file.close()
