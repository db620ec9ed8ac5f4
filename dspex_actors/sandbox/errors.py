"""What goes wrong where code is run; DSPy's names."""

from __future__ import annotations

from dspex_actors.errors import DspexError
from dspex_actors.foundation.config_errors import ConfigValueError


class CodeInterpreterError(DspexError, RuntimeError):
    """Code cannot be run: no interpreter can be started, or it is not safe here. Other code would not help."""


class CodeExecutionError(CodeInterpreterError):
    """The code has failed: it raised, took too long or too much, or has ended its process. Better code may not."""


class UnusableVariable(ConfigValueError, CodeInterpreterError):
    """A variable that code cannot be given: its name, or a value that JSON has no form for."""
