"""LMs in saved programs: what of the state that we or DSPy wrote makes an LM again."""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.lm.chains import LISTS
from dspex_actors.lm.wire import MODEL_TYPES

#: What DSPy saves of an LM and we have no use for.
_DSPY_ONLY = frozenset(
    {
        "_dspy_lm_class",
        "num_retries",
        "callbacks",
        "finetuning_model",
        "launch_kwargs",
        "train_kwargs",
        "use_developer_role",
        "engine",
        "async_engine",
        "provider",
        "model_list",
        "api_base",
    }
)
#: Settings that a file from somebody else must not choose: they decide where the prompt and the key go.
_UNSAFE = frozenset({"base_url", "api_key"})


def usable(state: dict[str, Any], *, trusted: bool) -> dict[str, Any]:
    """Return what `LM` is made from.

    Args:
        state: what `LM.dump_state` returned, or what DSPy saved.
        trusted: take base_url and api_key from it too.

    Raises:
        ConfigError: it names no model.
    """
    dropped = _DSPY_ONLY if trusted else _DSPY_ONLY | _UNSAFE
    kept = {key: value for key, value in state.items() if key not in dropped}
    if kept.get("model_type") not in MODEL_TYPES:
        kept.pop("model_type", None)
    if not trusted:
        for field in LISTS:
            if state.get(field) is not None or field == LISTS[0]:
                kept[field] = [lm for lm in map(_stripped, state.get(field) or ()) if not _is_same(lm, kept)]
    if "model" not in kept:
        raise ConfigError("LM state: expected a dict with 'model', got one without")
    return kept


def _stripped(lm: Any) -> Any:
    return {key: value for key, value in lm.items() if key not in _UNSAFE} if isinstance(lm, dict) else lm


def _is_same(lm: Any, first: dict[str, Any]) -> bool:
    """Whether a fallback was the same model elsewhere: without its address nothing is left of it."""
    if not isinstance(lm, dict) or lm.get("model") != first.get("model"):
        return False
    params = lm.get("params") or {}
    return all(first.get(name) == value for name, value in params.items())
