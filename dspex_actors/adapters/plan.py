"""What an adapter works out once per signature: the fixed parts of the prompt, and the demos as messages.

A program renders the same system message and the same demos for each of a hundred thousand examples. Both
are kept here. Nothing is ever served stale: a demo's rendering is used only while the demo still has the
very same objects under the same names, and objects that can change from inside (lists, dicts, models) still
render the same.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from operator import is_, methodcaller
from typing import Any

from pydantic.fields import FieldInfo

from dspex_actors.adapters.history import history_field
from dspex_actors.adapters.parts import Content, collected
from dspex_actors.adapters.usable import parsers_of
from dspex_actors.adapters.values import ATOMS, Parser, holds_decimals, render_value
from dspex_actors.foundation.config_errors import ConfigTypeError
from dspex_actors.signatures.fields import extras
from dspex_actors.signatures.signature import Signature, SignatureMeta
from dspex_actors.types.base import Type

#: Rendered demos kept per signature. Optimisers try many; a prompt rarely has more than some dozens.
_MAX_DEMOS = 512

_desc = methodcaller("get", "desc")

_lock = threading.Lock()
# In a forked child nobody may be left who could let go of it.
os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock()))


#: A value's text, and the parts that it has marks for.
Rendering = tuple[str, list[list[dict[str, Any]]]]


def _rendered(field: FieldInfo, value: Any) -> Rendering:
    text, parts = collected(lambda: render_value(field, value))
    return text, parts.kept


@dataclass(slots=True)
class RenderedDemo:
    """One demo as messages, and what it was rendered from.

    Args:
        store: the demo's fields; held, so that its identity stays its own.
        names: its names at the time.
        values: its values at the time, compared by identity.
        texts: lists of text in it, each with a copy to compare with.
        others: (field, value, rendering) of every other value that may change from inside; a rendering is a text and
            the parts that it has marks for.
        complete: every field of the signature is given; None: too little to be worth showing.
        user: the content of the user message.
        assistant: that of the assistant message.
    """

    store: Mapping[str, Any]
    names: tuple[str, ...]
    values: tuple[Any, ...]
    texts: tuple[tuple[list[str], list[str]], ...]
    others: tuple[tuple[FieldInfo, Any, Rendering], ...]
    complete: bool | None
    user: Content
    assistant: str

    def is_fresh(self, store: Mapping[str, Any]) -> bool:
        """Tell whether the messages still say what `store` holds."""
        if self.store is not store or len(store) != len(self.values):
            return False
        if not all(map(is_, store.values(), self.values)) or tuple(store) != self.names:
            return False
        if self.texts and any(now != then for now, then in self.texts):
            return False
        return not self.others or all(_rendered(kind, value) == then for kind, value, then in self.others)


@dataclass(slots=True)
class Plan:
    """The parts of a prompt that depend on the signature alone, and how to read the answer.

    Args:
        doc: the docstring they were made from.
        settings: every field's own settings, and `descs`, their descriptions at the time.
        descs: see `settings`.
        inputs: the input fields.
        outputs: the output fields.
        parsers: how to read each output.
        exact: an output has Decimals in it: numbers of the answer must not go through float.
        typed: the inputs whose values are brought into their types.
        history: the input that is a conversation so far.
        system: the system message's text.
        request: the paragraph that ends the last user message.
        demos: rendered demos by identity.
    """

    doc: str | None
    settings: tuple[dict[str, Any], ...]
    descs: tuple[Any, ...]
    inputs: dict[str, FieldInfo]
    outputs: dict[str, FieldInfo]
    parsers: dict[str, Parser]
    exact: bool
    typed: dict[str, FieldInfo] = field(default_factory=dict)
    history: str | None = None
    system: str = ""
    request: str = ""
    demos: dict[int, RenderedDemo] = field(default_factory=dict)
    _shorter: dict[tuple[str, ...], type[Signature]] = field(default_factory=dict)

    def without(self, signature: SignatureMeta, *names: str) -> type[Signature]:
        """Return the signature without some fields; the same one each time."""
        made = self._shorter.get(names)
        if made is None:
            shorter: Any = signature
            for name in names:
                shorter = shorter.delete(name)
            made = self._shorter[names] = shorter
        return made

    def lacks(self, found: Container[str]) -> bool:
        """Tell whether an output is missing that has to be there."""
        return any(name not in found and kind.is_required() for name, kind in self.outputs.items())

    def is_fresh(self, signature: SignatureMeta) -> bool:
        """Tell whether the signature still has the words that the plan was made from."""
        return self.doc is signature.__doc__ and self.descs == tuple(map(_desc, self.settings))

    def demo(
        self,
        store: Mapping[str, Any],
        render: Callable[[Mapping[str, Any]], tuple[bool | None, Content, str]],
    ) -> RenderedDemo:
        """Return `store` as messages, from the cache while that is sound, else by `render`."""
        known = self.demos.get(id(store))
        if known is not None and known.is_fresh(store):
            return known
        if not isinstance(store, Mapping):
            raise ConfigTypeError(f"a demo is invalid: got {store!r:.80}, expected an Example or a dict of fields")
        texts: list[tuple[list[str], list[str]]] = []
        others: list[tuple[FieldInfo, Any, Rendering]] = []
        for name, kind in {**self.inputs, **self.outputs}.items():
            value = store.get(name)
            if isinstance(value, ATOMS) or (isinstance(value, Type) and value.model_config.get("frozen")):
                continue
            if type(value) is list and all(type(item) is str for item in value):
                texts.append((value, value.copy()))
            else:
                others.append((kind, value, _rendered(kind, value)))
        made = RenderedDemo(store, tuple(store), tuple(store.values()), tuple(texts), tuple(others), *render(store))
        with _lock:
            while len(self.demos) >= _MAX_DEMOS:
                del self.demos[next(iter(self.demos))]
            self.demos[id(store)] = made
        return made


class Plans:
    """Plans by signature; a signature that nobody else holds takes its plan with it."""

    def __init__(self) -> None:
        """Start empty."""
        self._plans: weakref.WeakKeyDictionary[SignatureMeta, Plan] = weakref.WeakKeyDictionary()
        # The last one that was asked for: a run asks for it three times an example, and nearly always for the same.
        self._last: tuple[Callable[[], SignatureMeta | None], Plan | None] = (lambda: None), None

    def get(self, signature: SignatureMeta, fill: Callable[[Plan, SignatureMeta], None]) -> Plan:
        """Return the plan of `signature`; a new one is completed by `fill`."""
        whose, plan = self._last
        if whose() is not signature:
            plan = self._plans.get(signature)
        if plan is None or not plan.is_fresh(signature):
            plan = _new_plan(signature)
            fill(plan, signature)
            with _lock:
                self._plans[signature] = plan
        if whose() is not signature or plan is not self._last[1]:
            self._last = weakref.ref(signature), plan
        return plan


def _new_plan(signature: SignatureMeta) -> Plan:
    settings = tuple(extras(kind) for kind in signature.fields.values())
    outputs = signature.output_fields
    return Plan(
        doc=signature.__doc__,
        settings=settings,
        descs=tuple(map(_desc, settings)),
        inputs=signature.input_fields,
        outputs=outputs,
        parsers=parsers_of(signature.__name__, outputs),
        exact=any(holds_decimals(kind.annotation) for kind in outputs.values()),
        typed=signature._typed[0],
        history=history_field(signature),
    )
