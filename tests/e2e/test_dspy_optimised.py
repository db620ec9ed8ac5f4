"""DSPy's own programs, optimised on our workers: the same choice as for ours, durable, saved as DSPy's. Needs DSPy."""

import sys
from pathlib import Path

import optimised
import pytest
import warm
from e2e_kit import Host, LMServer, lines, until
from optimised import Scripted, is_yes

import dspex_actors as dspex

dspy = pytest.importorskip("dspy")
dspy_optimised = pytest.importorskip("dspy_optimised")
Two, WAYS = dspy_optimised.Two, dspy_optimised.WAYS
better, questions, what = dspy_optimised.better, dspy_optimised.questions, dspy_optimised.what


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    made = Host(tmp_path_factory.mktemp("optimised") / "home", workers=2).start()
    yield made
    made.close()


#: The others are held against what DSPy chooses in memory, too.
FIRST = ("labeled", "bootstrap", "copro")


@pytest.mark.parametrize("way", [way if way in FIRST else pytest.param(way, marks=pytest.mark.soak) for way in WAYS])
def test_each_optimiser_chooses_for_a_program_of_dspys_what_it_chooses_for_ours(host, way, tmp_path):
    program = Two()
    before = what(program)
    with dspex.connect(home=host.home, lm=Scripted()):
        found = better(way, program)
        ours = better(way, optimised.Two())
    assert (type(found), found._compiled is True) == (Two, ours._compiled)
    assert what(found) == what(ours)
    assert what(program) == before
    found.save(str(tmp_path / "found.json"))  # DSPy's own
    again = Two()
    again.load(str(tmp_path / "found.json"))
    assert what(again) == what(found)
    for noted in getattr(found, "candidate_programs", ()):
        assert isinstance(noted["program"], Two)
    if way == "gepa":
        assert all(isinstance(one, Two) for one in found.detailed_results.candidates)


def test_it_goes_on_by_its_id_and_asks_nothing_twice_and_another_program_is_refused(host, tmp_path):
    book = tmp_path / "book"
    with dspex.connect(home=host.home, lm=Scripted(str(book))) as system:
        first = what(better("copro", Two(), "theirs"))
        asked = lines(book)
        assert what(better("copro", Two(), "theirs")) == first
        assert lines(book) == asked > 0
        other = Two()
        other.say.signature = other.say.signature.with_instructions("Another one.")
        with pytest.raises(dspex.ConfigError, match="instructions of say"):
            better("copro", other, "theirs")
        runs = [run for run in system.runs() if run["run_id"].startswith("theirs.")]
        assert {run["state"] for run in runs} <= {"finished", "cancelled"}


def test_the_node_does_it_too_and_gives_dspys_program_back(host):
    with dspex.connect(home=host.home, lm=Scripted()) as system:
        handle = system.start_optimization(dspex.COPRO(metric=is_yes, breadth=3, depth=2), Two(), questions())
        found = handle.wait(120)
        assert type(found) is Two
        assert what(found) == what(better("copro", Two()))


def test_whom_dspy_has_configured_is_asked_and_proposes(host):
    server = LMServer("--answer", "[[ ## answer ## ]]\nyes\n\n[[ ## proposed_instruction ## ]]\nDo it.\n\n"
                      "[[ ## proposed_prefix_for_output_field ## ]]\nSo:", "--book")  # fmt: skip
    try:
        lm = dspy.LM("openai/x", api_base=server.url, cache=False, max_tokens=55)
        with dspex.connect(home=host.home), dspy.context(lm=lm):
            found = dspex.optimize(
                dspy.Predict("question -> answer"),
                questions(4),
                is_yes,
                dspex.COPRO(breadth=2, depth=1, metric=is_yes),
                display_progress=False,
            )
        assert found.lm is None
        assert found.candidate_programs[0]["score"] == 100.0
        assert server.requests >= 9
    finally:
        server.close()


def test_what_cannot_be_optimised_is_refused_in_one_line(host):
    class Empty(dspy.Module):
        def forward(self, question):
            return dspy.Prediction(answer=question)

    done = Two()
    done._compiled = True
    nearest = dspex.KNNFewShot(2, optimised.questions(4), lambda texts: [[1.0]] * len(texts))
    cases = [
        ({"program": Empty()}, "has no predictors"),
        ({"program": Two}, "expected a program"),
        ({"program": done, "optimizer": "bootstrap"}, "optimised already"),
        ({"optimizer": "mirpo"}, "optimizer is invalid: got 'mirpo'"),
        ({"optimizer": dspex.COPRO}, "optimizer is invalid"),
        ({"optimizer": nearest}, "dspy.KNNFewShot(...).compile(program)"),
        ({"optimizer": "copro", "breath": 3}, "COPRO has no setting breath"),
        ({"optimizer": "copro", "valset": questions(2)}, "takes none: leave it out"),
        ({"optimizer": "copro", "metric": None}, "metric"),
        ({"optimizer": "copro", "trainset": []}, "at least one example"),
        ({"optimizer": "copro", "trainset": [dspy.Example(question="q")]}, "inputs are not marked"),
    ]
    with dspex.connect(home=host.home, lm=Scripted()):
        for given, words in cases:
            full = {"program": Two(), "trainset": questions(4), "metric": is_yes, "optimizer": "copro", **given}
            with pytest.raises(dspex.ConfigError) as caught:
                dspex.optimize(**full)
            assert words in str(caught.value)
            assert "\n" not in str(caught.value)
    with dspex.connect(home=host.home), pytest.raises(dspex.ConfigError, match="no LM is set"):
        better("copro", Two())


@pytest.mark.soak
def test_a_program_killed_while_it_optimises_one_of_dspys_goes_on_with_the_same_result(host, tmp_path):
    book, undisturbed = tmp_path / "book", tmp_path / "undisturbed"
    with dspex.connect(home=host.home, lm=Scripted(str(undisturbed))):
        expected = what(better("copro", Two(), "undisturbed theirs"))
    whole = lines(undisturbed)
    for share in (0.3, 0.6):
        with warm.Popen(
            [sys.executable, dspy_optimised.__file__, str(host.home), str(book)], cwd=Path(__file__).parent
        ) as program:
            try:
                until(lambda least=share * whole: lines(book) > least, 120)
                assert program.poll() is None
            finally:
                program.kill()
    with dspex.connect(home=host.home, lm=Scripted(str(book), 0.02)):
        assert what(better("copro", Two(), "killed theirs")) == expected
    assert abs(lines(book) - whole) <= 0.1 * whole
