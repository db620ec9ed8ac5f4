"""What a run may cost, as its settings have it: `budget` in dollars, and `unknown_price`.

It says how a run is done and not what it is: one that is used up goes on with a larger one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.purses import CALLS, units
from dspex_actors.lm.attempts import RunBudget
from dspex_actors.lm.base import BaseLM
from dspex_actors.lm.lm import LM
from dspex_actors.lm.request import Parts

#: Why a run is paused whose budget is used up.
BUDGET = "budget"
#: Of the settings of an optimisation's run: the dollars that the whole optimisation may cost.
WHOLE_BUDGET = "whole_budget"
#: The same of LM calls.
WHOLE_CALLS = "whole_calls"
POLICIES = ("refuse", "warn")
#: More is no limit: so many dollars fit in the file of who spends.
MOST_DOLLARS = 1_000_000.0


def check_budget(budget: Any, unknown_price: Any = "refuse") -> dict[str, Any]:
    """Return the settings of a run for what it may cost; none where it has no limit.

    Args:
        budget: dollars; None and infinity: no limit.
        unknown_price: refuse or warn.

    Raises:
        ConfigError: one of them is something else.
    """
    if unknown_price not in POLICIES:
        raise ConfigError(f"unknown_price is invalid: got {unknown_price!r:.100}, expected 'refuse' or 'warn'")
    if budget is None or budget == math.inf:
        return {}
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget <= MOST_DOLLARS:
        raise ConfigError(
            f"budget is invalid: got {budget!r:.100}, expected US dollars above 0, up to {MOST_DOLLARS:,.0f}, or None"
        )
    return {"budget": float(budget), "unknown_price": unknown_price}


def priced_parts(lms: Iterable[Any]) -> list[tuple[str, str, str | None, bool]]:
    """Return what the prices of LMs are found by: provider, model, tier, and whether it is the provider's own server.

    Args:
        lms: that a run will ask; their fallbacks are in it, too.

    Raises:
        ConfigError: one of them is none of ours, and says no price.
    """
    found = []
    for lm in lms:
        if isinstance(lm, LM):
            for parts in _all_parts(lm._parts):
                own = parts.deployment
                found.append((own.provider, own.model_name, parts.params.get("service_tier"), own.at_home))
        elif lm is not None and not isinstance(lm, BaseLM):
            raise ConfigError(
                f"the price of {type(lm).__name__} is not known, so no budget could be kept: use a dspex.LM, or "
                'unknown_price="warn"'
            )
    return found


def _all_parts(parts: Parts) -> list[Parts]:
    return [parts, *(inner for other in parts.fallbacks for inner in _all_parts(other))]


def run_budget(run_id: str, options: dict[str, Any], *, is_far: bool = False) -> RunBudget | None:
    """Return what a run may cost, for those who ask its LMs; None: there is no limit.

    Args:
        run_id: the run.
        options: of its job: `budget` and `unknown_price`; `paid`, what it had cost when it was opened; `began`, when it
            was made: one that was deleted, and is made anew under its id, has another account; `above`, the same of
            the optimisation that it is a part of, and its `run_id`; `calls`, that of its LM calls.
        is_far: another node coordinates it, and makes its account.
    """
    has_budget, calls = options.get("budget") is not None, options.get("calls")
    if not has_budget and calls is None:
        return None
    above = options.get("above")
    return RunBudget(
        _account(run_id, options, is_far=is_far) if has_budget else None,
        options.get("unknown_price") or "refuse",
        () if above is None or not has_budget else (_account(above["run_id"], above, is_far=is_far),),
        None if calls is None else _calls(calls, is_far=is_far),
    )


def _calls(told: Mapping[str, Any], *, is_far: bool) -> tuple[str, int, int]:
    name = f"run:{told['run_id']}{CALLS}{round(1000 * (told.get('began') or 0.0))}"
    return name, int(told["budget"]), -1 if is_far else int(told.get("paid") or 0)


def _account(run_id: str, told: Mapping[str, Any], *, is_far: bool) -> tuple[str, int, int]:
    name = f"run:{run_id}#{round(1000 * (told.get('began') or 0.0))}"
    return name, units(told["budget"]), -1 if is_far else units(told.get("paid") or 0.0)
