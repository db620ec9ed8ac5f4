from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from supervisors.wire import origin


def module_at(file: Path, name: str) -> ModuleType:
    """Return a module that says it is from a file."""
    made = ModuleType(name)
    made.__file__ = str(file)
    return made


def test_a_link_counts_as_where_it_leads(tmp_path: Path) -> None:
    installed = Path(pytest.__file__)
    linked, own = tmp_path / "linked_here.py", tmp_path / "own_here.py"
    linked.symlink_to(installed)
    own.touch()
    assert not origin.travels_by_value(module_at(linked, "linked_here"))
    assert origin.travels_by_value(module_at(own, "own_here"))
    folder = tmp_path / "linked_folder"
    folder.symlink_to(installed.parent)
    assert not origin.travels_by_value(module_at(folder / "__init__.py", "linked_folder"))


def test_looking_at_modules_leaves_odd_ones_to_whoever_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(ModuleType):
        @property
        def __file__(self) -> str:
            raise OSError("not now")

    odd, own = Odd("odd"), ModuleType("made_by_hand")
    monkeypatch.setitem(sys.modules, "odd", odd)
    monkeypatch.setitem(sys.modules, "made_by_hand", own)
    before = origin.travels_by_value.cache_info().currsize
    origin.look_at_modules()
    assert origin.travels_by_value.cache_info().currsize > before
    hits = origin.travels_by_value.cache_info().hits
    assert origin.travels_by_value(own)
    assert origin.travels_by_value.cache_info().hits == hits + 1
