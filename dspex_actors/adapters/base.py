"""What every adapter does: turn a signature, demos and inputs into messages, and the LM's text into fields.

Subclass `ChatAdapter` or `JSONAdapter`, or this, and override the hooks named `format_...` and `parse`;
their names and their parts in the prompt are DSPy's.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic.fields import FieldInfo

from dspex_actors.adapters import native
from dspex_actors.adapters.given import given
from dspex_actors.adapters.history import turns
from dspex_actors.adapters.parts import Content, collected, copied
from dspex_actors.adapters.plan import Plan, Plans
from dspex_actors.adapters.types import listed_fields, type_name
from dspex_actors.adapters.values import render_value
from dspex_actors.errors import AdapterParseError
from dspex_actors.example import Example
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.foundation.setting_checks import check_values
from dspex_actors.signatures.signature import Signature, SignatureMeta
from dspex_actors.types.base import Type
from dspex_actors.types.reasoning import Reasoning

Message = dict[str, Any]
Demo = Example | Mapping[str, Any]

#: Opens the user message of a demo that lacks some fields.
INCOMPLETE_DEMO = "Here is a partial example: it leaves out some of the input or output fields."

#: Stands for an output that a demo lacks. The space at its end belongs to DSPy's format.
MISSING_OUTPUT = "Not given in this example. "


#: Types of values that are told as text.
_UNPARTED = frozenset({str, int, float, bool, type(None)})


def flag(name: str, value: Any) -> bool:
    """Return what is True or False, or refuse it by a ConfigValueError."""
    if not isinstance(value, bool):
        raise ConfigValueError(f"{name} is invalid: got {value!r:.80}, expected True or False, or None")
    return value


def _types(given: Any) -> tuple[type[Type], ...]:
    if isinstance(given, list | tuple | set | frozenset) and all(isinstance(kind, type) for kind in given):
        return tuple(given)
    raise ConfigValueError(f"native_response_types is invalid: got {given!r:.80}, expected a list of types")


def section(name: str, value: str) -> str:
    """Return a field's part of a message: its marker on a line, then its value."""
    return f"[[ ## {name} ## ]]\n{value}"


class Adapter(ABC):
    """Base of the adapters."""

    #: Shared between all instances of a class that sets its own; instances of other classes keep their own
    #: plans, because their hooks may depend on the instance.
    shared_plans: ClassVar[Plans | None] = None

    #: Whether pieces of an answer tell which field they belong to, so that `streamify` can follow one.
    supports_streaming: ClassVar[bool] = False
    #: An LM that takes the fields out of what the LM wrote; None: the adapter reads that itself.
    extraction_model: Any = None
    #: Whether tools are told to models that call functions in the provider's way, and calls read from there.
    use_native_function_calling: bool = False
    #: Types of outputs that a model may give beside its text.
    native_response_types: tuple[type[Type], ...] = (Reasoning,)
    #: Whether a model may ask for several tools at once; None: as the provider does.
    parallel_tool_calls: bool | None = None
    #: Who hears of `format` and `parse` (`BaseCallback`s), beside those of the settings.
    callbacks: Sequence[Any] = ()

    def __init__(
        self,
        *,
        callbacks: Sequence[Any] | None = None,
        use_native_function_calling: bool | None = None,
        native_response_types: Iterable[type[Type]] | None = None,
        parallel_tool_calls: bool | None = None,
    ) -> None:
        """Make the adapter; a subclass with an `__init__` of its own must call this one.

        Args:
            callbacks: see the class's attribute; they stay in this process.
            use_native_function_calling: see the class's attribute; None: as the class has it.
            native_response_types: see the class's attribute; None: as the class has it.
            parallel_tool_calls: see the class's attribute.

        Raises:
            ConfigValueError: a flag is neither True nor False; callbacks are no list of such.
        """
        if callbacks is not None:
            check_values({"callbacks": callbacks})
            self.callbacks = list(callbacks)
        self._plans = type(self).__dict__.get("shared_plans") or Plans()
        # What is not given stays with the class: an adapter as it comes is told alike by all versions.
        if use_native_function_calling is not None:
            self.use_native_function_calling = flag("use_native_function_calling", use_native_function_calling)
        if native_response_types is not None:
            self.native_response_types = _types(native_response_types)
        if parallel_tool_calls is not None:
            self.parallel_tool_calls = flag("parallel_tool_calls", parallel_tool_calls)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without plans and callbacks: the former are made again where the adapter lands."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_plans", "callbacks")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle with plans of its own."""
        self.__dict__.update(state)
        self._plans = type(self).__dict__.get("shared_plans") or Plans()

    @property
    def name(self) -> str:
        """What the adapter is called in errors and records: its class's name."""
        return type(self).__name__

    def finder(self, field: str, outputs: Iterable[str]) -> Any:
        """Return what finds a field in an answer that comes in pieces; None: that of the class it is derived from.

        For an adapter of your own with `supports_streaming`: an object with `feed(text)` and `end()`, which return what
        of the field's text is certain, and `has_begun` and `has_ended`.

        Args:
            field: its name.
            outputs: the names of all output fields.
        """
        return None

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

        The order is: system message, demos that lack fields, complete demos, the turns of a `History`, the inputs.
        A user message with images, sound or files in it has a list of content parts; any other a text.

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

        def render(store: Mapping[str, Any]) -> tuple[bool | None, Content, str]:
            return self._render_demo(signature, plan, store)

        for demo in demos:
            made = plan.demo(demo._store if isinstance(demo, Example) else demo, render)
            if made.complete is not None:
                lane = complete if made.complete else partial
                user = made.user if type(made.user) is str else copied(made.user)
                lane.append({"role": "user", "content": user})
                lane.append({"role": "assistant", "content": made.assistant})
        values = inputs._store if isinstance(inputs, Example) else inputs
        asked, so_far = signature, []
        if plan.history is not None:
            asked = plan.without(signature, plan.history)
            if (history := values.get(plan.history)) is not None:
                so_far = turns(self, asked, self._given(plan, signature, plan.history, history))
        last = self.user_content(asked, values, main_request=True)
        return [
            {"role": "system", "content": plan.system},
            *partial,
            *complete,
            *so_far,
            {"role": "user", "content": last},
        ]

    def format_finetune_data(
        self, signature: SignatureMeta, demos: Iterable[Demo], inputs: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> dict[str, list[Message]]:
        """Return a prompt (as of `format`) and its answer as an LM is fine-tuned with them: `{"messages": [...]}`."""
        answer = self.format_assistant_message_content(signature, outputs)
        return {"messages": [*self.format(signature, demos, inputs), {"role": "assistant", "content": answer}]}

    def user_content(self, signature: SignatureMeta, inputs: Mapping[str, Any], **how: Any) -> Content:
        """Return the content of a user message: its text, or its text in pieces with the parts between them.

        Args:
            signature: what the program does.
            inputs: values by name.
            how: as of `format_user_message_content`.
        """
        for value in inputs.values():
            if type(value) not in _UNPARTED or signature._typed[0]:
                break
        else:  # nothing that is told in parts: what most calls are
            return self.format_user_message_content(signature, inputs, **how)
        text, parts = collected(lambda: self.format_user_message_content(signature, inputs, **how))
        return parts.content(text)

    def prepare(
        self, signature: type[Signature], inputs: Mapping[str, Any], lm: Any, params: dict[str, Any]
    ) -> tuple[type[Signature], dict[str, Any]]:
        """Return the signature to render and the parameters to call with: what the model does by itself is no text.

        Tools go as parameters to a model that calls functions, where `use_native_function_calling` is on; a
        `Reasoning` is asked of a model that tells its own.

        Args:
            signature: what the program does.
            inputs: values by name.
            lm: whom it will be asked of.
            params: of the call.

        Raises:
            ConfigValueError: an output wants calls of tools, and no input has tools.
        """
        if not signature._typed[1]:
            return signature, params
        return native.prepare(self, self._plans.get(signature, self._fill), signature, inputs, lm, params)

    def read(self, signature: type[Signature], asked: type[Signature], reply: Any) -> dict[str, Any]:
        """Return the output fields of a reply: those in its text, and those that the model gave beside it.

        Args:
            signature: what the program does.
            asked: the signature that was rendered, as `prepare` returned it.
            reply: the LM's reply.

        Raises:
            AdapterParseError: the text cannot be read.
        """
        if not signature._typed[1]:
            return self.parse(signature, reply.text or "")
        return native.read(self, self._plans.get(signature, self._fill), signature, asked, reply)

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
            f"You are given these input fields:\n{listed_fields(signature.input_fields)}\n"
            f"You have to write these output fields:\n{listed_fields(signature.output_fields)}"
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
                if name in plan.typed:
                    value = self._given(plan, signature, name, value)
                parts.append(
                    self.format_section(name, value if type(value) is str else self.format_value(field, value))
                )
        if main_request:
            parts.append(plan.request)
        if suffix:
            parts.append(suffix)
        return "\n\n".join(parts).strip()

    def format_section(self, name: str, text: str) -> str:
        """Return an input's part of a message."""
        return f"[[ ## {name} ## ]]\n{text}"

    def format_value(self, field: FieldInfo, value: Any) -> str:
        """Return an input's value, where it is no text, as it is told."""
        return render_value(field, value)

    def _given(self, plan: Plan, signature: SignatureMeta, name: str, value: Any) -> Any:
        return given(signature.__name__, name, plan.inputs[name], value, is_shown=True)

    def _fill(self, plan: Plan, signature: SignatureMeta) -> None:
        plan.system = self.format_system_message(signature)
        plan.request = self.format_request(signature)

    def _render_demo(
        self, signature: SignatureMeta, plan: Plan, store: Mapping[str, Any]
    ) -> tuple[bool | None, Content, str]:
        has_input = any(name in store for name in plan.inputs)
        has_output = any(name in store for name in plan.outputs)
        complete = all(store.get(name) is not None for name in (*plan.inputs, *plan.outputs))
        if not complete and not (has_input and has_output):
            return None, "", ""
        user = self.user_content(signature, store, prefix="" if complete else INCOMPLETE_DEMO)
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
        name = self.name
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
