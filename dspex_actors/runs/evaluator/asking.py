"""Asking the keeper of runs, who may be restarting at the time."""

from __future__ import annotations

import asyncio
from typing import Any

from dspex_actors.errors import from_record
from dspex_actors.names import RUNS
from supervisors import GenServer
from supervisors.errors import CallTimeout, NoProcess, ServerExited

#: The keeper of runs is asked again this often, in seconds, while it is being restarted.
ASK_SECONDS = 0.1


async def ask_runs(server: GenServer, request: Any) -> Any:
    """Return the keeper's answer; while it is being restarted, wait for it.

    Raises:
        DspexError: what it answers with.
    """
    while True:
        try:
            kind, value = await server.call(RUNS, request, timeout=60.0)
        except (NoProcess, ServerExited, CallTimeout):
            await asyncio.sleep(ASK_SECONDS)
            continue
        if kind == "error":
            raise from_record(value)
        return value
