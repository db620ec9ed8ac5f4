"""A node's server of leases, registered as `leases`: whom its servers ask when they want to own something."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from supervisors.cluster.leases import messages
from supervisors.cluster.leases.alone import FileStore
from supervisors.cluster.leases.clock import now
from supervisors.cluster.leases.member import VotingMember
from supervisors.cluster.leases.postgres import PostgresStore
from supervisors.cluster.leases.store import (
    FOLDER,
    LeaseStore,
    as_lease,
    check_claim,
    check_lease_name,
    check_ttl,
    opened_value,
    packed_value,
    read_address,
)
from supervisors.cluster.leases.voting import VotingStore
from supervisors.cluster.membership.messages import MEMBERSHIP
from supervisors.system_server import SystemServer
from supervisors.terms.checks import check_count, check_ref, check_seconds, check_text
from supervisors.terms.errors import NoProcess, StartError, SupervisorsError
from supervisors.terms.ports import engine_of
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.spec import ChildSpec

#: The file of a node alone, in the folder of leases.
ALONE = "alone"


def leases_spec(join: str | None = None) -> ChildSpec:
    """Return the server of leases as a child of the branch `cluster`, behind the membership."""
    return ChildSpec(messages.LEASES, Leases, args=(join,), name=messages.LEASES, shutdown=2.0)


class Leases(SystemServer):
    """Leases and values, for the processes of this node."""

    WHAT = "the server of leases"

    async def init(self, join: str | None = None) -> None:
        """Open the store: of the cluster where the node has a membership, else its own.

        Args:
            join: "host:port" of a node whose cluster is joined; None: this node begins one, or was in it before.

        Raises:
            StartError: it cannot be opened.
        """
        folder = Path(self.node["data_dir"]) / FOLDER
        self._owned: dict[Ref, dict[tuple[str, str], int]] = {}  # owner → (lease, holder) → epoch
        self._watchers: dict[Ref, set[str]] = {}
        self._waits: dict[str, set[asyncio.Event]] = {}
        self._member: VotingMember | None = None
        store: FileStore | VotingStore | PostgresStore
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if (address := read_address(Path(self.node["data_dir"]))) is not None:
                store = PostgresStore(address)
            elif await self.whereis(MEMBERSHIP) is None:
                store = FileStore(folder / ALONE)
            else:
                self._member = VotingMember(self, folder, join)
                store = await self._member.open()
        except OSError as error:
            raise StartError(f"the leases in {folder} cannot be opened: {error.strerror or error}") from None
        self._store: LeaseStore = store
        store.watch(self._changed)
        store.start()
        if self._member is not None:
            self._member.start()

    async def terminate(self, reason: Any) -> None:
        """Close the store."""
        await self._store.close()

    def take_cast(self, message: Any) -> None:
        """Take in what another server of leases says to this one."""
        match message:
            case ("raft", str(group), str(sender), tuple(content), Ref() as ref) if self._member is not None:
                self._member.take(group, sender, content, ref)
            case _:
                super().take_cast(message)

    def answer(self, request: Any, caller: Caller) -> Any:
        """Answer one request when the store has; others need not wait for it."""
        return self.answer_later(caller, self._answer(request))

    async def _answer(self, request: Any) -> Any:
        store = self._store
        if self._member is not None and type(request) is not tuple:
            await self._member.ready()
        match request:
            case messages.Acquire():
                return await self._acquire(request)
            case messages.Renew(name, holder, epoch, value):
                check_claim(name, holder, epoch)
                data = None if value is None else packed_value(value)
                row = await store.renew(name, holder, epoch, data)
                return as_lease(name, row, row.ttl)
            case messages.Release(name, holder, epoch):
                check_claim(name, holder, epoch)
                await store.release(name, holder, epoch)
                for owned in self._owned.values():
                    owned.pop((name, holder), None)
                return None
            case messages.Get(name):
                return as_lease(name, *await store.get(check_lease_name(name)))
            case messages.Watch(prefix, watcher):
                return await self._watch(prefix, watcher)
            case messages.Put(name, value, version, lease, epoch):
                check_lease_name(name)
                check_count("version", version, optional=True)
                check_count("epoch", epoch)
                if lease:
                    check_lease_name(lease, "lease")
                return await store.put(name, packed_value(value), version, lease, epoch)
            case messages.Delete(name, version):
                check_count("version", version, optional=True)
                await store.put(check_lease_name(name), b"", version)
                return None
            case messages.Read(name):
                data, version = await store.read(check_lease_name(name))
                return opened_value(data), version
            case ("raise", int(epoch)):
                check_count("epoch", epoch)
                return await store.raise_floor(epoch)
            case ("held", str(prefix)):
                return await store.names(prefix)
            case ("wait", str(name), int(version), timeout):
                return await self._wait(check_lease_name(name), version, check_seconds("timeout", timeout))
            case tuple() if self._member is not None and request:
                return await self._member.store.answer(request)
        raise self.unknown(request)

    async def _acquire(self, request: messages.Acquire) -> Any:
        name, holder = check_lease_name(request.name), check_text("holder", request.holder)
        ttl, owner = check_ttl(request.ttl), request.owner
        value = None if request.value is None else packed_value(request.value)
        if owner is not None:
            self._attend(owner)
        row = await self._store.acquire(name, holder, ttl, value)
        if owner is not None:
            if owner not in self._owned:  # it has ended meanwhile
                await self._store.release(name, holder, row.epoch)
                raise NoProcess(f"{owner}, for whom the lease {name} was acquired, has ended")
            self._owned[owner][name, holder] = row.epoch
        return as_lease(name, row, row.ttl)

    # --- processes that hold something, or watch --------------------------------------------------------------------

    def _attend(self, ref: Ref) -> None:
        check_ref(ref, "owner")
        if ref not in self._owned:
            engine_of(self).peers.on_death(ref, self._ended)
            self._owned[ref] = {}

    def _ended(self, ref: Ref) -> None:
        self._watchers.pop(ref, None)
        for (name, holder), epoch in self._owned.pop(ref, {}).items():
            self.spawn(self._release(name, holder, epoch))

    async def _release(self, name: str, holder: str, epoch: int) -> None:
        try:
            await self._store.release(name, holder, epoch)
        except SupervisorsError as error:  # it ends by itself, later
            self.log.info("a lease was not released", lease=name, epoch=epoch, error=str(error))

    async def _watch(self, prefix: Any, watcher: Any) -> list[str]:
        if prefix != "":
            check_lease_name(prefix, "prefix")
        check_ref(watcher, "watcher")
        self._attend(watcher)
        if self._member is not None:
            self._member.follow(self._changed)
        self._watchers.setdefault(watcher, set()).add(prefix)
        return await self._store.names(prefix)

    async def _wait(self, name: str, version: int, seconds: float) -> tuple[Any, int]:
        """Return a value and its version when that is another one, or the time is up."""
        if self._member is not None:
            self._member.follow(self._changed)
        end, changed = now() + seconds, asyncio.Event()
        self._waits.setdefault(name, set()).add(changed)
        try:
            while True:
                changed.clear()
                data, found = await self._store.read(name)
                if found != version or now() >= end:
                    return opened_value(data), found
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(end - now()):
                        await changed.wait()
        finally:
            self._waits[name].discard(changed)
            if not self._waits[name]:
                del self._waits[name]

    def _changed(self, kind: str, name: str) -> None:
        for event in self._waits.get(name, ()):
            event.set()
        if any(name.startswith(prefix) for prefixes in self._watchers.values() for prefix in prefixes):
            self.spawn(self._tell(kind, name))

    async def _tell(self, kind: str, name: str) -> None:
        news: Any
        try:
            if kind == "lease":
                news = messages.LeaseChanged(as_lease(name, *await self._store.get(name)))
            else:
                data, version = await self._store.read(name)
                news = messages.ValueChanged(name, opened_value(data), version)
        except SupervisorsError as error:
            self.log.info("a change could not be told", name=name, error=str(error))
            return
        for watcher, prefixes in self._watchers.items():
            if any(name.startswith(prefix) for prefix in prefixes):
                self.send(watcher, news)
