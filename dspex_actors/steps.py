"""Steps of programs, for users: `from dspex_actors.steps import Ask, Parallel, Tool`; see `programs/steps.py`."""

from dspex_actors.programs.carrying import acarry, carry
from dspex_actors.programs.steps import Ask, Parallel, Steps, Tool

__all__ = ["Ask", "Parallel", "Steps", "Tool", "acarry", "carry"]
