"""`as_program`: a `dspy.Module` as a program of ours. DSPy is imported by workers, else only by who has it already."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.foundation.bridge import in_thread
from dspex_actors.lm import lm as ours
from dspex_actors.programs.module import Module
from dspex_actors.settings import settings

#: Parameters of a `dspy.LM` that are settings of ours by another name, or of no use here.
_RENAMED = {"api_base": "base_url"}
_DROPPED = frozenset({"num_retries", "max_retries", "use_developer_role", "headers", "extra_headers"})
#: The classes at which looking for a program's own `forward` ends.
_DSPYS = frozenset({"dspy.primitives.module", "dspy.primitives.base_module"})


def as_program(program: Any) -> Any:
    """Return what is run for a program: a `DSPyProgram` for a `dspy.Module`; anything else as it is.

    Args:
        program: what the user gave.

    Raises:
        ConfigError: it has an LM whose key is not in the environment, or settings that ours has not.
    """
    dspy = sys.modules.get("dspy")  # who has a program of DSPy's has imported it
    theirs = getattr(dspy, "Module", None)
    if dspy is None or not isinstance(theirs, type) or not isinstance(program, theirs):
        return program
    module: Any = program.deepcopy()  # type: ignore[attr-defined]
    for number, (_, predictor) in enumerate(module.named_predictors()):
        predictor.lm = our_lm(dspy, predictor.lm)
        predictor.stage = f"{number:016x}"  # DSPy draws it by lot, and reads it nowhere
    return DSPyProgram(module, our_lm(dspy, dspy.settings.lm), dspy.settings.adapter)


class DSPyProgram(Module):
    """A program of DSPy's. Its predictors ask through the LM of the run, where they have none of their own.

    Args:
        module: the program.
        lm: whom it asks where nothing of ours says so: DSPy's setting. None: there is none.
        adapter: DSPy's setting. None: DSPy's default.
    """

    def __init__(self, module: Any, lm: Any, adapter: Any) -> None:
        """Keep it, and what it is told by."""
        self.module, self.lm, self.adapter = module, lm, adapter
        #: What changes its answers: DSPy's signatures are made as the program runs, and have no source.
        self.state = {path: predictor.dump_state(json_mode=False) for path, predictor in module.named_predictors()}
        for told in self.state.values():
            told.pop("traces", None)
            told.pop("train", None)

    async def aforward(self, **inputs: Any) -> Any:
        """Run it on an event loop, or in a thread where it is not written for one."""
        module = self._at_work()
        with self._around(module):
            if _is_async(type(module)):
                return await module.acall(**inputs)
            return await in_thread(lambda: module(**inputs))

    def forward(self, **inputs: Any) -> Any:
        """Run it."""
        module = self._at_work()
        with self._around(module):
            return module(**inputs)

    def _ways(self) -> tuple[Any, Any]:
        return self.forward, self.aforward

    def predictors(self) -> list[Any]:
        """Return DSPy's predictors: what is asked of them is their inputs, and whether they have an LM."""
        return [] if self.lm is not None else self.module.predictors()

    def _stands_for(self) -> Any:
        if hasattr(self.module, "signature"):
            return self.module
        cls = type(self.module)
        way = getattr(cls, "forward", None) or getattr(cls, "aforward", None)
        return self.module if way is None else MethodType(way, self.module)  # DSPy warns who looks at its own

    def _title(self) -> str:
        return type(self.module).__name__

    def _at_work(self) -> Any:
        """Return the program that a call runs."""
        return self.module

    def _note(self, module: Any, trace: list[Any]) -> None:
        """Be told what DSPy has written into its trace in a call, also in one that failed."""

    def _as_ours(self, error: BaseException) -> DspexError | None:
        """Return the error of ours that one of DSPy's stands for; None: it is another one."""
        return _behind(error)

    @contextmanager
    def _around(self, module: Any) -> Iterator[None]:
        """Have DSPy ask the LM of the run; let errors of ours out of those of DSPy's that they stand behind."""
        import dspy

        lm = settings.lm or self.lm
        trace: list[Any] = []
        around: dict[str, Any] = {"trace": trace, "disable_history": True}
        if lm is not None:
            around["lm"] = theirs(lm)
        if self.adapter is not None:
            around["adapter"] = self.adapter
        try:
            with dspy.context(**around):
                yield
        except DspexError:
            raise
        except Exception as error:
            ours = self._as_ours(error)
            if ours is None:
                raise
            raise ours from error
        finally:
            self._note(module, trace)


def theirs(lm: Any) -> Any:
    """Return an LM as DSPy wants it: one of ours, or what asks one of ours with other parameters."""
    import dspy

    if isinstance(lm, dspy.BaseLM):
        return lm
    from dspex_actors.dspy.lm import LM

    return LM(lm)


def our_lm(dspy: Any, lm: Any) -> Any:
    """Return what stands for an LM of DSPy's: ours for a `dspy.LM`; one of the user's own stays as it is.

    Raises:
        ConfigError: its key is not in the environment, or a setting is none of ours.
    """
    if type(lm) is not dspy.LM:
        return _own(lm) if isinstance(lm, dspy.LM) else lm
    from dspex_actors.dspy.lm import LM

    return LM(_made_of(lm))


def as_lm(lm: Any) -> Any:
    """Return the LM of ours that is asked for a `dspy.LM`; anything else as it is.

    So its key goes into no journal, and limits, cache and cost are ours.

    Raises:
        ConfigError: its key is not in the environment, or a setting is none of ours.
    """
    kind = getattr(sys.modules.get("dspy"), "LM", None)
    if kind is None or not isinstance(lm, kind):
        return lm
    return _made_of(lm) if type(lm) is kind else _own(lm)


def _own(lm: Any) -> Any:
    """Return an LM of a class that is derived from DSPy's, which travels as it is: pickled, and into the journal.

    Raises:
        ConfigError: it has a key in it.
    """
    if lm.kwargs.get("api_key"):
        raise ConfigError(
            f"the api_key of {type(lm).__name__}({lm.model!r}) is invalid: got a key itself, which would be "
            "written into the journal; expected none: have its provider's usual environment variable set "
            "(here and at the node), or read the key in its `forward`"
        )
    return lm


def _made_of(lm: Any) -> ours.LM:
    told = {_RENAMED.get(name, name): value for name, value in lm.kwargs.items() if name not in _DROPPED}
    told = {name: value for name, value in told.items() if value is not None}
    if "api_key" in told:
        told["api_key"] = _reference(lm.model, told["api_key"])
    if lm.model_type != "chat":
        told["model_type"] = lm.model_type
    try:
        return ours.LM(lm.model, cache=lm.cache, **told)
    except ConfigError as error:
        raise ConfigError(f"dspy.LM({lm.model!r}) cannot be asked from here: {error.message}") from None


def _reference(model: str, key: Any) -> str:
    """Return where a key stands: it goes into no journal and to no worker."""
    for name, value in os.environ.items():
        if value == key and key:
            return f"env:{name}"
    raise ConfigError(
        f"the api_key of dspy.LM({model!r}) is invalid: got a key itself, expected one that is in an environment "
        "variable (of this program and of the node), or none where it is in the provider's usual one"
    )


def _is_async(cls: type) -> bool:
    """Whether a class has `aforward`, at least as near as `forward`."""
    for base in cls.__mro__:
        if base.__module__ in _DSPYS:
            return False
        if "aforward" in vars(base):
            return True
        if "forward" in vars(base):
            return False
    return False


def _behind(error: BaseException) -> DspexError | None:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, DspexError):
            return cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return None
