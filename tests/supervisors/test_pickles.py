"""What is sent by value still says which file and line it is from."""

import asyncio
import contextvars
import dataclasses
import linecache
import subprocess
import sys
import traceback
from types import CodeType, ModuleType

import pytest

from supervisors.wire import pickles

SCRIPT = """
import sys
from supervisors.wire.pickles import dumps

def function():
    return 1 / 0  # function

def outer():
    depth = 0
    def inner():
        return 1 / depth  # closure
    return inner

class Thing:
    def method(self):
        return 1 / 0  # method

    @staticmethod
    def static():
        return 1 / 0  # static

    @classmethod
    def made(cls):
        return [1 / 0 for _ in "x"]  # class method

    @property
    def value(self):
        return 1 / 0  # property

def generator():
    yield 1 / 0  # generator

async def coroutine():
    return 1 / 0  # coroutine

values = {
    "function": function,
    "closure": outer(),
    "inside": outer,
    "lambda": lambda: 1 / 0,  # lambda
    "class": Thing,
    "object": Thing(),
    "generator": generator,
    "coroutine": coroutine,
}
if __name__ == "__main__":
    sys.stdout.buffer.write(dumps(values))
"""
FAILURES = {
    "function": lambda values: values["function"](),
    "closure": lambda values: values["closure"](),
    "lambda": lambda values: values["lambda"](),
    "method": lambda values: values["object"].method(),
    "static": lambda values: values["class"].static(),
    "class method": lambda values: values["class"].made(),
    "property": lambda values: values["object"].value,
    "generator": lambda values: next(values["generator"]()),
    "coroutine": lambda values: asyncio.run(values["coroutine"]()),
}


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def sent(script):
    """What another program has pickled by value."""
    done = subprocess.run([sys.executable, script], capture_output=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.parametrize("what", FAILURES)
def test_a_traceback_shows_the_lines_of_what_was_sent_by_value(sent, script, what):
    linecache.checkcache()
    with pytest.raises(ZeroDivisionError) as caught:
        FAILURES[what](pickles.loads(sent))
    text = "".join(traceback.format_exception(caught.value))
    number, line = next(
        (number, line.strip())
        for number, line in enumerate(SCRIPT.splitlines(), 1)
        if line.endswith(f"# {what}")
    )  # fmt: skip
    assert f'File "{script}", line {number}' in text
    assert line in text


def test_sent_on_it_keeps_its_file(sent, script):
    again = pickles.loads(pickles.dumps(pickles.loads(sent)))
    assert again["inside"].__code__.co_filename == str(script)
    (inner,) = [each for each in again["inside"].__code__.co_consts if isinstance(each, CodeType)]
    assert inner.co_filename == str(script)


@pytest.mark.parametrize("word", ["<dynamic-code>", "<another word>", None], ids=["3.1.3", "later", "before 3.1.3"])
def test_whatever_cloudpickle_writes_for_the_file(monkeypatch, word):
    reduce = pickles._Pickler.dispatch_table[CodeType]

    def as_that_release(code):
        make, parts = reduce(code)
        named = make(*parts).replace(co_filename=word or code.co_filename)
        slot = list(parts).index(make(*parts).co_filename)
        return make, (*parts[:slot], named.co_filename, *parts[slot + 1 :])

    monkeypatch.setattr(
        pickles._Pickler, "dispatch_table", {**pickles._Pickler.dispatch_table, CodeType: as_that_release}
    )
    spaces = {"__name__": "__main__"}
    exec(compile("def named(): return lambda: named", "/a/file.py", "exec"), spaces)
    twin = pickles.loads(pickles.dumps(spaces["named"]))
    assert twin.__code__.co_filename == "/a/file.py"
    assert twin().__code__.co_filename == "/a/file.py"
    assert (twin.__code__.co_name, twin.__code__.co_firstlineno) == ("named", 1)
    assert twin.__code__.co_code == spaces["named"].__code__.co_code


def test_equal_code_gives_equal_bytes():
    def compiled():
        spaces = {"__name__": "__main__"}
        exec(
            compile("def outer():\n    def inner(): return 1\n    return inner", "".join(["/a/", "b.py"]), "exec"),
            spaces,
        )
        return spaces["outer"]

    assert pickles.dumps(compiled()) == pickles.dumps(compiled())


def test_what_a_module_made_by_hand_holds_goes_by_value():
    module = ModuleType("made_by_hand")
    sys.modules[module.__name__] = module
    try:
        exec(
            "def helper():\n    return 3\n\nclass Thing:\n    def method(self):\n        return helper()", vars(module)
        )
        data = pickles.dumps(module.Thing)
    finally:
        del sys.modules[module.__name__]
    assert pickles.loads(data)().method() == 3
    assert not pickles.travels_by_value(sys)


def test_what_stands_for_itself_stays_itself():
    """A dataclass asks whether a field's default *is* `MISSING`: a copy would be a default."""

    @dataclasses.dataclass
    class Place:
        city: str
        zip: int = 3

    arrived = pickles.loads(pickles.dumps([Place, dataclasses.MISSING]))
    assert arrived[1] is dataclasses.MISSING
    code = "import dataclasses, pickle, sys; cls, _ = pickle.load(sys.stdin.buffer); "
    code += "print([each.default is dataclasses.MISSING for each in dataclasses.fields(cls)])"
    sent = pickles.dumps([Place, dataclasses.MISSING])
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout == b"[True, False]\n"


def test_a_context_variable_of_a_library_that_a_script_uses_is_the_one_there():
    from supervisors import carried

    own = {"carried": carried, "mine": contextvars.ContextVar("mine", default=3)}
    exec("def both():\n    return carried, mine", own)
    found, mine = pickles.loads(pickles.dumps(own["both"]))()
    assert found is carried
    assert mine is not own["mine"]
    assert mine.get() == 3


def test_who_sends_looks_only_at_modules_that_came_since(monkeypatch):
    """Each look at a module copies pages that a process which was forked has in common with others."""
    looked_at = []

    def look(module):
        looked_at.append(module.__name__)
        return module.__name__ in ("came", "stays")

    pickles.look_at_modules()
    monkeypatch.setattr(pickles, "travels_by_value", look)
    before = pickles._seen.by_value()
    assert pickles.loads(pickles.dumps([1])) == [1]
    assert looked_at == []
    stays, came = ModuleType("stays"), ModuleType("came")
    monkeypatch.setitem(sys.modules, "stays", stays)
    monkeypatch.setitem(sys.modules, "came", came)
    assert pickles._seen.by_value() == (*before, stays, came)
    assert looked_at == ["stays", "came"]
    monkeypatch.delitem(sys.modules, "came")  # the newest: all are looked at again, and it is forgotten
    assert pickles._seen.by_value() == (*before, stays)
    monkeypatch.delitem(sys.modules, "stays")
    assert pickles._seen.by_value() == before
