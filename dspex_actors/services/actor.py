"""The registry of services: a `supervisors.Registry` with the keys (namespace, name), and the metadata as values.

Its entries outlive it: each is written down as it comes, so that after a crash those of all who live are there again,
and nobody ends with it. The node's own parts are looked for in their places whenever somebody asks who there is.
Beside the requests of a registry it takes ("entries", namespace or None) → [(namespace, name, ref, metadata)], and
("entry", namespace, name) → Ref or None.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.files import replaced
from dspex_actors.names import SERVICES
from dspex_actors.services.places import BRANCHES, PLACES, Branch, capabilities_of
from supervisors import ANY, NO_REPLY, Caller, ChildInfo, ChildSpec, ExitReason, Ref, Registry
from supervisors.errors import AlreadyRegistered, CallFailed, NoProcess, SupervisorsError

#: A branch that does not answer within so many seconds is left out.
LOOK_SECONDS = 1.0
#: The file is written anew when it has so many lines more than there are entries.
SPARE_LINES = 1000
_WITH_METADATA = ("register", "register_via", "update_value")
_CHANGES = (*_WITH_METADATA, "unregister", "unregister_match")


def services_spec() -> ChildSpec:
    """Return the registry of services as a child."""
    return ChildSpec(SERVICES, Services, name=SERVICES, shutdown=5.0)


class Services(Registry):
    """Keeps who does what on a node."""

    WHAT = "the registry of services"

    def init(self) -> None:  # type: ignore[override]  # it has no choices
        """Have the entries again that are written down, of those who live."""
        super().init("unique", linked=False)
        self._file = Path(self.node["data_dir"]) / "run" / "services.jsonl"
        self._lines: int | None = None
        self._written = 0
        #: Metadata of LM clients that have been asked.
        self._known: dict[Ref, dict[str, Any]] = {}
        for key, ref, value in self._read():
            with contextlib.suppress(SupervisorsError):
                self._register(key, ref, value)
        self._rewrite()

    def terminate(self, reason: ExitReason) -> None:
        """Close the file."""
        self._close()

    # --- requests ---------------------------------------------------------------------------------------------------

    async def answer(self, request: Any, caller: Caller) -> Any:
        """Answer one request; what changes an entry is written down first."""
        match request:
            case ("entries", namespace):
                self.spawn(self._later(caller, lambda: self._entries(namespace)))
                return NO_REPLY
            case ("entry", namespace, name):
                found = self._table.lookup((namespace, name))
                if found:
                    return found[0][0]
                self.spawn(self._later(caller, lambda: self._entry(namespace, name)))
                return NO_REPLY
            case (str(what), key, *rest) if what in _CHANGES:
                _check(key, rest[1] if what in _WITH_METADATA and len(rest) > 1 else None)
                before = self._table.lookup(key)
                reply = super().answer(request, caller)
                self._note(key, before)
                return reply
        return super().answer(request, caller)

    async def _later(self, caller: Caller, reply: Any) -> None:
        await self._look()
        self.reply(caller, reply())

    def _entry(self, namespace: str, name: str) -> Ref | None:
        found = self._table.lookup((namespace, name))
        return found[0][0] if found else None

    def _entries(self, namespace: str | None) -> list[tuple[str, str, Ref, dict[str, Any]]]:
        rows = [(*key, ref, value or {}) for key, ref, value in self._table.select(ANY) if self._alive(ref)]
        return sorted((row for row in rows if namespace in (None, row[0])), key=lambda row: row[:2])

    # --- the node's own parts ---------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Find the parts of the node that run, in their places."""
        await asyncio.gather(*(self._look_at(branch) for branch in BRANCHES))
        for place in PLACES:
            with contextlib.suppress(SupervisorsError):
                ref = await self.whereis(place.name)
                if ref is not None:
                    self._put((place.namespace, place.called), ref, dict(place.metadata))

    async def _look_at(self, branch: Branch) -> None:
        with contextlib.suppress(SupervisorsError, TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                if await self.whereis(branch.name) is None:
                    return
                rows = await self.which_children(branch.name)
                if branch.is_nested:
                    await asyncio.gather(*(self._look_into(branch, row) for row in rows))
                    return
                for row in rows:
                    if row.ref is None or row.id is None or row.type != "worker":
                        continue
                    if row.id.startswith(branch.prefix):
                        metadata = dict(branch.metadata)
                        if branch.prefix == "client:":
                            metadata |= await self._provider(row.ref)
                        self._put(branch.key(row.id), row.ref, metadata)

    async def _look_into(self, branch: Branch, group: ChildInfo) -> None:
        if group.ref is None:
            return
        with contextlib.suppress(SupervisorsError):  # it has ended meanwhile
            for row in await self.which_children(group.ref):
                if row.ref is not None and row.id is not None and not row.id.startswith(":"):
                    self._put(branch.key(row.id, str(group.id)), row.ref, dict(branch.metadata))

    async def _provider(self, client: Ref) -> dict[str, Any]:
        """Return what an LM client says of itself; it is asked once."""
        if client not in self._known:
            try:
                model = str((await self.call(client, "stats", timeout=LOOK_SECONDS / 2))["model"])
            except SupervisorsError:
                return {}  # it is there, and does not say more
            provider = model.partition("/")[0]
            self._known = {ref: known for ref, known in self._known.items() if self._alive(ref)}
            self._known[client] = {"model": model, "provider": provider, "capabilities": capabilities_of()}
        return self._known[client]

    def _put(self, key: tuple[str, str], ref: Ref, metadata: dict[str, Any]) -> None:
        """Enter a part, which somebody may have done otherwise: then that stays."""
        with contextlib.suppress(AlreadyRegistered, NoProcess):
            self._register(key, ref, metadata)

    # --- what is written down ---------------------------------------------------------------------------------------

    def _note(self, key: tuple[str, str], before: list[Any]) -> None:
        after = self._table.lookup(key)
        if after == before:
            return
        if self._lines is None or self._written > self._table.count() + SPARE_LINES:
            self._rewrite()
            return
        line = [*key, asdict(after[0][0]), after[0][1]] if after else [*key, None, None]
        try:
            os.write(self._lines, json.dumps(line).encode() + b"\n")
            self._written += 1
        except OSError as error:
            self._failed(error)

    def _rewrite(self) -> None:
        """Write the entries, and nothing else; after a full disk the next change tries it again."""
        self._close()
        rows = self._table.select(ANY)
        try:
            with replaced(self._file, 0o600) as file:
                file.writelines(json.dumps([*key, asdict(ref), value]) + "\n" for key, ref, value in rows)
            self._written = len(rows)
            self._lines = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except (OSError, ConfigError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._close()
        self.log.error("the registry of services cannot be written: a crash would cost it entries", error=str(error))

    def _close(self) -> None:
        if self._lines is not None:
            os.close(self._lines)
            self._lines = None

    def _read(self) -> Iterator[tuple[tuple[str, str], Ref, Any]]:
        entries: dict[tuple[str, str], tuple[Ref, Any]] = {}
        with contextlib.suppress(OSError):
            for line in self._file.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, TypeError):  # the last one may be half a line
                    namespace, name, ref, value = json.loads(line)
                    entries.pop((namespace, name), None)
                    if ref is not None:
                        entries[namespace, name] = Ref(**ref), value
        for key, (ref, value) in entries.items():
            if self._alive(ref):
                yield key, ref, value


def _check(key: Any, metadata: Any) -> None:
    """Refuse what is no entry of a service.

    Raises:
        CallFailed: says what is expected.
    """
    is_key = isinstance(key, tuple) and len(key) == 2 and all(isinstance(part, str) and part for part in key)
    if not is_key:
        raise CallFailed(f"the key of a service is invalid: got {key!r:.100}, expected (namespace, name), two texts")
    try:
        if metadata is not None and not isinstance(metadata, Mapping):
            raise TypeError
        json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise CallFailed(
            f"the metadata of {'/'.join(key)} is invalid: got {type(metadata).__name__}, expected a dict of plain data"
        ) from None
