import os
import pickle
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from supervisors.wire import clock as clocks
from supervisors.wire import frames as frames_module
from supervisors.wire import replay
from supervisors.wire.frames import (
    HEADER_SIZE,
    Forged,
    FrameCodec,
    FrameReader,
    FrameTooLarge,
    Opener,
    Replayed,
    Stale,
    counter_of,
    identity_of,
)

KEY = bytes(range(32))
HERE = "127.0.0.1:4000"
SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND


class Clock:
    def __init__(self, now=T0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def codec(clock):
    return FrameCodec(KEY, clock)


def cut(data, places):
    places = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


@given(st.lists(st.binary(max_size=200), max_size=6), st.lists(st.integers(min_value=0), max_size=30))
def test_any_split_of_the_stream_gives_the_same_payloads(payloads, places):
    codec = FrameCodec(KEY)
    reader = FrameReader(Opener(codec, HERE))
    stream = b"".join(codec.seal(payload, HERE) for payload in payloads)
    got = [payload for piece in cut(stream, places) for payload in reader.feed(piece)]
    assert got == payloads
    assert reader.idle


@given(st.binary(max_size=100), st.integers(min_value=0), st.booleans())
def test_any_flipped_bit_is_refused(payload, place, byte_by_byte):
    codec = FrameCodec(KEY)
    frame = bytearray(codec.seal(payload, HERE))
    place %= len(frame) * 8
    frame[place // 8] ^= 1 << place % 8
    reader = FrameReader(Opener(codec, HERE))
    pieces = [frame[i : i + 1] for i in range(len(frame))] if byte_by_byte else [frame]
    with pytest.raises(Forged):
        feed_all(reader, pieces)


def feed_all(reader, pieces):
    for piece in pieces:
        assert reader.feed(piece) == []


@given(st.binary(min_size=1, max_size=200))
def test_garbage_never_authenticates_and_is_not_kept(data):
    reader = FrameReader(Opener(FrameCodec(KEY), HERE))
    try:
        for i in range(len(data)):
            reader.feed(data[i : i + 1])
    except Forged:
        assert not reader._buffer
    assert len(reader._buffer) < HEADER_SIZE
    assert not reader.authenticated


@given(st.lists(st.integers(min_value=1, max_value=300), min_size=1, max_size=300))
@settings(max_examples=examples(50))
def test_no_counter_is_taken_twice_however_small_the_window(counters):
    sender = replay.Sender(None)
    taken = set()
    window, every = replay._WINDOW, replay._TRIM_EVERY
    replay._WINDOW, replay._TRIM_EVERY = 16, 4
    try:
        for counter in counters:
            if counter > sender.floor and not sender.has(counter):
                assert counter not in taken
                taken.add(counter)
                sender.add(counter, 0, 0)
                assert len(sender.seen) <= 16
    finally:
        replay._WINDOW, replay._TRIM_EVERY = window, every


def test_needed_never_reaches_beyond_the_frame(codec):
    stream = codec.seal(b"one", HERE) + codec.seal(b"", HERE)
    reader = FrameReader(Opener(codec, HERE))
    got = []
    while stream:
        assert 0 < reader.needed <= len(stream)
        piece, stream = stream[: reader.needed], stream[reader.needed :]
        got += reader.feed(piece)
    assert got == [b"one", b""]


def test_a_frame_is_bound_to_its_receiver_and_key(codec, clock):
    frame = codec.seal(b"x", HERE)
    for other in (
        Opener(codec, "127.0.0.1:4001"),
        Opener(codec),
        Opener(FrameCodec(bytes(32), clock), HERE),
    ):
        with pytest.raises(Forged, match="our key"):
            FrameReader(other).feed(frame)


def test_a_process_that_listens_nowhere_is_answered_by_its_identity(codec, clock):
    client = FrameCodec(KEY, clock)
    (question,) = FrameReader(Opener(codec, HERE)).frames(client.seal(b"?", HERE))
    assert identity_of(question.sender) == client.identity
    (answer,) = FrameReader(Opener(client)).frames(codec.seal(b"!", client.identity))
    assert answer.personal
    assert answer.payload == b"!"


def test_a_frame_is_taken_once_on_whatever_connection(codec):
    opener = Opener(codec, HERE)
    frame = codec.seal(b"x", HERE)
    assert FrameReader(opener).feed(frame) == [b"x"]
    reader = FrameReader(opener)
    (again,) = reader.frames(frame)
    assert again.replayed
    assert again.payload == b""
    assert again.counter == counter_of(frame)
    assert reader.feed(codec.seal(b"y", HERE)) == [b"y"]
    with pytest.raises(Replayed):
        FrameReader(opener).feed(frame)


def test_the_body_of_a_replayed_frame_is_not_kept(codec):
    opener = Opener(codec, HERE)
    frame = codec.seal(bytes(100_000), HERE)
    FrameReader(opener).feed(frame)
    reader = FrameReader(opener)
    reader.frames(frame[:-1])
    assert not reader._buffer


def test_a_frame_that_comes_on_two_connections_at_once_is_taken_once(codec):
    opener = Opener(codec, HERE)
    frame = codec.seal(b"x", HERE)
    readers = FrameReader(opener), FrameReader(opener)
    for reader in readers:
        assert reader.feed(frame[:-1]) == []
    assert [reader.frames(frame[-1:])[0].replayed for reader in readers] == [False, True]


def test_frames_out_of_order_are_taken(codec):
    reader = FrameReader(Opener(codec, HERE))
    stream = [codec.seal(bytes([i]), HERE) for i in range(10)]
    assert [reader.feed(frame)[0][0] for frame in reversed(stream)] == list(reversed(range(10)))


ELSEWHERE = "10.0.0.1:4000"


def test_between_nodes_a_quarter_of_an_hour_is_tolerated_either_way(codec, clock):
    frame = codec.seal(b"x", ELSEWHERE)
    for seconds in (899, -899):
        clock.now += seconds * SECOND
        assert FrameReader(Opener(codec, ELSEWHERE)).feed(frame) == [b"x"]
        clock.now -= seconds * SECOND
    for seconds, why in ((901, "born"), (-901, "901 s in the future")):
        clock.now += seconds * SECOND
        with pytest.raises(Stale, match=why):
            FrameReader(Opener(codec, ELSEWHERE)).feed(frame)
        clock.now -= seconds * SECOND
    opener = Opener(codec, ELSEWHERE)
    clock.now += 1231 * SECOND
    with pytest.raises(Stale, match="1231 s ago"):
        FrameReader(opener).feed(frame)


def test_a_frame_much_older_than_the_newest_of_its_sender_is_refused(codec, clock):
    opener = Opener(codec, HERE)
    repeated, late = codec.seal(b"repeated", HERE), codec.seal(b"late", HERE)
    clock.now += 299 * SECOND
    assert FrameReader(opener).feed(codec.seal(b"new", HERE)) == [b"new"]
    assert FrameReader(opener).feed(repeated) == [b"repeated"]
    clock.now += 32 * SECOND
    assert FrameReader(opener).feed(codec.seal(b"newer", HERE)) == [b"newer"]
    with pytest.raises(Stale, match="remembered"):
        FrameReader(opener).feed(late)


def test_between_nodes_a_frame_is_remembered_as_long_as_it_would_be_taken(codec, clock):
    opener = Opener(codec, ELSEWHERE)
    frame = codec.seal(b"x", ELSEWHERE)
    assert FrameReader(opener).feed(frame) == [b"x"]
    for _ in range(13):
        clock.now += 100 * SECOND
        FrameReader(opener).feed(FrameCodec(KEY, clock).seal(b"another", ELSEWHERE))
        with pytest.raises((Replayed, Stale)):
            FrameReader(opener).feed(frame)
    assert codec.sender not in opener._senders


def test_memory_of_senders_is_bounded_and_who_is_forgotten_is_refused(monkeypatch, codec, clock):
    monkeypatch.setattr(frames_module, "_MAX_SENDERS", 16)
    opener = Opener(codec, ELSEWHERE)
    taken = []
    for _ in range(100):
        clock.now += 1
        taken.append(FrameCodec(KEY, clock).seal(b"x", ELSEWHERE))
        assert FrameReader(opener).feed(taken[-1]) == [b"x"]
        assert len(opener._senders) <= 16
    for frame in taken:
        with pytest.raises((Replayed, Stale)):
            FrameReader(opener).feed(frame)


def test_after_a_greeting_only_what_is_sealed_for_this_process_is_taken(codec, clock):
    door = FrameCodec(KEY, clock)
    reader = FrameReader(Opener(door, ELSEWHERE), greeted=True)
    assert reader.feed(codec.seal(b"hello", ELSEWHERE) + codec.seal(b"call", door.identity)) == [b"hello", b"call"]
    assert reader.peer == codec.identity
    recorded = codec.seal(b"hello again", ELSEWHERE) + codec.seal(b"call again", door.identity)
    successor = FrameReader(Opener(FrameCodec(KEY, clock), ELSEWHERE), greeted=True)
    with pytest.raises(Forged) as caught:
        successor.feed(recorded)
    assert [frame.payload for frame in caught.value.opened] == [b"hello again"]
    with pytest.raises(Forged):
        reader.feed(codec.seal(b"x", ELSEWHERE))


@pytest.mark.parametrize("step", [-2.0, -30.0, -86_400.0, 86_400.0])
@pytest.mark.parametrize("born", ["before", "after"])
def test_a_step_of_the_wall_clock_is_nothing_to_those_who_count_by_one_clock(monkeypatch, step, born):
    """Senders and receivers made before and after it: processes, doors, children, programs that start anew."""
    offset = clocks.Clock().offset
    early = FrameCodec(KEY, clocks.Clock(offset))
    at_early = Opener(early, HERE)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + int(step * SECOND))
    late = FrameCodec(KEY, clocks.Clock(offset))
    at_late = Opener(late, HERE)
    sender = early if born == "before" else late
    for opener in (at_early, at_late):
        assert FrameReader(opener).feed(sender.seal(b"x", HERE)) == [b"x"]
    # A node of another host that is started after the step counts by its own clock.
    elsewhere = FrameCodec(KEY, clocks.Clock())
    reader = FrameReader(Opener(elsewhere, ELSEWHERE))
    if abs(step) < 900:
        assert reader.feed(sender.seal(b"x", ELSEWHERE)) == [b"x"]
    else:
        with pytest.raises(Stale):
            reader.feed(sender.seal(b"x", ELSEWHERE))


def test_a_clock_is_the_time_and_goes_on():
    clock = clocks.Clock()
    before = time.time()
    assert before - 0.001 <= clock.seconds() <= time.time() + 0.001
    assert clocks.Clock(clock.offset)() <= clock()


def test_only_authentic_frames_make_state_and_only_stale_state_is_forgotten(codec, clock):
    opener = Opener(codec, HERE)
    for _ in range(100):
        with pytest.raises(Forged):
            FrameReader(opener).feed(b"DSX1" + os.urandom(100))
    assert not opener._senders
    frame = codec.seal(b"x", HERE)
    FrameReader(opener).feed(frame)
    clock.now += 1229 * SECOND
    FrameReader(opener).feed(FrameCodec(KEY, clock).seal(b"y", HERE))
    assert len(opener._senders) == 2
    assert not opener._senders[codec.sender].seen  # it was silent: its newest counter is enough
    clock.now += 2 * SECOND
    FrameReader(opener).feed(FrameCodec(KEY, clock).seal(b"z", HERE))
    assert len(opener._senders) == 2
    # Not even a clock that is set back makes the forgotten one fresh.
    clock.now -= 100 * SECOND
    with pytest.raises(Stale, match="remembered"):
        FrameReader(opener).feed(frame)


def test_memory_per_sender_is_bounded(monkeypatch, codec):
    monkeypatch.setattr(replay, "_WINDOW", 64)
    monkeypatch.setattr(replay, "_TRIM_EVERY", 16)
    opener = Opener(codec, HERE)
    stream = [codec.seal(b"", HERE) for _ in range(1000)]
    for frame in stream:
        FrameReader(opener).feed(frame)
        assert len(opener._senders[codec.sender].seen) <= 64
    with pytest.raises(Stale, match="remembered"):
        FrameReader(opener).feed(stream[0])


def test_the_limit_holds_at_both_ends(clock):
    small, large = FrameCodec(KEY, clock, limit=100), FrameCodec(KEY, clock)
    with pytest.raises(FrameTooLarge, match="101 bytes exceeds the frame limit of 100"):
        small.seal(bytes(101), HERE)
    assert FrameReader(Opener(small, HERE)).feed(small.seal(bytes(100), HERE)) == [bytes(100)]
    with pytest.raises(FrameTooLarge):
        FrameReader(Opener(small, HERE)).feed(large.seal(bytes(101), HERE)[:HEADER_SIZE])


def test_counters_rise_even_if_the_clock_does_not(codec, clock):
    first = codec.seal(b"", HERE)
    clock.now -= SECOND
    assert counter_of(codec.seal(b"", HERE)) == counter_of(first) + 1


def test_good_frames_before_a_bad_one_are_not_lost(codec):
    with pytest.raises(Forged) as caught:
        FrameReader(Opener(codec, HERE)).feed(codec.seal(b"good", HERE) + bytes(HEADER_SIZE))
    assert [frame.payload for frame in caught.value.opened] == [b"good"]


def test_a_forked_child_is_another_sender(codec):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, codec.sender + codec.seal(b"x", HERE)[4:20])
        os._exit(0)
    os.waitpid(pid, 0)
    data = os.read(read, 100)
    os.close(read)
    os.close(write)
    assert data[:16] == data[16:]
    assert data[:16] != codec.sender


def test_the_key_does_not_travel(codec):
    with pytest.raises(TypeError):
        pickle.dumps(codec)
    assert KEY.hex() not in repr(codec)
    with pytest.raises(ValueError, match="32 bytes, got 3"):
        FrameCodec(b"abc")


def test_what_the_package_promises_is_there():
    assert all(hasattr(frames_module, name) for name in frames_module.__all__)
