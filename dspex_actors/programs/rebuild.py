"""Programs from their saved state alone, by what `save` added for that (`saving.described`).

A program of one's own needs its code; a state that DSPy saved needs its signature.
"""

from __future__ import annotations

from pathlib import Path

from dspex_actors.errors import ConfigError
from dspex_actors.programs import saving
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.module import Module
from dspex_actors.programs.predict import Predict
from dspex_actors.signatures.signature import make_signature

_CLASSES: dict[str, type[Predict] | type[ChainOfThought]] = {"Predict": Predict, "ChainOfThought": ChainOfThought}


def rebuild(path: Path, signature: str | None = None) -> Module:
    """Make a program from a saved state.

    Args:
        path: what `save` wrote, here or in DSPy.
        signature: of its predictor; None: the one that was saved with it.

    Raises:
        ConfigError: no such file; it does not say what the program is; or its state is of another structure.
    """
    state = saving.read(path)
    known = (state.get("metadata") or {}).get("dspex") if isinstance(state.get("metadata"), dict) else None
    known = known if isinstance(known, dict) else {}
    parts = [name for name in state if name != "metadata"]
    if "signature" in parts and "demos" in parts:
        name = "Predict"
    elif parts == ["predict"]:
        name = "ChainOfThought"
    else:
        raise ConfigError(
            f"{path.name} is the state of a program with code of its own (predictors {', '.join(parts) or 'none'}): "
            f"give that as pkg.mod:object, with --load {path.name}"
        )
    text = signature or known.get("signature")
    if not isinstance(text, str):
        raise ConfigError(f'{path.name} does not say what its fields are called: add --signature "input -> output"')
    # The file's own text may come from anybody: nothing is imported for it.
    program: Module = _CLASSES[name](make_signature(text, trusted=signature is not None))
    program.load_state(state)
    return program
