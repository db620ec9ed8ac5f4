"""The reader of server-sent events: the standard's own examples, the misuse of servers, any cutting of the bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.lm.wire.sse import MAX_EVENT, Event, EventReader, EventTooLarge


def read(*pieces: bytes, most: int = MAX_EVENT) -> list[Event]:
    reader = EventReader(most)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [*events, *reader.end()]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in places})
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_in_any_of_the_three_ways(end):
    stream = end.join([b": a comment", b"event: add", b"data: 1", b"data: 2", b"", b"data", b"", b"data:", b"data:  x"])
    assert read(stream + end + end) == [Event(b"1\n2", "add"), Event(b""), Event(b"\n x")]


def test_two_events_may_come_in_one_piece_and_one_in_many():
    assert read(b"data: a\n\ndata: b\n\n") == [Event(b"a"), Event(b"b")]
    assert read(*(bytes([byte]) for byte in b"data: a\r\n\r\nevent:x\rdata:b\r\r")) == [Event(b"a"), Event(b"b", "x")]


def test_an_event_that_ends_in_cr_is_not_held_back_until_more_comes():
    reader = EventReader()
    assert reader.feed(b"data: a\r\r") == [Event(b"a")]
    assert reader.feed(b"\ndata: b\r\n\r") == [Event(b"b")]


def test_a_mark_at_the_start_is_left_out_and_nowhere_else():
    assert read(b"\xef\xbb", b"\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n") == [Event(b"a")]


def test_ids_and_retries_are_kept():
    reader = EventReader()
    reader.feed(b"id: 7\nretry: 1500\ndata: a\n\nid: no\0thing\nretry: 1s\n\n")
    assert (reader.id, reader.retry) == ("7", 1500)


def test_an_event_type_without_data_is_no_event_and_does_not_stay():
    assert read(b"event: ping\n\ndata: a\n\n") == [Event(b"a")]


def test_what_stands_at_the_end_without_an_empty_line_is_an_event():
    assert read(b"data: [DONE]") == [Event(b"[DONE]")]
    assert read(b"data: [DONE]\n") == [Event(b"[DONE]")]
    assert read(b"data: a\n\n") == [Event(b"a")]


@pytest.mark.parametrize("line", [b"data: ", b": ", b"event: ", b""])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(line):
    reader = EventReader(1000)
    assert reader.feed(b"data: before\n\n") == [Event(b"before")]
    with pytest.raises(EventTooLarge, match="more than 1000 bytes"):
        read_without_end(reader, line)


def read_without_end(reader, line):
    reader.feed(line)
    for _ in range(1000):
        reader.feed(b"x" * 64)


def test_an_event_of_many_lines_is_refused_too():
    with pytest.raises(EventTooLarge):
        read(b"data: 0123456789\n" * 100, most=1000)


def test_what_came_before_an_event_that_is_too_large_is_not_lost():
    reader = EventReader(100)
    assert reader.feed(b"data: a\n\ndata: " + b"x" * 200) == [Event(b"a")]
    with pytest.raises(EventTooLarge):
        reader.feed(b"x")
    with pytest.raises(EventTooLarge):
        reader.end()


lines = st.lists(
    st.one_of(
        st.sampled_from([b"", b"", b"data: {}", b"data", b":", b"event: e", b"id: 1", b"retry: 5", b"\xef\xbb\xbf"]),
        st.binary(max_size=12),
    ),
    max_size=12,
)


@given(lines, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 10**6), max_size=12))
def test_any_cutting_of_the_bytes_gives_the_same_events(lines, end, places):
    data = end.join(lines)
    assert read(*cut(data, places)) == read(data)
    assert read(*(bytes([byte]) for byte in data)) == read(data)


@given(lines, st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 10**6), max_size=12))
def test_a_bound_is_met_at_the_same_event_however_the_bytes_are_cut(lines, end, places):
    data = end.join(lines)

    def seen(pieces: list[bytes]) -> tuple[list[Event], bool]:
        reader = EventReader(16)
        events: list[Event] = []
        try:
            for piece in pieces:
                events += reader.feed(piece)
            return [*events, *reader.end()], False
        except EventTooLarge:
            return events, True

    assert seen(cut(data, places)) == seen([data])
