"""Predict's three steps as steps of a workflow: render the messages, call the LM, parse its answer.

::

    steps = dspex.predict_steps(predictor)
    dspex.Workflow([*steps[:2], ("log", log), steps[2]]).run({"question": "..."}).data["answer"]
"""

from __future__ import annotations

from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.programs.predict import Predict
from dspex_actors.workflow.core import Step

#: What is between the steps: no field of a signature begins with an underscore.
MESSAGES, REPLIES = "_messages", "_replies"


def predict_steps(predictor: Predict) -> list[Step]:
    """Return the steps `render`, `call` and `parse` of a predictor; doing them gives what calling it gives.

    The data hold the inputs under their names. `render` gives `_messages`, `call` gives `_replies`, one for each answer
    that is wanted, and `parse` the output fields. Where an answer cannot be read `parse` asks once more, as calls do.

    Args:
        predictor: a Predict, of which forward and adapter are the usual ones.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(predictor, Predict):
        raise ConfigError(f"the predictor is invalid: got {type(predictor).__name__}, expected a Predict")

    def render(data: dict[str, Any]) -> dict[str, Any]:
        request = next(predictor.requests(_inputs(predictor, data)))
        return {MESSAGES: request.messages}

    def call(data: dict[str, Any]) -> dict[str, Any]:
        request = next(predictor.requests(_inputs(predictor, data)))
        return {REPLIES: [request.lm(data[MESSAGES], **request.params) for _ in range(request.answers)]}

    def parse(data: dict[str, Any]) -> dict[str, Any]:
        asking = predictor.requests(_inputs(predictor, data))
        replies = list(data[REPLIES])
        request = next(asking)
        rendered = request.messages
        try:
            while True:
                known = bool(replies) and request.messages == rendered
                reply = replies.pop(0) if known else request.lm(request.messages, **request.params)
                request = asking.send(reply)
        except StopIteration as done:
            return dict(done.value)

    return [Step("render", render), Step("call", call), Step("parse", parse)]


def _inputs(predictor: Predict, data: dict[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in predictor.signature.input_fields if name in data}
