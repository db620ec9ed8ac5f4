"""The file for what Thespian, and libraries in actors, log through the `logging` module. Imports no thespian."""

import logging
import os
from typing import Any

LOG_ENV = "SUPERVISORS_THESPIAN_LOG"
"""Names the file; without it nothing is written."""

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
"""How a line of it looks."""


def logger_settings() -> dict[str, Any]:
    """Return what Thespian's own logger is set up with (the schema of `logging.config.dictConfig`)."""
    path = os.environ.get(LOG_ENV)
    handler: dict[str, Any] = {"class": "logging.NullHandler"}
    if path:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        handler = {"class": "logging.FileHandler", "filename": path, "delay": True, "formatter": "line"}
    return {
        "version": 1,
        "formatters": {"line": {"format": LOG_FORMAT}},
        "handlers": {"out": handler},
        "root": {"handlers": ["out"], "level": "WARNING"},
    }


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
