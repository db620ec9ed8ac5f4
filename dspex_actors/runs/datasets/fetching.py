"""Getting the dataset of a run onto this node, from one that has it: in pieces, checked, gone on with after a kill."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dspex_actors.data.dataset import Dataset
from dspex_actors.errors import ConfigError, DspexError, from_record
from dspex_actors.foundation.locks import locked
from dspex_actors.names import RUNS
from dspex_actors.runs.datasets.messages import GetCopy, GetPiece, Held
from dspex_actors.runs.datasets.store import Copies, digest_of
from dspex_actors.runs.messages import Note
from supervisors import GenServer, Ref
from supervisors.cluster.membership.messages import MEMBERSHIP, Lookup, Members
from supervisors.errors import SupervisorsError

#: Another process of this node that gets the same is waited for, and looked at this often, in seconds.
WAIT_SECONDS = 0.1
#: A node that has to read all of a large file first may take so many seconds to say what it has.
HELD_SECONDS = 600.0


async def dataset_here(server: GenServer, run_id: str, descriptor: dict[str, Any]) -> Dataset:
    """Open a run's dataset on this node, fetched from another one if need be.

    Args:
        server: who asks.
        run_id: the run.
        descriptor: of its dataset, as the run has it.

    Raises:
        DspexError: no node has it as it was when the run began.
    """
    copies = Copies(Path(server.node["data_dir"]))
    try:
        return (await asyncio.to_thread(copies.open, descriptor))[0]
    except (DspexError, OSError) as error:
        why = error.message if isinstance(error, DspexError) else str(error)
    nodes = await _others(server)
    if not nodes:
        raise ConfigError(why)
    server.log.info("the dataset is fetched from another node", run=run_id, why=why)
    note = {"in_flight": 0, "waiting": 0, "workers": 0, "trouble": "the dataset is fetched from another node"}
    server.cast(RUNS, Note(run_id, note))
    failed = await fetch(server, run_id, descriptor, nodes)
    if failed is None:
        return (await asyncio.to_thread(copies.open, descriptor))[0]
    raise ConfigError(f"{why}; no other node has it either: {failed}")


async def _others(server: GenServer) -> list[str]:
    if await server.whereis(MEMBERSHIP) is None:
        return []
    try:
        members = await server.call(MEMBERSHIP, Members())
    except SupervisorsError:
        return []
    me = str(server.node["name"])
    return [member.name for member in members if member.is_up and member.role == "full" and member.name != me]


async def fetch(server: GenServer, run_id: str, descriptor: dict[str, Any], nodes: Iterable[str]) -> str | None:
    """Copy a run's dataset from the first of these nodes that has it; return why none does, None where it is here now.

    What was copied of it before is not copied again, from whichever node it was; it stays until the run is over.

    Args:
        server: who asks.
        run_id: the run, which has use for the copy.
        descriptor: of the dataset.
        nodes: their names.
    """
    copies = Copies(Path(server.node["data_dir"]))
    failed: list[str] = []
    try:
        copies.use(run_id, descriptor)
    except OSError as error:
        return _not_written(error)
    for node in nodes:
        try:
            keeper = await server.call(MEMBERSHIP, Lookup(node, RUNS))
            await _copy(server, keeper, descriptor, copies)
        except DspexError as error:
            failed.append(f"{node}: {error.message}")
        except SupervisorsError as error:
            failed.append(f"{node}: {error}")
        except OSError as error:
            copies.drop(run_id, descriptor)
            return _not_written(error)
        else:
            return None
    copies.drop_if_empty(run_id, descriptor)
    return "; ".join(failed)


def _not_written(error: OSError) -> str:
    what = "no space left" if error.errno in (errno.ENOSPC, errno.EDQUOT) else str(error.strerror or error)
    return f"it cannot be written here ({what})"


async def _copy(server: GenServer, keeper: Ref, descriptor: dict[str, Any], copies: Copies) -> None:
    kind, held = await server.call(keeper, GetCopy(descriptor), timeout=HELD_SECONDS)
    if kind == "error":
        raise from_record(held)
    path = copies.path_of(descriptor)
    while not path.exists():
        with locked(path.parent) as is_ours:
            if is_ours and not path.exists():
                await _pieces(server, keeper, held, path)
        if not is_ours:
            await asyncio.sleep(WAIT_SECONDS)


async def _pieces(server: GenServer, keeper: Ref, held: Held, path: Path) -> None:
    part = path.with_name(f"{held.digest}.part")
    out = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        at = os.lseek(out, 0, os.SEEK_END)
        while at < held.size:
            piece = await server.call(keeper, GetPiece(held.digest, at), timeout=60.0)
            if not piece:
                raise ConfigError("it was changed, or is gone, while it was copied")
            at += os.pwrite(out, piece, at)
        await asyncio.to_thread(os.fsync, out)
    finally:
        os.close(out)
    if await asyncio.to_thread(digest_of, part) != held.digest:
        part.unlink()
        raise ConfigError("the copy has another digest than the original: what came is damaged, and was thrown away")
    part.replace(path)
