"""What the node's own servers do with requests that are none: refuse them, and go on."""

import json
import socket

import pytest
from node_helpers import Counter, until

from supervisors import ChildSpec, GenServer, Ref, errors
from supervisors.terms.ports import engine_of
from supervisors.wire import door_protocol as protocol
from supervisors.wire import values as wire
from supervisors.wire.frames import FrameCodec, FrameReader, Opener
from supervisors.wire.keys import load_or_create_key

JUNK = [
    *("nonsense", None, 7, [], {}),
    *(
        ("whereis",),
        ("whereis", 7),
        ("register", "a", None),
        ("register", "a", Ref(1, 2, 3, 4, 5)),
        ("unregister", 1, 2),
    ),
]
#: Arguments of administration calls that no call takes.
ODD = [7, [], {}, b"x", (1, 2, 3), Ref(1, 2, 3, 4, 5)]
ABOUT_ONE = ("which_child", "get_childspec", "start_child", "terminate_child", "restart_child", "delete_child")


def root_of(node):
    return Ref(**json.loads((node.data_dir / "node.json").read_text())["root"])


def system_servers(node):
    return {row.id: row.ref for row in node.which_children(root_of(node)) if row.id in ("registry", "door")}


def log_of(node):
    return (node.data_dir / "logs" / "node.jsonl").read_text()


@pytest.mark.parametrize("server", ["registry", "door"])
def test_a_request_that_is_none_is_refused_and_a_message_that_is_none_dropped(node, server):
    before = system_servers(node)
    target = before[server]
    for junk in JUNK:
        with pytest.raises(errors.CallFailed):
            node.call(target, junk)
        node.cast(target, junk)
        node.cast(target, ("a cast that says", server))
        node.send(target, ("an info that says", server))
    until(lambda: f"('an info that says', '{server}')" in log_of(node))
    assert f"('a cast that says', '{server}')" in log_of(node)
    assert system_servers(node) == before


def test_a_supervisor_refuses_what_is_no_administration_call(node, supervise):
    top = supervise([ChildSpec("counter", Counter)])
    odd = [(name, argument) for name in ABOUT_ONE for argument in ODD]
    for junk in [*JUNK, ("which_children", 1, 2), (["which_children"], None), ("no such operation", None), *odd]:
        with pytest.raises(errors.SupervisorsError):
            node.call(top, junk)
        node.cast(top, junk)
        node.send(top, junk)
    assert [row.id for row in node.which_children(top)] == ["counter"]


class Babbler(GenServer):
    """Sends bytes that are no message."""

    def handle_cast(self, message):
        target, words = message
        engine_of(self)._outlet.post(target.host, target.port, words)


@pytest.mark.parametrize("words", [b"", b"\xc1", b"\xff" * 9, wire.pack(7), wire.pack([99, "x"]), wire.pack([2])])
def test_a_parcel_that_cannot_be_opened_is_dropped_by_servers_and_supervisors(node, supervise, words):
    top = supervise([ChildSpec("babbler", Babbler, name="babbler"), ChildSpec("counter", Counter, name="counter")])
    before = node.which_children(top)
    for target in (top, node.whereis("counter"), root_of(node), *system_servers(node).values()):
        dropped = log_of(node).count("a parcel that cannot be opened")
        node.cast("babbler", (target, words))
        until(lambda: log_of(node).count("a parcel that cannot be opened") > dropped)  # noqa: B023 - waited for here
    assert node.which_children(top) == before
    assert node.whereis("counter") is not None


@pytest.mark.parametrize(
    "request_",
    [
        ["no such operation"],
        [protocol.CALL],
        [protocol.CALL, 7, b"", 5.0],
        [protocol.CALL, [], b"", 5.0],
        [protocol.WHEREIS, 7],
        [protocol.MONITOR],
        [protocol.MONITOR, None],
        [protocol.DEMONITOR, []],
        [protocol.CALL, {}, b"", None],
        [protocol.CAST, None, b""],
        [protocol.CAST, "x", 7],
        [protocol.CLAIM, "x", b"", True],
        [protocol.EXIT, 7, None],
        [protocol.SUPERVISOR, "nobody"],
        [protocol.REPORTS, "many"],
        [protocol.SYSTEM, "nobody", 1, 2, 3],
    ],
)
def test_the_door_refuses_a_request_that_it_cannot_carry_out_and_the_connection_goes_on(node, request_):
    before = system_servers(node)
    with pytest.raises(errors.SupervisorsError):
        node._client.request(*request_, wait=5.0)
    assert not node._client.closed
    assert system_servers(node) == before


class Line:
    """A client that has the key and says what it likes."""

    def __init__(self, node):
        host, port = node.info["address"].split(":")
        self._dest = node.info["address"]
        self._codec = FrameCodec(load_or_create_key(node.data_dir))
        self._reader = FrameReader(Opener(self._codec, "somebody"))
        self.socket = socket.create_connection((host, int(port)), 5.0)
        self.socket.settimeout(5.0)

    def say(self, payload):
        self.socket.sendall(self._codec.seal(payload, self._reader.peer or self._dest))

    def hear(self):
        while True:
            data = self.socket.recv(65536)
            if not data:
                return None
            if found := self._reader.feed(data):
                return wire.unpack(found[0])

    def is_cut(self):
        try:
            return self.hear() is None
        except ConnectionResetError:  # it did not wait for us to say goodbye
            return True


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", b"\xff" * 9, wire.pack(7), wire.pack([]), wire.pack(["one", "call"]), wire.pack([1, 2, 3])],
)
def test_the_door_hangs_up_on_a_client_whose_words_are_no_request_and_serves_the_others(node, payload):
    before = system_servers(node)
    line = Line(node)
    line.say(wire.pack([1, protocol.HELLO, wire.VERSION, "somebody"]))
    assert line.hear()[:2] == [1, True]
    line.say(payload)
    assert line.is_cut()
    assert "is no request" in log_of(node)
    assert system_servers(node) == before


@pytest.mark.parametrize("arguments", [[], [wire.VERSION], [wire.VERSION, 7], [wire.VERSION, "a", "b"]])
def test_a_greeting_that_is_none_is_the_end_of_its_connection(node, arguments):
    line = Line(node)
    line.say(wire.pack([1, protocol.HELLO, *arguments]))
    assert line.is_cut()
    assert node.whereis("nobody") is None


def test_a_client_of_another_version_is_told_so(node):
    line = Line(node)
    line.say(wire.pack([1, protocol.HELLO, "of tomorrow", "somebody"]))
    number, ok, error = line.hear()
    assert (number, ok) == (1, False)
    assert "of tomorrow" in str(error)


def test_cancelling_what_is_not_there_is_nothing(node):
    line = Line(node)
    line.say(wire.pack([1, protocol.HELLO, wire.VERSION, "somebody"]))
    assert line.hear()[1]
    for numbers in ([], [99], [None], [[]]):
        line.say(wire.pack([protocol.UNASKED, protocol.CANCEL, *numbers]))
    line.say(wire.pack([2, protocol.BEAT]))
    assert line.hear() == [2, True, None]
