"""Whole programs in a folder: data where they can be, code only for who trusts it, and what no forged one may do."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import cloudpickle
import pytest

import dspex_actors as dspex
from dspex_actors.cli.targets import load_program
from dspex_actors.errors import ConfigError
from dspex_actors.programs import recipes, whole


class Triage(dspex.Signature):
    """Sort a ticket."""

    ticket: str = dspex.InputField(desc="as it came")
    hops: int | None = dspex.InputField(default=3, ge=1)
    team: Literal["billing", "bugs"] = dspex.OutputField(desc="who handles it")
    tags: list[dict[str, float]] = dspex.OutputField(min_length=2)


def filled(program: Any) -> Any:
    """Return the program with something of everything that a predictor holds."""
    example = dspex.Example(ticket="t", question="q", answer="a", team="bugs").with_inputs("ticket", "question")
    for predictor in program.predictors():
        predictor.demos = [example, {"answer": "plain"}]
        predictor.train = [example]
        predictor.config = {"temperature": 0.5}
        predictor.signature = predictor.signature.with_instructions("Better words.")
        predictor.lm = dspex.LM("openai/gpt-4o-mini", rpm=60)
    program._compiled = True
    return program


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "program.json").read_text())
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda: dspex.Predict("ticket -> team"),
        lambda: dspex.Predict(Triage),
        lambda: dspex.ChainOfThought(Triage),
        lambda: dspex.Predict("a: dspex.Image, b: str | None, c: tuple[int, ...] -> d: dict[str, list[int]]"),
        lambda: dspex.MultiChainComparison("question -> answer", M=2),
        lambda: dspex.MultiHopQA("question -> answer", max_hops=2, sequential=False),
        lambda: dspex.MultiHopQA(hop=dspex.Predict("question, context: list[str] -> answer")),
    ],
)
def test_a_program_of_the_librarys_own_is_data_and_comes_back_as_it_was(make: Any, tmp_path: Path) -> None:
    program = filled(make())
    program.save(tmp_path / "p", save_program=True)
    assert not list((tmp_path / "p").glob("*.pkl"))
    again = dspex.load(str(tmp_path / "p"))
    assert type(again) is type(program)
    assert again._compiled
    assert recipes._same(program, again)
    for (path, mine), (other, theirs) in zip(program.named_predictors(), again.named_predictors(), strict=True):
        assert path == other
        assert mine.signature.equals(theirs.signature)
        assert [type(demo) for demo in theirs.demos] == [dspex.Example, dict]
        assert theirs.demos[0].inputs().keys() == mine.demos[0].inputs().keys()
        assert (theirs.demos, theirs.train, theirs.config, theirs.lm) == (mine.demos, mine.train, mine.config, mine.lm)


def test_where_prompts_go_is_taken_only_from_a_trusted_folder(tmp_path: Path) -> None:
    program = dspex.Predict("a -> b")
    program.lm = dspex.LM("openai/gpt-4o", base_url="http://here/v1", api_key="env:MY_KEY")
    program.save(tmp_path / "p", save_program=True)
    assert "MY_KEY" not in json.dumps(content(tmp_path / "p"))
    assert dspex.load(tmp_path / "p").lm.base_url is None
    assert dspex.load(tmp_path / "p", allow_unsafe_lm_state=True).lm.base_url == "http://here/v1"


#: Programs that data would not be the whole of.
def subclassed() -> Any:
    return type("Mine", (dspex.Predict,), {})("a -> b")


def with_attribute() -> Any:
    program = dspex.Predict("a -> b")
    program.threshold = 3
    return program


def with_demo(value: Any) -> Any:
    program = dspex.Predict("a -> b")
    program.demos = [{"a": value, "b": "c"}]
    return program


def with_field(**options: Any) -> Any:
    return dspex.Predict(dspex.Signature({"a": (str, dspex.InputField(**options)), "b": dspex.OutputField()}))


@pytest.mark.parametrize(
    "make",
    [
        subclassed,
        with_attribute,
        lambda: with_demo((1, 2)),
        lambda: with_demo({1: 2}),
        lambda: with_demo(float("nan")),
        lambda: with_field(validator=str.strip),
        lambda: with_field(default_factory=str),
        lambda: with_field(title="T"),
        lambda: dspex.ReAct("question -> answer", tools=[]),
        lambda: dspex.BestOfN(dspex.Predict("a -> b"), N=2, reward_fn=lambda inputs, found: 1.0, threshold=1),
        lambda: dspex.MultiHopQA(hop=dspex.ReAct("question, context -> answer", tools=[])),
    ],
)
def test_any_other_program_is_code_and_opened_only_when_trusted(make: Any, tmp_path: Path) -> None:
    make().save(tmp_path / "p", save_program=True)
    assert not (tmp_path / "p" / "program.json").exists()
    for no in ({}, {"allow_pickle": False}, {"allow_pickle": "no"}, {"allow_unsafe_lm_state": True}):
        with pytest.raises(ValueError, match="allow_pickle=True"):
            dspex.load(tmp_path / "p", **no)
    assert isinstance(dspex.load(tmp_path / "p", allow_pickle=True), dspex.Module)


def test_nothing_of_a_pickle_runs_before_it_is_trusted(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "p").mkdir()
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    about = {"dependency_versions": {"python": python, "dspy": "3.4.1"}}
    (tmp_path / "p" / "metadata.json").write_text(json.dumps(about))
    (tmp_path / "p" / "program.pkl").write_bytes(cloudpickle.dumps(Evil()))
    with pytest.raises(ConfigError, match="run its code"):
        dspex.load(tmp_path / "p")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ConfigError, match="holds no program, but a NoneType"):
        dspex.load(tmp_path / "p", allow_pickle=True)
    assert (tmp_path / "ran").exists()


def test_a_save_that_ends_in_the_middle_leaves_the_program_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "p"
    dspex.Predict("old -> b").save(folder, save_program=True)
    real = whole.replaced

    def killed(path: Path) -> Any:
        if path.name == "metadata.json":
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(whole, "replaced", killed)
    with pytest.raises(KeyboardInterrupt):
        subclassed().save(folder, save_program=True)
    assert dspex.load(folder).signature.signature == "old -> b"
    monkeypatch.undo()
    subclassed().save(folder, save_program=True)
    assert sorted(path.name for path in folder.iterdir()) == ["metadata.json", "program.pkl"]
    monkeypatch.setattr(whole, "replaced", killed)
    with pytest.raises(KeyboardInterrupt):
        dspex.Predict("new -> b").save(folder, save_program=True)
    assert type(dspex.load(folder, allow_pickle=True)).__name__ == "Mine"
    monkeypatch.undo()
    dspex.Predict("newer -> b").save(folder, save_program=True)
    assert dspex.load(folder).signature.signature == "newer -> b"
    assert sorted(path.name for path in folder.iterdir()) == ["metadata.json", "program.json"]


def test_what_cannot_be_saved_whole_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keyed = subclassed()
    keyed.config = {"headers": {"x": "sk-" + "a1B2" * 12}}
    locked = with_attribute()
    locked.threshold = threading.Lock()
    table = [
        (dspex.Predict("a -> b"), "p.json", {}, ValueError, "without an ending"),
        (dspex.Predict("a -> b"), "file", {}, NotADirectoryError, "is a file"),
        (dspex.Predict("a -> b"), "file/p", {}, ConfigError, "cannot write to"),
        (dspex.Predict("a -> b"), "p", {"modules_to_serialize": ["json"]}, TypeError, "list of modules"),
        (dspex.Predict("a -> b"), "p", {"modules_to_serialize": json}, TypeError, "list of modules"),
        (keyed, "p", {}, ConfigError, "carries a key"),
        (locked, "p", {}, RuntimeError, "cannot be saved whole"),
    ]
    for program, name, options, kind, words in table:
        with pytest.raises(kind, match=words) as caught:
            program.save(tmp_path / name, save_program=True, **options)
        assert isinstance(caught.value, ConfigError)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "p").exists()
    with pytest.raises(ValueError, match="save_program=True"):
        dspex.Predict("a -> b").save(tmp_path / "p.json", modules_to_serialize=[json])


def forged(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        (folder / "program.json").write_text(json.dumps({**content(folder), **changes}))

    return change


def metadata(text: str) -> Any:
    return lambda folder: (folder / "metadata.json").write_text(text)


def cut(folder: Path) -> None:
    path = folder / "program.json"
    path.write_text(path.read_text()[:-20])


SPEC = {"inputs": {"a": "os.system"}, "outputs": {"b": "str"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (metadata("{"), "no JSON"),
        (metadata("[]"), "no JSON object"),
        (metadata("[" * 100_000), "no JSON"),
        (metadata("{}"), "run its code"),
        (metadata('{"dspex": 5}'), "does not say where"),
        (metadata('{"dspex": {"program": "../../etc/passwd"}}'), "does not say where"),
        (metadata('{"dspex": {"program": "program.pkl"}}'), "does not say where"),
        (lambda folder: (folder / "program.json").unlink(), "program.json: No such file"),
        (lambda folder: (folder / "metadata.json").unlink(), "metadata.json: No such file"),
        (cut, "no JSON"),
        (forged(format=2), "a newer version"),
        (forged(recipe=None), "got a program of the class 'NoneType'"),
        (forged(recipe={"class": "os.system"}), "got a program of the class 'os.system'"),
        (forged(recipe={"class": "ReAct", "tools": ["os.system"]}), "got a program of the class 'ReAct'"),
        (forged(recipe={"class": "Predict"}), "lacks 'signature'"),
        (forged(recipe={"class": "Predict", "signature": SPEC}), "the spec of SpecSignature is invalid"),
        (forged(recipe={"class": "Predict", "signature": "import os"}), "it is no JSON"),
        (forged(recipe={"class": "ChainOfThought", "predict": {"class": "MultiHopQA"}}), "lacks 'signature'"),
        (forged(state={}), "expected the state"),
        (forged(state=5), "expected an object with recipe and state"),
    ],
)
def test_a_folder_that_is_not_as_it_was_written_is_refused_in_a_line(change: Any, words: str, tmp_path: Path) -> None:
    dspex.Predict("a -> b").save(tmp_path / "p", save_program=True)
    change(tmp_path / "p")
    with pytest.raises(ConfigError, match=words) as caught:
        dspex.load(tmp_path / "p")
    assert "\n" not in str(caught.value)


def test_what_is_no_folder_of_a_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("{}")
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"metadata\.json: No such file"):
            dspex.load(path)
    with pytest.raises(ConfigError, match="Not a directory"):
        dspex.load(tmp_path / "p.json")


def test_the_command_line_takes_a_folder_of_data_and_none_of_code(tmp_path: Path) -> None:
    dspex.Predict("a -> b").save(tmp_path / "p", save_program=True)
    assert load_program(str(tmp_path / "p")).signature.signature == "a -> b"
    subclassed().save(tmp_path / "p", save_program=True)
    with pytest.raises(ConfigError, match="run its code"):
        load_program(str(tmp_path / "p"))
