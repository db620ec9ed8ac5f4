"""A run id that is there already: answered from the journal, continued by another process, or refused."""

import json

import pytest
from e2e_kit import ANSWER, Background, metric, run_script, tickets, triage, until

import dspex_actors as dspex

#: A user's script: its own program class and a lambda as metric. Arguments: LM server, run id, examples.
SCRIPT = """
import json, os, sys
import dspex_actors as dspex

class Desk(dspex.Module):
    def __init__(self):
        super().__init__()
        self.sort = dspex.Predict("ticket -> team")

    def forward(self, ticket):
        return self.sort(ticket=ticket.strip())

if __name__ == "__main__":
    url, run_id, count = sys.argv[1:]
    data = [{"ticket": f"ticket {n}", "team": "billing" if n % 2 else "bugs"} for n in range(int(count))]
    with dspex.connect(lm=dspex.LM("openai/x", base_url=url, cache=False)) as system:
        print(system.node.info["pid"], flush=True)
        try:
            same_team = lambda example, prediction, trace=None: example.team == prediction.team
            result = dspex.evaluate(Desk(), data, same_team, run_id=run_id, max_in_flight=16)
            print(json.dumps(result.summary()), flush=True)
        except dspex.DspexError as error:
            print(json.dumps({"error": str(error), "type": type(error).__name__}), flush=True)
"""


def run(tmp_path, *args, script=SCRIPT):
    file = tmp_path / "desk.py"
    file.write_text(script)
    process = run_script(
        f"import runpy, sys; sys.argv[0] = 'desk.py'; runpy.run_path({str(file)!r}, run_name='__main__')", *args
    )
    process.stdout.readline()
    return process


def summary(process):
    return json.loads(process.communicate(timeout=60)[0])


@pytest.mark.soak
def test_a_script_again_and_again(host, server, tmp_path):
    lm_server = server("--latency-ms", 50, "--answer", ANSWER)
    first = run(tmp_path, lm_server.url, "mine", 200)
    until(lambda: lm_server.requests > 60)
    first.kill()
    first.communicate()
    with dspex.connect() as system:
        system.pause("mine")
        done = system.runs()[0]["done"]
        assert 0 < done < 200
    asked = lm_server.requests
    second = summary(run(tmp_path, lm_server.url, "mine", 200))
    assert (second["state"], second["done"], second["score"]) == ("finished", 200, 50.0)
    assert lm_server.requests - asked == 200 - done
    assert summary(run(tmp_path, lm_server.url, "mine", 200)) == second
    assert lm_server.requests - asked == 200 - done

    other = summary(run(tmp_path, lm_server.url, "mine", 199))
    assert other["type"] == "ConfigError"
    assert "another dataset (number of examples was 200 and is 199):" in other["error"]
    changed = SCRIPT.replace("ticket.strip()", "ticket.upper()")
    other = summary(run(tmp_path, lm_server.url, "mine", 200, script=changed))
    assert "another program (class Desk has changed):" in other["error"]
    changed = SCRIPT.replace("example.team == prediction.team", "example.team != prediction.team")
    other = summary(run(tmp_path, lm_server.url, "mine", 200, script=changed))
    assert "another metric (source has changed):" in other["error"]
    assert lm_server.requests - asked == 200 - done


@pytest.mark.soak
def test_what_differs_is_named(home, server):
    lm_server = server("--answer", ANSWER)
    with dspex.connect(lm=lm_server.lm()) as system:
        first = dspex.evaluate(triage(), tickets(20), metric(), run_id="one")
        again = dspex.evaluate(triage(), tickets(20), metric(), run_id="one")
        assert again.summary() == first.summary()
        assert lm_server.requests == 20
        for program, data, score, what in [
            (dspex.Predict("ticket -> team: str, why: str"), tickets(20), metric(), r"another program \(.*signature"),
            (triage(), tickets(21), metric(), r"another dataset \(number of examples was 20 and is 21\):"),
            (triage(), tickets(20), dspex.metrics.contains("team"), r"another metric \(class has changed\):"),
            (triage(), tickets(19), dspex.metrics.contains("team"), r"another dataset \(.*\) and another metric \("),
        ]:
            with pytest.raises(dspex.ConfigError, match=f"run one is there already with {what}"):
                dspex.evaluate(program, data, score, run_id="one")
        assert lm_server.requests == 20
        assert len(system.runs()) == 1
        assert list((system.data_dir / "spool").iterdir()) == [], "the copy of some examples is left"


def test_two_who_wait_for_one_run(host, server):
    lm_server = server("--latency-ms", 50, "--answer", ANSWER)
    with dspex.connect(lm=lm_server.lm()):
        waiting = [
            Background(dspex.evaluate, triage(), tickets(200), metric(), run_id="both", max_in_flight=16)
            for _ in range(2)
        ]
        first, second = [one.result() for one in waiting]
        assert first.summary() == second.summary()
        assert (first.n, lm_server.requests) == (200, 200)


def test_a_connection_that_is_closed_says_so(home):
    system = dspex.connect(workers=1)
    system.close()
    for ask in (
        lambda: dspex.evaluate(triage(), tickets(2), metric(), lm=dspex.LM("embedded/nearest"), system=system),
        lambda: system.resume("x"),
        lambda: system.cancel("x"),
    ):
        with pytest.raises(dspex.ConfigError, match="this connection is closed"):
            ask()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workers": 0}, "workers is 1 or more"),
        ({"embedded": {"latency": 3}}, "embedded: latency is not usable; there are .*latency_ms"),
        ({"embedded": {"rpm": -1}}, "rpm must be more than 0"),
    ],
)
def test_settings_that_no_node_can_run_with(home, settings, words):
    with pytest.raises(dspex.ConfigError, match=words):
        dspex.connect(**settings)
    assert not (home / "embedded").exists()


def test_copies_of_examples_go_when_their_run_is_finished(home, server):
    lm = server("--answer", ANSWER).lm()
    with dspex.connect(lm=lm, workers=1) as system:
        spools = system.data_dir / "spool"
        with pytest.raises(dspex.RunFailed):
            dspex.evaluate(triage(), tickets(3), metric(), run_id="one", lm=lm.copy(api_key="env:NOT_THERE_AT_ALL"))
        assert len(list(spools.iterdir())) == 1
        assert dspex.evaluate(triage(), tickets(3), metric(), run_id="one").n == 3
        assert list(spools.iterdir()) == []
        assert dspex.evaluate(triage(), tickets(3), metric(), run_id="one").n == 3
        assert list(spools.iterdir()) == []
        unsent = (number for number in ())
        with pytest.raises(dspex.ConfigError, match="the metric cannot be sent"):
            dspex.evaluate(triage(), tickets(3), lambda *_: unsent is None)
        assert list(spools.iterdir()) == []
