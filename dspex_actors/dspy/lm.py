"""`LM`: one of our LMs as a `dspy.BaseLM`. Imports DSPy."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

from dspex_actors.errors import ConfigError
from dspex_actors.lm import lm as ours
from dspex_actors.lm.base import BaseLM
from dspex_actors.lm.reply import LMReply

try:
    import dspy
except ImportError as error:
    raise ConfigError(f"DSPy cannot be imported ({error}): pip install 'dspex-actors[dspy]'") from None

# What it asks plugins to do instead is not there in the releases before 3.4.
warnings.filterwarnings("ignore", "Implementing custom LMs through BaseLM", DeprecationWarning)

#: What DSPy keeps for itself, or our LM decides: retries are ours.
_THEIRS = frozenset({"num_retries", "prompt", "headers", "extra_headers", "api_base", "base_url", "api_key"})
#: An `n` of more answers is asked for in so many threads.
_AT_ONCE = 16


class LM(dspy.BaseLM):  # type: ignore[misc]  # without DSPy it is Any
    """One of our LMs where DSPy wants one of its own: `dspy.configure(lm=LM("openai/gpt-4o-mini"))`.

    Its calls are paced, retried, cached, counted and paid for as those of the LM, through the connection that
    `dspex.connect` made; in a worker through that worker. DSPy's own cache and retries do not take part.

    Args:
        model: `provider/model`, or one of our LMs, a `BaseLM` of one's own too.
        **settings: of `dspex.LM`, where `model` is a text.

    Raises:
        ConfigError: a setting is not usable, or DSPy is not installed.
    """

    def __init__(self, model: str | BaseLM, **settings: Any) -> None:
        """Make or take the LM."""
        if isinstance(model, str):
            self.lm: BaseLM = ours.LM(model, **settings)
        elif (isinstance(model, BaseLM) or _asks_ours(model)) and not settings:
            self.lm = model
        else:
            raise ConfigError(
                f"model is invalid: got {model!r:.80}{' and settings' if settings else ''}, expected provider/model "
                "and settings, or a dspex LM alone"
            )
        name = getattr(self.lm, "model", None) or type(self.lm).__name__
        super().__init__(model=name, model_type="chat", cache=False)
        self.kwargs: dict[str, Any] = {}

    # --- what DSPy asks ---------------------------------------------------------------------------------------------

    def forward(self, prompt: str | None = None, messages: Any = None, **kwargs: Any) -> Any:
        """Answer one call, in OpenAI's shape."""
        asked, params, count = self._call(prompt, messages, kwargs)
        if count == 1:
            return _response([self.lm(asked, **params)])
        with ThreadPoolExecutor(min(count, _AT_ONCE)) as pool:
            frames = [copy_context() for _ in range(count)]
            ways = [pool.submit(frame.run, lambda own=own: self.lm(asked, **own)) for frame, own in
                    zip(frames, _apart(params, count), strict=True)]  # fmt: skip
            return _response([way.result() for way in ways])

    async def aforward(self, prompt: str | None = None, messages: Any = None, **kwargs: Any) -> Any:
        """Answer one call on an event loop."""
        asked, params, count = self._call(prompt, messages, kwargs)
        return _response(await asyncio.gather(*(self.lm.acall(asked, **own) for own in _apart(params, count))))

    def _call(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any], int]:
        merged = {**self.kwargs, **kwargs}
        params = {name: value for name, value in merged.items() if value is not None and name not in _THEIRS}
        count = params.pop("n", 1)
        return (prompt if messages is None else messages), params, count

    # --- what it can do ---------------------------------------------------------------------------------------------

    @property
    def supports_function_calling(self) -> bool:
        """Whether it takes tools."""
        return self.lm.supports_function_calling

    @property
    def supports_reasoning(self) -> bool:
        """Whether it takes `reasoning_effort`."""
        return self.lm.supports_reasoning

    @property
    def supports_response_schema(self) -> bool:
        """Whether it takes a `response_format` with a schema."""
        return self.lm.supports_response_schema

    @property
    def supported_params(self) -> set[str]:
        """Parameters that it is known to take."""
        return set(self.lm.supported_params)

    # --- DSPy's bookkeeping -----------------------------------------------------------------------------------------

    def dump_state(self) -> dict[str, Any]:
        """Return what it is, without keys; as `dspex.LM`'s, whose model string every DSPy understands."""
        kept = self.lm.dump_state() if isinstance(self.lm, ours.LM) else {"model": self.model}
        return {**kept, "model_type": "chat", "cache": False}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what it has noted down."""
        return {**vars(self), "history": [], "callbacks": []}


def _asks_ours(model: Any) -> bool:
    """Whether something asks one of ours with other parameters, as optimisers do for another answer."""
    return isinstance(getattr(model, "_lm", None), BaseLM) and hasattr(type(model), "acall")


def _apart(params: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Return the parameters of each of several answers: to a cache they are calls of their own."""
    if count == 1:
        return [params]
    first = params.get("rollout_id")
    return [{**params, "rollout_id": f"{'' if first is None else first}.{place}"} for place in range(count)]


def _response(replies: Sequence[LMReply]) -> Any:
    """Return replies as OpenAI's SDK gives one: DSPy reads that."""
    first = replies[0]
    usage = {
        "prompt_tokens": sum(reply.usage.input_total for reply in replies),
        "completion_tokens": sum(reply.usage.output_total for reply in replies),
    }
    usage["total_tokens"] = sum(usage.values())
    costs = [reply.cost for reply in replies]
    cost = None if None in costs else sum(cost for cost in costs if cost is not None)
    return SimpleNamespace(
        choices=[_choice(reply) for reply in replies],
        usage=usage,
        model=first.model,
        cache_hit=all(reply.cached for reply in replies),
        _hidden_params={"response_cost": cost},
    )


def _choice(reply: LMReply) -> Any:
    calls = [
        SimpleNamespace(id=call.id, type="function", function=SimpleNamespace(name=call.name, arguments=call.text))
        for call in reply.tool_calls
    ]
    message = SimpleNamespace(
        role="assistant", content=reply.text, tool_calls=calls or None, reasoning_content=reply.reasoning
    )
    return SimpleNamespace(
        index=0, message=message, finish_reason=reply.finish_reason or "stop", logprobs=reply.logprobs
    )
