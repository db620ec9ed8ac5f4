"""The file for what Thespian, and libraries in actors, log through the `logging` module. Imports no thespian."""

import logging
import os

LOG_ENV = "SUPERVISORS_THESPIAN_LOG"
"""Names the file; without it nothing is written."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
"""How a line of it looks."""


def create_log() -> None:
    """Create the file for its owner alone, before a process of the node writes to it."""
    if path := os.environ.get(LOG_ENV):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))


def log_to_file() -> None:
    """Have what is logged through the logging module written by this process itself.

    Thespian would send it to its logger, in the middle of whatever the transport is doing.
    """
    path = os.environ.get(LOG_ENV)
    handler: logging.Handler = logging.FileHandler(path, delay=True) if path else logging.NullHandler()
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logging.root = logging.RootLogger(logging.WARNING)
    logging.root.addHandler(handler)
    logging.Logger.root = logging.root
    logging.Logger.manager = logging.Manager(logging.root)
