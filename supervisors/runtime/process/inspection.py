"""What can be seen of a server from outside: its state, its status, and its crash report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from supervisors.genserver import GenServer
from supervisors.runtime.process.bonds import Bonds
from supervisors.runtime.process.calls import Calls
from supervisors.runtime.process.mailbox import Mailbox
from supervisors.terms.errors import CallFailed
from supervisors.terms.ports import ENGINE, engine_of
from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Caller, Ref
from supervisors.terms.via import Via
from supervisors.wire.messages import Boot
from supervisors.wire.values import pack

#: Longer texts are cut in a crash report.
MAX_TEXT = 4000


class Inspected(Protocol):
    """What is shown of a process."""

    boot: Boot
    ref: Ref
    name: str | Via | None
    trap_exit: bool
    mailbox: Mailbox
    calls: Calls
    bonds: Bonds


def answer(process: Inspected, server: GenServer, name: str, argument: Any) -> Any:
    """Answer a question about a server itself.

    Raises:
        CallFailed: there is no such question, or it cannot be answered.
    """
    match name:
        case "get_state":
            return sendable(state_of(server))
        case "replace_state":
            return sendable(replace_state(server, argument))
        case "get_status":
            return status_of(process, server)
        case "suspend" | "resume":
            process.mailbox.suspended = name == "suspend"
            return None
    raise CallFailed(
        f"a server does not take {name!r}: expected get_state, replace_state, get_status, suspend or resume"
    )


def state_of(server: GenServer) -> dict[str, Any]:
    """Return a server's attributes, without this library's own."""
    return {name: value for name, value in vars(server).items() if name != ENGINE}


def replace_state(server: GenServer, function: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Put what `function` makes of the state in its place; when it fails the state stays.

    Raises:
        CallFailed: it raised, or did not return a dict of attributes.
    """
    try:
        state = function(state_of(server))
    except Exception as error:
        raise CallFailed(
            f"replace_state: the function raised {type(error).__name__}: {error}; nothing changed"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        got = type(state).__name__
        raise CallFailed(f"replace_state: the function returned {got}, expected a dict of attributes; nothing changed")
    engine = engine_of(server)
    vars(server).clear()
    vars(server).update(state)
    setattr(server, ENGINE, engine)
    return state_of(server)


def sendable(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state in which what cannot be sent (a socket, a lock) is replaced by its repr."""
    return {name: value if _can_be_sent(value) else text(value) for name, value in state.items()}


def _can_be_sent(value: Any) -> bool:
    try:
        pack(value)
    except Exception:
        return False
    return True


def status_of(process: Inspected, server: GenServer) -> dict[str, Any]:
    """Return what `get_status` tells; `state` as the server's own `format_status` shows it."""
    return {
        "name": process.name,
        "id": process.boot.id,
        "ref": process.ref,
        "parent": process.boot.parent,
        "class": f"{type(server).__module__}.{type(server).__qualname__}",
        "status": "suspended" if process.mailbox.suspended else "running",
        "mailbox": len(process.mailbox),
        "callers": process.calls.waiting(),
        "links": sorted(process.bonds.links, key=str),
        "trap_exit": process.trap_exit,
        "state": sendable(formatted(server, {"state": state_of(server)})["state"]),
    }


def formatted(server: GenServer, status: dict[str, Any]) -> dict[str, Any]:
    """Return a status as the server's redaction hook leaves it; a hook that fails shows nothing but that."""
    try:
        shown = server.format_status(dict(status))
        if not isinstance(shown, dict) or not isinstance(shown.get("state", {}), dict):
            raise TypeError("expected a dict with a dict as state")
    except Exception as error:
        hidden = f"format_status failed: {type(error).__name__}: {error}"
        return {key: {"hidden": hidden} if key == "state" else hidden for key in status}
    return {**dict.fromkeys(status), "state": {}, **shown}


def crash_report(server: GenServer, message: Any, caller: Caller | None, reason: ExitReason) -> dict[str, Any]:
    """Return the fields of a crash report: last message, state, reason and client, as text."""
    shown = formatted(server, {"state": state_of(server), "message": message, "reason": str(reason)})
    return {
        "last_message": text(shown["message"]),
        "state": {name: text(value) for name, value in (shown["state"] or {}).items()},
        "reason": text(shown["reason"]),
        "client": None if caller is None else str(caller.ref),
    }


def text(value: Any) -> str:
    """Return the repr of anything, and not an endless one."""
    try:
        shown = value if isinstance(value, str) else repr(value)
    except Exception:
        shown = f"<{type(value).__name__} that cannot be shown>"
    return shown if len(shown) <= MAX_TEXT else f"{shown[: MAX_TEXT // 2]} ... {shown[-MAX_TEXT // 2 :]}"
