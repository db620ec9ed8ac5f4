"""Programs that work in steps, and show an LM the steps so far: what they share."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dspex_actors.adapters.base import Adapter
from dspex_actors.adapters.chat import ChatAdapter
from dspex_actors.adapters.parts import collected
from dspex_actors.errors import ContextWindowExceeded
from dspex_actors.programs.module import Module
from dspex_actors.programs.steps import Ask, Steps
from dspex_actors.settings import settings
from dspex_actors.signatures.signature import Signature, make_signature

_log = logging.getLogger(__name__)

#: A prompt that is too long is tried again so often, each time without the oldest step.
_TRIES = 3
_CHAT = ChatAdapter()


class WithTrajectory(Module):
    """Base of programs with a trajectory: entries by name and number of their step, `thought_0` for example."""

    def _asked(self, program: Module, trajectory: dict[str, Any], inputs: Mapping[str, Any]) -> Steps:
        """Ask a program, again without the oldest step while it does not fit the model's window."""
        last: ContextWindowExceeded | None = None
        for _ in range(_TRIES):
            try:
                return (yield Ask(program, **{**inputs, "trajectory": self._format_trajectory(trajectory)}))
            except ContextWindowExceeded as error:
                _log.warning("the trajectory does not fit the model's window; its oldest step is left out")
                last = error
            trajectory = self.truncate_trajectory(trajectory)
        raise ContextWindowExceeded(
            f"the prompt does not fit the model's window, not even after {_TRIES} times leaving out the oldest step"
        ) from last

    def _format_trajectory(self, trajectory: dict[str, Any]) -> str:
        """Return the trajectory as sections of the adapter in use."""
        adapter = settings.adapter or _CHAT
        if not isinstance(adapter, Adapter) and not hasattr(adapter, "format_user_message_content"):
            adapter = _CHAT
        made = _signature_of(tuple(trajectory))
        text, parts = collected(lambda: adapter.format_user_message_content(made, trajectory))
        return parts.whole(text)  # a picture that a tool gave is shown as one

    def truncate_trajectory(self, trajectory: dict[str, Any]) -> dict[str, Any]:
        """Take the oldest step out of a trajectory that does not fit the model's window; yours to override.

        Raises:
            ContextWindowExceeded: there is only one.
        """
        numbers = [_number(name) for name in trajectory]
        if len(set(numbers)) <= 1:
            raise ContextWindowExceeded(
                "the prompt does not fit the model's window, and the trajectory has no step that could be left out"
            )
        for name in [name for name, number in zip(trajectory, numbers, strict=True) if number == numbers[0]]:
            del trajectory[name]
        return trajectory


def _number(name: str) -> str:
    return name.rpartition("_")[2]


@lru_cache(maxsize=256)
def _signature_of(names: tuple[str, ...]) -> type[Signature]:
    return make_signature(f"{', '.join(names)} -> x")


def listed(names: Any) -> str:
    """Return fields' names as they stand in instructions."""
    return ", ".join(f"`{name}`" for name in names)
