"""Programs: `Module`, the base of everything that can be called, evaluated, optimised and saved.

::

    class Answer(Module):
        def __init__(self):
            self.search = Predict("question -> query")
            self.answer = ChainOfThought("question, context -> answer")

        def forward(self, question):            # or: async def aforward
            query = self.search(question=question).query
            return self.answer(question=question, context=find(query))

Predictors are found wherever they stand; `walk` says how.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, cast

from dspex_actors.errors import ConfigError
from dspex_actors.example import Prediction
from dspex_actors.foundation.bridge import in_background_loop, in_thread
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.programs import saving, walk
from dspex_actors.programs.walk import Part, Predictor, copied
from dspex_actors.settings import check_lm, record_calls


class Module(Part):
    """Base of programs: define `forward` (sync) or `aforward` (async), or both.

    Calling works either way: `program(...)` and `await program.acall(...)`. With only one of the two
    defined, the other way goes through a thread; `__init__` of the base need not be called.
    """

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the program and wait for its result.

        Raises:
            ConfigError: it has only `aforward` and an event loop runs in this thread.
        """
        forward, aforward = self._ways()
        with record_calls() as calls:
            if forward is not None:
                result = forward(*args, **kwargs)
            elif aforward is not None:
                result = in_background_loop(lambda: aforward(*args, **kwargs), type(self).__name__)
        return _booked(result, calls)

    async def acall(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the program without blocking the event loop."""
        forward, aforward = self._ways()
        with record_calls() as calls:
            if aforward is not None:
                result = await aforward(*args, **kwargs)
            elif forward is not None:
                result = await in_thread(lambda: forward(*args, **kwargs))
        return _booked(result, calls)

    def _ways(self) -> tuple[Callable[..., Any] | None, Callable[..., Any] | None]:
        forward = getattr(self, "forward", None)
        aforward = getattr(self, "aforward", None)
        if forward is None and aforward is None:
            raise ConfigError(f"{type(self).__name__} has neither `forward` nor `aforward`; define one of them")
        if forward is not None and aforward is not None:
            # A subclass that defines one of them means it for both ways: the other one is its base's.
            for cls in type(self).__mro__:
                own = vars(cls)
                if "forward" in own or "aforward" in own:
                    return (forward if "forward" in own else None), (aforward if "aforward" in own else None)
        return forward, aforward

    def named_predictors(self) -> list[tuple[str, Predictor]]:
        """Return (path, predictor) pairs in the order of the attributes; each predictor once.

        A bare predictor is its own only one, under the path `self`.
        """
        return walk.predictors_of(self)

    def predictors(self) -> list[Predictor]:
        """Return the predictors, each once."""
        return [predictor for _, predictor in self.named_predictors()]

    def named_parameters(self) -> list[tuple[str, Predictor]]:
        """Return the predictors with their paths: they are all that optimisers change (DSPy's name)."""
        return self.named_predictors()

    def parameters(self) -> list[Predictor]:
        """Return the predictors, each once (DSPy's name)."""
        return self.predictors()

    def named_sub_modules(self, type_: type | None = None, skip_compiled: bool = False) -> Iterator[tuple[str, Module]]:
        """Walk over the program and the programs in it, nearest first.

        Args:
            type_: only those of this class; None means any Module.
            skip_compiled: leave out optimised ones, and what is in them.

        Returns:
            (path, program), the first being (`self`, this one); each once.
        """
        return cast("Iterator[tuple[str, Module]]", walk.parts_of(self, type_ or Module, skip_compiled))

    def map_named_predictors(self, change: Callable[[Predictor], Predictor]) -> Self:
        """Replace every predictor by `change(predictor)`, wherever it stands.

        Args:
            change: returns the new one, or the same.

        Returns:
            This program.
        """
        if self.is_predictor:
            raise ConfigError("a bare predictor cannot replace itself; call the function on it instead")
        walk.replace_in(self, {id(old): change(old) for old in self.predictors()})
        return self

    def set_lm(self, lm: Any) -> None:
        """Give every predictor this LM.

        Raises:
            ConfigError: it is none.
        """
        check_lm(lm)
        for predictor in self.predictors():
            predictor.lm = lm

    def get_lm(self) -> Any:
        """Return the LM that all predictors share (None: none of them has its own).

        Raises:
            ConfigError: they have different ones.
        """
        lms = [predictor.lm for predictor in self.predictors()]
        if any(lm != lms[0] for lm in lms):
            raise ConfigValueError("the predictors have different LMs; ask them one by one: predictor.lm")
        return lms[0] if lms else None

    def deepcopy(self) -> Self:
        """Return a copy that shares no demos and no predictors; LMs, signatures and whatever cannot be
        copied are shared."""
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy attribute by attribute: one that cannot be copied is shared, and nothing else with it."""
        twin = type(self).__new__(type(self))
        # One memo: a predictor that stands in two places stands in two places of the copy.
        memo[id(self)] = twin
        for name, value in vars(self).items():
            vars(twin)[name] = copied(value, memo)
        return twin

    def reset_copy(self) -> Self:
        """Return a copy whose predictors have no demos, traces or LM of their own."""
        twin = self.deepcopy()
        for predictor in twin.predictors():
            predictor.reset()
        return twin

    def dump_state(self) -> dict[str, Any]:
        """Return what optimisers change, by predictor path, as JSON data.

        Raises:
            ConfigError: a demo holds something that JSON has no form for.
        """
        return {path: predictor.dump_state() for path, predictor in self.named_predictors()}

    def load_state(self, state: dict[str, Any], *, allow_unsafe_lm_state: bool = False) -> Self:
        """Take over what `dump_state` returned for a program of the same structure; all or nothing.

        Fields match by position, as in DSPy, so they may have other names or labels.

        Args:
            state: by predictor path; unknown paths are ignored. A predictor's LM and call parameters are taken over
                if the state has them.
            allow_unsafe_lm_state: take the LM's server from it too, and import the class of an LM of your own. A file
                that decides that must be trusted as code is.

        Returns:
            This program.

        Raises:
            ConfigError: the structure is another; the program is unchanged.
        """
        saving.load(self, state, trusted=allow_unsafe_lm_state)
        return self

    def save(self, path: str | Path, save_program: bool = False, modules_to_serialize: Any = None) -> None:
        """Save the program's state as JSON that DSPy loads too; an existing file is replaced in one step.

        Args:
            path: a file ending in `.json`.
            save_program: only False: a program is code, and code belongs into a file of its own.
            modules_to_serialize: goes with `save_program`.

        Raises:
            ConfigError: another ending, a folder that cannot be written to, or a demo that JSON has no form for.
        """
        if save_program or modules_to_serialize:
            raise ConfigValueError(
                "save_program: only the state is saved, as JSON: give save_program=False and a name ending in .json"
            )
        saving.write(Path(path), self.dump_state(), self._describe())

    def _describe(self) -> dict[str, Any] | None:
        """Return class and signature, if `rebuild` can make the program again from them; None: it needs its code."""
        return None

    def load(self, path: str | Path, allow_pickle: bool = False, allow_unsafe_lm_state: bool = False) -> None:
        """Load a state that `save`, here or in DSPy, wrote for a program of the same structure.

        Args:
            path: the file.
            allow_pickle: accepted as DSPy accepts it; only JSON is read.
            allow_unsafe_lm_state: as in `load_state`.

        Raises:
            ConfigError: no such file, no JSON, or another structure; the program is unchanged.
        """
        self.load_state(saving.read(Path(path)), allow_unsafe_lm_state=allow_unsafe_lm_state)

    def __repr__(self) -> str:
        """Show the predictors."""
        lines = "".join(f"\n  {path} = {predictor!r}" for path, predictor in self.named_predictors())
        return f"{type(self).__name__}({lines}\n)" if lines else f"{type(self).__name__}()"


def _booked(result: Any, calls: list[Any]) -> Any:
    if isinstance(result, Prediction):
        result.set_lm_calls(calls)
    return result
