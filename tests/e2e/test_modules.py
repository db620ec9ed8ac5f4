"""Modules: programs that are served by name, exchanged while they are called, and outlive who is killed."""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from e2e_kit import ANSWER, LMServer, gone, until

import dspex_actors as dspex
from dspex_actors.cli.main import dspex as command
from dspex_actors.names import MODULES
from supervisors.errors import SupervisorsError


class Part(dspex.Module):
    def __init__(self, word):
        self.word = word

    async def aforward(self):
        await asyncio.sleep(0.001)
        return dspex.Prediction(word=self.word)


class Pair(dspex.Module):
    """Says its word twice, from two parts: they differ where half of it was exchanged."""

    def __init__(self, word):
        self.first, self.second = Part(word), Part(word)

    async def aforward(self, text):
        first = await self.first.acall()
        second = await self.second.acall()
        return dspex.Prediction(first=first.word, second=second.word, text=text)


class Waiting(dspex.Module):
    """Answers when a file is there."""

    def __init__(self, word, gate, begun):
        self.word, self.gate, self.begun = word, gate, begun

    def forward(self, text):
        self.begun.touch()
        until(self.gate.exists)
        return dspex.Prediction(said=f"{self.word} {text}")


class Unopened:
    """A program that can be sent and not opened."""

    def __reduce__(self):
        return os.listdir, ("/nowhere/at/all",)

    def __call__(self, text):
        return text


class Canned(dspex.BaseLM):
    def forward(self, messages, **params):
        return "[[ ## team ## ]]\nbugs"


def fails(text):
    raise ValueError(f"no {text}")


def more(text, language):
    return {"said": f"{text} {language}"}


#: Modules that stay for several tests.
FIXED = ("right", "wrong")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def system(place):
    with dspex.connect(home=place, workers=2) as made:
        assert made.node.whereis(MODULES) is None  # an idle node has no process for it
        yield made


@pytest.fixture
def modules(system):
    yield system.modules
    for row in system.modules.list():
        if row["id"] not in FIXED:
            system.modules.remove(row["id"])


def pid_of_manager(system):
    with contextlib.suppress(SupervisorsError):  # it may be on its way back
        return system.node.pid(MODULES)


def kill_manager(system):
    pid = until(lambda: pid_of_manager(system))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return pid


def test_a_module_is_created_called_exchanged_and_taken_back(modules):
    made = modules.create({"program": Pair("a"), "description": "says a word"})
    assert (found := modules.execute(made, text="x")).first == found.second == "a"
    assert found.inference.version == 1
    assert modules.update_module(made, Pair("b"), note="another word") == 2
    assert (found := modules.execute(made, text="x")).first == "b"
    assert found.inference.version == 2
    assert modules.roll_back(made) == 1
    assert modules.execute(made, text="x").first == "a"
    assert modules.roll_back(made, 2) == 2
    rows = modules.versions(made)
    assert [(row["version"], row["current"], row["note"]) for row in rows] == [
        (1, False, ""),
        (2, True, "another word"),
    ]
    [row] = [row for row in modules.list() if row["id"] == made]
    assert (row["id"], row["version"], row["versions"], row["inputs"], row["calls"]) == (made, 2, 2, ["text"], 3)
    found = modules.metrics(made)
    assert (found["calls"], found["failed"], found["under_way"]) == (3, 0, 0)
    assert {number: each["calls"] for number, each in found["versions"].items()} == {1: 2, 2: 1}
    assert found["latency"]["p50"] > 0


def test_the_same_from_an_event_loop(modules):
    async def use():
        made = await modules.acreate({"program": Pair("a"), "id": "pair"})
        found = await asyncio.gather(*(modules.aexecute(made, text=str(number)) for number in range(50)))
        assert [each.text for each in found] == [str(number) for number in range(50)]
        assert await modules.aupdate_module(made, Pair("b")) == 2
        assert await modules.aroll_back(made) == 1
        assert (await modules.ametrics(made))["calls"] == 50
        assert "pair" in [row["id"] for row in await modules.alist()]
        assert len(await modules.aversions(made)) == 2
        assert await modules.aremove(made)
        with pytest.raises(dspex.DeadlineExceeded, match=r"within 0\.3 s"):
            await modules.within(0.3).aexecute(await modules.acreate(slow), seconds=30)

    asyncio.run(use())


async def slow(seconds: int):
    await asyncio.sleep(seconds)


def test_calls_that_are_under_way_end_with_the_program_that_they_began_with(modules, tmp_path):
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    modules.create({"program": Waiting("old", gate, begun), "id": "w"})
    with ThreadPoolExecutor(4) as threads:
        old = [threads.submit(modules.execute, "w", text=str(number)) for number in range(4)]
        until(begun.exists)
        until(lambda: modules.metrics("w")["under_way"] == 4)
        assert modules.update_module("w", Pair("new")) == 2
        found = modules.execute("w", text="x")
        assert (found.first, found.inference.version) == ("new", 2)
        assert not any(each.done() for each in old)
        gate.touch()
        assert sorted(each.result(30).said for each in old) == [f"old {number}" for number in range(4)]
        assert {each.result().inference.version for each in old} == {1}


def test_what_cannot_be_opened_changes_nothing(modules):
    modules.create({"program": Pair("a"), "id": "m"})
    with pytest.raises(dspex.ConfigError, match="nothing was changed: the program or metric cannot be opened"):
        modules.update_module("m", Unopened())
    with pytest.raises(dspex.ConfigError, match="it needs language, which who calls the module 'm' does not give"):
        modules.update_module("m", more)
    with pytest.raises(dspex.ConfigError, match="it does not take text, which who calls the module 'm' gives"):
        modules.update_module("m", slow)
    with pytest.raises(dspex.ConfigError, match="cannot be opened"):
        modules.create({"program": Unopened(), "id": "n"})
    assert modules.execute("m", text="x").first == "a"
    assert {row["id"] for row in modules.list()} - {*FIXED} == {"m"}
    assert len(modules.versions("m")) == 1


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda m: m.execute("right"), "input 'text': it is missing"),
        (lambda m: m.execute("right", text="x", txt=1), "input 'txt': the program has no such input; it has text"),
        (lambda m: m.execute("right", text=threading.Lock()), "the inputs of 'right' cannot be sent"),
        (lambda m: m.execute("other", text="x"), "there is no module 'other': the node serves right, wrong"),
        (lambda m: m.execute("wrong", text="x"), "no x"),
        (lambda m: m.execute(3), "the module's id is invalid: got 3"),
        (lambda m: m.create({"program": fails, "id": "right"}), "the module 'right' is there already"),
        (lambda m: m.create({"program": fails, "id": " m"}), "the module's id is invalid"),
        (lambda m: m.create({"programm": fails}), "the spec is invalid: got programm, expected program"),
        (lambda m: m.create({}), "the spec is invalid: got nothing"),
        (lambda m: m.create(Pair), "got the class Pair, expected an object of it"),
        (lambda m: m.create(3), "the program is invalid: got 3"),
        (lambda m: m.create("question -> "), "."),
        (lambda m: m.create("question -> answer"), "no LM is set"),
        (lambda m: m.create({"program": fails, "deadline": -1}), "deadline"),
        (lambda m: m.create({"program": fails, "description": 3}), "the description is invalid: got 3"),
        (lambda m: m.create({"program": fails, "pool": {"size": 0}}), "pool: max_concurrent is invalid"),
        (lambda m: m.create({"program": fails, "circuit_breaker": {"trip": fails}}), "`trip`, a function"),
        (lambda m: m.update_module("other", fails), "there is no module 'other'"),
        (lambda m: m.update_module("right", fails, note=3), "the note is invalid: got 3"),
        (lambda m: m.roll_back("right"), "has no version before 1"),
        (lambda m: m.roll_back("right", 9), "has no version 9"),
        (lambda m: m.roll_back("right", True), "the version is invalid: got True"),
        (lambda m: m.versions("other"), "there is no module 'other'"),
        (lambda m: m.metrics(None), "the module's id is invalid: got None"),
        (lambda m: m.within(0), "deadline"),
    ],
)
def test_bad_input_is_told_in_one_line(both, call, told):
    with pytest.raises(dspex.DspexError, match=told) as caught:
        call(both)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def both(system):
    for name, program in zip(FIXED, (Pair("a"), fails), strict=True):
        system.modules.create({"program": program, "id": name})
    yield system.modules
    for name in FIXED:
        system.modules.remove(name)


def test_calls_are_protected(modules):
    spec = {"program": fails, "id": "p", "circuit_breaker": {"failure_threshold": 2, "recovery_time": 60.0}}
    modules.create(spec)
    for _ in range(2):
        with pytest.raises(dspex.DspexError, match="no x"):
            modules.execute("p", text="x")
    with pytest.raises(dspex.CircuitOpen) as caught:
        modules.execute("p", text="x")
    assert caught.value.retry_after > 0
    assert modules.metrics("p")["errors"] == {"ValueError": 2, "CircuitOpen": 1}
    modules.create({"program": Pair("a"), "id": "r", "rate_limiter": {"requests": (1, 3600.0)}})
    assert modules.execute("r", text="x").first == "a"
    with pytest.raises(dspex.RateLimited):
        modules.within(60).execute("r", text="x")


def test_a_signature_is_served_by_its_lm_which_a_new_program_keeps(modules):
    server = LMServer("--answer", ANSWER)
    try:
        modules.create({"program": "ticket -> team", "id": "triage", "lm": server.lm()})
        found = modules.execute("triage", ticket="late")
        assert (found.team, found.inference.asked) == ("billing", 1)
        better = dspex.Predict("ticket -> team")
        better.signature = better.signature.with_instructions("Sort it well.")
        modules.update_module("triage", better)
        assert modules.execute("triage", ticket="late").team == "billing"
        assert server.requests == 2
        assert modules.metrics("triage")["usage"]["output_total"] > 0
        modules.update_module("triage", better, lm=Canned())
        assert modules.execute("triage", ticket="late").team == "bugs"
        modules.update_module("triage", dspex.Predict("ticket -> team"))
        assert modules.execute("triage", ticket="late").team == "bugs"
        assert server.requests == 2
    finally:
        server.close()


def test_versions_outlive_the_manager_and_calls_under_way_are_asked_again(system, modules, tmp_path):
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    modules.create({"program": Pair("a"), "id": "m"})
    modules.update_module("m", Waiting("b", gate, begun))
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(modules.execute, "m", text="x")
        until(begun.exists)
        pid = kill_manager(system)
        until(lambda: gone(pid))
        assert [row["version"] for row in modules.versions("m")] == [1, 2]
        gate.touch()
        assert call.result(60).said == "b x"
    assert modules.roll_back("m") == 1
    assert modules.execute("m", text="x").first == "a"


def swap_under_load(system, modules, swaps, callers, kills=()):
    """Exchange a program again and again while it is called; return the answers."""
    modules.create({"program": Pair("1"), "id": "m"})
    over, answers, errors = threading.Event(), [], []

    def call(caller):
        seen = 0
        for number in itertools.count():
            if over.is_set():
                return
            try:
                found = modules.execute("m", text=f"{caller}:{number}")
            except Exception as error:
                errors.append(error)
                return
            version = found.inference.version
            answers.append((found.text == f"{caller}:{number}", found.first, found.second, version, version >= seen))
            seen = version

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    try:
        for number in swaps:
            if number in kills:
                killer = threading.Timer(0.005 * (number % 7), kill_manager, [system])
                killer.start()
            assert modules.update_module("m", Pair(str(number))) == number
            if number in kills:
                killer.join()
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert not errors
    wrong = [each for each in answers if not (each[0] and each[1] == each[2] == str(each[3]) and each[4])]
    assert not wrong, wrong[:3]
    assert [row["version"] for row in modules.versions("m")][-1] == number
    assert modules.execute("m", text="x").first == str(number)
    return answers


def test_no_call_is_lost_or_half_swapped_and_a_manager_may_be_killed_in_the_middle(system, modules):
    answers = swap_under_load(system, modules, range(2, 15), callers=4, kills={5, 10})
    assert len({each[3] for each in answers}) > 1


@pytest.mark.soak
def test_a_thousand_swaps_under_load(system, modules, rounds):
    numbers = (number for number, _ in zip(range(2, 1002), rounds, strict=False))
    answers = swap_under_load(system, modules, numbers, callers=8, kills=range(50, 1000, 50))
    assert len(answers) > 100


def run(*words):
    return CliRunner().invoke(command, list(words), prog_name="dspex")


@pytest.mark.soak
def test_modules_outlive_the_node_and_are_shown(host):
    assert "no module is served" in run("modules", "list").output
    with dspex.connect() as first:
        first.modules.create({"program": Pair("a"), "id": "m"})
        first.modules.update_module("m", Pair("b"))
        first.modules.roll_back("m")
        first.modules.execute("m", text="x")
        first.modules.update_module("m", Pair("c"))
        until(lambda: first.modules.metrics("m")["calls"] == 1)
    host.kill_everything()
    host.start()
    with dspex.connect() as second:
        assert second.node.whereis(MODULES) is None
        rows = second.modules.versions("m")
        assert [(row["version"], row["followed"]) for row in rows] == [(1, None), (2, 1), (3, 1)]
        found = second.modules.execute("m", text="x")
        assert (found.first, found.inference.version) == ("c", 3)
        [row] = json.loads(run("modules", "list", "--json").output)
        assert (row["id"], row["version"], row["inputs"]) == ("m", 3, ["text"])
        assert "3 of 3" in run("modules", "list").output
        shown = json.loads(run("modules", "show", "m", "--json").output)
        assert [(each["version"], each["current"]) for each in shown["versions"]] == [(1, False), (2, False), (3, True)]
        assert "3 (answers)" in run("modules", "show", "m").output
        assert run("modules", "show", "nobody").exit_code == 2
        assert run("modules", "roll-back", "m").output == "version 1 of m answers now\n"
        assert json.loads(run("modules", "roll-back", "m", "2", "--json").output) == {"id": "m", "version": 2}
        assert second.modules.execute("m", text="x").first == "b"
