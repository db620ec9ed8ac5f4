"""TwoStepAdapter: one LM answers as it likes, another one takes the fields out of what it wrote."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from dspex_actors.adapters import native
from dspex_actors.adapters.base import Adapter
from dspex_actors.adapters.chat import ChatAdapter
from dspex_actors.adapters.parts import Told
from dspex_actors.adapters.types import listed_fields
from dspex_actors.adapters.values import render_value
from dspex_actors.errors import AdapterParseError
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.signatures.fields import InputField
from dspex_actors.signatures.signature import Signature, SignatureMeta, make_signature
from dspex_actors.types.base import Type

_TEXT = "text"


class _Extractors(weakref.WeakKeyDictionary[SignatureMeta, type[Signature]]):
    """Signatures of second steps, by those of programs; gone with these. Copies and pickles begin empty."""

    def __reduce__(self) -> Any:
        return _Extractors, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Extractors:
        return _Extractors()


class TwoStepAdapter(Adapter):
    """Ask the LM in plain words, and a second, smaller one for the fields in what it wrote.

        adapter = dspex.TwoStepAdapter(dspex.LM("openai/gpt-4o-mini"))
        dspex.configure(lm=dspex.LM("openai/o3"), adapter=adapter)

    For models that reason well and keep to no layout. Each answer is two calls, one to each; both are in the books, and
    neither blocks an event loop.

    Args:
        extraction_model: the LM that takes the fields out, by ChatAdapter.
        options: as of `Adapter`.

    Raises:
        ConfigValueError: it is no LM.
    """

    def __init__(self, extraction_model: Any, **options: Any) -> None:
        """Make the adapter."""
        super().__init__(**options)
        is_class = isinstance(extraction_model, type)
        if is_class or not (callable(extraction_model) and hasattr(extraction_model, "acall")):
            raise ConfigValueError(
                f"extraction_model is invalid: got {extraction_model!r:.80}, expected an LM: dspex.LM('provider/model')"
            )
        self.extraction_model = extraction_model
        self._extractors = _Extractors()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without what is made again where the adapter lands."""
        return {**super().__getstate__(), "_extractors": _Extractors()}

    def format_field_structure(self, signature: SignatureMeta) -> str:
        """Return nothing: the answer has no layout."""
        return ""

    def format_request(self, signature: SignatureMeta) -> str:
        """Return nothing: the inputs stand for themselves."""
        return ""

    def format_system_message(self, signature: SignatureMeta) -> str:
        """Return what is given, what is wanted, and the instructions."""
        lines = [
            "You solve a task, and your answer is read by somebody who takes the results out of it.",
            f"You are given:\n{listed_fields(signature.input_fields)}",
            f"Your answer has to contain:\n{listed_fields(signature.output_fields)}",
            "Write each of them out in full.",
        ]
        if signature.instructions:
            lines.append(f"The task: {signature.instructions}")
        return "\n".join(lines)

    def format_section(self, name: str, text: str) -> str:
        """Return an input's part of a message."""
        return f"{name}: {text}"

    def format_value(self, field: Any, value: Any) -> str:
        """Return an input's value: as Python shows it, as DSPy's does."""
        return render_value(field, value) if isinstance(value, Type | Told) else str(value)

    def format_assistant_message_content(
        self, signature: SignatureMeta, outputs: Mapping[str, Any], missing_field_message: str = ""
    ) -> str:
        """Return the outputs that are there."""
        fields = signature.output_fields.items()
        parts = [f"{name}: {self.format_value(field, outputs[name])}" for name, field in fields if name in outputs]
        return "\n\n".join(parts).strip()

    def is_said(self, signature: type[Signature], asked: type[Signature], reply: Any) -> bool:
        """Tell whether there are outputs in a reply's text, which the extraction model has to be asked for.

        Args:
            signature: what the program does.
            asked: the signature that was rendered.
            reply: the LM's reply.
        """
        if not signature._typed[1]:
            return True
        return native.is_said(self._plans.get(signature, self._fill), signature, asked, reply)

    def completed(self, signature: type[Signature], found: dict[str, Any], reply: Any) -> dict[str, Any]:
        """Return the outputs that were found, and those that the model gave beside its text: calls of tools, its
        reasoning."""
        if not signature._typed[1]:
            return found
        return native.completed(self, self._plans.get(signature, self._fill), found, reply)

    def extractor(self, signature: SignatureMeta) -> type[Signature]:
        """Return the signature of the second step: `text`, and the outputs."""
        made = self._extractors.get(signature)
        if made is None:
            outputs = ", ".join(f"`{name}`" for name in signature.output_fields)
            if _TEXT in signature.output_fields:
                raise ConfigValueError(
                    "signature is invalid: TwoStepAdapter has a field 'text' of its own; rename yours"
                )
            made = self._extractors[signature] = make_signature(
                {_TEXT: (str, InputField()), **signature.output_fields},
                f"The text says what {outputs} are. Take each of them out of it, word for word, and add nothing.",
            )
        return made

    def parse(self, signature: SignatureMeta, completion: str) -> dict[str, Any]:
        """Ask the extraction model for the fields in an answer, and wait. Programs do that without waiting.

        Raises:
            AdapterParseError: it did not find them.
        """
        chat, asked = ChatAdapter(), self.extractor(signature)
        try:
            reply = self.extraction_model(chat.format(asked, [], {_TEXT: completion}))
            return chat.read(asked, asked, reply)
        except AdapterParseError as error:
            raise self.failed(signature, completion, error) from error

    def unsaid(self, signature: SignatureMeta) -> AdapterParseError:
        """Return the error about an answer without a word: the extraction model, which would make them up, is not
        asked."""
        return self._error(signature, "", {}, "the LM has written nothing")

    def failed(self, signature: SignatureMeta, completion: str, error: AdapterParseError) -> AdapterParseError:
        """Return the error about an answer in which the extraction model has not found the fields."""
        return self._error(signature, completion, {}, f"the extraction model has not found its fields: {error}")
