"""Unpickle Thespian's own messages, and nothing else.

Frames are authenticated before they come here, so this is a second wall: a mistake in the first one, or a
message of a member that was taken over, must not become code by being unpickled. Every class is named;
there are no patterns, because a pattern over a module also admits the functions it imported.

Left out on purpose: everything that carries source code (`ValidateSource`, `SourceHashTransferReply` and
their kin), status reports (they quote queued messages), `SetLogging`, `LoggerFileDup` (it names a file to
write to), and the addresses of routed systems. Application messages are `bytes`, which need no class.
"""

import io
import pickle
from typing import Any

__all__ = ["ALLOWED", "loads"]

ALLOWED: dict[str, frozenset[str]] = {
    "thespian.actors": frozenset(
        {
            "ActorAddress",
            "ActorExitRequest",
            "ActorSystemConventionUpdate",
            "ChildActorExited",
            "DeadEnvelope",
            "PoisonMessage",
            "WakeupMessage",
        }
    ),
    "thespian.system.messages.admin": frozenset(
        {
            "CapabilityUpdate",
            "HandleDeadLetters",
            "NewCapabilities",
            "PendingActor",
            "PendingActorResponse",
            "QueryAck",
            "QueryExists",
            "SystemShutdown",
            "SystemShutdownCompleted",
        }
    ),
    "thespian.system.messages.convention": frozenset(
        {
            "ConventionDeRegister",
            "ConventionInvite",
            "ConventionRegister",
            "NotifyOnSystemRegistration",
        }
    ),
    "thespian.system.messages.multiproc": frozenset({"EndpointConnected"}),
    "thespian.system.transport.IPBase": frozenset({"TCPv4ActorAddress"}),
    "datetime": frozenset({"datetime", "timedelta"}),
    # An address holds its family and kind; Python pickles them by either form.
    "socket": frozenset({"AF_INET", "SOCK_STREAM", "AddressFamily", "SocketKind"}),
    "builtins": frozenset({"bytearray", "frozenset", "set"}),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in ALLOWED.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not a class of Thespian's messages")


def loads(data: bytes) -> Any:
    """Return the object pickled in `data`.

    Raises:
        pickle.UnpicklingError: it needs a class that is not in `ALLOWED`.
        Exception: whatever a damaged pickle makes `pickle` raise.
    """
    return _Unpickler(io.BytesIO(data)).load()
