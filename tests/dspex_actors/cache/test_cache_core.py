"""The core of the cache against a model that is slow and plain."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.cache import face
from dspex_actors.cache.core import OVERHEAD_BYTES, STRATEGIES, CacheCore, Flights

KEYS = st.sampled_from("abcdefg")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("get"), KEYS, st.booleans()),
        st.tuples(st.just("put"), KEYS, st.integers(0, 3000)),
        st.tuples(st.just("wait"), st.floats(0, 40), st.none()),
        st.tuples(st.just("discard"), KEYS, st.none()),
    ),
    max_size=60,
)


class Model:
    """A list of rows [key, value, size, at, uses, last use]; everything is looked for by looking at all of it."""

    def __init__(self, strategy, limit, ttl):
        self.strategy, self.limit, self.ttl = strategy, limit, ttl
        self.rows, self.tick = {}, 0

    def _used(self, row):
        self.tick += 1
        row["uses"] += 1
        row["last"] = self.tick

    def get(self, key, now):
        row = self.rows.get(key)
        if row is not None and now - row["at"] < self.ttl:
            self._used(row)
            return row["value"]
        self.rows.pop(key, None)
        return None

    def put(self, key, value, size, now):
        size += OVERHEAD_BYTES
        if size > self.limit:
            self.rows.pop(key, None)
            return
        if key in self.rows:
            row = self.rows[key]
            row.update(value=value, size=size, at=now)
            self._used(row)
        else:
            row = {"value": value, "size": size, "at": now, "uses": 0, "last": 0}
        others = {name: held for name, held in self.rows.items() if name != key}
        while sum(held["size"] for held in others.values()) + size > self.limit:
            order = (
                (lambda held: held["last"]) if self.strategy == "lru" else (lambda held: (held["uses"], held["last"]))
            )
            victim = min(others, key=lambda name: order(others[name]))
            del others[victim], self.rows[victim]
        if key not in self.rows:
            self._used(row)
            self.rows[key] = row


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(deadline=None, max_examples=examples(60))
@given(steps=STEPS, limit=st.integers(0, 6000), ttl=st.sampled_from([0.0, 5.0, 30.0, math.inf]))
def test_it_does_what_the_model_does(strategy, steps, limit, ttl):
    core, model, now = CacheCore(strategy, limit, ttl), Model(strategy, limit, ttl), 0.0
    for number, (what, key, more) in enumerate(steps):
        if what == "wait":
            now += key
        elif what == "get":
            found = core.get(key, now)
            assert (found and found.value) == model.get(key, now)
        elif what == "put":
            core.put(key, f"v{number}", more, now)
            model.put(key, f"v{number}", more, now)
        else:
            core.discard(key)
            model.rows.pop(key, None)
        assert set(core._entries) == set(model.rows)
        assert core.counts.bytes == sum(row["size"] for row in model.rows.values()) <= max(limit, 0)
        assert core.counts.entries == len(core) == len(model.rows)


def test_what_is_too_old_is_no_hit_and_takes_no_room_any_more():
    core = CacheCore("lru", 10_000, ttl=10.0)
    core.put("a", "answer", 6, now=0.0)
    assert core.get("a", 9.9).value == "answer"
    assert core.peek("a").value == "answer"
    assert core.get("a", 10.0) is None
    assert core.peek("a") is None
    assert (core.counts.hits, core.counts.misses, core.counts.bytes, core.counts.entries) == (1, 1, 0, 0)


def test_a_value_larger_than_the_cache_takes_nobodys_place_and_ends_what_it_replaces():
    core = CacheCore("lru", 2000, ttl=math.inf)
    core.put("a", "small", 10, 0.0)
    core.put("b", "small", 10, 0.0)
    assert not core.put("a", "large", 5000, 1.0)
    assert "a" not in core
    assert "b" in core
    assert core.counts.refused == 1


def test_lfu_keeps_what_is_used_often():
    core = CacheCore("lfu", 3 * (OVERHEAD_BYTES + 10), ttl=math.inf)
    for key in "abc":
        core.put(key, key, 10, 0.0)
    for _ in range(3):
        core.get("a", 0.0)
        core.get("b", 0.0)
    core.put("d", "d", 10, 0.0)
    assert "c" not in core
    core.put("e", "e", 10, 0.0)
    assert "d" not in core
    assert "a" in core
    assert "b" in core


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["board", "leave", "land"]), KEYS, st.integers(0, 4)), max_size=60))
def test_of_those_who_want_the_same_exactly_one_fetches_it(steps):
    flights, model = Flights(), {}
    for what, key, who in steps:
        if what == "board":
            assert flights.board(key, who) == (key not in model)
            model.setdefault(key, [])
            if who not in model[key]:
                model[key].append(who)
        elif what == "leave":
            last = model.get(key) == [who]
            assert flights.leave(key, who) == last
            if who in model.get(key, ()):
                model[key].remove(who)
                if last:
                    del model[key]
        else:
            assert flights.land(key) == model.pop(key, [])
        assert len(flights) == len(model)
        assert all(key in flights for key in model)


def test_a_folder_that_cannot_be_written_is_an_error_in_the_statistics(tmp_path, monkeypatch):
    def error(folder):
        return face.summary([], folder)["disk"]["error"]

    assert error(tmp_path) is None
    assert error(tmp_path / "not" / "yet") is None
    monkeypatch.setattr(face.os, "access", lambda path, mode: False)  # root may write where others may not
    assert error(tmp_path / "not" / "yet") == f"{tmp_path} is read-only: what is there is used, and nothing new is kept"
