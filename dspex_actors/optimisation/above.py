"""What stands above the rooms of a node, and is found by its name: optimisers are made of what connects to a node."""

from __future__ import annotations

import importlib
from typing import Any

#: Carries an optimisation out; checks one that is to begin; reads a budget.
WORK = "dspex_actors.teleprompt.in_node:Work"
PLAN = "dspex_actors.teleprompt.starting:plan"
LIMITS = "dspex_actors.teleprompt.limits:Limits"


def find(place: str) -> Any:
    """Return what is at a place, `module:name`."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
