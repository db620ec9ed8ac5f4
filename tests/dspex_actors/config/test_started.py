"""What of the configuration has to be there from a node's start, and what waits until it is asked for."""

import pytest

from dspex_actors.config.started import is_needed, serves_metrics

PORT = "infrastructure.telemetry.metrics_port"


@pytest.mark.parametrize(
    ("file", "given", "environ", "needed", "served"),
    [
        ("", [], {}, False, False),
        ("[node]\nport = 7401\n", ["node.port"], {"DSPEX_NODE_PORT": "1"}, False, False),
        ("[providers.openai]\nrpm = 5\n", [], {}, True, False),
        ("[infrastructure.telemetry]\nmetrics_port = 9464\n", [], {}, True, True),
        ("", [PORT], {}, True, True),
        ("", [], {"DSPEX_INFRASTRUCTURE__TELEMETRY__METRICS_PORT": "9464"}, True, True),
        ("", [], {"DSPEX_INFRASTRUCTURE__TELEMETRY__INTERVAL": "2"}, True, False),
    ],
)
def test_actors_are_started_for_what_was_said_and_for_nothing_else(tmp_path, file, given, environ, needed, served):
    path = tmp_path / "some.toml"
    path.write_text(file)
    assert is_needed(tmp_path, str(path), given, environ) is needed
    assert serves_metrics(tmp_path, str(path), given, environ) is served


def test_what_was_updated_counts_too(tmp_path):
    (tmp_path / "config.json").write_text('{"values": {"infrastructure.telemetry.metrics_port": 9464}}')
    assert serves_metrics(tmp_path, str(tmp_path / "none.toml"), environ={})
