"""What nodes of programs have paid whose folders are gone: a file of lines beside the journals, appended only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import orjson

from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.spend import KEY_COLUMNS, Spent

#: In DSPEX_HOME.
GONE_FILE = "paid.jsonl"


def keep_paid(journal: Path, file: Path) -> None:
    """Write down what a journal says was paid, before it is removed; calls of the embedded LM are left out.

    Args:
        journal: the journal.
        file: where to.

    Raises:
        OSError: it cannot be written.
        JournalError: it cannot be read.
    """
    found = JournalReader(journal).spent(0, KEY_COLUMNS)
    # Those that have failed, and cost nothing, were asked all the same.
    rows = [row for row in found if row.cost or row.unpriced or row.cached or row.provider != "embedded"]
    if not rows:
        return
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, b"".join(orjson.dumps(list(row)) + b"\n" for row in rows))  # in one piece: others append too
    finally:
        os.close(handle)


def paid_by_gone(file: Path, since: int) -> list[Spent]:
    """Return what was written down, from an hour on; a line that was cut is left out."""
    found: list[Spent] = []
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        with contextlib.suppress(orjson.JSONDecodeError, TypeError):
            row = Spent._make(orjson.loads(line))
            if row.hour >= since:
                found.append(row)
    return found
