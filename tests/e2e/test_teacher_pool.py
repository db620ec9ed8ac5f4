"""A pool of teachers: it begins small, grows with what is still to try, shrinks, and one that is killed comes back."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from e2e_kit import Background, until

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from supervisors.errors import SupervisorsError


class Gated(dspex.BaseLM):
    """Answers a question once there is a file of its name, and notes in a book what it was asked."""

    def __init__(self, folder):
        super().__init__("gated")
        self.folder = str(folder)

    async def aforward(self, messages, **params):
        question = messages[-1]["content"].split("[[ ## question ## ]]\n")[1].split("\n")[0]
        folder = Path(self.folder)
        with open(folder / "book", "a") as book:  # noqa: ASYNC230 - a line
            book.write(f"{question}\n")
        while not (folder / question).exists():  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(0.005)
        return f"[[ ## answer ## ]]\n{(folder / question).read_text()}"


@pytest.fixture
def gates(tmp_path):
    return Gates(tmp_path)


class Gates:
    def __init__(self, folder):
        self.folder = folder
        (folder / "book").touch()

    def asked(self):
        return (self.folder / "book").read_text().split()

    def open(self, numbers, answer="yes"):
        for number in numbers:
            whole = self.folder / f"new-{number}"
            whole.write_text(answer)
            whole.rename(self.folder / f"q{number}")

    def under_way(self):
        return len([one for one in set(self.asked()) if not (self.folder / one).exists()])


def is_yes(example, prediction, trace=None):
    return prediction.answer == "yes"


def begun(pool, demos, count, **options):
    optimizer = dspex.BootstrapFewShot(is_yes, max_bootstrapped_demos=demos, max_labeled_demos=0, teacher_pool=pool)
    rows = [dspex.Example(question=f"q{place}").with_inputs("question") for place in range(count)]
    program = dspex.Predict("question -> answer")
    return Background(optimizer.compile, program, trainset=rows, display_progress=False, **options)


def shown(program):
    return [demo.question for demo in program.demos]


def at_work(system):
    """The workers that try something, one that is just coming back left out."""
    names = []
    for name in ("worker-1", "worker-2"):
        with contextlib.suppress(SupervisorsError):
            if any(active for active, _ in system.node.call(name, "stats")["runs"].values()):
                names.append(name)
    return names


def test_it_grows_when_little_passes_and_shrinks_when_little_is_wanted(shared_host, gates):
    with dspex.connect(home=shared_host.home, lm=Gated(gates.folder)) as system:
        run = begun((2, 12), 2, 100, run_id="little passes")
        until(lambda: gates.under_way() == 2)
        gates.open(range(6), "no")
        # None of six: by that it takes fourteen more for two.
        until(lambda: gates.under_way() == 12)
        assert len(gates.asked()) == 18
        gates.open([6])
        # One of seven: it takes four more. What the others are at goes on; as they end, nobody follows.
        gates.open(range(11, 18))
        until(lambda: system.journal.get_run("little passes").done == 14)
        gates.open([7])
        assert shown(run.result(60)) == ["q6", "q7"]
    assert sorted(gates.asked(), key=lambda one: int(one[1:])) == [f"q{place}" for place in range(18)]


def test_a_teacher_that_is_killed_is_back_and_what_it_tried_is_asked_again_once(shared_host, gates):
    with dspex.connect(home=shared_host.home, lm=Gated(gates.folder)) as system:
        run = begun((4, 4), 8, 100)
        until(lambda: gates.under_way() == 4)
        before = set(gates.asked())
        pid = system.node.pid("worker-1")
        shared_host.kill("worker-1", system.node)
        until(lambda: len(gates.asked()) > len(before))
        until(lambda: system.node.whereis("worker-1") is not None and system.node.pid("worker-1") != pid)
        gates.open(range(100))
        assert shown(run.result(60)) == [f"q{place}" for place in range(8)]
    asked = gates.asked()
    again = {one for one in asked if asked.count(one) > 1}
    assert 0 < len(again) <= 4
    assert again <= before
    assert max(map(asked.count, asked)) == 2


def test_an_example_that_kills_its_teacher_is_given_up_after_the_second_one(shared_host, gates):
    with dspex.connect(home=shared_host.home, lm=Gated(gates.folder)) as system:
        run = begun((1, 1), 1, 2)
        for times in (1, 2):
            until(lambda times=times: len(gates.asked()) == times)
            until(lambda: at_work(system))
            shared_host.kill(at_work(system)[0], system.node)
        until(lambda: "q1" in gates.asked())
        gates.open([1])
        assert shown(run.result(60)) == ["q1"]
    assert gates.asked() == ["q0", "q0", "q1"]


@pytest.mark.parametrize("pool", [3, (0, 4), (4, 2), (1,), "ab", (1, 2.5), {1, 2}])
def test_a_pool_that_is_none_is_refused(pool):
    with pytest.raises(ConfigError, match=r"teacher_pool is invalid: got .*, expected \(min, max\)"):
        dspex.BootstrapFewShot(is_yes, teacher_pool=pool)
