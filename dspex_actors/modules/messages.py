"""What the module manager takes beside `Exchange`, the calls of modules: a call each; the reply is ("ok", what it says)
or ("error", the error's record)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from supervisors import message


@message(340)
@dataclass(frozen=True, slots=True)
class Create:
    """Serve a program. What it says: the module's id.

    Args:
        id: of the module.
        program: pickled.
        around: what holds where it runs, packed: see `program.pack_around`.
        about: plain data: `inputs`, `deadline`, `protection`, `description`.
        token: names this order: told again, it is not carried out again.
    """

    VERSION: ClassVar[int] = 1

    id: str
    program: bytes
    around: bytes
    about: dict[str, Any]
    token: str


@message(341)
@dataclass(frozen=True, slots=True)
class Update:
    """Let another program answer from now on, once a worker has opened it. What it says: the number of the version.

    Args:
        id: of the module.
        program: pickled.
        around: what holds where it runs, packed.
        inputs: names of those that it needs.
        note: what is said about it.
        token: names this order.
    """

    VERSION: ClassVar[int] = 1

    id: str
    program: bytes
    around: bytes
    inputs: list[str]
    note: str
    token: str


@message(342)
@dataclass(frozen=True, slots=True)
class RollBack:
    """Let an earlier version answer from now on. What it says: its number.

    Args:
        id: of the module.
        number: of the version; None: the one that the current one has followed.
        token: names this order.
    """

    VERSION: ClassVar[int] = 1

    id: str
    number: int | None
    token: str


@message(343)
@dataclass(frozen=True, slots=True)
class Remove:
    """Serve a module no more; calls that are under way end. What it says: whether there was one."""

    VERSION: ClassVar[int] = 1

    id: str


@message(344)
@dataclass(frozen=True, slots=True)
class Look:
    """What is known? What it says: a dict, or a list of them.

    Args:
        what: "list", "versions", "metrics" or "around" (of the current version: packed).
        id: of the module; "list" has none.
    """

    VERSION: ClassVar[int] = 1

    what: str
    id: str = ""
