"""What comes out of bytes is what was put in: identity, cycles, subclasses, and errors of any class."""

import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import msgpack
import pytest
from value_kinds import Both, Colour, Picky, Whole, cycle, nested, parents

from supervisors import errors
from supervisors.client.door_client import KeyRefused
from supervisors.terms.errors import from_record
from supervisors.terms.reason import ExitReason
from supervisors.terms.showing import shown, sketched
from supervisors.wire import values


def sent(value):
    return values.open_value(values.pack_value(value, "value"), "value")


class Refused(errors.NotAllowed):
    """An error of a user's, which wants other arguments than the library's."""

    def __init__(self, who, *, why):
        super().__init__(f"{who}: {why}", reason=ExitReason("shutdown", 3))
        self.why = why


def test_identity_and_cycles_are_kept():
    row = [1]
    twice = sent([row, {"again": row}])
    assert twice[0] is twice[1]["again"]
    endless = sent(cycle())
    assert endless[1]["again"] is endless
    root = sent(parents())
    assert root["children"][0]["parent"] is root


def test_a_large_block_travels_once():
    block = bytes(1_000_000)
    packed = values.pack_value([block] * 20, "value")
    assert len(packed) < 1_100_000
    assert values.open_value(packed, "value") == [block] * 20
    assert len(values.pack_value({str(number): block for number in range(20)}, "value")) < 1_100_000


def test_a_block_in_many_flat_dicts_is_never_blown_up():
    block = "x" * 1_000_000
    rows = [{"question": f"question {number}", "document": block} for number in range(100)]
    tracemalloc.start()
    try:
        packed = values.pack_value(rows, "value")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(packed) < 1_100_000
    assert peak < 20_000_000
    assert values.open_value(packed, "value") == rows


def test_a_packer_that_a_value_interrupts_is_not_used_again():
    with pytest.raises(errors.CallFailed, match="no plain data"):
        values.pack_message([1, 2, object()], "request")
    assert values.unpack(values.pack([1, 2])) == [1, 2]


def test_threads_and_values_in_values_share_no_packer():
    value = [(number, (str(number), {"in": (number, b"x" * number)})) for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: sent(value) == value, range(80)))


VALUES = {
    "enum": Colour.RED,
    "subclass": Whole(5),
    "bytearray": bytearray(b"abc"),
    "bytearray in a flat dict": {"a": bytearray(b"abc")},
    "bytearrays among numbers": [1.0] * 40 + [bytearray(b"abc")] + [2.0],
    "large": 10**6000,
    "very negative": -(10**6000),
    "beyond 64 bits": -(1 << 64),
    "nested": (1, [()]),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_as_what_it_was(name):
    value = VALUES[name]
    twin = sent(value)
    assert twin == value
    assert shown(twin) == shown(value)  # the types within too
    assert type(twin) is type(value)
    assert sent({"in": (value,)}) == {"in": (value,)}


def test_between_processes_of_a_node_subclasses_are_plain():
    (text, number) = values.unpack(values.pack([Colour.RED, Whole(5)]))
    assert (type(text), type(number)) == (str, int)
    with pytest.raises(errors.CallFailed, match="no plain data"):
        values.pack_message([object()], "request")


@pytest.mark.parametrize("kind", [tuple, list, frozenset])
def test_deep_values_are_sent_or_refused(kind):
    assert sent(nested(kind, 200)) == nested(kind, 200)
    with pytest.raises(errors.CallFailed, match="deep"):
        sent(nested(kind, 100_000))


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("code", [1, 2, 3, 5, 6])
def test_deep_bytes_of_a_stranger_are_refused_in_a_small_stack(code, trusted):
    data = msgpack.packb([1])
    for _ in range(3000):
        data = msgpack.packb(msgpack.ExtType(code, data))
    raised = []

    def open_it():
        for each in (data, b"\x91" * 100_000 + b"\xc0"):
            try:
                values.unpack(each, trusted=trusted)
            except ValueError as error:
                raised.append(error)

    size = threading.stack_size(2 * 1024 * 1024)
    try:
        thread = threading.Thread(target=open_it)
        thread.start()
    finally:
        threading.stack_size(size)
    thread.join()
    assert len(raised) == 2


@pytest.mark.parametrize(
    "error", [KeyRefused("no", id="a"), Refused("door", why="late"), errors.StartError("x", id="y")]
)
def test_an_error_survives_records_and_pickles(error):
    for twin in (pickle.loads(pickle.dumps(error)), values.unpack(values.pack(error)), sent([error])[0]):
        assert type(twin) is type(error)
        assert (str(twin), twin.id, twin.reason) == (str(error), error.id, error.reason)


def test_an_error_of_an_unknown_class_arrives_as_the_nearest_known():
    record = (("elsewhere.Odd", "NodeDown", "SupervisorsError"), "gone", None, None, None)
    assert type(from_record(record)) is errors.NodeDown


def test_an_exception_arrives_as_itself():
    twin = sent(Picky("fire", "sea"))
    assert (type(twin), str(twin), twin.where) == (Picky, "fire at sea", "sea")


@pytest.mark.parametrize("how", ["open", "leave"])
def test_what_cannot_be_opened_is_an_error_in_words(how):
    packed = values.pack_value(Both(how), "reply")
    with pytest.raises(errors.CallFailed, match="the reply cannot be opened here"):
        values.open_value(packed, "reply")


def test_reasons_are_bounded():
    for detail in (cycle(), nested(tuple, 100_000), bytes(70_000_000), [b"x" * 1000] * 5000):
        reason = ExitReason.of(("shutdown", detail))
        assert len(values.pack(reason)) < 50_000
    assert ExitReason.of(("shutdown", {"a": (1, [2.5])})).detail == {"a": (1, [2.5])}


def test_what_is_shown_is_cut_first():
    assert len(shown({"prompt": "x" * 80_000_000, "rows": list(range(1_000_000))})) <= 4100
    assert shown(Both("repr")).startswith("<Both instance at")
    assert sketched(("ask", "tell me all about " * 10)) == "('ask', <text of 180 characters>)"
