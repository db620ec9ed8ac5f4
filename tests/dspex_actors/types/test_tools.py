"""Tools: their schemas as DSPy 3.4.1 makes them, what cannot be one, and calls with checked arguments."""

import asyncio
import decimal
import enum
import functools
import threading
import types as python_types
from typing import Any, Literal, Optional

import pytest
from pydantic import BaseModel, TypeAdapter

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.types.tool_calls import ToolCall, ToolCallResults


class Colour(enum.Enum):
    RED = "r"


class Point(BaseModel):
    x: int = 3
    colour: Colour = Colour.RED


def many(a, b: int, c: str = "x", *, d: Optional[list[Point]] = None):  # noqa: UP045 - as DSPy's users write it
    """Many things."""
    return a, b, c, d


def others(x: int, **kwargs):
    return x, kwargs


def typed(p: Point, y: Literal["a", "b"] = "a", z: dict[str, Any] = {}, m: decimal.Decimal = decimal.Decimal("1.5")):  # noqa: B006
    return p, y, z, m


async def later(q: str) -> str:
    """Later."""
    return q.upper()


class Callable:
    """A class."""

    def __call__(self, q: str):
        return q

    def method(self, v: float):
        """A method."""
        return v


POINT = {
    "properties": {
        "x": {"default": 3, "title": "X", "type": "integer"},
        "colour": {"enum": ["r"], "title": "Colour", "type": "string"},
    },
    "title": "Point",
    "type": "object",
}
DECIMAL = {"anyOf": [{"type": "number"}, {"type": "string"}], "default": 1.5}
SCHEMAS = [
    (
        many,
        "many",
        "Many things.",
        {
            "a": {},
            "b": {"type": "integer"},
            "c": {"type": "string", "default": "x"},
            "d": {"anyOf": [{"items": POINT, "type": "array"}, {"type": "null"}], "default": None},
        },
        ["a", "b"],
    ),
    (others, "others", None, {"x": {"type": "integer"}, "kwargs": {}}, ["x", "kwargs"]),
    (
        typed,
        "typed",
        None,
        {
            "p": POINT,
            "y": {"enum": ["a", "b"], "type": "string", "default": "a"},
            "z": {"additionalProperties": True, "type": "object", "default": {}},
            "m": DECIMAL,
        },
        ["p"],
    ),
    (later, "later", "Later.", {"q": {"type": "string"}}, ["q"]),
    (Callable(), "Callable", "A class.", {"q": {"type": "string"}}, ["q"]),
    (Callable().method, "method", "A method.", {"v": {"type": "number"}}, ["v"]),
    (lambda x: x, "<lambda>", None, {"x": {}}, ["x"]),
]


@pytest.mark.parametrize(("func", "name", "desc", "args", "required"), SCHEMAS, ids=lambda part: str(part)[:12])
def test_schemas_are_dspys(func, name, desc, args, required):
    tool = dspex.Tool(func)
    for one in tool.args.values():
        for option in one.get("anyOf", ()):
            option.pop("pattern", None)  # what a Decimal's text looks like, in some versions of pydantic
    assert (tool.name, tool.desc, tool.args) == (name, desc, args)
    parameters = {"type": "object", "properties": args, "required": required}
    told = {"name": name, "description": desc, "parameters": parameters}
    assert tool.format_as_litellm_function_call() == {"type": "function", "function": told}
    assert repr(tool) == f"Tool(name={name}, desc={desc}, args={args})"


def test_what_is_told_wins_over_what_the_function_says():
    tool = dspex.Tool(many, name="other", desc="It\ndoes.", arg_desc={"b": "a number"})
    assert str(tool).startswith("other, whose description is <desc>It  does.</desc>. It takes arguments {'a': {}")
    assert tool.args["b"] == {"type": "integer", "description": "a number"}
    tool = dspex.Tool(lambda *args: args, name="n", args={"x": {"type": "integer"}}, arg_types={"x": int})
    assert tool.args == {"x": {"type": "integer"}}


class Node(BaseModel):
    inner: "Node | None" = None


def locked(ok: int, lock: threading.Lock):
    pass


def unknown(ok: int, thing: "Nowhere"):  # noqa: F821
    pass


def recursive(node: Node):
    pass


def positional(a: int, /, b: int):
    pass


def spread(*values: int):
    pass


class Odd:
    pass


@pytest.mark.parametrize(
    ("func", "parameter"),
    [
        (locked, "'lock'"),
        (unknown, "'thing'"),
        (recursive, "'node'"),
        (positional, "'a'"),
        (spread, "'values'"),
        (functools.partial(many, 1), "'args'"),
        (lambda x=1, *, y: y, None),
        (3, "func"),
        (None, "func"),
        ("search", "func"),
        (Odd(), "func"),
    ],
)
def test_a_tool_whose_schema_cannot_be_made_is_refused_and_the_parameter_named(func, parameter):
    if parameter is None:
        assert dspex.Tool(func).args == {"x": {"default": 1}, "y": {}}
        return
    with pytest.raises(ConfigError) as caught:
        dspex.Tool(func)
    assert "Tool" in str(caught.value)
    assert parameter in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_about_a_parameter_that_is_none_are_refused():
    with pytest.raises(ConfigError, match="arg_desc names q"):
        dspex.Tool(many, arg_desc={"q": "?"})


@pytest.mark.parametrize(
    ("func", "given", "result"),
    [
        (many, {"a": 1, "b": 2}, (1, 2, "x", None)),
        (many, {"a": 1, "b": 2.0, "d": [{"x": 1}]}, (1, 2, "x", [Point(x=1)])),
        (others, {"x": 1, "more": "y"}, (1, {"more": "y"})),
        (typed, {"p": {"colour": "r"}}, (Point(), "a", {}, decimal.Decimal("1.5"))),
        (typed, {"p": Point(x=9), "y": "b"}, (Point(x=9), "b", {}, decimal.Decimal("1.5"))),
    ],
)
def test_arguments_are_brought_into_their_types(func, given, result):
    assert dspex.Tool(func)(**given) == result
    assert asyncio.run(dspex.Tool(func).acall(**given)) == result


@pytest.mark.parametrize(
    ("func", "given", "why"),
    [
        (many, {"a": 1, "b": "x"}, "Arg b is invalid: 'x' is not of type 'integer'"),
        (many, {"a": 1, "b": "2"}, "Arg b is invalid: '2' is not of type 'integer'"),
        (many, {"a": 1, "b": True}, "Arg b is invalid: True is not of type 'integer'"),
        (many, {"a": 1, "b": 1.5}, "Arg b is invalid"),
        (many, {"a": 1, "b": 1, "zz": 2}, "Arg zz is not in the tool's args"),
        (many, {"a": 1, "b": 1, "d": [{"x": "y"}]}, "Arg d is invalid"),
        (typed, {"p": {}, "y": "c"}, "Arg y is invalid"),
        (typed, {"p": 3}, "Arg p is invalid"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(func, given, why):
    with pytest.raises(ValueError, match=why) as caught:
        dspex.Tool(func)(**given)
    assert isinstance(caught.value, ConfigError)
    with pytest.raises(ValueError, match=why):
        asyncio.run(dspex.Tool(func).acall(**given))


def test_an_async_tool_is_awaited_or_run_where_that_was_said():
    tool = dspex.Tool(later)
    assert asyncio.run(tool.acall(q="x")) == "X"
    with pytest.raises(ValueError, match=r"use `await tool\.acall"):
        tool(q="x")
    with dspex.context(allow_tool_async_sync_conversion=True):
        assert tool(q="x") == "X"

        async def inside():
            return tool(q="x")

        with pytest.raises(ValueError, match="event loop runs here"):
            asyncio.run(inside())


def test_functions_become_tools_where_tools_are_wanted():
    [tool] = TypeAdapter(list[dspex.Tool]).validate_python([many])
    assert tool.name == "many"
    again = TypeAdapter(dspex.Tool).validate_python(tool)
    assert again is tool


# --- calls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "calls"),
    [
        ({"tool_calls": [{"name": "a", "args": {"x": 1}}]}, [(None, "a", {"x": 1})]),
        ({"tool_calls": [{"name": "a"}]}, [(None, "a", {})]),
        ([{"name": "a", "arguments": '{"x": 1}'}], [(None, "a", {"x": 1})]),
        ([{"name": "a", "arguments": "{x: 1,"}], [(None, "a", {"x": 1})]),
        ({"name": "a", "args": {}}, [(None, "a", {})]),
        ({"function": {"name": "f", "arguments": "{}"}, "id": "i"}, [("i", "f", {})]),
        ([{"function": {"name": "f", "arguments": {"y": 2}}, "id": "fc", "call_id": "c"}], [("c", "f", {"y": 2})]),
        ([], []),
    ],
)
def test_calls_are_read_whoever_wrote_them(given, calls):
    found = TypeAdapter(dspex.ToolCalls).validate_python(given)
    assert [(call.id, call.name, call.args) for call in found.tool_calls] == calls


@pytest.mark.parametrize(
    "given", ["x", {"tool_calls": "x"}, {"tool_calls": [3]}, [3], 3, {"name": "a"}, [{"args": {}}]]
)
def test_what_is_no_call_is_refused(given):
    with pytest.raises(ValueError, match="ToolCall"):
        TypeAdapter(dspex.ToolCalls).validate_python(given)


def test_a_call_is_executed_by_name():
    call = ToolCall(name="many", args={"a": 1, "b": 2})
    wanted = (1, 2, "x", None)
    assert call.execute() == wanted  # by the name's meaning here
    assert call.execute({"many": many}) == wanted
    assert call.execute([dspex.Tool(later), dspex.Tool(many)]) == wanted
    assert call.execute([many]) == wanted
    with pytest.raises(ValueError, match="'gone' not found"):
        ToolCall(name="gone", args={}).execute([many])
    with pytest.raises(RuntimeError, match="Error executing tool 'many'") as caught:
        ToolCall(name="many", args={"a": 1}).execute([many])
    assert isinstance(caught.value.__cause__, TypeError)


def test_results_belong_to_calls():
    calls = dspex.ToolCalls.from_dict_list([{"id": "1", "name": "a", "args": {}}, {"id": "2", "name": "b", "args": {}}])
    results = ToolCallResults.from_tool_calls_and_values(calls, ["x", "y"], [False, True])
    assert [(one.call_id, one.name, one.value, one.is_error) for one in results.tool_call_results] == [
        ("1", "a", "x", False),
        ("2", "b", "y", True),
    ]
    with pytest.raises(ValueError, match="same length"):
        ToolCallResults.from_tool_calls_and_values(calls, ["x"])


def test_a_tool_of_an_mcp_server_is_called_there():
    class Session:
        async def call_tool(self, name, arguments):
            text = python_types.SimpleNamespace(text=f"{name}:{arguments['x']}")
            return python_types.SimpleNamespace(content=[text], isError=arguments["x"] < 0, structuredContent={"y": 1})

    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    remote = python_types.SimpleNamespace(name="add", description="Adds.", inputSchema=schema)
    tool = dspex.Tool.from_mcp_tool(Session(), remote)
    assert asyncio.run(tool.acall(x=3)) == "add:3"
    with pytest.raises(ValueError, match="Arg x is invalid"):
        asyncio.run(tool.acall(x="3"))
    with pytest.raises(TypeError, match="Failed to call a MCP tool"):
        asyncio.run(tool.acall(x=-1))
    structured = dspex.Tool.from_mcp_tool(Session(), remote, result_mode="structured")
    assert asyncio.run(structured.acall(x=3)) == {"y": 1}
    with pytest.raises(ConfigError, match="result_mode"):
        dspex.Tool.from_mcp_tool(Session(), remote, result_mode="x")


# --- code, reasoning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x = [1, 2]", "x = [1, 2]"),
        ("```python\nx = 1\n```", "x = 1"),
        ("Here it is:\n```\nx = 1\n```\nDone.", "x = 1"),
        ("```x = 1```", "x = 1"),
        ('{"code": "x = 1"}', "x = 1"),
        ('{"a": 1}', '{"a": 1}'),
        ("[1, 2, 3]", "[1, 2, 3]"),
        ('"text"', '"text"'),
        ("", ""),
    ],
)
def test_code_is_the_text_or_its_fenced_block(text, code):
    signature = dspex.Signature("q -> code: dspex.Code['python']")
    found = dspex.ChatAdapter().parse(signature, f"[[ ## code ## ]]\n{text}\n\n[[ ## completed ## ]]")
    assert found["code"].code == code
    assert type(found["code"]) is dspex.Code["python"]


def test_the_type_of_a_language_is_one_type():
    assert dspex.Code["java"] is dspex.Code["java"]
    assert (dspex.Code["java"].__name__, dspex.Code["java"].language, dspex.Code.language) == (
        "Code_java",
        "java",
        "python",
    )
    assert "```java\n{code}\n```" in dspex.Code["java"].description()
    for bad in ("", " ", 3, None, ("a", "b"), "a\nb"):
        with pytest.raises(ConfigError, match="name of a language"):
            dspex.Code[bad]


def test_reasoning_is_used_as_a_text():
    reasoning = dspex.Reasoning(content="Because. ")
    assert reasoning == "Because. "
    assert reasoning == dspex.Reasoning(content="Because. ")
    assert reasoning != "other"
    assert reasoning.strip().upper() == "BECAUSE."
    assert (len(reasoning), reasoning[0], "cause" in reasoning, list(reasoning)[:2]) == (9, "B", True, ["B", "e"])
    assert reasoning + "so" == "Because. so"
    assert "x" + reasoning == "xBecause. "
    assert (reasoning + reasoning).content == "Because. Because. "
    assert f"{reasoning}" == "Because. "
    assert {reasoning: 1}["Because. "] == 1
    with pytest.raises(AttributeError, match=r"str\(reasoning\)"):
        reasoning.nothing  # noqa: B018
    for bad in (3, None, {"text": "x"}, ["x"]):
        with pytest.raises(ValueError, match="Reasoning"):
            TypeAdapter(dspex.Reasoning).validate_python(bad)
