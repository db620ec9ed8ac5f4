"""The rules: one row for what one provider, or one family of its models, makes of one of our parameters.

Collected in autumn 2026 from the providers' references and migration guides, and from what their users report as
refused. Providers change: a parameter without a row is sent as it is, and a model that nobody has described yet gets
the rows of its whole provider.
"""

from __future__ import annotations

import re

from dspex_actors.lm.rules import translations as to
from dspex_actors.lm.rules.actions import NOTHING, Choose, Clamp, Drop, Refuse, Rename, Rule, Translate


def _models(pattern: str) -> re.Pattern[str]:
    """Return the pattern of models whose name, or its last part behind a gateway's prefix, begins like that."""
    return re.compile(rf"(?:^|[/:.]){pattern}")


# --- OpenAI ---------------------------------------------------------------------------------------------------------
#: o1, o3, ..., gpt-5 and later: they think before they answer, and sample as they like.
_REASONING = _models(r"(?:o\d|gpt-(?:[5-9]|\d\d)(?!-chat))")
#: Those of them that sample as they are asked to while they do not think.
_MAY_NOT_THINK = _models(r"gpt-(?:5\.\d|[6-9]|\d\d)(?!-chat)")
_ALWAYS_THINK = _models(r"(?:o\d|gpt-5(?![.\d]|-chat))")
_O = _models(r"o\d")
_NO_STOP = _models(r"(?:o[3-9]|gpt-(?:[5-9]|\d\d)(?!-chat))")
_NEW_NAME = _models(r"(?:o\d|gpt-(?:[5-9]|\d\d))")
_PLAIN_GPT = _models(r"(?:gpt-[34]|chatgpt-|gpt-5-chat)")
#: All that OpenAI serves itself. Servers that speak its format know more parameters, and get them.
_OWN = _models(r"(?:gpt-(?!oss)|chatgpt-|o\d)")
_SAMPLES = "models that reason take only its default"

_OPENAI = (
    Rule("max_tokens", Rename("max_completion_tokens"), _NEW_NAME),
    *(
        Rule(param, Drop(default, unless=unless), models, _SAMPLES)
        for models, unless in ((_ALWAYS_THINK, None), (_MAY_NOT_THINK, ("reasoning_effort", "none")))
        for param, default in (("temperature", 1), ("top_p", 1), ("logprobs", False), ("top_logprobs", 0))
    ),
    Rule("presence_penalty", Drop(0), _REASONING, _SAMPLES),
    Rule("frequency_penalty", Drop(0), _REASONING, _SAMPLES),
    Rule("logit_bias", Drop({}), _REASONING, _SAMPLES),
    Rule("stop", Drop(), _NO_STOP, "these models have no stop texts"),
    Rule("parallel_tool_calls", Drop(True), _O),
    Rule("reasoning_effort", Drop(), _PLAIN_GPT, "this model does not reason"),
    Rule("reasoning_effort", Choose({"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}), _O),
    Rule(
        "reasoning_effort",
        Choose({"none": "minimal", "xhigh": "high", "max": "high"}),
        _models(r"gpt-5(?![.\d]|-chat)"),
    ),
    Rule("reasoning_effort", Choose({"minimal": "low"}), _MAY_NOT_THINK),
    Rule("verbosity", Drop("medium"), _models(r"(?:o\d|gpt-[34]|chatgpt-)")),
    Rule("top_k", Drop(), _OWN),
    Rule("prompt_cache", Translate(to.openai_cache)),
    Rule("cache_control", Drop(), _OWN),
)

#: The Responses API has no such things, whichever model is asked.
_RESPONSES = (
    *(
        Rule(param, Drop(default), why="the Responses API has no such parameter")
        for param, default in (
            ("stop", NOTHING),
            ("seed", NOTHING),
            ("n", 1),
            ("presence_penalty", 0),
            ("frequency_penalty", 0),
            ("logit_bias", {}),
            ("prediction", NOTHING),
        )
    ),
    Rule("modalities", Refuse(), why="the Responses API answers with text only"),
    Rule("audio", Refuse(), why="the Responses API answers with text only"),
)

# --- Anthropic ------------------------------------------------------------------------------------------------------
#: Opus 4.7 and later, and everything that is called 5 and later: no sampling parameters at all.
_UNSAMPLED = _models(r"claude-(?:opus-4-[7-9](?!\d)|mythos|(?:[a-z]+-)?(?:[5-9]|[1-9]\d)(?!\d))")
#: Opus 4.1 and the models of 4.5 and later: one of the two.
_ONE_SAMPLER = _models(r"claude-(?:opus-4-[1-9]|[a-z]+-4-[5-9])(?!\d)")
_EFFORT = _models(r"claude-(?:opus-4-[5-9]|[a-z]+-4-[6-9]|mythos|(?:[a-z]+-)?(?:[5-9]|[1-9]\d))(?!\d)")
_SCHEMAS = _models(r"claude-(?:[a-z]+-4-[5-9]|mythos|(?:[a-z]+-)?(?:[5-9]|[1-9]\d))(?!\d)")

_ANTHROPIC = (
    Rule("max_completion_tokens", Rename("max_tokens")),
    *(Rule(param, Drop(), _UNSAMPLED, "this model samples as it likes") for param in ("temperature", "top_p", "top_k")),
    Rule("temperature", Clamp(0, 1)),
    Rule("top_p", Drop(given="temperature"), _ONE_SAMPLER, "this model takes temperature or top_p, not both"),
    Rule("seed", Drop()),
    Rule("frequency_penalty", Drop(0)),
    Rule("presence_penalty", Drop(0)),
    Rule("response_format", Translate(to.anthropic_format), _SCHEMAS, "only JSON with a schema can be asked for"),
    # Older ones write JSON of a schema as the arguments of a tool that they have to call.
    *(
        Rule(
            "response_format",
            Drop({"type": "text"}, given=given),
            why=f"this model cannot be told both: it has {given}",
        )
        for given in ("tools", "thinking")
    ),
    Rule("response_format", Translate(to.anthropic_reply), why="only JSON objects of a schema can be asked for"),
    Rule("reasoning_effort", Translate(to.anthropic_effort), _EFFORT, "there is no such effort"),
    Rule("reasoning_effort", Drop(), why="this model has a budget for thinking instead, `thinking`"),
    Rule("user", Translate(to.anthropic_user)),
    Rule("prompt_cache", Translate(to.anthropic_cache)),
    Rule("logprobs", Drop(False)),
    Rule("top_logprobs", Drop(0)),
)

# --- Gemini ---------------------------------------------------------------------------------------------------------
_PENALTIES = _models(r"gemini-(?!2\.0|1\.5-[a-z]+-002)")

_GEMINI = (
    Rule("max_completion_tokens", Rename("max_tokens")),
    Rule("seed", Translate(to.folded(31))),
    Rule("frequency_penalty", Drop(0), _PENALTIES, "penalties are not enabled for this model"),
    Rule("presence_penalty", Drop(0), _PENALTIES, "penalties are not enabled for this model"),
    Rule("reasoning_effort", Translate(to.gemini_budget), _models(r"gemini-2\.5"), "there is no such effort"),
    Rule("reasoning_effort", Drop(), _models(r"gemini-(?:1|2\.0)"), "this model does not think"),
    Rule("reasoning_effort", Translate(to.gemini_level)),
    Rule("logprobs", Translate(to.gemini_logprobs)),
    Rule("prompt_cache", Translate(to.gemini_cache)),
    Rule("cache_control", Drop()),
    Rule("top_logprobs", Translate(to.gemini_top_logprobs)),
    Rule("parallel_tool_calls", Drop(True)),
    Rule("user", Drop()),
)

# --- Cohere ---------------------------------------------------------------------------------------------------------
_COHERE = (
    Rule("max_completion_tokens", Rename("max_tokens")),
    Rule("temperature", Clamp(0, 1)),
    Rule("top_p", Clamp(0.01, 0.99)),
    Rule("top_k", Clamp(0, 500)),
    Rule("frequency_penalty", Clamp(0, 1)),
    Rule("presence_penalty", Clamp(0, 1)),
    Rule("seed", Translate(to.folded(63))),
    Rule("response_format", Translate(to.cohere_format)),
    Rule("reasoning_effort", Translate(to.cohere_thinking), _models(r"command-a-reasoning")),
    Rule("reasoning_effort", Drop(), why="this model does not reason"),
    Rule("tool_choice", Translate(to.cohere_choice), why="a certain tool cannot be chosen"),
    Rule("prompt_cache", Translate(to.cohere_cache)),
    Rule("cache_control", Drop()),
    Rule("top_logprobs", Drop(0)),
    Rule("parallel_tool_calls", Drop(True)),
    Rule("user", Drop()),
)

#: What only OpenAI has; nobody else knows what it is.
_ONLY_OPENAI = (
    Rule("n", Drop(1)),
    Rule("logit_bias", Drop({})),
    Rule("verbosity", Drop("medium")),
    Rule("store", Drop(False)),
    Rule("prompt_cache_key", Drop()),
    Rule("safety_identifier", Drop()),
    Rule("prediction", Drop()),
    Rule("modalities", Refuse()),
    Rule("audio", Refuse()),
    Rule("web_search_options", Refuse()),
)


def is_openai_own(model: str) -> bool:
    """Tell by its name whether OpenAI serves a model itself: it is strict about fields that it does not know."""
    return _OWN.search(model) is not None


def is_openai_reasoning(model: str) -> bool:
    """Tell by its name whether a model is one of OpenAI's that reason."""
    return _REASONING.search(model) is not None


#: By provider. Rows are used in their order; what is dropped, translated or refused meets no further row.
TABLE: dict[str, tuple[Rule, ...]] = {
    "openai": _OPENAI,
    "anthropic": (*_ANTHROPIC, *_ONLY_OPENAI),
    "gemini": (*_GEMINI, *_ONLY_OPENAI),
    "cohere": (*_COHERE, *_ONLY_OPENAI),
    "embedded": (Rule("prompt_cache", Drop(), why="the embedded LM caches nothing"),),
    # OpenAI's Responses API, and the embedded LM asked in it.
    "responses": (*_RESPONSES, *_OPENAI),
}
