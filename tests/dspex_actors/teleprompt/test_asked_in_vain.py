"""Each optimiser that bootstraps asks hardly more than DSPy's: what a sequential one would not come to is not asked.

The plan of each bootstrap is the one that its run has, with the settings that its run is given; answers come in an
order of chance.
"""

import random

import optimised_in_memory
import pytest
from bootstrap_fakes import FakeSystem
from optimised_in_memory import attempt, carried, done
from optimised_kit import One, is_yes, questions
from plan_kit import worked_off
from scripted_answers import text

import dspex_actors as dspex
from dspex_actors.runs.evaluator.ending import plan_of
from dspex_actors.runs.plan.stop_rule import StopRule
from dspex_actors.teleprompt.adaptive import Choice
from dspex_actors.teleprompt.bootstrap_select import select
from dspex_actors.teleprompt.step_runs import How, start
from dspex_actors.teleprompt.steps import Bootstrap

TRAIN, VAL = questions(0, 80), questions(1000, 1040)


class Noted(dspex.BaseLM):
    """Keeps what it was asked, once."""

    def __init__(self):
        super().__init__("noted")
        self.asked = set()

    def forward(self, messages, **params):
        rollout = params.get("rollout_id") or 0
        self.asked.add((str(messages), rollout))
        return text(messages, rollout)


class Settings(FakeSystem):
    """Takes note of a run's settings."""

    def start_run(self, kind, program, devset, metric, **rest):
        self.settings = rest["settings"]


def tried(step):
    """Try the examples of a bootstrap as its run does."""
    system, rng = Settings(), random.Random(0)
    start(How(system, "run"), step, "run.0", {})
    rule = StopRule(**system.settings["rule"])
    attempts = {}

    def answer(index):
        attempts[index] = attempt(step, step.examples[index])
        return attempts[index].success

    asked = worked_off(plan_of(system.settings, rule, 0, 0), len(step.examples), answer, rng)
    for index in set(asked) - set(attempts):
        answer(index)  # it was under way at the end
    return select(
        (attempts[index] for index in range(rule.prefix)),
        max_bootstrapped_demos=step.max_bootstrapped_demos,
        max_errors=step.max_errors,
    )


def planned(optimizer, **given):
    return optimizer, lambda: optimizer.carry(optimizer.planned(One(), **given), One(), given["trainset"], {})


def adaptive(name):
    optimizer = dspex.AdaptiveOptimizer(is_yes)
    return optimizer, lambda: optimizer.carry(optimizer.steps(One(), TRAIN, VAL, Choice(name, "")), One(), TRAIN, {})


MADE = {
    "BootstrapFewShot": lambda: planned(dspex.BootstrapFewShot(is_yes), trainset=TRAIN),
    "a bootstrap of many demos": lambda: planned(dspex.BootstrapFewShot(is_yes, None, None, 16), trainset=TRAIN),
    "random search": lambda: planned(
        dspex.BootstrapFewShotWithRandomSearch(is_yes, num_candidate_programs=6), trainset=TRAIN, valset=VAL
    ),
    "random search over the trainset": lambda: planned(
        dspex.BootstrapFewShotWithRandomSearch(is_yes, num_candidate_programs=6), trainset=TRAIN[:20]
    ),
    "MIPROv2": lambda: planned(dspex.MIPROv2(is_yes, auto="light"), trainset=TRAIN, valset=VAL),
    "DistributedBootstrap": lambda: planned(
        dspex.DistributedBootstrap(is_yes, target_demos=4, chunk_size=40), trainset=TRAIN
    ),
    "AdaptiveOptimizer, a bootstrap": lambda: adaptive("bootstrap"),
    "AdaptiveOptimizer, random search": lambda: adaptive("random_search"),
    "AdaptiveOptimizer, MIPROv2": lambda: adaptive("mipro"),
}


@pytest.mark.parametrize("name", MADE)
def test_it_asks_hardly_more_than_one_after_the_other_does(name, monkeypatch):
    asked = []
    for way in (done, lambda step: tried(step) if isinstance(step, Bootstrap) else done(step)):
        monkeypatch.setattr(optimised_in_memory, "done", way)
        lm = Noted()
        with dspex.context(lm=lm):
            best, made = carried(MADE[name](), monkeypatch)
        assert any(isinstance(step, Bootstrap) for step in made)
        asked.append((lm.asked, best.dump_state()))
    (needed, one), (more, other) = asked
    assert one == other
    assert needed <= more
    assert len(more) <= 1.05 * len(needed)
