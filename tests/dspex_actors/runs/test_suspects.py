"""Examples that kill their workers fail after as many deaths as there are attempts, and nobody else does."""

import random

import pytest

from dspex_actors.runs.plan.plan import RunPlan
from dspex_actors.runs.plan.types import PlanSettings


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_only_the_deadly_fail(seed, workers):
    rng = random.Random(seed)
    count, deadly = 400, set(rng.sample(range(400), rng.randint(1, 5)))
    attempts = rng.choice([1, 2, 3, 4])
    plan = RunPlan(PlanSettings(max_in_flight=rng.choice([workers, 16, 64]), max_attempts=attempts))
    names = [f"worker-{number}" for number in range(workers)]
    for name in names:
        plan.worker_joined(name)
    flying, lost, done, fed, deaths = {name: [] for name in names}, [], [], 0, 0
    for _ in range(100_000):
        while count_wanted := plan.wanted():
            for _ in range(count_wanted):
                if fed == count:
                    plan.source_ended()
                    break
                plan.feed(fed, b"x")
                fed += 1
        for chunk in plan.take():
            flying[chunk.worker] += chunk.items
        if plan.finished:
            break
        name = rng.choice([name for name in names if flying[name]])
        index, send, _ = flying[name].pop(rng.randrange(min(8, len(flying[name]))))
        if index in deadly:
            deaths += 1
            flying[name] = []
            lost += plan.worker_left(name, back_soon=rng.random() < 0.5)
            plan.worker_joined(name)
        elif plan.result(index, send).fate == "accept":
            done.append(index)
    assert {gone.index for gone in lost} == deadly
    assert {gone.attempts for gone in lost} == {attempts}
    assert sorted([*done, *deadly]) == list(range(count))
    assert deaths <= len(deadly) * (attempts + 1) * 2


def test_what_waits_for_a_batch_goes_on_at_once_until_it_has_killed_as_many_workers_as_it_may():
    plan = RunPlan(PlanSettings(max_in_flight=40, max_attempts=3, in_batches=True))
    plan.worker_joined("a")
    for index in range(40):
        plan.feed(index, b"x")
    plan.source_ended()

    def given():
        return [index for chunk in plan.take() for index, _, _ in chunk.items]

    assert len(given()) == 40
    for _ in range(2):
        assert plan.worker_left("a") == []
        plan.worker_joined("a")
        assert given() == list(range(40))  # all of them, in their order
    plan.worker_left("a")
    plan.worker_joined("a")
    assert given() == list(range(16))  # suspects now


def test_other_runs_try_what_a_dead_worker_held_a_few_at_a_time():
    plan = RunPlan(PlanSettings(max_in_flight=40, max_attempts=3))
    plan.worker_joined("a")
    for index in range(40):
        plan.feed(index, b"x")
    plan.source_ended()
    plan.take()
    plan.worker_left("a")
    plan.worker_joined("a")
    assert [len(chunk.items) for chunk in plan.take() if chunk.items] == [16]
