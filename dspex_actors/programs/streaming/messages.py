"""What a program that is streamed gives out beside its prediction, and who words its status messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class StreamResponse:
    """A piece of one output field.

    Args:
        predict_name: path of the predictor in the program, as `named_predictors()` tells it.
        signature_field_name: the field.
        chunk: the next piece of its text; may be empty in the last one.
        is_last_chunk: nothing more of this field comes.
    """

    predict_name: str | None
    signature_field_name: str
    chunk: str
    is_last_chunk: bool


@dataclass
class StatusMessage:
    """What a program is doing, in words."""

    message: str


class StatusMessageProvider:
    """Words the status messages of a program: subclass it, and return a text where one is wanted, else None.

    class Told(dspex.streaming.StatusMessageProvider):
        def lm_start_status_message(self, instance, inputs):
            return f"Asking {instance.model}..."
    """

    def tool_start_status_message(self, instance: Any, inputs: dict[str, Any]) -> str | None:
        """Return what to say before a `dspex.Tool` is called."""
        return f"Calling tool {instance.name}..."

    def tool_end_status_message(self, outputs: Any) -> str | None:
        """Return what to say after a `dspex.Tool` was called."""
        return "Tool calling finished! Querying the LLM with tool calling results..."

    def module_start_status_message(self, instance: Any, inputs: dict[str, Any]) -> str | None:
        """Return what to say before a program, or one inside it, is called."""
        return None

    def module_end_status_message(self, outputs: Any) -> str | None:
        """Return what to say after a program, or one inside it, was called."""
        return None

    def lm_start_status_message(self, instance: Any, inputs: dict[str, Any]) -> str | None:
        """Return what to say before a predictor asks its LM."""
        return None

    def lm_end_status_message(self, outputs: Any) -> str | None:
        """Return what to say after a predictor has its LM's answer, a list of one text."""
        return None
