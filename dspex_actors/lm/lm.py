"""`LM`: which language model to ask, and how. Settings only: it is the current backend that asks."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import orjson

from dspex_actors.errors import ConfigError, LMError
from dspex_actors.foundation.operation import Operation, part
from dspex_actors.lm import address, chains, rules, saved
from dspex_actors.lm import settings as check
from dspex_actors.lm.backend import current_backend
from dspex_actors.lm.base import BaseLM
from dspex_actors.lm.deployment import NEWER, Deployment, Limits
from dspex_actors.lm.history import HISTORY
from dspex_actors.lm.identity import digest
from dspex_actors.lm.keys import check_reference
from dspex_actors.lm.readable import Readable
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest, Options, Parts
from dspex_actors.lm.stream import Source
from dspex_actors.settings import book_call, book_failure, check_tags, settings

#: Settings in the order of the constructor, with their defaults.
_DEFAULTS: dict[str, Any] = {
    "base_url": None,
    "api_key": None,
    "rpm": None,
    "tpm": None,
    **dict.fromkeys(NEWER),
    "max_in_flight": None,
    "timeout": 60.0,
    "deadline": 600.0,
    "fallbacks": (),
    "cache": True,
    **chains.DEFAULTS,
    "model_type": "chat",
    "cache_ttl": None,
}
#: What is written down only where it is not so: what was written before it was there stays the same.
_UNSAID: dict[str, Any] = {**dict.fromkeys(NEWER), **chains.DEFAULTS, "model_type": "chat", "cache_ttl": None}


class LM(Readable, BaseLM):
    """One language model with its settings; immutable, comparable, and the same thing in every process.

    Calling it asks the model through the connection that `dspex.connect` made (inside a worker: directly):

        lm = dspex.LM("openai/gpt-4o-mini", temperature=0.0, max_tokens=512)
        lm("Name a colour.").text
        (await lm.acall([{"role": "user", "content": "Name a colour."}], temperature=1.0)).text

    It has three parts. The *deployment* (provider, server, model, key) owns budget, circuit and connections: LMs that
    differ in nothing of it share them. The *parameters* (temperature and the like) change the answer. *Call options*
    (timeout, deadline, cache) belong to nobody's identity.

    Args:
        model: `provider/model`; provider is openai, anthropic, gemini, cohere or embedded.
        base_url: the server, as the provider's own SDK writes it: openai's ends in /v1, the others' have no
            path. A query (`?api-version=...`) follows every request's path.
            None: the provider's public one.
        api_key: reference to the key, `env:NAME`, never the key itself. None: the provider's usual variable at the
            provider's own server, and no key at any other.
        rpm: requests per minute, for the whole cluster. None: learnt. All limits that are told hold, and of LMs of one
            deployment that tell different ones the smallest that was told in the last minute.
        tpm: tokens per minute, for the whole cluster. None: not limited, as all that follow.
        itpm: input tokens per minute.
        otpm: output tokens per minute.
        rps: requests per second.
        rpd: requests per day, as days begin where the provider is.
        tpd: tokens per day.
        max_in_flight: requests at the same time, per worker. None: as many as the connections allow.
        timeout: seconds for one request.
        deadline: seconds for one call, waits and retries included.
        fallbacks: LMs or model strings to ask when this one cannot answer, in order. Each is an LM of its own, with
            its own parameters and deadline; a model string takes over this LM's call options, no parameters.
            It is asked when this one is away, limited or too slow, its circuit is open, or the prompt is too long.
        context_fallbacks: the same for a prompt that does not fit this one's window; None: `fallbacks` serves for it.
        content_fallbacks: the same for what this one's content policy blocks; None: nobody else is asked.
        circuit: when this deployment is left alone for a while: `failure_threshold` failures in a row (or
            `failure_rate`, a share of at least `min_calls` calls within `window` seconds); for `recovery_time` seconds,
            `growth` times as long after each probe that fails, up to `max_recovery_time`. What is not given is as
            `infrastructure.circuit_breakers` says. False: never; None: all as the configuration says.
        hedge: ask a second time when an answer takes longer than 95 of 100 do, at most for one request in twenty; the
            first answer counts.
        cache: False asks anew each time, and keeps no answer.
        cache_ttl: seconds for which an earlier answer is used; None: as `configure_cache` says.
        model_type: "chat"; "responses", which asks OpenAI's models in the Responses API; or "embeddings" (what
            `dspex.Embedder` asks for). It changes the answer, not the deployment.
        params: temperature, max_tokens, stop, top_p, seed and the like, in the same words for every provider;
            those we do not know go to the provider as they are. What a model is known not to take (a temperature, at
            those that reason) is left out or replaced by the nearest it takes, with one warning. None means not set.
            `rollout_id` only tells answers apart for a cache.

    Raises:
        ConfigError: a setting is not usable; names it, what was given and what is legal.
    """

    __slots__ = ("_identity", "_params", "_parts", "_settings", "model")

    #: `provider/model`.
    model: str
    _settings: dict[str, Any]
    _params: dict[str, Any]
    #: Made once: every request carries them.
    _parts: Parts
    _identity: str

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        itpm: float | None = None,
        otpm: float | None = None,
        rps: float | None = None,
        rpd: float | None = None,
        tpd: float | None = None,
        max_in_flight: int | None = None,
        timeout: float = 60.0,
        deadline: float = 600.0,
        fallbacks: Iterable[str | LM] = (),
        cache: bool = True,
        context_fallbacks: Iterable[str | LM] | None = None,
        content_fallbacks: Iterable[str | LM] | None = None,
        circuit: dict[str, Any] | bool | None = None,
        hedge: bool = False,
        model_type: str = "chat",
        cache_ttl: float | None = None,
        **params: Any,
    ) -> None:
        """Check every setting, in the order they are written; see the class."""
        provider, name = check.model_string(model)
        settings: dict[str, Any] = {
            "base_url": address.base_url(base_url),
            "api_key": None if api_key is None else check_reference(api_key),
            "rpm": check.rate("rpm", rpm),
            "tpm": check.rate("tpm", tpm),
            **{name: check.rate(name, value) for name, value in zip(NEWER, (itpm, otpm, rps, rpd, tpd), strict=True)},
            "max_in_flight": check.count("max_in_flight", max_in_flight),
            "timeout": check.seconds("timeout", timeout),
            "deadline": check.seconds("deadline", deadline),
            "fallbacks": chains.fallbacks("fallbacks", fallbacks, LM),
            "cache": check.flag("cache", cache),
            "context_fallbacks": chains.fallbacks("context_fallbacks", context_fallbacks, LM),
            "content_fallbacks": chains.fallbacks("content_fallbacks", content_fallbacks, LM),
            "circuit": chains.circuit(circuit),
            "hedge": check.flag("hedge", hedge),
            "model_type": check.model_type(provider, model_type),
            "cache_ttl": None if cache_ttl is None else check.seconds("cache_ttl", cache_ttl),
        }
        kept = {key: value for key, value in check.params(params).items() if value is not None}
        rules.fit(rules.rows_for(provider, settings["model_type"]), name, kept)
        for slot, value in (("model", model), ("_settings", settings), ("_params", kept)):
            object.__setattr__(self, slot, value)
        deployment = Deployment(provider, name, settings["base_url"], settings["api_key"])
        handed_on = {key: settings[key] for key in ("timeout", "deadline", "cache", "cache_ttl")}
        others: dict[str, tuple[Parts, ...] | None] = {}
        for key in chains.LISTS:
            lms = settings[key]
            others[key] = lms and tuple(
                (LM(other, **handed_on) if isinstance(other, str) else other)._parts for other in lms
            )
        options = Options(**handed_on, hedge=settings["hedge"])
        parts = Parts(
            settings=self.to_dict(),
            deployment=deployment,
            limits=Limits(**{name: settings[name] for name in Limits._fields}),
            params=kept,
            options=options,
            circuit=settings["circuit"],
            fallbacks=others["fallbacks"] or (),
            context_fallbacks=others["context_fallbacks"],
            content_fallbacks=others["content_fallbacks"],
            model_type=settings["model_type"],
        )
        chains.refuse_loops(parts)
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_identity", digest({**parts.settings, "base_url": deployment.server}))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: an LM does not change; `copy` makes another."""
        raise AttributeError(f"an LM is immutable: use lm.copy({name}=...)")

    def __delattr__(self, name: str) -> None:
        """Refuse, as `__setattr__`."""
        raise AttributeError("an LM is immutable: use lm.copy(...)")

    @property
    def kwargs(self) -> dict[str, Any]:  # type: ignore[override]
        """A copy of the parameters for the provider (DSPy's name for them)."""
        return {name: check.plain(name, value) for name, value in self._params.items()}

    def copy(self, **changes: Any) -> LM:
        """Return an LM with some settings or parameters changed.

        Args:
            changes: anything the constructor takes; None for a parameter takes it away.

        Raises:
            ConfigError: as the constructor.
        """
        return type(self)(**{"model": self.model, **self._settings, **self._params, **changes})

    def with_params(self, **params: Any) -> LM:
        """Return an LM of the same deployment with other parameters: it shares budget, circuit and connections.

        Args:
            params: parameters over this LM's own; None takes one away.

        Raises:
            ConfigError: a parameter is not usable, or is a setting.
        """
        settings = sorted({"model", *_DEFAULTS} & params.keys())
        if settings:
            raise ConfigError(f"{settings[0]}: a setting, no parameter; use lm.copy({settings[0]}=...)")
        return self.copy(**params)

    @property
    def history(self) -> list[dict[str, Any]]:
        """Its last calls in this process, oldest first, as DSPy's entries; those of LMs with the same settings too."""
        return HISTORY.of_lm(self)

    def identity(self) -> str:
        """Return a digest of provider, model, server and all settings; the same in every process."""
        return self._identity

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data; the key only as its reference."""
        settings = {
            name: [lm if isinstance(lm, str) else lm.to_dict() for lm in value]
            if name in chains.LISTS and value is not None
            else value
            for name, value in self._settings.items()
            if name not in _UNSAID or value != _UNSAID[name]
        }
        return {"model": self.model, **settings, "params": self.kwargs}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LM:
        """Rebuild an LM from `to_dict`'s data.

        Raises:
            ConfigError: as the constructor.
        """
        return cls(**{key: value for key, value in data.items() if key != "params"}, **data.get("params", {}))

    @staticmethod
    def known(data: dict[str, Any]) -> LM:
        """Do what `from_dict` does, for data that comes with every call: the LM is made once."""
        return _known(orjson.dumps(data))

    def dump_state(self) -> dict[str, Any]:
        """Return what a saved program keeps of its LM: the settings, flat, as DSPy writes them."""
        data = self.to_dict()
        return {"_dspy_lm_class": "dspex_actors.LM", **data.pop("params"), **data}

    @classmethod
    def load_state(cls, state: dict[str, Any], *, allow_unsafe_lm_state: bool = False) -> LM:
        """Rebuild an LM from `dump_state`'s data or from what DSPy saved.

        Args:
            state: the data; DSPy's own settings in it are ignored.
            allow_unsafe_lm_state: take base_url and api_key from it too. A file that chooses where prompts
                go and which variable goes with them as the key must be trusted as code is.

        Raises:
            ConfigError: as the constructor.
        """
        return cls(**saved.usable(state, trusted=allow_unsafe_lm_state))

    def _asked(self, prompt: Any, messages: Any, params: dict[str, Any]) -> LMReply:
        request = self._prepare(prompt, messages, params)
        with part(self.model, "lm", request) as op:
            try:
                op.outputs = reply = current_backend().complete(request)
            except LMError as error:
                book_failure(error.asked)  # whoever catches it: they were made
                raise
        book_call(reply)
        return reply

    async def _aasked(self, prompt: Any, messages: Any, params: dict[str, Any]) -> LMReply:
        request = self._prepare(prompt, messages, params)
        with part(self.model, "lm", request) as op:
            try:
                op.outputs = reply = await current_backend().acomplete(request)
            except LMError as error:
                book_failure(error.asked)
                raise
        book_call(reply)
        return reply

    def request(self, messages: list[dict[str, Any]], params: dict[str, Any], *whose: Any) -> LMRequest:
        """Return a call, of checked parameters, as the value that backends take; `whose`: its user and tags."""
        return LMRequest(self._parts, messages, params, *whose)

    def _streams(self, prompt: Any, messages: Any, params: dict[str, Any]) -> tuple[Source, Operation]:
        request = self._prepare(prompt, messages, params)
        return current_backend().stream(request), part(self.model, "lm", request)

    def _prepare(self, prompt: Any, messages: Any, params: dict[str, Any]) -> LMRequest:
        lm = self
        if not _DEFAULTS.keys().isdisjoint(params):
            lm = self.copy(**{name: value for name, value in params.items() if name in _DEFAULTS})
            params = {name: value for name, value in params.items() if name not in _DEFAULTS}
        user, tags = settings.whose()
        if not params:
            return lm.request(check.asked(prompt, messages), params, user, tags or None)
        if "tags" in params:
            tags = {**tags, **check_tags((params := dict(params)).pop("tags") or {})}
        user = params["user"] if isinstance(params.get("user"), str) else user
        request = lm.request(check.asked(prompt, messages), check.params(params), user, tags or None)
        rules.fit(rules.rows_for(lm.provider, lm.model_type), lm.model_name, request.params)
        return request

    def __eq__(self, other: object) -> bool:
        """Compare by settings."""
        return self._identity == other._identity if isinstance(other, LM) else NotImplemented

    def __hash__(self) -> int:
        """Hash by settings."""
        return hash(self._identity)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as `to_dict`'s plain data."""
        return type(self).from_dict, (self.to_dict(),)

    def __copy__(self, memo: object = None) -> LM:
        """Return the LM itself: it cannot change."""
        return self

    __deepcopy__ = __copy__

    def __repr__(self) -> str:
        """Show the model and every setting that is not the default; a key only as its reference."""
        shown = {key: value for key, value in self._settings.items() if value != _DEFAULTS[key]}
        words = [repr(self.model), *(f"{key}={value!r}" for key, value in {**shown, **self._params}.items())]
        return f"LM({', '.join(words)})"


@functools.lru_cache(maxsize=256)
def _known(data: bytes) -> LM:
    return LM.from_dict(orjson.loads(data))
