"""A version of a module: how a program is packed with what holds where it runs, and what a worker does with it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

from dspex_actors.data.fields import unpack_example
from dspex_actors.ecosystem.inference.rules import InputRules, told
from dspex_actors.errors import InvalidInputs
from dspex_actors.example import Example
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.foundation.codec import HoldsObjects, pack, unpack
from dspex_actors.lm.attempts import current_ledger
from dspex_actors.lm.lm import LM
from dspex_actors.modules.store import read_blobs
from dspex_actors.protection.access import current_access
from dspex_actors.protection.handle import aexecute_protected
from dspex_actors.protection.messages import Configure
from dspex_actors.runs.snapshot import open_settings
from dspex_actors.runs.spec import Job, load_code
from dspex_actors.runs.work import Result
from dspex_actors.workers.runner import make_runner

#: A worker keeps so many versions open, those that were called last.
MOST_OPEN = 64
#: What of inputs is refused: values that do not fit are the program's affair, which may make something of them.
_REFUSED = ("unknown", "missing")


def pack_around(check: bytes, rules: bytes, lm: dict[str, Any] | None, options: dict[str, Any]) -> bytes:
    """Return what holds where a program runs, as bytes.

    Args:
        check: what checks its outputs, pickled.
        rules: for its inputs, pickled.
        lm: settings of the LM for predictors that have none of their own; None: none.
        options: from `pack_surroundings`.
    """
    return pack({"check": check, "rules": rules, "lm": lm, "options": options})


def unpack_around(data: bytes) -> dict[str, Any]:
    """Return what `pack_around` has packed."""
    found: dict[str, Any] = unpack(data)
    return found


def lm_of(around: dict[str, Any]) -> Any:
    """Return the LM that an earlier version has for predictors without one of their own; None: it has none.

    It opens code, of a user's own LM: only where the user's code runs.
    """
    if around["lm"] is not None:
        return LM.from_dict(around["lm"])
    return open_settings(around["options"].get("context")).get("lm")


def pack_call(program: str, around: str, key: str, protection: dict[str, Any] | None, inputs: bytes | None) -> bytes:
    """Return one call, as `Serve` has it.

    Args:
        program: digest of the program.
        around: digest of what holds around it.
        key: under which it is protected.
        protection: how; None: not at all.
        inputs: packed; None: the program is only opened.
    """
    return pack([{"program": program, "around": around, "key": key, "protection": protection, "inputs": inputs}, {}])


class _Opened:
    def __init__(self, program: bytes, around: dict[str, Any]) -> None:
        self.runner = make_runner(
            Job("modules", "infer", program, around["check"], around["lm"], dict(around["options"]))
        )
        self.rules: InputRules = load_code(around["rules"])


class ModuleRunner:
    """Calls whatever program a call says; each is opened once.

    Args:
        job: its options have `path`, the file that has the programs.
    """

    def __init__(self, job: Job) -> None:
        """Open nothing yet."""
        self._path = Path(job.options["path"])
        self._opened: OrderedDict[tuple[str, str], asyncio.Task[_Opened]] = OrderedDict()
        #: Key → the protection that this process has told.
        self._told: dict[str, str] = {}

    async def attempt(self, example: Example) -> Result:
        """Return its prediction."""
        call = example.toDict()
        opened = await self._open(call["program"], call["around"])
        if call["inputs"] is None:
            return Result(success=True)
        inputs = await _inputs(call["inputs"])
        findings = [each for each in opened.rules.check(inputs) if each["problem"] in _REFUSED]
        if findings:
            raise InvalidInputs(f"the inputs are invalid: {told(findings)}", findings=findings)
        asked = Example(**inputs).with_inputs(*inputs)
        if call["protection"] is None:
            return await opened.runner.attempt(asked)
        await self._protect(call["key"], call["protection"])

        async def attempt() -> Result:
            return await opened.runner.attempt(asked)

        ledger = current_ledger()
        seconds = None if ledger is None else ledger.left()
        found: Result = await aexecute_protected(call["key"], attempt, timeout=seconds)
        return found

    async def _open(self, program: str, around: str) -> _Opened:
        key = program, around
        task = self._opened.get(key)
        if task is None:
            task = asyncio.ensure_future(in_thread(lambda: self._read(program, around)))
            self._opened[key] = task
            if len(self._opened) > MOST_OPEN:
                self._opened.popitem(last=False)
        else:
            self._opened.move_to_end(key)
        try:
            return await asyncio.shield(task)  # one caller that gives up ends it for no other
        except BaseException:
            if task.done() and self._opened.get(key) is task:
                del self._opened[key]
            raise

    def _read(self, program: str, around: str) -> _Opened:
        code, where = read_blobs(self._path, (program, around))
        return _Opened(code, unpack_around(where))

    async def _protect(self, key: str, protection: dict[str, Any]) -> None:
        """Have the key protected: whoever owns it may have lost what it knew with its machine."""
        mark = hashlib.blake2b(pack(protection), digest_size=8).hexdigest()
        if self._told.get(key) != mark:
            await current_access().acall(Configure(key, protection), None)
            self._told[key] = mark


async def _inputs(packed: bytes) -> dict[str, Any]:
    try:
        inputs, _ = unpack_example(packed, objects="refuse")
    except HoldsObjects:
        inputs, _ = await in_thread(lambda: unpack_example(packed, objects="load"))
    return inputs
