"""By which key an answer is found: a digest of what the program is and of its inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from dspex_actors.foundation.codec import gathering_classes, may_hold_objects, pack


def pack_inputs(inputs: Mapping[str, Any]) -> bytes:
    """Return inputs as bytes, in the order of their names: an example without labels, as workers take it.

    Raises:
        CodecError: nothing can pack one of them.
    """
    return pack([{name: inputs[name] for name in sorted(inputs)}, {}])


def answer_key(program: str, inputs: Mapping[str, Any], packed: bytes) -> str:
    """Return the key of a program's answer.

    Other inputs never have the same key. The same inputs nearly always have the same one: what is no plain data is told
    by its pickle, and that of an equal object may now and then be another one; such an answer is not found.

    Args:
        program: digest of what the program is (`runs.identity`), LM and adapter among it.
        inputs: its inputs.
        packed: the same from `pack_inputs`.
    """
    if may_hold_objects(packed):
        with gathering_classes():  # classes are named in it: the code of one is another text each time
            packed = pack_inputs(inputs)
    return hashlib.sha256(program.encode() + b"\0" + packed).hexdigest()[:32]
