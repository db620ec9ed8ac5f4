"""What a module is made of, as its user gives it: checked, and brought into the form in which it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from dspex_actors.cache.key import pack_inputs
from dspex_actors.client.inputs import check_has_lm, check_program, code_of
from dspex_actors.dspy.program import as_lm, as_program
from dspex_actors.ecosystem.inference.rules import InputRules, OutputCheck, input_rules, output_rules
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.codec import CodecError
from dspex_actors.lm.lm import LM
from dspex_actors.modules.program import pack_around
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.protection import spec as protected
from dspex_actors.runs.snapshot import pack_surroundings
from dspex_actors.signatures.signature import SignatureMeta

#: Inputs are not larger than this together: they pass through several processes.
MOST_INPUT_BYTES = 32 << 20
#: A program is not larger than this.
MOST_PROGRAM_BYTES = 64 << 20
_ID_CHARACTERS, _NOTE_CHARACTERS = 200, 1000
NO_LM = (
    'no LM is set: dspex.connect(lm="openai/gpt-4o-mini"), create({"program": ..., "lm": ...}) or program.set_lm(...)'
)


class Packed(NamedTuple):
    """A program that can be sent: its pickle, what holds where it runs, and the rules for its inputs."""

    program: bytes
    around: bytes
    rules: InputRules


def packed_program(program: Any, lm: Any) -> Packed:
    """Return a program as the manager takes it.

    Args:
        program: the program.
        lm: for predictors that have none of their own; None: none.

    Raises:
        ConfigError: it cannot be sent, or would have no LM.
    """
    lm = as_lm(lm)
    check_has_lm(program, lm, NO_LM)
    rules = input_rules(program)
    around = pack_around(
        code_of(OutputCheck(output_rules(program)), "program's outputs"),
        code_of(rules, "program's inputs"),
        lm.to_dict() if isinstance(lm, LM) else None,
        pack_surroundings(lm),
    )
    code = code_of(program, "program")
    if len(code) > MOST_PROGRAM_BYTES:
        raise ConfigError(
            f"the program is too large: got {len(code):,} bytes, expected at most {MOST_PROGRAM_BYTES:,}; let it read "
            "its data where it runs"
        )
    return Packed(code, around, rules)


def check_words(what: str, text: Any) -> str:
    """Return what somebody says about a module, or refuse it by a ConfigError."""
    if not isinstance(text, str) or len(text) > _NOTE_CHARACTERS:
        raise ConfigError(
            f"the {what} is invalid: got {text!r:.60}, expected a text of at most {_NOTE_CHARACTERS} characters"
        )
    return text


def check_id(id_: Any) -> str:
    """Return a module's id, or refuse it by a ConfigError."""
    if not isinstance(id_, str) or not 1 <= len(id_) <= _ID_CHARACTERS or not id_.isprintable() or id_ != id_.strip():
        raise ConfigError(
            f"the module's id is invalid: got {id_!r:.60}, expected 1 to {_ID_CHARACTERS} printable characters, no "
            "space at an end"
        )
    return id_


def program_of(given: Any) -> Any:
    """Return the program that is meant: itself, or what asks for a signature's outputs; else a ConfigError."""
    if isinstance(given, str | SignatureMeta):
        return Predict(given)  # type: ignore[arg-type]  # a class of this metaclass is a signature
    if isinstance(given, type) and issubclass(given, Module):
        raise ConfigError(
            f"the program is invalid: got the class {given.__name__}, expected an object of it, as {given.__name__}()"
        )
    given = as_program(given)
    check_program(given)
    return given


def protection_of(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how a module's calls are protected, as plain data; None: not at all. Else a ConfigError."""
    parts = [given.get(name) for name in ("circuit_breaker", "rate_limiter", "pool")]
    if parts == [None, None, None]:
        return None
    made, trip = protected.protection(*parts)
    if trip is not None:
        raise ConfigError("the circuit_breaker is invalid: got `trip`, a function, which a module's calls cannot have")
    return made.to_plain()


def packed_inputs(id_: str, inputs: dict[str, Any]) -> bytes:
    """Return inputs as bytes, or refuse them by a ConfigError."""
    try:
        packed = pack_inputs(inputs)
    except CodecError as error:
        raise ConfigError(f"the inputs of {id_!r:.80} cannot be sent: {error.message}") from None
    if len(packed) > MOST_INPUT_BYTES:
        raise ConfigError(
            f"the inputs of {id_!r:.80} are too large: got {len(packed):,} bytes, expected at most "
            f"{MOST_INPUT_BYTES:,}; give the place where the program finds them"
        )
    return packed
