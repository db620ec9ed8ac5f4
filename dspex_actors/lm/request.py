"""What an LM call asks, as a value: it goes from `LM` to whatever answers, which may be another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LMRequest:
    """One LM call.

    Args:
        identity: digest of the LM's settings; requests with the same one go to the same deployment.
        settings: of the LM that is asked, as `LM.to_dict` gives them; shared by its requests, not to be changed.
        messages: role/content messages.
        params: parameters of this call, over the LM's own; None in it takes one away.
        deadline: seconds the call may take, all fallbacks included.
    """

    identity: str
    settings: dict[str, Any]
    messages: list[dict[str, Any]]
    params: dict[str, Any]
    deadline: float
