"""What the node is given to carry an optimisation out: checked where it is begun with, before anything is paid."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from dspex_actors.errors import ConfigError
from dspex_actors.journal.records import RunSpec
from dspex_actors.teleprompt.book import checked_id, spec_of
from dspex_actors.teleprompt.given import own_arguments
from dspex_actors.teleprompt.limits import Limits
from dspex_actors.teleprompt.mipro.code import sources_of
from dspex_actors.teleprompt.optimizer import Optimizer, Options
from dspex_actors.teleprompt.taken import check_as_it_runs, check_valset_taken


class Plan(NamedTuple):
    """An optimisation that can begin.

    Args:
        spec: its run, without code.
        settings: of the run.
        given: what its optimiser is called with.
        lms: that its optimiser asks beside the program's.
    """

    spec: RunSpec
    settings: dict[str, Any]
    given: dict[str, Any]
    lms: list[Any]


def plan(
    optimizer: Any,
    student: Any,
    trainset: Any,
    valset: Any,
    budget: Any,
    run_id: str | None,
    lm: Any,
    options: Mapping[str, Any],
    unknown_price: str = "refuse",
) -> Plan:
    """Check what an optimisation is made of.

    Raises:
        ConfigError: something of it is not usable; says what.
    """
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"optimizer is invalid: got {optimizer!r:.80}, expected one such as dspex.COPRO(metric=...)")
    there = inspect.signature(optimizer.compile).parameters
    if "trainset" not in there:
        check_as_it_runs(type(optimizer), student)
        raise ConfigError(f"{optimizer.name} makes no runs that a node could carry out: call its compile")
    own = set(there) - {"student", "trainset", "valset"} - set(Options.__annotations__)
    unknown = sorted(set(options) - own)
    if unknown:
        raise ConfigError(f"{optimizer.name}.compile has no argument {unknown[0]}: there are {', '.join(sorted(own))}")
    check_valset_taken(type(optimizer), valset)
    limits = Limits.of(budget, unknown_price)
    examples = optimizer.examples(student, trainset)
    scored_on = None if valset is None else optimizer.examples(student, valset, "valset")
    optimizer.check(student, trainset=examples, **({} if scored_on is None else {"valset": scored_on}), **options)
    expected = optimizer.expected(student, len(examples), None if scored_on is None else len(scored_on), **options)
    in_all = optimizer.expected_examples(student, len(examples), None if scored_on is None else len(scored_on))
    more = {"expected": expected, "expected_examples": in_all, **limits.to_settings()}
    arguments = own_arguments(optimizer.compile, options)
    spec = spec_of(optimizer, student, examples, lm, checked_id(run_id), more, valset=scored_on, arguments=arguments)
    given = {
        "optimizer": optimizer,
        "student": student,
        "trainset": examples,
        "valset": scored_on,
        "options": dict(options),
        # Classes that are sent have no source where they arrive, and some optimisers show it to an LM.
        "code": sources_of(student),
    }
    return Plan(spec, spec.settings, given, optimizer.lms())
