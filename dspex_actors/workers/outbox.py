"""Results of a run on their way from a worker to its evaluator: in batches, each kept until the journal has it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from dspex_actors.foundation.codec import CodecError
from dspex_actors.runs.work import Rest, Result

#: A batch has at most so many results, and about so many bytes.
BATCH, BATCH_BYTES = 128, 1 << 20
#: A result is not larger than this with its example: it has to pass, and to be kept, in one piece.
MOST_BYTES = 48 << 20
#: Bytes in one piece of what a worker hands over.
PIECE_BYTES = 8 << 20
#: About what a result takes beside its texts.
_FRAME = 300

#: Packed example and its result.
Entry = tuple[bytes, Result]


class Outbox:
    """What a worker has of one run that is not in the journal."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._waiting: list[Entry] = []
        self._bytes = 0
        self._sent: deque[tuple[int, list[Entry]]] = deque()
        self._number = 0

    @property
    def is_full(self) -> bool:
        """Whether a batch should go now."""
        return len(self._waiting) >= BATCH or self._bytes >= BATCH_BYTES

    def add(self, payload: bytes, result: Result) -> None:
        """Take in a result; one that is too large to be sent becomes an error of its example."""
        result = fitting(payload, result)
        self._waiting.append((payload, result))
        self._bytes += size_of(payload, result)

    def next_batch(self) -> tuple[int, list[Result]] | None:
        """Return number and results of the batch that goes now; None when there is nothing."""
        if not self._waiting:
            return None
        self._number += 1
        batch, self._waiting, self._bytes = self._waiting, [], 0
        self._sent.append((self._number, batch))
        return self._number, [result for _, result in batch]

    def begin_anew(self) -> None:
        """Number the batches that were sent anew, from 1: another sitting begins, in which none was heard."""
        self._sent = deque((number, batch) for number, (_, batch) in enumerate(self._sent, 1))
        self._number = len(self._sent)

    def sent_from(self, number: int) -> Iterator[tuple[int, list[Result]]]:
        """Give the batches that were sent, from this number on."""
        for each, batch in tuple(self._sent):
            if each >= number:
                yield each, [result for _, result in batch]

    @property
    def sent(self) -> int:
        """The number of the last batch."""
        return self._number

    def written(self, number: int) -> list[Result]:
        """Forget the batches up to this one; return what was in them."""
        gone: list[Result] = []
        while self._sent and self._sent[0][0] <= number:
            gone.extend(result for _, result in self._sent.popleft()[1])
        return gone

    def take_piece(self) -> Rest:
        """Take out a piece of all that is here, sent or not."""
        size = 0
        entries: list[Entry] = []
        queues = [batch for _, batch in self._sent]
        queues.append(self._waiting)
        for queue in queues:
            while queue and (not entries or size + size_of(*queue[0]) <= PIECE_BYTES):
                entry = queue.pop(0)
                size += size_of(*entry)
                entries.append(entry)
            if queue:
                break
        more = any(queues)
        if not more:
            self._sent.clear()
            self._bytes = 0
        return Rest([payload for payload, _ in entries], [result for _, result in entries], more)


def fitting(payload: bytes, result: Result) -> Result:
    """Return a result, or, where it is too large to be sent with its example, an error in its place."""
    size = size_of(payload, result)
    return result if size <= MOST_BYTES else _too_large(result, size)


def size_of(payload: bytes, result: Result) -> int:
    """Return about how many bytes a result takes with its example."""
    size = _FRAME + len(payload) + len(result.prediction or b"") + len(result.extra or b"")
    if result.error is not None:
        size += sum(len(value) for value in result.error.values() if isinstance(value, str))
    return size + 200 * len(result.attempts)


def _too_large(result: Result, size: int) -> Result:
    error = CodecError(
        f"the example with its result takes {size:,} bytes: at most {MOST_BYTES:,} can be kept; "
        "return less, or keep it elsewhere and return where it is"
    )
    return Result(
        index=result.index,
        send=result.send,
        error=error.to_record(),
        failure="DspexError",
        latency=result.latency,
        attempts=result.attempts,
    )
