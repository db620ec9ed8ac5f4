"""`ProgramOfThought`: an LM writes code, the code is run, the answer comes from what it gave."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from dspex_actors.foundation.checks import whole
from dspex_actors.foundation.config_errors import ConfigRuntimeError, ConfigTypeError, ConfigValueError
from dspex_actors.foundation.operation import current_operation
from dspex_actors.foundation.parsing import alone
from dspex_actors.programs.chain_of_thought import ChainOfThought
from dspex_actors.programs.module import Module
from dspex_actors.programs.steps import Ask, Steps
from dspex_actors.programs.trajectory import listed
from dspex_actors.sandbox.errors import CodeExecutionError
from dspex_actors.sandbox.interpreter import CodeInterpreter, FinalOutput, PythonInterpreter
from dspex_actors.settings import settings
from dspex_actors.signatures.fields import InputField, OutputField
from dspex_actors.signatures.signature import Signature, make_signature

_log = logging.getLogger(__name__)

#: What it adds to a signature.
_OWN_FIELDS = ("generated_code", "previous_code", "error", "final_generated_code", "code_output")
_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL | re.IGNORECASE)
_CLOSING, _MOST_ENDS = re.compile(r"\n[ \t]*```"), 5
#: A line that ends code which is not fenced.
_END = re.compile(r"^---\s*$", re.MULTILINE)

Factory = Callable[[], Any]


class ProgramOfThought(Module):
    """Have an LM write code that computes the answer, run it, and answer from what it gave.

        pot = dspex.ProgramOfThought("question -> answer: int")
        pot(question="What is the sum of the primes below 1,000?").answer

    A call does this:

    1. `code_generate` is asked for code, with the signature's inputs.
    2. The code is run in an interpreter, where it can do no harm: `PythonInterpreter`. It gives its result to
       `SUBMIT(...)`, or as its last expression, or prints it.
    3. If it fails, `code_regenerate` is shown the code and the error, and asked again; `max_iters` times in all.
    4. `generate_output` gives the signature's outputs from the code and what it gave.

    Args:
        signature: what is to be answered.
        max_iters: pieces of code at most.
        interpreter_factory: makes an interpreter for each call; it is shut down afterwards. `PythonInterpreter`, as
            unset: the one of the settings (`configure(interpreter_factory=...)`), else a PythonInterpreter.

    Raises:
        ConfigError: the signature has a field that this adds, or a setting is not usable.
    """

    def __init__(
        self,
        signature: str | type[Signature] | Mapping[str, Any],
        max_iters: int = 3,
        interpreter_factory: Factory = PythonInterpreter,
    ) -> None:
        """Make the predictors `code_generate`, `code_regenerate` and `generate_output`."""
        self.signature = made = make_signature(signature)
        self.max_iters = whole("max_iters", max_iters, 1)
        self.interpreter_factory = checked_factory(interpreter_factory)
        refuse_clash("ProgramOfThought", made, _OWN_FIELDS)
        outputs = listed(made.output_fields)
        code = OutputField(desc="Python code that computes the answer")
        told = (
            f"Write Python code that computes {outputs} from the inputs above: only code, which can be run as it is.\n"
            "Give what it has found to the function `SUBMIT`, which is there already, as a dict with a value for each "
            f"of these fields: {outputs}."
        )
        asked = make_signature(dict(made.input_fields), f"{_task(made)}{told}")
        self.code_generate = ChainOfThought(asked.append("generated_code", code, str))
        again = make_signature(
            dict(made.input_fields),
            f"{_task(made)}{told}\n`previous_code` was run and has failed with `error`: mend it.",
        )
        self.code_regenerate = ChainOfThought(
            again.append("previous_code", InputField(desc="code that has failed"), str)
            .append("error", InputField(desc="what was said when it was run"), str)
            .append("generated_code", code, str)
        )
        answered = make_signature(
            {**made.input_fields, **made.output_fields},
            f"{_task(made)}The code in `final_generated_code` was run. Take {outputs} from what it gave.",
        )
        self.generate_output = ChainOfThought(
            answered.append("final_generated_code", InputField(desc="code that computes the answer"), str).append(
                "code_output", InputField(desc="what it gave, as JSON"), str
            )
        )

    def steps(self, interpreter: Any = None, /, **kwargs: Any) -> Steps:
        """Write code until it runs, then answer.

        Args:
            interpreter: one of yours for this call; you shut it down.
            **kwargs: the signature's inputs.
        """
        inputs = given_inputs(self.signature, kwargs)
        with interpreter_for(interpreter, self.interpreter_factory) as held:
            yield Ask(held.check)
            said = yield Ask(self.code_generate, **inputs)
            for number in range(1, self.max_iters + 1):
                code = code_of(said.generated_code)
                output, error = yield Ask(partial(run_code, held.python, code))
                if (operation := current_operation()) is not None:
                    operation.add_trace_step("code", {"code": code, "output": output, "error": error})
                if error is None:
                    break
                _log.warning("code of attempt %d has failed: %s", number, error)
                if number == self.max_iters:
                    raise ConfigRuntimeError(f"no code ran, after {number} attempts; the last one: {error}")
                said = yield Ask(self.code_regenerate, **inputs, previous_code=code, error=error)
            yield Ask(held.end)
        return (yield Ask(self.generate_output, **inputs, final_generated_code=code, code_output=output))


def _task(signature: type[Signature]) -> str:
    return f"{signature.instructions}\n\n" if signature.instructions else ""


def refuse_clash(program: str, signature: type[Signature], own: Sequence[str]) -> None:
    """Refuse a signature with fields that a program adds.

    Raises:
        ConfigValueError: it has one.
    """
    if clash := [name for name in own if name in signature.fields]:
        raise ConfigValueError(f"signature is invalid: {program} has a field {clash[0]!r} of its own; rename yours")


def checked_factory(factory: Any) -> Factory:
    """Return what makes interpreters.

    Raises:
        ConfigTypeError: it cannot be called, or is an interpreter itself.
    """
    is_one = not isinstance(factory, type) and isinstance(factory, CodeInterpreter)
    if is_one or not callable(factory):
        raise ConfigTypeError(
            f"interpreter_factory is invalid: got {factory!r:.80}, expected a function that makes an interpreter for "
            "each call; yours for one call goes first: program(interpreter, ...)"
        )
    made: Factory = factory
    return made


def given_inputs(signature: type[Signature], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a call.

    Raises:
        ConfigTypeError: an interpreter was given by name.
    """
    if "interpreter" in kwargs and "interpreter" not in signature.input_fields:
        raise ConfigTypeError("an interpreter of yours goes first, without a name: program(interpreter, ...)")
    return dict(kwargs)


class Held:
    """An interpreter for one call.

    Args:
        python: it.
        is_own: it is the caller's, who shuts it down.
    """

    def __init__(self, python: Any, is_own: bool) -> None:
        """Keep it."""
        self.python, self._is_over = python, is_own

    def check(self) -> None:
        """Have a host that runs no code, and tools that do not run there, say so before a call is paid: until one like
        it has started in this process. A step."""
        if isinstance(self.python, PythonInterpreter) and not self.python.is_proven:
            self.python.start()

    def end(self) -> None:
        """Shut it down, once. It is a step: to clear away a large child takes a while, and no event loop waits."""
        if not self._is_over:
            self._is_over = True
            self.python.shutdown()


@contextmanager
def interpreter_for(own: Any, factory: Factory, prelude: Sequence[str] = ()) -> Iterator[Held]:
    """Give an interpreter for one call: the caller's own, or one that is shut down at the end, whatever happens.

    Args:
        own: the caller's; None: one is made.
        factory: makes it.
        prelude: code that has to be run in it first. It is run here only for interpreters that do not keep it.
    """
    if own is None and factory is PythonInterpreter:
        factory = settings.interpreter_factory or PythonInterpreter
    made = own if own is not None else factory()
    if not isinstance(made, CodeInterpreter):
        raise ConfigTypeError(
            f"interpreter is invalid: got {made!r:.80}, expected one with start, execute and shutdown"
        )
    if own is None and isinstance(made, PythonInterpreter):
        made.prelude += prelude
    held = Held(made, own is not None)
    try:
        yield held
    finally:
        held.end()


def code_of(text: Any) -> str:
    """Return the code in what an LM has written, and, where its last line sets a variable, an expression of it."""
    written = str(text or "")
    fenced = _FENCED.search(written)
    if fenced is None:
        return _with_value(_END.split(written, maxsplit=1)[0].strip("\n").rstrip())
    # A text in the code may have fences of its own: of its ends the first one that leaves Python.
    start = fenced.start(1)
    ends = [end.start() for _, end in zip(range(_MOST_ENDS), _CLOSING.finditer(written, start), strict=False)]
    codes = [written[start:end].strip("\n").rstrip() for end in (*ends, len(written))]
    return _with_value(next((code for code in codes if _parsed(code) is not None), codes[0]))


def _with_value(code: str) -> str:
    """Return code that ends with a value: where its last statement sets a variable, the variable is added."""
    tree = _parsed(code)
    last = tree.body[-1] if tree is not None and tree.body else None
    target: ast.expr | None = None
    if isinstance(last, ast.Assign):
        target = last.targets[0]
    elif isinstance(last, ast.AnnAssign) and last.value is not None:
        target = last.target
    return f"{code}\n{target.id}" if isinstance(target, ast.Name) else code


def _parsed(code: str) -> ast.Module | None:
    try:
        return alone(lambda: ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def run_code(python: Any, code: str) -> tuple[str | None, str | None]:
    """Run code; return what it gave as JSON, and None, or None and what went wrong.

    Raises:
        CodeInterpreterError: something other than the code has failed.
    """
    if not code.strip():
        return None, "there is no code"
    try:
        found = python.execute(code)
    except SyntaxError as error:
        return None, f"SyntaxError: {error}"
    except Exception as error:
        # By name: an interpreter of DSPy's has its own.
        if any(kind.__name__ == CodeExecutionError.__name__ for kind in type(error).__mro__):
            return None, str(error)
        raise
    submitted = isinstance(found, FinalOutput) or type(found).__name__ == FinalOutput.__name__
    try:
        told = json.dumps(found.output if submitted else found, ensure_ascii=False)
        return told.encode("utf-8", "replace").decode(), None  # half a character is none that can be sent
    except (TypeError, ValueError, RecursionError) as error:
        return None, f"its result cannot be told as JSON: {error}"
