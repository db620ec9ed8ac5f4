"""JSONAdapter: outputs as one JSON object. What ChatAdapter falls back to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from dspex_actors.adapters.base import Adapter, section, spoken
from dspex_actors.adapters.plan import Plans
from dspex_actors.adapters.reading import read_structure
from dspex_actors.adapters.types import placeholder, type_hint
from dspex_actors.signatures.signature import SignatureMeta


class JSONAdapter(Adapter):
    """Render inputs as sections and ask for the outputs as one JSON object."""

    shared_plans = Plans()

    def format_field_structure(self, signature: SignatureMeta) -> str:
        """Return a section per input, and a JSON object with a placeholder per output."""
        inputs = [section(name, f"{{{name}}}") for name in signature.input_fields]
        outputs = {name: placeholder(name, field) for name, field in signature.output_fields.items()}
        return "\n\n".join(
            [
                "Inputs have the layout below, with real values where the placeholders stand.",
                *inputs,
                "Outputs are one JSON object with these keys.",
                json.dumps(outputs, indent=2, ensure_ascii=False),
            ]
        )

    def format_request(self, signature: SignatureMeta) -> str:
        """Return the request to write the JSON object."""
        wanted = [f"`{name}`{type_hint(field)}" for name, field in signature.output_fields.items()]
        order = ", then ".join(wanted)
        return f"Now write one JSON object and no other text, with its keys in this order: {order}."

    def format_assistant_message_content(
        self, signature: SignatureMeta, outputs: Mapping[str, Any], missing_field_message: str = ""
    ) -> str:
        """Return the outputs as indented JSON."""
        values = {
            name: to_jsonable_python(outputs[name], fallback=str) if name in outputs else missing_field_message
            for name in signature.output_fields
        }
        return json.dumps(values, indent=2, ensure_ascii=False)

    def parse(self, signature: SignatureMeta, completion: str) -> dict[str, Any]:
        """Read the JSON object of an answer.

        The whole text is read as JSON, repaired if need be; failing that, its first balanced `{...}`. Keys
        that the signature does not have are dropped.

        Args:
            signature: what the program does.
            completion: the LM's text.

        Returns:
            Every output field, typed.

        Raises:
            AdapterParseError: no JSON object, or a field is missing or is not of its type.
        """
        plan = self._plans.get(signature, self._fill)
        answer = spoken(completion)
        found = read_structure(answer, plan.exact)
        if not isinstance(found, dict):
            inner = first_object(answer)
            found = read_structure(inner, plan.exact) if inner else None
        if not isinstance(found, dict):
            raise self._error(signature, completion, {}, "the LM's answer holds no JSON object")
        return self._finish(plan, signature, completion, {name: found[name] for name in plan.outputs if name in found})


def first_object(text: str) -> str:
    """Return the first `{...}` in `text` whose braces balance; empty when there is none."""
    opened: list[int] = []
    best: tuple[int, int] | None = None
    for place, char in enumerate(text):
        if char == "{":
            opened.append(place)
        elif char == "}" and opened:
            start = opened.pop()
            if best is None or start < best[0]:
                best = (start, place + 1)
            if not opened:
                break
    return text[best[0] : best[1]] if best else ""
