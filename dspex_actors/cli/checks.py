"""What `dspex doctor` looks at. Each check returns findings; a finding may know how to put things right."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from dspex_actors.cli import processes
from dspex_actors.cli.look import data_folders
from dspex_actors.cli.output import size_text
from dspex_actors.config import Config
from dspex_actors.errors import DspexError
from dspex_actors.foundation.durations import duration_text
from dspex_actors.foundation.home import HOME
from dspex_actors.journal.opening import open_reader, place_of
from dspex_actors.journal.postgres.address import shown
from dspex_actors.journal.reader import JournalReader, find_journals
from supervisors import Node
from supervisors.client.launch import read_node_file
from supervisors.errors import SupervisorsError
from supervisors.host import processes as host_processes
from supervisors.wire.keys import KEY_FILE, KEY_SIZE

OK, WARN, FAIL = "ok", "warn", "fail"
#: Free space under which a run may end for want of it, and under which it is close.
LOW_DISK, SCARCE_DISK = 200_000_000, 2_000_000_000
#: Open files: a worker keeps up to 1,024 connections.
FEW_FILES = 1200
#: A clock that is off by more than this many seconds is worth a word.
CLOCK_SECONDS = 5.0
#: Files that a program may be about to use are left alone until they are this old, in seconds.
GRACE_SECONDS = 3600.0
#: A node may be so long without a node.json while it starts, in seconds.
STARTING_SECONDS = 5.0
_TESTED_THESPIAN = "4.0.1"


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        check: what was looked at.
        state: ok, warn or fail.
        text: what was found.
        fix: what to do about it; None where there is nothing to do.
        mend: does it; None where only a person can.
    """

    check: str
    state: str
    text: str
    fix: str | None = None
    mend: Callable[[], str] | None = None


def all_findings(home: Path, config: Config) -> Iterator[Finding]:
    """Look at everything, one finding after the other."""
    every = (versions, folder, key, node, leftovers, ports, journals, disk, files, clock)
    # What cannot be looked into is found once, not by each check in turn.
    closed = home.exists() and not os.access(home, os.R_OK | os.X_OK)
    for check in (versions, folder, disk, files) if closed else every:
        yield from check(home, config)


def versions(home: Path, config: Config) -> Iterator[Finding]:
    """Python, thespian, dspex itself."""
    thespian = metadata.version("thespian")
    text = f"dspex {metadata.version('dspex-actors')}, Python {platform.python_version()}, thespian {thespian}"
    if thespian != _TESTED_THESPIAN:
        yield Finding("versions", WARN, text, f"pip install thespian=={_TESTED_THESPIAN}")
    else:
        yield Finding("versions", OK, text)


def folder(home: Path, config: Config) -> Iterator[Finding]:
    """The data folder: there, ours, closed to others, writable."""
    if not home.exists():
        above = next(path for path in home.parents if path.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield Finding("data folder", OK, f"{home} is not there yet; `dspex start` makes it")
        else:
            yield Finding("data folder", FAIL, f"{home} cannot be made in {above}", "choose another DSPEX_HOME")
        return
    yield from _closed("data folder", home, 0o700)
    if not os.access(home, os.W_OK | os.X_OK):
        fix = f"chmod u+rwx {home}, or choose another DSPEX_HOME"
        yield Finding("data folder", FAIL, f"{home} cannot be written", fix)


def key(home: Path, config: Config) -> Iterator[Finding]:
    """The cluster key: closed to others, and a key."""
    path = home / KEY_FILE
    if not path.exists():
        yield Finding("cluster key", OK, "none yet; the first start makes one")
        return
    yield from _closed("cluster key", path, 0o600)
    try:
        good = len(bytes.fromhex(path.read_text("ascii"))) == KEY_SIZE
    except (OSError, ValueError):
        good = False
    if not good:
        fix = f"copy that of another node, or rm {path} for a new cluster"
        yield Finding("cluster key", FAIL, f"{path} has no key in it", fix)


def _closed(check: str, path: Path, mode: int) -> Iterator[Finding]:
    status = path.stat()
    found = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        yield Finding(check, FAIL, f"{path} belongs to user {status.st_uid}", f"chown {os.geteuid()} {path}")
    elif found & 0o077:
        # Not mended by itself: a key that was open may be known to others, and only a person can decide about that.
        yield Finding(check, FAIL, f"{path} is open to others (mode {found:04o})", f"chmod {mode:o} {path}")
    else:
        yield Finding(check, OK, f"{path} (mode {found:04o})")


def node(home: Path, config: Config) -> Iterator[Finding]:
    """The node: running and healthy, not running, or dead with a node.json left behind."""
    if not (home / "node.json").exists():
        yield Finding("node", OK, "none runs")
        return
    if processes.daemon_of(home) is None:
        yield Finding(
            "node",
            FAIL,
            "node.json says that a node runs, but it is dead",
            "dspex doctor --fix removes it",
            lambda: _remove(home / "node.json"),
        )
        return
    try:
        with Node.attach(home, HOME) as attached:
            found = attached.status()
    except SupervisorsError as error:
        yield Finding("node", FAIL, f"it runs and does not answer: {error}", "dspex stop --now, then dspex start")
        return
    text = f"{found['name']} at {found['address']}, {found['state']}, up {duration_text(found['uptime'], 0)}"
    version = metadata.version("dspex-actors")
    if found["state"] != "healthy":
        yield Finding("node", FAIL, text, "see `dspex tree` and `dspex failures`")
    elif found["version"] != version:
        yield Finding(
            "node", WARN, f"{text}, version {found['version']}; this is {version}", "dspex stop && dspex start"
        )
    else:
        yield Finding("node", OK, text)


def leftovers(home: Path, config: Config) -> Iterator[Finding]:
    """Processes that have lost their daemon, and files that nobody will use again."""
    for place in data_folders(home):
        # Not by the lock of the folder: who was forked by the daemon has it too, and those are looked for here.
        alive = processes.daemon_of(place) is not None
        # A starting node has processes and no node.json yet; its daemon is among them.
        lost = [] if alive else [pid for pid in processes.of_folder(place) if not _is_starting(pid)]
        if lost:
            yield Finding(
                "processes",
                FAIL,
                f"{len(lost)} processes have lost their node: {', '.join(map(str, lost))}",
                "dspex doctor --fix ends them",
                _ender(place, lost),
            )
        if not alive and place != home and (place / "node.json").exists():
            yield Finding(
                "files",
                WARN,
                f"{place.name} was killed, its node.json is left",
                "dspex doctor --fix removes it",
                _remover([place / "node.json"]),
            )
        stale = list(_stale_files(place, alive))
        if stale:
            yield Finding(
                "files",
                WARN,
                f"{len(stale)} files that nobody will use again in {place}",
                "dspex doctor --fix removes them",
                _remover(stale),
            )
    own = sum(len(processes.of_folder(place)) for place in data_folders(home))
    yield Finding("processes", OK, f"{own} processes of nodes under this folder" if own else "none of ours runs")


def _is_starting(pid: int) -> bool:
    try:
        ticks = host_processes.born(pid)
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError):
        return False
    return uptime - ticks / os.sysconf("SC_CLK_TCK") < STARTING_SECONDS


def _stale_files(place: Path, alive: bool) -> Iterator[Path]:
    old = time.time() - GRACE_SECONDS
    patterns = ["run/config-*.json", f".{KEY_FILE}.*"]
    for path in (path for pattern in patterns for path in place.glob(pattern)):
        if _older(path, old):
            yield path
    if (place / "node.tmp").exists() and not alive:
        yield place / "node.tmp"
    spools = [path for path in place.glob("spool/*.spool") if _older(path, old)]
    if spools:
        try:
            rows = open_reader(place).list_runs(limit=-1)
            used = {row.spec.dataset.get("path") for row in rows if row.state != "finished"}
        except DspexError:
            return  # as long as the journal cannot be read, nobody knows what it needs
        yield from (path for path in spools if str(path) not in used)


def _older(path: Path, moment: float) -> bool:
    try:
        return path.stat().st_mtime < moment
    except OSError:
        return False


def _remove(path: Path) -> str:
    path.unlink(missing_ok=True)
    return f"removed {path.name}"


def _remover(paths: list[Path]) -> Callable[[], str]:
    def mend() -> str:
        for path in paths:
            path.unlink(missing_ok=True)
        return f"removed {paths[0].name}" if len(paths) == 1 else f"removed {len(paths)} files"

    return mend


def _ender(place: Path, pids: list[int]) -> Callable[[], str]:
    def mend() -> str:
        left = processes.end(place, pids)
        if left:
            raise OSError(f"still there: {', '.join(map(str, left))}")
        return f"ended {len(pids)} processes"

    return mend


def ports(home: Path, config: Config) -> Iterator[Finding]:
    """The port that the configuration asks for is free, or our node's."""
    wanted = config.node.port
    host = config.node.host or "127.0.0.1"
    if not wanted:
        yield Finding("port", OK, "any free one")
        return
    if processes.daemon_of(home) is not None and str(read_node_file(home, HOME)["address"]) == f"{host}:{wanted}":
        yield Finding("port", OK, f"{host}:{wanted} is the node's")
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            yield Finding(
                "port",
                FAIL,
                f"{host}:{wanted} cannot be had: {error.strerror}",
                "choose another one: [node] port, or dspex start --port",
            )
        else:
            yield Finding("port", OK, f"{host}:{wanted} is free")


def journals(home: Path, config: Config) -> Iterator[Finding]:
    """Every journal reads to its end, and holds together."""
    if (place := place_of(home)) is not None:
        try:
            open_reader(home).check()
            yield Finding("journals", OK, f"{shown(place['address'])} answers")
        except DspexError as error:
            yield Finding("journals", FAIL, error.message, "start the server, or see docs/cluster.md")
    paths = find_journals(home)
    size = 0
    for path in paths:
        try:
            JournalReader(path).check()
            size += path.stat().st_size
        except DspexError as error:
            what, _, fix = error.message.partition(". ")
            yield Finding("journals", FAIL, what, fix or None)
        except OSError as error:
            yield Finding("journals", FAIL, f"{path} cannot be read: {error.strerror}", f"chmod u+rw {path}")
    if size:
        yield Finding("journals", OK, f"{len(paths)} checked, {size_text(size)}")
    elif not paths:
        yield Finding("journals", OK, "none yet")


def disk(home: Path, config: Config) -> Iterator[Finding]:
    """Room for journals and logs."""
    place = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    text = f"{size_text(free)} free"
    if free < SCARCE_DISK:
        yield Finding("disk", FAIL if free < LOW_DISK else WARN, text, f"free some space on the disk of {place}")
    else:
        yield Finding("disk", OK, text)


def files(home: Path, config: Config) -> Iterator[Finding]:
    """Open files that a process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} a process"
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        yield Finding("open files", WARN, f"{many}: too few for 1,024 connections", "ulimit -n 8192 before dspex start")
    else:
        yield Finding("open files", OK, many)


def clock(home: Path, config: Config) -> Iterator[Finding]:
    """The clock agrees with the disk's, and no run was started in the future."""
    now = time.time()
    place = next(path for path in (home, *home.parents) if path.exists())
    off = 0.0
    if os.access(place, os.W_OK):
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b".")
            file.flush()
            off = os.fstat(file.fileno()).st_mtime - now
    newest = max((_newest(path) for path in find_journals(home)), default=0.0)
    if abs(off) > CLOCK_SECONDS:
        yield Finding("clock", WARN, f"the disk's clock is {off:+.0f} s off", "set both clocks by NTP")
    elif newest > now + CLOCK_SECONDS:
        text = f"the newest run was made {duration_text(newest - now, 0)} in the future"
        yield Finding("clock", WARN, text, "set the clock by NTP")
    else:
        yield Finding("clock", OK, time.strftime("%Y-%m-%d %H:%M:%S %z"))


def _newest(path: Path) -> float:
    try:
        rows = JournalReader(path).list_runs(limit=1)
    except DspexError:
        return 0.0
    return rows[0].created_at if rows else 0.0
