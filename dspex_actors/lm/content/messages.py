"""Messages, and the way between typed and plain ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from dspex_actors.errors import ConfigError
from dspex_actors.lm.content.parts import Part, Text, ToolCall, part_from_plain

#: In a tool call of a plain message: how many parts of the content stand before it, where it is not all of them.
AT = "at"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Args:
        role: system, developer, user or assistant. Results of tools are `ToolResult`s.
        parts: what it says: a text, a part, or several; kept as a tuple. Plain parts in OpenAI's form are typed.
        name: who says it, for OpenAI; None: not said.
    """

    role: str
    parts: tuple[Part, ...] = ()
    name: str | None = None

    def __post_init__(self) -> None:
        """Check the fields, and make typed parts of all."""
        if not isinstance(self.role, str) or not self.role:
            raise ConfigError(f"role of a message is invalid: got {self.role!r:.60}, expected user, assistant, ...")
        given: Any = self.parts
        if isinstance(given, str | dict) or not isinstance(given, Iterable) or hasattr(given, "format"):
            given = (given,)
        typed = [
            part if hasattr(part, "to_plain") else part_from_plain(part) for each in given for part in _formatted(each)
        ]
        object.__setattr__(self, "parts", tuple(part for part in typed if part != _EMPTY))

    @property
    def text(self) -> str:
        """All its text."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls in it."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    def to_plain(self) -> dict[str, Any]:
        """Return it in OpenAI's chat form; one that is a bare text has it as its content."""
        calls: list[dict[str, Any]] = []
        content: list[dict[str, Any]] = []
        for part in self.parts:
            plain = part.to_plain()
            if plain.get("type") == "function":
                calls.append({**plain, AT: len(content)})
            else:
                content.append(plain)
        for call in calls:
            if call[AT] == len(content):
                del call[AT]
        said = plain_content(content)
        data: dict[str, Any] = {"role": self.role, "content": None if calls and not content else said}
        if calls:
            data["tool_calls"] = calls
        if self.name is not None:
            data["name"] = self.name
        return data

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Rebuild it from `to_plain`'s data; what else stands in a plain message is left out."""
        return cls(data["role"], tuple(part_from_plain(each) for each in in_order(data)), data.get("name"))


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool has answered: a message of its own.

    Args:
        id: of the call that it answers (`ToolCall.id`).
        parts: what it says, as `Message`.
        name: the tool's name; None: not said.
        is_error: whether the tool has failed, and this says why. Anthropic is told; the others have no word for it.
    """

    id: str
    parts: tuple[Part, ...] = ()
    name: str | None = None
    is_error: bool = False

    def __post_init__(self) -> None:
        """Check the fields, and make typed parts of all."""
        if isinstance(self.id, ToolCall):
            if self.name is None:
                object.__setattr__(self, "name", self.id.name)
            object.__setattr__(self, "id", self.id.id)
        if not isinstance(self.id, str):
            raise ConfigError(f"id of a ToolResult is invalid: got {self.id!r:.60}, expected a ToolCall or its id")
        object.__setattr__(self, "parts", Message("tool", self.parts).parts)

    @property
    def text(self) -> str:
        """All its text."""
        return Message("tool", self.parts).text

    def to_plain(self) -> dict[str, Any]:
        """Return it as the tool message of OpenAI's chat form."""
        content = plain_content([part.to_plain() for part in self.parts])
        data: dict[str, Any] = {"role": "tool", "tool_call_id": self.id, "content": content}
        if self.name is not None:
            data["name"] = self.name
        if self.is_error:
            data["is_error"] = True
        return data

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Rebuild it from `to_plain`'s data."""
        parts = tuple(part_from_plain(each) for each in in_order(data))
        return cls(data["tool_call_id"], parts, data.get("name"), bool(data.get("is_error")))


_EMPTY = Text("")


def from_plain(data: dict[str, Any]) -> Message | ToolResult:
    """Return the typed form of a plain message."""
    return ToolResult.from_plain(data) if data.get("role") == "tool" else Message.from_plain(data)


def to_plain(message: Any) -> Any:
    """Return a message with everything typed in it made plain; anything else stays what it is.

    What is said the same way is the same call: a content of one bare text is that text.
    """
    if hasattr(message, "to_plain"):
        return message.to_plain()
    if isinstance(message, dict) and isinstance(content := message.get("content"), list | tuple):
        plain = [_plain(part) for each in content for part in _formatted(each)]
        return {**message, "content": plain_content(plain) if len(plain) == 1 else plain}
    return message


def _plain(part: Any) -> Any:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return part.to_plain() if hasattr(part, "to_plain") else part


def _formatted(part: Any) -> list[Any]:
    """Return a part as parts: values of fields' types, `dspex.Image` and the like, say themselves which they are."""
    if isinstance(part, str | dict) or hasattr(part, "to_plain") or not hasattr(part, "format"):
        return [part]
    told = part.format()
    return list(told) if isinstance(told, list | tuple) else [told]


def plain_content(parts: list[Any]) -> Any:
    """Return parts as the content of a plain message: a bare text alone is its content, and no part an empty one."""
    if not parts:
        return ""
    first = parts[0]
    if len(parts) == 1 and isinstance(first, dict) and first.keys() == {"type", "text"}:
        text = first["text"]
        return text if first["type"] == "text" and isinstance(text, str) else parts
    return parts


def in_order(message: dict[str, Any]) -> list[Any]:
    """Return what a plain message says in its order: parts of the content, and tool calls where they stand in it."""
    content = message.get("content")
    if content is None or content == "":
        said: list[Any] = []
    elif isinstance(content, str):
        said = [{"type": "text", "text": content}]
    elif isinstance(content, list | tuple):
        said = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
        if not all(isinstance(part, dict) for part in said):
            raise TypeError("a part of a message must be a text or a dict")
    else:
        raise TypeError(f"content of a message must be a string or a list of parts, got {type(content).__name__}")
    calls = message.get("tool_calls")
    if not calls:
        return said
    ordered: list[Any] = []
    rest = list(calls)
    for place, part in enumerate(said):
        while rest and rest[0].get(AT, len(said)) <= place:
            ordered.append(_call(rest.pop(0)))
        ordered.append(part)
    return [*ordered, *map(_call, rest)]


def _call(call: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", **{name: value for name, value in call.items() if name != AT}}
