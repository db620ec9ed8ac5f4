"""What a store of leases decides, pure: who holds what, since which epoch, and which value is the newest.

Every store applies the same commands to a `Table`; one with several copies applies them in the same order everywhere,
so nothing in here looks at a clock. That a lease's time is over is a command too (`Expire`): whoever keeps a copy
counts by its own monotonic clock (`Deadlines`) from when it took in the last renewal, which is later than when its
holder sent it. The command names that renewal; if another one came before it, it does nothing. So it is safe whoever
sends it, however late.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, get_type_hints

from supervisors.cluster.leases.weighed import Weighed

#: Leases that nobody holds are kept for their epochs, so many; beyond it the oldest are forgotten, and what begins anew
#: begins above all of theirs.
KEPT_FREE = 10_000
#: Beyond so many bytes a table takes in nothing new: all of it goes in one frame, of twice as many, to a new voter.
MAX_BYTES = 32 << 20
#: So many requests to set a value are remembered: one that comes again is not done again, whatever has come between.
KEPT_TOKENS = 1000


class Acquire(NamedTuple):
    """Give `holder` the lease, if nobody else holds it; its own one it keeps, with its epoch.

    `value` None: keep what the holder before has put with it.
    """

    name: str
    holder: str
    ttl: float
    value: bytes | None


class Renew(NamedTuple):
    """Begin the lease's time anew; `value` None: keep it."""

    name: str
    holder: str
    epoch: int
    value: bytes | None


class Release(NamedTuple):
    """End the lease."""

    name: str
    holder: str
    epoch: int


class Expire(NamedTuple):
    """End the lease unless it has been renewed more often than so."""

    name: str
    epoch: int
    renewals: int


class Put(NamedTuple):
    """Set or delete a value, if its version is this one (None: whatever it is), and if this lease has this epoch.

    Args:
        name: of the value.
        value: what it is set to; b"": it is deleted.
        version: that it must have; 0: it must not be there.
        lease: name of the lease whose holder writes it; "": nobody's.
        epoch: of that lease.
        token: of this request: the same request twice sets it once.
    """

    name: str
    value: bytes
    version: int | None
    lease: str = ""
    epoch: int = 0
    token: str = ""


class Raise(NamedTuple):
    """Give all leases to new holders above this epoch: a node that joins has had its own store until now."""

    name: str
    epoch: int


Command = Acquire | Renew | Release | Expire | Put | Raise
_COMMANDS: tuple[type[Any], ...] = (Acquire, Renew, Release, Expire, Put, Raise)
#: Of each, what its fields may be; a whole number of seconds is one too.
_FIELDS: dict[type[Any], list[Any]] = {
    kind: [int | float if each is float else each for each in get_type_hints(kind).values()] for kind in _COMMANDS
}


def to_plain(command: Command) -> list[Any]:
    """Return a command as plain data."""
    return [_COMMANDS.index(type(command)), *command]


def from_plain(plain: Any) -> Command:
    """Return the command that `to_plain` made this of.

    Raises:
        ValueError: it is none that is known here.
    """
    if not isinstance(plain, list) or not plain or type(plain[0]) is not int or not 0 <= plain[0] < len(_COMMANDS):
        raise ValueError(f"expected a command for leases, got {plain!r:.100}")
    kind, fields = _COMMANDS[plain[0]], plain[1:]
    types = _FIELDS[kind]
    if len(fields) > len(types) or not all(map(isinstance, fields, types)):
        raise ValueError(f"expected the fields of {kind.__name__}, got {fields!r:.100}")
    try:
        return kind(*fields)  # type: ignore[no-any-return]
    except TypeError:
        raise ValueError(f"expected all fields of {kind.__name__}, got {fields!r:.100}") from None


class Row(NamedTuple):
    """A lease as the store has it.

    Args:
        holder: who has it; "": nobody.
        epoch: how often it has been given to a new holder.
        ttl: for how long it is given, in seconds.
        value: what its holder has put with it.
        renewals: how often this holder has renewed it.
    """

    holder: str
    epoch: int
    ttl: float
    value: bytes
    renewals: int


#: What became of a command: one of these words, with the row of the lease, or the value and its version.
OK, HELD, LOST, CONFLICT, FENCED, FULL = "ok", "held", "lost", "conflict", "fenced", "full"


@dataclass(slots=True)
class Outcome:
    """What a command has done.

    Args:
        word: "ok"; "held": another one has the lease; "lost": it is not the holder's any more; "conflict": the value
            has another version; "fenced": the lease that it was to be written under has another epoch; "full": the
            table has as many bytes as it may.
        row: the lease as it is now; of `Put` the lease that fenced it.
        version: of the value as it is now.
        changed: whether others see a difference: another holder, another value.
    """

    word: str
    row: Row | None = None
    version: int = 0
    changed: bool = False


_FREE = Row("", 0, 0.0, b"", 0)


class Table:
    """All leases and values. Pure, and the same commands in the same order make the same table."""

    def __init__(self) -> None:
        """Begin without any."""
        self.leases: Weighed[Row] = Weighed()
        #: Value, version, and the token of the request that has set it.
        self.values: Weighed[tuple[bytes, int, str]] = Weighed()
        #: Versions of deleted values are at most this: one that is set again begins above it.
        self.deleted = 0
        #: Tokens of the last requests that have set or deleted a value, and the version that each has made.
        self.done: dict[str, int] = {}
        #: How many changes there were.
        self.revision = 0
        #: Epochs of forgotten leases, and of those that nodes have given alone, are at most this.
        self.floor = 0
        #: The leases that nobody holds, the oldest first.
        self._free: dict[str, None] = {}

    def apply(self, command: Command) -> Outcome:
        """Carry out one command."""
        outcome = self._apply(command)
        self.revision += outcome.changed
        return outcome

    def _apply(self, command: Command) -> Outcome:
        match command:
            case Raise(_, epoch):
                self.floor = max(self.floor, epoch)
                return Outcome(OK)
            case Acquire():
                return self._acquire(command)
            case Renew(name, holder, epoch, value):
                row = self.leases.get(name, _FREE)
                if (row.holder, row.epoch) != (holder, epoch):
                    return Outcome(LOST, row)
                return self._renewed(name, row, row.ttl, value)
            case Release(name, holder, epoch):
                row = self.leases.get(name, _FREE)
                if (row.holder, row.epoch) != (holder, epoch):
                    return Outcome(LOST, row)
                return self._set_free(name, row)
            case Expire(name, epoch, renewals):
                row = self.leases.get(name, _FREE)
                if not row.holder or (row.epoch, row.renewals) != (epoch, renewals):
                    return Outcome(LOST, row)
                return self._set_free(name, row)
            case Put():
                return self._put(command)

    def _acquire(self, command: Acquire) -> Outcome:
        name, holder, ttl, value = command
        row = self.leases.get(name)
        if row is not None and row.holder == holder:  # the same question twice: its answer was lost
            return self._renewed(name, row, ttl, value)
        if row is not None and row.holder:
            return Outcome(HELD, row)
        if row is None and self._is_full(len(value or b"")):
            return Outcome(FULL)
        epoch, before = (0, b"") if row is None else (row.epoch, row.value)
        self._free.pop(name, None)
        self.leases[name] = row = Row(holder, max(epoch, self.floor) + 1, ttl, before if value is None else value, 0)
        return Outcome(OK, row, changed=True)

    def _renewed(self, name: str, row: Row, ttl: float, value: bytes | None) -> Outcome:
        changed = value is not None and value != row.value
        self.leases[name] = row = Row(
            row.holder, row.epoch, ttl, row.value if value is None else value, row.renewals + 1
        )
        return Outcome(OK, row, changed=changed)

    def _set_free(self, name: str, row: Row) -> Outcome:
        # Its value stays: who takes the lease next may need it.
        self.leases[name] = row = row._replace(holder="", renewals=0)
        self._free[name] = None
        while len(self._free) > KEPT_FREE:
            oldest = next(iter(self._free))
            del self._free[oldest]
            self.floor = max(self.floor, self.leases.pop(oldest).epoch)
        return Outcome(OK, row, changed=True)

    def _put(self, command: Put) -> Outcome:
        if command.token and command.token in self.done:
            return Outcome(OK, version=self.done[command.token])
        outcome = self._set(command)
        if outcome.changed and command.token:
            self.done[command.token] = outcome.version
            if len(self.done) > KEPT_TOKENS:
                del self.done[next(iter(self.done))]
        return outcome

    def _set(self, command: Put) -> Outcome:
        if command.lease:
            row = self.leases.get(command.lease, _FREE)
            if not row.holder or row.epoch != command.epoch:
                return Outcome(FENCED, row)
        before, version, token = self.values.get(command.name, (b"", 0, ""))
        if command.token and command.token == token:
            return Outcome(OK, version=version)
        if not command.value and not version:  # deleted before; perhaps by this request, whose answer was lost
            return Outcome(OK)
        if command.version is not None and command.version != version:
            return Outcome(CONFLICT, version=version)
        if not command.value:
            del self.values[command.name]
            self.deleted = max(self.deleted, version)
            return Outcome(OK, changed=True)
        if len(command.value) > len(before) and self._is_full(len(command.value) - len(before)):
            return Outcome(FULL, version=version)
        version = (version or self.deleted) + 1
        self.values[command.name] = command.value, version, command.token
        return Outcome(OK, version=version, changed=True)

    def _is_full(self, more: int) -> bool:
        return self.leases.weight + self.values.weight + more > MAX_BYTES

    def value_row(self, name: str) -> tuple[bytes, int, str]:
        """Return a value as it is written down; one that is deleted, with the version that it begins above."""
        return self.values.get(name, (b"", self.deleted, ""))

    def take_value(self, name: str, value: bytes, version: int, token: str) -> None:
        """Put a value as `value_row` returned it."""
        if value:
            self.values[name] = value, version, token
        else:
            self.values.pop(name, None)
            self.deleted = max(self.deleted, version)

    def take(self, name: str, row: Row) -> None:
        """Put a lease as it was written down."""
        self.leases[name] = row
        self._free.pop(name, None)
        if not row.holder:
            self._free[name] = None

    def restore(self, name: str, row: Row | None, value: tuple[bytes, int, str] | None) -> None:
        """Undo the last command: what was there under its name before could not be written down."""
        self.leases.pop(name, None)
        if row is not None:
            self.leases[name] = row
        self.values.pop(name, None)
        if value is not None:
            self.values[name] = value
        if row is None or row.holder:
            self._free.pop(name, None)
        else:
            self._free[name] = None

    def held(self) -> Iterator[tuple[str, Row]]:
        """Return the leases that somebody holds."""
        return ((name, row) for name, row in self.leases.items() if row.holder)

    def to_plain(self) -> list[Any]:
        """Return the whole table as plain data."""
        leases = [[name, *row] for name, row in self.leases.items()]
        values = [[name, *each] for name, each in self.values.items()]
        return [self.floor, leases, list(self._free), values, self.revision, self.deleted, list(self.done.items())]

    @property
    def highest(self) -> int:
        """The highest epoch of all, those of forgotten leases too."""
        return max(self.floor, *(row.epoch for row in self.leases.values()), 0)

    @classmethod
    def from_plain(cls, plain: list[Any]) -> Table:
        """Return the table that `to_plain` made this of."""
        table = cls()
        table.floor, leases, free, values, table.revision, *more = plain
        table.deleted = more[0] if more else 0  # older ones have deleted none, and remember no requests
        table.done = dict(more[1]) if more[1:] else {}
        for name, *row in leases:
            table.leases[name] = Row(*row)
        table._free = dict.fromkeys(free)
        for name, *each in values:
            table.values[name] = tuple(each)
        return table


class Deadlines:
    """When the leases of a table end, by the clock of whoever keeps this copy of it. Pure: time is an argument.

    What ends is told by `due`; it is told again after `AGAIN` seconds, until the table has heard of it.
    """

    #: So long `due` waits until it tells one again, in seconds.
    AGAIN = 1.0

    def __init__(self) -> None:
        """Begin without any."""
        self._ends: dict[str, tuple[float, int, int]] = {}

    def see(self, name: str, row: Row | None, now: float) -> None:
        """Take in what a lease is now: its time begins where it was given, or renewed."""
        if row is None or not row.holder:
            self._ends.pop(name, None)
            return
        known = self._ends.get(name)
        if known is None or known[1:] != (row.epoch, row.renewals):
            self._ends[name] = now + row.ttl, row.epoch, row.renewals

    def names(self) -> list[str]:
        """Return the leases whose time is counted."""
        return list(self._ends)

    def begin(self, table: Table, now: float) -> None:
        """Give all leases of a table their whole time: the process has just begun."""
        self._ends = {name: (now + row.ttl, row.epoch, row.renewals) for name, row in table.held()}

    def due(self, now: float) -> list[Expire]:
        """Return the commands for the leases whose time is over."""
        over = [(name, *entry) for name, entry in self._ends.items() if entry[0] <= now]
        for name, _, epoch, renewals in over:
            self._ends[name] = now + self.AGAIN, epoch, renewals
        return [Expire(name, epoch, renewals) for name, _, epoch, renewals in over]

    def left(self, name: str, now: float) -> float:
        """Return for how many seconds a lease lasts at most if it is not renewed."""
        entry = self._ends.get(name)
        return 0.0 if entry is None else max(0.0, entry[0] - now)

    def next_at(self) -> float | None:
        """Return when `due` has something to tell."""
        return min((entry[0] for entry in self._ends.values()), default=None)
