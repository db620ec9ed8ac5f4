"""What AdaptiveOptimizer chooses, by what there is and what has gained before; and what it refuses."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex_actors import AdaptiveOptimizer, ConfigError, Example, Predict, RunFailed
from dspex_actors.journal.records import StepRow
from dspex_actors.runs.optimisations import CANDIDATE, pack_found
from dspex_actors.teleprompt.adaptive import GAIN, LEAST, OTHERWISE, Choice, Facts, Past, choose, takes_feedback
from dspex_actors.teleprompt.adaptive_optimizer import _past
from dspex_actors.teleprompt.registry import OPTIMIZERS
from dspex_actors.teleprompt.steps import Candidate

ALL = tuple(LEAST)
STUDENT = Predict("question -> answer")
TRAINSET = [Example(question="why", answer="so").with_inputs("question")]


def metric(example, prediction, trace=None):
    return True


def critic(gold, pred, trace=None, pred_name=None, pred_trace=None):
    return 1.0


@pytest.mark.parametrize(
    ("facts", "strategies", "strategy", "words"),
    [
        (Facts(1, 1), ALL, "bootstrap", "1 example are few"),
        (Facts(2, 49), ALL, "bootstrap", "49 examples are few"),
        (Facts(3, 49), ALL, "copro", "49 examples are too few to compare sets of demos, 3 predictors"),
        (Facts(3, 50), ALL, "random_search", "50 examples are enough to compare bootstraps, for 3 predictors"),
        (Facts(1, 199), ALL, "random_search", "199 examples"),
        (
            Facts(1, 200),
            ALL,
            "mipro",
            "200 examples are enough to try instructions and demos together, for 1 predictor",
        ),
        (Facts(1, 10_000, nodes=3), ALL, "distributed_bootstrap", "10,000 examples on 3 nodes"),
        (Facts(4, 10_000), ALL, "mipro", "10,000 examples"),
        (Facts(4, 10_000, has_feedback=True), ALL, "gepa", "in words what was wrong"),
        (Facts(1, 9, has_feedback=True), ALL, "bootstrap", "9 examples"),
        (Facts(1, 500), ("bootstrap", "random_search"), "random_search", "500 examples"),
        (Facts(1, 500), ("gepa",), "copro", "instructions are improved"),
    ],
)
def test_what_there_is_decides(facts, strategies, strategy, words):
    choice = choose(facts, [], strategies)
    assert choice.strategy == strategy
    assert words in choice.why


@pytest.mark.parametrize(
    ("past", "budget", "strategy"),
    [
        ([Past("copro", 5.0)], None, "copro"),
        ([Past("copro", 5.0), Past("random_search", 9.0)], None, "random_search"),
        ([Past("copro", 5.0), Past("copro", 15.0), Past("random_search", 9.0)], None, "copro"),
        ([Past("copro", GAIN / 2)], None, "mipro"),
        ([Past("copro", -3.0)], None, "mipro"),
        ([Past("distributed_bootstrap", 30.0), Past("copro", 2.0)], None, "copro"),  # that one takes more examples
        ([Past("random_search", 9.0, 12.0), Past("copro", 5.0, 1.0)], 10.0, "copro"),
        ([Past("random_search", 9.0, 12.0)], 10.0, "mipro"),
        ([Past("somebody_elses", 90.0)], None, "mipro"),
    ],
)
def test_what_has_gained_before_is_taken_again(past, budget, strategy):
    assert choose(Facts(1, 300, budget=budget), past, ALL).strategy == strategy


@given(
    facts=st.builds(
        Facts, st.integers(1, 9), st.integers(1, 20_000), st.integers(1, 9), st.booleans(),
        st.none() | st.floats(0, 100),
    ),
    past=st.lists(st.builds(Past, st.sampled_from(ALL), st.floats(-50, 50), st.floats(0, 50))),
    strategies=st.sets(st.sampled_from(ALL)),
)  # fmt: skip
def test_a_choice_is_always_one_that_can_be_made(facts, past, strategies):
    choice = choose(facts, past, strategies)
    assert choice.strategy in strategies | {OTHERWISE}
    assert facts.examples >= LEAST[choice.strategy]
    assert choice.why
    assert choose(facts, list(past), set(strategies)) == choice


def test_what_was_chosen_when_it_began_is_kept_whatever_is_known_by_now():
    told = Candidate("strategy copro, for 3 examples, for once", STUDENT, None, whole=False)
    step = StepRow("c1", CANDIDATE, 1, 0.0, 5.0, None, pack_found(told.name, None, False, STUDENT, "c1"))
    # Nothing else is looked at: not what has been optimised since, and not a budget that has grown.
    journal = SimpleNamespace(get_run=lambda run_id: run_id, steps=lambda run_id, most: [step])
    choice = AdaptiveOptimizer(metric)._choose(
        STUDENT, TRAINSET, SimpleNamespace(journal=journal), "night", {"budget": 1e6}
    )
    assert choice == Choice("copro", "3 examples, for once")


def test_earlier_optimisations_are_those_of_the_program_as_its_own_run_has_it():
    def row(run_id, at, digest):
        spec = SimpleNamespace(program_digest=digest, settings={"optimizer": "COPRO"})
        return SimpleNamespace(run_id=run_id, created_at=at, spec=spec, cost=2.0)

    found = [
        StepRow(f"c{place}", CANDIDATE, 1, 0.0, 5.0, None, pack_found("", score, True, STUDENT, f"c{place}"))
        for place, score in enumerate([40.0, 70.0])
    ]
    rows = {one.run_id: one for one in (row("mine", 5.0, "told there"), row("earlier", 1.0, "told there"))}
    journal = SimpleNamespace(
        get_run=rows.get, list_runs=lambda **which: list(rows.values()), steps=lambda run_id, most: found
    )
    assert _past(SimpleNamespace(journal=journal), STUDENT, "mine") == [Past("copro", 30.0, 2.0)]


def test_a_metric_with_feedback_is_known_by_what_it_is_told():
    assert takes_feedback(critic)
    assert not takes_feedback(metric)
    assert not takes_feedback(print)


def play(steps, fails):
    """Carry steps out; the optimiser whose steps come first fails."""
    told, came, failed = [], None, None
    while True:
        try:
            step = steps.send(came) if failed is None else steps.throw(failed)
        except StopIteration as done:
            return told, done.value
        came = failed = None
        if isinstance(step, Candidate) and step.name.startswith("strategy"):
            told.append(step.name)
        elif len(told) <= fails:
            failed = RunFailed("nothing passed")
        else:
            return told, None


def test_if_it_fails_copro_follows_and_if_that_fails_too_it_is_told():
    optimizer = AdaptiveOptimizer(metric, settings={"copro": {"breadth": 3}})
    examples = TRAINSET * 60
    told, _ = play(optimizer.steps(STUDENT, examples, None, Choice("random_search", "so it is")), 1)
    assert told == ["strategy random_search, for so it is", "strategy copro, for random_search failed: nothing passed"]
    with pytest.raises(RunFailed, match="nothing passed"):
        play(optimizer.steps(STUDENT, examples, examples[:9], Choice("copro", "so it is")), 1)


@pytest.mark.parametrize("strategy", sorted(set(LEAST) & set(OPTIMIZERS)))
def test_the_steps_of_each_strategy_can_be_had(strategy):
    examples = [Example(question=f"q{n}", answer="so").with_inputs("question") for n in range(60)]
    steps = AdaptiveOptimizer(metric).steps(STUDENT, examples, examples[:20], Choice(strategy, "so it is"))
    assert next(steps).name.startswith(f"strategy {strategy}")
    assert next(steps) is not None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AdaptiveOptimizer(metric, strategies=["magic"]), "there is no strategy 'magic': there are "),
        (lambda: AdaptiveOptimizer(metric, strategies="copro"), "expected a list of names"),
        (lambda: AdaptiveOptimizer(metric, settings={"knn": {}}), "there is no strategy 'knn'"),
        (lambda: AdaptiveOptimizer(metric, settings={"copro": {"breath": 3}}), "COPRO has no setting breath"),
        (lambda: AdaptiveOptimizer(metric, settings={"copro": {"breadth": 0}}), "breadth: expected a whole number"),
        (lambda: AdaptiveOptimizer().compile(STUDENT, trainset=TRAINSET), "compares programs by it"),
        (lambda: AdaptiveOptimizer(metric).compile(STUDENT, trainset=[]), "expected at least one example"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(make, words):
    with pytest.raises(ConfigError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
