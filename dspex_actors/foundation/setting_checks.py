"""What values settings may have: one that is taken without a look fails where it is used, after a call was paid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_actors.foundation.checks import is_whole
from dspex_actors.foundation.config_errors import ConfigValueError

_FLAGS = ("warn_on_type_mismatch", "allow_tool_async_sync_conversion", "disable_history", "track_usage")
_COUNTS = {"num_threads": 1, "max_errors": 1, "max_history_size": 1, "max_trace_size": 0}


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse values of settings that are not of their kind.

    Args:
        values: by name; those that are not known here are left alone.

    Raises:
        ConfigValueError: which, what was got, what is expected.
    """
    for name, value in values.items():
        if name in _FLAGS and not isinstance(value, bool):
            raise _invalid(name, value, "True or False")
        if name in _COUNTS and not is_whole(value, _COUNTS[name]):
            raise _invalid(name, value, f"a whole number, {_COUNTS[name]} or more")
        if name == "trace" and value is not None and not isinstance(value, list):
            raise _invalid(name, value, "a list, which gets each call, or None")
        if name == "adapter" and value is not None and not _is_adapter(value):
            raise _invalid(name, value, "an adapter, dspex.ChatAdapter() for example, or None")
        if name == "callbacks" and not (isinstance(value, list | tuple) and all(map(_is_callback, value))):
            raise _invalid(name, value, "a list of BaseCallbacks, objects of it")
        if name == "interpreter_factory" and value is not None and not _makes_interpreters(value):
            raise _invalid(name, value, "a function that makes an interpreter for each call, or None")


def _is_adapter(value: Any) -> bool:
    return not isinstance(value, type) and all(
        callable(getattr(value, name, None)) for name in ("format", "prepare", "read")
    )


def _makes_interpreters(value: Any) -> bool:
    """Whether it can; an interpreter itself can be called, too, and runs code then."""
    is_one = not isinstance(value, type) and callable(getattr(value, "execute", None))
    return callable(value) and not is_one


def _is_callback(value: Any) -> bool:
    return not isinstance(value, type | str | bytes | int | float | list | tuple | dict | None)


def _invalid(name: str, value: Any, expected: str) -> ConfigValueError:
    return ConfigValueError(f"{name} is invalid: got {value!r:.80}, expected {expected}")
