"""JSONAdapter: outputs as one JSON object. What ChatAdapter falls back to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from dspex_actors.adapters.base import Adapter, section
from dspex_actors.adapters.plan import Plan, Plans
from dspex_actors.adapters.reading import read_strictly, read_structure, unfenced
from dspex_actors.adapters.sections import in_any_case, whole_sections
from dspex_actors.adapters.structured import response_format
from dspex_actors.adapters.thoughts import read_spoken
from dspex_actors.adapters.types import placeholder, type_hint
from dspex_actors.signatures.signature import Signature, SignatureMeta

#: So many objects of an answer are looked at.
_MOST_OBJECTS = 20


class JSONAdapter(Adapter):
    """Render inputs as sections and ask for the outputs as one JSON object.

    A model that can be told so writes JSON of the outputs' schema, or at least a JSON object: which of them is chosen
    before it is asked, and a `response_format` of the user's own stands.

    Args:
        use_native_function_calling: as `Adapter`; on by default.
        options: the others of `Adapter`.
    """

    shared_plans = Plans()
    supports_streaming = True
    use_native_function_calling = True

    def prepare(
        self, signature: type[Signature], inputs: Mapping[str, Any], lm: Any, params: dict[str, Any]
    ) -> tuple[type[Signature], dict[str, Any]]:
        """Return the signature to render and the parameters, the response's format among them."""
        asked, params = super().prepare(signature, inputs, lm, params)
        if "response_format" in params or "response_format" in (getattr(lm, "kwargs", None) or {}):
            return asked, params
        if "tools" in params and getattr(lm, "provider", None) == "gemini":
            return asked, params  # it refuses both at once
        chosen = response_format(lm, asked.output_fields)
        return asked, params if chosen is None else {**params, "response_format": chosen}

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
        that the signature does not have are dropped. If an output is missing then, the only object of several that
        has all of them is read, or one in another, or sections of the chat format.

        Args:
            signature: what the program does.
            completion: the LM's text.

        Returns:
            Every output field, typed.

        Raises:
            AdapterParseError: no JSON object, or a field is missing or is not of its type.
        """
        plan = self._plans.get(signature, self._fill)
        return read_spoken(completion, lambda answer: self._read(plan, signature, completion, answer))

    def _read(self, plan: Plan, signature: SignatureMeta, completion: str, answer: str) -> dict[str, Any]:
        found = read_structure(answer, plan.exact)
        if not isinstance(found, dict):
            inner = first_object(answer)
            found = read_structure(inner, plan.exact) if inner else None
        if not isinstance(found, dict) or plan.lacks(found):
            found = _only_one(plan, found, answer) or whole_sections(plan.outputs, plan.lacks, answer) or found
        if not isinstance(found, dict):
            raise self._error(signature, completion, {}, "the LM's answer holds no JSON object")
        return self._finish(plan, signature, completion, {name: found[name] for name in plan.outputs if name in found})


def whole_object(plan: Plan, answer: str) -> dict[str, Any]:
    """Return the outputs of an answer that is one JSON object, in a fence or not, with all of them; empty: it is none.

    What stands beside it could say that it is an example.
    """
    text = unfenced(answer)
    found = read_strictly(text, plan.exact) if text.startswith("{") else None
    named = in_any_case(plan.outputs, found) if isinstance(found, dict) else {}
    return {} if plan.lacks(named) else named


def _only_one(plan: Plan, first: Any, text: str) -> dict[str, Any] | None:
    """Return the object of an answer that has the outputs, where the first one in it has not: one of several, or one
    in another that has nothing else. None: there is none, or two that differ, and nobody knows which is meant."""
    chosen = None
    around = first.values() if isinstance(first, dict) and len(first) == 1 else ()
    known = [*around, first, *_objects(plan, text)]
    for one in known:
        found = in_any_case(plan.outputs, one) if isinstance(one, dict) else {}
        if found and not plan.lacks(found):
            if chosen is not None and found != chosen:
                return None
            chosen = found
    return chosen


def _objects(plan: Plan, text: str) -> Iterator[Any]:
    for _ in range(_MOST_OBJECTS):
        if not (inner := first_object(text)):
            return
        yield read_structure(inner, plan.exact)
        text = text[text.index(inner) + len(inner) :]


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
