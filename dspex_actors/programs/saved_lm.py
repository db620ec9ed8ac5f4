"""The LM and the call parameters of a saved predictor: settings, never a key.

DSPy loads what is written here: its LM has the settings that it knows, and ours stand beside them, under `dspex`, where
it does not look. A file may come from anybody, so by default nothing in it decides where prompts and keys go, and
nothing is imported for it.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from typing import Any

from dspex_actors.adapters.values import jsonable_state
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.lm import chains
from dspex_actors.lm.deployment import NEWER
from dspex_actors.lm.lm import LM

_log = logging.getLogger(__name__)

_CLASS = "_dspy_lm_class"
#: DSPy's own class. Its file says it, and so does ours, because DSPy refuses any other.
_DSPYS = "dspy.clients.lm.LM"
_BUILT_IN = (None, _DSPYS, "dspex_actors.LM")
#: Settings that are ours alone: DSPy would send them to the provider.
_OURS = ("rpm", "tpm", *NEWER, "max_in_flight", "timeout", "deadline", "fallbacks", *chains.DEFAULTS)
#: What decides where prompts and keys go.
_UNSAFE = ("api_base", "base_url", "model_list", "api_key")
#: The same among the parameters of calls.
_UNSAFE_PARAMS = (*_UNSAFE, *chains.LISTS, "headers", "extra_headers", "model")


def dump(lm: Any) -> dict[str, Any]:
    """Return what a predictor's state says of its LM, as `lm` and, where we have more to say, `dspex`."""
    if lm is None:
        return {"lm": None}
    if not hasattr(lm, "dump_state"):
        _log.warning("an LM of the class %s is not saved: it has no dump_state", type(lm).__name__)
        return {"lm": None}
    state = {name: value for name, value in _keyless(lm.dump_state()).items() if value is not None}
    if not isinstance(lm, LM):
        state[_CLASS] = f"{type(lm).__module__}.{type(lm).__qualname__}"
        return {"lm": jsonable_state(state)}
    usual = _keyless(LM(lm.model).dump_state())
    ours = {name: value for name in _OURS if (value := state.pop(name, None)) != usual.get(name)}
    state[_CLASS] = _DSPYS
    part = {"lm": jsonable_state({_CLASS: _DSPYS, "model": lm.model, "model_type": "chat", **state})}
    return {**part, "dspex": {"lm": jsonable_state(ours)}} if ours else part


def _keyless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _keyless(item) for name, item in value.items() if name != "api_key"}
    return [_keyless(item) for item in value] if isinstance(value, list | tuple) else value


def load(part: Mapping[str, Any], *, trusted: bool) -> Any:
    """Make the LM that a predictor's state tells of.

    Args:
        part: the state.
        trusted: take the server from it too, and import the class of an LM of the user's own.

    Returns:
        The LM; None where the state has none, or one that cannot be used here (a warning says why).

    Raises:
        ConfigValueError: it is of a class of its own, and the file is not trusted.
    """
    saved = part.get("lm")
    if not isinstance(saved, Mapping):
        return None
    kind = saved.get(_CLASS)
    if kind not in _BUILT_IN:
        return _own(str(kind), saved, trusted)
    beside = part.get("dspex")
    ours = beside.get("lm") if isinstance(beside, Mapping) else None
    state = {**saved, **(ours if isinstance(ours, Mapping) else {})}
    if trusted and state.get("api_base") is not None:
        state.setdefault("base_url", state["api_base"])
    unsafe = [name for name in _UNSAFE if state.get(name) is not None]
    if unsafe and not trusted:
        _log.warning(
            "the saved LM %s: %s ignored, because the file may come from anybody; "
            "load(..., allow_unsafe_lm_state=True) takes them",
            state.get("model"),
            unsafe,
        )
    try:
        return LM.load_state(state, allow_unsafe_lm_state=trusted)
    except (ConfigError, TypeError, ValueError) as error:
        _log.warning("the saved LM %s cannot be used here: %s; set another with set_lm", state.get("model"), error)
        return None


def _own(kind: str, saved: Mapping[str, Any], trusted: bool) -> Any:
    if not trusted:
        raise ConfigValueError(
            f"the saved LM is of the class {kind}: nothing is imported for a saved program; "
            "load(..., allow_unsafe_lm_state=True) does it for a file that you trust as you trust code"
        )
    parts = kind.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        try:
            for name in parts[cut:]:
                found = getattr(found, name)
            return found.load_state({name: value for name, value in saved.items() if name != _CLASS})
        except AttributeError as error:
            raise ConfigValueError(f"the saved LM's class {kind} is not there: {error}") from None
    raise ConfigValueError(f"the saved LM's class {kind} is not there: no such module")


def dump_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a predictor's call parameters for its state: DSPy takes them over too; none: nothing.

    Raises:
        ValueError: JSON has no form for one.
    """
    kept = {name: value for name, value in config.items() if name not in _UNSAFE_PARAMS}
    return {"config": jsonable_state(kept)} if kept else {}


def load_config(part: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the call parameters that a state has; None: it says nothing about them."""
    config = part.get("config")
    if not isinstance(config, Mapping):
        return None
    return {str(name): value for name, value in config.items() if name not in _UNSAFE_PARAMS}
