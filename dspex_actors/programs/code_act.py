"""`CodeAct`: an agent that acts by writing code, with functions of yours in it."""

from __future__ import annotations

import ast
import builtins
import inspect
import symtable
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from dspex_actors.example import Prediction
from dspex_actors.foundation.bridge import is_async
from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.operation import current_operation
from dspex_actors.foundation.parsing import alone
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.predict import Predict
from dspex_actors.programs.program_of_thought import (
    Factory,
    checked_factory,
    code_of,
    given_inputs,
    interpreter_for,
    refuse_clash,
    run_code,
)
from dspex_actors.programs.steps import Ask, Steps
from dspex_actors.programs.trajectory import WithTrajectory, listed
from dspex_actors.sandbox.interpreter import PythonInterpreter
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature, make_signature
from dspex_actors.types.tool import Tool

_OWN_FIELDS = ("trajectory", "generated_code", "finished")
#: Annotations need not be there where the function arrives.
_FIRST = "from __future__ import annotations\n"


class CodeAct(WithTrajectory):
    """Let an LM write code, step by step, until it knows enough; then answer the signature from what it gave.

        def factorial(n: int) -> int:
            return 1 if n < 2 else n * factorial(n - 1)

        act = dspex.CodeAct("n: int -> answer: int", tools=[factorial])
        act(n=5).answer

    Tools are functions of the standard library's Python: their source is run first, in the same sandbox as the code,
    so that they can do no more than the code can. What they need, imports too, stands inside of them. What has to
    reach the network or this process is a tool of the interpreter: `interpreter_factory=lambda:
    dspex.PythonInterpreter(tools={"search": search})`.

    A call does this:

    1. `codeact` is asked, with the inputs and the trajectory so far, for code, and whether it is finished then.
    2. The code is run; variables stay for the next. What it gives, or what went wrong, joins the trajectory.
    3. That is repeated until it is finished, or `max_iters` times.
    4. `extractor`, a ChainOfThought, gives the signature's outputs from the trajectory.

    Args:
        signature: what is to be answered.
        tools: functions.
        max_iters: pieces of code at most; also an argument of a call.
        interpreter_factory: as of `ProgramOfThought`.

    Raises:
        ConfigError: a tool is no plain function, or has no source; the signature has a field that this adds.
    """

    def __init__(
        self,
        signature: str | type[Signature] | Mapping[str, Any],
        tools: Sequence[Callable[..., Any]],
        max_iters: int = 5,
        interpreter_factory: Factory = PythonInterpreter,
    ) -> None:
        """Make the predictors `codeact` and `extractor`, and read the tools' source."""
        self.signature = made = make_signature(signature)
        self.max_iters = whole("max_iters", max_iters, 0)
        self.interpreter_factory = checked_factory(interpreter_factory)
        refuse_clash("CodeAct", made, _OWN_FIELDS)
        self.tools = _named(tools)
        # Now: where a program is pickled to, there may be no source.
        self.sources = [_source(tool) for tool in self.tools.values()]
        asked = make_signature(dict(made.input_fields), _instructions(made, self.tools))
        self.codeact = Predict(
            asked.append("trajectory", InputField(), str)
            .append("generated_code", OutputField(desc="Python code that finds out what the answer needs"), str)
            .append("finished", OutputField(desc="whether everything is known once this code has run"), bool)
        )
        answered = make_signature({**made.input_fields, **made.output_fields}, made.instructions)
        self.extractor = ChainOfThought(answered.append("trajectory", InputField(), str))

    def steps(self, interpreter: Any = None, /, **kwargs: Any) -> Steps:
        """Write and run code until it is finished, then answer; arguments as of ProgramOfThought."""
        inputs = given_inputs(self.signature, kwargs)
        most = self.max_iters
        if "max_iters" in inputs and "max_iters" not in self.signature.input_fields:
            most = whole("max_iters", inputs.pop("max_iters"), 0)
        trajectory: dict[str, Any] = {}
        with interpreter_for(interpreter, self.interpreter_factory, self.sources) as held:
            python = held.python
            yield Ask(held.check)
            if interpreter is not None or not isinstance(python, PythonInterpreter):
                for source in self.sources:
                    yield Ask(python.execute, source)
            for number in range(most):
                said = yield from self._asked(self.codeact, trajectory, inputs)
                code = code_of(said.generated_code)
                output, error = yield Ask(partial(run_code, python, code))
                step: dict[str, Any] = {"generated_code": code}
                step |= {"code_output": output} if error is None else {"observation": f"The code has failed: {error}"}
                trajectory.update((f"{entry}_{number}", value) for entry, value in step.items())
                if (operation := current_operation()) is not None:
                    operation.add_trace_step("code", step)
                if said.finished:
                    break
            yield Ask(held.end)
        answer = yield from self._asked(self.extractor, trajectory, inputs)
        return Prediction(trajectory=trajectory, **dict(answer.items()))


def _named(tools: Any) -> dict[str, Tool]:
    if isinstance(tools, str | Mapping) or not isinstance(tools, Iterable):
        raise ConfigTypeError(f"tools is invalid: got {tools!r:.80}, expected a list of functions")
    found: dict[str, Tool] = {}
    for one in tools:
        tool = one if isinstance(one, Tool) else Tool(one)
        if not inspect.isfunction(tool.func) or is_async(tool.func):
            raise ConfigValueError(
                f"tools is invalid: got {tool.func!r:.80}; CodeAct takes plain functions, whose source it can run "
                "elsewhere; what has to run here is a tool of the interpreter: PythonInterpreter(tools={...})"
            )
        name = tool.name or ""
        if name in found or not name.isidentifier():
            raise ConfigValueError(f"the tool name {name!r} is invalid: expected a name of its own that code can call")
        found[name] = tool
    return found


def _source(tool: Tool) -> str:
    """Return the source of a tool, under the name that it goes by."""
    try:
        source = textwrap.dedent(inspect.getsource(tool.func))
        [defined] = ast.parse(source).body
    except (OSError, TypeError, SyntaxError, ValueError):
        defined = None
    if not isinstance(defined, ast.FunctionDef):
        raise ConfigValueError(
            f"tool {tool.name!r} is invalid: its source cannot be read; CodeAct runs it elsewhere, so define it with "
            "def, in a file or a notebook"
        )
    if why := _cannot_stand_alone(tool.func, defined):
        raise ConfigValueError(
            f"tool {tool.name!r} is invalid: {why}; CodeAct runs its source elsewhere: what it needs has to stand "
            "inside of it, or be a tool of the interpreter, PythonInterpreter(tools={...})"
        )
    return f"{_FIRST}{source}" + ("" if defined.name == tool.name else f"\n{tool.name} = {defined.name}\n")


def _cannot_stand_alone(function: Any, defined: ast.FunctionDef) -> str:
    """Return why a function's source does not run where nothing is that stands around it; empty: it does.

    What its body names may be there after all, as a tool of the interpreter: that is not looked at.
    """
    if defined.decorator_list:
        return f"it has the decorator @{ast.unparse(defined.decorator_list[0])}"
    if names := [name for name in function.__code__.co_freevars if name != "__class__"]:
        return f"it uses {', '.join(names)} of the function around it"
    given = [one for one in (*defined.args.defaults, *defined.args.kw_defaults) if one is not None]
    used = {name for one in given for name in _names_around(ast.unparse(one))}
    if names := sorted(name for name in used if not hasattr(builtins, name)):
        return f"a default of it is made with {', '.join(names)}"
    return ""


def _names_around(expression: str) -> set[str]:
    """Return the names that an expression takes from around it; arguments of its own lambdas are none."""
    tables, found = [alone(lambda: symtable.symtable(expression, "<default>", "eval"))], set()
    while tables:
        table = tables.pop()
        found |= {one.get_name() for one in table.get_symbols() if one.is_global()}
        tables += table.get_children()
    return found


def _instructions(signature: type[Signature], tools: Mapping[str, Tool]) -> str:
    inputs, outputs = listed(signature.input_fields), listed(signature.output_fields)
    lines = [
        f"{signature.instructions}\n" if signature.instructions else "",
        f"You work in steps, by writing Python. You are given {inputs}, and in `trajectory` the code so far and what "
        "it gave.",
        f"Write code that finds out what you need for {outputs}, all of it or a part. It is run; variables stay.",
        "Print what you want to see, or end with an expression of it. Put the code into a fenced block.",
        f"Set `finished` to True once {outputs} can be told when this code has run.",
        "There is the standard library, and there are these functions:" if tools else "There is the standard library.",
        *(f"({number}) {tool}" for number, tool in enumerate(tools.values(), 1)),
    ]
    return "\n".join(line for line in lines if line)
