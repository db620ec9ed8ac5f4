"""The registry of a node: name → reference, unique, gone when its process is."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

from supervisors.host import processes
from supervisors.system_server import SystemServer
from supervisors.terms.errors import NoProcess
from supervisors.terms.ports import engine_of
from supervisors.terms.ref import Ref

#: The file of names is written anew when it has this many lines more than twice those that count.
SPARE_LINES = 1000


class NameFile:
    """The names of a registry in a file, from which its successor reads them after a crash.

    A name is in the file before its holder is told that it has the name. The file is not synced to the disk: it
    survives the registry's process, and not a crash of the machine.

    Args:
        path: the file.
        run: identifies this run of the node. Names that another run has written are ignored.
    """

    def __init__(self, path: Path, run: str) -> None:
        """Remember the path. The file is written by `load` and `add`."""
        self._path, self._run = path, run
        self._lines = 0

    def load(self, alive: Callable[[Ref], bool]) -> dict[str, Ref]:
        """Return the names whose holders are alive, and rewrite the file with these alone."""
        names: dict[str, Ref] = {}
        try:
            run, *lines = self._path.read_text().split("\n")
        except (OSError, ValueError):
            run, lines = "", []
        if run == json.dumps(self._run):
            for line in lines[:-1]:  # a last line without its end was never told to its holder
                with contextlib.suppress(ValueError, TypeError):  # a line that a full disk has cut
                    name, *fields = json.loads(line)
                    names[name] = Ref(*fields)
        names = {name: ref for name, ref in names.items() if alive(ref)}
        self._write(names)
        return names

    def add(self, name: str, ref: Ref, names: dict[str, Ref]) -> None:
        """Append a name to the file. It is rewritten with `names`, which are all of now, when it has grown long."""
        self._lines += 1
        if self._lines > 2 * len(names) + SPARE_LINES:
            self._write(names)
        else:
            with self._open(self._path, os.O_APPEND) as file:
                file.write(_line(name, ref))

    def _write(self, names: dict[str, Ref]) -> None:
        draft = self._path.with_suffix(".new")
        with self._open(draft, os.O_TRUNC) as file:
            file.write(json.dumps(self._run) + "\n" + "".join(_line(name, ref) for name, ref in names.items()))
        os.replace(draft, self._path)
        self._lines = len(names)

    @staticmethod
    def _open(path: Path, flags: int) -> Any:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600), "w")


def _line(name: str, ref: Ref) -> str:
    return json.dumps([name, *astuple(ref)]) + "\n"


class NodeRegistry(SystemServer):
    """The names of one node, each with the process that holds it.

    Requests: ("register", name, ref) → None, or the ref that holds the name; ("whereis", name) → ref or None;
    ("names",) → dict.
    """

    WHAT = "the node's registry"

    def init(self) -> None:
        """Begin with the names of a predecessor that was killed, so that nobody takes a name whose holder is alive.

        The holders register again as well, when their supervisors tell them of the new registry.
        """
        node = self.node
        self._file = NameFile(Path(node["data_dir"]) / "run" / "names", f"{node['uid']} {node['incarnation']}")
        self._names: dict[str, Ref] = {}
        try:
            for name, ref in self._file.load(self._alive).items():
                self._hold(name, ref)
        except OSError as error:
            self.log.error("the names cannot be kept for a successor", error=repr(error))

    def answer(self, request: Any, caller: Any) -> Any:
        """Answer one request."""
        match request:
            case ("register", str(name), Ref(host=str(), pid=int(), born=int(), outside=False) as ref):
                return self._register(name, ref)
            case ("whereis", str(name)):
                return self._lookup(name)
            case ("names",):
                return dict(self._names)
        raise self.unknown(request)

    def take_cast(self, message: Any) -> None:
        """Forget a name whose holder is ending; log and drop anything else."""
        match message:
            case ("unregister", str(name), Ref() as ref):
                self._drop(name, ref)
            case _:
                super().take_cast(message)

    def _alive(self, ref: Ref) -> bool:
        return ref.host != self.ref.host or not processes.has_ended(ref.pid, ref.born)

    def _lookup(self, name: str) -> Ref | None:
        ref = self._names.get(name)
        # The notice of a death may still be on its way: a dead holder must not block the next one.
        if ref is not None and not self._alive(ref):
            self._names.pop(name, None)
            return None
        return ref

    def _register(self, name: str, ref: Ref) -> Ref | None:
        holder = self._lookup(name)
        if holder is not None:
            return None if holder == ref else holder
        if self._hold(name, ref):
            try:
                self._file.add(name, ref, self._names)
            except OSError as error:  # a full disk: only a successor would have read it
                self.log.error("a name cannot be kept for a successor", name=name, error=repr(error))
        return None

    def _hold(self, name: str, ref: Ref) -> bool:
        try:
            engine_of(self).peers.on_death(ref, lambda dead: self._drop(name, dead))
        except NoProcess:
            return False
        self._names[name] = ref
        return True

    def _drop(self, name: str, dead: Ref) -> None:
        if self._names.get(name) == dead:
            del self._names[name]
