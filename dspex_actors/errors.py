"""The errors a user of dspex meets, drawn as a tree.

::

    DspexError
     ├─ LMError                    anything that went wrong between us and a provider
     │   ├─ RateLimited            429, or a provider's words for it; `retry_after` seconds if it said so
     │   ├─ QuotaExhausted         the account is out of money or of its daily quota; asking again is no use
     │   ├─ Timeout                no answer within the per-call timeout
     │   ├─ DeadlineExceeded       the call's total time, waits and retries included, is used up
     │   ├─ Overloaded             5xx, 529, connection refused or reset
     │   ├─ AuthError              401, 403, or a key reference that points at nothing
     │   ├─ InvalidRequest         the provider will never accept this request
     │   │   └─ ContextWindowExceeded
     │   ├─ ContentBlocked         refused by the provider's content policy
     │   ├─ StreamTruncated        the reply ended before its end marker
     │   └─ CircuitOpen            this deployment is failing; not asked
     ├─ AdapterParseError          the LM's text does not have the fields that the signature asks for
     ├─ ConfigError                a setting, a model string, a program or a dataset is not usable as given
     │                             (where DSPy raises a ValueError, TypeError, KeyError or
     │                             RuntimeError it is one too: foundation/config_errors.py)
     │   └─ InvalidInputs          inputs of an inference are not what the program takes; all `findings` at once
     ├─ InvalidOutputs             what came out of an inference is not what the signature says; all `findings`
     ├─ TransformationFailed       a transformation of an inference failed; `transformation` is its name
     ├─ MemberAway                 a member of an ecosystem was not there, or died meanwhile; ask again
     ├─ WorkflowError              a step of a workflow failed; `step`, `data` so far, `steps`, the error is its cause
     ├─ AllStrategiesFailed        no strategy of a fallback had a value; `errors` by strategy
     ├─ RunFailed                  a run ended without a result
     └─ RunInterrupted             the node went away in the middle of a run; `run_id` continues it
         └─ BudgetExceeded         what may be spent is used up; `spent`, `budget`

Every one is plain data: it can be turned into a record (`to_record`), sent anywhere and rebuilt
(`from_record`). No error holds a request, a response or a client of an HTTP library: those carry API keys.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

from dspex_actors.plain import brief


class DspexError(Exception):
    """Base of every error that dspex raises on purpose."""

    #: Names of the constructor's keyword arguments beside `message`; they travel in records.
    fields: ClassVar[tuple[str, ...]] = ()
    #: In which operation it came up and what led to it (`foundation/error_context.py`), plain data; it travels too.
    context: dict[str, Any] | None = None

    def __init__(self, message: str, **details: Any) -> None:
        """Make the error; `details` may hold any of the class's `fields`, the rest is refused."""
        super().__init__(message)
        self.message = message
        unknown = set(details) - set(self.fields)
        if unknown:
            raise TypeError(
                f"{type(self).__name__} takes {', '.join(self.fields) or 'no details'}; got {sorted(unknown)}"
            )
        for name in self.fields:
            setattr(self, name, details.get(name))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the plain record, and nothing that happens to hang on the instance."""
        return from_record, (self.to_record(),)

    def to_record(self) -> dict[str, Any]:
        """Return the error as plain data: its type's name, its message and its fields that are set."""
        record: dict[str, Any] = {"type": type(self).__name__, "message": self.message}
        record.update({name: value for name in self.fields if (value := getattr(self, name)) is not None})
        if isinstance(self.context, dict):
            record["context"] = dict(self.context)
        return record


class LMError(DspexError):
    """A call to a language model failed.

    Args:
        message: one line for a person, scrubbed of keys.
        provider: openai, anthropic, gemini, cohere or embedded.
        model: the model's name as the provider knows it.
        status: HTTP status, if there was one.
        code: the provider's own error code.
        retry_after: seconds the provider asked us to wait.
        request_id: the provider's id of the request, for its support.
        asked: how many HTTP requests were made for this call, retries included.
        retryable: whether the same request may succeed later; None where nobody can tell.
        usage: tokens that the failed request used, where the provider told (`Usage.to_dict`'s data): it is paid, too.
        partial: the text that had come of a reply that was streamed; None: nothing had.
    """

    fields: ClassVar[tuple[str, ...]] = (
        "provider", "model", "status", "code", "retry_after", "request_id", "asked", "retryable", "usage", "partial",
    )  # fmt: skip
    #: Whether the request reached the server, as far as is known; does not travel.
    was_sent: bool = True
    provider: str | None
    model: str | None
    status: int | None
    code: str | None
    retry_after: float | None
    request_id: str | None
    asked: int | None
    retryable: bool | None
    usage: dict[str, Any] | None
    partial: str | None


class RateLimited(LMError):
    """The provider said: too many requests for now."""


class QuotaExhausted(LMError):
    """The account's money or daily quota is used up; waiting seconds will not help."""


class Timeout(LMError):
    """No (complete) answer within the per-call timeout."""


class DeadlineExceeded(LMError):
    """The total time of the call, waits and retries included, is used up."""


class Overloaded(LMError):
    """The provider failed (5xx, 529) or could not be reached at all."""


class AuthError(LMError):
    """The key was refused, or the key reference points at nothing."""


class InvalidRequest(LMError):
    """The provider will never accept this request as it is."""


class ContextWindowExceeded(InvalidRequest):
    """The prompt is longer than the model's window."""


class ContentBlocked(LMError):
    """The provider's content policy refused the prompt or the reply."""


class StreamTruncated(LMError):
    """The reply ended before its end; `partial` has what came of one that was streamed."""


class CircuitOpen(LMError):
    """The deployment has been failing; it is not asked until its circuit closes."""


class AdapterParseError(DspexError):
    """The LM's text does not hold the output fields that the signature asks for.

    An adapter of one's own may raise it as DSPy's does, with `adapter_name`, `signature`, `lm_response` and
    `parsed_result`; those four can be read too. `signature` and `parsed_result` are of this process: a record has
    `expected` and `found` in their place.

    Args:
        message: what is missing or not parseable.
        signature: the signature whose outputs were expected.
        parsed_result: output name → what was found for it.
        adapter_name: as `adapter`.
        lm_response: as `completion`.
        **details: `adapter`: its name. `completion`: the LM's text. `expected`: names of the output fields. `found`:
            names of the fields that were there. `usage`: tokens that the answers took.
    """

    fields: ClassVar[tuple[str, ...]] = ("adapter", "completion", "expected", "found", "usage")
    adapter: str | None
    completion: str | None
    expected: list[str] | None
    found: list[str] | None
    usage: dict[str, Any] | None

    def __init__(
        self,
        message: str | None = None,
        *,
        signature: Any = None,
        parsed_result: Mapping[str, Any] | None = None,
        adapter_name: str | None = None,
        lm_response: str | None = None,
        **details: Any,
    ) -> None:
        """Make the error; what was not said is taken from the signature and the parsed result."""
        given: dict[str, Any] = {"adapter": adapter_name, "completion": lm_response}
        if signature is not None:
            given["expected"] = list(signature.output_fields)
        if parsed_result is not None:
            given["found"] = list(parsed_result)
        details = {**{name: value for name, value in given.items() if value is not None}, **details}
        if message is None:
            expected = ", ".join(details.get("expected") or ()) or "nothing"
            message = f"{details.get('adapter') or 'the adapter'} cannot read the answer; expected {expected}"
        super().__init__(message, **details)
        self.signature = signature
        self.parsed_result = None if parsed_result is None else dict(parsed_result)

    @property
    def adapter_name(self) -> str | None:
        """The adapter's name."""
        return self.adapter

    @property
    def lm_response(self) -> str | None:
        """The LM's text."""
        return self.completion


class ConfigError(DspexError):
    """A setting, model string, program, metric or dataset is not usable as given."""


class InvalidInputs(ConfigError):
    """Inputs of an inference are not what the program takes.

    Args:
        message: all findings, for people.
        findings: a dict each: `input` (its name), `problem` (unknown, missing, mistyped, refused), `message`.
    """

    fields: ClassVar[tuple[str, ...]] = ("findings",)
    findings: list[dict[str, Any]]


class InvalidOutputs(DspexError):
    """What came out of an inference is not what the signature says; `findings` as of `InvalidInputs`, by `output`."""

    fields: ClassVar[tuple[str, ...]] = ("findings",)
    findings: list[dict[str, Any]]


class TransformationFailed(DspexError):
    """A transformation of an inference failed."""

    fields: ClassVar[tuple[str, ...]] = ("transformation",)
    transformation: str


class MemberAway(DspexError):
    """A member of an ecosystem was not there, or died during the inference; it is back in a moment."""

    fields: ClassVar[tuple[str, ...]] = ("role",)
    role: str


class WorkflowError(DspexError):
    """A step of a workflow failed, and with it the workflow; `__cause__` is the step's error.

    Args:
        message: which step, and why.
        **details: `step`: its path, `branch/step`. `data`: what there was when it began, and what other branches had
            given. `steps`: what was done: name, duration, attempts, state, error of each. `run_id`: of a durable one.
    """

    fields: ClassVar[tuple[str, ...]] = ("step", "data", "steps", "run_id")
    step: str
    data: dict[str, Any]
    steps: list[Any]
    run_id: str | None

    def to_record(self) -> dict[str, Any]:
        """Return the error as plain data; what is long in its data is cut."""
        return {name: brief(value) for name, value in super().to_record().items()}


class AllStrategiesFailed(DspexError):
    """No strategy had a value; `errors` is a list of (strategy, its error), in the order in which they were tried."""

    fields: ClassVar[tuple[str, ...]] = ("errors",)
    errors: list[tuple[str, Exception]]

    def __init__(self, message: str, **details: Any) -> None:
        """Make the error; errors that are records are rebuilt."""
        super().__init__(message, **details)
        self.errors = [
            (str(name), from_record(dict(error)) if isinstance(error, Mapping) else error)
            for name, error in self.errors or ()
        ]

    def to_record(self) -> dict[str, Any]:
        """Return the error as plain data: those of the strategies as records."""
        told = [
            (name, error if isinstance(error, DspexError) else DspexError(f"{type(error).__name__}: {error}"))
            for name, error in self.errors
        ]
        return {**super().to_record(), "errors": [[name, error.to_record()] for name, error in told]}


class RunFailed(DspexError):
    """A run ended without a result."""

    fields: ClassVar[tuple[str, ...]] = ("run_id",)
    run_id: str | None


class RunInterrupted(DspexError):
    """The node went away in the middle of a run; nothing that was answered is lost."""

    fields: ClassVar[tuple[str, ...]] = ("run_id",)
    run_id: str | None


class BudgetExceeded(RunInterrupted):
    """What may be spent is used up: a run's budget, or the limit of a day or a tag. The limit was not passed.

    Args:
        message: what is used up, and how to go on.
        **details: `run_id`: the run; None: it was no run. `spent`: USD, requests without a known end at the most that
            they may cost. `budget`: the limit, USD.
    """

    fields: ClassVar[tuple[str, ...]] = ("run_id", "spent", "budget")
    spent: float | None
    budget: float | None


def _tree(root: type[DspexError]) -> dict[str, type[DspexError]]:
    found = {root.__name__: root}
    for sub in root.__subclasses__():
        # The first of a name: those that `failed_as` makes come below the error that they are called after.
        found = {**_tree(sub), **found}
    return found


#: The classes of this file: a user's class of the same name is another one.
OURS: frozenset[type[BaseException]] = frozenset(_tree(DspexError).values())


def from_record(record: dict[str, Any]) -> DspexError:
    """Rebuild an error from `to_record`'s plain data; an unknown type becomes a DspexError that names it."""
    known = _tree(DspexError)
    name = str(record.get("type", "DspexError"))
    message = str(record.get("message", ""))
    cls = known.get(name)
    if cls is None:
        error = DspexError(f"{name}: {message}")
    else:
        error = cls(message, **{k: v for k, v in record.items() if k in cls.fields})
    if isinstance(record.get("context"), dict):
        error.context = dict(record["context"])
    return error


def failed_as(record: dict[str, Any], message: str, run_id: str | None) -> RunFailed:
    """Return a RunFailed that is also an error of the type that ended the run, so that either can be caught.

    Args:
        record: the error that ended it. Its type is looked for among ours, Python's and those that this process knows.
        message: what is said.
        run_id: the run.
    """
    kind = _known(str(record.get("type")))
    try:
        cls = RunFailed if kind is None or issubclass(RunFailed, kind) else _both(kind)  # type: ignore[arg-type]
        # Not by calling it: nobody knows what the other type's constructor takes.
        error = cls.__new__(cls, message)
    except TypeError:
        error = RunFailed(message)
    error.args = (message,)
    error.message, error.run_id = message, run_id
    if isinstance(record.get("context"), dict):
        error.context = dict(record["context"])
    return error


@lru_cache(maxsize=256)
def _both(kind: type[Exception]) -> type[RunFailed]:
    own = {"__str__": Exception.__str__, "__doc__": RunFailed.__doc__, "__module__": __name__}
    return type(RunFailed.__name__, (RunFailed, kind), own)


def _known(name: str) -> type[Exception] | None:
    """Return the type of exception of a name; None: there is none, or more than one."""
    ours: type[Exception] | None = _tree(DspexError).get(name)
    python = getattr(builtins, name, None)
    if ours is not None or (isinstance(python, type) and issubclass(python, Exception)):
        return ours or python
    found, queue = set(), [Exception]
    while queue:
        kind = queue.pop()
        queue.extend(kind.__subclasses__())
        if kind.__name__ == name:
            found.add(kind)
    return found.pop() if len(found) == 1 else None
