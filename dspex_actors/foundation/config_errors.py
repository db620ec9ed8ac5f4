"""ConfigErrors that are also what DSPy raises in their place: its users' programs catch that.

They are no kinds of their own: whoever sorts errors sees a ConfigError.
"""

from __future__ import annotations

from dspex_actors.errors import ConfigError


class ConfigValueError(ConfigError, ValueError):
    """A ConfigError where DSPy raises a ValueError."""


class ConfigTypeError(ConfigError, TypeError):
    """A ConfigError where DSPy raises a TypeError."""


class ConfigRuntimeError(ConfigError, RuntimeError):
    """A ConfigError where DSPy raises a RuntimeError."""


class ConfigKeyError(ConfigError, KeyError):
    """A ConfigError where DSPy raises a KeyError."""

    #: A KeyError's own would quote the message.
    __str__ = Exception.__str__


class ConfigNotFoundError(ConfigError, FileNotFoundError):
    """A ConfigError where DSPy raises a FileNotFoundError."""


class ConfigFolderError(ConfigError, NotADirectoryError):
    """A ConfigError where DSPy raises a NotADirectoryError."""
