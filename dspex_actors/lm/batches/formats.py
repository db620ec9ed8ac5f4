"""How OpenAI and Anthropic take batches, tell how they stand, and give their results. Pure."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

from dspex_actors.lm.wire import bodies
from dspex_actors.lm.wire.base import count, entries, table, word

#: What became of a request: an answer (a refusal too), not done in time, or given up since the batch was cancelled.
Fate = Literal["answered", "expired", "cancelled"]
#: The name in a batch's metadata that finds it again.
TAG = "dspex_batch"
#: Statuses that Anthropic's errors have outside of batches.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_ID = re.compile(r"[\w-]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a batch stands.

    Args:
        remote: the provider's id of it.
        made: when, in seconds since 1970, by the provider's clock.
        size: how many requests it has; 0: not known yet.
        done: how many of them are done, as far as is told.
        has_ended: no more will be done.
        tag: what we had called it; None: the provider does not say.
        files: where its results are.
        why: why it could not begin: the provider's code and words; None: it could.
    """

    remote: str
    made: float
    size: int
    done: int
    has_ended: bool
    tag: str | None = None
    files: tuple[str, ...] = ()
    why: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of results: a request's name, what became of it, and of an answer status, body and the provider's id."""

    name: str
    fate: Fate
    status: int = 0
    body: bytes = b""
    request_id: str | None = None


class BatchFormat(ABC):
    """One provider's batches."""

    #: Requests, and bytes, in one; a little below what the provider takes.
    most: ClassVar[int]
    most_bytes: ClassVar[int]
    #: What is before, between and behind the requests.
    before: ClassVar[bytes]
    between: ClassVar[bytes]
    behind: ClassVar[bytes]
    #: Whether the requests are uploaded as a file first.
    has_file: ClassVar[bool]
    #: Whether it keeps names with batches.
    has_names: ClassVar[bool]
    #: Where batches are made, and listed.
    path: ClassVar[str]
    #: The longest page of a list.
    page_size: ClassVar[int]
    cursor: ClassVar[str]

    @abstractmethod
    def item(self, name: str, endpoint: str, body: bytes) -> bytes:
        """Return one request as it stands in a batch."""

    @abstractmethod
    def standing(self, data: dict[str, Any]) -> Standing:
        """Read how a batch stands.

        Raises:
            LookupError, TypeError, ValueError: it is none.
        """

    @abstractmethod
    def line(self, data: dict[str, Any]) -> Line:
        """Read one line of results.

        Raises:
            LookupError, TypeError, ValueError: it is none.
        """

    def page(self, data: dict[str, Any]) -> tuple[list[Standing], str | None]:
        """Read a page of a list, newest first, and where the next one begins; None: it is the last."""
        found = [self.standing(one) for one in entries(data.get("data"))]
        return found, found[-1].remote if data.get("has_more") and found else None


class OpenAIBatches(BatchFormat):
    """`POST /files`, `POST /batches`."""

    most = 50_000
    most_bytes = 195_000_000
    before, between, behind = b"", b"\n", b"\n"
    has_file = True
    has_names = True
    path = "/batches"
    page_size, cursor = 100, "after"

    def item(self, name: str, endpoint: str, body: bytes) -> bytes:
        """Return a line of the file."""
        return b'{"custom_id":"%b","method":"POST","url":"%b","body":%b}' % (name.encode(), endpoint.encode(), body)

    def creation(self, file: str, endpoint: str, metadata: dict[str, str]) -> dict[str, Any]:
        """Return what makes a batch of an uploaded file."""
        return {"input_file_id": file, "endpoint": endpoint, "completion_window": "24h", "metadata": metadata}

    def standing(self, data: dict[str, Any]) -> Standing:
        """Read a batch."""
        counts, status = table(data.get("request_counts")), data["status"]
        files = [name for kind in ("output_file_id", "error_file_id") if (name := word(data.get(kind)))]
        why = None
        if status == "failed":
            errors = entries(table(data.get("errors")).get("data")) or [{}]
            why = word(errors[0].get("code")) or "failed", word(errors[0].get("message")) or "(no message)"
        return Standing(
            remote=id_in(data["id"]),
            made=float(data["created_at"]),
            size=count(counts.get("total")),
            done=count(counts.get("completed")) + count(counts.get("failed")),
            has_ended=status in ("failed", "completed", "expired", "cancelled"),
            tag=word(table(data.get("metadata")).get(TAG)),
            files=tuple(f"/files/{id_in(name)}/content" for name in files),
            why=why,
        )

    def line(self, data: dict[str, Any]) -> Line:
        """Read a line of the output's or the errors' file."""
        name, response, error = _text(data["custom_id"]), data.get("response"), table(data.get("error"))
        if error.get("code") == "batch_expired":
            return Line(name, "expired")
        if error.get("code") == "batch_cancelled":
            return Line(name, "cancelled")
        if not isinstance(response, dict):
            return Line(name, "answered", 500, bodies.dump({"error": error}))
        return Line(
            name,
            "answered",
            int(response["status_code"]),
            bodies.dump(response.get("body")),
            word(response.get("request_id")),
        )


class AnthropicBatches(BatchFormat):
    """`POST /v1/messages/batches`."""

    most = 100_000
    most_bytes = 250_000_000
    before, between, behind = b'{"requests":[', b",", b"]}"
    has_file = False
    has_names = False
    path = "/v1/messages/batches"
    page_size, cursor = 1000, "after_id"

    def item(self, name: str, endpoint: str, body: bytes) -> bytes:
        """Return an element of the array of requests."""
        return b'{"custom_id":"%b","params":%b}' % (name.encode(), body)

    def standing(self, data: dict[str, Any]) -> Standing:
        """Read a batch: it tells its size at once, and what is done only when it has ended."""
        remote, counts = id_in(data["id"]), table(data.get("request_counts"))
        total = sum(map(count, counts.values()))
        has_ended = data["processing_status"] == "ended"
        return Standing(
            remote=remote,
            made=datetime.fromisoformat(data["created_at"]).timestamp(),
            size=total,
            done=total - count(counts.get("processing")),
            has_ended=has_ended,
            files=(f"{self.path}/{remote}/results",) if has_ended else (),
        )

    def line(self, data: dict[str, Any]) -> Line:
        """Read a line of the results. An error has no status here: it has the one of its kind."""
        name, result = _text(data["custom_id"]), data["result"]
        match result["type"]:
            case "expired":
                return Line(name, "expired")
            case "canceled":
                return Line(name, "cancelled")
            case "succeeded":
                message = result["message"]
                return Line(name, "answered", 200, bodies.dump(message), word(table(message).get("id")))
        error = table(result.get("error"))
        # As it comes outside of batches, or the error alone.
        whole = error if error.get("type") == "error" else {"type": "error", "error": error}
        status = _STATUS.get(str(table(whole.get("error")).get("type")), 500)
        return Line(name, "answered", status, bodies.dump(whole), word(error.get("request_id")))


FORMATS: dict[str, BatchFormat] = {"openai": OpenAIBatches(), "anthropic": AnthropicBatches()}


def endpoint_of(path: str) -> str:
    """Return what a line of OpenAI's file calls a path below the base URL, which ends in /v1."""
    return f"/v1{path}"


def name_of(tag: str, number: int) -> str:
    """Return what a request is called in a batch."""
    return f"{tag}-{number}"


def number_of(tag: str, name: str) -> int | None:
    """Return the number of a request of this batch; None: it is none of it."""
    mine, _, number = name.rpartition("-")
    return int(number) if mine == tag and number.isascii() and number.isdecimal() and len(number) < 19 else None


def found_again(
    tag: str, size: int, since: float, known: Iterable[str], listed: Iterable[Standing], *, by_size: bool
) -> list[Standing]:
    """Return which batches of a list may be one that was sent, and of which no id was heard.

    Args:
        tag: what we had called it.
        size: how many requests it has.
        since: none is older than this, in seconds since 1970, whatever the clocks.
        known: ids that are others.
        listed: the list.
        by_size: the provider keeps no names: what one of the same size holds is looked at when it has ended.
    """
    others = set(known)
    young = [one for one in listed if one.remote not in others and one.made >= since]
    return [one for one in young if (one.size == size if by_size else one.tag == tag)]


def progress_text(size: int, done: int, batches: int, since: float | None, now: float) -> str:
    """Say how the batches of a run stand.

    Args:
        size: requests in them.
        done: of these, as far as is told.
        batches: how many there are.
        since: when the oldest was submitted, in seconds since 1970; None: none is yet.
        now: seconds since 1970.
    """
    what = f"batch of {size:,}" if batches == 1 else f"{batches} batches of {size:,} together"
    if since is None:
        return f"{what}: being submitted"
    return f"{what}: {done:,} done, submitted {_ago(now - since)} ago"


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def id_in(value: Any) -> str:
    """Return a provider's id of a thing, which becomes part of an address.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(value)
    return value
