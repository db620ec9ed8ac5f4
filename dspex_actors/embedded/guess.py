"""What to say about a field when nothing was shown: a guess that is the same every time it is asked.

A guess is drawn by a hash of the seed and the prompt, never by a generator with a state: the answer does not
depend on what was asked before, nor on which process asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

Kind = Literal["text", "options", "bool", "int", "float", "json"]

NO_EXAMPLES = "No examples were given; this is a guess."
_EXPLANATIONS = frozenset({"reasoning", "rationale", "thought", "thoughts", "explanation", "justification"})
#: How deep a schema is followed; one that nests deeper is recursive.
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Field:
    """An output field that the prompt asks for: its name and what is known of its legal values."""

    name: str
    kind: Kind = "text"
    options: tuple[str, ...] = ()
    schema: Any = None

    @property
    def explains(self) -> bool:
        """Whether the field asks why, not what: copying another example's reason would be a lie."""
        return self.kind == "text" and self.name.lower() in _EXPLANATIONS


def draw(*parts: object) -> int:
    """Return 64 bits that depend on the parts only: equal in every process and every release of Python."""
    digest = blake2b("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def fraction(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts only."""
    return (draw(*parts) >> 11) / (1 << 53)


def guess(field: Field, query: str, *salt: object) -> Any:
    """Guess a value for `field`, as the JSON type that it has.

    Args:
        field: what is asked for.
        query: the text that the question is about; free text echoes its first words.
        salt: whatever else the guess is to depend on (seeds, temperature).
    """
    number = draw(field.name, query, *salt)
    if field.kind == "options" and field.options:
        return field.options[number % len(field.options)]
    if field.kind == "bool":
        return bool(number % 2)
    if field.kind == "int":
        return 1 + number % 5
    if field.kind == "float":
        return (number % 101) / 100
    if field.kind == "json":
        return instance(field.schema, number)
    if field.explains:
        return NO_EXAMPLES
    start = " ".join(query.split()[:8])
    return f"I have no example to go by for: {start}" if start else NO_EXAMPLES


def instance(schema: Any, number: int, root: Any = None, depth: int = 0) -> Any:
    """Return a small value that satisfies a JSON schema as pydantic writes them; `number` picks among enums.

    Lists get their least length, optional properties are left out, and of alternatives the first is taken.
    """
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    root = schema if root is None else root
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return instance(root.get("$defs", {}).get(name), number, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][number % len(schema["enum"])]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return instance(schema[key][0], number, root, depth + 1)
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        required = schema.get("required", ())
        properties = schema.get("properties", {})
        return {name: instance(properties.get(name), number, root, depth + 1) for name in required}
    if kind == "array":
        return [instance(schema.get("items"), number, root, depth + 1)] * int(schema.get("minItems", 0))
    if kind in ("integer", "number"):
        return _within(schema, 1 + number % 5)
    if kind == "boolean":
        return bool(number % 2)
    return NO_EXAMPLES if kind == "string" else None


def _within(schema: dict[str, Any], value: int) -> float:
    low: float = schema.get("minimum", schema.get("exclusiveMinimum", value - 1) + 1)
    high: float = schema.get("maximum", schema.get("exclusiveMaximum", value + 1) - 1)
    return max(low, min(high, value)) if low <= high else (low + high) / 2
