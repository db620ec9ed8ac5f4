"""What an error says of the operations that it has left: what is in it, how large it is, and what it is put on."""

import asyncio
import json
import pickle
import sys
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_kit import examples

from dspex_actors.errors import AdapterParseError, DspexError, LMError, failed_as, from_record
from dspex_actors.foundation import secrets
from dspex_actors.foundation.brief import MOST, brief, is_secret
from dspex_actors.foundation.error_context import MAX_BYTES, context_of
from dspex_actors.foundation.operation import KEPT, Operation, Remote, current_operation, note_error, operation
from supervisors import carried


def raised(error, *names, before=None):
    """Raise an error in nested operations; return it."""
    try:
        if not names:
            raise error
        with operation(names[0]) as op:
            if before is not None:
                before(op)
            raised_inside = raised(error, *names[1:], before=before)
            raise raised_inside
    except type(error) as caught:
        return caught


def context_after(op, work=lambda op: None):
    """Return the context of an error that leaves an operation after some work."""

    def fail():
        with op:
            work(op)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken") as caught:
        fail()
    return caught.value.context


def texts(context, kind="breadcrumbs"):
    return [row.get("text", row.get("step")) for row in context[kind]]


# --- what is in it --------------------------------------------------------------------------------------------------


def test_one_operation():
    def work(op):
        op.breadcrumb("looked it up", hits=3)
        op.add_trace_step("retrieve", {"query": "q"})

    op = operation("answer", customer=7)
    context = context_after(op, work)
    assert context["operation"] == "answer"
    assert context["path"] == ["answer"]
    assert context["correlation_id"] == op.correlation_id
    assert context["metadata"] == {"customer": 7}
    assert [(row["text"], row["data"]) for row in context["breadcrumbs"]] == [("looked it up", {"hits": 3})]
    assert [(row["step"], row["data"]) for row in context["trace"]] == [("retrieve", {"query": "q"})]
    assert set(context) == {"operation", "path", "correlation_id", "metadata", "breadcrumbs", "trace"}


def test_nested_ones_name_the_innermost_and_add_what_they_know_once():
    seen = []

    def work(outer):
        outer.breadcrumb("one")
        try:
            with operation("Predict", b=2) as inner:
                inner.breadcrumb("two")
                raise ValueError("broken")
        except ValueError as error:
            seen.append(texts(error.context))
            outer.breadcrumb("three")
            outer.add_trace_step("gave up")
            raise

    context = context_after(operation("answer", a=1, b=1), work)
    assert seen == [["one", "two"]]
    assert context["operation"] == "answer/Predict"
    assert context["path"] == ["answer", "Predict"]
    assert context["metadata"] == {"a": 1, "b": 2}
    assert texts(context) == ["one", "two", "three"]
    assert texts(context, "trace") == ["gave up"]


def test_a_task_of_an_operation_tells_of_it():
    async def part():
        async with operation("part"):
            raise ValueError("broken")

    async def main():
        async with operation("answer"):
            await asyncio.gather(part(), part())

    with pytest.raises(ValueError, match="broken") as caught:
        asyncio.run(main())
    assert caught.value.context["operation"] == "answer/part"


def test_an_error_that_is_raised_again_elsewhere_has_a_context_of_there():
    error = ValueError("a singleton")
    first = raised(error, "one", "two").context
    assert first["operation"] == "one/two"
    assert raised(error, "three").context["operation"] == "three"
    assert error.context["correlation_id"] != first["correlation_id"]
    with operation("four"):
        raised(error, "five")
        raised(error, "six")
    assert error.context["operation"] == "four/six"


def test_an_error_that_its_operation_raises_later_came_up_further_in():
    with pytest.raises(ValueError, match="broken") as caught, operation("outer"):
        raise raised(ValueError("broken"), "inner")
    assert caught.value.context["operation"] == "outer/inner"


def test_one_that_goes_no_further_is_noted():
    error = ValueError("broken")
    note_error(error)
    assert context_of(error) is None
    with operation("answer"):
        note_error(error)
    assert error.context["operation"] == "answer"


# --- which exceptions -----------------------------------------------------------------------------------------------


class Slots(Exception):
    __slots__ = ("code",)


class ReadOnly(Exception):
    @property
    def context(self):
        return "its own"


class Raises(Exception):
    @property
    def context(self):
        raise RuntimeError("no")


class OfItsOwn(Exception):
    def __init__(self):
        super().__init__()
        self.context = ["sub errors"]


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(name)


class Closed(Exception):
    context = property()
    dspex_context = property()


@pytest.mark.parametrize("kind", [Slots, Frozen, LMError, KeyError, AdapterParseError])
def test_it_stands_on_exceptions_of_every_shape(kind):
    error = raised(kind("broken"), "answer")
    assert error.context["operation"] == "answer"


@pytest.mark.parametrize("kind", [ReadOnly, Raises, OfItsOwn])
def test_what_an_exception_has_under_that_name_is_kept(kind):
    error = raised(kind(), "answer", "part")
    assert error.dspex_context["operation"] == "answer/part"
    assert context_of(error) == error.dspex_context
    if kind is OfItsOwn:
        assert error.context == ["sub errors"]


def test_one_that_takes_nothing_is_raised_all_the_same():
    error = raised(Closed("broken"), "answer")
    assert context_of(error) is None


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(1), asyncio.CancelledError(), StopIteration(5), StopAsyncIteration()]
)
def test_what_is_no_error_gets_none_and_goes_through(error):
    with pytest.raises(type(error)) as caught, operation("answer"):
        raise error
    assert caught.value is error
    assert context_of(error) is None


def test_a_generator_that_is_closed_in_one():
    def numbers():
        with operation("generator"):
            yield 1

    made = numbers()
    next(made)
    made.close()
    assert current_operation() is None


def test_a_group_of_errors():
    with pytest.raises(ExceptionGroup) as caught, operation("answer"):
        raise ExceptionGroup("both", [raised(ValueError("a"), "first"), KeyError("b")])
    assert caught.value.context["operation"] == "answer"
    assert caught.value.exceptions[0].context["operation"] == "answer/first"


# --- how large, and what is not in it -------------------------------------------------------------------------------


class Odd:
    def __repr__(self):
        raise RuntimeError("no")


def endless():
    held = []
    held.append(held)
    return held


HARD = [
    "x" * 1_000_000,
    "\ud800" * 5000,
    "😀" * 5000,
    "\x00" * 5000,
    {str(n): "y" * 100 for n in range(10_000)},
    endless(),
    Odd(),
    2**100_000,
    float("nan"),
    b"b" * 100_000,
    [[[["deep"] * 50] * 50] * 50] * 50,
    {("a", 1): {1, 2}, None: frozenset()},
    lambda: 0,
]


@pytest.mark.parametrize("value", HARD, ids=lambda value: type(value).__name__)
def test_whatever_is_noted_is_plain_and_short(value):
    def note(op):
        for _ in range(KEPT + 5):
            op.breadcrumb(value, value=value)
            op.add_trace_step(value, value)

    context = context_after(operation("answer", value=value), note)
    assert len(json.dumps(context)) <= MAX_BYTES
    json.dumps(context, allow_nan=False)
    assert context["breadcrumbs"]
    assert context["trace"]


@pytest.mark.parametrize(
    "names", [["x" * 100_000] * 30, ["\ud800" * 1000] * 40, ["日"] * 500, [str(n) for n in range(900)]]
)
def test_a_long_path_is_cut_in_its_middle(names):
    op = None
    for name in names:
        op = Operation(name, parent=op)
    context = context_after(op)
    assert len(json.dumps(context)) <= MAX_BYTES
    assert context["path"][0][:3] == names[0].encode("utf-8", "backslashreplace").decode()[:3]


LONG = ["x" * 3000, "\ud800" * 999, "日" * 999, b"b" * 999, 2**70, ["y" * 99] * 99]
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50) | st.sampled_from(LONG),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=30,
)


@settings(max_examples=examples(25), deadline=None)
@given(st.lists(plain, min_size=1, max_size=5), st.lists(st.sampled_from(["a", *LONG[:3]]), min_size=1, max_size=8))
def test_it_is_bounded_whatever_is_done(values, names):
    op = None
    for name in names:
        op = Operation(name, {name: values}, parent=op)
        for value in values:
            op.breadcrumb(value, note=value)
            op.add_trace_step(name, value)
    context = context_after(op)
    assert len(json.dumps(context, allow_nan=False)) <= MAX_BYTES
    assert pickle.loads(pickle.dumps(context)) == context


@settings(max_examples=examples(60), deadline=None)
@given(plain)
def test_a_brief_value_is_plain_data_about_as_long_as_asked(value):
    shown = brief(value)
    json.dumps(shown, allow_nan=False).encode()
    assert len(json.dumps(shown, ensure_ascii=False)) < 3 * MOST


def test_the_last_notes_stay_when_there_is_no_room_for_all():
    def work(op):
        for number in range(KEPT):
            op.breadcrumb(f"note {number}", text="x" * 390)

    kept = texts(context_after(operation("answer"), work))
    assert 5 < len(kept) < KEPT
    assert kept == [f"note {number}" for number in range(KEPT - len(kept), KEPT)]


def test_keys_are_not_in_it():
    secrets.remember("the-gateway-key")
    sk = "sk-abcdefghijklmnop"

    def work(op):
        op.breadcrumb(f"Bearer {sk}", headers={"Authorization": "Basic abc"}, token="t0ken", deep=[{"k": f"x {sk}"}])
        op.add_trace_step("the-gateway-key", "y" * 395 + sk)
        op.breadcrumb("an object", error=ValueError("the-gateway-key"), auth_token="t0ken")

    text = json.dumps(context_after(operation(f"ask {sk}", api_key="plain", user={"password": "p"}), work))
    for secret in (sk, "abcdefgh", "the-gateway-key", "plain", '"p"', "Basic", "t0ken"):
        assert secret not in text
    assert "[key]" in text


# --- it travels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DspexError, LMError, AdapterParseError])
def test_it_is_in_the_record_and_comes_back(kind):
    error = raised(kind("broken"), "answer")
    assert from_record(error.to_record()).context == error.context
    assert from_record(json.loads(json.dumps(error.to_record()))).context == error.context
    again = pickle.loads(pickle.dumps(error))
    assert again.context == error.context
    assert type(again.context) is dict
    assert "context" not in kind("broken").to_record()


def test_an_error_of_pythons_travels_with_it():
    error = raised(ValueError("broken"), "answer")
    again = pickle.loads(pickle.dumps(error))
    assert again.context == error.context
    assert type(again.context) is dict


def test_a_failed_run_has_it():
    record = {"type": "ValueError", "message": "m", "context": raised(ValueError(), "a").context}
    assert failed_as(record, "said", "run").context == record["context"]


@pytest.mark.parametrize("garbage", [5, "text", [], None])
def test_garbage_in_a_record_is_none(garbage):
    assert from_record({"type": "LMError", "message": "m", "context": garbage}).context is None


def from_a_worker(data, *names):
    """Return the record of an error that another process raised, having got the operation with a message."""
    token = carried.set(data)
    try:
        here = current_operation()
        assert isinstance(here, Remote)
        here.breadcrumb("in the worker")
        error = LMError("broken")
        if names:
            error = raised(error, *names)
        note_error(error)
        return error.to_record()
    finally:
        carried.reset(token)


@pytest.mark.parametrize("names", [(), ("session",)])
def test_an_error_of_another_process_has_what_was_noted_there_and_here(names):
    def ask(op):
        with op:
            op.breadcrumb("before")
            record = from_a_worker(op.to_bytes(), *names)
            op.breadcrumb("after")
            raise from_record(record)

    op = operation("answer", customer=7)
    with pytest.raises(LMError) as caught:
        ask(op)
    context = caught.value.context
    assert context["path"] == ["answer", *names]
    assert context["correlation_id"] == op.correlation_id
    assert context["metadata"] == {"customer": 7}
    assert texts(context) == ["before", "in the worker", "after"]


def test_an_error_of_another_operation_gets_the_context_of_this_one():
    other = from_record(raised(LMError("broken"), "other").to_record())
    assert raised(other, "answer").context["operation"] == "answer"


def test_a_context_that_is_garbage_harms_nothing():
    with pytest.raises(LMError) as caught, operation("answer", correlation_id="c"):
        raise from_record(
            {
                "type": "LMError",
                "message": "m",
                "context": {
                    "operation": 5,
                    "correlation_id": "c",
                    "path": ["answer", 7],
                    "breadcrumbs": [5, {"at": "x"}, {"at": 1.0, "text": "good"}],
                    "trace": None,
                    "metadata": None,
                },
            }
        )
    assert texts(caught.value.context) == ["good"]
    assert caught.value.context["operation"] == "answer/7"


@pytest.mark.parametrize(
    "name",
    ["x-api-key", "API_KEYS", "private_key", "accessToken", "client_secrets", "Cookie", "db.passphrase", "token"],
)
def test_what_is_called_a_secret_is_not_shown(name):
    assert brief({name: "hunter2"}) == {name: "[key]"}
    assert brief(OrderedDict({name: "hunter2"})) == {name: "[key]"}


@pytest.mark.parametrize("name", ["max_tokens", "tokens", "token_count", "keyboard", "monkey"])
def test_what_only_sounds_like_one_is_shown(name):
    assert brief({name: 7}) == {name: 7}


def test_keys_of_services_are_taken_out_of_notes_as_out_of_events():
    assert brief("with ghp_" + "a1" * 20) == "with [key]"


def test_names_of_any_length_are_not_kept():
    assert is_secret("x" * 100_000 + "_api_key")
    assert not is_secret("x" * 100_000)
    before = sys.getrefcount(name := "y" * 100_000)
    is_secret(name)
    assert sys.getrefcount(name) == before
