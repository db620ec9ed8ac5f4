"""What a run is travels to a node once, however many workers it has, and whichever of them is killed."""

import asyncio
from types import SimpleNamespace

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.runs.spec import Job
from dspex_actors.workers.jobs import FOLDER, LARGE_BYTES, Jobs
from supervisors import Ref
from supervisors.errors import CallTimeout, ServerExited

FAR, NEAR = Ref("127.0.0.9", 1, 5, 1, "far"), Ref("127.0.0.1", 1, 5, 1, "near")
LARGE = Job("r", "evaluate", b"p" * LARGE_BYTES, b"m", None, {"deadline": 1.0})
SMALL = Job("r", "evaluate", b"p", b"m")


class Evaluator:
    """Counts who asks."""

    def __init__(self, job):
        self.job, self.asked, self.fails = job, 0, []

    async def answer(self, ref, request, timeout):  # noqa: ASYNC109 - as a GenServer has it
        self.asked += 1
        await asyncio.sleep(0)
        if self.fails:
            raise self.fails.pop()
        return self.job


def jobs_of(evaluator, folder):
    log = SimpleNamespace(warning=lambda *args, **about: None)
    worker = SimpleNamespace(ref=Ref("127.0.0.1", 1, 7, 1, "w"), call=evaluator.answer, log=log)
    return Jobs(worker, folder)


@pytest.mark.parametrize(("job", "ref", "asked"), [(LARGE, FAR, 1), (SMALL, FAR, 4), (LARGE, NEAR, 4)])
def test_a_large_one_of_another_node_is_asked_once(tmp_path, job, ref, asked):
    evaluator = Evaluator(job)

    async def ask():
        return await asyncio.gather(*(jobs_of(evaluator, tmp_path).of_run("r", ref) for _ in range(4)))

    assert asyncio.run(ask()) == [job] * 4
    assert evaluator.asked == asked
    assert bool(list(tmp_path.glob(f"{FOLDER}/*.job"))) is (asked == 1)
    jobs_of(evaluator, tmp_path).forget("r")
    assert list(tmp_path.glob(f"{FOLDER}/*")) == []


def test_who_follows_one_that_ended_while_it_asked_asks_and_another_evaluator_is_asked_anew(tmp_path):
    evaluator = Evaluator(LARGE)
    evaluator.fails = [ServerExited("gone"), CallTimeout("busy")]

    async def ask(ref=FAR):
        first, second = (jobs_of(evaluator, tmp_path).of_run("r", ref) for _ in range(2))
        return await asyncio.gather(first, second, return_exceptions=True)

    failed, job = asyncio.run(ask())
    assert isinstance(failed, ServerExited)
    assert (job, evaluator.asked) == (LARGE, 3)
    evaluator.job = Job("r", "evaluate", b"q" * LARGE_BYTES, b"m")
    assert asyncio.run(ask())[0] == LARGE
    assert asyncio.run(ask(Ref("127.0.0.9", 1, 5, 1, "next"))) == [evaluator.job] * 2


def test_a_damaged_file_and_no_folder_do_no_harm(tmp_path):
    evaluator = Evaluator(LARGE)
    asyncio.run(jobs_of(evaluator, tmp_path).of_run("r", FAR))
    (file,) = tmp_path.glob(f"{FOLDER}/*.job")
    for data in (b"", b"\x80", file.read_bytes()[:-9]):
        file.write_bytes(data)
        assert asyncio.run(jobs_of(evaluator, tmp_path).of_run("r", FAR)) == LARGE
    jobs_of(evaluator, tmp_path).clear()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / FOLDER).touch()
    assert asyncio.run(jobs_of(evaluator, tmp_path).of_run("r", FAR)) == LARGE


def test_one_of_another_version_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is of another version"):
        asyncio.run(jobs_of(Evaluator(None), tmp_path).of_run("r", FAR))
