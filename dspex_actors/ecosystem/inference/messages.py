"""What members of an inference ecosystem, and its users, say to each other: most messages carry many inferences."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from supervisors import Ref, message

#: The roles, in start order.
ROLES = ("validator", "cache", "processor", "monitor", "coordinator")
VALIDATOR, CACHE, PROCESSOR, MONITOR, COORDINATOR = ROLES


@message(83)
@dataclass(frozen=True, slots=True)
class Infer:
    """One inference that a program asks for.

    Args:
        number: among those of its session.
        key: `cache.key.answer_key` of it.
        inputs: packed, see `cache.key.pack_inputs`.
        seconds: how long it may take.
        operation: what the caller's context carries; empty: nothing.
    """

    VERSION: ClassVar[int] = 1

    number: int
    key: str
    inputs: bytes
    seconds: float
    operation: bytes = b""


@message(94)
@dataclass(frozen=True, slots=True)
class Exchange:
    """What a program wants now. A call to the coordinator; the reply is `Answers`, as soon as there are any.

    An answer goes with the reply to any call of the session that is open. A cast is one that wants no reply.

    Args:
        session: of the program; whose last open call is given up has gone.
        asked: inferences to begin.
        given_up: numbers of those that nobody waits for any more.
    """

    VERSION: ClassVar[int] = 1

    session: str
    asked: list[Infer]
    given_up: list[int]


@message(84)
@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an inference.

    Args:
        prediction: packed fields; None: there is none.
        error: its record; None: it went well.
        is_cached: it was answered by the cache.
        is_shared: another inference that was under way had the same inputs: this is its answer.
        skipped: roles of the members that were not there for it.
        warnings: what the validator changed.
        usage: tokens by kind, of the LM calls that were made for it; where it is shared none: they were paid once.
        cost: USD; None: unknown.
        asked: requests to LMs.
        version: of the module that has answered; 0: it is none.
    """

    VERSION: ClassVar[int] = 2

    prediction: bytes | None = None
    error: dict[str, Any] | None = None
    is_cached: bool = False
    is_shared: bool = False
    skipped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    cost: float | None = 0.0
    asked: int = 0
    version: int = 0


@message(95)
@dataclass(frozen=True, slots=True)
class Answers:
    """What has become of inferences of a session.

    Args:
        numbers: of the inferences, in the session.
        answers: for each its answer.
    """

    VERSION: ClassVar[int] = 1

    numbers: list[int]
    answers: list[Answer]


@message(85)
@dataclass(frozen=True, slots=True)
class Check:
    """Look at inputs. A call to the validator; the reply is `Checked`."""

    VERSION: ClassVar[int] = 1

    inputs: list[bytes]


@message(86)
@dataclass(frozen=True, slots=True)
class Verdict:
    """What the validator says of one inference.

    Args:
        inputs: packed, as they are from now on; None: unchanged.
        findings: why it is refused; none: it is not.
        warnings: what was changed.
    """

    VERSION: ClassVar[int] = 1

    inputs: bytes | None
    findings: list[dict[str, str]]
    warnings: list[str]


@message(87)
@dataclass(frozen=True, slots=True)
class Checked:
    """A verdict for each of what was to be checked."""

    VERSION: ClassVar[int] = 1

    verdicts: list[Verdict]


@message(88)
@dataclass(frozen=True, slots=True)
class Look:
    """Keep answers, and look others up. A call to the cache; the reply is a list of packed predictions.

    A cast is one that only keeps.

    Args:
        keys: of the answers that are looked for; in the place of one that is not there the reply has None.
        kept: keys of answers to keep, before the others are looked for.
        predictions: for each of these the packed fields.
    """

    VERSION: ClassVar[int] = 1

    keys: list[str]
    kept: list[str] = field(default_factory=list)
    predictions: list[bytes] = field(default_factory=list)


@message(90)
@dataclass(frozen=True, slots=True)
class Process:
    """Transform and check predictions. A cast to the processor, which the coordinator watches.

    Args:
        coordinator: who asks, and gets `Processed`.
        numbers: of the inferences.
        predictions: packed fields of each.
        operations: for each what its caller's context carries; empty: nothing.
    """

    VERSION: ClassVar[int] = 1

    coordinator: Ref
    numbers: list[int]
    predictions: list[bytes]
    operations: list[bytes]


@message(91)
@dataclass(frozen=True, slots=True)
class Processed:
    """Predictions are processed. A cast of the processor.

    Args:
        processor: who did it.
        numbers: of the inferences.
        predictions: packed fields of each; None: unchanged, or there is an error.
        errors: the error's record of each; None: it went well.
    """

    VERSION: ClassVar[int] = 1

    processor: Ref
    numbers: list[int]
    predictions: list[bytes | None]
    errors: list[dict[str, Any] | None]


@message(92)
@dataclass(slots=True)
class Concluded:
    """How one inference ended.

    Args:
        latency: seconds from its coming in to its answer.
        error: the error's type; None: it went well.
        is_cached: it was answered by the cache.
        tokens: of the LM calls that were made for it, in and out.
        cost: USD; None: unknown.
    """

    VERSION: ClassVar[int] = 1

    latency: float
    error: str | None
    is_cached: bool
    tokens: int
    cost: float | None


@message(93)
@dataclass(frozen=True, slots=True)
class Conclusions:
    """Inferences have completed, or failed. The coordinator's broadcast to the other members.

    Args:
        rows: in the order in which they ended.
    """

    VERSION: ClassVar[int] = 1

    rows: list[Concluded]
