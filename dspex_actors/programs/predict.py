"""Predict: one LM call through a signature. Everything else is made of it.

The work is written once, as a generator of pure steps: it gives out the messages to send and takes in the
reply. The sync and the async call differ in how they carry one to the LM and the other back, and in nothing
else.
"""

from __future__ import annotations

import copy
import logging
import typing
import weakref
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dspex_actors.adapters.base import Adapter, Message
from dspex_actors.adapters.chat import ChatAdapter
from dspex_actors.adapters.types import type_name
from dspex_actors.adapters.values import jsonable_state
from dspex_actors.errors import AdapterParseError, ConfigError
from dspex_actors.example import Example, Prediction, summed_usage
from dspex_actors.lm.attempts import book_reply
from dspex_actors.lm.reply import CUT
from dspex_actors.programs import saving
from dspex_actors.programs.module import Module
from dspex_actors.settings import book_call, check_lm, settings
from dspex_actors.signatures.fields import UNDEFINED_TYPE, ConfigValueError, extras
from dspex_actors.signatures.signature import Signature, SignatureMeta, make_signature

_log = logging.getLogger(__name__)
_DEFAULT_ADAPTER = ChatAdapter()

#: Warnings given already, per signature: a hundred thousand examples with the same flaw are worth one line.
_warned: weakref.WeakKeyDictionary[SignatureMeta, set[str]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Request:
    """One call to make: which LM, which messages, which parameters."""

    lm: Any
    messages: list[Message]
    params: dict[str, Any]


class Predict(Module):
    """Ask an LM for a signature's outputs.

    A call does this:

    1. inputs are the keyword arguments, and the defaults of input fields that were not given;
    2. the adapter renders signature, demos and inputs to messages;
    3. the LM is asked: the call's `lm`, else the predictor's, else the one in the settings;
    4. the adapter reads the answer; if it cannot, its fallback asks once more;
    5. (predictor, inputs, prediction) goes to the trace, if there is one.

    Args:
        signature: a string, a Signature class, or a dict of fields.
        **config: parameters of every LM call, such as `temperature` and `max_tokens`.
    """

    is_predictor: ClassVar[bool] = True

    def __init__(self, signature: str | type[Signature] | Mapping[str, Any], **config: Any) -> None:
        """Make a predictor without demos and without an LM of its own."""
        self.signature: type[Signature] = make_signature(signature)
        self.config: dict[str, Any] = config
        self.demos: list[Any] = []
        self.train: list[Any] = []
        self.traces: list[Any] = []
        self.lm: Any = None

    def reset(self) -> None:
        """Forget demos, traces and LM."""
        self.demos = []
        self.train = []
        self.traces = []
        self.lm = None

    def __call__(self, *args: Any, **kwargs: Any) -> Prediction:
        """Ask the LM and wait.

        Args:
            *args: refused; inputs have names.
            **kwargs: the inputs, and for this call only: `signature`, `demos`, `config`, `lm`.

        Returns:
            The outputs; `get_lm_usage()` says what they took.

        Raises:
            ConfigError: no LM, no inputs, or an input without a name.
            AdapterParseError: the answer cannot be read.
            LMError: the LM gave none.
        """
        result: Prediction = super().__call__(*self._refuse(args), **kwargs)
        return result

    async def acall(self, *args: Any, **kwargs: Any) -> Prediction:
        """Ask the LM; see `__call__`."""
        result: Prediction = await super().acall(*self._refuse(args), **kwargs)
        return result

    def forward(self, **kwargs: Any) -> Prediction:
        """Carry the steps out with a blocking LM call."""
        steps = self._steps(kwargs)
        request = next(steps)
        while True:
            reply = request.lm(request.messages, **request.params)
            try:
                request = steps.send(reply)
            except StopIteration as done:
                result: Prediction = done.value
                return result

    async def aforward(self, **kwargs: Any) -> Prediction:
        """Carry the steps out with an awaited LM call."""
        steps = self._steps(kwargs)
        request = next(steps)
        while True:
            reply = await request.lm.acall(request.messages, **request.params)
            try:
                request = steps.send(reply)
            except StopIteration as done:
                result: Prediction = done.value
                return result

    def _refuse(self, args: tuple[Any, ...]) -> tuple[()]:
        if args:
            names = ", ".join(f"{name}=..." for name in self.signature.input_fields)
            raise ConfigValueError(f"inputs have names: call it with {names}")
        return ()

    def _steps(self, kwargs: dict[str, Any]) -> Generator[Request, Any, Prediction]:
        given = kwargs.pop("signature", None)
        signature = self.signature if given is None else make_signature(given)
        demos = kwargs.pop("demos", None)
        demos = self.demos if demos is None else demos
        params = {**self.config, **(kwargs.pop("config", None) or {})}
        lm = self._choose_lm(kwargs.pop("lm", None))
        if params.pop("n", 1) not in (1, None):
            raise ConfigValueError("n: one call gives one completion; call the program n times")
        inputs = _with_defaults(signature, kwargs)
        adapter: Adapter | None = settings.adapter or _DEFAULT_ADAPTER
        replies: list[Any] = []
        failure: AdapterParseError | None = None
        while adapter is not None:
            reply = yield Request(lm, adapter.format(signature, demos, inputs), params)
            replies.append(reply)
            if not getattr(lm, "books_calls", False):
                book_call(reply)  # an LM of the user's own
                book_reply(reply)
            try:
                fields = adapter.parse(signature, reply.text)
            except AdapterParseError as error:
                if getattr(reply, "finish_reason", None) == CUT:
                    # Asked in another form it would be as long, and cut again.
                    error.message = f"{_cut_at(lm, params)}: {error.message}"
                    error.args = (error.message,)
                    failure = error
                    break
                failure, adapter = error, adapter.fallback
                continue
            return self._traced(inputs, Prediction(fields))
        if failure is None:
            raise ConfigError("settings.adapter is no adapter; configure(adapter=ChatAdapter())")
        failure.usage = summed_usage(replies)
        raise failure

    def _choose_lm(self, given: Any) -> Any:
        lm = next((lm for lm in (given, self.lm, settings.lm) if lm is not None), None)
        if lm is None:
            raise ConfigError(
                "no LM is set: connect(lm=dspex.LM('provider/model')), or configure(lm=...), "
                "or program.set_lm(...), or pass lm=... to the call"
            )
        check_lm(lm)
        return lm

    def _traced(self, inputs: dict[str, Any], prediction: Prediction) -> Prediction:
        trace = settings.trace
        if trace is not None and settings.max_trace_size > 0:
            trace.append((self, dict(inputs), prediction))
            # The oldest go, as in DSPy.
            del trace[: -settings.max_trace_size]
        return prediction

    def dump_state(self) -> dict[str, Any]:
        """Return demos, instructions and labels as JSON data in DSPy's layout.

        The LM is not part of it: it belongs to where the program runs.

        Raises:
            ConfigError: a demo holds something that JSON has no form for.
        """
        return {
            "traces": [self._plain("traces", place, item) for place, item in enumerate(self.traces)],
            "train": [self._plain("train", place, item) for place, item in enumerate(self.train)],
            "demos": [self._plain("demos", place, item) for place, item in enumerate(self.demos)],
            "signature": self.signature.dump_state(),
            "lm": None,
        }

    def _plain(self, kind: str, place: int, item: Any) -> Any:
        try:
            return jsonable_state(item.toDict() if isinstance(item, Example) else item)
        except ValueError as error:
            raise ConfigError(f"{kind}[{place}] of {self.signature.__name__} is not JSON: {error}") from error

    def take_state(self, part: Mapping[str, Any], signature: type[Signature]) -> None:
        """Take over a state that was checked; `load_state` checks first."""
        self.signature = signature
        self.demos = copy.deepcopy(list(part["demos"]))
        self.train = copy.deepcopy(list(part.get("train") or []))
        self.traces = copy.deepcopy(list(part.get("traces") or []))

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `dump_state` returned for a predictor with the same fields; all or nothing.

        Raises:
            ConfigError: the fields are others; the predictor is unchanged.
        """
        saving.load(self, state)

    def _describe(self) -> dict[str, Any] | None:
        return saving.described("Predict", self.signature) if type(self) is Predict else None

    def __deepcopy__(self, memo: dict[int, Any]) -> Predict:
        """Copy demos and config; share the signature, which never changes, and the LM, which is a
        connection."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in vars(self).items():
            vars(twin)[name] = value if name in ("lm", "signature") else copy.deepcopy(value, memo)
        return twin

    def deepcopy(self) -> Predict:
        """Return a copy with its own demos."""
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        """Show the signature and the number of demos."""
        return f"{type(self).__name__}({self.signature!r}, demos={len(self.demos)})"


def _cut_at(lm: Any, params: Mapping[str, Any]) -> str:
    """Say where an answer was cut."""
    set_by_lm = getattr(lm, "kwargs", None)
    limits = {**(set_by_lm if isinstance(set_by_lm, Mapping) else {}), **params}
    told = [f"{name}={limits[name]}" for name in ("max_tokens", "max_completion_tokens") if limits.get(name)]
    return f"the answer was cut at {told[0] if told else 'the max_tokens of the server'} (raise max_tokens)"


def _with_defaults(signature: type[Signature], given: dict[str, Any]) -> dict[str, Any]:
    """Add defaults; warn about inputs that are missing, unknown or of a wrong type."""
    fields = signature.input_fields
    inputs = {
        name: field.get_default(call_default_factory=True)
        for name, field in fields.items()
        if name not in given and not field.is_required()
    }
    inputs.update(given)
    if fields and not any(name in inputs for name in fields):
        found = ", ".join(given) or "none"
        raise ConfigValueError(f"{signature.__name__} needs the inputs {', '.join(fields)}; got {found}")
    missing = [name for name in fields if name not in inputs]
    if missing:
        _warn(signature, f"input missing: {', '.join(missing)}; the prompt goes without")
    extra = [name for name in inputs if name not in fields]
    if extra:
        _warn(signature, f"input not in the signature: {', '.join(extra)}; the prompt goes without")
    if settings.warn_on_type_mismatch:
        for name, field in fields.items():
            if name in inputs and not _fits(inputs[name], field.annotation) and UNDEFINED_TYPE not in extras(field):
                kind = type(inputs[name]).__name__
                _warn(
                    signature,
                    f"input {name} should be {type_name(field.annotation)}, got {kind}; sent as it is",
                )
    return inputs


def _fits(value: Any, annotation: Any) -> bool:
    """Tell, at the cost of an isinstance, whether a value is roughly of a type; in doubt yes."""
    if isinstance(annotation, type) and not typing.get_origin(annotation):
        return isinstance(value, annotation) or (annotation is float and isinstance(value, int))
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return value in typing.get_args(annotation)
    return not isinstance(origin, type) or origin is type or isinstance(value, origin) or _is_union(origin)


def _is_union(origin: Any) -> bool:
    return origin.__name__ in ("Union", "UnionType")


def _warn(signature: SignatureMeta, message: str) -> None:
    known = _warned.setdefault(signature, set())
    if message not in known:
        known.add(message)
        _log.warning("%s: %s", signature.__name__, message)
