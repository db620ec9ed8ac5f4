"""`BestOfN`: the best of several attempts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.programs.attempts import Attempts, Best
from dspex_actors.programs.module import Module
from dspex_actors.programs.steps import Steps


class BestOfN(Attempts):
    """Run a program up to N times, and return the prediction with the highest reward.

        def short(inputs, prediction):
            return 1.0 if len(prediction.answer.split()) == 1 else 0.0

        dspex.BestOfN(dspex.ChainOfThought("question -> answer"), N=3, reward_fn=short, threshold=1.0)

    Attempts come one after the other: each is a copy of the program whose LM has a `rollout_id` of its own (so a cache
    keeps each) and temperature 1. The first whose reward reaches the threshold is the last. Usage and cost are those of
    all of them; the trace is the best one's.

    Unlike DSPy's it keeps no count of failures between calls, `fail_count` is that many whatever their place, and when
    every attempt has failed the last error is raised, where DSPy returns None.

    Args:
        module: the program.
        N: attempts at most.
        reward_fn: `reward_fn(inputs, prediction)` → number; sync or async.
        threshold: a reward that is good enough.
        fail_count: attempts that may fail; one more raises. None: N.

    Raises:
        ConfigError: one of them is not usable.
    """

    def __init__(
        self,
        module: Module,
        N: int,  # noqa: N803 - DSPy's name
        reward_fn: Callable[[dict[str, Any], Any], Any],
        threshold: float,
        fail_count: int | None = None,
    ) -> None:
        """Check the settings; the program is tried in copies and stays as it is."""
        if threshold is None:
            raise ConfigValueError(
                "threshold is invalid: got None, expected a number; float('inf') makes all N attempts"
            )
        super().__init__(module, N, reward_fn, threshold, fail_count)

    def steps(self, /, **kwargs: Any) -> Steps:
        """Make the attempts."""
        best = Best(self)
        for number, lm in enumerate(self.rollouts()):
            twin = self.module.deepcopy()
            twin.set_lm(lm)
            try:
                _, reward, _ = yield from best.attempt(twin, kwargs)
            except Exception as error:
                best.failed(number, error)
                continue
            if reward >= self.threshold:
                break
        return best.taken()
