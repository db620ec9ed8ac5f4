"""Makes a call's parameters fit the model that is asked, by the rules of the table."""

from __future__ import annotations

import functools
import logging
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.lm.rules.actions import Choose, Clamp, Drop, Refuse, Rename, Rule, Translate
from dspex_actors.lm.rules.table import TABLE

_log = logging.getLogger(__name__)

#: Warnings given already, as (model string, parameter): a hundred thousand calls of one LM are worth one line.
_warned: set[tuple[str, str]] = set()


def rows_for(provider: str, model_type: str) -> str:
    """Return whose rows of the table hold for a model that is asked so: the provider's, or the Responses API's."""
    return "responses" if model_type == "responses" else provider


def fit(provider: str, model: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as one model takes them; those that all takes come back as they are, uncopied.

    What the model cannot be told is left out or replaced by the nearest that it can, with one warning per process,
    model and parameter.

    Args:
        provider: openai, anthropic, gemini, cohere or embedded; "responses": openai, asked in its Responses API.
        model: the model's name without the provider.
        params: parameters in our normal form.

    Raises:
        ConfigError: without one of them the answer would be another thing than what was asked for.
    """
    rules = _rules(provider, model)
    if rules.keys().isdisjoint(params):
        return params
    fitted = params
    for param in params:
        for rule in rules.get(param, ()):
            if not _bites(rule, fitted, params):
                continue
            if fitted is params:
                fitted = dict(params)
            shown = f"{'openai' if provider == 'responses' else provider}/{model}"
            if warning := _use(rule, fitted, shown):
                _warn(shown, param, warning)
            if param not in fitted:
                break
    return fitted


@functools.lru_cache(maxsize=1024)
def _rules(provider: str, model: str) -> dict[str, tuple[Rule, ...]]:
    found: dict[str, tuple[Rule, ...]] = {}
    for rule in TABLE.get(provider, ()):
        if rule.models is None or rule.models.search(model):
            found[rule.param] = (*found.get(rule.param, ()), rule)
    return found


def _bites(rule: Rule, fitted: dict[str, Any], given: dict[str, Any]) -> bool:
    """Tell whether a rule has something to do."""
    action, value = rule.action, fitted[rule.param]
    if type(action) is Clamp:
        return isinstance(value, (int, float)) and not action.low <= value <= action.high
    if type(action) is Drop:
        unless = action.unless
        return (action.given is None or action.given in fitted) and (
            unless is None or given.get(unless[0]) != unless[1]
        )
    if type(action) is Choose:
        return isinstance(value, str) and value in action.words
    return value is not None


def _use(rule: Rule, fitted: dict[str, Any], model: str) -> str:
    """Use one rule that bites on `fitted`; return the warning that it is worth, or an empty text.

    Raises:
        ConfigError: the rule refuses.
    """
    param, action = rule.param, rule.action
    value = fitted.pop(param)
    not_sent = f"{param}={_short(value)} is not sent: {rule.why}"
    match action:
        case Clamp(low, high):
            fitted[param] = low if value < low else high
            return f"{param}={value!r} is sent as {fitted[param]}: it is taken from {low:g} to {high:g}"
        case Choose(words):
            fitted[param] = words[value]
            return f"{param}={value!r} is sent as {words[value]!r}, the nearest that this model knows"
        case Rename(to):
            fitted.setdefault(to, value)
            return ""
        case Translate(write):
            fields = write(value)
            if fields is not None:
                _merge(fitted, fields)
            return not_sent if fields is None else ""
        case Drop(default):
            return "" if value is None or value == default else not_sent
        case Refuse():
            raise ConfigError(f"{param}: {rule.why} at {model}, and without it the answer would be another thing")


def _merge(target: dict[str, Any], fields: dict[str, Any]) -> None:
    """Put fields into what is sent; what the user wrote there in the provider's own words stands."""
    for name, value in fields.items():
        there = target.get(name)
        if isinstance(there, dict) and isinstance(value, dict):
            target[name] = {**there}
            _merge(target[name], value)
        else:
            target.setdefault(name, value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _warn(model: str, param: str, what: str) -> None:
    if (model, param) not in _warned:
        _warned.add((model, param))
        _log.warning("%s: %s", model, what)
