"""PartitionSupervisor: n copies of one child, and keys that lead to them (partition_supervisor.ex).

A single busy server becomes n of them: each key belongs to one, so what belongs together stays in order. The spec
is an ordinary one_for_one supervisor's with the ids "0" to "n-1"; a call to `Via(name, key)` goes to the key's copy.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from supervisors.supervisor.core import SupervisorCore
from supervisors.supervisor.events import Answer, Effect
from supervisors.supervisor.operations import Operation
from supervisors.terms.errors import NoProcess, NotAllowed, SpecError, SupervisorsError
from supervisors.terms.reason import NOPROC, Ref
from supervisors.terms.spec import ChildSpec, SupervisorSpec

if TYPE_CHECKING:
    from supervisors.client.node import Node
    from supervisors.terms.via import Via

WithArguments = Callable[[tuple[Any, ...], int], tuple[Any, ...] | list[Any]]


@dataclass(frozen=True)
class PartitionSupervisorSpec(SupervisorSpec):
    """A supervisor of `partitions` copies of `child`, named "0", "1", ...

    Args:
        child: the spec of every copy; its id is not used, and it may have no name (all would claim the same).
        partitions: how many; None - the number of CPUs of the machine where the spec is made.
        with_arguments: `with_arguments(args, partition)` returns the args of that copy; called where the spec is made.
        name: registered while it lives; required, since keys are found by it.
        intensity, period: restarts allowed within `period` seconds.
        auto_shutdown: only "never".
        children, strategy: what `child` becomes, under one_for_one; not to be given.

    Raises:
        SpecError: names the field, the value and what is legal.
    """

    child: InitVar[ChildSpec | None] = None
    partitions: int | None = None
    with_arguments: InitVar[WithArguments | None] = None
    children: Sequence[ChildSpec] = field(default=(), kw_only=True)
    strategy: str = field(default="one_for_one", kw_only=True)
    intensity: int = field(default=3, kw_only=True)
    period: float = field(default=5.0, kw_only=True)
    auto_shutdown: str = field(default="never", kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self, child: ChildSpec | None, with_arguments: WithArguments | None) -> None:
        """Validate the whole, and make the copies."""
        if self.partitions is None:
            object.__setattr__(self, "partitions", os.cpu_count() or 1)
        count = self.partitions
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise SpecError(f"partitions={count!r}: expected a whole number >= 1 or None")
        if not self.name:
            raise SpecError(f"name={self.name!r}: expected a non-empty text, a partition supervisor is found by it")
        if self.auto_shutdown != "never":
            raise SpecError(f'auto_shutdown={self.auto_shutdown!r}: expected "never" for a partition supervisor')
        if self.strategy != "one_for_one":
            raise SpecError(f'strategy={self.strategy!r}: expected "one_for_one" for a partition supervisor')
        if not self.children:
            object.__setattr__(self, "children", _copies(child, count, with_arguments))
        if len(self.children) != count:
            raise SpecError(f"children={len(self.children)} specs: expected one per partition, give `child` instead")
        super().__post_init__()


def _copies(child: Any, count: int, with_arguments: Any) -> tuple[ChildSpec, ...]:
    if not isinstance(child, ChildSpec):
        raise SpecError(f"child={child!r:.100}: expected a ChildSpec, copied once per partition")
    inner = child.start.name if isinstance(child.start, SupervisorSpec) else None
    if child.name is not None or inner is not None:
        raise SpecError(f"child.name={child.name or inner!r}: expected None, all copies would claim the same name")
    if with_arguments is None:
        return tuple(replace(child, id=str(number)) for number in range(count))
    if not callable(with_arguments):
        raise SpecError(f"with_arguments={with_arguments!r:.100}: expected a function of (args, partition), or None")
    return tuple(
        replace(child, id=str(number), args=with_arguments(child.args, number))  # ChildSpec checks what it returns
        for number in range(count)
    )


# --- routing --------------------------------------------------------------------------------------------------------


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
        raise NoProcess(f"no process for key {key!r:.100}: the supervisor has 0 partitions now", reason=NOPROC)
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
            return _tagged(b"t", b"".join(canonical(item) for item in key))
        case list():
            return _tagged(b"l", b"".join(canonical(item) for item in key))
        case set() | frozenset():
            return _tagged(b"u", b"".join(sorted(canonical(item) for item in key)))
        case dict():
            return _tagged(b"d", b"".join(sorted(canonical(each) for each in key.items())))
        case Ref():
            return _tagged(b"r", canonical((key.host, key.port, key.pid, key.born, key.uid)))
    raise SpecError(f"key {key!r:.100} of type {type(key).__name__}: expected plain data (numbers, texts, tuples, ...)")


def _tagged(tag: bytes, data: bytes) -> bytes:
    return tag + str(len(data)).encode() + b":" + data


class PartitionCore(SupervisorCore):
    """The state machine of a partition supervisor: a plain one's, with routing and resize."""

    def __init__(self, spec: PartitionSupervisorSpec, *args: Any, **kwargs: Any) -> None:
        """Make one that has not started anything yet; see `SupervisorCore` for the arguments."""
        super().__init__(spec, *args, **kwargs)
        self.total = self.partitions = len(spec.children)

    def call(self, caller: Any, name: str, argument: Any, now: float) -> list[Effect]:
        """Answer ("resolve", key), ("partitions", None) and ("resize", n), and what every supervisor answers."""
        self._now = now
        if self.finished or name not in ("resolve", "partitions", "resize", "register_via", "start_child"):
            return super().call(caller, name, argument, now)
        if name == "resize":
            self._queue.append((lambda: self._resize(caller, argument), caller))
        else:
            try:
                self._out.append(Answer(caller, self._read(name, argument)))
            except SupervisorsError as error:
                self._out.append(Answer(caller, error=error))
        return self._drain()

    def _read(self, name: str, argument: Any) -> Any:
        if name == "partitions":
            return self.partitions
        if name != "resolve":
            raise NotAllowed(f"a partition supervisor has no {name}: its children are its partitions, see resize")
        child = self.children.with_id(str(partition_of(argument, self.partitions)))
        return child.ref if child is not None and child.ready else None

    def _resize(self, caller: Any, count: Any) -> Operation:
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= self.total:
            error = SpecError(f"partitions={count!r}: expected 0 to {self.total}, as many as it was started with")
            self._answer(caller, error=error)
            return
        # No key leads to a copy that is about to stop, nor to one that is not up yet.
        before, self.partitions = self.partitions, min(count, self.partitions)
        for number in range(count, before):
            child = self.children.with_id(str(number))
            if child is not None:
                yield from self._stop([child])
        for number in range(before, count):
            child = self.children.with_id(str(number))
            failure = None if child is None or child.live else (yield from self._start(child))
            if failure is not None:
                self._answer(caller, error=failure)
                return
            self.partitions = number + 1
        self._answer(caller, count)


# --- from outside ---------------------------------------------------------------------------------------------------


class PartitionSupervisor:
    """A partition supervisor, as a program outside sees it; made by `node.partitions(name)`."""

    def __init__(self, node: Node, target: Ref | str | Via) -> None:
        """Make it; nothing is asked yet."""
        self._node, self._target = node, target

    def ref(self, key: Any) -> Ref:
        """Return the process that a key belongs to.

        Raises:
            NoProcess: no such supervisor, it has 0 partitions, or the copy is being restarted.
            SpecError: the key is not plain data.
        """
        canonical(key)
        ref = self._node._supervisor(self._target, "resolve", key)
        if ref is None:
            raise NoProcess(f"the partition of key {key!r:.100} is not running: try again", reason=NOPROC)
        return ref  # type: ignore[no-any-return]

    def partitions(self) -> int:
        """Return how many there are now."""
        return self._node._supervisor(self._target, "partitions", None)  # type: ignore[no-any-return]

    def resize(self, partitions: int) -> int:
        """Stop or start copies until there are so many, and route by that number; return it.

        Args:
            partitions: from 0 to the number that it was started with.

        Raises:
            SpecError: another number.
            StartError: a copy did not start; those before it have.
        """
        return self._node._supervisor(self._target, "resize", partitions)  # type: ignore[no-any-return]
