"""PythonInterpreter: what code gives, what stays, what is refused, and that its child is gone when it has to be."""

import asyncio
import contextlib
import copy
import datetime
import fcntl
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import BaseModel

import dspex_actors as dspex
from dspex_actors.foundation import late
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.sandbox import interpreter, process, scratch
from dspex_actors.sandbox.checks import PROTECTIONS
from supervisors.testing import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it refuses to run code")


@pytest.fixture(scope="module")
def python():
    with dspex.PythonInterpreter(tools={"twice": lambda x: 2 * x, "bad": lambda: 1 / 0, "odd": object}) as made:
        yield made


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("code", "given"),
    [
        ("1 + 1", 2),
        ("print('a'); print('b')", "a\nb\n"),
        ("print('a')\n'value'", "value"),
        ("x = 3", None),
        ("", None),
        ("import math; math.factorial(30)", 265252859812191058636308480000000),
        ("{'a': [1, 2.5, None, True]}", {"a": [1, 2.5, None, True]}),
        ("{1, 2}", "{1, 2}"),
        ("float('nan')", "nan"),
        ("twice(x=21)", 42),
        ("twice([1])", [1, 1]),
        ("import sys; print('e', file=sys.stderr)", "e\n"),
        ("import os; os.write(1, b'nobody hears this')", 17),
        ("print('\\u2028ä')", "\u2028ä\n"),
        ("SUBMIT({'answer': 4})", dspex.FinalOutput({"output": {"answer": 4}})),
        ("try:\n    SUBMIT(1)\nexcept Exception:\n    pass\n2", dspex.FinalOutput({"output": 1})),
    ],
)
def test_code_gives_its_last_value_or_what_it_printed_or_submitted(python, code, given):
    assert python(code) == given


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("a = 1\n1 / 0", r"ZeroDivisionError: division by zero \(line 2\)"),
        ("nothing", "NameError: name 'nothing' is not defined"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("bad()", "ZeroDivisionError"),
        ("odd()", "TypeError: Object of type object is not JSON"),
        ("twice(object())", "not JSON serializable"),
        ("SUBMIT()", "SUBMIT takes one value"),
        ("class E(Exception):\n    def __str__(self): raise E\nraise E", "E"),
        ("def f(): f()\nf()", "RecursionError"),
        ("1j.__class__.__base__.__repr__(1, 2)", "TypeError"),
    ],
)
def test_code_that_raises_is_an_error_and_the_next_runs(python, code, told):
    python("kept = 'here'")
    with pytest.raises(dspex.CodeExecutionError, match=told):
        python(code)
    assert python("kept") == "here"


@pytest.mark.parametrize("code", ["def f(:", "return", "\0", "(" * 500, "x = '\n'"])
def test_what_is_no_python_is_a_syntax_error(python, code):
    with pytest.raises(SyntaxError):
        python(code)
    assert python("1") == 1


def test_variables_are_set_before_and_stay(python):
    assert python("a + b['c'][0]", {"a": 1, "b": {"c": [2]}}) == 3
    assert python("a") == 1


def test_submit_takes_the_output_fields_by_place_or_by_name():
    with dspex.PythonInterpreter(output_fields=[{"name": "a"}, {"name": "b", "type": "int"}]) as python:
        assert python("SUBMIT(1, b=2)") == dspex.FinalOutput({"a": 1, "b": 2})
        for wrong in ("SUBMIT(1)", "SUBMIT(1, 2, 3)", "SUBMIT(1, a=1)", "SUBMIT(1, c=1)"):
            with pytest.raises(dspex.CodeExecutionError, match="SUBMIT takes a, b"):
                python(wrong)


def test_async_tools_are_awaited_here():
    async def ask(question):
        return f"{question}!"

    with dspex.PythonInterpreter(tools={"ask": ask}) as python:
        assert python("ask('why')") == "why!"


class Clock:
    """A clock that can be put forward."""

    def __init__(self):
        self.ahead = 0.0

    def monotonic(self):
        return time.monotonic() + self.ahead

    def pass_an_hour(self):
        self.ahead += 3600


def test_what_a_tool_takes_does_not_count_as_the_codes_time(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(interpreter, "time", clock)
    monkeypatch.setattr(process, "time", clock)
    with dspex.PythonInterpreter(tools={"slow": clock.pass_an_hour}, timeout=60) as python:
        assert python("slow()\nslow()\n7") == 7
        python.timeout = 0.5
        with pytest.raises(dspex.CodeExecutionError, match=r"within 0\.5 s"):
            python("slow()\nwhile True: pass")


def test_code_that_does_not_end_is_stopped_and_the_next_runs_in_a_new_child():
    with dspex.PythonInterpreter(prelude=["first = 1"]) as python:
        python("x = 1")
        old = python._child.pid
        python.timeout = 0.5
        with pytest.raises(dspex.CodeExecutionError, match=r"within 0.5 s and was stopped; variables .* gone"):
            python("while True:\n    try:\n        pass\n    except BaseException:\n        pass")
        assert not alive(old)
        python.timeout = 30.0
        assert python("first, 'x' in globals()") == [1, False]


def test_a_child_that_is_killed_is_an_error_and_the_next_code_runs():
    with dspex.PythonInterpreter() as python:
        os.kill(python._child.pid, signal.SIGKILL)
        with pytest.raises(dspex.CodeExecutionError, match=r"it was killed"):
            python("1")
        assert python("1") == 1


def test_it_is_shut_down_while_code_runs_from_another_thread():
    python = dspex.PythonInterpreter(tools={"begun": (begun := threading.Event()).set}, timeout=60)
    outcome = []

    def run():
        try:
            python("begun()\nwhile True: pass")
        except dspex.CodeInterpreterError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    with pytest.raises(dspex.CodeInterpreterError, match="one for each thread"):
        python("1")
    python.shutdown()
    python.shutdown()
    thread.join(60)
    assert outcome == ["the interpreter was shut down while its code ran"]
    with pytest.raises(dspex.CodeInterpreterError, match="make a new one"):
        python("1")


def test_nothing_is_left_of_a_process_that_is_killed():
    program = (
        "import dspex_actors as dspex, time\n"
        "python = dspex.PythonInterpreter(timeout=600, tools={'tell': lambda: print(python._child.pid,"
        " python._child._scratch, flush=True)})\n"
        "python('tell()\\nwhile True: pass')"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        pid, folder = parent.stdout.readline().split()
        assert alive(pid)
        assert Path(folder).is_dir()
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    wait_until(lambda: not alive(pid), 60)
    scratch._sweep()
    assert not Path(folder).parent.exists()


def test_scratch_folders_go_with_the_interpreter():
    python = dspex.PythonInterpreter()
    python("open('note', 'w').write('hello')")
    assert python("open('note').read()") == "hello"
    folder = Path(python._child._scratch)
    assert folder.is_dir()
    python.shutdown()
    assert not folder.exists()


def test_a_folder_is_there_though_the_last_other_one_goes_at_the_same_moment():
    def come_and_go():
        for _ in range(100):
            folder = scratch.new()
            assert Path(folder).is_dir()
            scratch.remove(folder)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(come_and_go) for _ in range(4)]:
            done.result(60)


def test_a_folder_is_there_though_another_process_has_swept_it_away_before_it_was_locked(monkeypatch):
    base, flock, swept = scratch._Base(), fcntl.flock, []

    def late(lock, how):
        if not swept:
            swept.append(Path(os.readlink(f"/proc/self/fd/{lock}")).parent)
            shutil.rmtree(swept[0])
        flock(lock, how)

    monkeypatch.setattr(scratch, "_sweep", lambda: None)
    monkeypatch.setattr(scratch.fcntl, "flock", late)
    monkeypatch.setattr(scratch, "_base", base)
    folder = Path(scratch.new())
    assert folder.is_dir()
    assert folder.parent != swept[0]
    scratch.remove(str(folder))
    assert not folder.parent.exists()


@pytest.mark.parametrize(
    "code",
    [
        "import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')",
        "import os\nos.mkdir('d')\nopen('d/f', 'w').close()\nos.mkdir('e', 0)\nos.symlink('/', 'd/root')",
    ],
)
def test_scratch_folders_of_the_host_are_removed_whatever_is_in_them(code):
    free = process._places._free._value
    python = dspex.PythonInterpreter()
    python._without = ("namespaces",)  # with them it is in memory, and gone with the child
    try:
        python("1")
    except dspex.CodeInterpreterError as error:
        pytest.skip(str(error))
    folder = Path(python._child._scratch)
    with contextlib.suppress(dspex.CodeExecutionError):  # too deep to be measured
        python(code)
    python.shutdown()
    assert not folder.exists()
    assert process._places._free._value == free


def test_copies_and_pickles_have_children_of_their_own():
    with dspex.PythonInterpreter(timeout=7) as python:
        python("x = 1")
        for twin in (copy.deepcopy(python), pickle.loads(pickle.dumps(python))):
            assert twin.timeout == 7
            with twin, pytest.raises(dspex.CodeExecutionError, match="NameError"):
                twin("x")


class Heard(dspex.BaseCallback):
    def __init__(self):
        self.told = []

    def on_interpreter_startup_start(self, call_id, instance, inputs):
        self.told.append("startup")

    def on_interpreter_execute_start(self, call_id, instance, inputs):
        self.told.append(inputs["code"])

    def on_interpreter_execute_end(self, call_id, outputs, exception=None):
        self.told.append(outputs if exception is None else type(exception).__name__)

    def on_interpreter_tool_call_end(self, call_id, outputs, exception=None):
        self.told.append(("tool", outputs))

    def on_interpreter_shutdown_end(self, call_id, outputs, exception=None):
        self.told.append("shutdown")


def test_callbacks_hear_of_it():
    heard = Heard()
    with dspex.context(callbacks=[heard]), dspex.PythonInterpreter(tools={"one": lambda: 1}) as python:
        python("one()")
        with pytest.raises(dspex.CodeExecutionError):
            python("x")
    assert heard.told == ["startup", "one()", ("tool", 1), 1, "x", "CodeExecutionError", "shutdown"]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"timeout": 0}, "timeout is invalid"),
        ({"timeout": True}, "timeout is invalid"),
        ({"memory": "1 GB"}, "memory"),
        ({"output": 0}, "output"),
        ({"require": ["net"]}, "require is invalid: got 'net', expected some of network"),
        ({"require": "network"}, "require is invalid"),
        ({"tools": [print]}, "tools is invalid"),
        ({"tools": {"SUBMIT": print}}, "tools is invalid"),
        ({"tools": {"a b": print}}, "tools is invalid"),
        ({"tools": {"a": 3}}, "tools is invalid"),
        ({"output_fields": [{"name": "a"}, {"name": "a"}]}, "output_fields is invalid"),
        ({"output_fields": [{}]}, "output_fields is invalid"),
        ({"enable_read_paths": ["/"]}, "enable_read_paths is invalid"),
        ({"enable_read_paths": ["/no/such"]}, "enable_read_paths is invalid"),
        ({"enable_read_paths": "/usr"}, "enable_read_paths is invalid"),
        ({"enable_write_paths": ["/tmp"]}, "enable_write_paths is invalid"),
        ({"enable_network_access": ["*"]}, "enable_network_access is invalid"),
    ],
)
def test_settings_that_are_none_are_refused_before_anything_starts(how, told):
    with pytest.raises(dspex.ConfigError, match=told):
        dspex.PythonInterpreter(**how)


class Point(BaseModel):
    x: int
    day: datetime.date


@pytest.mark.parametrize(
    ("value", "code", "given"),
    [
        ((1, (2, 3)), "value", [1, [2, 3]]),
        ({3, 1, 2}, "value", [1, 2, 3]),
        (frozenset({1, "a"}), "len(value), sorted(map(str, value))", [2, ["1", "a"]]),
        ({"tags": [{"b", "a"}]}, "value", {"tags": [["a", "b"]]}),
        (Point(x=1, day=datetime.date(2024, 1, 2)), "value['day'], value['x']", ["2024-01-02", 1]),
        ([datetime.date(2024, 1, 2), Decimal("1.5")], "value", ["2024-01-02", "1.5"]),
        ({1: "a", None: {2.5: "b"}}, "value[1], value[None][2.5]", ["a", "b"]),
        ([{True: {"deep": 1}}], "value[0][True]", {"deep": 1}),
    ],
)
def test_variables_have_dspys_forms_and_keys_stay_what_they_are(python, value, code, given):
    assert python(code, {"value": value}) == given


def test_a_variable_that_cannot_be_given_is_what_dspy_raises_too(python):
    for variables in ({"for": 1}, {"x": object()}, {"x": {(1, 2): 3}}):
        with pytest.raises(dspex.CodeInterpreterError, match="variables is invalid"):
            python("1", variables)


@pytest.mark.parametrize(
    "variables", [{"a b": 1}, {"twice": 1}, {"SUBMIT": 1}, {"x": object()}, {"x": float("nan")}, [1]]
)
def test_variables_that_are_none_are_refused(python, variables):
    with pytest.raises(dspex.ConfigError, match="variables is invalid"):
        python("1", variables)
    with pytest.raises(dspex.ConfigError, match="code is invalid"):
        python(None)


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        (("seccomp",), "processes"),
        (("seccomp", "namespaces"), "network and processes"),
        (("Landlock", "namespaces"), "files"),
        (("Landlock", "namespaces", "seccomp"), "network and files and processes"),
    ],
)
def test_a_host_that_cannot_keep_something_safe_runs_nothing_unless_it_is_told_to(without, missing):
    python = dspex.PythonInterpreter()
    python._without = without
    with pytest.raises(dspex.CodeInterpreterError, match=f"cannot keep {missing} safe .*require=") as refused:
        python("1")
    assert "\n" not in str(refused.value)
    with dspex.PythonInterpreter(require=[]) as willing:
        willing.shutdown()
    willing = dspex.PythonInterpreter(require=[])
    willing._without = without
    with willing:
        assert willing("1 + 1") == 2
        assert set(willing.lacks) == set(without)


def test_it_says_what_keeps_what_safe(python):
    assert list(python.protections) == list(PROTECTIONS)
    assert all(python.protections[name] for name in PROTECTIONS)
    assert dspex.PythonInterpreter().protections is None


@pytest.mark.parametrize("kind", ["told", "in a thread of others"])
def test_a_tool_that_hangs_is_an_error_in_the_code(kind, monkeypatch):
    release = threading.Event()

    def hangs():
        release.wait(60)

    def use():
        with dspex.PythonInterpreter(tools={"hangs": hangs}, tool_timeout=0.05 if kind == "told" else None) as made:
            return made("try:\n    hangs()\nexcept Exception as error:\n    print(error, end='')")

    if kind == "told":
        assert use() == "TimeoutError: hangs has not answered within 0.05 s"
    else:
        monkeypatch.setattr(interpreter, "TIMEOUT", 0.05)
        assert asyncio.run(in_thread(use)) == "TimeoutError: hangs has not answered within 0.05 s"
    assert late.late.count == 1
    release.set()
    wait_until(lambda: not late.late.count)


def test_without_a_timeout_a_tool_runs_in_the_callers_own_thread():
    with dspex.PythonInterpreter(tools={"where": threading.get_ident}) as made:
        assert made("where()") == threading.get_ident()


def test_a_child_that_is_never_ready_says_so(monkeypatch):
    monkeypatch.setattr(process, "_START_SECONDS", 0.0)
    with pytest.raises(dspex.CodeInterpreterError, match="was not ready within 0 s: this host is too busy"):
        dspex.PythonInterpreter().start()
