"""Which journal a node has: the one that its data folder says, for whoever writes or reads it."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dspex_actors.errors import ConfigError
from dspex_actors.journal.errors import JournalError
from dspex_actors.journal.reader import JOURNAL_FILE, JournalReader, find_journals
from supervisors.cluster.handle import others_of, own_uid
from supervisors.cluster.leases.store import write_address

if TYPE_CHECKING:
    from dspex_actors.journal.base import JournalBase

#: In it, where the journal is, if not in that file; and what the node is called there.
PLACE_FILE = "journal.json"


def place_of(folder: Path) -> dict[str, str] | None:
    """Return what the data folder says of a journal elsewhere: `address` and `owner`; None: it is in the folder.

    Raises:
        ConfigError: the file says nothing that can be understood.
    """
    path = folder / PLACE_FILE
    try:
        found: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        found = None
    if not isinstance(found, dict) or not {"address", "owner"} <= found.keys():
        raise ConfigError(f"{path} is damaged: remove it, and start the node with --journal")
    return found if found["address"] else None


def set_place(folder: Path, address: str | None) -> None:
    """Write down where a node has its journal: a server, or (None) its own folder again."""
    if address is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_address(folder, address)  # who owns what is decided where the journal is
    path = folder / PLACE_FILE
    if address is None and not path.exists():
        return
    owner = owner_of(folder)
    part = path.with_name(f"{path.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "w") as file:
        json.dump({"address": address or "", "owner": owner}, file)
    part.replace(path)


def choose_journal(folder: Path, text: str, *, runs: bool) -> None:
    """Have a node keep its journal where its user says, from its next start on.

    Args:
        folder: the node's data folder.
        text: the address of a PostgreSQL server, or `sqlite`: a file in the data folder.
        runs: whether the node runs.

    Raises:
        ConfigError: that is no journal, the server cannot be used, or the node runs with another one.
    """
    address = None
    if text != "sqlite":
        from dspex_actors.journal.postgres.address import checked_address, is_postgres

        if not is_postgres(text):
            # Where there are options a password may be among them, in whatever form.
            shown = "another form of address" if "=" in text else repr(text.rpartition("@")[2])
            raise ConfigError(
                f"journal is invalid: got {shown}, expected postgresql://USER@HOST:PORT/DATABASE or sqlite"
            )
        address = checked_address(text)
    place = place_of(folder)
    if address == (None if place is None else place["address"]) and runs:
        return
    if runs:
        raise ConfigError("the node runs already, with another journal: `dspex stop` it first")
    if address is not None:
        from dspex_actors.journal.postgres.writer import check_server

        try:
            check_server(address, owner_of(folder), folder)
        except JournalError as error:
            raise ConfigError(error.message) from None
    set_place(folder, address)


def owner_of(folder: Path) -> str:
    """Return what a node is called in a journal that others use too: of its folder, for ever."""
    try:
        found = json.loads((folder / PLACE_FILE).read_bytes())["owner"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    return found or uuid.uuid4().hex[:16]


def open_journal(folder: Path) -> JournalBase:
    """Open a node's journal for writing.

    Raises:
        JournalError: it cannot be opened (a server is asked when it is used).
    """
    place = place_of(folder)
    if place is None:
        from dspex_actors.journal.writer import Journal

        journal = Journal(folder / JOURNAL_FILE, owner=own_uid(folder))
        journal.is_leased = bool(journal.owner and others_of(folder))
        return journal
    from dspex_actors.journal.postgres.writer import PostgresJournal

    return PostgresJournal(place["address"], owner=place["owner"], folder=folder)


def open_reader(folder: Path) -> JournalReader:
    """Return who reads the journal of a node."""
    place = place_of(folder)
    if place is None:
        return JournalReader(folder / JOURNAL_FILE)
    from dspex_actors.journal.postgres.reader import PostgresReader

    return PostgresReader(place["address"], folder / PLACE_FILE)


def readers_under(home: Path, *folders: Path) -> list[JournalReader]:
    """Return who reads the journals of data folders, and of those under a DSPEX_HOME.

    A folder whose journal is in a server now may have one of before too.
    """
    servers = {place["address"]: folder for folder in [*folders, home] if (place := place_of(folder)) is not None}
    paths = dict.fromkeys([*(folder / JOURNAL_FILE for folder in folders), *find_journals(home)])
    return [*map(open_reader, servers.values()), *map(JournalReader, paths)]
