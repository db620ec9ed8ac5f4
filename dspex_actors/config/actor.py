"""The configuration actor of a node: keeps what was updated, and tells who follows it.

One message after the other: of two updates at the same time one comes first. An update is checked together with all
that holds, is written to `config.json` in the node's folder, and only then holds and is told; so a restart of this
actor, or of the node, keeps it. What it takes stands in `messages`, and `Follow` of `foundation.following`.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from dspex_actors.config.core import Configuration
from dspex_actors.config.kept import kept_updates
from dspex_actors.config.layers import Layer, read_layers
from dspex_actors.config.messages import Changes, Explain, Get, Reset, Update
from dspex_actors.config.paths import Path as SettingPath
from dspex_actors.config.paths import is_below, joined, parse
from dspex_actors.config.started import UPDATES_FILE, read_started
from dspex_actors.errors import ConfigError, DspexError
from dspex_actors.foundation.files import replaced
from dspex_actors.foundation.following import CONFIG, ConfigChanged, Follow, followers
from supervisors import NO_REPLY, Caller, ChildSpec, GenServer

#: What the file and the variables said when the node was started, in the folder of what runs.
LAYERS_FILE = "config_layers.json"


def config_spec() -> ChildSpec:
    """Return the configuration actor as a child."""
    return ChildSpec(CONFIG, ConfigActor, name=CONFIG, shutdown=5.0)


class ConfigActor(GenServer):
    """Keeps the configuration of a node."""

    def init(self) -> None:
        """Read the layers and what was updated; where that is not possible every question is answered by why."""
        self._data_dir = Path(self.node["data_dir"])
        self._waiting: dict[Caller, tuple[SettingPath, int]] = {}
        self._config = Configuration()
        self._trouble: ConfigError | None = None
        self._load()
        self.continue_with("tell")

    def handle_continue(self, value: Any) -> None:
        """Tell those who follow what differs from the defaults: they may not have heard of it."""
        for follower in followers(self._data_dir):
            self._tell_all(follower)

    def handle_call(self, request: Any, caller: Caller) -> Any:
        """Answer one request; an error of ours travels as its record."""
        if request == "health":
            return {"ok": self._trouble is None, "why": self._trouble and self._trouble.message}
        try:
            if self._trouble is not None:
                self._load()
            if self._trouble is not None:
                raise self._trouble
            if isinstance(request, Changes):
                return self._changes(request, caller)
            return "ok", self._answer(request)
        except DspexError as error:
            return "error", error.to_record()
        except Exception as error:
            self.log.exception("a request failed")  # its sender's trouble: what holds stays
            what = f"the configuration could not answer: {type(error).__name__}; see `dspex logs`"
            return "error", ConfigError(what).to_record()

    def _answer(self, request: Any) -> Any:
        match request:
            case Get(path):
                return self._config.get(path)
            case Explain(path):
                return self._config.explain(path)
            case Update(path, value):
                return self._take(self._config.updated(path, value, time.time()))
            case Reset(path):
                return self._take(self._config.reset(path))
        raise ConfigError(f"the configuration does not know the request {type(request).__name__}")

    def handle_cast(self, message: Any) -> None:
        """Tell somebody new what differs from the defaults."""
        match message:
            case Follow():
                self._tell_all(message)
            case _:
                self.log.error("the configuration does not know a message", message=type(message).__name__)

    # --- changing ---------------------------------------------------------------------------------------------------

    def _take(self, new: Configuration) -> int:
        """Let another configuration hold, once it is written; return its version."""
        if new is not self._config:
            self._write(self._data_dir / UPDATES_FILE, new.to_state())
            before, self._config = self._config, new
            self._tell(before.version)
        return new.version

    def _write(self, path: Path, data: Any) -> None:
        try:
            with replaced(path, 0o600) as file:
                json.dump(data, file)
                file.flush()
                os.fsync(file.fileno())
        except ConfigError as error:
            raise ConfigError(f"nothing was changed: {error.message}") from None
        except OSError as error:
            raise ConfigError(f"nothing was changed: {path} cannot be written: {error.strerror or error}") from None

    # --- telling ----------------------------------------------------------------------------------------------------

    def _tell(self, since: int) -> None:
        """Tell what has changed after a version to everybody who follows it."""
        changes = self._config.since(since)
        if not changes:
            return
        for follower in followers(self._data_dir):
            prefixes = self._prefixes(follower)
            for change in changes:
                if any(is_below(change.path, prefix) for prefix in prefixes):
                    self.send(
                        follower.ref, ConfigChanged(joined(change.path), change.value, change.old, change.version)
                    )
        for caller, (prefix, known) in list(self._waiting.items()):
            if found := self._config.since(known, prefix):
                del self._waiting[caller]
                self.reply(caller, ("ok", self._told(found)))

    def _tell_all(self, follower: Follow) -> None:
        for prefix in self._prefixes(follower):
            for change in self._config.to_be_told(prefix):
                self.send(follower.ref, ConfigChanged(joined(change.path), change.value, change.old, change.version))

    def _prefixes(self, follower: Follow) -> list[SettingPath]:
        return [parse(prefix, self._config.lms, known=False) for prefix in follower.prefixes]

    def _changes(self, request: Changes, caller: Caller) -> Any:
        prefix = self._config.path(request.prefix)
        # A version that there has not been yet is one of another node, or of before its folder was cleared.
        if request.since is None or request.since > self._config.version:
            return "ok", (self._config.version, [])
        if found := self._config.since(request.since, prefix):
            return "ok", self._told(found)
        self._waiting[caller] = prefix, request.since
        self.when_given_up(caller, lambda: self._waiting.pop(caller, None))
        return NO_REPLY

    def _told(self, changes: list[Any]) -> tuple[int, list[Any]]:
        rows = [(joined(each.path), each.value, each.old, each.version) for each in changes]
        return self._config.version, rows

    # --- coming back ------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            layers = self._kept_layers()
            config = Configuration(layers if layers is not None else self._fresh_layers())
            kept = kept_updates(self._data_dir, config)
        except ConfigError as error:
            self._trouble = error
        else:
            self._config, self._trouble = kept, None
        if self._trouble is not None:
            self.log.error("the configuration is not usable", trouble=self._trouble.message)

    def _kept_layers(self) -> list[Layer] | None:
        """Return the layers as this node was started with; None: it is the first time that they are read."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads((self._data_dir / "run" / LAYERS_FILE).read_text())
            if kept["uid"] == self.node["uid"]:
                return [
                    Layer(name, {tuple(p): value for p, value, _ in rows}, {tuple(p): where for p, _, where in rows})
                    for name, rows in kept["layers"]
                ]
        return None

    def _fresh_layers(self) -> list[Layer]:
        config_file, given = read_started(self._data_dir)
        layers = read_layers(config_file, None, given)
        rows = [
            [layer.name, [[list(path), value, layer.where.get(path, "")] for path, value in layer.values.items()]]
            for layer in layers
        ]
        try:
            self._write(self._data_dir / "run" / LAYERS_FILE, {"uid": self.node["uid"], "layers": rows})
        except ConfigError as error:  # a full disk: after a crash the file is read as it is then
            self.log.error("what the node was started with is not kept", trouble=error.message)
        return layers
