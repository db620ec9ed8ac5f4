"""`dspex.optimize`, each optimiser by each of its ways: it works, or refuses in one line that says what to do."""

import pytest

import dspex_actors as dspex
from dspex_actors.teleprompt import bootstrap
from dspex_actors.teleprompt.adaptive import Choice
from dspex_actors.teleprompt.adaptive_optimizer import AdaptiveOptimizer
from dspex_actors.teleprompt.optimizer import Optimizer
from dspex_actors.teleprompt.registry import OPTIMIZERS, optimizer_class

TRAIN = [dspex.Example(question=f"q{place}", answer="yes").with_inputs("question") for place in range(4)]
#: What one has to say of them, beside the metric.
SETTINGS = {"gepa": {"max_metric_calls": 5}, "simba": {"bsize": 2}, "mipro": {"auto": "light"}}
#: These cannot be made without a metric.
MADE_WITH_METRIC = {"random_search", "distributed_bootstrap", "mipro", "simba", "gepa"}
TAKE_VALSET = {"random_search", "mipro", "gepa", "adaptive"}
#: These may go without a metric.
NEED_NONE = {"labeled", "bootstrap", "finetune", "knn"}


def metric(example, prediction, trace=None):
    return True


class Counting(dspex.BaseLM):
    """Answers with how many messages it is asked with."""

    def __init__(self):
        super().__init__("counting")

    def forward(self, messages, **params):
        return f"[[ ## answer ## ]]\n{len(messages)}\n\n[[ ## completed ## ]]"


class Vectors:
    """Counts how often it is asked: that is what is paid for."""

    def __init__(self):
        self.asked = 0

    def __call__(self, texts):
        self.asked += 1
        return [[1.0]] * len(texts)


@pytest.fixture
def begun(monkeypatch):
    """Have nothing carried out; return what was begun."""
    found = []

    def carry(self, steps, student, *rest, **more):
        found.append(self)
        program = student.deepcopy()
        program.detailed_results = None  # GEPA takes it away
        return program

    monkeypatch.setattr(Optimizer, "carry", carry)
    monkeypatch.setattr(bootstrap, "is_carried", lambda: True)
    monkeypatch.setattr(AdaptiveOptimizer, "_choose", lambda *_: Choice("copro", "it is a test"))
    monkeypatch.setattr("dspex_actors.teleprompt.adaptive_optimizer.current_system", lambda: None)
    return found


def ours():
    return dspex.Predict("question -> answer")


def theirs():
    return pytest.importorskip("dspy").Predict("question -> answer")


def asked(name, way, vectors):
    """Return an optimiser as one gives it, and the settings beside it."""
    settings = {"k": 2, "vectorizer": vectors} if name == "knn" else SETTINGS.get(name, {})
    if way == "name":
        return name, settings
    kind = optimizer_class(name)
    if way == "class":
        return kind, {}
    made = {**settings, **({"trainset": TRAIN} if name == "knn" else {})}
    return kind(**made, **({"metric": metric} if name in MADE_WITH_METRIC else {})), {}


def refusal(name, way, program, scored, valset):
    """Return words of the line that is to be expected; None: it works."""
    if way == "class":
        return "expected a name, such as 'mipro', or"
    if scored and name == "labeled":
        return "takes none, so expected None, got metric: leave it out"
    if valset and name not in TAKE_VALSET:
        return "takes none: leave it out"
    if name == "knn" and program is theirs:
        return "call dspy.KNNFewShot(...).compile(program)"
    if not scored and name not in NEED_NONE and not (way == "instance" and name in MADE_WITH_METRIC):
        return "compares programs by it: give it"
    return None


@pytest.mark.parametrize("program", [ours, theirs])
@pytest.mark.parametrize("way", ["name", "instance", "class"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_works_or_refuses_in_one_line_before_anything_is_paid(name, way, program, begun):
    for scored in (True, False):
        for valset in (None, TRAIN):
            begun.clear()
            vectors, given = Vectors(), program()
            optimizer, settings = asked(name, way, vectors)
            paid = vectors.asked
            full = {"metric": metric if scored else None, "optimizer": optimizer, "valset": valset, **settings}
            words = refusal(name, way, program, scored, valset)
            if words is None:
                found = dspex.optimize(given, TRAIN, **full)
                assert isinstance(found, type(given))
                assert found is not given
                if scored and begun:
                    assert begun[0].metric is metric
            else:
                with pytest.raises(dspex.ConfigError) as caught:
                    dspex.optimize(given, TRAIN, **full)
                assert words in str(caught.value)
                assert "\n" not in str(caught.value)
                assert (begun, vectors.asked) == ([], paid)


def test_one_that_chooses_as_the_program_runs_is_made_with_what_is_given(begun):
    vectors = Vectors()
    made = dspex.KNNFewShot(2, TRAIN, vectors, max_bootstrapped_demos=0)
    asking = Counting()
    for found in (
        dspex.optimize(ours(), None, optimizer=made),
        dspex.optimize(ours(), list(TRAIN), metric, made),
        dspex.optimize(ours(), TRAIN, metric, "knn", k=2, vectorizer=Vectors(), max_bootstrapped_demos=0),
    ):
        with dspex.context(lm=asking):
            assert found(question="q9").answer == "6"  # with two demos
    assert vectors.asked == 3  # the trainset once, and each question


@pytest.mark.parametrize("kept_as", [tuple, iter])
def test_the_same_examples_are_the_same_whatever_they_were_in(kept_as):
    made = dspex.KNNFewShot(2, kept_as(TRAIN), Vectors(), max_bootstrapped_demos=0)
    with dspex.context(lm=Counting()):
        assert dspex.optimize(ours(), TRAIN, optimizer=made)(question="q9").answer == "6"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"trainset": TRAIN[:2]}, "is made with its own, so expected None or the same, got another one"),
        ({"budget": 3.0}, "budget: KNNFewShot makes no runs, so expected none, got 3.0: leave it out"),
        ({"run_id": "tonight"}, "run_id: KNNFewShot makes no runs"),
        ({"optimizer": "knn"}, "KNNFewShot needs k and vectorizer: give dspex.optimize k=..., vectorizer=..."),
        ({"optimizer": "knn", "k": 2, "vectorizer": Vectors(), "trainset": []}, "at least one example"),
        ({"breath": 3}, "breath"),
    ],
)
def test_what_such_a_one_cannot_use_is_refused(given, words):
    made = dspex.KNNFewShot(2, TRAIN, Vectors())
    with pytest.raises((dspex.ConfigError, TypeError), match=words):
        dspex.optimize(**{"program": ours(), "trainset": None, "optimizer": made, **given})


def test_a_program_of_dspys_is_told_where_it_is_taken():
    with pytest.raises(dspex.ConfigError, match=r"of DSPy's: dspex.optimize\(program, trainset, metric, optimizer\)"):
        dspex.COPRO(metric=metric).compile(theirs(), trainset=TRAIN)
    with pytest.raises(dspex.ConfigError, match=r"call dspy.KNNFewShot\(...\).compile\(program\)"):
        dspex.KNNFewShot(2, TRAIN, Vectors()).compile(theirs())


def test_what_dspys_own_makes_of_its_program_answers_with_demos_as_the_refusal_says():
    dspy = pytest.importorskip("dspy")
    train = [dspy.Example(dict(one)).with_inputs("question") for one in TRAIN]
    made = dspy.KNNFewShot(2, train, nearest, max_bootstrapped_demos=0).compile(theirs())
    with dspy.context(lm=dspex.dspy.LM(Counting())):
        assert made(question="q9").answer == "6"  # with two demos


def nearest(texts):
    import numpy

    return numpy.ones((len(texts), 1))
