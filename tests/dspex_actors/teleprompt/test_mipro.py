"""MIPROv2 chooses what DSPy's chooses, asks for nothing twice, and refuses in one line what cannot be."""

import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimised_in_memory import carried
from optimised_kit import CHOICES, MIPRO, PROGRAMS, Scripted, chosen, is_yes, mipro, questions
from property_kit import examples
from scripted_answers import text

import dspex_actors as dspex
from dspex_actors.runs.identity.parts import program_identity
from dspex_actors.teleprompt.mipro.code import code_of, known_code, sources_of
from dspex_actors.teleprompt.mipro.plan import make_plan, split_at
from dspex_actors.teleprompt.mipro.proposals import NO_DEMOS
from dspex_actors.teleprompt.mipro.search import Search
from dspex_actors.teleprompt.mipro.trials import Trials, drawn_at_random
from dspex_actors.teleprompt.scoring import Scores
from dspex_actors.teleprompt.steps import Ask, Evaluate

LIGHT = {
    "auto": "light",
    "num_candidates": None,
    "num_trials": None,
    "zero_shot": False,
    "minibatch": True,
    "minibatch_size": 35,
    "full_every": 5,
}


@pytest.fixture
def lm():
    scripted = Scripted()
    with dspex.context(lm=scripted):
        yield scripted


def compiled(name, monkeypatch, **settings):
    return carried(mipro(name, settings), monkeypatch)


@pytest.mark.parametrize("name", MIPRO)
def test_it_chooses_what_dspy_chooses(name, lm, monkeypatch):
    best, _ = compiled(name, monkeypatch)
    theirs = CHOICES["mipro"][name]
    logs = {
        str(number): {key: value for key, value in log.items() if key[0].isdigit() or key.endswith("score")}
        for number, log in best.trial_logs.items()
    }
    assert logs == theirs["logs"]
    assert (chosen(best), best.score) == (theirs["chosen"], theirs["score"])


def test_no_example_is_scored_twice_with_the_same_program_and_the_first_trials_are_scored_at_once(lm, monkeypatch):
    best, made = compiled("two predictors", monkeypatch)
    scored = [
        (str(chosen(step.program)), example.question)
        for step in made
        if isinstance(step, Evaluate)
        for example in step.examples
    ]
    assert len(scored) == len(set(scored))
    assert best.total_calls > len(scored)


def test_the_trials_that_chance_decides_are_scored_at_once():
    plan = make_plan(**{**LIGHT, "predictors": 1, "val_count": 100})
    student, rng = PROGRAMS["One"](), random.Random(1)
    words, sets = [[f"Rule {number}" for number in range(3)]], [[[] for _ in range(6)]]
    scores = Scores(questions(0, 100), is_yes)
    step = next(Search(plan, student, words, sets, scores, seed=9, rng=rng).steps())
    first = [next(item) for item in step.items]
    # A study draws its first ten: the program as it is and a whole evaluation are among them.
    assert len(first[0].examples) == 100
    assert 3 <= len(first) <= 9
    assert scores.asked == sum(len(one.examples) for one in first) <= 100 + 8 * 35


@pytest.mark.soak
def test_the_same_is_done_again_with_several_trials_in_flight(lm, monkeypatch):
    (first, made), (second, again) = (compiled("two predictors", monkeypatch, trials_in_flight=4) for _ in range(2))
    assert first.trial_logs.keys() == second.trial_logs.keys()
    assert (chosen(first), first.score, len(made)) == (chosen(second), second.score, len(again))
    asked = [log for log in first.trial_logs.values() if "0_predictor_demos" in log]
    assert len(asked) == MIPRO["two predictors"]["compile"]["num_trials"]
    # Those that chance decides are DSPy's.
    theirs = CHOICES["mipro"]["two predictors"]["logs"].values()
    drawn = [[log[key] for key in sorted(log) if key[0].isdigit()] for log in theirs if "0_predictor_demos" in log]
    assert [[log[key] for key in sorted(log) if key[0].isdigit()] for log in asked][:7] == drawn[:7]


def test_proposals_that_cannot_be_read_are_left_out_and_without_any_there_is_an_error(monkeypatch):
    def refuses(messages, rollout):
        return "I cannot" if "proposed_instruction" in messages[0]["content"] else text(messages, rollout)

    with dspex.context(lm=Scripted(refuses)):
        best, _ = compiled("light", monkeypatch)
        assert chosen(best)[0][0] == "Answer it."
        with pytest.raises(dspex.RunFailed, match="MIPROv2: no proposal could be read; give a prompt_model"):
            compiled("zero shot", monkeypatch)


@pytest.mark.soak
def test_what_is_proposed_from_is_told_as_settings_say(lm, monkeypatch):
    _, made = compiled("labelled", monkeypatch)
    (proposed, *others) = [step for step in made if isinstance(step, Ask) and len(step.rows) > 1]
    rows = [row for step in (proposed, *others) for row in step.rows]
    assert {row["task_demos"] for row in rows} == {NO_DEMOS}
    assert "program_code" not in proposed.program.propose.signature.input_fields
    _, made = compiled("zero shot", monkeypatch)
    asked = [row for step in made if isinstance(step, Ask) for row in step.rows if "program_code" in row]
    assert all("class One(dspex.Module):" in row["program_code"] for row in asked)
    assert all("Signature(question -> answer" in row["program_code"] for row in asked)


@given(st.integers(0, 2**31), st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9), min_size=1), st.data())
@settings(max_examples=examples(20))
def test_what_is_drawn_ahead_is_what_is_asked_for_whatever_is_scored(seed, sizes, data):
    count, every = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 6))

    def is_full_after(trial):
        return trial % every == 0

    ahead = drawn_at_random(seed, sizes, count, is_full_after)
    study, rng = Trials(seed, sizes), random.Random(seed)
    study.add(dict.fromkeys(sizes, 0), rng.random())
    for number, expected in enumerate(ahead, 1):
        asked = study.ask()
        assert asked.choices == expected
        if is_full_after(number):
            study.add(dict.fromkeys(sizes, 0), rng.random())
        study.tell(asked, rng.random())
    assert len(ahead) == count or study.known >= 10


@pytest.mark.parametrize(
    ("auto", "predictors", "zero_shot", "count", "expected"),
    [
        # Trials, instructions, sets of demos, examples of a valset, of a minibatch: DSPy's numbers.
        ("light", 1, False, 500, (10, 3, 6, 100, 35)),
        ("light", 1, True, 50, (9, 6, 6, 100, None)),
        ("light", 2, False, 51, (20, 3, 6, 100, 35)),
        ("medium", 1, False, 500, (18, 6, 12, 300, 35)),
        ("medium", 3, True, 40, (21, 12, 12, 300, None)),
        ("heavy", 1, False, 9000, (27, 9, 18, 1000, 35)),
        ("heavy", 4, False, 9000, (66, 9, 18, 1000, 35)),
    ],
)
def test_auto_has_dspys_numbers(auto, predictors, zero_shot, count, expected):
    plan = make_plan(**{**LIGHT, "auto": auto, "predictors": predictors, "zero_shot": zero_shot, "val_count": count})
    assert (plan.trials, plan.instructions, plan.demo_sets, plan.val_size, plan.minibatch) == expected
    full = [trial for trial in range(1, plan.trials + 1) if plan.is_full_after(trial)]
    assert full == [] if plan.minibatch is None else full[-1] == plan.trials


@pytest.mark.parametrize(("count", "left"), [(2, 1), (3, 1), (5, 1), (10, 2), (1250, 250), (5000, 4000)])
def test_without_a_valset_most_of_the_trainset_is_one(count, left):
    assert split_at(count) == left


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ({"metric": None}, {}, "metric: MIPROv2 compares programs by it"),
        ({"auto": "large"}, {}, "auto is invalid: got 'large', expected one of light, medium, heavy, or None"),
        ({"num_candidates": 4}, {}, "num_candidates and num_trials are invalid: got 4 and None, expected None"),
        ({}, {"num_trials": 4}, "num_candidates and num_trials are invalid: got None and 4, expected None"),
        ({"auto": None}, {}, "num_candidates is invalid: got None, expected a whole number of at least 1"),
        ({"auto": None, "num_candidates": 4}, {}, "num_trials is invalid: got None, .* about 8"),
        ({"num_candidates": 0}, {}, "num_candidates: expected a whole number of at least 1, got 0"),
        ({"trials_in_flight": 0}, {}, "trials_in_flight: expected a whole number of at least 1, got 0"),
        ({"init_temperature": "hot"}, {}, "init_temperature is invalid: got 'hot'"),
        ({"seed": 1.5}, {}, "seed: expected a whole number of at least 0, got 1.5"),
        ({"max_labeled_demos": -1}, {}, "max_labeled_demos: expected a whole number of at least 0, got -1"),
        ({"teacher_settings": {"tempo": 1}}, {}, "teacher_settings: tempo cannot be set"),
        ({}, {"trainset": []}, "trainset: expected at least one example, got none"),
        ({}, {"trainset": questions(0, 1)}, "trainset: expected at least 2 examples where there is no valset, got 1"),
        ({}, {"valset": []}, "valset: expected at least one example, got none"),
        (
            {"auto": None, "num_candidates": 2},
            {"num_trials": 2, "minibatch_size": 9},
            "minibatch_size is invalid: got 9, expected at most the 8 examples of the valset",
        ),
        ({}, {"minibatch_full_eval_steps": 0}, "minibatch_full_eval_steps: expected a whole number of at least 1"),
        ({}, {"view_data_batch_size": 0}, "view_data_batch_size: expected a whole number of at least 1"),
        ({}, {"requires_permission_to_run": True}, "requires_permission_to_run is invalid"),
        ({}, {"teacher": PROGRAMS["Two"]()}, "student and teacher need the same predictors"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_asked(given, options, words, lm):
    with pytest.raises(dspex.ConfigError, match=words) as error:
        dspex.MIPROv2(**{"metric": is_yes, **given}).compile(
            PROGRAMS["One"](), **{"trainset": questions(0, 10), **options}
        )
    assert "\n" not in str(error.value)
    assert lm.asked == 0


def test_a_program_that_was_sent_is_shown_with_the_code_that_it_has_where_it_came_from():
    spaces = {"dspex": dspex}
    exec("class Sent(dspex.Module):\n    def __init__(self):\n        self.say = dspex.Predict('a -> b')", spaces)
    sent = spaces["Sent"]()
    assert "class Sent(Module): ..." in code_of(sent)
    here = sources_of(PROGRAMS["Two"]())
    assert [name.rpartition(":")[2] for name in here] == ["Two"]
    with known_code({f"{type(sent).__module__}:Sent": here[next(iter(here))]}):
        assert "return self.say(question=question, hint=" in code_of(sent)
    assert "class Sent(Module): ..." in code_of(sent)


def test_states_of_all_that_was_scored_are_written_and_the_best_travels_without_the_others(lm, monkeypatch, tmp_path):
    best, _ = compiled("zero shot", monkeypatch, log_dir=tmp_path)
    states = sorted((tmp_path / "evaluated_programs").iterdir())
    assert [path.name for path in states][:2] == ["program_-1.json", "program_10.json"]
    assert len(states) == len(best.trial_logs)
    quiet, _ = compiled("two predictors", monkeypatch, log_dir=tmp_path / "batches", track_stats=False)
    assert not {"trial_logs", "candidate_programs", "total_calls"} & set(vars(quiet))
    names = {path.name for path in (tmp_path / "batches" / "evaluated_programs").iterdir()}
    # DSPy's: the best so far on all examples after four trials, each.
    assert {name for name in names if "full" in name} == {f"program_{at}_full_eval.json" for at in (6, 11, 16, 19)}
    assert best.deepcopy().trial_logs is best.trial_logs
    assert len(pickle.loads(pickle.dumps(best.trial_logs))) == 0
    plain = best.deepcopy()
    for name in ("trial_logs", "score", "candidate_programs", "mb_candidate_programs"):
        delattr(plain, name)
    assert program_identity(best) == program_identity(plain)
    plain.score = 0.7  # a setting of a program of this name
    assert program_identity(best) != program_identity(plain)
