"""`Code`: a program's text, `Code["python"]`."""

from __future__ import annotations

import re
import threading
from typing import Any, ClassVar, Self, cast

from pydantic import model_validator

from dspex_actors.foundation import media
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.types.base import Type

_FENCED = re.compile(r"```[^\n]*\n(.*?)```", re.DOTALL)
_FENCED_INLINE = re.compile(r"```(.*?)```", re.DOTALL)


class Code(Type):
    """Code, as an input or an output: `code: dspex.Code["java"] = dspex.OutputField()`.

    Of an answer with a fenced block it is the block's text.

    Args:
        code: the text.
    """

    language: ClassVar[str] = "python"

    code: str

    def __class_getitem__(cls, language: Any) -> type[Code]:
        """Return the type of code in a language; the same one each time."""
        if not isinstance(language, str) or not language.strip() or not language.isprintable():
            raise ConfigTypeError(f"Code[...] takes the name of a language, got {media.shortened(language)}")
        return _of(cls, language)

    @model_validator(mode="before")
    @classmethod
    def _validated(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if isinstance(value, Code):
            return {"code": value.code}
        text = value.get("code") if isinstance(value, dict) else value
        if not isinstance(text, str):
            raise ConfigValueError(f"Code is invalid: got {media.shortened(value)}, expected a text")
        return {"code": _unfenced(text)}

    def format(self) -> str:
        """Return the text."""
        return self.code

    @classmethod
    def description(cls) -> str:
        """Return words about code for the LM."""
        return (
            "Source code as text. Where it is an output, write it as a fenced Markdown block: "
            f"\n```{cls.language.lower()}\n{{code}}\n```\nIt is written in: {cls.language}"
        )

    def __dspex_plain__(self) -> str:
        """Return the text."""
        return self.code

    @classmethod
    def _from_plain(cls, data: str) -> Self:
        return cls.model_construct(code=data)


def _unfenced(text: str) -> str:
    found = _FENCED.search(text) or _FENCED_INLINE.search(text)
    return found[1].strip() if found else text


_made: dict[tuple[type[Code], str], type[Code]] = {}
_lock = threading.Lock()
_PREFIX = "Code_"


def _of(base: type[Code], language: str) -> type[Code]:
    with _lock:
        kind: Any = _made.get((base, language))
        if kind is None:
            name = f"{base.__name__}_{language}"
            # A class that is found under its name in this module, by `__getattr__`: so it is the same everywhere.
            place = {"__module__": __name__, "__qualname__": _PREFIX + language.encode().hex()} if base is Code else {}
            make: Any = type(base)
            kind = make(name, (base,), {**place, "__doc__": None, "language": language})
            _made[base, language] = kind
        return cast("type[Code]", kind)


def __getattr__(name: str) -> Any:
    """Return the type of code in a language, by the name that pickles know it by."""
    if name.startswith(_PREFIX):
        try:
            return _of(Code, bytes.fromhex(name.removeprefix(_PREFIX)).decode())
        except ValueError:
            pass
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
