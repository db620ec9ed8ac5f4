import importlib
import io
import pickle
from datetime import timedelta

import pytest
from thespian import actors
from thespian.system.messages import admin, convention, multiproc
from thespian.system.transport.IPBase import TCPv4ActorAddress

from supervisors.runtime.thespian.allowlist import ALLOWED, loads

ADDRESS = actors.ActorAddress(TCPv4ActorAddress("127.0.0.1", 4000))


@pytest.mark.parametrize(
    "message",
    [
        b"bytes",
        {"a": [1, 2.0, None, (True, "x")], "s": {1}, "f": frozenset({2})},
        actors.ActorExitRequest(),
        actors.ChildActorExited(ADDRESS),
        actors.PoisonMessage(b"x", "why"),
        actors.DeadEnvelope(ADDRESS, b"x"),
        actors.WakeupMessage(timedelta(seconds=1), b"x"),
        admin.PendingActor("module.Class", None, 1, None, None),
        admin.PendingActorResponse(ADDRESS, 1, None, actualAddress=ADDRESS),
        admin.QueryAck("system", 2, False),
        convention.ConventionRegister(ADDRESS, {"a": (1, "x")}),
        multiproc.EndpointConnected(1),
    ],
)
def test_what_thespian_sends_comes_through(message):
    sender, got = loads(pickle.dumps((ADDRESS, message), 5))
    assert sender == ADDRESS
    assert type(got) is type(message)
    assert plain(got) == plain(message)


def plain(value):
    """Return what an object holds; most of these have no equality."""
    return {key: plain(part) for key, part in vars(value).items()} if hasattr(value, "__dict__") else value


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "exec"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("builtins", "object"),
        ("functools", "partial"),
        ("importlib", "import_module"),
        ("thespian.actors", "ValidateSource"),
        ("thespian.actors", "ValidatedSource"),
        ("thespian.actors", "LoadedSource"),
        ("thespian.actors", "ActorSystem"),
        ("thespian.actors", "ActorAddress.__init__"),
        ("thespian.system.messages.convention", "SourceHashTransferRequest"),
        ("thespian.system.messages.convention", "SourceHashTransferReply"),
        ("thespian.system.messages.admin", "RegisterSourceAuthority"),
        ("thespian.system.messages.logcontrol", "SetLogging"),
        ("thespian.system.logdirector", "LoggerFileDup"),
        ("thespian.system.sourceLoader", "loadModuleFromHashSource"),
        ("thespian.system.logdirector", "multiprocessing"),
        ("logging", "LogRecord"),
        ("logging", "os"),
        ("logging", "Logger.manager"),
        ("socket", "socket"),
    ],
)
@pytest.mark.parametrize("protocol", ["text", "stack"])
def test_everything_else_is_refused(module, name, protocol):
    if protocol == "text":
        data = b"c" + module.encode() + b"\n" + name.encode() + b"\n."
    else:
        out = io.BytesIO(b"\x80\x05")
        out.seek(2)
        for text in (module.encode(), name.encode()):
            out.write(b"\x8c" + bytes([len(text)]) + text)
        data = out.getvalue() + b"\x93."
    with pytest.raises(pickle.UnpicklingError, match="not a class of Thespian's messages"):
        loads(data)


def test_the_list_names_classes_that_exist():
    for module, names in ALLOWED.items():
        for name in names:
            found = getattr(importlib.import_module(module), name)
            assert isinstance(found, type) or module == "socket"
