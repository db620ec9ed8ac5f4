"""No test depends on how fast the machine is."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
CLOCKS = {"monotonic", "perf_counter"}
#: Less than this many seconds is a promise about the machine: on a busy one anything may take ten times as long.
LEAST = 7.0
WAITS = {"until", "wait_until", "assert_gone", "assert_down", "wait_until_restarted", "ready_again"}
#: Waits that are meant to fail, and waits for a time to be over.
KNOWN = {"test_testing.py", "test_blocked_loop.py", "test_left_behind.py", "conftest.py", "test_no_hurry.py"}


def is_clock(node):
    """Whether an expression reads a clock that goes on while the machine does something else."""
    return any(
        isinstance(call, ast.Call)
        and (getattr(call.func, "attr", None) in CLOCKS or ast.unparse(call.func).endswith("loop.time"))
        for call in ast.walk(node)
    )


def number(node):
    return node.value if isinstance(node, ast.Constant) and type(node.value) in (int, float) else None


def hurries(tree):
    """Give the lines that compare a span with a short time, and those that wait for a short time only."""
    spans = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and is_clock(node.value)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.op, ast.Sub)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare):
            sides = [node.test.left, *node.test.comparators]
            for left, op, right in zip(sides, node.test.ops, sides[1:], strict=False):
                is_span = is_clock(left) or (isinstance(left, ast.Name) and left.id in spans)
                if isinstance(op, ast.Lt | ast.LtE) and is_span and (number(right) or LEAST) < LEAST:
                    yield node.lineno
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", None)) in WAITS:
            given = [*node.args[1:2], *(word.value for word in node.keywords if word.arg in ("deadline", "seconds"))]
            if any((number(each) or LEAST) < LEAST for each in given):
                yield node.lineno


def test_no_test_fails_on_a_slow_machine():
    """Assert an order of events, or wait for one: a bound is for what hangs, ten times what it takes and more."""
    paths = [path for path in sorted(TESTS.rglob("test_*.py")) if path.name not in KNOWN]
    found = {path.name: list(hurries(ast.parse(path.read_text()))) for path in paths}
    hurried = {name: lines for name, lines in found.items() if lines}
    assert hurried == {}, f"lines that a busy machine fails; give them {LEAST:g} s or more, or wait for an event"


def test_it_sees_them():
    bad = (
        "began = time.monotonic()\nassert time.monotonic() - began < 2.0\ntook = time.monotonic() - began\n"
        "assert 1 < took < 3\nuntil(f, 1.0)\nuntil(f, seconds=2)\nassert took > 1\nuntil(f)\nassert took < 30"
    )
    assert list(hurries(ast.parse(bad))) == [2, 4, 5, 6]
