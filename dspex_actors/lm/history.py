"""The last LM calls of this process, to be looked at: `dspex.inspect_history()`. A worker keeps none.

Kept are the calls themselves; what they look like as DSPy's entries is made when somebody looks. They are bounded in
number (the setting `max_history_size`) and in size: a program that sends pictures for days does not grow.
"""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, NamedTuple, TextIO

from dspex_actors.errors import ConfigError
from dspex_actors.foundation.counts import as_dspys
from dspex_actors.settings import settings

#: The prompts that are kept have so many characters together; the oldest go first.
MOST_CHARACTERS = 32 << 20
#: Of a program so many of its last calls are known.
MOST_OF_MODULE = 1000


class _Call(NamedTuple):
    lm: Any
    prompt: Any
    messages: Any
    params: dict[str, Any]
    reply: Any
    at: float
    size: int


class History:
    """The last calls of this process. Thread-safe."""

    def __init__(self) -> None:
        """Begin with none."""
        #: Whether this process keeps them at all.
        self.kept = True
        self._lock = threading.Lock()
        self._calls: deque[_Call] = deque()
        self._size = 0
        #: Program, by its id → the program, and the replies that it took.
        self._modules: dict[int, tuple[weakref.ref[Any], deque[Any]]] = {}

    def stop(self) -> None:
        """Keep nothing from now on: this process works for others."""
        self.kept = False
        self.clear()

    def clear(self) -> None:
        """Forget what was kept."""
        with self._lock:
            self._calls.clear()
            self._modules.clear()
            self._size = 0

    def asked(self, lm: Any, prompt: Any, messages: Any, params: dict[str, Any], reply: Any) -> None:
        """Keep a call that has its answer."""
        most = settings.history_size()
        if not most:
            return
        size = _length(messages if prompt is None else prompt)
        with self._lock:
            self._calls.append(_Call(lm, prompt, messages, params, reply, time.time(), size))
            self._size += size
            while len(self._calls) > most or (self._size > MOST_CHARACTERS and self._calls):
                self._size -= self._calls.popleft().size

    def ran(self, module: Any, replies: Iterable[Any]) -> None:
        """Note which replies a program took."""
        found = self._modules.get(id(module))
        if found is None or found[0]() is not module:
            try:
                ref = weakref.ref(module, functools.partial(self._forget, id(module)))
            except TypeError:
                return  # its class has slots
            found = self._modules[id(module)] = (ref, deque(maxlen=MOST_OF_MODULE))
        found[1].extend(replies)

    def _forget(self, key: int, ref: Any) -> None:
        found = self._modules.get(key)
        if found is not None and found[0] is ref:  # else another program has its place by now
            del self._modules[key]

    def last(self, n: int) -> list[dict[str, Any]]:
        """Return the last calls, oldest first."""
        return [_entry(call) for call in list(self._calls)[-n:]]

    def of_lm(self, lm: Any) -> list[dict[str, Any]]:
        """Return the calls of an LM, oldest first; of one of ours also those of LMs with the same settings."""
        return [_entry(call) for call in list(self._calls) if call.lm is lm or call.lm == lm]

    def of_module(self, module: Any) -> list[dict[str, Any]]:
        """Return the calls that a program's calls have made, oldest first."""
        found = self._modules.get(id(module))
        if found is None or found[0]() is not module:
            return []
        mine = {id(reply) for reply in list(found[1])}
        return [_entry(call) for call in list(self._calls) if id(call.reply) in mine]


HISTORY = History()


class Entries:
    """The attribute `history` of an LM or a program; one that keeps something of its own under that name has that.

    Args:
        find: gives the calls of one of them.
    """

    def __init__(self, find: Callable[[Any], list[dict[str, Any]]]) -> None:
        """Keep the function."""
        self._find = find

    def __get__(self, one: Any, owner: type) -> Any:
        """Return the calls, oldest first; of the class this attribute."""
        return self if one is None else self._find(one)


def inspect_history(n: int = 1, file: TextIO | None = None) -> None:
    """Print the last LM calls of this process, as DSPy does; what runs on workers is shown by `dspex trace`.

    Args:
        n: so many of them.
        file: where to; None: standard output, in colours.

    Raises:
        ConfigError: `n` is no whole number of at least 1.
    """
    show(HISTORY.last(_check(n)), n, file)


def show(entries: list[dict[str, Any]], n: int, file: TextIO | None) -> None:
    """Print the last `n` of some entries."""
    out, colours = file or sys.stdout, file is None
    for entry in entries[-_check(n) :]:
        lines = ["\n\n\n", _in("34", f"[{entry['timestamp']}]", colours)]
        messages = entry["messages"] or [{"role": "user", "content": entry["prompt"]}]
        for message in messages:
            role, content = _of(message, "role"), _of(message, "content")
            lines += [_in("31", f"{str(role).capitalize()} message:", colours), "", *_shown(content), ""]
        lines += [_in("31", "Response:", colours), "", _in("32", entry["outputs"][0].strip(), colours)]
        for called in entry["response"].tool_calls:
            lines.append(_in("32", f"{called.name}: {called.arguments}", colours))
        print("\n".join(lines), file=out)
    if entries:
        print("\n\n\n", file=out)


def _check(n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ConfigError(f"n is invalid: got {n!r:.40}, expected how many calls to show, at least 1")
    return n


def _entry(call: _Call) -> dict[str, Any]:
    reply, prompt = call.reply, call.prompt
    is_list = isinstance(prompt, list)
    return {
        "prompt": None if is_list else prompt,
        "messages": prompt if is_list else call.messages,
        "kwargs": {**getattr(call.lm, "kwargs", {}), **call.params},
        "response": reply,
        "outputs": [reply.text],
        "usage": as_dspys(reply.usage.to_dict()),
        "cost": reply.cost,
        "timestamp": datetime.fromtimestamp(call.at).isoformat(),
        "uuid": str(uuid.uuid4()),
        "model": getattr(call.lm, "model", type(call.lm).__name__),
        "response_model": reply.model,
        "model_type": getattr(call.lm, "model_type", "chat"),
    }


def _length(content: Any) -> int:
    """Return about how many characters a prompt has."""
    if type(content) is list:
        size = 0
        for message in content:
            said = message.get("content", message) if type(message) is dict else message
            size += len(said) + 100 if type(said) is str else _length(said)
        return size
    if isinstance(content, str | bytes):
        return len(content) + 100
    if isinstance(content, dict):
        return sum(map(_length, content.values()))
    return sum(map(_length, content)) if isinstance(content, tuple) else 100


def _of(message: Any, name: str) -> Any:
    return message.get(name) if isinstance(message, dict) else getattr(message, name, None)


def _shown(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content.strip()]
    if not isinstance(content, list | tuple):
        return [] if content is None else [str(content)]
    return list(itertools.chain.from_iterable(_part(part) for part in content))


def _part(part: Any) -> list[str]:
    if not isinstance(part, dict):
        return [str(getattr(part, "text", None) or f"<{type(part).__name__}>")]
    if part.get("type") == "text":
        return [str(part.get("text", "")).strip()]
    return [f"<{part.get('type', 'part')}: {_length(part):,} characters>"]


def _in(colour: str, text: str, colours: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colours else text
