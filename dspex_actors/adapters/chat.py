"""ChatAdapter: fields as sections under `[[ ## name ## ]]` lines. The default, and the one every model can
follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.adapters.base import Adapter, flag, section
from dspex_actors.adapters.json import JSONAdapter, whole_object
from dspex_actors.adapters.plan import Plan, Plans
from dspex_actors.adapters.sections import COMPLETED, sections, sections_anywhere
from dspex_actors.adapters.thoughts import read_spoken
from dspex_actors.adapters.types import placeholder, type_hint
from dspex_actors.adapters.values import render_value
from dspex_actors.signatures.signature import SignatureMeta


class ChatAdapter(Adapter):
    """Render and read DSPy's chat format.

    Args:
        use_json_adapter_fallback: when an answer cannot be read, ask the LM a second (paid) time through
        JSONAdapter.
        options: those of `Adapter`: use_native_function_calling, native_response_types, parallel_tool_calls.
    """

    shared_plans = Plans()
    supports_streaming = True

    def __init__(self, use_json_adapter_fallback: bool = True, **options: Any) -> None:
        """Make the adapter."""
        super().__init__(**options)
        self.use_json_adapter_fallback = flag("use_json_adapter_fallback", use_json_adapter_fallback)

    @property
    def fallback(self) -> Adapter | None:
        """JSONAdapter, unless `use_json_adapter_fallback` is off."""
        if not self.use_json_adapter_fallback:
            return None
        return JSONAdapter(
            use_native_function_calling=self.use_native_function_calling,
            native_response_types=self.native_response_types,
            parallel_tool_calls=self.parallel_tool_calls,
        )

    def format_field_structure(self, signature: SignatureMeta) -> str:
        """Return a section per field with a placeholder in it, and the closing marker."""
        inputs = [section(name, f"{{{name}}}") for name in signature.input_fields]
        outputs = [section(name, placeholder(name, field)) for name, field in signature.output_fields.items()]
        return "\n\n".join(
            [
                "Every exchange has the layout below, with real values where the placeholders stand.",
                *inputs,
                *outputs,
                COMPLETED,
            ]
        )

    def format_request(self, signature: SignatureMeta) -> str:
        """Return the request to write the output sections in order."""
        wanted = [f"`[[ ## {name} ## ]]`{type_hint(field)}" for name, field in signature.output_fields.items()]
        start = f"start with {', then '.join(wanted)}, and " if wanted else ""
        return f"Now write the output fields: {start}close with the marker `{COMPLETED}`."

    def format_assistant_message_content(
        self, signature: SignatureMeta, outputs: Mapping[str, Any], missing_field_message: str = ""
    ) -> str:
        """Return the output sections and the closing marker."""
        parts = [
            section(name, render_value(field, outputs[name]) if name in outputs else missing_field_message)
            for name, field in signature.output_fields.items()
        ]
        return "\n\n".join(parts).strip() + f"\n\n{COMPLETED}\n"

    def parse(self, signature: SignatureMeta, completion: str) -> dict[str, Any]:
        """Read the output sections of an answer.

        A marker counts at the start of a line (after blanks); what follows it on its line is the value's
        first line. Of two sections with one name the first counts, even if it is empty. Sections of other
        names are skipped. The closing marker may be missing, or stand behind the last value. Thoughts in
        `<think>` before the answer are not part of it. If an output is missing then, markers count in bold and
        without blanks too, then wherever they stand. An answer that is one JSON object of the outputs, and nothing
        else, is read as that.

        Args:
            signature: what the program does.
            completion: the LM's text.

        Returns:
            Every output field, typed.

        Raises:
            AdapterParseError: a field is missing or is not of its type.
        """
        plan = self._plans.get(signature, self._fill)
        return read_spoken(completion, lambda answer: self._read(plan, signature, completion, answer))

    def _read(self, plan: Plan, signature: SignatureMeta, completion: str, answer: str) -> dict[str, Any]:
        raw = sections(plan.outputs, answer)
        if not raw and answer is not completion:
            raw = sections(plan.outputs, completion)
        if len(raw) < len(plan.outputs) and plan.lacks(raw):
            looser = sections(plan.outputs, answer, is_loose=True)
            if plan.lacks(looser):
                looser = max(looser, sections_anywhere(plan.outputs, answer), key=len)
            raw = max(raw, looser, key=len) or whole_object(plan, answer)
        return self._finish(plan, signature, completion, raw)
