"""What the calls of this library raise, drawn as a tree.

::

    SupervisorsError
     ├─ SpecError (also a ValueError)   an argument or a spec is not legal: field, value and what is legal
     ├─ StartError                      a child did not start; `.id`, `.reason`
     ├─ CallTimeout                     no reply in time; the server goes on, its late reply is dropped
     ├─ NoProcess                       no process has this name or reference
     ├─ ServerExited                    the server ended during the call; `.reason`
     ├─ CallFailed                      the server refused the call, or its reply could not be sent
     ├─ NodeDown                        the node cannot be reached
     ├─ AlreadyStarted                  a running process has this id or name already; `.ref`
     ├─ AlreadyPresent                  a child with this id is known but does not run: restart_child, delete_child
     ├─ ChildRunning                    the child is running
     ├─ ChildRestarting                 the child is being restarted
     ├─ ChildNotFound                   no child with this id
     ├─ MaxChildren                     the supervisor has as many children as it may
     ├─ NotAllowed                      a call that this supervisor's strategy, or this registry, refuses
     ├─ AlreadyRegistered               the key of a unique registry has an owner; `.ref`
     ├─ NotJoined                       the process is not a member of this group
     ├─ LeaseHeld                       another holder has the lease; `.id` is the holder
     ├─ LeaseLost                       the lease is not this holder's any more: it has ended, or has a later epoch
     ├─ Fenced                          what was to be written is of an epoch that is over
     ├─ VersionConflict                 the value has been changed meanwhile: read it, and try again
     └─ NoMajority                      who decides about leases cannot be reached, or is too few; nothing is known of
                                        what was asked: it may have been done

Every error can be sent, one of a subclass that is defined elsewhere too: `to_record` returns it as plain data, and
`from_record` rebuilds it, as the nearest class that is known where it arrives.
"""

from __future__ import annotations

from typing import Any, Self

from supervisors.terms.reason import ExitReason
from supervisors.terms.ref import Ref
from supervisors.terms.showing import shown, text_of


class SupervisorsError(Exception):
    """Base of every error that this library raises on purpose."""

    # Of an error whose class does not call this __init__.
    message: str = ""
    id: str | None = None
    reason: ExitReason | None = None
    ref: Ref | None = None

    def __init__(
        self,
        message: str,
        *,
        id: str | None = None,  # noqa: A002 - the name of the contract
        reason: ExitReason | None = None,
        ref: Ref | None = None,
    ) -> None:
        """Make the error; `id`, `reason` and `ref` are set where the class says so."""
        super().__init__(message)
        self.message = str(message)
        self.id = id
        self.reason = reason
        self.ref = ref

    def __init_subclass__(cls, **options: Any) -> None:
        """Make the class known to `from_record`."""
        super().__init_subclass__(**options)
        _BY_NAME[_name_of(cls)] = cls

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without calling `__init__`, which a subclass may have changed."""
        return _rebuilt, (type(self), self.args), vars(self)

    def to_record(self) -> tuple[tuple[str, ...], str, str | None, ExitReason | None, Ref | None]:
        """Return the error as plain data: the names of its classes, the nearest first, and what it says."""
        reason = None if self.reason is None else ExitReason.of(self.reason)
        names = tuple(_name_of(cls) for cls in type(self).__mro__ if issubclass(cls, SupervisorsError))
        child = None if self.id is None else str(self.id)
        return names, text_of(self.message or self), child, reason, self.ref if isinstance(self.ref, Ref) else None


def _name_of(cls: type) -> str:
    return cls.__name__ if cls.__module__ == __name__ else f"{cls.__module__}.{cls.__qualname__}"


def _rebuilt(cls: type[SupervisorsError], args: tuple[Any, ...]) -> SupervisorsError:
    error = cls.__new__(cls)
    error.args = args
    return error


#: Every error class, by the name that it has in a record.
_BY_NAME: dict[str, type[SupervisorsError]] = {SupervisorsError.__name__: SupervisorsError}


class SpecError(SupervisorsError, ValueError):
    """What was given is not legal: the message names the field, the value and what is legal."""

    @classmethod
    def of(cls, name: str, value: Any, expected: str) -> Self:
        """Return the error of one value, in the words that all of them have.

        Args:
            name: of the field or argument.
            value: what it was.
            expected: what is legal.
        """
        return cls(f"{name} is invalid: got {shown(value, 200)}, expected {expected}")


class StartError(SupervisorsError):
    """A child did not start: its init raised, timed out, or its process died."""


class CallTimeout(SupervisorsError):
    """No reply came in time."""


class NoProcess(SupervisorsError):
    """There is no process under this name or reference."""


class ServerExited(SupervisorsError):
    """The server ended during the call."""


class CallFailed(SupervisorsError):
    """The server refused the call, or its reply could not be sent."""


class NodeDown(SupervisorsError):
    """The node cannot be reached, or went away."""


class AlreadyStarted(SupervisorsError):
    """The id or the name is taken by a running process."""


class AlreadyPresent(SupervisorsError):
    """The id is known and its child is not running."""


class ChildRunning(SupervisorsError):
    """The child is running; stop it first."""


class ChildRestarting(SupervisorsError):
    """The child is being restarted."""


class ChildNotFound(SupervisorsError):
    """No child has this id."""


class NotAllowed(SupervisorsError):
    """The strategy of this supervisor, or the kind of this registry, does not allow the call."""


class AlreadyRegistered(SupervisorsError):
    """The key is registered already, in a registry with unique keys."""


class MaxChildren(SupervisorsError):
    """The supervisor has as many children as it may."""


class NotJoined(SupervisorsError):
    """The process is not a member of the group."""


class LeaseHeld(SupervisorsError):
    """Another holder has the lease."""


class LeaseLost(SupervisorsError):
    """The lease is not this holder's any more."""


class Fenced(SupervisorsError):
    """A greater epoch has been seen than that of what was to be written or said."""


class VersionConflict(SupervisorsError):
    """The value has another version than the one it was to be changed from."""


class NoMajority(SupervisorsError):
    """The store of leases gives no answer: too few of its voters can be reached, or its database cannot."""


def unknown_request(who: str, request: Any, why: str = "") -> CallFailed:
    """Return the error by which every server of this library answers a request that it does not know.

    Args:
        who: what was asked: "a registry".
        request: what came.
        why: what is wrong with it, where that is known.
    """
    return CallFailed(f"{who} does not know the request {shown(request, 200)}{why and ': '}{why}")


def from_record(record: Any) -> SupervisorsError:
    """Rebuild an error from `to_record`'s plain data."""
    names, message, child, reason, ref = record
    cls = next((_BY_NAME[name] for name in names if name in _BY_NAME), SupervisorsError)
    error = cls.__new__(cls)  # not by its __init__: a subclass's may want other arguments
    SupervisorsError.__init__(error, message, id=child, reason=reason, ref=ref)
    return error
