"""An API key is in the environment of the node, in the header of a request, and nowhere else."""

import json
import pickle
import sys
from pathlib import Path

import pytest
import warm
from e2e_kit import Answering, check_whole, metric, tickets, triage

import dspex_actors as dspex
from supervisors.host import processes

#: The usual look of a key, and one that no pattern knows.
KEYS = ["sk-test-abcdefgh12345678", "Zq9kXw73LmPz51Tb"]


class Crashing(dspex.Module):
    """Asks first, so that the worker has resolved the key; then lets it out in every way a program can."""

    def __init__(self):
        super().__init__()
        self.ask = dspex.Predict("ticket -> team")

    async def aforward(self, ticket):
        import os

        key = os.environ["OPENAI_API_KEY"]
        prediction = await self.ask.acall(ticket=ticket)
        match int(ticket.split()[1]) % 3:
            case 0:
                raise RuntimeError(f"request with Authorization: Bearer {key} failed")
            case 1:
                raise dspex.ConfigError(f"the key {key} is wrong")
        return prediction


def leaks(folder, key):
    """Return the files below a folder that have the key in them."""
    return [str(path) for path in Path(folder).rglob("*") if path.is_file() and key.encode() in path.read_bytes()]


def completion(headers):
    """An answer that repeats the key: servers that are debugged do."""
    text = "[[ ## team ## ]]\nbilling\n\n[[ ## completed ## ]]"
    return json.dumps({"model": "x", "choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()


@pytest.mark.parametrize(
    ("status", "key"),
    [
        (200, KEYS[0]),
        *(
            pytest.param(*each, marks=pytest.mark.soak)
            for each in [(200, KEYS[1]), (401, KEYS[0]), (401, KEYS[1]), (500, KEYS[0]), (500, KEYS[1])]
        ),
    ],
)
def test_no_leak(home, monkeypatch, capfd, key, status):
    monkeypatch.setenv("OPENAI_API_KEY", key)

    def refusal(headers):
        return json.dumps({"error": {"message": f"Incorrect API key: {headers['Authorization']} ({key})"}}).encode()

    server = Answering(status, completion if status == 200 else refusal)
    texts = []
    with (
        server as url,
        dspex.connect(
            lm=dspex.LM("openai/x", base_url=url, api_key="env:OPENAI_API_KEY", deadline=0.3), workers=1
        ) as system,
    ):
        daemon = system.node.info["pid"]
        for program, count in [(triage(), 9), (Crashing(), 9), (triage(), 30)]:
            try:
                result = dspex.evaluate(program, tickets(count), metric(), failures="skip")
                check_whole(result, count)
                texts += [repr(result), repr(list(result.results)), result.to_json(), json.dumps(result.summary())]
            except dspex.RunFailed as error:
                texts += [str(error), repr(error), str(pickle.dumps(error))]
        try:
            texts.append(repr(system.lm("hello")))
        except dspex.DspexError as error:
            texts += [str(error), repr(error.to_record()), str(pickle.dumps(error))]
        texts += [repr(system.lm), str(pickle.dumps(system.lm)), json.dumps(system.lm.to_dict())]
        texts += [json.dumps(system.runs()), json.dumps(system.node.tree()), repr(system.node.reports())]
        for pid in [daemon, *processes.descendants(daemon)]:
            texts.append(Path(f"/proc/{pid}/cmdline").read_text())
            texts.append(Path(f"/proc/{pid}/comm").read_text())
        assert any(seen.get("authorization") == f"Bearer {key}" for seen in server.seen)
        run_id = system.runs()[-1]["run_id"]
        assert leaks(home, key) == [], "while it runs"
    for words in (
        ()
        if status == 200
        else (["runs", "show", run_id, "--json"], ["runs", "export", run_id], ["runs", "show", run_id], ["logs"])
    ):
        done = warm.run(
            [sys.executable, "-m", "dspex_actors", *words], capture_output=True, text=True, timeout=20, check=False
        )
        texts += [done.stdout, done.stderr]
    texts += list(capfd.readouterr())
    assert leaks(home, key) == []
    assert [text[:200] for text in texts if key in text] == []
