"""What is said of a run that waits where no bar shows it."""

import logging

from dspex_actors.client.progress import SAY_AGAIN_SECONDS, SAY_SECONDS, RunProgress


def test_where_nobody_sees_a_bar_a_run_that_waits_for_long_is_said_to_wait(caplog):
    progress = RunProgress("evaluating")
    summary = {"done": 0, "failed": 0, "cost": None, "total": 3}
    with caplog.at_level(logging.WARNING, logger="dspex_actors.client"), progress:
        progress.update(summary, {"trouble": "no server at 127.0.0.1:9"})
        assert not caplog.messages
        start = progress._since
        for after, trouble, said in [
            (SAY_SECONDS - 0.1, "no server", 0),
            (SAY_SECONDS, "no server", 1),
            (SAY_SECONDS + 1, "no server still", 1),
            (SAY_AGAIN_SECONDS, None, 1),
            (SAY_AGAIN_SECONDS + 5, "no server", 1),
            (SAY_AGAIN_SECONDS + 14, "no server", 1),
            (SAY_AGAIN_SECONDS + 16, "no server", 2),
        ]:
            progress._say(trouble, start + after)
            assert len(caplog.messages) == said, after
    assert caplog.messages[0] == "evaluating: waiting: no server"
