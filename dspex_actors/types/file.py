"""`File`: a file such as a PDF, as its bytes or as the provider's id of it."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, ValidationInfo, model_validator

from dspex_actors.foundation import media
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.types.base import CHECKED, Type, only_part
from dspex_actors.types.files import file_bytes

_FIELDS = ("file_data", "file_id", "filename")
_LEGAL = (
    "bytes, a base64 data URL, or at least one of file_data, file_id and filename; "
    "files are read by File.from_path(path)"
)


class File(Type):
    """A file for an LM.

        dspex.File.from_path("paper.pdf")
        dspex.File.from_file_id("file-abc")             # uploaded to the provider before

    Making one never reads a file: `from_path` does.

    Args:
        source: bytes; a `data:TYPE;base64,` address; another File; a dict of the fields.
        file_data: the bytes as such an address.
        file_id: the provider's id.
        filename: what the file is called.

    Raises:
        ConfigValueError: it is none of them; also a ValueError.
    """

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, extra="forbid")

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None

    def __init__(self, source: Any = None, /, **data: Any) -> None:
        """Check the source; see the class."""
        if source is not None:
            given = _given(source)
            twice = ", ".join(sorted(given.keys() & data.keys()))
            if twice:
                raise ConfigTypeError(f"File received {twice} from both the positional source and keyword arguments")
            data = {**given, **data}
        else:
            data = _given(data)
        self._make(data)

    # Validation goes by `_validated` alone, not by `__init__` a second time.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _validated(cls, value: Any, info: ValidationInfo) -> Any:
        return value if info.context is CHECKED or isinstance(value, cls) else _given(value)

    def format(self) -> list[dict[str, Any]]:
        """Return the file as OpenAI's content part."""
        return [{"type": "file", "file": {name: value for name, value in self if value}}]

    @classmethod
    def from_path(cls, file_path: str | Path, filename: str | None = None, mime_type: str | None = None) -> Self:
        """Read a file.

        Args:
            file_path: where it is.
            filename: what it is called; None: as in the path.
            mime_type: its media type; None: as its name says.

        Raises:
            ConfigValueError: there is none.
        """
        data = file_bytes("File", file_path)
        kind = mime_type or mimetypes.guess_type(str(file_path))[0] or media.kind_of(data)
        return cls.from_bytes(data, filename or Path(file_path).name, kind or "application/octet-stream")

    @classmethod
    def from_bytes(
        cls, file_bytes: bytes, filename: str | None = None, mime_type: str = "application/octet-stream"
    ) -> Self:
        """Take over bytes."""
        return cls(file_data=f"data:{mime_type};base64,{media.encoded(file_bytes)}", filename=filename)

    @classmethod
    def from_file_id(cls, file_id: str, filename: str | None = None) -> Self:
        """Name a file that the provider has already."""
        return cls(file_id=file_id, filename=filename)

    @classmethod
    def _from_plain(cls, data: dict[str, Any]) -> Self:
        return cls.model_construct(**data)

    def __repr__(self) -> str:
        """Show id and name, of bytes only how many there are."""
        told = []
        if self.file_data is not None:
            head, _, data = self.file_data.partition("base64,")
            if media.is_data_url(self.file_data):
                kind = head[5:].split(";")[0]
                told.append(f"file_data=<DATA_URI({kind[:40]}, {len(data) or len(self.file_data)} chars)>")
            else:
                told.append(f"file_data=<DATA({len(self.file_data)} chars)>")
        told += [f"{name}={value!r}" for name, value in self if value is not None and name != "file_data"]
        return f"File({', '.join(told)})"

    __str__ = __repr__


def _given(source: Any) -> dict[str, Any]:
    """Return the fields of what is given as a file."""
    if isinstance(source, File):
        return {name: value for name, value in source if value is not None}
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        kind = media.kind_of(data) or "application/octet-stream"
        return _checked({"file_data": f"data:{kind};base64,{media.encoded(data)}"})
    if isinstance(source, dict) and any(name in source for name in _FIELDS):
        return _checked(source)
    if isinstance(source, str):
        if (part := only_part(source, "file")) is not None and isinstance(part.get("file"), dict):
            return _checked(part["file"])
        if media.is_data_url(source):
            return _checked({"file_data": source})
    raise ConfigValueError(f"File is invalid: got {media.shortened(source)}, expected {_LEGAL}")


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    data = fields.get("file_data")
    if isinstance(data, str) and media.is_data_url(data.strip()):
        try:
            media.decoded(media.split_data_url(data.strip())[1])
        except media.NoMedia as error:
            raise ConfigValueError(f"File is invalid: file_data: got {error}, expected {_LEGAL}") from None
    if all(fields.get(name) in (None, "") for name in _FIELDS):
        raise ConfigValueError(f"File is invalid: got nothing in any of its fields, expected {_LEGAL}")
    return fields
