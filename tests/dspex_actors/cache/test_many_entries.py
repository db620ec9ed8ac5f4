"""A million answers: the file is written, looked into and kept to its size."""

import os
import statistics
import time

import pytest

from dspex_actors.cache import store

COUNT = 1_000_000


@pytest.mark.soak
def test_a_million_answers_are_found_within_a_millisecond(tmp_path):
    writer = store.Writer(store.open_store(tmp_path))
    reader = store.Reader(store.open_store(tmp_path))
    value, some = b"x" * 200, []
    for at in range(0, COUNT, 128):
        keys = [os.urandom(16) for _ in range(min(128, COUNT - at))]
        writer.put([store.row(key, value, 0, 1.0) for key in keys])
        some.append(keys[0])
    seconds = []
    for key in some:
        began = time.perf_counter()
        assert reader.find(key).value == value
        seconds.append(time.perf_counter() - began)
    assert statistics.median(seconds) < 0.001
    assert reader.size()[0] == COUNT
    limit = store.used_bytes(writer._db) // 2
    for _ in range(5):  # a part of it each time: others write too
        writer.prune(limit)
    assert store.used_bytes(writer._db) <= limit
    assert reader.size()[0] < 0.6 * COUNT
    assert reader.find(some[0]) is None
    assert reader.find(some[-1]) is not None
    reader.close()
    writer.close()
