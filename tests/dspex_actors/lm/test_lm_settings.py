from __future__ import annotations

import math
from typing import Any

import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.lm.lm import LM


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("opnai/gpt-4o-mini", "did you mean 'openai/gpt-4o-mini'"),
        ("OpenAI/gpt-4o-mini", "did you mean 'openai/gpt-4o-mini'"),
        ("google/gemini-2.5-flash", "did you mean 'gemini/gemini-2.5-flash'"),
        ("ollama/llama3", "did you mean 'openai/llama3'"),
        ("gpt-4o-mini", "did you mean 'openai/gpt-4o-mini'"),
        ("claude-sonnet-4-5", "did you mean 'anthropic/claude-sonnet-4-5'"),
        ("zzz/model", "'openai/model' with base_url"),
        ("openai/", "as in 'openai/NAME'"),
        ("openai/ x", "as in 'openai/NAME'"),
        ("openai", "as in 'openai/NAME'"),
        ("", "provider one of"),
        (None, "provider one of"),
        (7, "provider one of"),
    ],
)
def test_a_wrong_model_string_is_refused_with_the_legal_providers_and_a_guess(model: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LM(model)
    assert words in str(caught.value)
    assert "openai, anthropic, gemini, cohere, embedded" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_name_may_have_slashes_of_its_own() -> None:
    lm = LM("openai/meta-llama/Llama-3.1-8B", base_url="http://localhost:8000/v1/")
    assert (lm.provider, lm.model_name) == ("openai", "meta-llama/Llama-3.1-8B")
    assert lm.base_url == "http://localhost:8000/v1"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *[("timeout", v) for v in (0, -1, math.nan, math.inf, "60", None, True)],
        *[("deadline", v) for v in (0, -1, math.nan, "x")],
        *[("rpm", v) for v in (0, -5, math.inf, "500", False)],
        *[("tpm", v) for v in (0, -5)],
        *[
            (name, v)
            for name in ("itpm", "otpm", "rps", "rpd", "tpd")
            for v in (0, -1.5, math.nan, math.inf, "9", True)
        ],
        *[("max_in_flight", v) for v in (0, -1, 1.5, "8", True)],
        *[("cache", v) for v in (None, 1, "yes")],
        *[("fallbacks", v) for v in ("openai/gpt-4o", ["nope"], [7], 7, None)],
        *[("context_fallbacks", v) for v in ("openai/gpt-4o", [7], 7)],
        *[("content_fallbacks", v) for v in ("openai/gpt-4o", [7], 7)],
        *[("hedge", v) for v in (None, 1, "yes")],
        *[
            ("base_url", v)
            for v in ("", "localhost:8000", "ftp://x", "http://", "http://h:99999", 7, "http://h/?api_key=q")
        ],
        *[("base_url", v) for v in ("http://169.254.169.254/latest", "http://metadata.google.internal/v1")],
        *[("base_url", v) for v in ("http://exa mple/v1", "http://a\\b/v1", "http://a%2fb", "http://[fe80::1]/v1")],
        *[("base_url", v) for v in ("http://[::ffff:169.254.169.254]/", "http://h/#x")],
        *[("temperature", v) for v in (-0.1, 2.1, math.nan, "0", True)],
        *[("top_p", v) for v in (-0.1, 1.1)],
        *[("max_tokens", v) for v in (0, -1, 1.5, "9", math.nan)],
        *[("stop", v) for v in ("", [], [""], 5, [1])],
        *[("seed", v) for v in ("1", 1.5)],
        ("n", 2),
        ("frequency_penalty", 3),
        ("stream", True),
        ("api_base", "http://x"),
        ("num_retries", 3),
        ("callbacks", []),
        ("extra_headers", {"a": "b"}),
        ("metadata", {1: 2}),
        ("metadata", object()),
        ("metadata", {"a", "b"}),
        ("response_format", {"schema": {"enum": {1, 2}}}),
        ("logit_bias", {50256: -100}),
        ("logit_bias", [math.nan]),
        ("user", b"bytes"),
        ("big", 2**70),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_in_one_line(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        LM("openai/gpt-4o-mini", **{setting: value})
    assert str(caught.value).startswith(f"{setting}:") or (setting, value) == ("fallbacks", ["nope"])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_data_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ConfigError, match="metadata"):
        LM("openai/x", metadata=loop)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("api_key", "sk-proj-abcdefghijklmnop"),
        ("api_key", "env:sk-abcdefghijklmnop"),
        ("api_key", "env:AIzaabcdefghijklmnop"),
        ("api_key", "abcdefghijklmnop"),
        ("api_key", ""),
        ("api_key", 7),
        ("openai_api_key", "abcdefghijklmnop"),
        ("base_url", "https://me:abcdefghijklmnop@host/v1"),
        ("base_url", "ftp://me:abcdefghijklmnop@host/v1"),
        ("base_url", "https://host/v1?key=abcdefghijklmnop"),
        ("base_url", "https://host/v1?api-version=1&sig=abcdefghijklmnop"),
        ("base_url", "https://host/v1?sk-proj-abcdefghijklmnop"),
        ("base_url", "https://host/sk%2Dproj-abcdefghijklmnop/v1"),
        ("tools", [{"type": "mcp", "server_url": "https://x", "authorization": "abcdefghijklmnop"}]),
        ("tools", [{"type": "mcp", "headers": {"X-Api-Key": "abcdefghijklmnop"}}]),
        ("mcp_servers", [{"url": "https://x", "authorization_token": "abcdefghijklmnop"}]),
        ("extra_body", {"deep": [{"er": "Bearer abcdefghijklmnop1"}]}),
        ("user", "sk-proj-abcdefghijklmnop"),
        ("headers", {"Authorization": "abcdefghijklmnop"}),
    ],
)
def test_a_literal_key_is_refused_and_not_repeated(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        LM("openai/gpt-4o-mini", **{setting: value})
    assert "abcdefghijklmnop" not in str(caught.value)
    assert setting in str(caught.value)


def test_a_tool_may_have_a_parameter_called_password() -> None:
    schema = {"type": "object", "properties": {"password": {"type": "string"}, "token": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "login", "parameters": {**schema, "required": ["password"]}}}]
    assert LM("openai/x", tools=tools, logit_bias={"token": 1}).kwargs["tools"] == tools


def test_what_dspy_writes_into_an_lm_is_no_parameter() -> None:
    lm = LM(_dspy_lm_class="dspy.clients.lm.LM", model="openai/x", model_type="chat", rollout_id=3)
    assert lm.kwargs == {"rollout_id": 3}
    assert lm.parameters == {}
    with pytest.raises(ConfigError, match="model_type"):
        LM("openai/x", model_type="text")


def test_what_is_in_range_is_taken_in_its_normal_form() -> None:
    lm = LM("openai/x", temperature=0, stop=("a", "b"), seed=7, max_tokens=5.0, rpm=500, custom={"a": (1, 2)}, n=1)
    assert lm.kwargs == {
        "temperature": 0.0,
        "stop": ["a", "b"],
        "seed": 7,
        "max_tokens": 5,
        "custom": {"a": [1, 2]},
        "n": 1,
    }
    assert lm.rpm == 500.0


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "text", "text": math.nan}]},
        {"role": "user", "content": [{"type": "text", "text": "x", "tags": {"a"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": b"bytes"}]},
        {"role": "user", "content": [{1: "x"}]},
        {"role": "user", "content": "x", "weight": 2**70},
        {"role": "assistant", "content": None, "tool_calls": [object()]},
    ],
)
def test_a_message_that_is_no_json_is_refused_at_the_caller(message: dict[str, Any]) -> None:
    for call in (LM("openai/x"), LM("anthropic/claude-sonnet-4-5")):
        with pytest.raises(ConfigError, match=f"^messages: a {message['role']} message: expected plain JSON data"):
            call([message])


@pytest.mark.parametrize(
    ("circuit", "words"),
    [
        (5, "circuit is invalid: got 5"),
        ("5", "circuit is invalid"),
        ({"failure_threshold": 0}, "circuit: failure_threshold is invalid: got 0"),
        ({"recovery_time": -1}, "circuit: recovery_time is invalid"),
        ({"recover_time": 1}, "circuit is invalid: got 'recover_time', expected failure_threshold, recovery_time"),
        ({"trip": len}, "circuit is invalid: got 'trip'"),
    ],
)
def test_a_circuit_that_is_none_is_refused_in_one_line(circuit: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        LM("openai/x", circuit=circuit)
    assert "\n" not in str(caught.value)


def test_what_is_said_of_a_circuit_travels_and_what_is_not_said_is_not_written_down() -> None:
    lm = LM("openai/x", circuit={"failure_threshold": 3}, context_fallbacks=["openai/large"], hedge=True)
    again = LM.from_dict(lm.to_dict())
    assert (again, again.circuit, again.context_fallbacks) == (lm, {"failure_threshold": 3}, ("openai/large",))
    assert LM("openai/x", circuit=False).circuit is False
    assert LM("openai/x", circuit={}) == LM("openai/x", circuit=None) == LM("openai/x", circuit=True)
    assert not {"circuit", "hedge", "context_fallbacks", "content_fallbacks"} & LM("openai/x").to_dict().keys()


@pytest.mark.parametrize("field", ["fallbacks", "context_fallbacks", "content_fallbacks"])
def test_a_loop_of_lms_is_refused(field: str) -> None:
    loops: list[Any] = [
        ["openai/x"],
        ["gemini/y", LM("openai/x")],
        ["gemini/y", "gemini/y"],
        [LM("openai/x", timeout=3.0)],
    ]
    for others in loops:
        with pytest.raises(ConfigError, match=f"{field} is a loop: got (openai/x|gemini/y) again"):
            LM("openai/x", **{field: others})
    with pytest.raises(ConfigError, match="no fallbacks of their own"):
        LM("openai/x", **{field: [LM("openai/y", fallbacks=["openai/x"])]})
    # With other parameters, or at another server, it is another one.
    LM("openai/x", **{field: [LM("openai/x", max_tokens=5), LM("openai/x", base_url="http://127.0.0.1:1/v1")]})
