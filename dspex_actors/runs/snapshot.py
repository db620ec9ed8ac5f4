"""What holds where a run is started: made there once, pickled once, in force for each of its examples in a worker.

Of a run's settings (`Job.options`), each pickled and in base64, None where there is nothing:
    context   settings that are not the defaults: the adapter, warnings, and an LM that is none of ours
    classes   classes of the user's script whose instances stand in the dataset
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.lm.lm import LM
from dspex_actors.runs.spec import Job, dump_code, load_code
from dspex_actors.settings import check_settings, inside, settings


def pack_surroundings(lm: Any, classes: Iterable[type] = ()) -> dict[str, Any]:
    """Return what a run that is started here and now has around it, as plain data for `Job.options`.

    Args:
        lm: the LM of programs that have none of their own. A `dspex.LM` travels beside this, as plain data; any other
            one is pickled.
        classes: whose instances stand in the dataset.

    Raises:
        ConfigError: something cannot be sent.
    """
    values = settings.snapshot()
    values.pop("lm", None)
    if lm is not None and not isinstance(lm, LM):
        values["lm"] = lm
    listed = sorted(classes, key=lambda cls: (cls.__module__, cls.__qualname__))
    return {"context": pack_settings(values), "classes": _packed(listed, "the classes of the dataset")}


def pack_settings(values: Mapping[str, Any]) -> str | None:
    """Return settings as plain data for `Job.options`.

    Raises:
        ConfigError: one of them cannot be sent.
    """
    return _packed(dict(values), f"the settings {', '.join(values)}")


def _packed(value: Any, what: str) -> str | None:
    if not value:
        return None
    try:
        return base64.b64encode(dump_code(value)).decode("ascii")
    except ConfigError as error:
        raise ConfigError(f"{what} cannot be sent to the workers: {error.message}") from None
    except Exception as error:
        raise ConfigError(f"{what} cannot be sent to the workers: {type(error).__name__}: {error}") from None


def _opened(packed: str | None) -> Any:
    return None if packed is None else load_code(base64.b64decode(packed))


def open_settings(packed: str | None) -> dict[str, Any]:
    """Open what `pack_settings` made; only in a worker, where user code runs."""
    return _opened(packed) or {}


class Surroundings:
    """What a run's code finds around it in a worker: settings, LM, a trace of its own.

    Args:
        job: the run.
    """

    def __init__(self, job: Job) -> None:
        """Open them."""
        #: Held: objects are rebuilt with the classes that are here.
        self._classes = _opened(job.options.get("classes"))
        self._values = open_settings(job.options.get("context"))
        if job.lm is not None:
            self._values["lm"] = LM.from_dict(job.lm)
        check_settings(self._values)
        self.lm: Any = self._values.get("lm")

    def here(self, **changes: Any) -> AbstractContextManager[None]:
        """Put them in force for the code inside the `with`.

        Args:
            **changes: settings that go before them.
        """
        if changes:
            check_settings(changes)
        return inside({**self._values, "trace": [], **changes})
