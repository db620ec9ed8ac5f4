"""BootstrapFinetune: what a teacher answered well becomes data to fine-tune an LM with. Nothing is trained here.

optimizer = dspex.BootstrapFinetune(metric=dspex.metrics.exact_match("team"))
optimizer.compile(triage, trainset=trainset, teacher=with_a_large_lm).finetune_data.save("data.jsonl")
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from typing import Any, Unpack

from dspex_actors.adapters.base import Adapter
from dspex_actors.adapters.chat import ChatAdapter
from dspex_actors.dspy.student import DSPyStudent
from dspex_actors.errors import ConfigError, RunFailed
from dspex_actors.example import Example
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.judging import AsksLM
from dspex_actors.metrics import FieldMetric
from dspex_actors.programs.module import Module
from dspex_actors.settings import settings
from dspex_actors.teleprompt.bootstrap import checked_metric
from dspex_actors.teleprompt.finetune.data import Chat, FinetuneData
from dspex_actors.teleprompt.finetune.formats import WITH_IMAGES, checked_format, line_of
from dspex_actors.teleprompt.optimizer import Optimizer, Options, Program
from dspex_actors.teleprompt.step_runs import every_prediction
from dspex_actors.teleprompt.steps import Candidate, Observe, Observed, Together
from dspex_actors.teleprompt.trainset import check_student, checked_threads
from dspex_actors.types.annotations import holds_types
from dspex_actors.types.audio import Audio
from dspex_actors.types.document import Document
from dspex_actors.types.file import File
from dspex_actors.types.image import Image

#: What no format has a place for.
_MEDIA = (Audio, File, Document)


class BootstrapFinetune(Optimizer):
    """Gather what a teacher answered well, to fine-tune an LM with it, as far as DSPy's `BootstrapFinetune` does.

    `compile` has the teacher do each example, as runs of the node: paced, kept in the journal, gone on with after a
    kill. Of the examples that the metric lets pass, each call of a predictor becomes a conversation: the prompt as the
    adapter writes it, and the answer. `program.finetune_data` has them, in DSPy's order, and writes them:

        program = dspex.BootstrapFinetune(metric=metric).compile(student, trainset=train, teacher=teacher)
        program.finetune_data.save("data.jsonl")

    Where it differs from DSPy's: nothing is trained, so no predictor needs an LM of its own and the program keeps those
    that it has; the metric is given the trace, as one that lets demos pass is (DSPy's gives None); `multitask=False`
    parts the calls by predictor (DSPy's by their place in the trace); an example that failed is left out also where
    there is no metric; with nothing to write it fails, and says what to do. What a program of DSPy's has asked
    (`dspex.optimize`) is in the words of DSPy's adapter.

    Args:
        metric: `metric(example, prediction, trace)`: what is true lets pass. None: each prediction passes.
        multitask: one file for all predictors; False: one for each, for an LM of its own.
        train_kwargs: None; who trains is given them with the file.
        adapter: writes prompts and answers; None: the one of the settings, else a `ChatAdapter`. For a program of
            DSPy's None.
        exclude_demos: prompts without the teacher's demos; the program has none then, either.
        num_threads: accepted as DSPy accepts it; the node's workers do the work (`max_in_flight` of `compile`).
        data_format: of the files: openai, anthropic, gemini or cohere (`finetune.formats`). It can be another one when
            they are written, too.

    Raises:
        ConfigError: a setting is not usable; names it.
    """

    needs_metric = False

    def __init__(
        self,
        metric: Callable[..., Any] | None = None,
        multitask: bool = True,
        train_kwargs: None = None,
        adapter: Adapter | None = None,
        exclude_demos: bool = False,
        num_threads: int | None = None,
        data_format: str = "openai",
    ) -> None:
        """Check the settings."""
        self.metric = checked_metric(metric)
        self.multitask, self.exclude_demos = _flag("multitask", multitask), _flag("exclude_demos", exclude_demos)
        if train_kwargs is not None:
            raise ConfigValueError(
                f"train_kwargs is invalid: got {train_kwargs!r:.80}, expected None: nothing is trained here; give them "
                "to who trains, with the file"
            )
        if adapter is not None and not isinstance(adapter, Adapter):
            raise ConfigTypeError(
                f"adapter is invalid: got {adapter!r:.80}, expected one such as dspex.ChatAdapter(), or None"
            )
        self.adapter = adapter
        self.num_threads = checked_threads(num_threads)
        self.data_format = checked_format(data_format)

    def compile(
        self,
        student: Program,
        *,
        trainset: Any,
        teacher: Module | Sequence[Module] | None = None,
        **options: Unpack[Options],
    ) -> Program:
        """Return a copy of the program with `finetune_data`; the program itself stays as it is.

        Args:
            student: the program.
            trainset: Examples with their inputs marked, or a path to JSONL or CSV.
            teacher: a program with the same predictors that does the examples, or several that each do all of them;
                None: the student itself.
            **options: see `Options`.

        Raises:
            ConfigError: program, teacher or trainset are not usable, or nothing is connected.
            RunFailed: no example has passed; says why.
            RunInterrupted, BudgetExceeded: as of `Optimizer.carry`.
        """
        examples = self.examples(student, trainset)
        given = list(teacher) if isinstance(teacher, list | tuple) else [teacher]
        teachers = [_checked_teacher(student, student if one is None else one) for one in given]
        if not teachers:
            raise ConfigValueError("teacher is invalid: got an empty list, expected a program, several, or None")
        for one in teachers:
            self._check_media(one)
            if self.adapter is not None and isinstance(one, DSPyStudent):
                raise ConfigError(
                    f"adapter: expected none for a program of DSPy's, which asks in the words of DSPy's adapter, got "
                    f"{type(self.adapter).__name__}: leave it out, or set DSPy's by dspy.configure(adapter=...)"
                )
        steps = self._steps(student, teachers, examples, self.adapter or settings.adapter or ChatAdapter())
        return self.carry(steps, student, examples, options)

    def expected(self, student: Any, trainset: int | None = None, valset: int | None = None, **arguments: Any) -> int:
        """Return how many candidates there are: its result counts as one."""
        return 1

    def expected_examples(self, student: Any, trainset: int, valset: int | None = None) -> int:
        """Return how many examples one teacher does."""
        return trainset

    def _steps(
        self, student: Program, teachers: list[Module], examples: list[Example], adapter: Any
    ) -> Generator[Any, Any, Program]:
        metric = every_prediction if self.metric is None else _with_trace(self.metric)
        seen: list[list[Observed]] = yield Together([Observe(one, examples, metric) for one in teachers])
        chats: list[Chat] = []
        passed = 0
        for teacher, rows in zip(teachers, seen, strict=True):
            for row in rows:
                if row.error is None and row.score:
                    passed += 1
                    chats += [self._chat(teacher, name, gave, adapter) for name, *gave in row.trace]
        if not chats:
            raise RunFailed(_nothing(seen, passed, has_metric=self.metric is not None))
        chats = _shuffled(chats, multitask=self.multitask)
        program = student.deepcopy()
        if self.exclude_demos:
            for predictor in program.predictors():
                predictor.demos = []
        program._compiled = True
        data = FinetuneData(chats, multitask=self.multitask, data_format=self.data_format)
        vars(program)["finetune_data"] = data
        yield Candidate(f"{len(chats):,} conversations of {passed:,} examples", program, None)
        return program

    def _chat(self, teacher: Module, name: str, gave: Sequence[Any], adapter: Any) -> Chat:
        inputs, outputs = gave
        if isinstance(teacher, DSPyStudent):
            made = Chat(name, teacher.conversation(name, inputs, outputs, exclude_demos=self.exclude_demos))
        else:
            predictor = dict(teacher.named_predictors())[name]
            demos = [] if self.exclude_demos else predictor.demos
            made = Chat(name, adapter.format_finetune_data(predictor.signature, demos, inputs, outputs)["messages"])
        line_of(made.messages, self.data_format)  # refuses what cannot be written
        return made

    def _check_media(self, program: Module) -> None:
        """Refuse a program whose prompts the format has no place for, before anything is paid.

        Raises:
            ConfigError: there is such a field; names it.
        """
        kinds = _MEDIA if self.data_format in WITH_IMAGES else (*_MEDIA, Image)
        for name, predictor in program.named_predictors():
            for field, info in predictor.signature.fields.items():
                if holds_types(info.annotation, kinds=kinds):
                    takes = "texts and images" if self.data_format in WITH_IMAGES else "texts only"
                    more = "" if self.data_format in WITH_IMAGES else f" ({', '.join(WITH_IMAGES)} takes images, too)"
                    raise ConfigError(
                        f"data_format: {self.data_format} has a place for {takes}, got the field {field!r} of {name}: "
                        f"leave it out of the program, or choose another format{more}"
                    )


class Strict:
    """A metric that is given the trace of the call: it says that what passes is to be learnt from.

    Args:
        metric: the user's.
    """

    def __init__(self, metric: Callable[..., Any]) -> None:
        """Keep it."""
        self.metric = metric

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> Any:
        """Score a prediction; what an async metric returns is awaited by who calls."""
        return self.metric(example, prediction, settings.trace or [])


def _with_trace(metric: Callable[..., Any]) -> Callable[..., Any]:
    """Return a metric that is given the trace; one that only compares fields does not look at it."""
    if isinstance(metric, FieldMetric):
        return metric
    return Strict(metric.acall if isinstance(metric, AsksLM) else metric)


def _shuffled(chats: list[Chat], *, multitask: bool) -> list[Chat]:
    """Return them in the order in which DSPy writes them: each file is shuffled by itself."""
    names = [None] if multitask else list(dict.fromkeys(chat.predictor for chat in chats))
    found = []
    for name in names:
        file = [chat for chat in chats if name in (None, chat.predictor)]
        random.Random(0).shuffle(file)  # noqa: S311 - has to be repeatable, not secret
        found += file
    return found


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigValueError(f"{name} is invalid: got {value!r:.80}, expected True or False")
    return value


def _checked_teacher(student: Module, teacher: Any) -> Module:
    """Return a teacher as it will be asked.

    Raises:
        ConfigError: it is no program, or has other predictors than the student.
    """
    check_student(teacher, "teacher")
    ours, theirs = _shape(student), _shape(teacher)
    if ours != theirs:
        raise ConfigError(f"teacher: expected the student's predictors ({ours}), got {theirs}: give a program like it")
    return teacher.deepcopy()  # type: ignore[no-any-return]


def _shape(program: Module) -> str:
    """Return the names of a program's predictors and of their fields; what instructions say may differ."""
    told = [(name, predictor.signature) for name, predictor in program.named_predictors()]
    return "; ".join(f"{name}: {', '.join(one.input_fields)} -> {', '.join(one.output_fields)}" for name, one in told)


def _nothing(seen: Sequence[Sequence[Observed]], passed: int, *, has_metric: bool) -> str:
    """Return why there is nothing to write, and what to do."""
    rows = [row for one in seen for row in one]
    failed = sum(1 for row in rows if row.error is not None)
    why = f"none of {len(rows):,} examples passed" if not passed else f"no predictor was called in {passed:,} examples"
    error = next(
        (f", the first with {row.error.get('type')}: {row.error.get('message')}" for row in rows if row.error), ""
    )
    told = f" ({failed:,} failed{error})" if failed else ""
    todo = "give a teacher that answers better (teacher=, or a larger LM)"
    todo += ", or a metric that lets more pass" if has_metric else ""
    return f"there is nothing to fine-tune with: {why}{told}; {todo}"
