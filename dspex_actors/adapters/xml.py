"""XMLAdapter: fields as XML elements, structured outputs as elements in elements."""

from __future__ import annotations

import re
import types
import typing
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr, unescape

from pydantic import BaseModel, PydanticInvalidForJsonSchema, PydanticSchemaGenerationError
from pydantic.fields import FieldInfo
from typing_extensions import is_typeddict

from dspex_actors.adapters.chat import ChatAdapter
from dspex_actors.adapters.json import whole_object
from dspex_actors.adapters.plan import Plan, Plans
from dspex_actors.adapters.reading import jsonable
from dspex_actors.adapters.thoughts import read_spoken
from dspex_actors.adapters.types import placeholder
from dspex_actors.adapters.values import render_value
from dspex_actors.signatures.signature import SignatureMeta
from dspex_actors.types.base import Type
from dspex_actors.types.validators import type_adapter

#: What stands in a layout for a text.
_GAP = "..."


class XMLAdapter(ChatAdapter):
    """Render fields as XML elements, and read them: `<answer>`, its value, `</answer>`.

    Outputs with a structure (lists, dicts, models) are elements in elements; items of a list are `<item>`, keys that
    are no names are `<entry key="...">`. The messages but for their sentences are DSPy's.

    An answer that is no XML, because a text in it has `&` or `<`, is read by the tags of the outputs, before anybody
    is asked again.

    Args:
        use_json_adapter_fallback: as of `ChatAdapter`.
        options: as of `Adapter`.
    """

    shared_plans = Plans()

    def format_section(self, name: str, text: str) -> str:
        """Return an input's part of a message."""
        return f"<{name}>\n{text}\n</{name}>"

    def format_field_structure(self, signature: SignatureMeta) -> str:
        """Return an element per field with a placeholder in it."""
        inputs = [self.format_section(name, f"{{{name}}}") for name in signature.input_fields]
        outputs = [
            _layout(name, field.annotation)
            if is_nested(field.annotation)
            else self.format_section(name, placeholder(name, field))
            for name, field in signature.output_fields.items()
        ]
        opening = "Every exchange has the layout below, with real values where the placeholders stand."
        return "\n\n".join([opening, *inputs, *outputs])

    def format_request(self, signature: SignatureMeta) -> str:
        """Return the request to write the outputs' elements in order."""
        names = ", then ".join(f"`<{name}>`" for name in signature.output_fields)
        layouts = [
            _layout(name, field.annotation)
            for name, field in signature.output_fields.items()
            if is_nested(field.annotation)
        ]
        return f"Now write the output fields, each in its XML tags: {names}." + (
            f" Nested ones look like this: {' '.join(layouts)}" if layouts else ""
        )

    def format_assistant_message_content(
        self, signature: SignatureMeta, outputs: Mapping[str, Any], missing_field_message: str = ""
    ) -> str:
        """Return the outputs' elements."""
        parts = []
        for name, field in signature.output_fields.items():
            value = outputs.get(name, missing_field_message)
            plain = jsonable(value) if is_nested(field.annotation) else None
            if isinstance(plain, dict | list):
                parts.append(_element(name, plain))
                continue
            text = render_value(field, value)
            parts.append(self.format_section(name, _escaped(text) if field.annotation is str else text))
        return "\n\n".join(parts).strip()

    def parse(self, signature: SignatureMeta, completion: str) -> dict[str, Any]:
        """Read the outputs' elements of an answer.

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
        try:
            found = _children(ET.fromstring(f"<answer-of-lm>{answer}</answer-of-lm>"))  # noqa: S314 - see above
            if plan.lacks(found):
                found = _inside(plan, found) or found
            raw = {name: _value(found[name], field) for name, field in plan.outputs.items() if name in found}
        except (ET.ParseError, RecursionError, ValueError):
            raw = _by_tags(plan.outputs, answer)
        return self._finish(plan, signature, completion, raw or whole_object(plan, answer))


def _inside(plan: Plan, found: Mapping[str, Sequence[ET.Element]]) -> dict[str, list[ET.Element]] | None:
    """Return the outputs' elements in the only element that has all of them in it; None: there is none."""
    around = [_children(each) for name, elements in found.items() if name not in plan.outputs for each in elements]
    whole = [inner for inner in around if any(name in inner for name in plan.outputs) and not plan.lacks(inner)]
    return whole[0] if len(whole) == 1 else None


def is_nested(annotation: Any) -> bool:
    """Tell whether values of a type are elements in elements: lists, dicts, models; not our own types."""
    given = [part for part in typing.get_args(annotation) if part is not type(None)]
    if len(given) == 1 and typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = given[0]
    origin = typing.get_origin(annotation)
    item = typing.get_args(annotation)[0] if origin is list and typing.get_args(annotation) else annotation
    if isinstance(item, type) and issubclass(item, Type):
        return False
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return origin in (list, dict) or is_typeddict(annotation) or is_model


def _schema(annotation: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = type_adapter(annotation).json_schema()
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError):
        return {}
    return found


def _layout(name: str, annotation: Any) -> str:
    schema = _schema(annotation)
    return _layout_of(name, schema, schema.get("$defs", {}), frozenset())


def _layout_of(tag: str, schema: Mapping[str, Any], known: Mapping[str, Any], above: frozenset[str]) -> str:
    """Return how an element of a schema looks; one that is in itself is not shown again."""
    if reference := schema.get("$ref"):
        name = reference.rsplit("/", 1)[-1]
        return f"<{tag}>{_GAP}</{tag}>" if name in above else _layout_of(tag, known[name], known, above | {name})
    if choices := schema.get("anyOf"):
        chosen = next((one for one in choices if one.get("type") != "null"), choices[0])
        return _layout_of(tag, chosen, known, above)
    if schema.get("type") == "array":
        return f"<{tag}>{_layout_of('item', schema.get('items', {}), known, above)}</{tag}>"
    parts = [_layout_of(name, part, known, above) for name, part in schema.get("properties", {}).items()]
    return f"<{tag}>{''.join(parts) or _GAP}</{tag}>"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _element(tag: str, value: Any, key: str | None = None) -> str:
    """Return JSON data as an element."""
    opened = tag if key is None else f"{tag} key={quoteattr(key)}"
    if value is None or value == []:
        return f"<{opened} />"
    if isinstance(value, list):
        inner = "".join(_element("item", one) for one in value)
    elif isinstance(value, dict):
        inner = "".join(
            _element(name, one) if _is_tag(name) else _element("entry", one, name)
            for name, one in ((str(name), one) for name, one in value.items())
        )
    else:
        inner = _escaped(str(value))
    return f"<{opened}>{inner}</{tag}>"


def _is_tag(name: str) -> bool:
    return (name[:1] + name[1:].replace("-", "_").replace(".", "_")).isidentifier()


def _children(element: ET.Element) -> dict[str, list[ET.Element]]:
    found: dict[str, list[ET.Element]] = {}
    for child in element:
        name = child.attrib.get("key", child.tag) if child.tag == "entry" else child.tag
        found.setdefault(name, []).append(child)
    return found


def _value(elements: Sequence[ET.Element], field: FieldInfo) -> Any:
    """Return what a field's elements say: text, or JSON data where they have elements in them."""
    schema = _schema(field.annotation)
    return _value_of(elements, schema, schema.get("$defs", {}))


def _value_of(elements: Sequence[ET.Element], schema: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    schema = known.get(schema.get("$ref", "").rsplit("/", 1)[-1], schema)
    first, text = elements[0], (elements[0].text or "").strip()
    if choices := schema.get("anyOf"):
        if {"type": "null"} in choices and not len(first) and not text:
            return None
        choices = [one for one in choices if one.get("type") != "null"]
        schema = choices[0]
        if len(first):
            schema = next((one for one in choices if one.get("type") != "string"), schema)
        return _value_of(elements, schema, known)
    if schema.get("type") == "array":
        if len(elements) == 1 and not len(first) and (not text or text.startswith("[")):
            return text or []
        if len(elements) == 1 and (items := _children(first).get("item")):
            elements = items
        return [_value_of([each], schema.get("items", {}), known) for each in elements]
    if schema.get("type") == "string" and len(first):
        # Tags in a text belong to it.
        return ((first.text or "") + "".join(ET.tostring(child, encoding="unicode") for child in first)).strip()
    children = _children(first)
    if not children:
        return {} if schema.get("type") == "object" and not text else text
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    others = others if isinstance(others, dict) else {}
    return {name: _value_of(each, properties.get(name, others), known) for name, each in children.items()}


def _by_tags(outputs: Mapping[str, FieldInfo], text: str) -> dict[str, Any]:
    """Return the outputs of an answer that is no XML, by their tags; those in an output belong to it.

    Each character is looked at once or twice: a model that repeats an opening tag holds nobody up.
    """
    found: dict[str, Any] = {}
    names, place, never = "|".join(map(re.escape, outputs)), 0, set()
    opens = re.compile(rf"<({names})(?:\s[^<>]*)?>")
    closes = {name: re.compile(rf"</{re.escape(name)}\s*>") for name in outputs}
    while opening := opens.search(text, place):
        name, place = opening[1], opening.end()
        closing = None if name in never else closes[name].search(text, place)
        if closing is None:
            never.add(name)
            continue
        between, place = text[place : closing.start()], closing.end()
        if name in found:
            continue
        try:
            inner = ET.fromstring(f"<{name}>{between}</{name}>")  # noqa: S314 - see above
            found[name] = _value([inner], outputs[name])
        except (ET.ParseError, RecursionError, ValueError):
            found[name] = unescape(between.strip(), {"&quot;": '"', "&apos;": "'"})
    return found
