"""Parameters whose value has another form at another provider. Pure; each function is a `Translate` of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_actors.errors import ConfigError

#: The schema of the reply, and the tool of it, where Claude is not told otherwise to write JSON.
REPLY = "reply_as_json"

Fields = dict[str, Any] | None

#: Tokens that Google's own translation of OpenAI's words gives a model of Gemini 2.5 to think.
_THINKING_BUDGET = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "max": 24576}


def _schema_of(form: Any) -> tuple[str, Any]:
    """Return the type of a `response_format`, and its JSON schema or None."""
    if not isinstance(form, dict):
        return "", None
    holder = form.get("json_schema")
    return str(form.get("type", "")), holder.get("schema", holder) if isinstance(holder, dict) else None


def anthropic_format(form: Any) -> Fields:
    """Ask Claude for JSON of a schema; JSON without one it cannot be asked for."""
    kind, schema = _schema_of(form)
    if kind == "text":
        return {}
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}} if schema is not None else None


def anthropic_reply(form: Any) -> Fields:
    """Leave a schema to the wire format, which makes a tool of it: its arguments are objects."""
    kind, schema = _schema_of(form)
    if kind == "text":
        return {}
    return {REPLY: schema} if isinstance(schema, dict) and schema.get("type", "object") == "object" else None


def cohere_format(form: Any) -> Fields:
    """Write a schema where Cohere has it."""
    kind, schema = _schema_of(form)
    if kind == "text":
        return {}
    fields: dict[str, Any] = {"type": "json_object"}
    if schema is not None:
        fields["json_schema"] = schema
    return {"response_format": fields}


def anthropic_effort(effort: Any) -> Fields:
    """Write how hard Claude tries; it has no word for not at all."""
    if not isinstance(effort, str) or effort == "none":
        return None
    return {"output_config": {"effort": {"minimal": "low"}.get(effort, effort)}}


def gemini_level(effort: Any) -> Fields:
    """Write how much Gemini 3 and later think."""
    if not isinstance(effort, str):
        return None
    level = {"none": "minimal", "xhigh": "high", "max": "high"}.get(effort, effort)
    return {"generationConfig": {"thinkingConfig": {"thinkingLevel": level}}}


def gemini_budget(effort: Any) -> Fields:
    """Write how many tokens Gemini 2.5 may think for."""
    tokens = _THINKING_BUDGET.get({"xhigh": "max"}.get(effort, effort)) if isinstance(effort, str) else None
    return None if tokens is None else {"generationConfig": {"thinkingConfig": {"thinkingBudget": tokens}}}


def cohere_thinking(effort: Any) -> Fields:
    """Switch Cohere's thinking on or off: it has no levels."""
    return {"thinking": {"type": "disabled" if effort == "none" else "enabled"}}


def gemini_logprobs(wanted: Any) -> Fields:
    """Ask Gemini for the probabilities of tokens."""
    return {"generationConfig": {"responseLogprobs": bool(wanted)}} if wanted else {}


def gemini_top_logprobs(number: Any) -> Fields:
    """Ask Gemini for the likeliest tokens at each place."""
    return {"generationConfig": {"responseLogprobs": True, "logprobs": number}} if number else {}


def anthropic_cache(wanted: Any) -> Fields:
    """Leave to the wire format where the marks stand."""
    if not _is_cache(wanted, "key", "resource", who="Anthropic"):
        return None
    return {"prompt_cache": wanted} if wanted.get("mode") != "off" else {}


def openai_cache(wanted: Any) -> Fields:
    """Name the cache and how long it is kept; up to where, OpenAI finds out by itself."""
    if not _is_cache(wanted, "resource", who="OpenAI"):
        return None
    fields = {"prompt_cache_key": wanted["key"]} if wanted.get("key") else {}
    return {**fields, "prompt_cache_retention": "24h"} if wanted.get("retention") == "long" else fields


def gemini_cache(wanted: Any) -> Fields:
    """Name a cache that was made before; all else Gemini finds out by itself."""
    if not _is_cache(wanted, "key", "retention", who="Gemini"):
        return None
    return {"cachedContent": wanted["resource"]} if wanted.get("resource") else {}


def cohere_cache(wanted: Any) -> Fields:
    """Cohere caches by itself, or does not."""
    if not _is_cache(wanted, "key", "retention", "resource", who="Cohere"):
        return None
    return {}


def _is_cache(wanted: Any, *fields: str, who: str) -> bool:
    """Tell whether something is a `prompt_cache`; refuse what of it a provider has not: it costs more than was meant.

    Raises:
        ConfigError: one of the fields is given.
    """
    if not isinstance(wanted, dict):
        return False
    for field in fields:
        if wanted.get(field) not in (None, "short"):
            raise ConfigError(f"prompt_cache: {who} has no {field}; leave it out")
    return True


def anthropic_user(user: Any) -> Fields:
    """Name the end user."""
    return {"metadata": {"user_id": user}}


def folded(bits: int) -> Callable[[Any], Fields]:
    """Return what writes a seed as a number of so many bits: another seed stays, nearly always, another seed."""
    return lambda seed: {"seed": seed % (1 << bits) if isinstance(seed, int) else seed}


def cohere_choice(choice: Any) -> Fields:
    """Say whether Cohere has to call a tool; a certain one it cannot be told."""
    if choice == "auto":
        return {}
    words = {"required": "REQUIRED", "none": "NONE", "REQUIRED": "REQUIRED", "NONE": "NONE"}
    return {"tool_choice": words[choice]} if isinstance(choice, str) and choice in words else None
