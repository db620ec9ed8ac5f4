"""Predict: one LM call through a signature. Everything else is made of it.

The work is written once, as a generator of pure steps: it gives out the messages to send and takes in the
reply. The sync and the async call differ in how they carry one to the LM and the other back, and in nothing
else.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

from dspex_actors.adapters.base import Adapter, Message
from dspex_actors.adapters.chat import ChatAdapter
from dspex_actors.adapters.given import revived
from dspex_actors.adapters.usable import check_outputs
from dspex_actors.adapters.values import jsonable_state
from dspex_actors.errors import AdapterParseError, ConfigError
from dspex_actors.example import Example, Prediction
from dspex_actors.foundation.callbacks import heard
from dspex_actors.foundation.checks import is_whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.counts import summed_usage
from dspex_actors.foundation.tap import current_tap
from dspex_actors.lm.attempts import book_reply
from dspex_actors.lm.reply import CUT
from dspex_actors.lm.told_cache import take_back
from dspex_actors.programs import saved_lm, saving
from dspex_actors.programs.inputs import with_defaults
from dspex_actors.programs.module import Module
from dspex_actors.programs.recipes import signature_of, spec_of
from dspex_actors.programs.walk import copied
from dspex_actors.settings import book_call, calls_booked, check_lm, settings
from dspex_actors.signatures.signature import UNNAMED, Signature, SignatureMeta, make_signature

_DEFAULT_ADAPTER = ChatAdapter()

#: Several answers at a lower temperature would be one answer several times: DSPy's numbers.
_LEAST_TEMPERATURE, _TEMPERATURE_OF_SEVERAL = 0.15, 0.7


class Request(NamedTuple):
    """One call to make: which LM, which messages, which parameters; and how many answers are wanted in all."""

    lm: Any
    messages: list[Message]
    params: dict[str, Any]
    answers: int = 1
    #: In which form, and with which fields, it is answered.
    adapter: Any = None
    signature: Any = None


Spec = str | type[Signature] | Mapping[str, Any]


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
        callbacks: who hears of its calls, beside those of the settings.
        **config: parameters of every LM call, such as `temperature` and `max_tokens`; `n` asks for so many answers,
            `prediction.completions`.
    """

    is_predictor: ClassVar[bool] = True

    def __init__(self, signature: Spec, callbacks: Sequence[Any] | None = None, **config: Any) -> None:
        """Make a predictor without demos and without an LM of its own."""
        super().__init__(callbacks)
        self.signature: type[Signature] = make_signature(signature)
        check_outputs(self.signature.__name__, self.signature.output_fields)  # what cannot be read is refused now
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

    def update_config(self, **config: Any) -> None:
        """Change parameters of every LM call from now on."""
        self.config = {**self.config, **config}

    def get_config(self) -> dict[str, Any]:
        """Return the parameters of every LM call."""
        return self.config

    def __call__(self, /, *args: Any, **kwargs: Any) -> Prediction:
        """Ask the LM and wait.

        Args:
            *args: refused; inputs have names.
            **kwargs: the inputs, and for this call only: `signature`, `demos`, `config`, `lm`. Where the signature
                has an input of such a name, it is that input.

        Returns:
            The outputs; `get_lm_usage()` says what they took.

        Raises:
            ConfigError: no LM, or an input without a name.
            AdapterParseError: the answer cannot be read.
            LMError: the LM gave none.
        """
        result: Prediction = super().__call__(*self._refuse(args), **kwargs)
        return result

    async def acall(self, /, *args: Any, **kwargs: Any) -> Prediction:
        """Ask the LM; see `__call__`."""
        result: Prediction = await super().acall(*self._refuse(args), **kwargs)
        return result

    def forward(self, /, **kwargs: Any) -> Prediction:
        """Carry the steps out with a blocking LM call."""
        steps = self.requests(kwargs)
        request = next(steps)
        while True:
            tap = current_tap()
            reply = request.lm(request.messages, **request.params) if tap is None else tap.ask(self, request)
            try:
                request = steps.send(reply)
            except StopIteration as done:
                result: Prediction = done.value
                return result

    async def aforward(self, /, **kwargs: Any) -> Prediction:
        """Carry the steps out with an awaited LM call."""
        steps = self.requests(kwargs)
        request = next(steps)
        while True:
            tap = current_tap()
            ask = request.lm.acall(request.messages, **request.params) if tap is None else tap.aask(self, request)
            reply = await ask
            try:
                request = steps.send(reply)
            except StopIteration as done:
                result: Prediction = done.value
                return result

    def _title(self) -> str:
        name = getattr(self.signature, "__name__", UNNAMED)  # a signature that is none is refused in a moment
        return type(self).__name__ if name == UNNAMED else f"{type(self).__name__}({name})"

    def _refuse(self, args: tuple[Any, ...]) -> tuple[()]:
        if args:
            names = ", ".join(f"{name}=..." for name in self.signature.input_fields)
            raise ConfigValueError(f"inputs have names: call it with {names}")
        return ()

    def requests(self, kwargs: dict[str, Any]) -> Generator[Request, Any, Prediction]:
        """Give out the calls to make, take in their replies, return the prediction: what every way of calling does.

        Args:
            kwargs: as of `__call__`.
        """
        signature = self.signature
        if not isinstance(signature, SignatureMeta):
            raise ConfigTypeError(f"signature of the predictor is invalid: got {signature!r:.80}, expected a Signature")
        asked = signature.input_fields
        given = _taken(kwargs, "signature", asked)
        if given is not None:
            signature = make_signature(given)
            asked = signature.input_fields
        if not signature._by_side()[2]:
            raise ConfigValueError(f"{signature.__name__} has no output: there is nothing to ask for")
        demos = _taken(kwargs, "demos", asked)
        demos = self.demos if demos is None else demos
        if type(demos) is not list:
            _check_demos(demos)
        config = _taken(kwargs, "config", asked)
        for given in (self.config, config):
            if given and not (isinstance(given, Mapping) and all(type(name) is str for name in given)):
                raise ConfigTypeError(
                    f"config is invalid: got {given!r:.80}, expected a dict of parameters of the call"
                )
        params = {**(self.config or {}), **(config or {})}
        here = settings.in_force()
        lm = self._choose_lm(_taken(kwargs, "lm", asked), here["lm"])
        guess = None if "prediction" in asked else kwargs.get("prediction")
        if isinstance(guess, dict) and guess.get("type") == "content" and "content" in guess:
            params["prediction"] = kwargs.pop("prediction")  # OpenAI's predicted output
        count = _answers(params, lm)
        inputs = with_defaults(signature, asked, kwargs, warn_on_type_mismatch=here["warn_on_type_mismatch"])
        adapter = here["adapter"] or _DEFAULT_ADAPTER
        rows = []
        for _ in range(count):
            rows.append((yield from self._ask(adapter, signature, demos, inputs, lm, params, count)))  # noqa: PERF401 - no comprehension can
        prediction = Prediction(rows[0]) if count == 1 else Prediction.from_completions(rows, signature)
        trace, most = here["trace"], here["max_trace_size"]
        if trace is not None and most > 0:
            trace.append((self, dict(inputs), prediction))
            if len(trace) > most:
                del trace[:-most]  # the oldest go, as in DSPy
        return prediction

    def _ask(
        self,
        adapter: Adapter | None,
        signature: type[Signature],
        demos: Any,
        inputs: dict[str, Any],
        lm: Any,
        params: dict[str, Any],
        count: int,
    ) -> Generator[Request, Any, dict[str, Any]]:
        """Have the LM asked, once more by the adapter's fallback if its answer cannot be read; return the fields."""
        replies: list[Any] = []
        asked: list[tuple[list[Message], dict[str, Any]]] = []
        failure: AdapterParseError | None = None
        kinds: set[type[Adapter]] = set()
        while adapter is not None and type(adapter) not in kinds:  # a fallback of its own kind would ask for ever
            kinds.add(type(adapter))
            before = calls_booked()
            reading, told = adapter.prepare(signature, inputs, lm, params)
            callbacks = settings.heard_by(getattr(adapter, "callbacks", ()))
            if callbacks:
                about = {"signature": reading, "demos": demos, "inputs": inputs}
                messages = heard(
                    callbacks, "adapter_format", adapter, about, partial(adapter.format, reading, demos, inputs)
                )
            else:
                messages = adapter.format(reading, demos, inputs)
            reply = yield Request(lm, messages, told, count, adapter, reading)
            replies.append(reply)
            asked.append((messages, told))
            # An LM of the user's own; what it asks of ours is in the books already.
            if not getattr(lm, "books_calls", False) and calls_booked() == before:
                book_call(reply)
                book_reply(reply)
            try:
                if getattr(adapter, "extraction_model", None) is not None:
                    return (yield from self._extracted(adapter, signature, reading, reply))
                if callbacks:
                    about = {"signature": signature, "completion": getattr(reply, "text", reply)}
                    read = partial(adapter.read, signature, reading, reply)
                    fields: dict[str, Any] = heard(callbacks, "adapter_parse", adapter, about, read)
                else:
                    fields = adapter.read(signature, reading, reply)
                if (logprobs := getattr(reply, "logprobs", None)) is not None:
                    fields.setdefault("logprobs", logprobs)  # beside the outputs, as DSPy has them
                return fields
            except AdapterParseError as error:
                if getattr(reply, "finish_reason", None) == CUT:
                    # Asked in another form it would be as long, and cut again.
                    error.message = f"{_cut_at(lm, params)}: {error.message}"
                    error.args = (error.message,)
                    failure = error
                    break
                tap = current_tap()
                if tap is not None and tap.was_shown(reply):
                    failure = error  # who has seen some of it is not told another answer
                    break
                failure, adapter = error, adapter.fallback
        if failure is None:
            raise ConfigError("settings.adapter is no adapter; configure(adapter=ChatAdapter())")
        failure.usage = summed_usage(replies)
        # Nobody gets from the cache what nobody can read. An answer after which the fallback's was read stays: with it
        # the same program has the same result again, for nothing.
        take_back(lm, asked)
        raise failure

    def _extracted(
        self, adapter: Any, signature: type[Signature], reading: type[Signature], reply: Any
    ) -> Generator[Request, Any, dict[str, Any]]:
        """Have the adapter's second LM take the fields out of what the first one wrote; what it gave beside its text is
        there already."""
        found: dict[str, Any] = {}
        if adapter.is_said(signature, reading, reply):
            text, asked = getattr(reply, "text", reply), adapter.extractor(reading)
            if isinstance(text, str) and not text.strip():
                raise adapter.unsaid(signature)
            try:
                lm = adapter.extraction_model
                found = yield from self._ask(_DEFAULT_ADAPTER, asked, [], {"text": text}, lm, {}, 1)
            except AdapterParseError as error:
                if not getattr(reply, "tool_calls", None):
                    raise adapter.failed(signature, text, error) from error
        fields: dict[str, Any] = adapter.completed(signature, found, reply)
        return fields

    def _choose_lm(self, given: Any, around: Any) -> Any:
        lm = given if given is not None else self.lm if self.lm is not None else around
        if lm is None:
            raise ConfigValueError(
                "No LM is loaded: connect(lm=dspex.LM('provider/model')), or configure(lm=...), "
                "or program.set_lm(...), or pass lm=... to the call"
            )
        check_lm(lm)
        return lm

    def dump_state(self) -> dict[str, Any]:
        """Return demos, instructions, labels, call parameters and the LM's settings as JSON data in DSPy's layout.

        Keys are not part of it.

        Raises:
            ConfigError: a demo or a parameter holds something that JSON has no form for.
        """
        try:
            beside = {**saved_lm.dump(self.lm), **saved_lm.dump_config(self.config)}
        except ValueError as error:
            raise ConfigError(f"config or lm of {self.signature.__name__} is not JSON: {error}") from error
        return {
            "traces": [self._plain("traces", place, item) for place, item in enumerate(self.traces)],
            "train": [self._plain("train", place, item) for place, item in enumerate(self.train)],
            "demos": [self._plain("demos", place, item) for place, item in enumerate(self.demos)],
            "signature": self.signature.dump_state(),
            **beside,
        }

    def _plain(self, kind: str, place: int, item: Any) -> Any:
        if kind == "demos" and (typed := {**self.signature._typed[0], **self.signature._typed[1]}):
            # What an Image is made of, bytes for example, is saved as the Image.
            item = Example(revived(typed, item._store if isinstance(item, Example) else item))
        try:
            return jsonable_state(item.toDict() if isinstance(item, Example) else item)
        except ValueError as error:
            raise ConfigError(f"{kind}[{place}] of {self.signature.__name__} is not JSON: {error}") from error

    def take_state(self, part: Mapping[str, Any], signature: type[Signature], lm: Any) -> None:
        """Take over a state that was checked; `load_state` checks first. A state without an LM leaves this one's."""
        self.signature = signature
        self.lm = self.lm if lm is None else lm
        config = saved_lm.load_config(part)
        self.config = self.config if config is None else config
        typed = {**signature._typed[0], **signature._typed[1]}
        self.demos = [revived(typed, demo) for demo in copy.deepcopy(list(part["demos"]))]
        self.train = copy.deepcopy(list(part.get("train") or []))
        self.traces = copy.deepcopy(list(part.get("traces") or []))

    def _describe(self) -> dict[str, Any] | None:
        return saving.described("Predict", self.signature) if type(self) is Predict else None

    def _recipe(self) -> dict[str, Any]:
        return {"signature": spec_of(self.signature)}

    @classmethod
    def _of_recipe(cls, recipe: Mapping[str, Any]) -> Predict:
        return cls(signature_of(recipe["signature"]))

    def __deepcopy__(self, memo: dict[int, Any]) -> Predict:
        """Copy demos and config; share the signature, which never changes, and the LM, which is a
        connection."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        for name, value in vars(self).items():
            vars(twin)[name] = value if name in ("lm", "signature") else copied(value, memo)
        return twin

    def __repr__(self) -> str:
        """Show the signature and the number of demos."""
        return f"{type(self).__name__}({self.signature!r}, demos={len(self.demos)})"


def _taken(kwargs: dict[str, Any], name: str, inputs: Mapping[str, Any]) -> Any:
    """Take what a call says about itself out of its arguments; an input of that name is an input."""
    return None if name in inputs else kwargs.pop(name, None)


def _check_demos(demos: Any) -> None:
    """Refuse what is no list of demos; what stands in it is looked at where it is rendered."""
    if isinstance(demos, str | bytes | Mapping | Example) or not isinstance(demos, Iterable):
        raise ConfigTypeError(f"demos is invalid: got {demos!r:.80}, expected a list of Examples or dicts")


def _cut_at(lm: Any, params: Mapping[str, Any]) -> str:
    """Say where an answer was cut."""
    set_by_lm = getattr(lm, "kwargs", None)
    limits = {**(set_by_lm if isinstance(set_by_lm, Mapping) else {}), **params}
    told = [f"{name}={limits[name]}" for name in ("max_tokens", "max_completion_tokens") if limits.get(name)]
    return f"the answer was cut at {told[0] if told else 'the max_tokens of the server'} (raise max_tokens)"


def _answers(params: dict[str, Any], lm: Any) -> int:
    """Take out how many answers are wanted; for several, see to it that they may differ."""
    count = params.pop("n", None)
    if count is None or count == 1:
        return 1
    if not is_whole(count, 1):
        raise ConfigValueError(f"n: expected a whole number of at least 1, got {count!r}")
    temperature = params.get("temperature", getattr(lm, "kwargs", {}).get("temperature"))
    if temperature is None or temperature <= _LEAST_TEMPERATURE:
        params["temperature"] = _TEMPERATURE_OF_SEVERAL
    return int(count)
