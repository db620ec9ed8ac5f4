"""`dspex provider serve` has every setting of the server that it starts."""

import dataclasses

from click.testing import CliRunner

from dspex_actors.cli.provider import serve
from dspex_actors.embedded import run
from dspex_actors.embedded.config import EmbeddedConfig


def test_every_setting_of_the_server_is_an_option_but_the_key(monkeypatch):
    started = []
    monkeypatch.setattr(run, "run", lambda config: started.append(config) or 0)
    options = {param.name for param in serve.params}
    assert {field.name for field in dataclasses.fields(EmbeddedConfig)} - options == {"require_key"}
    result = CliRunner().invoke(serve, ["--at-once", "2", "--book", "--fault", "reset=0.5"])
    assert result.exit_code == 0, result.output
    assert started == [EmbeddedConfig(at_once=2, book=True, faults={"reset": 0.5})]
