"""DSPy's own programs on our workers: as they are, by our LMs. Needs DSPy; without it nothing of this runs."""

import os
import subprocess
import sys

import pytest
from e2e_kit import Host, LMServer, metric, tickets

import dspex_actors as dspex
from dspex_actors.dspy.program import as_program
from dspex_actors.errors import ConfigError
from dspex_actors.runs.spec import dump_code

dspy = pytest.importorskip("dspy")
ANSWER = "[[ ## team ## ]]\nbilling\n\n[[ ## completed ## ]]"


class Triage(dspy.Module):
    """Two predictors, sync only."""

    def __init__(self):
        super().__init__()
        self.first = dspy.Predict("ticket -> team")
        self.second = dspy.ChainOfThought("ticket, team -> kind")

    def forward(self, ticket):
        team = self.first(ticket=ticket).team
        return dspy.Prediction(team=team.lower())


class ATriage(Triage):
    """The same, for an event loop."""

    async def aforward(self, ticket):
        made = await self.first.acall(ticket=ticket)
        return dspy.Prediction(team=made.team.lower())


class Shared:
    def __init__(self, folder):
        self.server = LMServer("--answer", ANSWER, "--book")
        self.host = Host(folder / "home", workers=2).start()

    def lm(self, **settings):
        return dspex.LM("openai/x", base_url=self.server.url, **{"cache": False, **settings})


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("A_KEY", "sk-theirs")
        made = Shared(tmp_path_factory.mktemp("dspys"))
        try:
            yield made
        finally:
            made.host.close()
            made.server.close()


def evaluated(shared, program, data, **settings):
    with dspex.connect(home=shared.host.home) as system:
        return dspex.evaluate(program, data, metric(), system=system, display_progress=False, **settings)


@pytest.mark.parametrize("program", [dspy.Predict("ticket -> team"), Triage(), ATriage()])
def test_a_program_of_dspys_is_evaluated_as_one_of_ours(shared, program):
    data = [dspy.Example(ticket=f"t{number}", team="billing").with_inputs("ticket") for number in range(20)]
    result = evaluated(shared, program, data, lm=shared.lm())
    assert (result.n, result.failed, result.score, result.asked) == (20, 0, 100.0, 20)
    assert result.results[0].prediction.team == "billing"
    assert result.usage["input_total"] > 0


def test_what_dspy_is_told_holds_and_the_key_goes_nowhere(shared, monkeypatch):
    with dspy.context(
        lm=dspy.LM("openai/x", api_base=shared.server.url, api_key="sk-theirs", cache=False, max_tokens=77)
    ):
        program = as_program(Triage())
        assert b"sk-theirs" not in dump_code(program)
        result = evaluated(shared, Triage(), tickets(6))
    assert (result.n, result.failed) == (6, 0)
    assert (program.lm.lm.parameters["max_tokens"], program.lm.lm.api_key) == (77, "env:A_KEY")
    monkeypatch.delenv("A_KEY")
    with (
        dspy.context(lm=dspy.LM("openai/x", api_key="sk-theirs")),
        pytest.raises(ConfigError, match=r"api_key of dspy\.LM"),
    ):
        as_program(Triage())


def test_its_own_code_is_looked_at_without_a_warning(shared, caplog):
    as_program(Triage())
    evaluated(shared, Triage(), tickets(2), lm=shared.lm())
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_without_an_lm_it_is_refused_before_anything_is_asked(shared):
    with pytest.raises(ConfigError, match="no LM is set"):
        evaluated(shared, Triage(), tickets(2))


def test_a_run_goes_on_with_the_same_program_only(shared):
    first = evaluated(shared, Triage(), tickets(4), lm=shared.lm(), run_id="theirs")
    again = evaluated(shared, Triage(), tickets(4), lm=shared.lm(), run_id="theirs")
    assert (again.asked, again.score) == (first.asked, first.score)
    other = Triage()
    other.first.signature = other.first.signature.with_instructions("Another one.")
    with pytest.raises(ConfigError, match="another program"):
        evaluated(shared, other, tickets(4), lm=shared.lm(), run_id="theirs")


def test_errors_are_ours_and_decide_as_ours(shared):
    away = dspex.LM("openai/x", base_url="http://127.0.0.1:9/v1", deadline=0.5, cache=False)
    result = evaluated(shared, Triage(), tickets(2), lm=away)
    # Which one depends on how many attempts a busy host has made until the deadline: some open the circuit.
    assert result.failed == 2
    assert {one.error["type"] for one in result.errors} <= {"DeadlineExceeded", "CircuitOpen"}


def test_our_lm_is_dspys_lm(shared):
    from dspex_actors.dspy import LM

    with dspex.connect(home=shared.host.home), dspy.context(lm=LM(shared.lm())):
        program = dspy.Predict("ticket -> team")
        assert program(ticket="one").team == "billing"
        before = len(shared.server.booked())
        assert len(program(ticket="one", config={"n": 3, "temperature": 1.0}).completions) == 3
        assert len(shared.server.booked()) == before + 3
        evaluator = dspy.Evaluate(devset=[dspy.Example(ticket="a", team="billing").with_inputs("ticket")] * 4)
        assert evaluator(program, metric=lambda example, made, trace=None: example.team == made.team).score == 100.0


def test_nothing_of_dspys_is_loaded_without_it():
    code = "import sys, dspex_actors.client.evaluate, dspex_actors.dspy; sys.exit('dspy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, check=False).returncode == 0
