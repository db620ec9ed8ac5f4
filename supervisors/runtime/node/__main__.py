"""Run a node: `python -m supervisors.runtime.node START_FILE READY_FD LIFELINE_FD`; `client/interpreter.py` starts it.

START_FILE is JSON with `config`, a NodeConfig. READY_FD gets one line of JSON: whether the node came up. LIFELINE_FD is
the read end of a pipe, and the node ends when the other end is closed; -1: it stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from supervisors.host import output, processes, security_log
from supervisors.host.node_config import NodeConfig
from supervisors.runtime.node.daemon import (
    EXIT_FAILED,
    EXIT_RUNNING,
    Daemon,
    InterruptedBootError,
    StartRefusedError,
)
from supervisors.runtime.node.surroundings import put_in_order
from supervisors.wire.keys import KeyFileError


def _say(fd: int, **message: Any) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, json.dumps(message).encode() + b"\n")
        os.close(fd)


def main(argv: list[str]) -> int:
    """Run a node; say on READY_FD whether it came up."""
    umask = put_in_order()
    config = NodeConfig(**json.loads(Path(argv[0]).read_text())["config"])
    ready, lifeline = int(argv[1]), int(argv[2])
    with contextlib.suppress(PermissionError):
        os.setsid()
    processes.set_process_name(f"node {config.name}")
    processes.adopt_orphans()
    try:
        daemon = Daemon(config, lifeline, umask)
    except StartRefusedError as error:
        _say(ready, error=str(error), running=str(error) == "running")
        return EXIT_RUNNING
    except Exception as error:
        known = isinstance(error, KeyFileError | OSError)
        _say(ready, error=str(error) if known else f"{type(error).__name__}: {error}")
        return EXIT_FAILED
    if not config.foreground:
        output.detach(daemon.logs)
    output.write_lines()
    # Thespian reads these when it is imported.
    os.environ.update(
        THESPIAN_BASE_IPADDR=config.host,
        THESPIAN_MAX_PENDING_TRANSMITS="200",
        THESPLOG_FILE=str(daemon.logs / "thespian.log"),
        THESPLOG_THRESHOLD="WARNING",
    )
    os.environ[security_log.LOG_ENV] = str(daemon.logs / "security.jsonl")
    daemon.catch_signals()
    try:
        with daemon.booting():
            daemon.ask_to_join()
            daemon.preload()
            daemon.boot()
    except InterruptedBootError:
        daemon.end_all()
        daemon.clean_up()
        _say(ready, error="it was told to stop while it started")
        return EXIT_FAILED
    except StartRefusedError as error:
        daemon.end_all()
        daemon.clean_up()
        _say(ready, error=str(error))
        return EXIT_FAILED
    except Exception as error:
        daemon.log.critical("the node did not start", exc_info=error)
        daemon.end_all()
        daemon.clean_up()
        _say(ready, error=f"{type(error).__name__}: {error}; see {daemon.logs}")
        return EXIT_FAILED
    _say(ready, ok=True, address=daemon.address, pid=os.getpid())
    daemon.log.info("node started", address=daemon.address)
    try:
        return daemon.run()
    finally:
        daemon.end_all()
        daemon.clean_up()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
