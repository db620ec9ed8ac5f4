"""What can be found out before a run costs anything, and when a run that has begun is no use.

A missing key or a server that is not there would make 100,000 examples fail one after the other. Both are looked at
before the run starts; what only the first answers tell (a key that is refused, a metric that returns text) ends it then.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from dspex_actors.errors import AuthError, ConfigError
from dspex_actors.foundation.journal_reader import JournalReader
from dspex_actors.lm.keys import resolve, variable
from dspex_actors.lm.lm import LM

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 2.0
#: Errors that no other example will cure; the run is ended if nothing else has happened so far.
HOPELESS = ("AuthError", "ConfigError", "QuotaExhausted")
_LOOK = 20


def lms_of(program: Any, lm: LM | None) -> list[LM]:
    """Return the LMs that a run of a program will ask first, each once."""
    predictors = program.predictors() if hasattr(program, "predictors") else []
    found = [one for predictor in predictors if isinstance(one := predictor.lm or lm, LM)]
    if lm is not None and not predictors:
        found.append(lm)
    return list(dict.fromkeys(found))


def check_lms(lms: Iterable[LM], *, keys: bool) -> None:
    """Look for the LMs' keys and servers.

    Args:
        lms: which; one with fallbacks may be away.
        keys: look for keys too. Not for a node that was started before: its environment is another one.

    Raises:
        ConfigError: a key is not set, or nobody answers; says what to do.
    """
    for lm in lms:
        if lm.fallbacks:
            continue
        if keys and lm.key_required and lm.key_reference is not None:
            try:
                resolve(lm.key_reference)
            except AuthError as error:
                name = variable(lm.key_reference)
                what = error.message.replace(" on this node", "")
                raise ConfigError(f"{what}; {lm.model} needs it: export {name}=..., or --api-key env:OTHER") from None
        if lm.server is not None:
            check_server(lm)


def check_server(lm: LM) -> None:
    """Connect to an LM's server; over plain HTTP also see whether it speaks it, and is no web site.

    Raises:
        ConfigError: it cannot be reached, or is something else.
    """
    url = str(lm.server)
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    hint = "is base_url right, and the server up?" if lm.base_url else "is this host online?"
    try:
        connection = socket.create_connection((parts.hostname, port), CONNECT_SECONDS)
    except socket.gaierror:
        raise ConfigError(f"{lm.model}: no host {parts.hostname!r} is known, in base_url {url}: {hint}") from None
    except TimeoutError:
        raise ConfigError(f"{lm.model}: {url} does not answer within {CONNECT_SECONDS:g} s: {hint}") from None
    except OSError as error:
        raise ConfigError(f"{lm.model}: nothing answers at {url} ({error.strerror or error}): {hint}") from None
    with connection:
        if parts.scheme == "http":
            _check_answer(lm, connection, f"{parts.hostname}:{port}", parts.path)


def _check_answer(lm: LM, connection: socket.socket, host: str, path: str) -> None:
    connection.settimeout(ANSWER_SECONDS)
    request = f"GET {path or '/'} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    head = b""
    try:
        connection.sendall(request.encode())
        while b"\r\n\r\n" not in head and len(head) < 16_384 and (piece := connection.recv(4096)):
            head += piece
    except OSError:
        # Slow, or it hangs up on questions that it does not know: the run itself will tell.
        if not head:
            return
    lines = head.split(b"\r\n\r\n")[0].decode("latin-1").lower().split("\r\n")
    if head and not lines[0].startswith("http/"):
        raise ConfigError(f"{lm.model}: {lm.server} answers with something that is not HTTP: is base_url right?")
    status = lines[0].split()[1:2]
    html = any(line.startswith("content-type:") and "text/html" in line for line in lines)
    if status == ["200"] and html:
        raise ConfigError(f"{lm.model}: {lm.server} is a web site (it answers with HTML), no LM server: is base_url right?")


def hopeless(reader: JournalReader, summary: dict[str, Any]) -> str | None:
    """Return why a run is no use, in one line; None while there is hope.

    It is none when nothing has succeeded and all that has failed did so for a reason that more examples will not
    cure: a key, a setting, a metric or program that cannot work.
    """
    if summary["state"] != "running" or summary["succeeded"] or not summary["failed"]:
        return None
    rows = reader.results(summary["run_id"], 0, _LOOK, failed_only=True)
    errors = [row.error for row in rows if row.error is not None]
    if not errors or not all(_will_not_pass(error) for error in errors):
        return None
    return " ".join(str(errors[0].get("message") or errors[0].get("type")).split())


def _will_not_pass(error: dict[str, Any]) -> bool:
    if error.get("type") in HOPELESS:
        return True
    # A page that is not there, a certificate that is not acceptable, an answer in no known form: not the example's fault.
    if error.get("retryable") is not False:
        return False
    return error.get("type") == "Overloaded" or error.get("status") == 404


class HopelessRun(ConfigError):
    """The run was ended because it is no use."""


def watch(system: Any, then: Callable[[dict[str, Any]], None] | None = None) -> Callable[[dict[str, Any]], None]:
    """Return a callback for a run's progress that ends the run when it is no use.

    Args:
        system: the connection.
        then: called with each summary too.
    """

    def look(summary: dict[str, Any]) -> None:
        if then is not None:
            then(summary)
        why = hopeless(system.journal, summary)
        if why is not None:
            system.cancel(summary["run_id"], why)
            raise HopelessRun(
                f"{why} (the first {summary['failed']:,} examples all failed so; the run {summary['run_id']} was ended: "
                "mend that and start another, or --keep-going)"
            )

    return look
