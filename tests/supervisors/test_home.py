"""Home: where a host's node lives, and the words of messages about it."""

from pathlib import Path

import pytest

from supervisors import Home, Node, errors

MINE = Home("MY_HOME", "~/.mine", start="start one with `mine up`", repair="run `mine mend`")


def test_the_folder_is_that_of_the_variable_else_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SUPERVISORS_HOME", "MY_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert Home().folder() == tmp_path / ".supervisors"
    assert MINE.folder() == tmp_path / ".mine"
    monkeypatch.setenv("MY_HOME", str(tmp_path / "there"))
    assert MINE.folder() == tmp_path / "there"
    monkeypatch.setenv("SUPERVISORS_HOME", "here")
    assert Home().folder() == Path("here")


def test_attach_looks_there_and_says_in_these_words_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("MY_HOME", str(tmp_path))
    with pytest.raises(errors.NodeDown, match=f"no node runs in {tmp_path}: start one with `mine up`"):
        Node.attach(home=MINE)
    (tmp_path / "node.json").write_text("{")
    with pytest.raises(errors.NodeDown, match="run `mine mend`"):
        Node.attach(home=MINE)


def test_a_folder_that_cannot_be_made_names_the_variable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.NodeDown, match=r"choose another data folder \(MY_HOME\)"):
        Node.start(data_dir=tmp_path / "file" / "sub", home=MINE)
