"""The embedded LM as a supervised server: started at the first call to `embedded/nearest`."""

from __future__ import annotations

from typing import Any

from dspex_actors.embedded.config import EmbeddedConfig
from dspex_actors.embedded.server import start_server
from supervisors import GenServer


class EmbeddedServer(GenServer):
    """Serves the embedded LM over HTTP on a loopback port of its own. Request: "base_url" (OpenAI's format)."""

    async def init(self, **settings: Any) -> None:
        """Start serving."""
        self._server = await start_server(EmbeddedConfig(**settings))

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Tell the address, or the counts."""
        match request:
            case "base_url":
                return self._server.base_urls["openai"]
            case "stats":
                return self._server.stats.as_dict()
        raise ValueError(f"the embedded LM does not know {request!r}")

    async def terminate(self, reason: Any) -> None:
        """Stop serving."""
        await self._server.close()
