"""Endless inputs through a program: order, memory, errors, and what is killed meanwhile."""

import asyncio
import itertools
import os
import signal
import threading

import pytest
from e2e_kit import until

import dspex_actors as dspex
from supervisors.host import processes


class Double(dspex.Module):
    async def aforward(self, n):
        if n % 10 == 7:
            raise ValueError("seven")
        return dspex.Prediction(twice=2 * n)


class Gated(dspex.Module):
    """Ends when its file is there."""

    def __init__(self, gate):
        super().__init__()
        self.gate = str(gate)

    async def aforward(self, n):
        with open(self.gate + ".begun", "a") as file:  # noqa: ASYNC230
            file.write(f"{n}\n")
        while not os.path.exists(self.gate):  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.01)
        return dspex.Prediction(twice=2 * n)


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    with dspex.connect(home=tmp_path_factory.mktemp("home"), workers=2) as system:
        yield system


def numbers(count):
    return ({"n": n} for n in (range(count) if count is not None else itertools.count()))


def feeders(system):
    if system.node.whereis("evaluators") is None:
        return []
    return [child for child in system.node.which_children("evaluators") if str(child.id).startswith("stream:")]


def no_feeder_is_left(system):
    until(lambda: not feeders(system), 10, "a feeder is left")


def begun(gate):
    try:
        return sorted(map(int, open(f"{gate}.begun").read().split()))
    except FileNotFoundError:
        return []


def test_results_come_in_the_order_of_the_inputs_and_an_error_is_that_of_its_input(system):
    found = list(dspex.stream_inference(Double(), numbers(3000)))
    assert [result.index for result in found] == list(range(3000))
    assert [result.index for result in found if result.error] == list(range(7, 3000, 10))
    assert all(result.prediction.twice == 2 * result.index for result in found if not result.error)
    assert found[7].error["type"] == "ValueError"
    assert found[8].example.n == 8
    assert found[8].attempts == 1
    no_feeder_is_left(system)


def test_unordered_every_result_comes_once(system):
    found = [result.index for result in dspex.stream_inference(Double(), numbers(1000), ordered=False)]
    assert sorted(found) == list(range(1000))


def test_inputs_are_read_only_as_far_as_results_are_taken(system):
    read = itertools.count()
    inputs = ({"n": next(read)} for _ in itertools.count())
    with dspex.stream_inference(Double(), inputs, max_in_flight=20, buffer=30) as stream:
        for _ in range(5):
            next(stream)
        until(lambda: len(stream._flow._ready) == 50, 10, "not read as far as it may")
    assert next(read) <= 5 + 50 + 1  # one is read, and waits for room
    no_feeder_is_left(system)


@pytest.mark.parametrize("leave", ["break", "close", "forget"])
def test_who_goes_leaves_nothing_behind(system, leave, tmp_path):
    stream = dspex.stream_inference(Gated(tmp_path / "gate"), numbers(None), max_in_flight=10, buffer=0)
    waiting = threading.Thread(target=lambda: list(itertools.islice(stream, 1)), daemon=True)
    waiting.start()
    until(lambda: len(begun(tmp_path / "gate")) == 10, 10, "nothing begins")
    if leave == "close":
        stream.close()
    else:
        (tmp_path / "gate").touch()
        waiting.join()
        if leave == "break":
            for _ in stream:
                break
        del stream, waiting
    no_feeder_is_left(system)
    until(lambda: not any("stream:" in each.name for each in threading.enumerate()), 10, "a thread is left")


def test_a_slow_source_keeps_no_result_back(system):
    more = threading.Event()

    def source():
        yield {"n": 1}
        assert more.wait(30)
        yield {"n": 2}

    with dspex.stream_inference(Double(), source()) as stream:
        assert next(stream).prediction.twice == 2  # though the second input has not come
        more.set()
        assert next(stream).prediction.twice == 4
        assert list(stream) == []


def test_async_inputs_and_async_results(system):
    async def source():
        for n in range(200):
            await asyncio.sleep(0)
            yield {"n": n}

    async def main():
        return [result.index async for result in dspex.stream_inference(Double(), source(), max_in_flight=7, buffer=5)]

    assert asyncio.run(main()) == list(range(200))
    assert [result.index for result in dspex.stream_inference(Double(), source())] == list(range(200))


def test_what_the_source_raises_comes_after_the_results_before_it(system):
    def source():
        yield {"n": 1}
        raise OSError("the tape is torn")

    stream = dspex.stream_inference(Double(), source())
    assert next(stream).prediction.twice == 2
    with pytest.raises(OSError, match="the tape is torn"):
        next(stream)
    assert list(stream) == []


def test_an_input_that_is_none_is_told_with_its_number(system):
    stream = dspex.stream_inference(Double(), [{"n": 1}, "two"])
    assert next(stream).prediction.twice == 2
    with pytest.raises(dspex.ConfigError, match="input 1: "):
        next(stream)


@pytest.mark.parametrize("victim", ["worker-1", "stream:"])
def test_a_worker_or_the_feeder_is_killed_and_every_input_has_one_result(system, victim, tmp_path):
    gate = tmp_path / "gate"
    stream = dspex.stream_inference(Gated(gate), numbers(60), max_in_flight=40, buffer=10)
    found = []
    taking = threading.Thread(target=lambda: found.extend(stream))
    taking.start()
    until(lambda: len(begun(gate)) == 40, 10, "nothing begins")
    ref = feeders(system)[0].ref if victim == "stream:" else system.node.whereis(victim)
    os.kill(ref.pid, signal.SIGKILL)
    until(lambda: processes.has_ended(ref.pid, ref.born), 10, "it lives")
    gate.touch()
    taking.join(60)
    assert [result.index for result in found] == list(range(60))
    assert all(result.prediction.twice == 2 * result.index for result in found)
    no_feeder_is_left(system)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"buffer": -1}, "buffer"),
        ({"buffer": True}, "buffer"),
        ({"ordered": "yes"}, "ordered"),
        ({"requires": "gpu"}, "requires"),
        ({"requires": {"gpu": 1}}, "requires"),
        ({"requires": {"gpu": "1"}}, "labels that a node has"),
        ({"nodes": "here"}, "nodes"),
        ({"nodes": ["nowhere"]}, "nowhere"),
        ({"deadline": 0}, "deadline"),
        ({"inputs": None}, "inputs"),
        ({"inputs": {"n": 1}}, "inputs"),
        ({"inputs": b"n"}, "inputs"),
        ({"program": Double}, "program"),
    ],
)
def test_bad_arguments_are_refused_at_once(system, settings, said):
    given = {"program": Double(), "inputs": []} | settings
    with pytest.raises(dspex.ConfigError, match=said):
        dspex.stream_inference(given.pop("program"), given.pop("inputs"), **given)
