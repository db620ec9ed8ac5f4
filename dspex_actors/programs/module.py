"""Programs: `Module`, the base of everything that can be called, evaluated, optimised and saved.

::

    class Answer(Module):
        def __init__(self):
            self.search = Predict("question -> query")
            self.answer = ChainOfThought("question, context -> answer")

        def forward(self, question):            # or: async def aforward
            query = self.search(question=question).query
            return self.answer(question=question, context=find(query))

Written as a generator `steps` (`dspex.steps`) what it does is said once for sync and async. Predictors are found
wherever they stand; `walk` says how.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, cast

from dspex_actors.errors import ConfigError
from dspex_actors.example import Prediction
from dspex_actors.foundation.bridge import in_background_loop, in_thread
from dspex_actors.foundation.callbacks import aheard, heard
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.foundation.operation import part
from dspex_actors.foundation.tap import current_tap
from dspex_actors.foundation.telemetry.recorded import ModuleRun
from dspex_actors.lm.history import HISTORY
from dspex_actors.programs import saving, walk
from dspex_actors.programs.carrying import acarry, carry
from dspex_actors.programs.parallel import Parallel, inputs_of
from dspex_actors.programs.parameters import parameters_of, update_parameters
from dspex_actors.programs.remembered import Remembered
from dspex_actors.programs.walk import Predictor, copied
from dspex_actors.settings import check_lm, record_calls, settings


class Module(Remembered):
    """Base of programs: define `forward` (sync) or `aforward` (async), or both, or `steps` for both at once.

    Calling works either way: `program(...)` and `await program.acall(...)`. With only one of the two
    defined, the other way goes through a thread; `__init__` of the base need not be called.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Give a class that writes its steps both ways of calling it."""
        super().__init_subclass__(**options)
        own = vars(cls)
        if not inspect.isgeneratorfunction(own.get("steps")) or "forward" in own or "aforward" in own:
            return
        # A way that it inherits from a user's class means what it says, and may use `steps` for itself.
        if {getattr(cls, name, None) for name in ("forward", "aforward")} <= {None, _forward, _aforward}:
            cls.forward, cls.aforward = _forward, _aforward  # type: ignore[attr-defined]

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the program and wait for its result.

        Raises:
            ConfigError: it has only `aforward` and an event loop runs in this thread.
        """
        if callbacks := settings.heard_by(self.callbacks):
            inputs = {"args": args, "kwargs": kwargs}
            return heard(callbacks, "module", self, inputs, lambda: self._called(args, kwargs))
        return self._called(args, kwargs)

    async def acall(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the program without blocking the event loop."""
        if callbacks := settings.heard_by(self.callbacks):
            inputs = {"args": args, "kwargs": kwargs}
            return await aheard(callbacks, "module", self, inputs, lambda: self._acalled(args, kwargs))
        return await self._acalled(args, kwargs)

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        forward, aforward = self._ways()
        with (
            part(self._title(), "module", {"args": args, **kwargs} if args else kwargs) as op,
            record_calls() as calls,
            ModuleRun(type(self).__name__),
        ):
            if (tap := current_tap()) is not None:
                tap.status("module_start_status_message", self, kwargs)
            if forward is not None:
                result = forward(*args, **kwargs)
            elif aforward is not None:
                result = in_background_loop(lambda: aforward(*args, **kwargs), type(self).__name__)
            op.outputs = result
            if tap is not None:
                tap.status("module_end_status_message", result)
        return _booked(self, result, calls)

    async def _acalled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        forward, aforward = self._ways()
        with (
            part(self._title(), "module", {"args": args, **kwargs} if args else kwargs) as op,
            record_calls() as calls,
            ModuleRun(type(self).__name__),
        ):
            if (tap := current_tap()) is not None:
                tap.status("module_start_status_message", self, kwargs)
            if aforward is not None:
                result = await aforward(*args, **kwargs)
            elif forward is not None:
                result = await in_thread(lambda: forward(*args, **kwargs))
            op.outputs = result
            if tap is not None:
                tap.status("module_end_status_message", result)
        return _booked(self, result, calls)

    def _title(self) -> str:
        """Return what its calls are called as operations."""
        return type(self).__name__

    def _ways(self) -> tuple[Callable[..., Any] | None, Callable[..., Any] | None]:
        forward = getattr(self, "forward", None)
        aforward = getattr(self, "aforward", None)
        if forward is None and aforward is None:
            if callable(getattr(self, "steps", None)):
                raise ConfigError(
                    f"`steps` of {type(self).__name__} is no generator: it has to be a `def` with a `yield` in it"
                )
            raise ConfigError(f"{type(self).__name__} has neither `forward` nor `aforward`, nor `steps`; define one")
        if forward is not None and aforward is not None:
            # A subclass that defines one of them means it for both ways: the other one is its base's.
            for cls in type(self).__mro__:
                own = vars(cls)
                if "forward" in own or "aforward" in own:
                    return (forward if "forward" in own else None), (aforward if "aforward" in own else None)
        return forward, aforward

    def _stands_for(self) -> Module | None:
        """Return the program whose inputs are this one's; None: its own code says what they are."""
        return None

    def _written(self) -> tuple[list[type], list[type]] | None:
        """Return the signatures and classes that its code is, for an LM that is shown it; None: those of its parts."""
        return None

    def batch(
        self,
        examples: Iterable[Any],
        num_threads: int | None = None,
        max_errors: int | None = None,
        return_failed_examples: bool = False,
        provide_traceback: bool | None = None,
        disable_progress_bar: bool = False,
        timeout: float = 120,
        straggler_limit: int = 3,
    ) -> Any:
        """Run the program on several examples, in threads; for many, and on all workers, there is `dspex.evaluate`.

        Args:
            examples: Examples with their inputs marked, or dicts of inputs.
            num_threads: as of `Parallel`, and so are the others.
            max_errors: with so many errors it gives up.
            return_failed_examples: also return the examples that failed, and their errors.
            provide_traceback: log errors with their tracebacks.
            disable_progress_bar: accepted as DSPy accepts it.
            timeout: accepted as DSPy accepts it.
            straggler_limit: accepted as DSPy accepts it.

        Returns:
            The results in order, None for what failed; with `return_failed_examples` (results, examples, errors).

        Raises:
            RunFailed: `max_errors` was reached.
        """
        parallel = Parallel(
            num_threads=num_threads,
            max_errors=max_errors,
            return_failed_examples=return_failed_examples,
            provide_traceback=provide_traceback,
            disable_progress_bar=disable_progress_bar,
            timeout=timeout,
            straggler_limit=straggler_limit,
        )
        return parallel([(self, inputs) for inputs in inputs_of(examples)])

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

    def configure(self, **config: Any) -> Self:
        """Change parameters of every predictor's calls from now on, and return the program."""
        for predictor in self.predictors():
            predictor.config = {**predictor.config, **config}
        return self

    def reset(self) -> None:
        """Have every predictor forget demos, traces and LM."""
        for predictor in self.predictors():
            predictor.reset()

    def get_parameters(self) -> dict[str, dict[str, Any]]:
        """Return what optimisers change: predictor path → `instructions`, `demos`, `config`."""
        return parameters_of(self.named_predictors())

    def update_parameters(self, parameters: Mapping[str, Any]) -> Self:
        """Take over what `get_parameters` returned, or some of it; all or nothing.

        Raises:
            ConfigError: there is no such predictor or parameter, or a value of another kind.
        """
        update_parameters(self.named_predictors(), parameters)
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

    def __getstate__(self) -> dict[str, Any]:
        """Travel without callbacks: they are of the process where they were given, as in DSPy."""
        return {name: value for name, value in vars(self).items() if name != "callbacks"}

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
            path: a file ending in `.json`; a folder for a whole program.
            save_program: save the whole program, for `dspex.load(path)`: one of the library's own classes as data, any
                other one with its code, for `dspex.load(path, allow_pickle=True)`.
            modules_to_serialize: installed modules whose code goes along with a whole program.

        Raises:
            ConfigError: another ending, a folder that cannot be written to, a demo that JSON has no form for; of a
                whole program: what cannot be pickled, or a key.
        """
        if save_program:
            from dspex_actors.programs.whole import save_whole  # whoever saves none needs no pickler

            save_whole(self, saving.path_of(path), modules_to_serialize)
            return
        if modules_to_serialize:
            raise ConfigValueError("modules_to_serialize goes with save_program=True")
        saving.write(saving.path_of(path), self.dump_state(), self._describe())

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
        self.load_state(saving.read(saving.path_of(path)), allow_unsafe_lm_state=allow_unsafe_lm_state)

    def __repr__(self) -> str:
        """Show the predictors."""
        lines = "".join(f"\n  {path} = {predictor!r}" for path, predictor in self.named_predictors())
        return f"{type(self).__name__}({lines}\n)" if lines else f"{type(self).__name__}()"


def _forward(self: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Carry the steps out, and wait for each."""
    return carry(self.steps(*args, **kwargs))


async def _aforward(self: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Carry the steps out without blocking the event loop."""
    return await acarry(self.steps(*args, **kwargs))


def ways_of(program: Any) -> list[Callable[..., Any]]:
    """Return the methods whose parameters are a program's inputs: `steps` where it is that, else forward, aforward."""
    ways = [getattr(program, name, None) for name in ("forward", "aforward")]
    if any(getattr(way, "__func__", None) in (_forward, _aforward) for way in ways):
        return [program.steps]
    return [way for way in ways if callable(way)]


def _booked(module: Module, result: Any, calls: list[Any]) -> Any:
    if HISTORY.kept:
        HISTORY.ran(module, calls)
    if isinstance(result, Prediction):
        result.set_lm_calls(calls)
    return result
