"""Saved programs: DSPy's JSON, checked before anything is changed.

The layout says nothing about field names or types, only prefixes (labels made from the names) by position, and by
position they are matched: a field may have been renamed since, or had a label of its own. A state that cannot belong to
the program is refused, with what was expected and what was found: another number of fields, or no label and no demo in
which a name fits.

The layout says what optimisers changed, not what the program is. For a bare Predict or ChainOfThought whose fields
have plain types, `save` adds class and signature under `metadata` (`described`), which DSPy carries along unread.
"""

from __future__ import annotations

import json
import logging
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from dspex_actors.adapters.types import type_name
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.config_errors import ConfigKeyError, ConfigTypeError, ConfigValueError
from dspex_actors.foundation.files import replaced
from dspex_actors.programs import saved_lm
from dspex_actors.programs.reading import read_object
from dspex_actors.programs.walk import Predictor
from dspex_actors.signatures.fields import extras
from dspex_actors.signatures.signature import Signature, SignatureMeta, make_signature

_log = logging.getLogger(__name__)

#: DSPy refuses a state without it; empty, it skips the comparison of versions.
_METADATA: dict[str, Any] = {"dependency_versions": {}}

_NEEDED = ("demos", "signature")


class Saved(Protocol):
    """What a saved state is put into."""

    is_predictor: ClassVar[bool]

    def named_predictors(self) -> list[tuple[str, Predictor]]:
        """Return (path, predictor) pairs."""
        ...


def path_of(path: Any) -> Path:
    """Return a path.

    Raises:
        ConfigTypeError: it is none.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigTypeError(f"path is invalid: got {path!r:.80}, expected the name of a file")
    return Path(path)


def write(path: Path, state: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
    """Write a state in one step: a crash leaves the old one.

    Args:
        path: the file.
        state: what `dump_state` returned.
        about: what the program is (`described`); it goes where DSPy does not look.

    Raises:
        ConfigError: another ending than .json, or a folder that cannot be made or written to.
    """
    if path.suffix != ".json":
        raise ConfigValueError(f"programs are saved as JSON: give a name ending in .json, not {str(path)!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {path.parent}: {error.strerror or error}") from None
    # A predictor may be called metadata: what DSPy looks for stands beside its state.
    metadata = {**state.get("metadata", {}), **_METADATA, **({"dspex": about} if about else {})}
    text = json.dumps({**state, "metadata": metadata}, indent=2, ensure_ascii=False, allow_nan=False)
    with replaced(path) as file:
        file.write(text + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a state.

    Raises:
        ConfigError: no such file, or it holds no JSON object.
    """
    return read_object(path, f"the saved program {str(path)!r}")


def load(program: Saved, state: Mapping[str, Any], *, trusted: bool = False) -> None:
    """Put a state into a program, or raise a ConfigError and change nothing.

    Args:
        program: the program.
        state: by predictor path.
        trusted: the state may say where an LM is, and what is imported for it.
    """
    if not isinstance(state, Mapping):
        raise ConfigError(f"a program's state is a dict by predictor path, got {type(state).__name__}")
    named = program.named_predictors()
    parts: dict[str, Any] = dict(state)
    expected = [path for path, _ in named]
    if "metadata" not in expected:
        parts.pop("metadata", None)
    if program.is_predictor:
        if "signature" not in parts:
            raise ConfigError(f"expected the state of one predictor (keys {', '.join(_NEEDED)}), found {_found(parts)}")
        parts = {"self": parts}
    missing = [path for path in expected if path not in parts]
    if missing:
        raise ConfigKeyError(
            f"the state is of another program: expected predictors {', '.join(expected) or 'none'}, "
            f"found {_found(parts)}; missing {', '.join(missing)}"
        )
    for path, predictor in named:
        check(path, predictor, parts[path])
    extra = [path for path in parts if path not in expected]
    if extra:
        _log.warning("the state also has %s, which this program has not; ignored", ", ".join(extra))
    # Signatures and LMs are made first: that is the last thing that can fail.
    made = [
        (predictor.signature.load_state(parts[path]["signature"]), saved_lm.load(parts[path], trusted=trusted))
        for path, predictor in named
    ]
    for (path, predictor), (signature, lm) in zip(named, made, strict=True):
        predictor.take_state(parts[path], signature, lm)


def _found(parts: Mapping[str, Any]) -> str:
    if "signature" in parts and "demos" in parts:
        return f"a single predictor with fields {_prefixes(parts['signature'])}"
    return ", ".join(str(path) for path in parts) or "nothing"


def _prefixes(signature: Any) -> str:
    try:
        return ", ".join(str(field["prefix"]).rstrip(":") for field in signature["fields"])
    except (KeyError, TypeError):
        return "that cannot be read"


def check(path: str, predictor: Predictor, part: Any) -> None:
    """Refuse a predictor's state that cannot be its own.

    Raises:
        ConfigError: which predictor, what it expects, what the state has.
    """
    if isinstance(part, Mapping) and ("extended_signature" in part or "signature_instructions" in part):
        raise ConfigError(
            f"predictor {path}: the state was saved by DSPy 2.5 or older; save it again with 2.6 or newer"
        )
    if not isinstance(part, Mapping) or any(key not in part for key in _NEEDED):
        found = ", ".join(part) if isinstance(part, Mapping) else type(part).__name__
        raise ConfigError(f"predictor {path}: expected a state with {', '.join(_NEEDED)}, found {found or 'nothing'}")
    signature = predictor.signature
    names = list(signature.fields)
    saved = part["signature"].get("fields") if isinstance(part["signature"], Mapping) else None
    if not isinstance(saved, list) or not all(isinstance(item, Mapping) and "prefix" in item for item in saved):
        raise ConfigError(f"predictor {path}: its signature's state has no list of fields with a prefix each")
    if not isinstance(part["signature"].get("instructions"), str):
        raise ConfigError(f"predictor {path}: its signature's state has no instructions that are a text")
    for name in ("train", "traces"):
        if not isinstance(part.get(name) or [], list):
            raise ConfigError(f"predictor {path}: its {name} are no list, but a {type(part[name]).__name__}")
    demos = part["demos"]
    if not isinstance(demos, list) or not all(isinstance(demo, Mapping) for demo in demos):
        raise ConfigError(f"predictor {path}: its demos are not a list of objects")
    shown = {name for demo in demos for name in demo}
    others = _other_labels(signature, saved)
    nothing_fits = len(others) == len(names) > 1 and not shown.intersection(names)
    if len(saved) != len(names) or nothing_fits:
        raise ConfigValueError(
            f"predictor {path}: expected fields {', '.join(names)}, found {_prefixes(part['signature'])}"
        )
    # The last one's label is COPRO's to rewrite.
    if renamed := [told for name, told in others.items() if name != names[-1]]:
        _log.warning("predictor %s: fields match by position: %s", path, ", ".join(renamed))
    for side, wanted in (("input", signature.input_fields), ("output", signature.output_fields)):
        if demos and wanted and not shown.intersection(wanted):
            _log.warning(
                "predictor %s: no demo has one of the %s fields %s, they have %s: prompts go without them",
                path,
                side,
                ", ".join(wanted),
                ", ".join(sorted(shown)) or "nothing",
            )


def _other_labels(signature: SignatureMeta, saved: list[Mapping[str, Any]]) -> dict[str, str]:
    """Return the fields whose saved label is not their own, each with a word about it.

    A label may go on after the name: the `reasoning` of DSPy before 3.2 asks to think step by step.
    """
    return {
        name: f"{item['prefix']!r} is {name}"
        for (name, field), item in zip(signature.fields.items(), saved, strict=False)
        if not _bare(item["prefix"]).startswith((_bare(name), _bare(extras(field)["prefix"])))
    }


def _bare(label: Any) -> str:
    return "".join(char for char in str(label).lower() if char.isalnum())


def described(name: str, signature: type[Signature]) -> dict[str, Any] | None:
    """Return what `rebuild` makes a program again from; None where its signature cannot be written as text.

    Args:
        name: the program's class.
        signature: what the class is made with.
    """
    text = _written(signature)
    return None if text is None else {"class": name, "signature": text}


def _written(signature: type[Signature]) -> str | None:
    """Write a signature as text; None where the text would not give the same fields."""
    if not all(_is_plain(field.annotation) for field in signature.fields.values()):
        return None
    sides = [
        ", ".join(f"{name}: {type_name(field.annotation)}" for name, field in fields.items())
        for fields in (signature.input_fields, signature.output_fields)
    ]
    text = " -> ".join(sides)
    try:
        again = make_signature(text)
    except ConfigError:
        return None
    same = [(name, field.annotation) for name, field in again.fields.items()] == [
        (name, field.annotation) for name, field in signature.fields.items()
    ]
    return text if same and list(again.input_fields) == list(signature.input_fields) else None


def _is_plain(annotation: Any) -> bool:
    """Whether a type can be written down by name: a type of the user's own has one that means nothing elsewhere."""
    if typing.get_origin(annotation) is typing.Literal:
        return all(isinstance(member, (str, int)) for member in typing.get_args(annotation))
    if parts := typing.get_args(annotation):
        return all(_is_plain(part) for part in parts)
    module = getattr(annotation, "__module__", "")
    return annotation is Any or annotation is None or module == "builtins" or module.startswith("dspex_actors.types.")
