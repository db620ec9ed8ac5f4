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
     ├─ RunFailed                  a run ended without a result
     └─ RunInterrupted             the node went away in the middle of a run; `run_id` continues it

Every one is plain data: it can be turned into a record (`to_record`), sent anywhere and rebuilt
(`from_record`). No error holds a request, a response or a client of an HTTP library: those carry API keys.
"""

from __future__ import annotations

from typing import Any, ClassVar


class DspexError(Exception):
    """Base of every error that dspex raises on purpose."""

    #: Names of the constructor's keyword arguments beside `message`; they travel in records.
    fields: ClassVar[tuple[str, ...]] = ()

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
    """

    fields: ClassVar[tuple[str, ...]] = (
        "provider",
        "model",
        "status",
        "code",
        "retry_after",
        "request_id",
        "asked",
        "retryable",
        "usage",
    )
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
    """The reply ended before its end."""


class CircuitOpen(LMError):
    """The deployment has been failing; it is not asked until its circuit closes."""


class AdapterParseError(DspexError):
    """The LM's text does not hold the output fields that the signature asks for.

    Args:
        message: what is missing or not parseable.
        adapter: name of the adapter.
        completion: the LM's text.
        expected: names of the output fields.
        found: names of the fields that were there.
    """

    fields: ClassVar[tuple[str, ...]] = ("adapter", "completion", "expected", "found", "usage")
    adapter: str | None
    completion: str | None
    expected: list[str] | None
    found: list[str] | None
    usage: dict[str, Any] | None


class ConfigError(DspexError):
    """A setting, model string, program, metric or dataset is not usable as given."""


class RunFailed(DspexError):
    """A run ended without a result."""

    fields: ClassVar[tuple[str, ...]] = ("run_id",)
    run_id: str | None


class RunInterrupted(DspexError):
    """The node went away in the middle of a run; nothing that was answered is lost."""

    fields: ClassVar[tuple[str, ...]] = ("run_id",)
    run_id: str | None


def _tree(root: type[DspexError]) -> dict[str, type[DspexError]]:
    found = {root.__name__: root}
    for sub in root.__subclasses__():
        found.update(_tree(sub))
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
        return DspexError(f"{name}: {message}")
    return cls(message, **{k: v for k, v in record.items() if k in cls.fields})
