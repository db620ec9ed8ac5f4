"""Whether a run that is there is the one that is asked for, and what is another one. Pure."""

from __future__ import annotations

from dspex_actors.errors import ConfigError
from dspex_actors.journal.records import RunRow, RunSpec

#: So many changed parts are named.
NAMED = 4
#: Parts by their name in `RunSpec.identity` → the field that has their digest.
_DIGESTS = {
    "program": "program_digest",
    "dataset": "dataset_digest",
    "metric": "metric_digest",
    "LM": "lm_digest",
    "settings": "options_digest",
}
#: Parts that a run of before they were known is not compared by.
_LATER = frozenset({"LM", "settings"})
_WAY = "way"
_ONLY_FORCED = "it goes on only if that is meant (`--force-resume`, or force_resume=True)"
#: The kind of runs whose steps are carried out by the program that started them, and what the parts of one are called.
WORKFLOW = "workflow"
#: The kind of runs that are made of other runs; its steps are the candidates.
OPTIMISE = "optimise"
#: Kinds that somebody carries out who is not an evaluator, and holds meanwhile.
HELD = frozenset({WORKFLOW, OPTIMISE})
#: Of the settings of an optimisation's run: the node carries it out, and not the program that began with it.
IN_NODE = "in_node"
_CALLED = {WORKFLOW: {"program": "steps", "dataset": "data"}}


def check_same(there: RunSpec, asked: RunSpec, *, force: bool = False) -> None:
    """Refuse to go on with a run as another one.

    Args:
        there: the run.
        asked: what is to go on under its id.
        force: its user knows that it is another one; only a run of another kind is refused.

    Raises:
        ConfigError: it names the parts that are others, and what of them.
    """
    if there.kind != asked.kind:
        raise ConfigError(f"run {asked.run_id} is there already and of another kind: {there.kind}, not {asked.kind}")
    other = [] if force else differences(there, asked)
    if other:
        several = ("settings", "steps", "data")
        parts = " and ".join(f"{'other' if part.split()[0] in several else 'another'} {part}" for part in other)
        force_it = " (`--force-resume`, or force_resume=True, says that the difference does not matter)"
        raise ConfigError(
            f"run {asked.run_id} is there already with {parts}: "
            "continue it with what it was started with, or choose another run id"
            f"{'' if asked.kind == WORKFLOW else force_it}"
        )


def check_goes_on(row: RunRow, *, force: bool = False) -> None:
    """Refuse to go on with a run that was ended for good.

    Raises:
        ConfigError: it was cancelled, and its user does not say that it goes on all the same.
    """
    if row.state == "cancelled" and not force:
        raise ConfigError(
            f"run {row.run_id} was cancelled ({row.reason}): "
            + ("choose another run id" if row.spec.kind == WORKFLOW else _ONLY_FORCED)
        )


def is_nodes_own(spec: RunSpec) -> bool:
    """Whether a run is an optimisation that a node carries out: another one may go on with it."""
    return spec.kind == OPTIMISE and bool(spec.settings.get(IN_NODE))


def differences(there: RunSpec, asked: RunSpec) -> list[str]:
    """Return the names of the parts that differ, with what of each is another one where that is known."""
    return [
        f"{_CALLED.get(asked.kind, {}).get(part, part)}{_what(there, asked, part)}"
        for part, field in _DIGESTS.items()
        if _compares(there, asked, part) and getattr(there, field) != getattr(asked, field)
    ]


def _compares(there: RunSpec, asked: RunSpec, part: str) -> bool:
    """Whether the digests of a part are made the same way."""
    if part == "dataset":
        return True
    if part in _LATER and None in (there.lm_digest, asked.lm_digest):
        return False
    return _way(there) == _way(asked)


def _way(spec: RunSpec) -> dict[str, str] | None:
    return None if spec.identity is None else spec.identity.get(_WAY)


def _what(there: RunSpec, asked: RunSpec, part: str) -> str:
    if there.identity is None or asked.identity is None:
        return ""
    old, new = there.identity.get(part, {}), asked.identity.get(part, {})
    kinds = [spec.settings.get("optimizer") for spec in (there, asked)]
    if part == "settings" and kinds[0] != kinds[1] and None not in kinds:  # all of its settings are others, too
        return f" (optimizer was {kinds[0]} and is {kinds[1]})"
    changed = [_change(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]
    named = [text for text in changed if text]
    more = len(named) - NAMED
    return f" ({'; '.join(named[:NAMED])}{f'; and {more} more' if more > 0 else ''})" if named else ""


def _change(name: str, old: str | None, new: str | None) -> str:
    if old == new:
        return ""
    if old is None:
        return f"{name} is new"
    if new is None:
        return f"{name} is gone"
    if old.startswith("#") or new.startswith("#"):
        return f"{name} has changed"
    return f"{name} was {old} and is {new}"
