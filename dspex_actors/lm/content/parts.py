"""The parts of a message. Each is frozen, equal by value, and the same thing as its plain form, OpenAI's chat form."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Self

import orjson

from dspex_actors.errors import ConfigError
from dspex_actors.lm.content.checks import (
    CACHES,
    check_base64,
    check_cache,
    check_data_url,
    data_url,
    said,
    short,
    want_text,
)
from dspex_actors.lm.content.vectors import Vectors

#: How the first bytes of a picture tell its media type; WebP is told by the bytes 8 to 12.
_PICTURES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
#: Where Google's own translation into OpenAI's form keeps a signature.
EXTRA = "extra_content"


@dataclass(frozen=True, slots=True)
class Text:
    """A text.

    Args:
        text: the text.
        cache: keep the prompt up to here in the provider's cache, "5m" or "1h"; None: no mark. Anthropic alone has
            such marks, the others cache by themselves.
        signature: what Gemini has signed it with; it goes back to Gemini only.
    """

    text: str
    cache: str | None = None
    signature: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        want_text("Text", self.text)
        check_cache(self.cache)

    def to_plain(self) -> dict[str, Any]:
        """Return it in OpenAI's form."""
        return _marked({"type": "text", "text": self.text}, self.cache) | signed(self.signature)

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Rebuild it from `to_plain`'s data."""
        return cls(data["text"], _cache_of(data), signature_of(data))


@dataclass(frozen=True, slots=True)
class Image:
    """A picture.

    Args:
        url: its http(s) address, or a `data:image/...;base64,...` URL. Nobody fetches an address here: the provider
            does, where it takes one.
        detail: how closely it is looked at: auto, low, high; None: not said. OpenAI's and Cohere's.
        cache: as `Text`.
    """

    url: str
    detail: str | None = None
    cache: str | None = None

    def __repr__(self) -> str:
        """Return it without most of its bytes."""
        return said("Image", url=self.url, detail=self.detail, cache=self.cache)

    def __post_init__(self) -> None:
        """Check the fields."""
        url = want_text("Image", self.url)
        check_cache(self.cache)
        if not url.startswith(("https://", "http://")):
            check_data_url("Image", url, "image/")

    @classmethod
    def of(cls, data: bytes, media_type: str | None = None, **more: Any) -> Self:
        """Make one of a picture's bytes.

        Args:
            data: the file's content.
            media_type: image/png and the like; None: told by the first bytes.
            more: `detail`, `cache`.

        Raises:
            ConfigError: it is no picture that is known, and no media type was given.
        """
        media_type = media_type or next((kind for start, kind in _PICTURES if data.startswith(start)), None)
        if media_type is None and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            media_type = "image/webp"
        if media_type is None:
            raise ConfigError(f"Image: expected a PNG, JPEG, GIF or WebP, or a media_type, got bytes {data[:12]!r}")
        return cls(data_url(data, media_type), **more)

    def to_plain(self) -> dict[str, Any]:
        """Return it in OpenAI's form."""
        image = {"url": self.url} if self.detail is None else {"url": self.url, "detail": self.detail}
        return _marked({"type": "image_url", "image_url": image}, self.cache)

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Rebuild it from `to_plain`'s data."""
        return cls(data["image_url"]["url"], data["image_url"].get("detail"), _cache_of(data))


@dataclass(frozen=True, slots=True)
class Audio:
    """A recording.

    Args:
        data: its bytes in base64.
        format: wav, mp3, and what else the provider takes.
        cache: as `Text`.
    """

    data: str
    format: str
    cache: str | None = None

    def __repr__(self) -> str:
        """Return it without most of its bytes."""
        return said("Audio", data=self.data, format=self.format, cache=self.cache)

    def __post_init__(self) -> None:
        """Check the fields."""
        check_base64("Audio", want_text("Audio", self.data))
        check_cache(self.cache)
        if not isinstance(self.format, str) or not self.format.isalnum():
            raise ConfigError(f"Audio: expected a format such as 'wav' or 'mp3', got {short(self.format)}")

    @classmethod
    def of(cls, data: bytes, kind: str, **more: Any) -> Self:
        """Make one of a recording's bytes; `kind` is its format."""
        return cls(base64.b64encode(data).decode(), kind, **more)

    def to_plain(self) -> dict[str, Any]:
        """Return it in OpenAI's form."""
        return _marked({"type": "input_audio", "input_audio": {"data": self.data, "format": self.format}}, self.cache)

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Rebuild it from `to_plain`'s data."""
        return cls(data["input_audio"]["data"], data["input_audio"]["format"], _cache_of(data))


@dataclass(frozen=True, slots=True)
class File:
    """A file, such as a PDF: its content, or the id that the provider has given it.

    Args:
        data: a `data:...;base64,...` URL with its content; None: the provider has it under `id`.
        name: what it is called; None: not said.
        id: the provider's id of an uploaded file; None: its content is in `data`.
        cache: as `Text`.
    """

    data: str | None = None
    name: str | None = None
    id: str | None = None
    cache: str | None = None

    def __repr__(self) -> str:
        """Return it without most of its bytes."""
        return said("File", data=self.data, name=self.name, id=self.id, cache=self.cache)

    def __post_init__(self) -> None:
        """Check the fields."""
        check_cache(self.cache)
        if (self.data is None) == (self.id is None):
            raise ConfigError("File: expected data or id, one of them, got both or neither")
        if self.data is not None:
            check_data_url("File", want_text("File", self.data), "")

    @classmethod
    def of(cls, data: bytes, media_type: str = "application/pdf", name: str | None = None, **more: Any) -> Self:
        """Make one of a file's bytes."""
        return cls(data_url(data, media_type), name, **more)

    def to_plain(self) -> dict[str, Any]:
        """Return it in OpenAI's form."""
        told = {"filename": self.name, "file_data": self.data, "file_id": self.id}
        file = {name: value for name, value in told.items() if value is not None}
        return _marked({"type": "file", "file": file}, self.cache)

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Rebuild it from `to_plain`'s data."""
        file = data["file"]
        return cls(file.get("file_data"), file.get("filename"), file.get("file_id"), _cache_of(data))


@dataclass(frozen=True, slots=True, eq=False)
class ToolCall:
    """A call of a tool that the model asks for.

    Two are equal when they call the same tool with the same arguments, however these are written.

    Args:
        name: the tool's name.
        text: its arguments as the model wrote them, which should be a JSON object; a dict is written as JSON.
        id: the provider's id of the call, which the result names.
        signature: what Gemini has signed it with; it goes back to Gemini only.
    """

    name: str
    text: str = "{}"
    id: str = ""
    signature: str | None = None

    def __post_init__(self) -> None:
        """Check the fields; write arguments given as a dict as JSON."""
        want_text("ToolCall", self.name)
        text: Any = self.text
        if isinstance(text, dict):
            try:
                object.__setattr__(self, "text", orjson.dumps(text).decode())
            except TypeError:
                raise ConfigError(f"ToolCall: expected arguments of plain JSON data, got {short(text)}") from None
        else:
            want_text("ToolCall", text)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments, a new dict each time; empty where what the model wrote is no JSON object (see `error`)."""
        return self._read()[0]

    @property
    def error(self) -> str | None:
        """Why what the model wrote cannot be read as arguments; None: it can."""
        return self._read()[1]

    def _read(self) -> tuple[dict[str, Any], str | None]:
        if not self.text.strip():
            return {}, None  # a tool without arguments
        try:
            # Not orjson: it rounds whole numbers beyond 64 bits.
            found = json.loads(self.text, strict=False)
        except (ValueError, RecursionError) as exc:
            return {}, f"the arguments of {self.name} are not JSON: {exc}"
        if not isinstance(found, dict):
            return {}, f"the arguments of {self.name} are no JSON object, but a {type(found).__name__}"
        return found, None

    def __eq__(self, other: object) -> bool:
        """Compare by tool, id, signature and arguments."""
        if not isinstance(other, ToolCall):
            return NotImplemented
        mine, theirs = (self.name, self.id, self.signature), (other.name, other.id, other.signature)
        if mine != theirs or self.text == other.text:
            return mine == theirs
        read = self._read()
        return read[1] is None and read == other._read()

    def __hash__(self) -> int:
        """Hash as `==` compares."""
        return hash((self.name, self.id, self.signature))

    def to_plain(self) -> dict[str, Any]:
        """Return it as OpenAI writes it into a message's `tool_calls`."""
        function = {"name": self.name, "arguments": self.text}
        return {"id": self.id, "type": "function", "function": function} | signed(self.signature)

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Rebuild it from `to_plain`'s data."""
        function = data["function"]
        return cls(function["name"], function["arguments"], data["id"], signature_of(data))


@dataclass(frozen=True, slots=True)
class Thinking:
    """What a model has thought before it answered; it goes back to the provider that gave it, and to no other.

    Args:
        text: the thoughts, or their summary; empty where the provider hides them.
        provider: who gave it.
        block: the provider's own block with its signature, as JSON, unchanged; None: it has none, and need not go
            back.
    """

    text: str
    provider: str = ""
    block: str | None = None

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        data: dict[str, Any] = {"type": "thinking", "thinking": self.text, "provider": self.provider}
        if self.block is not None:
            data["block"] = orjson.loads(self.block)
        return data

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Rebuild it from `to_plain`'s data."""
        block = data.get("block")
        return cls(data["thinking"], data["provider"], None if block is None else orjson.dumps(block).decode())


@dataclass(frozen=True, slots=True)
class Other:
    """A part in some provider's own words, kept as it is.

    Args:
        json: the part as JSON; a dict is written as JSON.
    """

    json: str

    def __post_init__(self) -> None:
        """Write a part given as a dict as JSON."""
        if isinstance(self.json, dict):
            object.__setattr__(self, "json", orjson.dumps(self.json).decode())

    def to_plain(self) -> dict[str, Any]:
        """Return the part."""
        found: dict[str, Any] = orjson.loads(self.json)
        return found

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """Keep a part."""
        return cls(data)  # type: ignore[arg-type]


Part = Text | Image | Audio | File | ToolCall | Thinking | Vectors | Other
_KINDS: dict[Any, Any] = {
    "text": Text,
    "image_url": Image,
    "input_audio": Audio,
    "file": File,
    "function": ToolCall,
    "thinking": Thinking,
    "vectors": Vectors,
}


def part_from_plain(data: Any) -> Part:
    """Return the typed form of a plain part; what has none that says all of it is an `Other`."""
    if isinstance(data, str):
        return Text(data)
    kind = _KINDS.get(data.get("type")) if isinstance(data, dict) else None
    if kind is not None:
        try:
            part: Part = kind.from_plain(data)
            if part.to_plain() == data:
                return part
        except (LookupError, TypeError, ValueError, AttributeError, ConfigError):
            pass
    if not isinstance(data, dict):
        raise ConfigError(f"a part of a message is invalid: got {short(data)}, expected a text, a part or a dict")
    return Other.from_plain(data)


def signed(signature: str | None) -> dict[str, Any]:
    """Return where Gemini's signature stands in a plain part or tool call; nothing where there is none."""
    return {EXTRA: {"google": {"thought_signature": signature}}} if signature is not None else {}


def signature_of(data: dict[str, Any]) -> str | None:
    """Return Gemini's signature in a plain part or tool call; None: it has none."""
    extra = data.get(EXTRA)
    google = extra.get("google") if isinstance(extra, dict) else None
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) else None


def _marked(data: dict[str, Any], cache: str | None) -> dict[str, Any]:
    if cache is not None:
        data["cache_control"] = dict(CACHES[cache])
    return data


def _cache_of(data: dict[str, Any]) -> str | None:
    told = data.get("cache_control")
    return next((name for name, mark in CACHES.items() if mark == told), None)
