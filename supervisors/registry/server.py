"""Registry: processes under keys of any kind, unique or not, with a value each; as Elixir's `Registry`.

::

    ChildSpec("reg", Registry, kwargs={"keys": "unique"}, name="reg")

    await AsyncRegistryHandle(self, "reg").register("orders")   # inside a GenServer: this server is the owner
    RegistryHandle(node, "reg").lookup("orders")                # → [(ref, value)]
    node.call(Via("reg", "orders"), "how many")                 # a unique registry's keys are names too
    ChildSpec("w", Worker, name=Via("reg", ("worker", 7)))      # start under one

An entry lives as long as its owner, seen through its pidfd. Owners are linked to the registry: as its memory goes with
it, they end when it crashes, and their supervisors start them, and their entries, anew. So start it before them; under
rest_for_one its crash counts as one restart, under one_for_one each owner's end is another.
What it decides is in registry/core.py; what a user calls in registry/handle.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisors.genserver import NO_REPLY
from supervisors.host import processes
from supervisors.registry.core import Lease, LockTable, RegistryTable
from supervisors.registry.matching import check_guards
from supervisors.system_server import SystemServer
from supervisors.terms.checks import check_flag, check_size, check_texts
from supervisors.terms.errors import NoProcess, NotAllowed, SpecError, SupervisorsError
from supervisors.terms.ports import engine_of
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.showing import shown_error


class Registry(SystemServer):
    """A local store of who is registered under which key."""

    WHAT = "a registry"

    def init(self, keys: str, listeners: tuple[str, ...] = (), linked: bool = True) -> None:
        """Start empty.

        Args:
            keys: "unique" - one owner per key; "duplicate" - any number.
            listeners: names of servers that get ("register", registry, key, owner, value) and
                ("unregister", registry, key, owner) in handle_info. They are not told when an owner ends: who
                wants to know that monitors it.
            linked: owners are linked to the registry, and end when it crashes. False: they stay; for a registry that
                keeps its entries elsewhere too, and has them again when it comes back.

        Raises:
            SpecError: an argument is not legal.
        """
        self._table = RegistryTable(keys, self._alive)
        self._locks = LockTable()
        self._waiting: dict[Lease, Caller] = {}
        self._watched: set[Ref] = set()
        self._listeners = check_texts("listeners", listeners)
        check_flag("linked", linked)
        self._linked = linked
        self.trap_exit = True
        table = self._table
        self._requests: dict[str, Callable[..., Any]] = {
            "register": self._register,
            "register_via": self._register_via,
            "resolve": self._resolve,
            "unregister": lambda key, owner: self._removed(owner, table.unregister(key, owner)),
            "unregister_match": lambda key, owner, pattern, guards: self._removed(
                owner, table.unregister_match(key, owner, pattern, check_guards(guards))
            ),
            "value": table.value,
            "update_value": table.update_value,
            "lookup": table.lookup,
            "keys": table.keys,
            "values": table.values,
            "count": table.count,
            "match": lambda key, pattern, guards: table.match(key, pattern, check_guards(guards)),
            "count_match": lambda key, pattern, guards: len(table.match(key, pattern, check_guards(guards))),
            "select": lambda pattern, guards, body: table.select(pattern, check_guards(guards), body),
        }

    def answer(self, request: Any, caller: Caller) -> Any:
        """Answer one request; one that is refused does the registry no harm."""
        check_size("request", request)
        match request:
            case ("lock", key, Ref() as holder, number):
                return self._lock(key, Lease(holder, number), caller)
            case ("value" | "update_value" as name, key, Ref() as owner, *_) if owner != caller.ref:
                raise NotAllowed(f"{name}: key {key!r:.100} can be changed by its owner only")
            case (str(name), *arguments) if name in self._requests:
                try:
                    return self._requests[name](*arguments)
                except SupervisorsError:
                    raise
                except Exception as error:  # a wrong number of arguments; a key that is endless
                    raise self.unknown(request, shown_error(error, 200)) from None
        raise self.unknown(request)

    def take_cast(self, message: Any) -> None:
        """Give a lock back, or leave its line."""
        check_size("message", message)
        match message:
            case ("unlock", key, Ref() as holder, number):
                lease = Lease(holder, number)
                self._waiting.pop(lease, None)
                self._grant(self._locks.release(key, lease))
            case _:
                super().take_cast(message)

    def take_info(self, message: Any) -> None:
        """Drop exit signals of owners: their deaths are seen by their pidfds."""
        if not (isinstance(message, tuple) and message[:1] == ("EXIT",)):
            super().take_info(message)

    # --- entries ----------------------------------------------------------------------------------------------------

    def _register(self, key: Any, owner: Ref, value: Any) -> Ref:
        if not isinstance(owner, Ref) or owner.host != self.ref.host or owner.outside:
            raise SpecError.of("owner", owner, "the Ref of a process of this node")
        first = not self._table.owns(owner)
        self._table.register(key, owner, value)
        try:
            self._watch(owner)
        except NoProcess:
            self._table.drop(owner)
            raise
        if first and self._linked and owner != self.ref:
            self.link(owner)
        self._tell(("register", self.name, key, owner, value))
        return owner

    def _removed(self, owner: Ref, entries: list[Any]) -> None:
        for entry in entries:
            self._tell(("unregister", self.name, entry.key, owner))
        if entries and self._linked and not self._table.owns(owner):
            self.unlink(owner)

    def _register_via(self, key: Any, owner: Ref, value: Any) -> Ref | None:
        holder = self._resolve(key)
        if holder is not None:
            return None if holder == owner else holder
        self._register(key, owner, value)
        return None

    def _resolve(self, key: Any) -> Ref | None:
        if not self._table.unique:
            raise NotAllowed(f"registry {self.name} has duplicate keys: Via needs one with unique keys")
        found = self._table.lookup(key)
        return found[0][0] if found else None

    # --- locks ------------------------------------------------------------------------------------------------------

    def _lock(self, key: Any, lease: Lease, caller: Caller) -> Any:
        self._watch(lease.holder)
        if self._locks.acquire(key, lease):
            return True
        self._waiting[lease] = caller
        return NO_REPLY

    def _grant(self, lease: Lease | None) -> None:
        if lease is not None:
            self.reply(self._waiting.pop(lease), True)

    # --- owners -----------------------------------------------------------------------------------------------------

    def _alive(self, owner: Ref) -> bool:
        return not processes.has_ended(owner.pid, owner.born)

    def _watch(self, owner: Ref) -> None:
        if owner not in self._watched:
            engine_of(self).peers.on_death(owner, self._ended)
            self._watched.add(owner)

    def _ended(self, owner: Ref) -> None:
        self._watched.discard(owner)
        self._table.drop(owner)
        for lease in [lease for lease in self._waiting if lease.holder == owner]:
            del self._waiting[lease]
        for lease in self._locks.drop(owner):
            self._grant(lease)

    # --- listeners --------------------------------------------------------------------------------------------------

    def _tell(self, news: Any) -> None:
        for name in self._listeners:
            self.send(name, news)
