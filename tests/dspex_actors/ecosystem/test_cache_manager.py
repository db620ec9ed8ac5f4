"""The cache of an ecosystem: what it is given is found at once, and what it says is measured."""

from dspex_actors.ecosystem.inference import cache as module
from dspex_actors.ecosystem.inference.cache import CacheManager
from dspex_actors.ecosystem.inference.messages import Look
from dspex_actors.foundation.telemetry.recorder import recorder


def told(name):
    series = recorder.counter(name, tier="ecosystem")
    series.add(0)
    return series.news(everything=True).figures()["sum"]


def test_it_finds_what_comes_along_and_counts_hits_and_misses(monkeypatch):
    monkeypatch.setattr(module, "report_from_actor", lambda server: None)
    manager = object.__new__(CacheManager)
    manager.init("lru", 10_000, 60.0)
    before = told("cache.hits"), told("cache.misses")
    manager.handle_cast(Look([], ["a"], [b"A"]))
    assert manager.handle_call(Look(["a", "b", "c"], ["b"], [b"B"]), None) == [b"A", b"B", None]
    assert (told("cache.hits"), told("cache.misses")) == (before[0] + 2, before[1] + 1)
    assert manager.handle_call("clear", None) is None
    assert manager.handle_call(Look(["a"]), None) == [None]
