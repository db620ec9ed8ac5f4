"""The data folder of dspex, and what its users are told to do."""

import pytest

from dspex_actors.foundation.home import HOME, default_data_dir
from supervisors import Node, errors


def test_the_data_folder_is_dspex_home_else_dot_dspex(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SUPERVISORS_HOME", str(tmp_path / "of others"))
    monkeypatch.delenv("DSPEX_HOME")
    assert default_data_dir() == tmp_path / ".dspex"
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path / "mine"))
    assert default_data_dir() == tmp_path / "mine"


def test_messages_name_the_commands_of_dspex(tmp_path):
    with pytest.raises(errors.NodeDown, match=f"no node runs in {tmp_path}: start one with `dspex start`"):
        Node.attach(tmp_path, HOME)
    (tmp_path / "node.json").write_text("{")
    with pytest.raises(errors.NodeDown, match="; run `dspex doctor`"):
        Node.attach(tmp_path, HOME)
