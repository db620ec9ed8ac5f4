"""Run the server as a program, until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import signal
import sys

from dspex_actors.embedded.config import KINDS, EmbeddedConfig
from dspex_actors.embedded.server import RunningServer, start_server
from dspex_actors.errors import ConfigError

#: Exit status when the program was not used as it can be.
MISUSED = 2


def parse_faults(given: list[str]) -> dict[str, float]:
    """Read ``KIND=RATE`` words, as the command line has them.

    Raises:
        ConfigError: a word is not of that form.
    """
    faults: dict[str, float] = {}
    for word in given:
        kind, equals, rate = word.partition("=")
        try:
            if not equals:
                raise ValueError(word)
            faults[kind.strip()] = float(rate)
        except ValueError:
            raise ConfigError(
                f"a fault is KIND=RATE with a rate from 0 to 1 and a kind of {', '.join(KINDS)}; got {word!r}"
            ) from None
    return faults


def run(config: EmbeddedConfig) -> int:
    """Serve until SIGINT or SIGTERM; blocks.

    1. Listen, and print one line with the base address per provider.
    2. Wait for a signal.
    3. Close, and print one line of what was done.

    Returns:
        0 after a signal; 2 when the address cannot be listened on, with one line on standard error.
    """
    return asyncio.run(_run(config))


async def _run(config: EmbeddedConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        server = await start_server(config)
    except OSError as error:
        print(_cannot_listen(config, error), file=sys.stderr, flush=True)
        return MISUSED
    print(_opening(server), flush=True)
    try:
        await stop.wait()
    finally:
        await server.close()
    print(f"stopped: {server.stats.line()}", flush=True)
    return 0


def _opening(server: RunningServer) -> str:
    return "serving " + "  ".join(f"{name} {url}" for name, url in server.base_urls.items())


def _cannot_listen(config: EmbeddedConfig, error: OSError) -> str:
    where = f"port {config.port} on {config.host}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is taken by another program: choose another port, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"{where} needs rights that this user does not have: choose a port above 1023"
    return f"cannot listen on {where}: {error.strerror or error}; choose an address of this host"
