"""`ReAct`: an LM that thinks, calls tools, and answers from what they gave."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from dspex_actors.adapters.reading import jsonable
from dspex_actors.errors import ConfigError, ContextWindowExceeded
from dspex_actors.example import Prediction
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.operation import current_operation
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.predict import Predict
from dspex_actors.programs.steps import Steps, check_timeout
from dspex_actors.programs.steps import Tool as UseTool
from dspex_actors.programs.trajectory import WithTrajectory, listed
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature, make_signature
from dspex_actors.types.tool import Tool

_log = logging.getLogger(__name__)

_FINISH = "finish"
_PLAIN = (str, int, float, bool, type(None))
#: What it adds to a signature.
_OWN_FIELDS = ("trajectory", "next_thought", "next_tool_name", "next_tool_args")


class ReAct(WithTrajectory):
    """Let an LM call tools until it knows enough, then answer the signature from what they gave.

        def search(query: str) -> list[str]:
            '''Search the archive.'''

        agent = dspex.ReAct("question -> answer", tools=[search], max_iters=8)
        agent(question="Who keeps the bees?").answer

    A call does this:

    1. `react` is asked, with the signature's inputs and the trajectory so far, for a thought, a tool and arguments.
    2. The tool is called. What it gives is the observation; so is what it raises: `Execution error in search: ...`.
    3. That is repeated until the tool is `finish`, or `max_iters` times. The thought, the tool, its arguments and the
       observation are a step of the operation's trace.
    4. `extract`, a ChainOfThought, gives the signature's outputs from the trajectory.

    A prompt that does not fit the model's window is asked again without the oldest step, up to three times; then the
    trajectory ends there. A tool that hangs is given up after `tool_timeout`, and it does not end the program or its
    worker whatever it raises.

    Args:
        signature: what is to be answered.
        tools: functions, sync or async, objects that can be called, or `dspex.Tool`s.
        max_iters: tool calls at most; also an argument of a call.
        tool_timeout: seconds that a tool may take. None: 120 in async code and in workers; in a sync call tools run in
            the caller's own thread, and as long as they like.

    Raises:
        ConfigError: a tool has a signature that cannot be described to an LM; two have the same name, or one is called
            `finish`; the signature has a field that this adds.
    """

    def __init__(
        self,
        signature: str | type[Signature] | Mapping[str, Any],
        tools: Sequence[Callable[..., Any]],
        max_iters: int = 20,
        *,
        tool_timeout: float | None = None,
    ) -> None:
        """Make the predictors `react` and `extract`."""
        self.signature = made = make_signature(signature)
        self.max_iters = whole("max_iters", max_iters, 0)
        self.tool_timeout = check_timeout("tool_timeout", tool_timeout)
        if clash := [name for name in _OWN_FIELDS if name in made.fields]:
            raise ConfigValueError(f"signature is invalid: ReAct has a field {clash[0]!r} of its own; rename yours")
        self.tools = _named(tools)
        outputs = listed(made.output_fields)
        self.tools[_FINISH] = Tool(
            completed,
            name=_FINISH,
            desc=f"Ends the work: everything that is needed for {outputs} is in the trajectory.",
            args={},
        )
        asked = make_signature(dict(made.input_fields), _instructions(made, self.tools))
        self.react = Predict(
            asked.append("trajectory", InputField(), str)
            .append("next_thought", OutputField(), str)
            .append("next_tool_name", OutputField(), Literal[tuple(self.tools)])
            .append("next_tool_args", OutputField(), dict[str, Any])
        )
        answered = make_signature({**made.input_fields, **made.output_fields}, made.instructions)
        self.extract = ChainOfThought(answered.append("trajectory", InputField(), str))

    def steps(self, /, **kwargs: Any) -> Steps:
        """Call tools until it is finished, then answer."""
        most = self.max_iters
        if "max_iters" in kwargs and "max_iters" not in self.signature.input_fields:
            most = whole("max_iters", kwargs.pop("max_iters"), 0)
        trajectory: dict[str, Any] = {}
        for number in range(most):
            try:
                said = yield from self._asked(self.react, trajectory, kwargs)
            except (ContextWindowExceeded, ValueError) as error:
                _log.warning("the trajectory ends after %d steps: %s: %s", number, type(error).__name__, error)
                break
            name, args = said.next_tool_name, said.next_tool_args
            try:
                if name == _FINISH:  # nothing to wait for
                    observation = self.tools[name](**args)
                else:
                    observation = yield UseTool(self.tools[name], args, self.tool_timeout)
                    if inspect.isgenerator(observation) or inspect.isasyncgen(observation):
                        raise TypeError("it returned a generator, of which nothing would be seen, and not a list")
                    if type(observation) not in _PLAIN:
                        jsonable(observation)  # what cannot be shown is an error of the tool's
            except (Exception, SystemExit) as error:
                observation = f"Execution error in {name}: {_shown(error)}"
            step = {"thought": said.next_thought, "tool_name": name, "tool_args": args, "observation": observation}
            trajectory.update((f"{entry}_{number}", value) for entry, value in step.items())
            if (operation := current_operation()) is not None:
                operation.add_trace_step(name, step)
            if name == _FINISH:
                break
        answer = yield from self._asked(self.extract, trajectory, kwargs)
        return Prediction(trajectory=trajectory, **dict(answer.items()))


def _shown(error: BaseException) -> str:
    """Return an error in words that mean something to an LM."""
    return str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"


def completed() -> str:
    """End the work: the tool `finish`."""
    return "Completed."


def _named(tools: Any) -> dict[str, Tool]:
    if isinstance(tools, str | Mapping) or not hasattr(tools, "__iter__"):
        raise ConfigTypeError(f"tools is invalid: got {tools!r:.80}, expected a list of functions or Tools")
    found: dict[str, Tool] = {}
    for one in tools:
        tool = one if isinstance(one, Tool) else Tool(one)
        name = tool.name or ""
        if _is_generator(tool.func):
            raise ConfigValueError(
                f"tool {name!r} is invalid: got a generator, of which an LM would see nothing; expected a function "
                "that returns a list"
            )
        if name in found or name == _FINISH or not name:
            why = "ReAct ends with a tool of that name" if name == _FINISH else "two tools have it"
            raise ConfigValueError(f"the tool name {name!r} is invalid: {why}; give another one: Tool(func, name=...)")
        found[name] = tool
    return found


def _is_generator(function: Any) -> bool:
    call = function if inspect.isroutine(function) else getattr(type(function), "__call__", None)  # noqa: B004
    return inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)


def _instructions(signature: type[Signature], tools: Mapping[str, Tool]) -> str:
    inputs, outputs = listed(signature.input_fields), listed(signature.output_fields)
    lines = [
        f"{signature.instructions}\n" if signature.instructions else "",
        f"You work in steps, with tools. You are given {inputs}, and in `trajectory` the steps you have taken so far.",
        f"Use the tools to find out what you need for {outputs}.\n",
        "In each step write next_thought, next_tool_name and next_tool_args; in the last step too.",
        "The tool is then called, and what it gives is added to the trajectory as the observation of that step.\n",
        "next_thought: what you know, and what to do next.",
        "next_tool_name is one of these tools, and next_tool_args, as a JSON object, are its arguments:\n",
        *(f"({number}) {tool}" for number, tool in enumerate(tools.values(), 1)),
    ]
    return "\n".join(line for line in lines if line)
