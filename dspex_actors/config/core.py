"""What holds: the layers, what was updated above them, and the versions. Pure; who keeps and tells it is actor.py."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dspex_actors.config.checking import checked
from dspex_actors.config.layers import DEFAULT, UPDATE, Layer
from dspex_actors.config.paths import Path, flat, guess, is_below, joined, nested, parse, sections, settings, shown
from dspex_actors.errors import ConfigError

#: So many changes are remembered for those who were away.
KEPT_CHANGES = 1000
_NOTHING = object()


class Updated(NamedTuple):
    """A value that was set by `update`."""

    value: Any
    version: int
    at: float


class Change(NamedTuple):
    """A setting got another value."""

    path: Path
    value: Any
    old: Any
    version: int


class Configuration:
    """The configuration of a node.

    Args:
        layers: file, environment and command line, lowest first.
    """

    def __init__(self, layers: Iterable[Layer] = ()) -> None:
        """Begin without updates."""
        self.layers = list(layers)
        self.updates: dict[Path, Updated] = {}
        self.version = 0
        self.changes: deque[Change] = deque(maxlen=KEPT_CHANGES)

    # --- reading ----------------------------------------------------------------------------------------------------

    @property
    def lms(self) -> list[str]:
        """The names of LMs that there are."""
        return list(dict.fromkeys(path[1] for path in self.said() if path[0] == "lm"))

    def path(self, text: Any) -> Path:
        """Return the path that a text means.

        Raises:
            ConfigError: there is nothing; names the nearest one.
        """
        return parse(text, self.lms)

    def said(self) -> dict[Path, Any]:
        """Return what layers and updates say."""
        values: dict[Path, Any] = {}
        for layer in self.layers:
            values.update(layer.values)
        values.update({path: each.value for path, each in self.updates.items()})
        return values

    def in_force(self) -> dict[Path, Any]:
        """Return what holds."""
        return {**{path: each.default for path, each in settings().items()}, **self.said()}

    def get(self, text: Any) -> Any:
        """Return what holds at a path: a setting's value, or a section's as nested tables.

        Raises:
            ConfigError: nothing stands there.
        """
        path = self.path(text)
        values = self.in_force()
        if path in values:
            return values[path]
        below = {each[len(path) :]: value for each, value in values.items() if is_below(each, path)}
        if not below and path not in sections():
            raise self._absent(path)
        return nested(below)

    def _absent(self, path: Path) -> ConfigError:
        known = [joined(each) for each in self.in_force() if each[0] == "lm"] + [f"lm.{name}" for name in self.lms]
        return ConfigError(f"nothing is set at {joined(path)!r:.100}{guess(joined(path), known)}")

    def explain(self, text: Any) -> list[dict[str, Any]]:
        """Return for the setting at a path, or each one below it, what there is to know; see handle.py.

        Raises:
            ConfigError: nothing stands there.
        """
        path = self.path(text)
        found = [self._explained(each) for each in self.in_force() if is_below(each, path)]
        if not found and path not in sections():
            raise self._absent(path)
        return found

    def _explained(self, path: Path) -> dict[str, Any]:
        known = settings().get(path)
        layers = [] if known is None else [{"layer": DEFAULT, "value": known.default, "where": ""}]
        layers += [
            {"layer": layer.name, "value": layer.values[path], "where": layer.where.get(path, "")}
            for layer in self.layers
            if path in layer.values
        ]
        updated = self.updates.get(path)
        if updated is not None:
            layers.append({"layer": UPDATE, "value": updated.value, "where": f"version {updated.version}"})
        return {
            "path": joined(path),
            **layers[-1],
            "updated_at": None if updated is None else updated.at,
            "description": known.description if known else "a setting of dspex.LM",
            "unit": known.unit if known else None,
            "bounds": known.bounds if known else "what dspex.LM takes",
            "layers": layers,
        }

    # --- changing ---------------------------------------------------------------------------------------------------

    def updated(self, text: Any, value: Any, at: float) -> Configuration:
        """Return the configuration with another value; the same one if that was set already.

        Args:
            text: path of a setting, or of a section.
            value: what is to hold; a section's as nested tables.
            at: when, wall-clock seconds.

        Raises:
            ConfigError: it is refused, as a whole; says what is legal.
        """
        path = self.path(text)
        given = self._given(path, value)
        for each in given:
            if each in settings() and settings()[each].fixed:
                raise ConfigError(
                    f"{joined(each)} is read when the node starts: set it in dspex.toml and start the node anew"
                )
        legal = checked({**self.said(), **given})
        fresh = {each: legal[each] for each in given}
        if all(each in self.updates and _same(self.updates[each].value, new) for each, new in fresh.items()):
            return self
        version = self.version + 1
        updates = {**self.updates, **{each: Updated(new, version, at) for each, new in fresh.items()}}
        return self._with(updates, version)

    def _given(self, path: Path, value: Any) -> dict[Path, Any]:
        if isinstance(value, Mapping) and path not in settings() and not (path[:1] == ("lm",) and len(path) > 2):
            given = flat(nested({path: dict(value)}) if path else dict(value))
        elif path in sections() or (path[:1] == ("lm",) and len(path) < 3):
            raise ConfigError(f"{joined(path) or 'the configuration'} is a table, got {shown(value)}")
        elif isinstance(value, Mapping) and path[2:] == ("params",):
            given = {(*path, str(name)): each for name, each in value.items()}
        else:
            given = {path: value}
        if not given:
            raise ConfigError(f"{joined(path) or 'the configuration'}: nothing is given that could be set")
        return given

    def reset(self, text: Any) -> Configuration:
        """Return the configuration without what was updated at or below a path; the same one if nothing was.

        Raises:
            ConfigError: there is no such path, or without it the rest is not legal.
        """
        path = self.path(text)
        left = {each: updated for each, updated in self.updates.items() if not is_below(each, path)}
        if len(left) == len(self.updates):
            return self
        new = self._with(left, self.version + 1)
        checked(new.said())
        return new

    def over(self, layers: Iterable[Layer]) -> Configuration:
        """Return the configuration over other layers; an update that is not legal there is dropped."""
        new = Configuration(layers)
        new.changes.extend(self.changes)
        new.version = self.version
        for path, updated in self.updates.items():
            try:
                checked({**new.said(), path: updated.value})
            except ConfigError:
                continue
            new.updates[path] = updated
        return new

    def _with(self, updates: dict[Path, Updated], version: int) -> Configuration:
        new = Configuration(self.layers)
        new.updates, new.version = updates, version
        new.changes.extend(self.changes)
        before, after = self.in_force(), new.in_force()
        for path in dict.fromkeys([*before, *after]):
            old, value = before.get(path, _NOTHING), after.get(path, _NOTHING)
            if not _same(old, value):
                plain_old, plain = (None if each is _NOTHING else each for each in (old, value))
                new.changes.append(Change(path, plain, plain_old, version))
        return new

    # --- telling ----------------------------------------------------------------------------------------------------

    def since(self, version: int, prefix: Path = ()) -> list[Change]:
        """Return the changes at or below a path after a version, oldest first, as far as they are remembered."""
        return [each for each in self.changes if each.version > version and is_below(each.path, prefix)]

    def to_be_told(self, prefix: Path) -> list[Change]:
        """Return what somebody who knows the defaults only has to be told: what differs, or did so a while ago."""
        values = self.in_force()
        changed = {each.path for each in self.changes}
        told = []
        for path, value in values.items():
            default = settings()[path].default if path in settings() else None
            if is_below(path, prefix) and (path in changed or not _same(value, default)):
                told.append(Change(path, value, default, self.version))
        return told

    # --- as plain data ----------------------------------------------------------------------------------------------

    def to_state(self) -> dict[str, Any]:
        """Return what was updated, as JSON data."""
        return {
            "format": 1,
            "version": self.version,
            "updates": [[list(path), *updated] for path, updated in self.updates.items()],
            "changes": [[list(change.path), *change[1:]] for change in self.changes],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over `to_state`'s data."""
        self.version = int(state["version"])
        self.updates = {tuple(path): Updated(*rest) for path, *rest in state["updates"]}
        self.changes.extend(Change(tuple(path), *rest) for path, *rest in state["changes"])


def only(rows: list[dict[str, Any]], path: str) -> dict[str, Any]:
    """Return the one setting that `explain` has found.

    Raises:
        ConfigError: the path is a table's.
    """
    if len(rows) == 1 and path.rpartition(".")[2].strip('"') == rows[0]["path"].rpartition(".")[2].strip('"'):
        return rows[0]
    such = f": explain one of its settings, such as {rows[0]['path']!r}" if rows else ", and an empty one"
    raise ConfigError(f"{path or 'the whole'} is a table{such}")


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other
