"""A program that degrades: its own answer, else one that it has given before, else a simpler program's, else a default.

Answers are kept in this process, 16 MB of them, for as long as there is room: one that is old is better than none. The
key is what the program is, its LM and the settings among it, and the inputs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from dspex_actors.cache.core import CacheCore
from dspex_actors.cache.key import answer_key, pack_inputs
from dspex_actors.client.inputs import check_program, input_names
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.bridge import in_background_loop, in_thread
from dspex_actors.foundation.codec import CodecError, pack, unpack
from dspex_actors.foundation.telemetry.recorded import cache_answered
from dspex_actors.programs.module import Module
from dspex_actors.runs.identity.parts import lm_identity, options_identity, program_identity
from dspex_actors.settings import settings
from dspex_actors.workflow.core import check_data
from dspex_actors.workflow.drivers import is_async
from dspex_actors.workflow.fallback import Chain, On, Outcome, arun_chain, run_chain

#: What the kept answers may take.
CACHE_BYTES = 16 << 20
#: Who had the value: `Outcome.strategy`.
PROGRAM, CACHE, SIMPLIFIED, DEFAULT = "program", "cache", "simplified", "default"
#: What takes no time is there after the deadline, too.
AT_ONCE = (CACHE, DEFAULT)


class _Unset:
    """Stands for a default that was not given: None is one."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset()
_cache: CacheCore[bytes] = CacheCore("lru", CACHE_BYTES, ttl=float("inf"))
_lock = threading.Lock()


def execute_module_with_cache_fallback(
    program: Any,
    inputs: Mapping[str, Any],
    simplified: Any = None,
    default: Any = UNSET,
    *,
    deadline: float | None = None,
    on: On | None = None,
) -> Outcome:
    """Call a program; where it fails take what it answered before, else a simpler program's answer, else a default.

    Args:
        program: a Module, or another program that is called with the inputs by their names.
        inputs: name → value.
        simplified: a program for when there is no earlier answer; it gets those inputs that it takes. None: none.
        default: for when that fails too; None is one. Not given: none.
        deadline: seconds for the programs together; an earlier answer and the default are there after it, too.
        on: the errors that move on, as of `execute_with_fallback`.

    Returns:
        The value, and whose it is: "program", "cache", "simplified" or "default"; the errors of those before.

    Raises:
        AllStrategiesFailed: nobody had a value.
        ConfigError: an argument is not legal.
    """
    key, given = _key(program, inputs, simplified)
    strategies = [
        (PROGRAM, lambda: _kept(key, _called(program, given))),
        *_after(key, simplified, default, lambda: _called(simplified, _taken(simplified, given))),
    ]
    return run_chain(Chain(_name(program), strategies, deadline, on, AT_ONCE))


async def aexecute_module_with_cache_fallback(
    program: Any,
    inputs: Mapping[str, Any],
    simplified: Any = None,
    default: Any = UNSET,
    *,
    deadline: float | None = None,
    on: On | None = None,
) -> Outcome:
    """Do what `execute_module_with_cache_fallback` does, from an event loop."""
    key, given = _key(program, inputs, simplified)

    async def ask() -> Any:
        return _kept(key, await _acalled(program, given))

    async def ask_simplified() -> Any:
        return await _acalled(simplified, _taken(simplified, given))

    strategies = [(PROGRAM, ask), *_after(key, simplified, default, ask_simplified)]
    return await arun_chain(Chain(_name(program), strategies, deadline, on, AT_ONCE))


def _after(key: str | None, simplified: Any, default: Any, ask: Callable[[], Any]) -> list[Any]:
    """Return what comes behind the program."""
    with _lock:
        # It is held from now on: it may have to make room while the program is asked.
        earlier = None if key is None else _cache.peek(key)
    found: list[Any] = [] if earlier is None else [(CACHE, lambda: _earlier(key, earlier.value))]
    if simplified is not None:
        found.append((SIMPLIFIED, ask))
    if default is not UNSET:
        found.append((DEFAULT, lambda: default))
    return found


def _called(program: Any, given: dict[str, Any]) -> Any:
    if is_async(program):
        return in_background_loop(lambda: program(**given), _name(program))
    return program(**given)


async def _acalled(program: Any, given: dict[str, Any]) -> Any:
    if isinstance(program, Module):
        return await program.acall(**given)
    if is_async(program):
        return await program(**given)
    return await in_thread(lambda: program(**given))


def _key(program: Any, inputs: Any, simplified: Any) -> tuple[str | None, dict[str, Any]]:
    """Return the key of the answer, and the inputs; no key: something in them cannot be told."""
    check_program(program)
    if simplified is not None:
        check_program(simplified)
    given = check_data(inputs, "the inputs are")
    try:
        told = (program_identity(program), lm_identity(settings.lm), options_identity({"adapter": settings.adapter}))
        return answer_key(":".join(one.digest for one in told), given, pack_inputs(given)), given
    except (CodecError, ConfigError):
        return None, given


def _taken(program: Any, given: dict[str, Any]) -> dict[str, Any]:
    names = input_names(program, given)
    return given if names is None else {name: value for name, value in given.items() if name in names}


def _name(program: Any) -> str:
    return getattr(program, "__name__", None) or type(program).__name__


def _kept(key: str | None, value: Any) -> Any:
    """Keep an answer, where it can be, and return it."""
    if key is not None:
        try:
            packed = pack(value)
        except CodecError:
            return value
        with _lock:
            _cache.put(key, packed, len(packed), time.monotonic())
    return value


def _earlier(key: str | None, packed: bytes) -> Any:
    if key is not None:
        with _lock:
            _cache.get(key, time.monotonic())  # it is used: it stays longer
    cache_answered("fallback", hits=1)
    return unpack(packed, objects="load")


def forget_answers() -> None:
    """Forget the answers that this process keeps for `execute_module_with_cache_fallback`."""
    with _lock:
        _cache.clear()
