"""`Image`: a picture, as its address or as its bytes."""

from __future__ import annotations

import io
import mimetypes
import sys
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, ValidationInfo, model_validator

from dspex_actors.foundation import media
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.types.base import CHECKED, Type, only_part
from dspex_actors.types.files import file_bytes, is_address

#: Pictures whose bytes say what they are: others are taken at their word.
_KNOWN = frozenset(
    {"image/png", "image/jpeg", "image/jpg", "image/gif", "image/webp", "image/bmp", "image/tiff", "image/svg+xml"}
)
_LEGAL = "an http(s) or gs address, a base64 data URL, bytes or a PIL image; files are read by Image.from_path(path)"


class Image(Type):
    """A picture for an LM.

        dspex.Image("https://example.org/cat.png")      # the provider fetches it, or is sent it by a worker
        dspex.Image.from_path("cat.png")                # read now
        dspex.Image(data)                               # bytes

    Making one never fetches and never reads a file: `from_path` and `from_url` do.

    Args:
        source: an http, https or gs address; a `data:image/...;base64,` address; bytes; a PIL image; another Image;
            `{"url": ...}`.
        url: the address, by name.

    Raises:
        ConfigValueError: it is no image; also a ValueError.
    """

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, extra="forbid")

    url: str

    def __init__(self, source: Any = None, /, **data: Any) -> None:
        """Check the source; see the class."""
        if "download" in data or "verify" in data:
            raise ConfigTypeError("Image(...) never fetches: Image.from_url(url, verify=...) does")
        if source is not None:
            if "url" in data:
                raise ConfigTypeError("Image received both a source and url; give one of them")
            data = {**_given(source), **data}
        elif "url" in data:
            data = {**data, "url": _url(data["url"])}
        self._make(data)

    # Validation goes by `_validated` alone, not by `__init__` a second time.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _validated(cls, value: Any, info: ValidationInfo) -> Any:
        if info.context is CHECKED or isinstance(value, cls):
            return value
        if isinstance(value, dict) and value.keys() != {"url"}:
            return value
        return _given(value)

    def format(self) -> list[dict[str, Any]]:
        """Return the picture as OpenAI's content part."""
        return [{"type": "image_url", "image_url": {"url": self.url}}]

    @classmethod
    def from_path(cls, file_path: str | Path) -> Self:
        """Read a file.

        Raises:
            ConfigValueError: there is none, or it is no image.
        """
        data = file_bytes("Image", file_path)
        return cls(f"data:{_kind(data, mimetypes.guess_type(str(file_path))[0])};base64,{media.encoded(data)}")

    @classmethod
    def from_file(cls, file_path: str | Path) -> Self:
        """Read a file; DSPy's older name for `from_path`."""
        return cls.from_path(file_path)

    @classmethod
    def from_url(cls, url: str, verify: bool = True, timeout: float | None = 30.0) -> Self:
        """Fetch an http(s) address now, from here, and keep its bytes.

        Whoever takes addresses from others checks them first: private addresses are asked as any other, as by
        DSPy. Those at which clouds hand out credentials are not.

        Args:
            url: the address.
            verify: whether the server's certificate must be good.
            timeout: seconds without a byte; None: for ever.

        Raises:
            ConfigValueError: no such address, no answer, or it is no image.
        """
        from dspex_actors.types.fetching import fetched  # here: few fetch, and it takes long to load

        data, told = fetched("Image", url, verify=verify, timeout=timeout)
        return cls(f"data:{_kind(data, told)};base64,{media.encoded(data)}")

    @classmethod
    def from_PIL(cls, pil_image: Any) -> Self:  # noqa: N802 - DSPy's name
        """Take over a PIL image; `Image(pil_image)` is the same."""
        return cls(pil_image)

    def __dspex_plain__(self) -> str:
        """Return the address."""
        return self.url

    @classmethod
    def _from_plain(cls, data: str) -> Self:
        return cls.model_construct(url=data)

    def __repr__(self) -> str:
        """Show the address, of bytes only how many there are."""
        if media.is_data_url(self.url):
            head, _, data = self.url.partition("base64,")
            return f"Image(url={head}base64,<IMAGE_BASE_64_ENCODED({len(data)})>)"
        return f"Image(url={self.url!r})"

    __str__ = __repr__


def _given(source: Any) -> dict[str, Any]:
    if isinstance(source, dict) and source.keys() == {"url"}:
        source = source["url"]
    return {"url": _url(source)}


def _url(source: Any) -> str:
    """Return the address of what is given as an image."""
    if isinstance(source, Image):
        return source.url
    if isinstance(source, str):
        return _checked(source.strip())
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return f"data:{_kind(data, None)};base64,{media.encoded(data)}"
    pil = sys.modules.get("PIL.Image")  # whoever has an image of PIL's has imported it
    if pil is not None and isinstance(source, pil.Image):
        kind = source.format or "PNG"
        buffer = io.BytesIO()
        source.save(buffer, format=kind)
        return f"data:{pil.MIME.get(kind, f'image/{kind.lower()}')};base64,{media.encoded(buffer.getvalue())}"
    raise ConfigValueError(f"Image is invalid: got {media.shortened(source)}, expected {_LEGAL}")


def _checked(url: str) -> str:
    part = only_part(url, "image_url")
    if part is not None:  # out of a saved program
        inner = part.get("image_url")
        url = str(inner.get("url") if isinstance(inner, dict) else inner)
    problem = ""
    if media.is_data_url(url):
        try:
            kind, text = media.split_data_url(url)
            data = media.decoded(text)
        except media.NoMedia as error:
            problem = str(error)
        else:
            found = media.kind_of(data)
            if not kind.startswith("image/"):
                problem = f"a data URL of {kind}"
            elif kind in _KNOWN and not (found or "").startswith("image/"):
                problem = f"a data URL of {kind} whose bytes are {found or 'no image'}"
            else:
                return url
    elif is_address(url, ("http", "https", "gs")):
        return url
    raise ConfigValueError(f"Image is invalid: got {problem or media.shortened(url)}, expected {_LEGAL}")


def _kind(data: bytes, told: str | None) -> str:
    found = media.kind_of(data)
    if found is not None and found.startswith("image/"):
        return found
    if found is None and told is not None and told.startswith("image/") and told not in _KNOWN:
        return told
    raise ConfigValueError(f"Image is invalid: got {media.shortened(data)}, expected the bytes of an image")
