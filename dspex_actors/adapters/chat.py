"""ChatAdapter: fields as sections under `[[ ## name ## ]]` lines. The default, and the one every model can
follow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dspex_actors.adapters.base import Adapter, section, spoken
from dspex_actors.adapters.json import JSONAdapter
from dspex_actors.adapters.plan import Plan, Plans
from dspex_actors.adapters.types import placeholder, type_hint
from dspex_actors.adapters.values import render_value
from dspex_actors.signatures.signature import SignatureMeta

_MARKER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_ANY_MARKER = re.compile(r"(?:\*\*|`)?\[\[ ## (\w+) ## \]\](?:\*\*|`)?")
_COMPLETED = "[[ ## completed ## ]]"


class ChatAdapter(Adapter):
    """Render and read DSPy's chat format.

    Args:
        use_json_adapter_fallback: when an answer cannot be read, ask the LM a second (paid) time through
        JSONAdapter.
    """

    shared_plans = Plans()

    def __init__(self, use_json_adapter_fallback: bool = True) -> None:
        """Make the adapter."""
        super().__init__()
        self.use_json_adapter_fallback = use_json_adapter_fallback

    @property
    def fallback(self) -> Adapter | None:
        """JSONAdapter, unless `use_json_adapter_fallback` is off."""
        return JSONAdapter() if self.use_json_adapter_fallback else None

    def format_field_structure(self, signature: SignatureMeta) -> str:
        """Return a section per field with a placeholder in it, and the closing marker."""
        inputs = [section(name, f"{{{name}}}") for name in signature.input_fields]
        outputs = [section(name, placeholder(name, field)) for name, field in signature.output_fields.items()]
        return "\n\n".join(
            [
                "Every exchange has the layout below, with real values where the placeholders stand.",
                *inputs,
                *outputs,
                _COMPLETED,
            ]
        )

    def format_request(self, signature: SignatureMeta) -> str:
        """Return the request to write the output sections in order."""
        wanted = [f"`[[ ## {name} ## ]]`{type_hint(field)}" for name, field in signature.output_fields.items()]
        start = f"start with {', then '.join(wanted)}, and " if wanted else ""
        return f"Now write the output fields: {start}close with the marker `{_COMPLETED}`."

    def format_assistant_message_content(
        self, signature: SignatureMeta, outputs: Mapping[str, Any], missing_field_message: str = ""
    ) -> str:
        """Return the output sections and the closing marker."""
        parts = [
            section(name, render_value(field, outputs[name]) if name in outputs else missing_field_message)
            for name, field in signature.output_fields.items()
        ]
        return "\n\n".join(parts).strip() + f"\n\n{_COMPLETED}\n"

    def parse(self, signature: SignatureMeta, completion: str) -> dict[str, Any]:
        """Read the output sections of an answer.

        A marker counts at the start of a line (after blanks); what follows it on its line is the value's
        first line. Of two sections with one name the first counts, even if it is empty. Sections of other
        names are skipped. The closing marker may be missing, or stand behind the last value. Thoughts in
        `<think>` before the answer are not part of it. If an output is missing then, markers count wherever they
        stand.

        Args:
            signature: what the program does.
            completion: the LM's text.

        Returns:
            Every output field, typed.

        Raises:
            AdapterParseError: a field is missing or is not of its type.
        """
        plan = self._plans.get(signature, self._fill)
        answer = spoken(completion)
        raw = _sections(plan, answer)
        if not raw and answer is not completion:
            raw = _sections(plan, completion)
        if len(raw) < len(plan.outputs) and any(
            name not in raw and field.is_required() for name, field in plan.outputs.items()
        ):
            run_together = _sections_anywhere(plan, answer)
            if len(run_together) > len(raw):
                raw = run_together
        return self._finish(plan, signature, completion, raw)


def _sections(plan: Plan, text: str) -> dict[str, str]:
    """Return the outputs' sections; a marker counts at the start of a line."""
    raw: dict[str, str] = {}
    name = ""
    lines: list[str] = []
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Not splitlines: U+2028 and form feeds belong to the value.
    for line in text.split("\n"):
        if "[[ ## " in line:
            bare = line.strip()
            marker = _MARKER.match(bare)
            if marker is not None:
                if name in plan.outputs and name not in raw:
                    raw[name] = "\n".join(lines).strip()
                name = marker[1]
                rest = bare[marker.end() :].strip()
                lines = [rest] if rest else []
                continue
        lines.append(line)
    if name in plan.outputs and name not in raw:
        # No closing marker on a line of its own: it may stand behind the last value.
        raw[name] = "\n".join(lines).strip().removesuffix(_COMPLETED).rstrip()
    return raw


def _sections_anywhere(plan: Plan, text: str) -> dict[str, str]:
    """Return the outputs' sections of an answer that runs them together, or writes its markers in bold."""
    raw: dict[str, str] = {}
    found = [marker for marker in _ANY_MARKER.finditer(text) if marker[1] in plan.outputs or marker[1] == "completed"]
    ends = [*(marker.start() for marker in found[1:]), len(text)]
    for marker, end in zip(found, ends, strict=False):
        if marker[1] in plan.outputs:
            raw.setdefault(marker[1], text[marker.end() : end].strip())
    return raw
