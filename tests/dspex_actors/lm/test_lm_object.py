from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from typing import Any

import msgpack
import pytest

from dspex_actors.errors import ConfigError
from dspex_actors.lm import backend
from dspex_actors.lm.lm import LM
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest

FULL = LM(
    "openai/gpt-4o-mini",
    base_url="https://gateway.example/v1",
    api_key="env:MY_KEY",
    rpm=500,
    tpm=200_000,
    max_in_flight=8,
    timeout=30,
    deadline=300,
    fallbacks=["anthropic/claude-sonnet-4-5", LM("gemini/gemini-2.5-flash", temperature=0.5)],
    cache=False,
    temperature=0.0,
    stop=["x"],
    logit_bias={"5": 1},
)


def test_plain_data_rebuilds_an_equal_lm() -> None:
    data = msgpack.unpackb(msgpack.packb(FULL.to_dict()))
    again = LM.from_dict(data)
    assert again == FULL
    assert hash(again) == hash(FULL)
    assert again.to_dict() == FULL.to_dict()
    assert again.fallbacks == FULL.fallbacks
    assert LM.known(data) == FULL
    assert LM.known(data) is LM.known(FULL.to_dict())


def test_pickle_and_copies_are_equal() -> None:
    assert pickle.loads(pickle.dumps(FULL)) == FULL
    assert copy.deepcopy(FULL) == FULL
    assert FULL.copy() == FULL


@pytest.mark.parametrize(
    "change",
    [
        {"model": "openai/gpt-4o"},
        {"base_url": None},
        {"api_key": "env:OTHER"},
        {"rpm": 1},
        {"tpm": 1},
        {"max_in_flight": 1},
        {"timeout": 1},
        {"deadline": 1},
        {"fallbacks": []},
        {"cache": True},
        {"temperature": 0.1},
        {"temperature": None},
        {"seed": 1},
        {"logit_bias": {"5": 2}},
    ],
)
def test_every_setting_is_part_of_the_identity(change: dict[str, Any]) -> None:
    other = FULL.copy(**change)
    assert other.identity() != FULL.identity()
    assert other != FULL


def test_limits_that_came_later_change_nothing_of_lms_without_them() -> None:
    data = LM("openai/x", rpm=60).to_dict()
    assert not {"itpm", "otpm", "rps", "rpd", "tpd"} & data.keys()
    told = LM("openai/x", rps=10, rpm=60, rpd=1000)
    assert (told.rps, told.rpm, told.rpd, told.tpd) == (10.0, 60.0, 1000.0, None), "two that differ may both be told"
    assert LM.from_dict(told.to_dict()) == told != LM("openai/x", rpm=60)


def test_the_identity_does_not_depend_on_how_it_is_written() -> None:
    one = LM("openai/gpt-4o-mini", temperature=1, max_tokens=5, custom={"a": 1, "b": 2.0})
    two = LM(
        "openai/gpt-4o-mini",
        custom={"b": 2, "a": 1.0},
        max_tokens=5,
        temperature=1.0,
        base_url="https://api.openai.com/v1/",
    )
    assert one == two
    assert one.identity() == two.identity()


def test_the_identity_is_the_same_in_another_process() -> None:
    code = "from dspex_actors.lm.lm import LM; print(LM('openai/x', temperature=0.5, b=1, a=[2]).identity())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == LM("openai/x", a=[2], b=1, temperature=0.5).identity()


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match=r"copy\(rpm"):
        FULL.rpm = 5
    with pytest.raises(AttributeError):
        del FULL.model
    FULL.kwargs["logit_bias"]["5"] = 99
    assert FULL.kwargs["logit_bias"] == {"5": 1}


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(LM("openai/x")) == "LM('openai/x')"
    assert repr(LM("openai/x", rpm=5, temperature=0)) == "LM('openai/x', rpm=5.0, temperature=0.0)"
    assert "env:MY_KEY" in repr(FULL)


def test_state_goes_through_a_saved_program_but_addresses_and_keys_do_not_come_back_by_themselves() -> None:
    state = FULL.dump_state()
    assert LM.load_state(state, allow_unsafe_lm_state=True) == FULL
    safe = LM.load_state(state)
    assert (safe.base_url, safe.api_key) == (None, None)
    assert safe == FULL.copy(base_url=None, api_key=None)


def test_a_fallback_in_a_saved_program_cannot_choose_an_address_either() -> None:
    evil = {
        "model": "openai/x",
        "base_url": "https://evil.example/v1",
        "api_key": "env:AWS_SECRET_ACCESS_KEY",
    }
    for field in ("fallbacks", "context_fallbacks", "content_fallbacks"):
        safe = LM.load_state({"model": "openai/y", field: [evil]})
        assert getattr(safe, field) == (LM("openai/x"),)
    # Without its address it is the first one again.
    assert LM.load_state({"model": "openai/x", "fallbacks": [evil]}).fallbacks == ()


def test_what_dspy_saved_can_be_loaded() -> None:
    state = {
        "_dspy_lm_class": "dspy.clients.lm.LM",
        "model": "openai/gpt-4o-mini",
        "model_type": "chat",
        "cache": True,
        "num_retries": 3,
        "temperature": None,
        "max_tokens": 4000,
        "finetuning_model": None,
        "launch_kwargs": {},
        "train_kwargs": {},
        "api_base": "http://x",
    }
    assert LM.load_state(state) == LM("openai/gpt-4o-mini", max_tokens=4000)
    with pytest.raises(ConfigError, match="model"):
        LM.load_state({})


@pytest.mark.parametrize(
    ("lm", "reference"),
    [
        (LM("openai/x"), "env:OPENAI_API_KEY"),
        (LM("openai/x", base_url="https://api.openai.com/v1/"), "env:OPENAI_API_KEY"),
        (LM("openai/x", base_url="HTTPS://API.OpenAI.com:443/v2"), "env:OPENAI_API_KEY"),
        (LM("openai/x", base_url="http://api.openai.com/v1"), None),
        (LM("openai/x", base_url="https://api.openai.com.evil.example/v1"), None),
        (LM("openai/x", base_url="https://api.openai.com:444/v1"), None),
        (LM("openai/x", base_url="http://127.0.0.1:1/v1"), None),
        (LM("openai/x", base_url="http://10.0.0.1:1/v1"), None),
        (LM("openai/x", base_url="http://10.0.0.1:1/v1", api_key="env:K"), "env:K"),
        (LM("anthropic/x"), "env:ANTHROPIC_API_KEY"),
        (LM("anthropic/x", base_url="http://127.0.0.1:1"), None),
        (LM("embedded/nearest"), None),
    ],
)
def test_the_providers_usual_key_goes_to_its_own_server_only(lm: LM, reference: str | None) -> None:
    assert lm.key_reference == reference


class Recorder:
    def __init__(self) -> None:
        self.calls: list[LMRequest] = []

    def complete(self, request: LMRequest) -> LMReply:
        self.calls.append(request)
        return LMReply("sync")

    async def acomplete(self, request: LMRequest) -> LMReply:
        self.calls.append(request)
        return LMReply("async")


def test_calls_go_to_the_backend_as_messages_and_checked_parameters() -> None:
    lm = LM("openai/x", temperature=0.0)
    recorder = Recorder()
    backend.set_process_backend(recorder)
    try:
        assert lm("hi").text == "sync"
        assert asyncio.run(lm.acall([{"role": "user", "content": "hi"}], temperature=1)).text == "async"
        lm(messages=[{"role": "user", "content": "hi"}], timeout=5, cache=False)
        for wrong in (
            {"prompt": None},
            {"prompt": []},
            {"prompt": [{"content": "x"}]},
            {"prompt": "x", "messages": []},
            {"prompt": [{"role": "user", "content": 5}]},
            {"prompt": "x", "temperature": 9},
        ):
            with pytest.raises(ConfigError):
                lm(**wrong)
    finally:
        backend.set_process_backend(None)
    hi = [{"role": "user", "content": "hi"}]
    assert recorder.calls == [
        lm.request(hi, {}),
        lm.request(hi, {"temperature": 1.0}),
        lm.copy(timeout=5, cache=False).request(hi, {}),
    ]


def test_a_request_carries_the_settings_and_the_time_that_all_fallbacks_may_take() -> None:
    lm = LM("openai/x", deadline=10, fallbacks=["gemini/y", LM("anthropic/z", deadline=5)])
    request = lm.request([], {})
    assert request.lm.seconds == 25
    assert LM.from_dict(request.lm.settings) == lm


def test_without_a_connection_a_call_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"dspex\.connect"):
        LM("openai/x")("hi")


def test_a_reply_is_plain_data() -> None:
    reply = LMReply("t", cost=0.1, model="m", latency=0.5, finish_reason="stop", request_id="r", asked=2, provider="p")
    assert LMReply.from_dict(msgpack.unpackb(msgpack.packb(reply.to_dict()))) == reply
    assert pickle.loads(pickle.dumps(reply)) == reply
    assert str(reply) == "t"
