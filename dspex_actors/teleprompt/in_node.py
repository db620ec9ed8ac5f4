"""Carrying an optimisation out in the node: its optimiser's `compile`, with what the journal has of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from dspex_actors.client.system import System, use
from dspex_actors.errors import ConfigError
from dspex_actors.foundation.home import HOME
from dspex_actors.journal.opening import open_reader
from dspex_actors.runs.identity.source import trust_code_alone
from dspex_actors.runs.keeper.workflows import FORCED_AT
from dspex_actors.runs.snapshot import open_settings
from dspex_actors.runs.spec import load_code
from dspex_actors.settings import check_settings, inside
from dspex_actors.teleprompt.book import Book, carried_for, ended_as, seconds_of
from dspex_actors.teleprompt.endings import Away
from dspex_actors.teleprompt.limits import Limits
from dspex_actors.teleprompt.mipro.code import known_code
from dspex_actors.teleprompt.steps import Candidate
from dspex_actors.workflow.durable import ask
from supervisors import Node


class Work:
    """One optimisation, opened; `run` carries it out.

    Args:
        data_dir: the node's folder.
        run_id: of the optimisation.
        holder: the process that this is, for the journal.

    Raises:
        ConfigError: there is none, it is being carried out elsewhere, or its code cannot be opened here.
    """

    def __init__(self, data_dir: str, run_id: str, holder: dict[str, Any]) -> None:
        """Open it."""
        trust_code_alone()
        row = open_reader(Path(data_dir)).get_run(run_id)
        if row is None or not row.spec.program:
            raise ConfigError(
                f"optimisation {run_id} is not the node's: the program that began with it goes on with it"
            )
        try:
            self._given: dict[str, Any] = load_code(row.spec.program)
        except Exception as error:
            raise ConfigError(f"its code cannot be opened here: {type(error).__name__}: {error}") from None
        self._values = open_settings(row.spec.settings.get("context"))
        check_settings(self._values)
        self._settings = row.spec.settings
        self._system = use(System(Node.attach(Path(data_dir), HOME), self._given["lm"], own=False))
        epoch = ask(self._system, run_id, "reopen", run_id, holder)
        limits = Limits.from_settings(row.spec.settings)
        was = seconds_of(self._system, run_id)
        self._book = Book(self._system, run_id, epoch, limits, row.spec.labels, was)
        self._book.forced_at = self._settings.get(FORCED_AT)

    def run(self) -> None:
        """Carry it out, and write down how it ended."""
        book = self._book
        try:
            code = known_code(self._given.get("code") or {})
            with inside({**self._values, "lm": self._given["lm"]}), carried_for(book), code:
                program = self._compile()
                if not book.has_told:  # nothing was compared: what came of it is what there is to see
                    book.tell("0", Candidate("result", program, None))
                book.keep_result(program)
        except Away:
            book.end("running", None)  # nobody has decided anything: another server goes on with it
        except BaseException as error:
            book.end(*ended_as(error))
            if not isinstance(error, Exception):
                raise
        else:
            book.end("finished", None)
        finally:
            with contextlib.suppress(Exception):
                self._system.close()

    def _compile(self) -> Any:
        given, options = self._given, {}
        if given["valset"] is not None:
            options["valset"] = given["valset"]
        book = self._book
        return given["optimizer"].compile(
            given["student"],
            trainset=given["trainset"],
            **options,
            **given["options"],
            system=self._system,
            run_id=book.run_id,
            max_in_flight=self._settings.get("max_in_flight"),
            display_progress=False,
            budget=book.limits.usd,
            unknown_price=book.limits.unknown_price,
            tags=book.tags,
        )

    def stop(self, why: str) -> None:
        """Have it pause."""
        self._book.stop(why)

    def at_once(self, count: int) -> None:
        """Have so many of its runs under way at a time."""
        self._book.at_once = count
