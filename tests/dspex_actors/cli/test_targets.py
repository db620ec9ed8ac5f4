"""Programs from words and files, and servers that are none."""

import enum
import http.server
import json
import socket
import threading
from contextlib import contextmanager
from typing import Literal

import pytest

import dspex_actors as dspex
from dspex_actors.cli.preflight import check_server, keyless
from dspex_actors.cli.targets import load_metric, load_program
from dspex_actors.errors import ConfigError
from dspex_actors.programs.rebuild import rebuild


class Triage(dspex.Signature):
    """Sort a ticket."""

    ticket: str = dspex.InputField()
    hints: list[int] | None = dspex.InputField()
    team: Literal["a", "b's"] = dspex.OutputField(desc="who handles it")


class Team(enum.StrEnum):
    """A type of the user's own."""

    BILLING = "billing"


@pytest.mark.parametrize("make", [dspex.Predict, dspex.ChainOfThought])
def test_a_saved_program_is_made_again_from_its_file_alone(tmp_path, make):
    program = make(Triage)
    program.predictors()[0].demos = [{"ticket": "x", "hints": [1], "team": "a"}]
    program.save(tmp_path / "one.json")
    again = load_program(str(tmp_path / "one.json"))
    assert type(again) is make
    signature = again.predictors()[0].signature
    assert signature.fields["team"].annotation == Literal["a", "b's"]
    assert signature.instructions == "Sort a ticket."
    again.save(tmp_path / "two.json")
    assert (tmp_path / "two.json").read_text() == (tmp_path / "one.json").read_text()


def test_a_program_that_cannot_be_made_from_words_says_nothing_of_itself():
    own = Triage.with_updated_fields("team", Team)
    assert dspex.Predict(own)._describe() is None

    class Mine(dspex.Predict):
        pass

    assert Mine("a -> b")._describe() is None


def test_a_state_of_dspys_needs_a_signature(tmp_path):
    path = tmp_path / "theirs.json"
    dspex.Predict("ticket -> team").save(path)
    state = json.loads(path.read_text())
    state["metadata"] = {"dependency_versions": {"dspy": "3.0"}}
    path.write_text(json.dumps(state))
    with pytest.raises(ConfigError, match="--signature"):
        rebuild(path)
    assert list(rebuild(path, "ticket -> team").signature.fields) == ["ticket", "team"]


def test_metrics_are_built_in_or_imported():
    assert load_metric("exact_match:a,b").__name__ == "exact_match:a,b"
    assert load_metric("operator:eq")(1, 1)


class _Page(http.server.BaseHTTPRequestHandler):
    kind, status = "text/html", 200

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *words):
        pass


class _Api(_Page):
    kind, status = "application/json", 404


@contextmanager
def web(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield dspex.LM("openai/x", base_url=f"http://127.0.0.1:{server.server_address[1]}/v1")
    finally:
        server.shutdown()
        server.server_close()


def test_a_web_site_is_no_lm_server():
    with web(_Page) as lm, pytest.raises(ConfigError, match="web site"):
        check_server(lm)


def test_a_server_that_does_not_know_the_question_may_be_one():
    with web(_Api) as lm:
        check_server(lm)


def test_something_that_does_not_speak_http_is_no_lm_server():
    listening = socket.create_server(("127.0.0.1", 0))

    def greet():
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
            connection.recv(1000)

    thread = threading.Thread(target=greet, daemon=True)
    thread.start()
    lm = dspex.LM("openai/x", base_url=f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
    with pytest.raises(ConfigError, match="not HTTP"):
        check_server(lm)
    thread.join(60)
    listening.close()


def test_a_server_that_is_not_sent_the_usual_key_is_mentioned(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not-shown-123456")
    told = keyless(dspex.LM("openai/x", base_url="https://gateway.example/v1"))
    assert "OPENAI_API_KEY goes to api.openai.com only" in told
    assert "https://gateway.example:443" in told
    assert "not-shown" not in told
    assert keyless(dspex.LM("openai/x", base_url="http://127.0.0.1:9/v1")) is None
    assert keyless(dspex.LM("openai/x", base_url="https://gateway.example/v1", api_key="env:OTHER")) is None
    assert keyless(dspex.LM("openai/x")) is None
    monkeypatch.delenv("OPENAI_API_KEY")
    assert keyless(dspex.LM("openai/x", base_url="https://gateway.example/v1")) is None


def test_a_host_that_does_not_exist_is_named():
    lm = dspex.LM("openai/x", base_url="http://no-such-host.invalid/v1")
    with pytest.raises(ConfigError, match=r"no-such-host\.invalid"):
        check_server(lm)


def test_the_lm_that_was_named_is_asked_and_not_the_saved_programs_own(tmp_path):
    program = dspex.Predict("a -> b")
    program.lm = dspex.LM("openai/gpt-4o-mini")
    program.save(tmp_path / "one.json")
    assert load_program(str(tmp_path / "one.json")).lm == program.lm
    assert load_program(str(tmp_path / "one.json"), own_lm=False).lm is None
