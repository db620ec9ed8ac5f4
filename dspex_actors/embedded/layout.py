"""Read a chat: which fields it asks for, which examples it shows, and what it asks about.

Two layouts are understood, by their markers and not by their wording:

* sections: ``[[ ## name ## ]]`` on a line of its own begins a field's value; the last user message names the
  sections to write;
* JSON: the same sections for the inputs, the outputs as one JSON object.

A chat without either is plain text: its earlier user and assistant messages are still examples.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import orjson

from dspex_actors.embedded.guess import Field, Kind

Style = Literal["sections", "json", "text"]

_HEADER = re.compile(r"^[ \t]*\[\[ ## (\w+) ## \]\]", re.MULTILINE)
_MARKER = re.compile(r"\[\[ ## (\w+) ## \]\]")
_LISTED = re.compile(r"^\s*(?:\d+[.)]|[-*])\s+`(\w+)`\s*(?:\((.*?)\)(?=\s*(?::|$)))?")
_NOTE = re.compile(r"#\s*note:\s*(.*)", re.IGNORECASE)
_JSON_LINE = re.compile(r'^\s*"(\w+)"\s*:\s*"(.*)"\s*,?\s*$')
_ONE_OF = re.compile(r"\bone of:?\s*(.+)", re.IGNORECASE)
_LITERAL = re.compile(r"Literal\[(.*)\]")
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"|([^\s,'\"]+)")
_BACKTICKED = re.compile(r"`(\w+)`")
_ASKS_JSON = re.compile(r"\bJSON object\b", re.IGNORECASE)
#: What an adapter writes for an output that an example does not have. A label such as "unknown" is a label.
_ABSENT = re.compile(r"(?:not\b.*\bexample\b.*)?", re.IGNORECASE | re.DOTALL)
_END = "completed"


@dataclass(frozen=True, slots=True)
class Task:
    """What a chat asks for.

    Attributes:
        style: how the answer is to be written.
        fields: the output fields in the order to write them; none for plain text.
        examples: pairs of a user and an assistant message, oldest first.
        query: the input values that the last user message asks about, as one text.
    """

    style: Style
    fields: tuple[Field, ...]
    examples: tuple[tuple[str, str], ...]
    query: str


def sections(text: str) -> dict[str, str]:
    """Split `text` at its ``[[ ## name ## ]]`` lines; of two sections of one name the first counts."""
    found: dict[str, str] = {}
    headers = list(_HEADER.finditer(text))
    for at, header in enumerate(headers):
        end = headers[at + 1].start() if at + 1 < len(headers) else len(text)
        if header[1] != _END:
            found.setdefault(header[1], text[header.end() : end].strip())
    return found


def _split_request(text: str) -> tuple[str, str]:
    """Split a user message into its input sections and the paragraph that says what to answer."""
    inline = [m for m in _MARKER.finditer(text) if text[text.rfind("\n", 0, m.start()) + 1 : m.start()].strip()]
    if inline and inline[-1][1] == _END:
        at = inline[-1].start()
    else:
        json_at = [m.start() for m in _ASKS_JSON.finditer(text)]
        # Only a last paragraph asks; the word elsewhere is part of somebody's text.
        if not json_at or "\n\n" in text[json_at[-1] :].rstrip():
            return text, ""
        at = json_at[-1]
    start = text.rfind("\n\n", 0, at) + 1
    return text[:start], text[start:]


def input_text(text: str) -> str:
    """Return the input values of a user message as one text, without markers and without the request."""
    inputs, _ = _split_request(text)
    found = sections(inputs)
    return "\n".join(found.values()) if found else text.strip()


def outputs(text: str) -> dict[str, str]:
    """Return the output values of an assistant message, whichever layout it is in; absent ones left out."""
    found = sections(text)
    if not found and text.lstrip().startswith("{"):
        try:
            parsed = orjson.loads(text)
        except orjson.JSONDecodeError:
            parsed = None
        if isinstance(parsed, dict):
            found = {str(k): v if isinstance(v, str) else orjson.dumps(v).decode() for k, v in parsed.items()}
    return {name: value for name, value in found.items() if not _ABSENT.fullmatch(value)}


def read(messages: list[tuple[str, str]], *, json: bool = False, schema: Any = None) -> Task:
    """Read a chat of (role, text) messages.

    Args:
        messages: roles system (or developer), user and assistant (or model).
        json: whether the request itself asks for a JSON object.
        schema: JSON schema of that object, if the request has one.
    """
    system: list[str] = []
    examples: list[tuple[str, str]] = []
    last = ""
    for role, text in messages:
        if role in ("system", "developer"):
            system.append(text)
        elif role in ("assistant", "model"):
            if last:
                examples.append((last, text))
            last = ""
        else:
            last = text
    inputs, request = _split_request(last)
    given = sections(inputs)
    query = "\n".join(given.values()) if given else last.strip()
    style: Style = "text"
    if json or (request and not _MARKER.search(request)):
        style = "json"
    elif request or given:
        style = "sections"
    fields: tuple[Field, ...] = ()
    if isinstance(schema, dict) and schema.get("properties"):
        fields = _schema_fields(schema)
    elif style != "text":
        fields = asked_fields("\n\n".join(system), request, tuple(given))
        if not fields and examples:
            fields = tuple(Field(name) for name in outputs(examples[0][1]))
        if not fields and style == "sections":
            style = "text"
    return Task(style, fields, tuple(examples), query)


@lru_cache(maxsize=256)
def asked_fields(system: str, request: str, given: tuple[str, ...]) -> tuple[Field, ...]:
    """Return the output fields, in order, that a system message and a request paragraph ask for.

    The request's own markers count first, then its backticked names, then the system message's list of
    outputs, then whatever sections the system message shows that are not among the `given` inputs.
    """
    inputs, listed = _field_lists(system)
    notes = _notes(system)
    names = [name for name in _MARKER.findall(request) if name != _END]
    names = names or _BACKTICKED.findall(request)
    names = names or list(listed)
    names = names or [n for n in _MARKER.findall(system) if n != _END and n not in given and n not in inputs]
    return tuple(_field(name, listed.get(name, ""), notes.get(name, "")) for name in dict.fromkeys(names))


def _field_lists(system: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the types, as written, of the listed input fields and of the listed output fields."""
    lists: tuple[dict[str, str], dict[str, str]] = ({}, {})
    which = 0
    for line in system.splitlines():
        item = _LISTED.match(line)
        if item:
            lists[which].setdefault(item[1], (item[2] or "").strip())
        elif line.rstrip().endswith(":"):
            which = 1 if "output" in line.lower() else 0 if "input" in line.lower() else which
    return lists


def _notes(system: str) -> dict[str, str]:
    """Return the ``# note:`` of each field, from the section that it stands in or from its line of JSON."""
    notes: dict[str, str] = {}
    current = ""
    for line in system.splitlines():
        header = _HEADER.match(line)
        in_json = _JSON_LINE.match(line)
        if header:
            current = header[1]
        name, text = (in_json[1], in_json[2]) if in_json else (current, line)
        note = _NOTE.search(text)
        if note and name:
            notes.setdefault(name, note[1].strip())
    return notes


def _field(name: str, type_text: str, note: str) -> Field:
    """Tell a field's kind from the type in the system message's list and from its note."""
    one_of = _ONE_OF.search(note)
    literal = _LITERAL.search(type_text)
    if one_of:
        return Field(name, "options", tuple(o.strip() for o in one_of[1].split(";") if o.strip()))
    if literal and type_text.startswith("Literal"):
        options = tuple(next(filter(None, groups), "") for groups in _QUOTED.findall(literal[1]))
        return Field(name, "options", options)
    if "schema" in note.lower() and "{" in note:
        text = note[note.index("{") :]
        for candidate in (text, text.replace('\\"', '"')):
            try:
                return Field(name, "json", schema=orjson.loads(candidate))
            except orjson.JSONDecodeError:
                continue
    kinds: dict[str, Kind] = {"bool": "bool", "int": "int", "float": "float"}
    if type_text in kinds:
        return Field(name, kinds[type_text])
    if not type_text and note:
        if re.search(r"\bTrue\b.*\bFalse\b", note):
            return Field(name, "bool")
        number = re.search(r"\b(int|float)\b", note)
        if number:
            return Field(name, kinds[number[1]])
    return Field(name)


def _schema_fields(schema: dict[str, Any]) -> tuple[Field, ...]:
    kinds: dict[str, Kind] = {"boolean": "bool", "integer": "int", "number": "float", "string": "text"}
    fields = []
    for name, part in schema["properties"].items():
        enum = part.get("enum")
        if enum and all(isinstance(option, str) for option in enum):
            fields.append(Field(name, "options", tuple(enum)))
        else:
            # A property may refer to the definitions of the whole schema.
            whole = {**part, "$defs": schema.get("$defs", {})}
            plain = part.get("type") in kinds and not {"minimum", "maximum", "enum", "const"} & set(part)
            fields.append(Field(name, kinds[part["type"]]) if plain else Field(name, "json", schema=whole))
    return tuple(fields)
