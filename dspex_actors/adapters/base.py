"""What every adapter does: turn a signature, demos and inputs into messages, and the LM's text into fields.

Subclass `ChatAdapter` or `JSONAdapter`, or this, and override the hooks named `format_...` and `parse`;
their names and their parts in the prompt are DSPy's.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic.fields import FieldInfo

from dspex_actors.adapters.plan import Plan, Plans
from dspex_actors.adapters.types import type_name
from dspex_actors.adapters.values import render_value
from dspex_actors.errors import AdapterParseError
from dspex_actors.example import Example
from dspex_actors.signatures.fields import constraints_text, description_of
from dspex_actors.signatures.signature import SignatureMeta

Message = dict[str, Any]
Demo = Example | Mapping[str, Any]

#: Opens the user message of a demo that lacks some fields.
INCOMPLETE_DEMO = "Here is a partial example: it leaves out some of the input or output fields."

#: Stands for an output that a demo lacks. The space at its end belongs to DSPy's format.
MISSING_OUTPUT = "Not given in this example. "


def section(name: str, value: str) -> str:
    """Return a field's part of a message: its marker on a line, then its value."""
    return f"[[ ## {name} ## ]]\n{value}"


def spoken(completion: str) -> str:
    """Return an answer without the `<think>` block before it: what it tries there is not what it says."""
    text = completion.lstrip()
    if not text.startswith("<think>"):
        return completion
    _, end, answer = text.partition("</think>")
    return answer if end else completion


class Adapter(ABC):
    """Base of the adapters."""

    #: Shared between all instances of a class that sets its own; instances of other classes keep their own
    #: plans, because their hooks may depend on the instance.
    shared_plans: ClassVar[Plans | None] = None

    def __init__(self) -> None:
        """Make the adapter; a subclass with an `__init__` of its own must call this one."""
        self._plans = type(self).__dict__.get("shared_plans") or Plans()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the plans: they are made again where the adapter lands."""
        return {name: value for name, value in self.__dict__.items() if name != "_plans"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle with plans of its own."""
        self.__dict__.update(state)
        self._plans = type(self).__dict__.get("shared_plans") or Plans()

    @property
    def fallback(self) -> Adapter | None:
        """The adapter to ask the LM again with when the answer cannot be read; None: do not ask again."""
        return None

    @abstractmethod
    def format_field_structure(self, signature: SignatureMeta) -> str:
        """Return how inputs and outputs look, with a placeholder for every value."""

    @abstractmethod
    def format_request(self, signature: SignatureMeta) -> str:
        """Return the last paragraph of the last user message: which fields to write, in which form."""

    @abstractmethod
    def format_assistant_message_content(
        self, signature: SignatureMeta, outputs: Mapping[str, Any], missing_field_message: str = ""
    ) -> str:
        """Return an answer as the LM should have written it."""

    @abstractmethod
    def parse(self, signature: SignatureMeta, completion: str) -> dict[str, Any]:
        """Return the output fields that the LM's text holds."""

    def format(
        self, signature: SignatureMeta, demos: Iterable[Demo], inputs: Mapping[str, Any] | Example
    ) -> list[Message]:
        """Render the prompt.

        The order is: system message, demos that lack fields, complete demos, the inputs.

        Args:
            signature: what the program does.
            demos: examples or dicts; one without any input or any output is left out.
            inputs: values by name; names that the signature does not have are ignored.

        Returns:
            Messages with `role` and `content`, new for every call.
        """
        plan = self._plans.get(signature, self._fill)
        partial: list[Message] = []
        complete: list[Message] = []

        def render(store: Mapping[str, Any]) -> tuple[bool | None, str, str]:
            return self._render_demo(signature, plan, store)

        for demo in demos:
            made = plan.demo(demo._store if isinstance(demo, Example) else demo, render)
            if made.complete is not None:
                lane = complete if made.complete else partial
                lane.append({"role": "user", "content": made.user})
                lane.append({"role": "assistant", "content": made.assistant})
        values = inputs._store if isinstance(inputs, Example) else inputs
        last = self.format_user_message_content(signature, values, main_request=True)
        return [
            {"role": "system", "content": plan.system},
            *partial,
            *complete,
            {"role": "user", "content": last},
        ]

    def format_system_message(self, signature: SignatureMeta) -> str:
        """Return the system message: the fields, how they look, what to do."""
        return "\n".join(
            (
                self.format_field_description(signature),
                self.format_field_structure(signature),
                self.format_task_description(signature),
            )
        )

    def format_field_description(self, signature: SignatureMeta) -> str:
        """Return the numbered lists of inputs and outputs."""
        return (
            f"You are given these input fields:\n{_listed(signature.input_fields)}\n"
            f"You have to write these output fields:\n{_listed(signature.output_fields)}"
        )

    def format_task_description(self, signature: SignatureMeta) -> str:
        """Return the instructions, introduced and indented."""
        indented = "".join(f"\n        {line}" for line in signature.instructions.splitlines())
        return f"Within this layout, your task is: {indented}"

    def format_user_message_content(
        self,
        signature: SignatureMeta,
        inputs: Mapping[str, Any],
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,
    ) -> str:
        """Return a user message: the sections of the inputs that are there.

        Args:
            signature: what the program does.
            inputs: values by name.
            prefix: a paragraph before.
            suffix: a paragraph after.
            main_request: end with the request to write the outputs.

        Returns:
            The text.
        """
        plan = self._plans.get(signature, self._fill)
        parts = [prefix] if prefix else []
        for name, field in plan.inputs.items():
            if name in inputs:
                value = inputs[name]
                text = value if type(value) is str else render_value(field, value)
                parts.append(f"[[ ## {name} ## ]]\n{text}")
        if main_request:
            parts.append(plan.request)
        if suffix:
            parts.append(suffix)
        return "\n\n".join(parts).strip()

    def _fill(self, plan: Plan, signature: SignatureMeta) -> None:
        plan.system = self.format_system_message(signature)
        plan.request = self.format_request(signature)

    def _render_demo(
        self, signature: SignatureMeta, plan: Plan, store: Mapping[str, Any]
    ) -> tuple[bool | None, str, str]:
        has_input = any(name in store for name in plan.inputs)
        has_output = any(name in store for name in plan.outputs)
        complete = all(store.get(name) is not None for name in (*plan.inputs, *plan.outputs))
        if not complete and not (has_input and has_output):
            return None, "", ""
        user = self.format_user_message_content(signature, store, prefix="" if complete else INCOMPLETE_DEMO)
        missing = "" if complete else MISSING_OUTPUT
        return complete, user, self.format_assistant_message_content(signature, store, missing)

    def _finish(self, plan: Plan, signature: SignatureMeta, completion: str, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Turn raw values into the output fields: parse what is there, fill in what may be missing."""
        fields: dict[str, Any] = {}
        missing: list[str] = []
        for name, parse in plan.parsers.items():
            if name in raw:
                try:
                    fields[name] = parse(raw[name])
                except (ValueError, TypeError, RecursionError) as error:
                    why = " ".join(str(error).split())[:300]
                    shown = repr(raw[name])[:200]
                    kind = type_name(plan.outputs[name].annotation)
                    raise self._error(
                        signature, completion, raw, f"field {name!r} should be {kind}, the LM wrote {shown}: {why}"
                    ) from error
            elif not _default(plan.outputs[name], name, fields):
                missing.append(name)
        if missing:
            found = ", ".join(raw) or "none of them"
            raise self._error(
                signature,
                completion,
                raw,
                f"answer without {', '.join(missing)}; expected {', '.join(plan.outputs)}, found {found}",
            )
        return fields

    def _error(
        self, signature: SignatureMeta, completion: str, raw: Mapping[str, Any], message: str
    ) -> AdapterParseError:
        name = type(self).__name__
        return AdapterParseError(
            f"Adapter {name} failed to parse the answer: {message}",
            adapter=name,
            completion=completion,
            signature=signature,
            parsed_result=raw,
        )


def _default(field: FieldInfo, name: str, into: dict[str, Any]) -> bool:
    if not field.is_required():
        into[name] = field.get_default(call_default_factory=True)
        return True
    if type(None) in typing.get_args(field.annotation):
        into[name] = None
        return True
    return False


def _listed(fields: Mapping[str, FieldInfo]) -> str:
    lines: list[str] = []
    for number, (name, field) in enumerate(fields.items(), 1):
        lines.append(f"{number}. `{name}` ({type_name(field.annotation)}): {description_of(name, field)}".rstrip())
        rules = constraints_text(field)
        if rules:
            lines.append(f"Constraints: {rules}")
    return "\n".join(lines)
