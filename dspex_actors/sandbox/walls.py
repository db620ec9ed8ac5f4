"""Locks this process in, with what the host has: namespaces, Landlock, seccomp, limits. For good, before code runs.

Each part is tried; what the host lacks is reported, and the interpreter decides whether that is enough.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dspex_actors.sandbox import syscalls

#: What can be protected.
PROTECTIONS = ("network", "files", "processes", "memory")

#: Files that Python and its libraries read while they run, beside their own folders.
_READ = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache",
         "/etc/localtime", "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")  # fmt: skip

#: Rights of Landlock: those that reading takes, all of a version, those that a file can have.
_LANDLOCK_READ = 0b1100
_LANDLOCK_FILES = {1: 13, 2: 14, 3: 15, 4: 15}
_LANDLOCK_OF_A_FILE = (1 << 0) | (1 << 1) | (1 << 2) | (1 << 14) | (1 << 15)
_EXECUTE, _MAKE_DEVICES = 1, (1 << 6) | (1 << 9) | (1 << 10) | (1 << 11)


@dataclass
class Walls:
    """What is to be put up, and what stands.

    Args:
        scratch: the host's folder that code may write to, where it gets none of its own.
        read: folders and files that it may read beside Python's own: packages, and what the user says.
        memory: bytes.
        cpu: seconds, of the whole session.
        disk: bytes that it may write.
        parent: the process that has started this one.
        without: parts that are left out, as if the host did not have them; for tests.
    """

    scratch: str
    read: list[str]
    memory: int
    cpu: int
    disk: int
    parent: int
    without: list[str] = field(default_factory=list)
    #: What keeps something safe: protection → by what.
    by: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in PROTECTIONS})
    #: What the host lacks: part → why.
    lacks: dict[str, str] = field(default_factory=dict)
    #: Whether the scratch folder is in memory, and goes with this process.
    in_memory: bool = False

    def put_up(self) -> None:
        """Lock this process in."""
        self._limit()
        if sys.platform != "linux":
            self.lacks["namespaces, Landlock and seccomp"] = f"this is {sys.platform}, they are Linux's"
            return
        os.umask(0o077)
        self._try("namespaces", self._namespaces, "network", "files")
        self._try("Landlock", self._landlock, "files")
        self._go_to_scratch()
        self._try("no_new_privs", self._privileges)
        self._try("seccomp", self._seccomp, "network", "processes")

    def report(self) -> dict[str, Any]:
        """Return what stands, as plain data."""
        return {"by": self.by, "lacks": self.lacks, "scratch": self.scratch, "in_memory": self.in_memory}

    def _try(self, part: str, put_up: Callable[[], None], *protections: str) -> None:
        try:
            if part in self.without:
                raise OSError("left out")
            put_up()
        except (OSError, AttributeError, KeyError, ValueError) as error:
            self.lacks[part] = str(error)
        else:
            for name in protections:
                self.by[name].append(part)

    def _limit(self) -> None:
        for name, most in (
            ("CORE", 0),
            ("CPU", self.cpu),
            ("FSIZE", self.disk),
            ("NOFILE", 64),
            ("NPROC", 0),
            ("MSGQUEUE", 0),
            ("MEMLOCK", 0),
        ):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                _lower(getattr(resource, f"RLIMIT_{name}"), most)

        def limit_memory() -> None:
            _lower(resource.RLIMIT_AS, self.memory)
            if sys.platform == "darwin":
                raise OSError("macOS does not hold to it")

        self._try("limits", limit_memory, "memory")

    def _places(self) -> list[str]:
        """Return what may be read: Python's own folders, the system's libraries, and what was told."""
        paths = sysconfig.get_paths()
        own = [paths["stdlib"], paths["platstdlib"]]
        own += [f"{prefix}/lib" for prefix in {sys.base_prefix, sys.base_exec_prefix} if prefix != "/"]
        found: dict[str, None] = {}
        for path in [*own, *_READ, *self.read]:
            for each in (os.path.abspath(path), os.path.realpath(path)):
                if each != "/" and os.path.exists(each):
                    found[each] = None
        return sorted(found)

    def _namespaces(self) -> None:
        from dspex_actors.sandbox import linux

        uid, gid = os.getuid(), os.getgid()
        places = self._places()
        linux.unshare()
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)
        self.by["network"].append("namespace")  # it holds, whatever of the mounts does not
        linux.keep_mounts_apart()
        root = self.scratch
        linux.tmpfs(root, 1 << 20, 4096)
        for place in places:
            _show(linux, place, root)
        os.mkdir(f"{root}/scratch")
        linux.tmpfs(f"{root}/scratch", self.disk, 4096)
        linux.only_readable(root, recursive=False)
        linux.change_root(root)
        self.scratch, self.in_memory = "/scratch", True
        self.by["network"].remove("namespace")

    def _landlock(self) -> None:
        from dspex_actors.sandbox import linux

        version = linux.landlock_version()
        if version < 1:
            raise OSError("this kernel has none, or has it switched off")
        everything = (1 << _LANDLOCK_FILES.get(version, 16)) - 1
        handled = struct.pack("=QQQ", everything, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
        length = 8 if version < 4 else 16 if version < 6 else 24
        rules = []
        for place in self._places():
            rights = everything & (_LANDLOCK_READ | 2 if place == "/dev/null" else _LANDLOCK_READ)
            rules.append((rights if os.path.isdir(place) else rights & _LANDLOCK_OF_A_FILE, place))
        rules.append((everything & ~_EXECUTE & ~_MAKE_DEVICES, self.scratch))
        linux.no_new_privileges()
        linux.landlock(handled[:length], rules)

    def _go_to_scratch(self) -> None:
        os.chdir(self.scratch)
        os.environ.update(HOME=self.scratch, TMPDIR=self.scratch)

    def _privileges(self) -> None:
        from dspex_actors.sandbox import linux

        linux.no_new_privileges()
        with contextlib.suppress(OSError):
            linux.drop_capabilities()
        linux.not_dumpable()
        linux.die_with_parent(signal.SIGKILL)  # after what would undo it: a change of rights
        if os.getppid() != self.parent:
            os._exit(1)  # it has died meanwhile

    def _seccomp(self) -> None:
        from dspex_actors.sandbox import linux

        machine = os.uname().machine
        if machine not in syscalls.ARCHITECTURES:
            raise OSError(f"nobody has listed the system calls of {machine}")
        linux.seccomp(syscalls.program(machine))


def _lower(kind: int, most: int) -> None:
    """Set both limits; one that is lower already stays."""
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _show(linux: Any, place: str, root: str) -> None:
    """Have a file or folder of the host in the new root, to be read."""
    shown = root + place
    if os.path.lexists(shown):
        return  # a folder above it is shown already
    os.makedirs(os.path.dirname(shown), exist_ok=True)
    if os.path.islink(place):
        os.symlink(os.readlink(place), shown)
        return
    if os.path.isdir(place):
        os.mkdir(shown)
    else:
        os.close(os.open(shown, os.O_CREAT | os.O_WRONLY, 0o600))
    linux.bind(place, shown)
    linux.only_readable(shown, recursive=True, devices=place.startswith("/dev/"))
