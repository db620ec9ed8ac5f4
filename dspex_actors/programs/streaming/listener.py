"""`StreamListener`: which output field of which predictor is read as it comes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dspex_actors.adapters.chat import ChatAdapter
from dspex_actors.adapters.json import JSONAdapter
from dspex_actors.adapters.xml import XMLAdapter
from dspex_actors.errors import AdapterParseError
from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.lm.content.pieces import Piece
from dspex_actors.programs.streaming.fields import ChatFinder, Finder, JSONFinder
from dspex_actors.programs.streaming.messages import StreamResponse
from dspex_actors.programs.streaming.xml_finder import XMLFinder


class StreamListener:
    """Listens to one output field.

    Args:
        signature_field_name: the field.
        predict: the predictor; None: the only one of the program that has such a field, or that of `predict_name`.
        predict_name: its path in the program.
        allow_reuse: listen to each call of the predictor, and not only to the first one that gives the field; in each
            stream of the program anew.

    Attributes:
        stream_start: the field has begun, in the stream that it heard last.
        stream_end: it has ended there.
        cache_hit: its answer was not asked for, but found in a cache.
    """

    def __init__(
        self,
        signature_field_name: str,
        predict: Any = None,
        predict_name: str | None = None,
        allow_reuse: bool = False,
    ) -> None:
        """Listen to nothing yet: `streamify` hangs it in."""
        if not isinstance(signature_field_name, str) or not signature_field_name:
            what = f"got {signature_field_name!r:.80}, expected the name of an output field"
            raise ConfigValueError(f"signature_field_name is invalid: {what}")
        self.signature_field_name = signature_field_name
        self.predict = predict
        self.predict_name = predict_name
        self.allow_reuse = allow_reuse
        self.stream_start = self.stream_end = self.cache_hit = False


class Following:
    """One listener at one call.

    Args:
        listener: the listener.
        request: the call.

    Raises:
        ConfigValueError: an answer in the form of this adapter cannot be followed.
    """

    def __init__(self, listener: StreamListener, request: Any) -> None:
        """Begin before the answer."""
        self.listener = listener
        self._request = request
        self._name = listener.signature_field_name
        # What the model thinks by itself is no field of its text.
        self._is_thought = self._name not in request.signature.output_fields
        self._finder = _finder(request.adapter, self._name, request.signature.output_fields)
        self._is_over = False
        #: The field has begun.
        self.has_begun = False
        #: Somebody has seen some of it.
        self.has_shown = False

    def take(self, piece: Piece) -> StreamResponse | None:
        """Take in a piece of the answer; return what of the field it has brought, if any."""
        if self._is_over:
            return None
        if self._is_thought:
            if piece.kind == "thinking":
                return self._given(piece.text, last=False)
            return self._given("", last=True) if self.has_begun else None
        if piece.kind != "text":
            return None
        text = self._finder.feed(piece.text)
        last = self._finder.has_begun and self._finder.has_ended
        return self._given(text, last=last) if text or last else None

    def end(self, reply: Any) -> StreamResponse | None:
        """Take in that the answer is whole; return what is left of the field.

        One that was not found as it came, in an answer that had to be repaired, say, comes now.
        """
        self.listener.cache_hit = getattr(reply, "cached", None) is not None
        if self._is_over:
            return None
        if self._is_thought:
            return self._given("", last=True) if self.has_begun else None
        text = self._finder.end()
        if self._finder.has_begun:
            return self._given(text, last=True)
        try:
            value = self._request.adapter.parse(self._request.signature, reply.text)[self._name]
        except (AdapterParseError, KeyError):
            return None
        return None if value is None else self._given(_text_of(value), last=True)

    def _given(self, text: str, *, last: bool) -> StreamResponse:
        listener = self.listener
        self.has_begun = listener.stream_start = True
        self._is_over = listener.stream_end = last
        self.has_shown = self.has_shown or bool(text)
        return StreamResponse(listener.predict_name, self._name, text, last)


def _finder(adapter: Any, field: str, outputs: Iterable[str]) -> Finder:
    if getattr(adapter, "supports_streaming", False):
        own: Finder | None = adapter.finder(field, outputs)
        if own is not None:
            return own
        if isinstance(adapter, JSONAdapter):
            return JSONFinder(field)
        if isinstance(adapter, XMLAdapter):
            return XMLFinder(field)
        if isinstance(adapter, ChatAdapter):
            return ChatFinder(field, outputs)
    raise ConfigValueError(
        f"answers to {type(adapter).__name__} cannot be followed field by field; expected ChatAdapter, JSONAdapter, "
        "XMLAdapter, or one of yours with supports_streaming and a finder, or streamify without stream_listeners"
    )


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)


def by_predictor(program: Any, listeners: Iterable[StreamListener]) -> dict[int, list[StreamListener]]:
    """Find each listener's predictor; return the listeners by the predictor's id.

    Raises:
        ConfigValueError: there is none, or more than one; names the field and what there is.
    """
    named = program.named_predictors() if hasattr(program, "named_predictors") else []
    found: dict[int, list[StreamListener]] = {}
    for listener in listeners:
        if not isinstance(listener, StreamListener):
            raise ConfigValueError(
                f"stream_listeners is invalid: got {type(listener).__name__}, expected StreamListeners"
            )
        field = listener.signature_field_name
        if listener.predict is not None:
            names = [name for name, predictor in named if predictor is listener.predict]
            listener.predict_name = listener.predict_name or (names[0] if names else None)
            fitting = [(listener.predict_name, listener.predict)]
        elif listener.predict_name is not None:
            fitting = [(name, predictor) for name, predictor in named if name == listener.predict_name]
            if not fitting:
                known = ", ".join(name for name, _ in named) or "none"
                raise ConfigValueError(
                    f"predict_name is invalid: got {listener.predict_name!r}, expected one of: {known}"
                )
        else:
            fitting = [(name, predictor) for name, predictor in named if field in predictor.signature.output_fields]
        if len(fitting) > 1:
            raise ConfigValueError(
                f"Signature field {field} is not unique in the program: {', '.join(str(name) for name, _ in fitting)} "
                "have it; give the listener predict=..., or predict_name=..."
            )
        if not fitting or field not in fitting[0][1].signature.output_fields:
            outputs = sorted({output for _, predictor in named for output in predictor.signature.output_fields})
            raise ConfigValueError(
                f"Signature field {field} is not a field of any predictor that it could be; there are: "
                f"{', '.join(outputs) or 'none'}"
            )
        listener.predict_name, listener.predict = fitting[0]
        found.setdefault(id(listener.predict), []).append(listener)
    return found
