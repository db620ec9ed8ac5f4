"""Saved programs: what DSPy wrote and what it reads; and what a file from somebody else must not do."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.example import Example
from dspex_actors.lm.lm import LM
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.programs.rebuild import rebuild
from tests.dspex_actors.program_fakes import FakeLM


def state(*labels: str, **more: Any) -> dict[str, Any]:
    fields = [{"prefix": label, "description": "d"} for label in labels]
    return {
        "traces": [],
        "train": [],
        "demos": [],
        "signature": {"instructions": "I", "fields": fields},
        "lm": None,
    } | more


def test_fields_match_by_position(caplog: pytest.LogCaptureFixture) -> None:
    old = ChainOfThought("question -> answer")
    old.load_state({"predict": state("Question:", "Reasoning: Let's think step by step in order to", "Answer:")})
    assert old.predict.signature.instructions == "I"
    assert not caplog.records
    renamed = Predict("query -> answer").load_state(state("Question:", "Answer:", demos=[{"question": 1, "answer": 2}]))
    assert renamed.demos == [{"question": 1, "answer": 2}]
    assert "'Question:' is query" in caplog.text
    assert "no demo has one of the input fields query" in caplog.text


def test_loading_returns_the_program_and_a_missing_predictor_is_a_key_error() -> None:
    predict = Predict("a -> b")
    assert predict.load_state(state("A:", "B:")) is predict
    program = ChainOfThought("a -> b")
    assert program.load_state({"predict": state("A:", "Reasoning:", "B:")}) is program
    with pytest.raises(KeyError, match="missing predict"):
        program.load_state({"other": state("A:", "B:")})
    with pytest.raises(ValueError, match="expected fields"):
        predict.load_state(state("A:", "B:", "C:"))


WRITER = """
import sys
import dspex_actors as dspex

class Twice(dspex.Module):
    def __init__(self):
        self.ask = dspex.Predict("question -> answer")

    def forward(self, question):
        return self.ask(question=question * 2)

program = Twice()
program.ask.demos = [{"question": "a", "answer": "b"}]
program.ask.lm = dspex.LM("openai/gpt-4o-mini", api_key="env:SOME_KEY")
program.save(sys.argv[1], save_program=True)
"""


def test_a_whole_program_is_opened_where_its_code_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "of" / "twice"
    subprocess.run([sys.executable, "-c", WRITER, str(folder)], check=True)
    about = json.loads((folder / "metadata.json").read_text())["dependency_versions"]
    assert about["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    program = dspex.load(folder, allow_pickle=True)
    assert program.ask.demos == [{"question": "a", "answer": "b"}]
    program.set_lm(lm := FakeLM("[[ ## answer ## ]]\nok"))
    assert program(question="ab").answer == "ok"
    assert "abab" in lm.asked[0][0][-1]["content"]


def test_a_whole_program_is_refused_where_it_is_not_trusted_or_not_to_be_had(tmp_path: Path) -> None:
    program, folder = Predict("a -> b"), tmp_path / "p"
    program.save(folder, save_program=True, modules_to_serialize=[textwrap])
    with pytest.raises(ConfigError, match="to open a whole program is to run its code"):
        dspex.load(folder)
    with pytest.raises(ConfigError, match=r"cannot read the program in '.*nowhere': metadata.json: No such file"):
        dspex.load(tmp_path / "nowhere", allow_pickle=True)
    (folder / "metadata.json").write_text('{"dependency_versions": {"python": "2.7"}}')
    with pytest.raises(ConfigError, match=r"was saved by Python 2\.7, this is 3\.\d+: code does not travel"):
        dspex.load(folder, allow_pickle=True)
    (folder / "metadata.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="no JSON"):
        dspex.load(folder, allow_pickle=True)
    program.save(folder, save_program=True, modules_to_serialize=[textwrap])
    (folder / "program.pkl").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cannot be opened: "):
        dspex.load(folder, allow_pickle=True)
    (folder / "program.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ConfigError, match="holds no program, but a dict"):
        dspex.load(folder, allow_pickle=True)


def test_what_cannot_be_saved_whole_is_refused_in_words_and_leaves_what_was_there(tmp_path: Path) -> None:
    good, folder = Predict("a -> b"), tmp_path / "p"
    good.save(folder, save_program=True)
    program = ChainOfThought("a -> b")
    program.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="cannot be saved whole: TypeError: cannot pickle"):
        program.save(folder, save_program=True)
    del program.lock  # type: ignore[attr-defined]
    program.token = "sk-proj-0123456789abcdef0123456789abcdef"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="it carries a key: its 'token' looks like a key"):
        program.save(folder, save_program=True)
    assert isinstance(dspex.load(folder, allow_pickle=True), Predict)
    with pytest.raises(ConfigError, match="give a name without an ending"):
        good.save(tmp_path / "p.json", save_program=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        good.save(tmp_path / "file", save_program=True)
    with pytest.raises(ConfigError, match="modules_to_serialize is invalid: got 'x'"):
        good.save(folder, save_program=True, modules_to_serialize="x")
    with pytest.raises(ConfigError, match="goes with save_program=True"):
        good.save(tmp_path / "p.json", modules_to_serialize=[dspex])


def test_call_parameters_are_saved_where_dspy_finds_them(tmp_path: Path) -> None:
    program = ChainOfThought("a -> b", temperature=0.7, max_tokens=99, api_key="sk-secret")
    program.save(tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text()
    assert json.loads(text)["predict"]["config"] == {"temperature": 0.7, "max_tokens": 99}
    assert "sk-secret" not in text
    again = rebuild(tmp_path / "p.json")
    assert again.predictors()[0].config == {"temperature": 0.7, "max_tokens": 99}
    kept = Predict("a -> b", temperature=0.1).load_state(state("A:", "B:"))
    assert kept.config == {"temperature": 0.1}


def test_an_lm_is_saved_with_its_settings_and_without_its_key(tmp_path: Path) -> None:
    predict = Predict("a -> b")
    predict.lm = LM("openai/gpt-4o-mini", temperature=0.5, max_tokens=7, api_key="env:MY_KEY", rpm=60, timeout=9.0)
    predict.save(tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text()
    saved = json.loads(text)
    assert "MY_KEY" not in text
    # What DSPy makes its LM from: no setting that it would send to the provider.
    assert saved["lm"] == {
        "_dspy_lm_class": "dspy.clients.lm.LM",
        "model": "openai/gpt-4o-mini",
        "model_type": "chat",
        "temperature": 0.5,
        "max_tokens": 7,
        "cache": True,
    }
    assert saved["dspex"] == {"lm": {"rpm": 60, "timeout": 9.0}}
    again = Predict("a -> b")
    again.load(tmp_path / "p.json")
    assert again.lm == predict.lm.copy(api_key=None)
    assert again.lm.kwargs == {"temperature": 0.5, "max_tokens": 7}
    other = Predict("a -> b")
    other.lm = mine = LM("openai/mine")
    assert other.load_state(state("A:", "B:")).lm is mine


@pytest.mark.parametrize("name", ["base_url", "api_base"])
def test_a_file_does_not_say_where_prompts_go(name: str, caplog: pytest.LogCaptureFixture) -> None:
    url = "http://127.0.0.1:1/v1"
    lm = {"_dspy_lm_class": "dspy.clients.lm.LM", "model": "openai/x", name: url, "api_key": "env:K"}
    evil = state("A:", "B:", lm=lm, config={"base_url": url, "top_p": 1})
    predict = Predict("a -> b").load_state(evil)
    assert (predict.lm.base_url, predict.lm.api_key, predict.config) == (None, None, {"top_p": 1})
    assert name in caplog.text
    assert Predict("a -> b").load_state(evil, allow_unsafe_lm_state=True).lm.base_url == url


class OwnLM(FakeLM):
    def dump_state(self) -> dict[str, Any]:
        return {"answer": self.answers[0], "api_key": "sk-secret"}

    @classmethod
    def load_state(cls, saved: dict[str, Any]) -> OwnLM:
        return cls(saved["answer"])


def test_an_lm_of_ones_own_is_imported_only_for_a_trusted_file() -> None:
    predict = Predict("a -> b")
    predict.lm = OwnLM("yes")
    saved = predict.dump_state()
    assert saved["lm"] == {"answer": "yes", "_dspy_lm_class": f"{__name__}.OwnLM"}
    with pytest.raises(ValueError, match="nothing is imported"):
        Predict("a -> b").load_state(saved)
    assert Predict("a -> b").load_state(saved, allow_unsafe_lm_state=True).lm.answers == ["yes"]
    saved["lm"]["_dspy_lm_class"] = "no.such.Thing"
    with pytest.raises(ConfigError, match="no such module"):
        Predict("a -> b").load_state(saved, allow_unsafe_lm_state=True)
    predict.lm = FakeLM("x")
    assert predict.dump_state()["lm"] is None


def test_an_lm_that_is_not_there_leaves_the_program_without_one(caplog: pytest.LogCaptureFixture) -> None:
    predict = Predict("a -> b").load_state(state("A:", "B:", lm={"model": "databricks/x"}))
    assert predict.lm is None
    assert "databricks/x cannot be used here" in caplog.text


def test_a_saved_program_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    Predict("a -> b").save(tmp_path / "p.json")
    saved = json.loads((tmp_path / "p.json").read_text())
    saved["metadata"]["dspex"]["signature"] = "a: evil_module.T -> b"
    (tmp_path / "p.json").write_text(json.dumps(saved))
    with pytest.raises(ConfigError, match="nothing is imported"):
        rebuild(tmp_path / "p.json")
    assert "evil_module" not in sys.modules


def test_a_predictor_called_metadata_is_saved_too(tmp_path: Path) -> None:
    class Program(Module):
        def __init__(self) -> None:
            self.metadata = Predict("a -> b")
            self.other = Predict("a -> c")

    program = Program()
    program.metadata.demos = [{"a": "1", "b": "2"}]
    program.save(tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text())["metadata"]["dependency_versions"] == {}
    again = Program()
    again.load(tmp_path / "p.json")
    assert again.metadata.demos == [{"a": "1", "b": "2"}]


def test_what_json_has_no_number_for_becomes_null(tmp_path: Path) -> None:
    predict = Predict("a -> b")
    predict.demos = [Example(a=float("nan"), b=[1.5, float("inf")])]
    predict.save(tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["demos"] == [{"a": None, "b": [1.5, None]}]


def test_a_label_that_copro_wrote_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Predict("a -> b").load_state(state("A:", "The very best B is:"))
    assert not caplog.records
