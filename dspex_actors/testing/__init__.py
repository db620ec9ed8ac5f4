"""For tests of programs that use dspex: a node of one's own, fakes of services and LMs, what was emitted.

::

    @pytest.fixture
    def dspex_system():
        with dspex.testing.isolated_system() as system:
            yield system
"""

from dspex_actors.testing.capture import capture_events
from dspex_actors.testing.isolated import isolated_system
from dspex_actors.testing.mocked import MockedService, with_mocked_service
from dspex_actors.testing.scripted import ScriptedLM, scripted_lm

__all__ = ["MockedService", "ScriptedLM", "capture_events", "isolated_system", "scripted_lm", "with_mocked_service"]
