"""Checks every setting and parameter of an LM when it is written down, not when it is first used.

One function per kind of setting; each returns the value in its normal form or raises a one-line ConfigError
that names the field, what was given and what is legal.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.checks import is_whole
from dspex_actors.foundation.secrets import looks_like_key, scrub
from dspex_actors.lm.content.messages import to_plain
from dspex_actors.lm.wire import MODEL_TYPES, PROVIDERS, wire_for

#: What people write for our providers elsewhere.
_ALIASES = {
    "google": "gemini",
    "vertex_ai": "gemini",
    "claude": "anthropic",
    "gpt": "openai",
    "azure": "openai",
    "ollama": "openai",
    "ollama_chat": "openai",
    "vllm": "openai",
    "hosted_vllm": "openai",
    "command": "cohere",
}
_FAMILIES = (
    (re.compile(r"gpt|o\d|chatgpt|ft:"), "openai"),
    (re.compile(r"claude"), "anthropic"),
    (re.compile(r"gemini|gemma|models/"), "gemini"),
    (re.compile(r"command|c4ai"), "cohere"),
    (re.compile(r"nearest"), "embedded"),
)
#: Parameters that are not ours to pass on, and what to do instead.
_REFUSED = {
    "stream": "leave it out, and read an answer as it comes with lm.stream(...)",
    "model": "give it as the first argument of LM",
    "messages": "give them when you call the LM",
    "api_base": "the setting is called base_url",
    "num_retries": "retries go on for as long as deadline allows; set deadline",
    "max_retries": "retries go on for as long as deadline allows; set deadline",
    "callbacks": "an LM has no callbacks; leave it out",
    "headers": "requests carry no headers of your own",
    "extra_headers": "requests carry no headers of your own",
}
#: What DSPy writes into a saved LM and does not ask the provider with.
_NOT_ASKED = frozenset({"_dspy_lm_class"})
#: DSPy's settings of a provider's prompt cache, with what is legal; (): any text.
_CACHE: dict[str, Any] = {
    "mode": ("auto", "off"),
    "retention": ("short", "long"),
    "prefix": ("stable", "history"),
    "prefix_until_index": "a whole number",
    "key": (),
    "resource": (),
}
_LEGAL_CACHE = (
    "'auto', 'off', or a dict of mode (auto, off), prefix (stable, history), prefix_until_index, "
    "retention (short, long), key and resource"
)
_SECRET = re.compile(r"api_?key|secret|password|authori[sz]ation|access_token", re.IGNORECASE)
#: The same inside of tools, servers and the like, where a text stands under it. A schema may have a field called so.
_SECRET_INSIDE = re.compile(
    r"(?:.*[-_.])?(?:api[-_]?key|secret|password|authori[sz]ation|cookie|credentials?|bearer"
    r"|(?:access|auth|bearer|refresh|id|session|api|oauth|private)[-_]?token)(?:[-_.].*)?|token",
    re.IGNORECASE,
)


def shown(value: object) -> str:
    """Return a value as an error shows it: on one line, short, without keys."""
    text = " ".join(scrub(repr(value)).split())
    return text if len(text) <= 80 else text[:79] + "…"


def bad(field: str, value: object, legal: str) -> ConfigError:
    """Return the error for one setting: its name, what was given, what is legal."""
    return ConfigError(f"{field}: expected {legal}, got {shown(value)}")


def model_string(value: object) -> tuple[str, str]:
    """Split `provider/model`.

    Raises:
        ConfigError: it is not one of ours; lists the legal providers and guesses what was meant.
    """
    legal = ", ".join(PROVIDERS)
    if not isinstance(value, str) or not value.strip():
        raise bad("model", value, f"'provider/model' with provider one of {legal}")
    provider, slash, model = value.partition("/")
    if provider in PROVIDERS and slash and model and model == model.strip() and model.isprintable():
        return provider, model
    guess = ""
    if provider in PROVIDERS:
        guess = f"; the model's name is missing or has blanks around it, as in '{provider}/NAME'"
    elif slash:
        lowered = provider.strip().lower()
        close = _ALIASES.get(lowered) or next(iter(difflib.get_close_matches(lowered, PROVIDERS, 1)), None)
        if close:
            guess = f"; did you mean {shown(f'{close}/{model.strip()}')}?"
        elif model:
            guess = f"; for a server that speaks OpenAI's format: 'openai/{shown(model)[1:-1]}' with base_url"
    else:
        family = next((name for pattern, name in _FAMILIES if pattern.match(provider.lower())), None)
        if family:
            guess = f"; did you mean {shown(f'{family}/{provider}')}?"
    raise ConfigError(f"model: expected 'provider/model' with provider one of {legal}, got {shown(value)}{guess}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def seconds(field: str, value: Any) -> float:
    """Return a duration in seconds, above 0."""
    if not _is_number(value) or value <= 0:
        raise bad(field, value, "a number of seconds above 0")
    return float(value)


def rate(field: str, value: Any) -> float | None:
    """Return a rate, above 0: per minute, second or day, as the last letter of its name says; None: not given."""
    if value is None:
        return None
    if not _is_number(value) or value <= 0:
        unit = {"s": "second", "d": "day"}.get(field[-1], "minute")
        raise bad(field, value, f"a number per {unit} above 0, or None")
    return float(value)


def count(field: str, value: Any, least: int = 1) -> int | None:
    """Return a count of at least `least`, also one that came as 3.0 out of a file; None: not given."""
    if value is None:
        return None
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if not is_whole(number, least):
        raise bad(field, value, f"a whole number of at least {least}, or None")
    return int(number)


def model_type(provider: str, value: Any) -> str:
    """Return what an LM is asked for, if the provider has it."""
    if value == "text":
        raise ConfigError("model_type: 'text' is for models that complete texts, of which no provider is left")
    if value not in MODEL_TYPES or wire_for(provider, value) is None:
        known = [name for name in MODEL_TYPES if wire_for(provider, name) is not None]
        raise bad("model_type", value, " or ".join(map(repr, known)) + f", which {provider} has")
    return str(value)


def flag(field: str, value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise bad(field, value, "True or False")
    return value


def plain(field: str, value: Any, depth: int = 0) -> Any:
    """Return a copy of JSON-like data; tuples become lists.

    Raises:
        ConfigError: it holds something that is no JSON, or is nested more than 32 deep.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if depth < 32:
        if isinstance(value, (list, tuple)):
            return [plain(field, item, depth + 1) for item in value]
        if isinstance(value, dict) and all(isinstance(name, str) for name in value):
            return {name: plain(field, item, depth + 1) for name, item in value.items()}
    raise bad(field, value, "plain JSON data (None, bool, number, text, list, dict with text keys)")


def _refuse_secrets(path: str, value: Any) -> None:
    """Refuse keys inside of tools, servers and headers: parameters are written to journals and logs."""
    if isinstance(value, str):
        if looks_like_key(value):
            raise ConfigError(
                f"{path}: it holds what looks like a key (value not shown); credentials are no parameters"
            )
    elif isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, str) and item and _SECRET_INSIDE.fullmatch(name):
                raise ConfigError(f"{path}.{name}: credentials are no parameters (value not shown)")
            _refuse_secrets(f"{path}.{name}", item)
    elif isinstance(value, list):
        for place, item in enumerate(value):
            _refuse_secrets(f"{path}[{place}]", item)


def _between(field: str, value: Any, low: float, high: float) -> float:
    if not _is_number(value) or not low <= value <= high:
        raise bad(field, value, f"a number from {low:g} to {high:g}, or None")
    return float(value)


def _stop(value: Any) -> str | list[str]:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, str) and item for item in value):
        return list(value)
    raise bad("stop", value, "a text, or a list of texts, none of them empty")


def _prompt_cache(value: Any) -> dict[str, Any]:
    """Return DSPy's settings of a provider's prompt cache as plain data: "auto", "off", a dict, or its CacheConfig."""
    given = {"mode": value} if isinstance(value, str) else value
    if not isinstance(given, dict):
        given = {name: getattr(value, name, None) for name in _CACHE if hasattr(value, "mode")}
    checked = {name: each for name, each in given.items() if each is not None}
    checked.setdefault("mode", "auto" if checked else None)
    for name, each in checked.items():
        legal = _CACHE.get(name, ())
        is_legal = is_whole(each, 0) if legal == "a whole number" else each in legal if legal else isinstance(each, str)
        if name not in _CACHE or not is_legal:
            raise bad("prompt_cache", value, _LEGAL_CACHE)
    if checked["mode"] == "off" and len(checked) > 1:
        raise bad("prompt_cache", value, "mode 'off' with nothing beside it")
    if "prefix" in checked and "prefix_until_index" in checked:
        raise bad("prompt_cache", value, "prefix or prefix_until_index, not both")
    return checked


def params(given: dict[str, Any]) -> dict[str, Any]:
    """Check a call's parameters.

    Args:
        given: parameters in our normal form (temperature, max_tokens, stop, top_p, top_k, seed, …); unknown
            ones are for the provider and only have to be plain data.

    Returns:
        A copy in normal form. None stays: it takes a parameter of the LM away.

    Raises:
        ConfigError: a value is out of range, or the parameter is none.
    """
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name in _NOT_ASKED:
            continue
        if name in _REFUSED:
            raise ConfigError(f"{name}: not a parameter; {_REFUSED[name]}")
        if _SECRET.search(name):
            raise ConfigError(f"{name}: credentials are no parameters; use api_key='env:NAME' (value not shown)")
        if value is None:
            checked[name] = None
        elif name == "temperature":
            checked[name] = _between(name, value, 0, 2)
        elif name == "top_p":
            checked[name] = _between(name, value, 0, 1)
        elif name in ("frequency_penalty", "presence_penalty"):
            checked[name] = _between(name, value, -2, 2)
        elif name in ("max_tokens", "max_completion_tokens"):
            checked[name] = count(name, value)
        elif name == "top_k":
            checked[name] = count(name, value, least=0)
        elif name == "seed":
            checked[name] = count(name, value, least=-(2**63))
        elif name == "stop":
            checked[name] = _stop(value)
        elif name == "prompt_cache":
            checked[name] = _prompt_cache(value)
        elif name == "n" and value != 1:
            raise bad(name, value, "1: a call gives one reply; call again for another")
        else:
            checked[name] = plain(name, value)
            _refuse_secrets(name, checked[name])
    return checked


def asked(prompt: Any, given: Any) -> list[dict[str, Any]]:
    """Return the messages of a call that has a prompt or messages.

    Raises:
        ConfigError: it has both or neither, or they are not usable.
    """
    if (prompt is None) == (given is None):
        raise ConfigError("an LM call takes a prompt or messages: expected one of them, got both or neither")
    return messages(prompt if given is None else given)


def messages(given: Any) -> list[dict[str, Any]]:
    """Return a call's messages: a plain text becomes one user message.

    Raises:
        ConfigError: not a text nor a list of role/content messages, or not plain JSON data.
    """
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, (list, tuple)) or not given:
        raise bad("messages", given, "a text or a list of messages, at least one")
    found = list(given)
    for place, told in enumerate(found):
        message = told
        if not isinstance(told, dict) or not isinstance(told.get("content"), str):
            message = found[place] = to_plain(told)
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise bad("messages", message, "dicts with a 'role' and a 'content', or typed ones (as reply.message)")
        if not isinstance(message.get("content"), (str, list, tuple, type(None))):
            raise bad(f"messages: content of a {message['role']} message", message["content"], "a text or a list")
        if len(message) > 2 or not isinstance(message.get("content"), str):
            plain(f"messages: a {message['role']} message", message)  # found here, not in a worker
    return found
