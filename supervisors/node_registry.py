"""The registry of a node: name → reference, unique, gone when its process is."""

from __future__ import annotations

from typing import Any

from supervisors.errors import NoProcess
from supervisors.genserver import GenServer
from supervisors.reason import Ref
from supervisors.runtime import fate


class NodeRegistry(GenServer):
    """Holds the names of one node.

    Requests: ("register", name, ref) → None, or the ref that holds the name; ("whereis", name) → ref or None;
    ("names",) → dict.
    """

    def init(self) -> None:
        """Start empty; whoever has a name registers it again when the supervisor tells of a new registry."""
        self._names: dict[str, Ref] = {}

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer one request."""
        match request:
            case ("register", str(name), Ref() as ref):
                return self._register(name, ref)
            case ("whereis", str(name)):
                return self._lookup(name)
            case ("names",):
                return dict(self._names)
        raise ValueError(f"the registry does not know {request!r}")

    def handle_cast(self, message: Any) -> None:
        """Forget a name whose holder is ending."""
        match message:
            case ("unregister", str(name), Ref() as ref):
                self._drop(name, ref)

    def _lookup(self, name: str) -> Ref | None:
        ref = self._names.get(name)
        # The notice of a death may still be on its way: a dead holder must not block the next one.
        if ref is not None and ref.host == self.ref.host and fate.has_ended(ref.pid, ref.born):
            self._names.pop(name, None)
            return None
        return ref

    def _register(self, name: str, ref: Ref) -> Ref | None:
        holder = self._lookup(name)
        if holder is not None:
            return None if holder == ref else holder
        try:
            self._process.peers.on_death(ref, lambda dead: self._drop(name, dead))
        except NoProcess:
            return None
        self._names[name] = ref
        return None

    def _drop(self, name: str, dead: Ref) -> None:
        if self._names.get(name) == dead:
            del self._names[name]
