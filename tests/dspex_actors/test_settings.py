"""Who may set what: DSPy's rules for `configure` and `context`."""

import asyncio
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.config_errors import ConfigRuntimeError
from dspex_actors.settings import Settings, settings


def refused(made, **values):
    with pytest.raises(ConfigRuntimeError) as error:
        made.configure(**values)
    assert isinstance(error.value, RuntimeError)
    assert isinstance(error.value, ConfigError)
    return str(error.value)


def test_only_the_thread_that_configured_first_may_configure_again():
    made = Settings()
    made.configure(max_trace_size=5)
    with ThreadPoolExecutor(1) as pool:
        words = pool.submit(refused, made, max_trace_size=6).result()
        assert words.startswith("settings can only be changed by the thread that initially configured it")
        assert pool.submit(lambda: made.max_trace_size).result() == 5, "all threads see it"
    made.configure(max_trace_size=7)
    assert made.max_trace_size == 7


def test_a_thread_that_has_ended_owns_nothing():
    made = Settings()
    thread = threading.Thread(target=made.configure, kwargs={"max_trace_size": 5})
    thread.start()
    thread.join()
    made.configure(max_trace_size=6)
    assert made.max_trace_size == 6


def test_of_async_tasks_only_the_one_that_configured_first_may_configure_again():
    made, words = Settings(), []

    async def other():
        words.append(refused(made, max_trace_size=6))
        with made.context(max_trace_size=8):
            return made.max_trace_size

    async def same():
        made.configure(max_trace_size=7)

    async def main():
        made.configure(max_trace_size=5)
        await same()
        assert await asyncio.gather(other(), other()) == [8, 8]

    asyncio.run(main())
    asyncio.run(main())  # its task has ended
    made.configure(max_trace_size=9)
    assert words[0].startswith("configure(...) can only be called from the same async task that called it first")


def test_in_a_notebook_every_cell_is_a_task(monkeypatch):
    class IPython:
        get_ipython = staticmethod(lambda: object())

    monkeypatch.setitem(__import__("sys").modules, "IPython", IPython)
    made = Settings()

    async def cell():
        made.configure(max_trace_size=5)

    async def cells():
        await asyncio.gather(cell(), cell())

    asyncio.run(cells())


def test_the_process_has_a_trace_of_calls_as_dspy():
    made = Settings()
    assert made.trace == []
    assert isinstance(settings.trace, list)
    with dspex.context(trace=None):
        assert settings.trace is None


def test_a_snapshot_has_what_was_set_and_no_trace():
    made, adapter = Settings(), dspex.JSONAdapter()
    assert made.snapshot() == {}
    made.configure(adapter=adapter)
    with made.context(warn_on_type_mismatch=False, trace=[]):
        assert made.snapshot() == {"adapter": adapter, "warn_on_type_mismatch": False}


def test_settings_in_code_that_travels_are_those_of_where_it_arrives():
    assert pickle.loads(pickle.dumps(settings)) is settings
    assert pickle.loads(pickle.dumps(settings.context)).__self__ is settings
