"""A signature as a model can take it: without what it does not take, and as long as there is room for. Pure."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from dspex_actors.foundation import tokens
from dspex_actors.foundation.checks import is_whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.lm.capabilities import Capabilities, capabilities_of
from dspex_actors.signatures.fields import constraints_text, copy_field, description_of, extras, side_of
from dspex_actors.types.audio import Audio
from dspex_actors.types.file import File
from dspex_actors.types.image import Image

#: Without another word the signature's own words may take this part of a model's window.
SHARE = 4
_KINDS = ((Image, "images", "pictures"), (Audio, "audio", "sound"), (File, "files", "files"))
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
Fields = dict[str, FieldInfo]


def adapted(
    name: str, fields: Mapping[str, FieldInfo], instructions: str, lm: Any, max_tokens: int | None
) -> tuple[Fields, str]:
    """Return fields and instructions as a model can take them; see `Signature.adapted`.

    Args:
        name: of the signature, for errors.
        fields: its fields.
        instructions: its instructions.
        lm: an LM, or a model string; None: any.
        max_tokens: what they may take together; None: as the model's window says.

    Raises:
        ConfigError: it cannot be done.
    """
    if max_tokens is not None and (not is_whole(max_tokens, 1)):
        raise ConfigValueError(f"max_tokens is invalid: got {max_tokens!r:.40}, expected a whole number of at least 1")
    can, model = _capabilities(lm)
    kept = _taken(name, fields, can, model)
    if max_tokens is None and can.window is not None:
        max_tokens = can.window // SHARE
    if max_tokens is None:
        return kept, instructions
    for shorter, words in _shorter(kept, instructions):
        size = size_of(shorter, words)
        if size <= max_tokens:
            return shorter, words
    raise ConfigValueError(
        f"{name} cannot be made to fit: it takes {size:,} tokens at its shortest, expected at most {max_tokens:,}; "
        "it has fewer fields, or the model a larger window"
    )


def size_of(fields: Mapping[str, FieldInfo], instructions: str) -> int:
    """Return about how many tokens instructions and fields take in a prompt."""
    lines = [f"{name} {description_of(name, field)} {constraints_text(field)}" for name, field in fields.items()]
    return tokens.count(instructions) + sum(map(tokens.count, lines))


def _capabilities(lm: Any) -> tuple[Capabilities, str]:
    if lm is None:
        return Capabilities(), "the model"
    if isinstance(lm, str):
        provider, slash, model = lm.partition("/")
        if not slash or not model:
            raise ConfigValueError(f"the model is invalid: got {lm!r:.60}, expected one as openai/gpt-4o-mini")
        return capabilities_of(provider, model), lm
    can = getattr(lm, "capabilities", None)
    if not isinstance(can, Capabilities):
        raise ConfigTypeError(f"the LM is invalid: got {type(lm).__name__}, expected an LM or a model string")
    return can, str(getattr(lm, "model", type(lm).__name__))


def _taken(name: str, fields: Mapping[str, FieldInfo], can: Capabilities, model: str) -> Fields:
    kept = dict(fields)
    for called, field in fields.items():
        if side_of(field) != "input":
            continue
        for kind, ability, word in _KINDS:
            if getattr(can, ability) is not False or not _holds(field.annotation, kind):
                continue
            if field.is_required() and types.NoneType not in typing.get_args(field.annotation):
                raise ConfigValueError(
                    f"{name} cannot be adapted: {model} takes no {word}, which its input {called} is; expected a model "
                    "that does, or a default for it"
                )
            kept.pop(called, None)
    return kept


def _holds(annotation: Any, kind: type) -> bool:
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return issubclass(annotation, kind)
    return any(_holds(part, kind) for part in typing.get_args(annotation))


def _shorter(fields: Fields, instructions: str) -> Iterator[tuple[Fields, str]]:
    """Give it as it is, and then shorter and shorter."""
    yield fields, instructions
    now = dict(fields)
    by_length = sorted(now, key=lambda name: -len(description_of(name, now[name])))
    for name in by_length:
        words = description_of(name, now[name])
        first = _SENTENCE.split(words, maxsplit=1)[0]
        if first != words:
            now = {**now, name: _with_words(name, now[name], first)}
            yield now, instructions
    for name in by_length:
        if description_of(name, now[name]):
            now = {**now, name: _with_words(name, now[name], "")}
            yield now, instructions
    paragraphs = instructions.split("\n\n")
    for count in range(len(paragraphs) - 1, 0, -1):
        yield now, "\n\n".join(paragraphs[:count])
    first = _SENTENCE.split(paragraphs[0], maxsplit=1)[0]
    if first != paragraphs[0]:
        yield now, first


def _with_words(name: str, field: FieldInfo, words: str) -> FieldInfo:
    twin = copy_field(field)
    extras(twin)["desc"] = words or f"${{{name}}}"
    return twin
