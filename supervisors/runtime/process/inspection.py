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
from supervisors.terms.showing import LONGEST_TEXT, cut, shown, shown_error, sketched
from supervisors.terms.via import Via
from supervisors.wire.messages import Boot
from supervisors.wire.values import pack_value

#: What is shown in the place of what `format_status` should have returned.
HOOK_FAILED = "format_status failed"


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
        case "ping":
            return None
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
        f"a server does not take {name!r}: expected ping, get_state, replace_state, get_status, suspend or resume"
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
        raise CallFailed(f"replace_state: the function raised {shown_error(error)}; nothing changed") from error
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
    return {name: value if _can_be_sent(value) else shown(value) for name, value in state.items()}


def _can_be_sent(value: Any) -> bool:
    try:
        pack_value(value, "state")
    except CallFailed:
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
        hooked = server.format_status(dict(status))
        if not isinstance(hooked, dict) or not isinstance(hooked.get("state", {}), dict):
            raise TypeError("expected a dict with a dict as state")
    except Exception as error:
        hidden = f"{HOOK_FAILED}: {shown_error(error)}"
        return {key: {"hidden": hidden} if key == "state" else hidden for key in status}
    return {**dict.fromkeys(status), "state": {}, **hooked}


def crash_report(
    server: GenServer, message: Any, caller: Caller | None, reason: ExitReason, whole: bool = False
) -> dict[str, Any]:
    """Return the fields of a crash report: last message, state, reason and client, as text.

    Args:
        server: what has crashed.
        message: what it was handling.
        caller: who waits for the answer.
        reason: why.
        whole: show long texts too, which are a user's data (prompts, examples); else how long they are.
    """
    status = formatted(server, {"state": state_of(server), "message": message, "reason": str(reason)})
    return {
        "last_message": _line(status["message"], whole),
        "state": {str(name): _line(value, whole) for name, value in status["state"].items()},
        "reason": cut(str(status["reason"])),
        "client": None if caller is None else str(caller.ref),
    }


def _line(value: Any, whole: bool) -> str:
    if type(value) is str and (whole or len(value) <= LONGEST_TEXT or value.startswith(HOOK_FAILED)):
        return cut(value)
    return shown(value) if whole else sketched(value)
