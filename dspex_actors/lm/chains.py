"""Who is asked when an LM cannot answer, and when it is left alone: the checks of these settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.circuit import CircuitSettings
from dspex_actors.lm import settings as check
from dspex_actors.lm.request import Parts

#: The settings that are lists of LMs: for overload and whatever has no list of its own, for prompts that are too long,
#: for content that is blocked.
LISTS = ("fallbacks", "context_fallbacks", "content_fallbacks")
#: Settings that are written down only where they are not these.
DEFAULTS: dict[str, Any] = {"context_fallbacks": None, "content_fallbacks": None, "circuit": None, "hedge": False}


def fallbacks(field: str, given: Any, kind: Any) -> tuple[Any, ...] | None:
    """Return a list of model strings and LMs.

    Args:
        field: which.
        given: what the user gave; data of `to_dict` are made LMs. None: nothing, where that is legal.
        kind: the class of LMs.

    Raises:
        ConfigError: it is no such list, or one of them has fallbacks of its own.
    """
    if given is None and field in DEFAULTS:
        return None
    if isinstance(given, (str, kind, dict)) or not isinstance(given, Iterable):
        raise check.bad(field, given, "a list of model strings or LMs")
    result: list[Any] = []
    for item in given:
        if isinstance(item, str):
            check.model_string(item)
            result.append(item)
            continue
        lm = kind.from_dict(item) if isinstance(item, dict) else item
        if not isinstance(lm, kind):
            raise check.bad(field, item, "model strings or LMs")
        if any(getattr(lm, name) for name in LISTS):
            raise check.bad(field, lm.model, "LMs that have no fallbacks of their own; list them all here")
        result.append(lm)
    return tuple(result)


def circuit(given: Any) -> dict[str, Any] | Literal[False] | None:
    """Return what an LM says of its circuit.

    Raises:
        ConfigError: it is no dict of circuit settings, no False and not None.
    """
    if given is None or given is False:
        return given
    if given is True:
        return None  # as the configuration says
    CircuitSettings.from_dict(given)
    return dict(given) or None


def refuse_loops(lm: Parts) -> None:
    """Refuse an LM that would be asked a second time for what it could not answer.

    Raises:
        ConfigError: an LM stands twice in what is asked one after the other.
    """
    for field in LISTS:
        asked = [lm]
        for other in getattr(lm, field) or ():
            for before in asked:
                if other.deployment == before.deployment and other.params == before.params:
                    raise ConfigError(
                        f"{field} is a loop: got {other.deployment.model} again, with the same server, key and "
                        "parameters; expected LMs that differ"
                    )
            asked.append(other)
