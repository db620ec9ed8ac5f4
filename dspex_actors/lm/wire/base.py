"""What every provider's wire format has in common: building a request, reading whatever answers it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

from dspex_actors.errors import (
    AuthError,
    ConfigError,
    InvalidRequest,
    LMError,
    Overloaded,
    QuotaExhausted,
    StreamTruncated,
)
from dspex_actors.lm import rules
from dspex_actors.lm.usage import Usage
from dspex_actors.lm.wire import bodies
from dspex_actors.lm.wire.content import refuse_media
from dspex_actors.lm.wire.decoding import Decoder
from dspex_actors.lm.wire.exchange import RawReply, WireReply, WireRequest
from dspex_actors.lm.wire.failures import ErrorBody, error_body, excerpt, kind_of_failure, retry_after

#: Parameters that only tell calls apart (DSPy's `rollout_id`); no provider knows them.
LOCAL_PARAMS = frozenset({"rollout_id"})

#: HTTP statuses for errors that come inside a 200, by the provider's word for them.
_STATUS_OF_KIND = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
}
_HTTP_ERRORS = frozenset(str(status) for status in range(400, 600))
#: What a body that has not the provider's shape makes `parse` raise; RecursionError where it is nested too deep.
_MISSHAPEN = (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)


class Provider(ABC):
    """One provider's wire format: pure, without a socket, a clock or a key."""

    name: ClassVar[str]
    #: As the provider's own SDK writes it; None: there is no public one.
    default_base_url: ClassVar[str | None]
    #: Reference used when the user names no key; None: none is needed.
    default_key: ClassVar[str | None]
    key_header: ClassVar[str] = "authorization"
    key_prefix: ClassVar[str] = "Bearer "
    #: Headers beside those that every request has.
    extra_headers: ClassVar[Mapping[str, str]] = {}
    request_id_header: ClassVar[str] = "x-request-id"
    #: Whether it fetches pictures at an address by itself; else a worker does, where the configuration allows it.
    takes_addresses: ClassVar[bool] = True
    #: Its `payload` has refused already what the model is known not to take.
    knows_media: ClassVar[bool] = False
    #: Its rows in the table of rules; None: those of its name.
    table: ClassVar[str | None] = None

    @abstractmethod
    def path(self, model: str) -> str:
        """Return what follows the base URL."""

    @abstractmethod
    def payload(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
        """Translate a call into the provider's JSON.

        Args:
            model: the model.
            messages: role/content messages in OpenAI's form.
            params: parameters in our normal form, as `rules.fit` made them fit this provider and model.

        Raises:
            InvalidRequest: the provider has no way to say it.
        """

    @abstractmethod
    def decoder(self, status: int, headers: Mapping[str, str]) -> Decoder:
        """Return what reads one stream of events.

        Args:
            status: of the HTTP answer.
            headers: of the HTTP answer, by lower-case name.
        """

    @abstractmethod
    def parse(self, data: dict[str, Any]) -> WireReply:
        """Read an answer's JSON.

        Raises:
            LMError: the answer is a refusal.
            LookupError, TypeError, ValueError, AttributeError: it has not the provider's shape.
        """

    @abstractmethod
    def usage(self, data: dict[str, Any]) -> Usage | None:
        """Return the usage that an answer's JSON tells, be it a reply or a refusal; None where it tells none."""

    def error_in(self, data: Any) -> Any:
        """Return what in the JSON of a 200 is an error, in a shape that `error_body` knows; None: it is none."""
        return data if isinstance(data, dict) and (data.get("error") or data.get("type") == "error") else None

    def key(self, base_url: str) -> tuple[str, str]:
        """Return the header that carries the key to a server, and what stands before the key in it."""
        return self.key_header, self.key_prefix

    def headers(self) -> dict[str, str]:
        """Return the headers of every request, without the one that carries the key."""
        return {
            "content-type": "application/json",
            "accept": "application/json",
            # No compression: replies are small, and a compressed one could unpack to anything.
            "accept-encoding": "identity",
            "user-agent": "dspex-actors",
            **self.extra_headers,
        }

    def stream_path(self, model: str) -> str:
        """Return what follows the base URL where the answer is to be streamed."""
        return self.path(model)

    def streamed(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Return a request's JSON as one whose answer is to be streamed."""
        return {**payload, "stream": True}

    def body(
        self, model: str, messages: list[dict[str, Any]], params: dict[str, Any], *, stream: bool = False
    ) -> bytes:
        """Build the request's body.

        Args:
            model: the model.
            messages: role/content messages.
            params: parameters of the call.
            stream: whether the answer is to be streamed.

        Raises:
            InvalidRequest: the call cannot be said in this provider's format, or not in JSON.
        """
        if not LOCAL_PARAMS.isdisjoint(params):
            params = {name: value for name, value in params.items() if name not in LOCAL_PARAMS}
        problem: str
        try:
            payload = self.payload(model, messages, rules.fit(self.table or self.name, model, params))
            if not self.knows_media:
                refuse_media(self.name, model, messages)
            return bodies.dump(self.streamed(payload) if stream else payload)
        except LMError:
            raise
        except ConfigError as exc:
            problem = exc.message
        except Exception as exc:
            problem = f"the call is not plain JSON data: {excerpt(f'{type(exc).__name__}: {exc}')}"
        raise InvalidRequest(f"{self.name}: {problem}", retryable=False)

    def build(self, model: str, messages: list[dict[str, Any]], params: dict[str, Any]) -> WireRequest:
        """Build one whole request, without its key.

        Raises:
            InvalidRequest: as `body`.
        """
        return WireRequest(
            path=self.path(model),
            headers=self.headers(),
            key_header=self.key_header,
            key_prefix=self.key_prefix,
            body=self.body(model, messages, params),
        )

    def read(self, raw: RawReply, now: float) -> WireReply:
        """Read one HTTP answer.

        Args:
            raw: the answer.
            now: the wall clock in seconds since the epoch, for Retry-After dates.

        Raises:
            LMError: of the type that says what went wrong; `retryable`, `status`, `code`, `retry_after` and
                `request_id` are set as far as known.
        """
        if not 200 <= raw.status < 300:
            raise self.refusal(raw, now, _parsed(raw.body))
        return self.read_data(raw, now, self._json(raw))

    def read_data(self, raw: RawReply, now: float, data: Any) -> WireReply:
        """Read the JSON of an answer that is none of an HTTP error; `raw` is what it came in.

        Raises:
            LMError: as `read`.
        """
        told = self.error_in(data)
        if told is not None:
            raise self.refusal(raw, now, told, data)
        reply = None
        failure: LMError | None = None
        try:
            reply = self.parse(data)
        except LMError as error:
            failure = error
        except _MISSHAPEN:
            failure = Overloaded(
                f"{self.name} answered with JSON that is not one of its replies: '{self._start(raw)}' "
                "— is base_url right?",
                retryable=True,
            )
        request_id = self._request_id(raw)
        if failure is not None:
            failure.status = raw.status if failure.status is None else failure.status
            failure.code = excerpt(failure.code, 80) if failure.code else None
            failure.request_id = failure.request_id or request_id
            failure.usage = self._billed(data)
            raise failure
        assert reply is not None
        reply.request_id = request_id or reply.request_id
        return reply

    def _billed(self, data: Any) -> dict[str, Any] | None:
        """Return the usage that the JSON of a failed request tells: it is paid, too."""
        try:
            usage = self.usage(data)
        except _MISSHAPEN:
            return None
        return usage.to_dict() if usage is not None and usage.total else None

    def classify(self, status: int, error: ErrorBody) -> tuple[type[LMError], bool, float | None]:
        """Return the type of a refusal, whether asking again may help, and the body's wait in seconds."""
        cls, retryable = kind_of_failure(status, error)
        return cls, retryable, None

    def _request_id(self, raw: RawReply) -> str | None:
        value = raw.headers.get(self.request_id_header)
        return excerpt(value, 120) if value else None

    def _start(self, raw: RawReply) -> str:
        return excerpt(raw.body[:65536].decode("utf-8", "replace"), 120)

    def _json(self, raw: RawReply) -> Any:
        try:
            return bodies.load(raw.body)
        except ValueError:
            pass
        body = raw.body.strip()
        if body[:1] in (b"{", b"[") and body[-1:] not in (b"}", b"]"):
            raise StreamTruncated(
                f"{self.name}'s reply ends in the middle, after {len(raw.body)} bytes",
                status=raw.status,
                retryable=True,
            )
        what = f"something that is not JSON: '{self._start(raw)}'" if body else "an empty body"
        raise Overloaded(f"{self.name} answered with {what} — is base_url right?", status=raw.status, retryable=True)

    def refusal(self, raw: RawReply, now: float, data: Any, whole: Any = None) -> LMError:
        """Turn an answer that is an error into the exception for it.

        Args:
            raw: the answer.
            now: seconds since the epoch.
            data: its JSON, or that part of it which is the error; None: it is no JSON.
            whole: all of its JSON, if `data` is a part.
        """
        error = error_body(data) or ErrorBody(self._start(raw))
        status = raw.status
        if status < 300:  # an error inside a 200, as gateways send it
            status = int(error.code) if error.code in _HTTP_ERRORS else _status_of(error)
        if 300 <= status < 400:
            return InvalidRequest(
                f"{self.name} answered {status}, a redirect to {_origin(raw.headers.get('location', ''))}: "
                "redirects are never followed, they would carry the prompt elsewhere — is base_url right?",
                status=status,
                retryable=False,
            )
        cls, retryable, wait = self.classify(status, error)
        advice = raw.headers.get("x-should-retry", "").strip().lower()
        if advice in ("true", "false") and cls is not QuotaExhausted:
            retryable = advice == "true"
        code = excerpt(error.code, 80) or None
        hint = ""
        if status == 404 and not code:
            hint = " — is base_url right?"
        elif cls is AuthError:
            hint = " — check the key that api_key refers to"
        message = excerpt(error.message) or "(no message)"
        what = f"{status} {code}" if code and code != str(status) else str(status)
        return cls(
            f"{self.name} answered {what}: {message}{hint}",
            status=status,
            code=code,
            retryable=retryable,
            retry_after=retry_after(raw.headers, now) if wait is None else wait,
            request_id=self._request_id(raw) or _request_id(data),
            usage=self._billed(data if whole is None else whole),
        )


def _status_of(error: ErrorBody) -> int:
    return _STATUS_OF_KIND.get(error.kind) or _STATUS_OF_KIND.get(error.code.lower(), 500)


def _parsed(body: bytes) -> Any:
    try:
        return bodies.load(body)
    except ValueError:
        return None


def _request_id(data: object) -> str | None:
    value = (data.get("request_id") or data.get("id")) if isinstance(data, dict) else None
    return excerpt(value, 120) if isinstance(value, str) else None


def _origin(location: str) -> str:
    try:
        parts = urlsplit(location)
        return excerpt(f"{parts.scheme}://{parts.hostname}", 120) if parts.hostname else "a path of the same server"
    except ValueError:
        return "an unreadable address"


def count(value: object) -> int:
    """Return a token count that a provider sent: 0 for anything but a non-negative number."""
    if type(value) is int or isinstance(value, float):  # True is no count
        return int(value) if 0 <= value < 2**53 else 0
    return 0


def word(value: object) -> str | None:
    """Return a non-empty text that a provider sent; None for anything else."""
    return value if isinstance(value, str) and value else None


def standard(tier: object, *words: str) -> str | None:
    """Return a provider's word for how a request is billed, in lower case; None for the standard way, or no word.

    Args:
        tier: the word.
        words: those of the provider that mean the standard way, in lower case.
    """
    return tier.lower() if isinstance(tier, str) and tier and tier.lower() not in words else None


def table(value: object) -> dict[str, Any]:
    """Return `value` if it is a JSON object, else an empty one: providers leave parts out or send null."""
    return value if isinstance(value, dict) else {}


def entries(value: object) -> list[dict[str, Any]]:
    """Return the JSON objects in `value` if it is an array, else nothing."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
