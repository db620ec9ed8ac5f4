"""What can be found out before a run costs anything.

A missing key, a server that is not there, a broken line: each would make a run fail in its middle, or 100,000 examples
one after the other. What only the first answers tell (a key that is refused), `runs.plan.hopeless` ends a run for.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import click

from dspex_actors.data.dataset import Dataset
from dspex_actors.errors import AuthError, ConfigError
from dspex_actors.lm.address import is_loopback, origin
from dspex_actors.lm.deployment import Deployment
from dspex_actors.lm.keys import resolve, variable
from dspex_actors.lm.lm import LM
from dspex_actors.metrics import FieldMetric
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.predict import Predict

#: So long, in seconds, a dataset is read through before the run: a broken line is better found before 7,000 calls.
LOOK_SECONDS = 2.0
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 2.0


def check_data(dataset: Dataset, program: Any, metric: Any) -> None:
    """Read through the beginning of a dataset, and see whether it and the program have what the metric compares.

    Raises:
        ConfigError: a line is not usable, or a field is missing.
    """
    until = time.monotonic() + LOOK_SECONDS
    for place, row in enumerate(dataset):
        if place == 0 and isinstance(metric, FieldMetric):
            _check_fields(metric, row, program)
        if time.monotonic() > until:
            return


def _check_fields(metric: FieldMetric, row: Any, program: Any) -> None:
    predictor = program.predict if type(program) is ChainOfThought else program
    outputs = list(predictor.signature.output_fields) if isinstance(predictor, Predict) else None
    for name in metric.fields:
        if name not in row:
            known = ", ".join(row)
            raise ConfigError(f"metric {metric!r}: the dataset has no field {name!r}; its first example has {known}")
        if outputs is not None and name not in outputs:
            raise ConfigError(f"metric {metric!r}: the program has no output {name!r}; it has {', '.join(outputs)}")


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
        if keys and lm.key_reference is not None:
            try:
                resolve(lm.key_reference)
            except AuthError as error:
                name = variable(lm.key_reference)
                if os.environ.get(name, "").strip():
                    raise ConfigError(error.message) from None
                raise ConfigError(
                    f"{lm.model} needs an API key, and the variable {name} is not set: export {name}=..., "
                    "or name another one with --api-key env:OTHER"
                ) from None
        elif keys and lm.server is not None and (told := keyless(lm)):
            click.echo(told, err=True)
        if lm.server is not None:
            check_server(lm)


def keyless(lm: LM) -> str | None:
    """Say that a server is sent no key though the provider's usual one is set; None: there is nothing to say.

    A server of this machine needs none, as a rule.
    """
    deployment = Deployment(lm.provider, lm.model_name, lm.base_url, lm.api_key)
    if not os.environ.get(deployment.withheld_key or "") or is_loopback(str(lm.server)):
        return None
    return f"{lm.model} at {origin(str(lm.server))}: {deployment.why_no_key} or --api-key"


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
        raise ConfigError(
            f"{lm.model}: {lm.server} is a web site (it answers with HTML), no LM server: is base_url right?"
        )
