"""AdaptiveOptimizer: takes the optimiser that suits the program and its data, and says why.

better = dspex.AdaptiveOptimizer(metric=dspex.metrics.exact_match("team")).compile(triage, trainset=trainset)
better.strategy.why
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Any, Unpack

from dspex_actors.client.system import System, current_system
from dspex_actors.errors import ConfigError, RunFailed
from dspex_actors.example import Example
from dspex_actors.foundation.home import default_data_dir
from dspex_actors.journal.index import find_run
from dspex_actors.journal.reader import JournalReader
from dspex_actors.journal.sameness import OPTIMISE
from dspex_actors.programs.module import Module
from dspex_actors.runs.identity.parts import program_identity
from dspex_actors.runs.optimisations import FIGURES, Found, best_of, figures_in
from dspex_actors.teleprompt.adaptive import LEAST, OTHERWISE, Choice, Facts, Past, choose, takes_feedback
from dspex_actors.teleprompt.book import carried_id, checked_id
from dspex_actors.teleprompt.limits import Limits
from dspex_actors.teleprompt.made_of import PLAIN, told_as
from dspex_actors.teleprompt.optimizer import Optimizer, Options, Program
from dspex_actors.teleprompt.registry import OPTIMIZERS, make_optimizer, name_of
from dspex_actors.teleprompt.steps import Candidate, Steps

#: So many earlier optimisations are looked at, the newest.
MOST_PAST = 200
#: How the line begins that says what was chosen, and what stands before the reason.
_STRATEGY, _WHY = "strategy ", ", for "
_log = logging.getLogger(__name__)


class AdaptiveOptimizer(Optimizer):
    """Choose among the other optimisers, by what there is to optimise and what earlier optimisations have gained.

    What decides: how many predictors the program has, how many examples there are, whether the metric gives feedback,
    and which optimiser has gained most for the same program, by the node's journal. If what was chosen fails, COPRO
    follows. An optimisation that goes on keeps its choice, which is the first thing that it writes down: what has been
    optimised since, and a larger budget, do not count.

    Args:
        metric: `metric(example, prediction, trace=None)`.
        strategies: the names of those to choose from: gepa, distributed_bootstrap, mipro, random_search, bootstrap,
            copro. None: all of them.
        settings: name → arguments of that optimiser, as `{"mipro": {"auto": "medium"}}`.

    Raises:
        ConfigError: there is no such optimiser, or it has no such setting.
    """

    def __init__(
        self,
        metric: Callable[..., Any] | None = None,
        strategies: Collection[str] | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Check the settings."""
        known = [name for name in LEAST if name in OPTIMIZERS]
        if strategies is not None and (isinstance(strategies, str | Mapping) or not isinstance(strategies, Collection)):
            raise ConfigError(f"strategies is invalid: got {strategies!r:.80}, expected a list of names")
        if strategies is not None and not strategies:
            raise ConfigError("strategies is invalid: got none, expected a list of names, or None for all of them")
        if settings is not None and not (
            isinstance(settings, Mapping) and all(isinstance(one, Mapping) for one in settings.values())
        ):
            raise ConfigError(
                f"settings is invalid: got {settings!r:.80}, expected settings by the optimiser's name, such as "
                "{'mipro': {'auto': 'medium'}}"
            )
        unknown = [name for name in [*(strategies or ()), *(settings or {})] if name not in known]
        if unknown:
            raise ConfigError(f"there is no strategy {unknown[0]!r:.80}: there are {', '.join(known)}")
        self.metric = metric
        self.strategies = ", ".join(known if strategies is None else strategies)
        self._settings = {name: dict(one) for name, one in (settings or {}).items()}
        if metric is not None:
            for name in self._settings:
                self._made(name)  # refuses what is not legal

    def settings(self) -> dict[str, Any]:
        """Return its settings that are plain data."""
        told = told_as("settings", self._settings)
        return {"strategies": self.strategies} | {name: one for name, one in told.items() if isinstance(one, PLAIN)}

    def lms(self) -> list[Any]:
        """Return the LMs that the optimisers ask of which it has settings."""
        return [lm for name in self._settings for lm in self._made(name).lms()]

    def _made(self, name: str) -> Optimizer:
        return make_optimizer(name, self.metric, self._settings.get(name))

    def compile(self, student: Program, *, trainset: Any, valset: Any = None, **options: Unpack[Options]) -> Program:
        """Return a better program; the program itself stays as it is.

        Args:
            student: the program, not optimised before.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV.
            valset: what candidates are scored on, where the optimiser that is chosen takes one.
            **options: see `Options`.

        Returns:
            The program, with `strategy`: what was chosen, and why.

        Raises:
            ConfigError: program, trainset or valset are not usable, or nothing is connected.
            RunFailed: neither the optimiser that was chosen nor COPRO could do anything.
            RunInterrupted, BudgetExceeded: as of `Optimizer.carry`.
        """
        examples = self.examples(student, trainset)
        scored_on = None if valset is None else self.examples(student, valset, "valset")
        system = options.get("system") or current_system()
        run_id = options["run_id"] = carried_id() or checked_id(options.get("run_id"))
        choice = self._choose(student, examples, system, run_id, options)
        _log.info("%s: %s, for %s (%s)", self.name, choice.strategy, choice.why, run_id)
        steps = self.steps(student, examples, scored_on, choice)
        return self.carry(steps, student, examples, options, valset=scored_on or ())

    def _choose(
        self, student: Module, examples: list[Example], system: System, run_id: str, options: Options
    ) -> Choice:
        kept = _kept(_journal_of(system, run_id), run_id)
        if kept is not None:
            return kept
        facts = Facts(
            predictors=len(student.predictors()),
            examples=len(examples),
            nodes=len([node for node in system.nodes() if node.state == "alive"]) or 1,
            has_feedback=self.metric is not None and takes_feedback(self.metric),
            budget=Limits.of(options.get("budget"), options.get("unknown_price", "refuse")).usd,
        )
        return choose(facts, _past(system, student, run_id), self.strategies.split(", "))

    def steps(
        self, student: Program, examples: list[Example], scored_on: list[Example] | None, choice: Choice
    ) -> Generator[Any, Any, Program]:
        """Yield the steps of what was chosen; where that fails, COPRO's.

        Args:
            student: the program.
            examples: the trainset.
            scored_on: the valset, if there is one.
            choice: what was chosen.
        """
        yield _told(choice, student)
        try:
            program: Program = yield from self._planned(choice.strategy, student, examples, scored_on)
        except RunFailed as error:
            if choice.strategy == OTHERWISE:
                raise
            _log.warning("%s: %s failed (%s), %s follows", self.name, choice.strategy, error.message, OTHERWISE)
            choice = Choice(OTHERWISE, f"{choice.strategy} failed: {error.message}")
            yield _told(choice, student)
            program = yield from self._planned(OTHERWISE, student, examples, scored_on)
        program.strategy = choice  # type: ignore[attr-defined]
        return program

    def _planned(self, name: str, student: Module, examples: list[Example], scored_on: list[Example] | None) -> Steps:
        optimizer = self._made(name)
        takes = inspect.signature(optimizer.compile).parameters
        given: dict[str, Any] = {"valset": scored_on} if scored_on is not None and "valset" in takes else {}
        return optimizer.planned(student, trainset=examples, **given)


def _told(choice: Choice, student: Module) -> Candidate:
    """Return a choice as what is seen of it: a line among the candidates."""
    return Candidate(f"{_STRATEGY}{choice.strategy}{_WHY}{choice.why}", student, None, whole=False)


def _journal_of(system: System, run_id: str) -> JournalReader:
    """Return the journal that has a run, an earlier one too; that of the system if none has."""
    if system.journal.get_run(run_id) is None:
        with contextlib.suppress(ConfigError):
            return find_run(run_id, default_data_dir()).reader
    return system.journal


def _kept(journal: JournalReader, run_id: str) -> Choice | None:
    """Return what an optimisation has chosen when it began; None: it has not chosen yet."""
    for one in figures_in(journal.steps(run_id, most=FIGURES))[0]:
        strategy, told, why = one.name.removeprefix(_STRATEGY).partition(_WHY)
        if one.name.startswith(_STRATEGY) and told:
            return Choice(strategy, why)
    return None


def _strategy_of(optimizer: str, candidates: Sequence[Found]) -> str | None:
    """Return what an optimisation did, by name."""
    told = [one.name for one in candidates if one.name.startswith(_STRATEGY)]
    return told[-1].removeprefix(_STRATEGY).partition(",")[0] if told else name_of(optimizer)


def _past(system: System, student: Module, run_id: str) -> list[Past]:
    """Return earlier optimisations of a program, as the journal has them."""
    journal = system.journal
    mine = journal.get_run(run_id)
    # Its own run says what the program is: where it was sent to, code is told in another way.
    digest = program_identity(student).digest if mine is None else mine.spec.program_digest
    found = []
    for row in journal.list_runs(state="finished", kind=OPTIMISE):
        if row.spec.program_digest != digest:
            continue
        if row.run_id == run_id or (mine is not None and row.created_at >= mine.created_at):
            continue
        told = figures_in(journal.steps(row.run_id, most=FIGURES))[0]
        strategy = _strategy_of(str(row.spec.settings.get("optimizer")), told)
        candidates = [one for one in told if one.whole and one.score is not None]
        best = best_of(candidates)
        if strategy is not None and best is not None and best.score is not None and candidates[0].score is not None:
            found.append(Past(strategy, best.score - candidates[0].score, row.cost))
        if len(found) == MOST_PAST:
            break
    return found
