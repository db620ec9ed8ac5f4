"""What models can do beside writing text, as data: adapters choose by it, before they ask, how they ask.

Collected in autumn 2026 from the providers' references. A model that nobody has described is taken to be able to do
nothing of it by itself: what is asked in words works everywhere. Whether it takes pictures, sound and files is unknown
then: it is asked as it is told. Only what is known not to be taken is refused before the call.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

#: Parameters that a model of every provider takes.
_COMMON = frozenset({"temperature", "max_tokens", "top_p", "stop"})


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do.

    Args:
        function_calling: it calls functions in the provider's own way.
        reasoning: it reasons before it answers, when it is told so by `reasoning_effort`, and shows what it thought.
        response_schema: it writes JSON of a given schema.
        params: parameters that it takes, those that matter to adapters.
        images: it takes pictures; None: unknown.
        audio: it takes sound; None: unknown.
        files: it takes files such as PDFs; None: unknown.
        window: how many tokens prompt and reply may have together; None: unknown.
    """

    function_calling: bool = False
    reasoning: bool = False
    response_schema: bool = False
    params: frozenset[str] = _COMMON
    images: bool | None = None
    audio: bool | None = None
    files: bool | None = None
    window: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "function_calling": self.function_calling,
            "reasoning": self.reasoning,
            "response_schema": self.response_schema,
            "params": sorted(self.params),
            "images": self.images,
            "audio": self.audio,
            "files": self.files,
            "window": self.window,
        }


def _models(pattern: str) -> re.Pattern[str]:
    """Return the pattern of models whose name, or its last part behind a gateway's prefix, begins like that."""
    return re.compile(rf"(?:^|[/:.]){pattern}")


_ALL = re.compile("")
_NONE = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True)
class _Row:
    tools: re.Pattern[str]
    thoughts: re.Pattern[str]
    schema: re.Pattern[str]
    #: Which can be told to write a JSON object at all.
    json: re.Pattern[str]


_OPENAI_TOOLS = _models(
    r"(?:gpt-3\.5-turbo(?!-instruct)|gpt-4(?!-vision)|gpt-(?:[5-9]|\d\d)|chatgpt-4o|gpt-oss|o1(?!-(?:mini|preview))|o[3-9]"
    r"|llama-?3|mistral|qwen|deepseek-(?:chat|v3)|grok)"
)
#: Servers that speak OpenAI's format and tell what was thought in it. OpenAI's own chat completions do not.
_OPENAI_THOUGHTS = _models(r"(?:deepseek-(?:r\d|reasoner)|gpt-oss|qwq|magistral)")
_OPENAI_SCHEMA = _models(r"(?:gpt-4o(?!-2024-05-13)|gpt-4\.[1-9]|gpt-(?:[5-9]|\d\d)|o1(?!-(?:mini|preview))|o[3-9])")
_OPENAI_REASONS = _models(r"(?:o\d|gpt-(?:[5-9]|\d\d)(?!-chat))")
_CLAUDE = r"claude-"

_ROWS = {
    "openai": _Row(_OPENAI_TOOLS, _OPENAI_THOUGHTS, _OPENAI_SCHEMA, _ALL),
    "anthropic": _Row(
        _models(rf"{_CLAUDE}(?!2|instant)"),
        _models(rf"{_CLAUDE}(?:[a-z]+-4-[6-9]|mythos|(?:[a-z]+-)?(?:[5-9]|[1-9]\d))(?!\d)"),
        _models(rf"{_CLAUDE}(?:[a-z]+-4-[5-9]|mythos|(?:[a-z]+-)?(?:[5-9]|[1-9]\d))(?!\d)"),
        _models(rf"{_CLAUDE}(?:[a-z]+-4-[5-9]|mythos|(?:[a-z]+-)?(?:[5-9]|[1-9]\d))(?!\d)"),
    ),
    "gemini": _Row(
        _models(r"gemini-(?!1\.0)"), _models(r"gemini-(?:2\.5|[3-9])"), _models(r"gemini-(?!1\.0)"), _models("gemini-")
    ),
    "cohere": _Row(
        _models(r"command-(?:r|a)"),
        _models(r"command-a-reasoning"),
        _models(r"command-(?:r[\w-]*-08-2024|r7b|a)"),
        _models(r"command-(?:r|a)"),
    ),
    "embedded": _Row(_NONE, _NONE, _NONE, _NONE),
}

_Value = TypeVar("_Value")

#: By provider, what is known of pictures, sound, files and windows. The first row that is for a model holds.
_SOUND = _models(r"(?:gpt-4o(?:-mini)?-audio|gpt-audio)")
_GPT = _models(r"(?:gpt-(?!oss)|chatgpt-|o\d)")
_BLIND = _models(
    r"(?:gpt-3\.5|gpt-4(?:-(?:32k|0314|0613|1106-preview|0125-preview)\b|$)|o1-(?:mini|preview)|o3-mini|gpt-oss"
    r"|deepseek-(?:chat|reasoner|r\d|v\d))"
)
_GEMINI = _models(r"gemini-(?!embedding|1\.0|pro$)")
_CLAUDE_NOW = _models(rf"{_CLAUDE}(?:opus|sonnet|haiku|mythos|fable|[4-9]|3)")
_IMAGES: dict[str, tuple[tuple[re.Pattern[str], bool], ...]] = {
    "openai": ((_BLIND, False), (_SOUND, False), (_GPT, True)),
    "anthropic": ((_CLAUDE_NOW, True), (_models(rf"{_CLAUDE}(?:2|instant|v1)"), False)),
    "gemini": ((_GEMINI, True),),
    "cohere": ((_models(r"(?:command-a-vision|c4ai-aya-vision)"), True), (_models(r"command-(?:r|a(?!-plus))"), False)),
}
_AUDIO: dict[str, tuple[tuple[re.Pattern[str], bool], ...]] = {
    "openai": ((_SOUND, True), (_BLIND, False), (_GPT, False)),
    "anthropic": ((_ALL, False),),
    "gemini": ((_GEMINI, True),),
    "cohere": ((_ALL, False),),
}
_FILES: dict[str, tuple[tuple[re.Pattern[str], bool], ...]] = {
    "openai": ((_BLIND, False), (_SOUND, False), (_models(r"(?:gpt-4o|gpt-4\.1|gpt-[5-9]|o[1-9])"), True)),
    "anthropic": ((_models(rf"{_CLAUDE}(?:2|instant|v1)"), False), (_CLAUDE_NOW, True)),
    "gemini": ((_GEMINI, True),),
    "cohere": ((_ALL, False),),
}
_WINDOWS: dict[str, tuple[tuple[re.Pattern[str], int], ...]] = {
    "openai": (
        (_models(r"gpt-3\.5-turbo"), 16_385),
        (_models(r"gpt-4(?:-0314|-0613)?$"), 8_192),
        (_models(r"(?:gpt-4-turbo|gpt-4o(?!.*(?:realtime|transcribe|tts))|chatgpt-4o|gpt-audio)"), 128_000),
        (_models(r"gpt-4\.1"), 1_000_000),
        (_models(r"o1-(?:mini|preview)"), 128_000),
        (_models(r"(?:o1|o3|o4-mini)"), 200_000),
        (_models(r"gpt-5\.3(?!-codex)"), 128_000),
        (_models(r"gpt-5(?:\.[1-3]|\.4-(?:mini|nano)|(?=-(?:mini|nano|pro)|$))(?!.*(?:image|search|chat))"), 400_000),
        (_models(r"gpt-5\.[45](?!.*(?:image|cyber))"), 1_000_000),
        (_models(r"gpt-(?:5\.6|6(?:\.1)?)-(?:luna|sol|terra|astra)"), 1_050_000),
        (_models(r"gpt-oss-"), 131_072),
    ),
    "anthropic": (
        (_models(rf"{_CLAUDE}(?:opus|sonnet)-4-[6-9](?!\d)"), 1_000_000),
        (_models(rf"{_CLAUDE}(?:mythos|fable|[a-z]+-5)"), 1_000_000),
        (_models(rf"{_CLAUDE}(?:2|3|[a-z]+-4)"), 200_000),
    ),
    "gemini": ((_models(r"gemini-(?:1\.5|2\.[05]|3(?:\.\d)?|4)-(?!.*(?:tts|live|audio|image))"), 1_000_000),),
    "cohere": ((_models(r"command-a(?!-vision)"), 256_000), (_models(r"command-(?:r|a-vision)"), 128_000)),
}

NOTHING = Capabilities(params=frozenset())


@functools.lru_cache(maxsize=1024)
def capabilities_of(provider: str, model: str, shows_thoughts: bool = False) -> Capabilities:
    """Return what a model can do.

    Args:
        provider: openai, anthropic, gemini, cohere or embedded.
        model: the model's name without the provider.
        shows_thoughts: it is asked in a way that shows what it thinks: OpenAI's Responses API.
    """
    row = _ROWS.get(provider)
    if row is None:
        return NOTHING
    reasons = bool(row.thoughts.search(model)) or (
        shows_thoughts and provider == "openai" and _OPENAI_REASONS.search(model) is not None
    )
    tools = bool(row.tools.search(model))
    params = set(_COMMON)
    if row.json.search(model):
        params.add("response_format")
    if tools:
        params |= {"tools", "tool_choice"}
    if reasons:
        params.add("reasoning_effort")
    return Capabilities(
        tools,
        reasons,
        bool(row.schema.search(model)),
        frozenset(params),
        _first(_IMAGES, provider, model),
        _first(_AUDIO, provider, model),
        _first(_FILES, provider, model),
        _first(_WINDOWS, provider, model),
    )


def _first(rows: Mapping[str, tuple[tuple[re.Pattern[str], _Value], ...]], provider: str, model: str) -> _Value | None:
    """Return what the first row that is for a model says; None: there is none."""
    return next((value for pattern, value in rows.get(provider, ()) if pattern.search(model)), None)
