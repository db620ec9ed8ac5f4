"""What a day may cost, as a worker hears of it from the configuration.

A worker that was killed is back before the configuration has told it anything. Where limits of money may hold, which a
marker in the node's folder says, its calls wait until it knows them.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from dspex_actors.config.messages import Get
from dspex_actors.config.started import LIMITED_FILE
from dspex_actors.foundation.following import CONFIG
from dspex_actors.lm.worker.spending import DayLimits, Wallet
from dspex_actors.observe.branch import ensure
from supervisors import GenServer
from supervisors.errors import SupervisorsError

#: The section that says it.
BUDGETS = "infrastructure.budgets"
#: The configuration is asked again after so many seconds.
AGAIN_SECONDS = 0.2


class Limits:
    """Keeps a wallet's limits of a day.

    Args:
        worker: the worker.
        wallet: its wallet.
    """

    def __init__(self, worker: GenServer, wallet: Wallet) -> None:
        """Ask what holds, if anything may."""
        self._worker, self._wallet = worker, wallet
        self._marker = Path(worker.node["data_dir"]) / LIMITED_FILE
        if self._marker.exists():
            wallet.wait_for_limits()
            worker.spawn(self._learn())

    async def _learn(self) -> None:
        from dspex_actors.config.actor import config_spec  # large, and most workers have nothing to learn

        while True:
            with contextlib.suppress(SupervisorsError):
                await ensure(self._worker, config_spec())
                kind, told = await self._worker.call(CONFIG, Get(BUDGETS))
                if kind == "ok":
                    break
                self._worker.log.error("LM calls wait: limits of money are not known", error=str(told.get("message")))
            await asyncio.sleep(AGAIN_SECONDS)
        self._wallet.let_go(DayLimits(**told))

    def hear(self, path: str, value: Any) -> None:
        """Take over a setting."""
        self._wallet.day = self._wallet.day._replace(**{path.removeprefix(f"{BUDGETS}."): value})
        with contextlib.suppress(OSError):
            if self._wallet.day == DayLimits():
                self._marker.unlink(missing_ok=True)
            else:
                self._marker.touch(mode=0o600)
