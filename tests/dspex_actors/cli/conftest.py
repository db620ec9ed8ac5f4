import pytest
from click.testing import CliRunner

from dspex_actors.cli.main import dspex


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command line in an empty folder with an empty DSPEX_HOME."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSPEX_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DSPEX_CONFIG", raising=False)

    def invoke(*words):
        return CliRunner().invoke(dspex, [str(word) for word in words], prog_name="dspex")

    return invoke
