"""What models do by themselves: tools and reasoning go beside the prompt, JSON is asked for by its schema."""

import asyncio
import gc
import json
import pickle
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import dspex_actors as dspex
from dspex_actors.errors import ConfigError
from dspex_actors.lm.capabilities import Capabilities, capabilities_of
from dspex_actors.lm.content import Thinking, ToolCall
from dspex_actors.lm.reply import LMReply


class Model(dspex.BaseLM):
    """Says what it is told to, and notes what it was asked."""

    def __init__(self, *replies: Any, **can: Any) -> None:
        super().__init__("model", **can.pop("kwargs", {}))
        self.replies, self.asked, self.can = list(replies), [], Capabilities(**can)

    @property
    def capabilities(self) -> Capabilities:
        return self.can

    def forward(self, messages: Any, **params: Any) -> Any:
        self.asked.append((messages, params))
        return self.replies.pop(0)


def search(query: str, limit: int = 5) -> list[str]:
    """Search the archive."""
    return [query] * limit


def chat(**fields: Any) -> str:
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()) + "\n\n[[ ## completed ## ]]"


def called(*calls: ToolCall, text: str = "") -> LMReply:
    return LMReply(text, content=calls)


TOOL = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Search the archive.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string"}, "limit": {"type": "integer", "default": 5}},
            "required": ["query"],
        },
    },
}
AGENT = "question, tools: list[dspex.Tool] -> thought: str, calls: dspex.ToolCalls"
NATIVE = dspex.ChatAdapter(use_native_function_calling=True)


def ask(program: Any, lm: Any, adapter: Any, **inputs: Any) -> Any:
    with dspex.context(lm=lm, adapter=adapter):
        return program(**inputs)


# --- tools ----------------------------------------------------------------------------------------------------------


def test_tools_go_as_parameters_to_a_model_that_calls_functions():
    lm = Model(called(ToolCall("search", '{"query": "x"}', "c1"), text=chat(thought="hm")), function_calling=True)
    found = ask(dspex.Predict(AGENT), lm, NATIVE, question="x?", tools=[search])
    [(messages, params)] = lm.asked
    assert params == {"tools": [TOOL]}
    assert "tools" not in messages[-1]["content"]
    assert "calls" not in messages[0]["content"].partition("Within this layout")[0]
    assert found.thought == "hm"
    [call] = found.calls.tool_calls
    assert (call.id, call.name, call.args) == ("c1", "search", {"query": "x"})
    assert call.execute([dspex.Tool(search)]) == ["x"] * 5
    assert list(found.keys()) == ["thought", "calls"]


@pytest.mark.parametrize("text", ["", "Let me see.", "[[ ## other ## ]] x"])
def test_calls_need_no_words_beside_them(text):
    lm = Model(called(ToolCall("search", '{"query": "x"}'), text=text), function_calling=True)
    found = ask(dspex.Predict(AGENT), lm, NATIVE, question="x?", tools=[search])
    assert found.thought is None
    assert found.calls.tool_calls[0].id is None


def test_a_model_may_say_something_instead_of_calling():
    lm = Model(LMReply(chat(thought="nothing to search")), function_calling=True)
    found = ask(dspex.Predict(AGENT), lm, NATIVE, question="x?", tools=[search])
    assert (found.thought, found.calls) == ("nothing to search", None)
    lm = Model(LMReply("I know it."), function_calling=True)
    only_calls = dspex.Predict("question, tools: list[dspex.Tool] -> calls: dspex.ToolCalls")
    assert ask(only_calls, lm, NATIVE, question="x?", tools=[search]).calls is None


@pytest.mark.parametrize(
    ("adapter", "can"), [(dspex.ChatAdapter(), {"function_calling": True}), (NATIVE, {}), (dspex.ChatAdapter(), {})]
)
def test_elsewhere_tools_are_told_in_words_and_calls_read_from_the_text(adapter, can):
    said = chat(thought="hm", calls='{"tool_calls": [{"name": "search", "args": {"query": "x"}}]}')
    lm = Model(LMReply(said), **can)
    found = ask(dspex.Predict(AGENT), lm, adapter, question="x?", tools=[search])
    [(messages, params)] = lm.asked
    assert params == {}
    assert "search, whose description is <desc>Search the archive.</desc>" in messages[-1]["content"]
    assert found.calls.tool_calls[0].args == {"query": "x"}


@pytest.mark.parametrize(
    ("adapter", "config", "told"),
    [
        (dspex.ChatAdapter(use_native_function_calling=True, parallel_tool_calls=False), {}, (False, "auto")),
        (dspex.ChatAdapter(use_native_function_calling=True, parallel_tool_calls=True), {}, (True, "auto")),
        (NATIVE, {}, (None, None)),
        (NATIVE, {"parallel_tool_calls": False, "tool_choice": "required"}, (False, "required")),
    ],
)
def test_whether_several_calls_may_come_is_said_where_it_was_said(adapter, config, told):
    lm = Model(called(ToolCall("search", "{}")), function_calling=True)
    ask(dspex.Predict(AGENT, **config), lm, adapter, question="x?", tools=[search])
    params = lm.asked[0][1]
    assert (params.get("parallel_tool_calls"), params.get("tool_choice")) == told


def test_a_program_that_wants_calls_and_has_no_tools_is_refused_before_the_call():
    lm = Model(function_calling=True)
    with pytest.raises(ConfigError, match="no input with tools"):
        ask(dspex.Predict("question -> calls: dspex.ToolCalls"), lm, NATIVE, question="x?")
    with pytest.raises(ConfigError, match="input 'tools' is missing"):
        ask(dspex.Predict(AGENT), lm, NATIVE, question="x?")
    with pytest.raises(ConfigError, match="two tools called 'search'"):
        ask(dspex.Predict(AGENT), lm, NATIVE, question="x?", tools=[search, dspex.Tool(search)])
    with pytest.raises(ConfigError, match="input 'tools' of"):
        ask(dspex.Predict(AGENT), lm, NATIVE, question="x?", tools=["search"])
    with pytest.raises(ConfigError, match=r"called '<lambda>', expected .* Tool\(func, name="):
        ask(dspex.Predict(AGENT), lm, NATIVE, question="x?", tools=[lambda x: x])
    assert lm.asked == []


@pytest.mark.parametrize("name", ["use_native_function_calling", "parallel_tool_calls"])
@pytest.mark.parametrize("kind", [dspex.ChatAdapter, dspex.JSONAdapter])
def test_a_flag_that_is_none_is_refused(kind, name):
    for bad in ("yes", 1, [], "False"):
        with pytest.raises(ConfigError, match=f"{name} is invalid"):
            kind(**{name: bad})


def test_async_calls_are_the_same():
    async def go() -> Any:
        lm = Model(called(ToolCall("search", '{"query": "x"}'), text=""), function_calling=True)
        with dspex.context(lm=lm, adapter=NATIVE):
            return await dspex.Predict(AGENT).acall(question="x?", tools=[search])

    assert asyncio.run(go()).calls.tool_calls[0].args == {"query": "x"}


# --- reasoning ------------------------------------------------------------------------------------------------------

THINKER = "question -> why: dspex.Reasoning, answer: str"


def test_a_model_that_tells_its_reasoning_is_not_asked_to_write_it():
    lm = Model(LMReply(chat(answer="4"), content=(Thinking("2 and 2"),)), reasoning=True)
    found = ask(dspex.Predict(THINKER), lm, None, question="2+2?")
    [(messages, params)] = lm.asked
    assert params == {"reasoning_effort": "low"}
    assert "why" not in messages[0]["content"].partition("Within this layout")[0] + messages[-1]["content"]
    assert (found.why, found.answer) == ("2 and 2", "4")
    assert isinstance(found.why, dspex.Reasoning)


@pytest.mark.parametrize(
    ("can", "config", "effort"),
    [
        ({"reasoning": True}, {"reasoning_effort": "high"}, "high"),
        ({"reasoning": True, "kwargs": {"reasoning_effort": "medium"}}, {}, "medium"),
    ],
)
def test_the_effort_that_was_told_stands(can, config, effort):
    lm = Model(LMReply(chat(answer="4")), **can)
    assert ask(dspex.Predict(THINKER, **config), lm, None, question="2+2?").why is None
    assert lm.asked[0][1]["reasoning_effort"] == effort


@pytest.mark.parametrize(
    ("can", "config"),
    [
        ({}, {}),
        ({"reasoning": True}, {"reasoning_effort": None}),
        ({"reasoning": True, "kwargs": {"reasoning_effort": None}}, {}),
    ],
)
def test_elsewhere_reasoning_is_written_as_a_text(can, config):
    lm = Model(LMReply(chat(why="[1] because", answer="4")), **can)
    found = ask(dspex.Predict(THINKER, **config), lm, None, question="2+2?")
    assert found.why == "[1] because"
    assert "`[[ ## why ## ]]`" in lm.asked[0][0][-1]["content"]


def test_types_beside_the_text_can_be_turned_off():
    lm = Model(LMReply(chat(why="so", answer="4"), content=(Thinking("hidden"),)), reasoning=True)
    found = ask(dspex.Predict(THINKER), lm, dspex.ChatAdapter(native_response_types=[]), question="2+2?")
    assert (found.why, lm.asked[0][1]) == ("so", {})


def test_chain_of_thought_may_have_the_models_own_reasoning():
    program = dspex.ChainOfThought("question -> answer", rationale_field_type=dspex.Reasoning)
    lm = Model(LMReply(chat(answer="4"), content=(Thinking("2 and 2"),)), reasoning=True)
    assert ask(program, lm, None, question="2+2?").reasoning == "2 and 2"


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("openai/gpt-5", {"model_type": "responses"}, {"reasoning": {"summary": "auto"}}),
        ("openai/openai/gpt-oss-120b", {}, {}),
        ("anthropic/claude-opus-4-6", {}, {"thinking": {"type": "adaptive"}}),
        ("anthropic/claude-opus-4-6", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, {}),
        ("gemini/gemini-2.5-pro", {}, {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}),
    ],
)
def test_providers_are_told_to_show_what_is_thought(model, options, told):
    lm = dspex.LM(model, **options)
    signature = dspex.Signature(THINKER)
    asked, params = dspex.ChatAdapter().prepare(signature, {"question": "2+2?"}, lm, {})
    assert list(asked.output_fields) == ["answer"]
    assert params == {"reasoning_effort": "low", **told}
    assert signature.output_fields.keys() == {"why", "answer"}


def test_an_lm_of_ones_own_may_answer_as_openai_does():
    call = {"id": "c1", "function": {"name": "search", "arguments": '{"query": "x"}'}}
    message = {"content": None, "tool_calls": [call], "reasoning_content": "I search"}
    lm = Model(
        {"choices": [{"message": message, "finish_reason": "tool_calls"}]}, function_calling=True, reasoning=True
    )
    program = dspex.Predict("question, tools: list[dspex.Tool] -> why: dspex.Reasoning, calls: dspex.ToolCalls")
    found = ask(program, lm, NATIVE, question="x?", tools=[search])
    assert (found.why, found.calls.tool_calls[0].id) == ("I search", "c1")


def test_log_probabilities_stand_beside_the_outputs():
    lm = Model(LMReply(chat(a="x"), logprobs=("told",)), LMReply(chat(a="x")))
    program = dspex.Predict("q -> a")
    assert ask(program, lm, None, q="x").logprobs == ("told",)
    assert list(ask(program, lm, None, q="x").keys()) == ["a"]


# --- JSON -----------------------------------------------------------------------------------------------------------


class Item(BaseModel):
    name: str
    tags: list[str] = []
    inner: "Item | None" = None


def format_asked(signature: Any, **can: Any) -> Any:
    lm = Model(LMReply("{}"), **can)
    with pytest.raises(dspex.AdapterParseError):
        ask(
            dspex.Predict(signature),
            lm,
            dspex.JSONAdapter(),
            **dict.fromkeys(dspex.Signature(signature).input_fields, "x"),
        )
    return lm.asked[0][1].get("response_format")


JSON = frozenset({"response_format"})


def test_json_of_the_outputs_schema_is_asked_for_where_it_can_be():
    told = format_asked(
        "q -> team: Literal['a', 'b'], score: float, items: list[Item]", response_schema=True, params=JSON
    )
    assert told["type"] == "json_schema"
    assert (told["json_schema"]["name"], told["json_schema"]["strict"]) == ("DSPyProgramOutputs", True)
    schema = told["json_schema"]["schema"]
    assert schema["required"] == ["team", "score", "items"]
    assert schema["properties"]["team"] == {"enum": ["a", "b"], "title": "Team", "type": "string"}
    assert schema["$defs"]["Item"]["required"] == ["name", "tags", "inner"]
    assert "default" not in json.dumps(schema)

    def closed(part: Any) -> bool:
        inside = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        is_open = (
            isinstance(part, dict) and part.get("type") == "object" and part.get("additionalProperties") is not False
        )
        return not is_open and all(map(closed, inside))

    assert closed(schema)


@pytest.mark.parametrize(
    ("signature", "can", "told"),
    [
        ("q -> a", {}, None),
        ("q -> a", {"response_schema": True}, None),
        ("q -> a", {"params": JSON}, {"type": "json_object"}),
        ("q -> a: dict[str, int]", {"params": JSON, "response_schema": True}, {"type": "json_object"}),
        ("q -> a: list[dict[str, Any]]", {"params": JSON, "response_schema": True}, {"type": "json_object"}),
        ("q -> a: dict", {"params": JSON, "response_schema": True}, {"type": "json_object"}),
        ("q -> a: dspex.ToolCalls", {"params": JSON, "response_schema": True}, {"type": "json_object"}),
    ],
)
def test_else_any_object_or_nothing_is_asked_for(signature, can, told):
    if "ToolCalls" in signature:
        lm = Model(LMReply('{"a": []}'), **can)
        adapter = dspex.JSONAdapter(use_native_function_calling=False)
        ask(dspex.Predict("q, tools: list[dspex.Tool] -> a: dspex.ToolCalls"), lm, adapter, q="x", tools=[search])
        assert lm.asked[0][1].get("response_format") == told
        return
    assert format_asked(signature, **can) == told


def test_a_format_of_ones_own_stands():
    own = {"type": "text"}
    lm = Model(LMReply('{"a": "x"}'), params=JSON)
    ask(dspex.Predict("q -> a", response_format=own), lm, dspex.JSONAdapter(), q="x")
    assert lm.asked[0][1]["response_format"] == own
    lm = Model(LMReply('{"a": "x"}'), params=JSON, kwargs={"response_format": own})
    ask(dspex.Predict("q -> a"), lm, dspex.JSONAdapter(), q="x")
    assert "response_format" not in lm.asked[0][1]


def test_the_fallback_to_json_keeps_the_way_of_tools_and_asks_for_json():
    lm = Model(LMReply("?"), LMReply('{"a": "x"}'), params=JSON)
    assert ask(dspex.Predict("q -> a"), lm, None, q="x").a == "x"
    assert [params.get("response_format") for _, params in lm.asked] == [None, {"type": "json_object"}]
    assert dspex.JSONAdapter().use_native_function_calling is True
    assert dspex.ChatAdapter().fallback.use_native_function_calling is False
    assert NATIVE.fallback.use_native_function_calling is True


def test_json_beside_tools_is_of_what_is_left():
    reply = LMReply('{"thought": "hm"}', content=(ToolCall("search", '{"query": "x"}'),))
    lm = Model(reply, function_calling=True, response_schema=True, params=JSON)
    found = ask(dspex.Predict(AGENT), lm, dspex.JSONAdapter(), question="x?", tools=[search])
    schema = lm.asked[0][1]["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["thought"]
    assert (found.thought, found.calls.tool_calls[0].name) == ("hm", "search")


def test_gemini_is_told_tools_or_json_and_never_both():
    signature = dspex.Signature(AGENT)
    for model, both in (("gemini/gemini-2.5-flash", False), ("openai/gpt-4o-mini", True)):
        inputs = {"question": "x?", "tools": [dspex.Tool(search)]}
        _, params = dspex.JSONAdapter().prepare(signature, inputs, dspex.LM(model), {})
        assert ("tools" in params, "response_format" in params) == (True, both)
    _, params = dspex.JSONAdapter().prepare(
        dspex.Signature("q -> a"), {"q": "x"}, dspex.LM("gemini/gemini-2.5-flash"), {}
    )
    assert params["response_format"]["type"] == "json_schema"


# --- which models can -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "tools", "reasons", "schema", "json_mode"),
    [
        ("openai/gpt-4o-mini", True, False, True, True),
        ("openai/gpt-4o-2024-05-13", True, False, False, True),
        ("openai/gpt-3.5-turbo", True, False, False, True),
        ("openai/gpt-5-mini", True, False, True, True),
        ("openai/o1-mini", False, False, False, True),
        ("openai/o3", True, False, True, True),
        ("openai/deepseek-reasoner", False, True, False, True),
        ("openai/openai/gpt-oss-120b", True, True, False, True),
        ("openai/somebody/unknown-7b", False, False, False, True),
        ("anthropic/claude-3-5-haiku-20241022", True, False, False, False),
        ("anthropic/claude-sonnet-4-5", True, False, True, True),
        ("anthropic/claude-opus-4-6", True, True, True, True),
        ("anthropic/claude-sonnet-5-5", True, True, True, True),
        ("gemini/gemini-2.5-flash", True, True, True, True),
        ("gemini/gemini-2.0-flash", True, False, True, True),
        ("cohere/command-r-plus-08-2024", True, False, True, True),
        ("cohere/command-a-reasoning-08-2025", True, True, True, True),
        ("embedded/nearest", False, False, False, False),
    ],
)
def test_what_models_can_is_data(model, tools, reasons, schema, json_mode):
    lm = dspex.LM(model)
    assert (lm.supports_function_calling, lm.supports_reasoning, lm.supports_response_schema) == (
        tools,
        reasons,
        schema,
    )
    assert ("response_format" in lm.supported_params) is json_mode
    assert lm.capabilities.to_dict()["function_calling"] is tools


def test_an_lm_of_ones_own_says_itself_what_it_can():
    class Parrot(dspex.BaseLM):
        pass

    assert Parrot("openai/gpt-4o").capabilities == Capabilities(params=frozenset())
    assert capabilities_of("nobody", "x") == Capabilities(params=frozenset())
    assert capabilities_of("openai", "gpt-5", shows_thoughts=True).reasoning is True
    assert Literal  # a name in signatures above


# --- two steps ------------------------------------------------------------------------------------------------------


def two_steps(*said: str) -> Any:
    return dspex.TwoStepAdapter(Model(*said), use_native_function_calling=True)


def test_two_steps_have_the_calls_of_a_model_that_calls_functions():
    lm = Model(called(ToolCall("search", '{"query": "x"}', "c1")), function_calling=True)
    adapter = two_steps()
    found = ask(dspex.Predict(AGENT), lm, adapter, question="x?", tools=[search])
    assert lm.asked[0][1] == {"tools": [TOOL]}
    assert (found.thought, [call.name for call in found.calls.tool_calls]) == (None, ["search"])
    assert adapter.extraction_model.asked == []  # there is no text to take anything out of


def test_two_steps_take_only_what_is_told_in_words_out_of_them():
    lm = Model(called(ToolCall("search", '{"query": "x"}', "c1"), text="I think hm."), function_calling=True)
    adapter = two_steps(chat(thought="hm"))
    found = ask(dspex.Predict(AGENT), lm, adapter, question="x?", tools=[search])
    assert (found.thought, found.calls.tool_calls[0].args) == ("hm", {"query": "x"})
    [(messages, _)] = adapter.extraction_model.asked
    assert "calls" not in messages[-1]["content"]


def test_two_steps_have_the_reasoning_that_a_model_tells():
    lm = Model(LMReply("It is 7.", content=(Thinking("because"),)), reasoning=True)
    adapter = two_steps(chat(answer=7))
    found = ask(dspex.Predict("question -> reasoning: dspex.Reasoning, answer: int"), lm, adapter, question="x?")
    assert (str(found.reasoning), found.answer) == ("because", 7)
    assert "reasoning" not in str(adapter.extraction_model.asked)


def test_two_steps_take_nothing_out_of_an_answer_without_a_word():
    adapter = two_steps(chat(answer=7))
    with pytest.raises(dspex.AdapterParseError, match="the LM has written nothing"):
        ask(dspex.Predict("question -> answer: int"), Model(" \n"), adapter, question="x?")
    assert adapter.extraction_model.asked == []


def test_signatures_of_second_steps_go_with_those_of_programs():
    adapter = two_steps()
    for number in range(20):
        adapter.extractor(dspex.Signature(f"q -> a{number}"))
    gc.collect()
    assert len(adapter._extractors) < 20
    assert len(pickle.loads(pickle.dumps(two_steps_of_nobody()))._extractors) == 0


def two_steps_of_nobody() -> Any:
    adapter = dspex.TwoStepAdapter(dspex.LM("openai/gpt-4o-mini"))
    adapter.extractor(dspex.Signature("q -> a"))
    return adapter
