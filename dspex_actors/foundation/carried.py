"""Keys that code would carry along: what travels by value is kept in the journal and read by workers, in the clear."""

from __future__ import annotations

import pickletools
import re
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.secrets import looks_like_key, secrets_of
from supervisors.wire import pickles

#: What `looks_like_key` may find, as it begins: a quick look at bytes that are large.
_HINTS = re.compile(rb"sk-|AIza|gh[pousr]_|gsk_|xox|hf_|Bearer|PRIVATE KEY")
#: A secret of so many characters is no part of an ordinary text.
LONG = 16
#: So deep in an object's attributes a key's name is looked for.
DEEP = 6


def refuse_keys(data: bytes, value: Any) -> None:
    """Refuse pickled code with a key in it.

    Args:
        data: the pickle.
        value: what was pickled, for the name of what holds the key.

    Raises:
        ConfigError: a text in it looks like a key, or is the value of an environment variable `..._KEY`, `_TOKEN`,
            `_SECRET` or `_PASSWORD`; says which, without the value.
    """
    secrets = {text: name for text, name in secrets_of().items() if text.encode("utf-8", "surrogateescape") in data}
    if not secrets and _HINTS.search(data) is None:
        return
    for text in _texts(data):
        variable = next((name for secret, name in secrets.items() if _has(text, secret)), None)
        if variable is None and not looks_like_key(text):
            continue
        what = "looks like a key" if variable is None else f"is the value of the environment variable {variable}"
        raise ConfigError(
            f"it carries a key: {_place(value, text)} {what} (not shown): read it where it is used, "
            f"os.environ[{variable or 'NAME'!r}] in the function, or give the LM api_key='env:{variable or 'NAME'}'"
        )


def _has(text: str, secret: str) -> bool:
    """Whether a text is a secret; a long one may also stand inside of it."""
    return text.strip() == secret or (len(secret) >= LONG and secret in text)


def _texts(data: bytes) -> Iterator[str]:
    for _, argument, _ in pickletools.genops(data):
        if isinstance(argument, str):
            yield argument
        elif isinstance(argument, bytes):
            yield argument.decode("latin-1")


def _place(value: Any, text: str) -> str:
    """Say what holds a text: a variable of a module that travels by value, one of a closure, or an attribute."""
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and pickles.travels_by_value(module):
            texts = [(name, held) for name, held in list(vars(module).items()) if isinstance(held, str)]
            name = next((name for name, held in texts if held == text), None)
            if name is not None:
                return f"the variable {name!r} of {module.__name__}"
    if isinstance(value, FunctionType) and value.__closure__:
        for name, cell in zip(value.__code__.co_freevars, value.__closure__, strict=True):
            if _content(cell) == text:
                return f"the variable {name!r} around {value.__qualname__}"
    path = _path(value, text, DEEP)
    return "a text in its code or data" if path is None else f"its {path[1:]!r}"


def _path(value: Any, text: str, deep: int) -> str | None:
    """Return how a text is reached from an object, by attributes and keys: `.lm.token`; None: not so."""
    if isinstance(value, str):
        return "" if value == text else None
    if not deep or isinstance(value, type | ModuleType | FunctionType):
        return None
    held = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    for name, each in list(held.items()):
        path = _path(each, text, deep - 1)
        if path is not None:
            return f".{name}{path}"
    return None


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it has none yet
        return None
