"""What is known of models, and what is done by it before a call."""

from __future__ import annotations

import json

import pytest
from genai_prices.data import providers

from dspex_actors.errors import InvalidRequest
from dspex_actors.lm.capabilities import Capabilities, capabilities_of
from dspex_actors.lm.content import Audio, File, Image, Message
from dspex_actors.lm.lm import LM
from dspex_actors.lm.settings import messages
from dspex_actors.lm.wire import PROVIDERS

IMAGE, SOUND, FILE = Image("https://x/y.png"), Audio.of(b"hi", "wav"), File.of(b"hi")


@pytest.mark.parametrize(
    ("model", "images", "audio", "files", "window"),
    [
        ("openai/gpt-4o-mini", True, False, True, 128_000),
        ("openai/gpt-4.1-nano", True, False, True, 1_000_000),
        ("openai/gpt-5.2", True, False, True, 400_000),
        ("openai/gpt-6-sol", True, False, True, 1_050_000),
        ("openai/o3-mini", False, False, False, 200_000),
        ("openai/o4-mini", True, False, True, 200_000),
        ("openai/gpt-3.5-turbo", False, False, False, 16_385),
        ("openai/gpt-4", False, False, False, 8_192),
        ("openai/gpt-4o-audio-preview", False, True, False, 128_000),
        ("openai/deepseek-chat", False, False, False, None),
        ("openai/my-own-model", None, None, None, None),
        ("anthropic/claude-sonnet-4-5", True, False, True, 200_000),
        ("anthropic/claude-opus-5-5", True, False, True, 1_000_000),
        ("gemini/gemini-2.5-flash", True, True, True, 1_000_000),
        ("gemini/gemma-3-27b", None, None, None, None),
        ("cohere/command-a-03-2025", False, False, False, 256_000),
        ("cohere/command-a-vision-07-2025", True, False, False, 128_000),
        ("embedded/learner", None, None, None, None),
    ],
)
def test_the_table(model: str, images: bool | None, audio: bool | None, files: bool | None, window: int | None) -> None:
    found = LM(model).capabilities
    assert (found.images, found.audio, found.files, found.window) == (images, audio, files, window)
    assert json.loads(json.dumps(found.to_dict()))["window"] == window


def test_windows_are_those_that_others_have_collected() -> None:
    ours = {"openai": "openai", "anthropic": "anthropic", "google": "gemini", "cohere": "cohere"}
    wrong = {}
    for provider in providers:
        for model in provider.models if provider.id in ours else ():
            mine = capabilities_of(ours[provider.id], model.id).window
            if mine is not None and model.context_window is not None and abs(mine / model.context_window - 1) > 0.06:
                wrong[model.id] = mine, model.context_window
    assert wrong == {}


def test_thoughts_are_shown_in_the_responses_api() -> None:
    assert LM("openai/gpt-5.2").capabilities.reasoning is False
    assert LM("openai/gpt-5.2", model_type="responses").capabilities.reasoning is True
    assert LM("openai/gpt-5.2", model_type="responses").supports_reasoning is True


@pytest.mark.parametrize(
    ("model", "part", "expected"),
    [
        ("openai/o3-mini", IMAGE, "openai: o3-mini takes no pictures; use another model for this prompt"),
        ("openai/gpt-4o-mini", SOUND, "openai: gpt-4o-mini takes no sound; use another model for this prompt"),
        ("openai/gpt-3.5-turbo", FILE, "openai: gpt-3.5-turbo takes no files; use another model for this prompt"),
        ("cohere/command-r", IMAGE, "cohere: command-r takes no pictures; use another model for this prompt"),
        ("anthropic/claude-2.1", IMAGE, "anthropic: claude-2.1 takes no pictures; use another model for this prompt"),
    ],
)
def test_what_a_model_is_known_not_to_take_is_refused_before_the_call(model: str, part: object, expected: str) -> None:
    provider, _, name = model.partition("/")
    with pytest.raises(InvalidRequest) as caught:
        PROVIDERS[provider].body(name, messages([Message("user", ["?", part])]), {})
    assert str(caught.value) == expected


@pytest.mark.parametrize("model", ["openai/my-own-model", "openai/gpt-4o", "embedded/learner"])
def test_a_model_that_may_take_it_is_asked_as_it_is_told(model: str) -> None:
    provider, _, name = model.partition("/")
    body = json.loads(PROVIDERS[provider].body(name, messages([Message("user", ["?", IMAGE])]), {}))
    assert body["messages"][0]["content"][1]["type"] == "image_url"


def test_an_lm_of_ones_own_can_do_nothing_that_it_does_not_tell() -> None:
    assert capabilities_of("own", "m") == Capabilities(params=frozenset())
