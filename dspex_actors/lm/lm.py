"""`LM`: which language model to ask, and how. Settings only: it is the current backend that asks."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import orjson

from dspex_actors.errors import ConfigError
from dspex_actors.lm import address, rules, saved
from dspex_actors.lm import settings as check
from dspex_actors.lm.backend import current_backend
from dspex_actors.lm.base import BaseLM, booking
from dspex_actors.lm.deployment import Deployment, Limits
from dspex_actors.lm.identity import digest
from dspex_actors.lm.keys import check_reference
from dspex_actors.lm.reply import LMReply
from dspex_actors.lm.request import LMRequest, Options, Parts
from dspex_actors.lm.wire.base import LOCAL_PARAMS
from dspex_actors.settings import book_call

#: Settings in the order of the constructor, with their defaults.
_DEFAULTS: dict[str, Any] = {
    "base_url": None,
    "api_key": None,
    "rpm": None,
    "tpm": None,
    "max_in_flight": None,
    "timeout": 60.0,
    "deadline": 600.0,
    "fallbacks": (),
    "cache": True,
}


class LM(BaseLM):
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
        rpm: requests per minute, for the whole cluster. None: learnt. Of LMs of one deployment that tell different
            limits the smallest that was told in the last minute holds.
        tpm: tokens per minute, for the whole cluster. None: learnt.
        max_in_flight: requests at the same time, per worker. None: as many as the connections allow.
        timeout: seconds for one request.
        deadline: seconds for one call, waits and retries included.
        fallbacks: LMs or model strings to ask when this one cannot answer, in order. Each is an LM of its own, with
            its own parameters and deadline; a model string takes over this LM's call options, no parameters.
        cache: False asks anew each time.
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
        max_in_flight: int | None = None,
        timeout: float = 60.0,
        deadline: float = 600.0,
        fallbacks: Iterable[str | LM] = (),
        cache: bool = True,
        **params: Any,
    ) -> None:
        """Check every setting, in the order they are written; see the class."""
        provider, name = check.model_string(model)
        settings: dict[str, Any] = {
            "base_url": address.base_url(base_url),
            "api_key": None if api_key is None else check_reference(api_key),
            "rpm": check.rate("rpm", rpm),
            "tpm": check.rate("tpm", tpm),
            "max_in_flight": check.count("max_in_flight", max_in_flight),
            "timeout": check.seconds("timeout", timeout),
            "deadline": check.seconds("deadline", deadline),
            "fallbacks": _fallbacks(fallbacks),
            "cache": check.flag("cache", cache),
        }
        kept = {key: value for key, value in check.params(params).items() if value is not None}
        rules.fit(provider, name, kept)  # what the model cannot be told is said here, to who can change it
        for slot, value in (("model", model), ("_settings", settings), ("_params", kept)):
            object.__setattr__(self, slot, value)
        deployment = Deployment(provider, name, settings["base_url"], settings["api_key"])
        options = {key: settings[key] for key in ("timeout", "deadline", "cache")}
        parts = Parts(
            settings=self.to_dict(),
            deployment=deployment,
            limits=Limits(settings["rpm"], settings["tpm"], settings["max_in_flight"]),
            params=kept,
            options=Options(**options),
            fallbacks=tuple(
                (LM(other, **options) if isinstance(other, str) else other)._parts for other in settings["fallbacks"]
            ),
        )
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_identity", digest({**parts.settings, "base_url": deployment.server}))

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse: an LM does not change; `copy` makes another."""
        raise AttributeError(f"an LM is immutable: use lm.copy({name}=...)")

    def __delattr__(self, name: str) -> None:
        """Refuse, as `__setattr__`."""
        raise AttributeError("an LM is immutable: use lm.copy(...)")

    @property
    def deployment(self) -> str:
        """A digest of provider, server, model and key reference: LMs with the same one share a budget."""
        return self._parts.deployment.digest

    @property
    def parameters(self) -> dict[str, Any]:
        """A copy of what changes the answer, as plain data: part of the identity of a run."""
        return {name: value for name, value in self.kwargs.items() if name not in LOCAL_PARAMS}

    @property
    def provider(self) -> str:
        """Name of the provider."""
        return self._parts.deployment.provider

    @property
    def model_name(self) -> str:
        """The model as the provider knows it."""
        return self._parts.deployment.model_name

    @property
    def base_url(self) -> str | None:
        """The server given; None: the provider's public one."""
        return self._settings["base_url"]  # type: ignore[no-any-return]

    @property
    def server(self) -> str | None:
        """The server that is asked; None for the embedded LM, whose address only a worker knows."""
        return self._parts.deployment.server

    @property
    def api_key(self) -> str | None:
        """The key reference given; None: the provider's usual one, at the provider's own server."""
        return self._settings["api_key"]  # type: ignore[no-any-return]

    @property
    def key_reference(self) -> str | None:
        """The key reference in force; None where no key is sent."""
        return self._parts.deployment.key_reference

    @property
    def rpm(self) -> float | None:
        """Requests per minute."""
        return self._settings["rpm"]  # type: ignore[no-any-return]

    @property
    def tpm(self) -> float | None:
        """Tokens per minute."""
        return self._settings["tpm"]  # type: ignore[no-any-return]

    @property
    def max_in_flight(self) -> int | None:
        """Requests at the same time, per worker."""
        return self._settings["max_in_flight"]  # type: ignore[no-any-return]

    @property
    def timeout(self) -> float:
        """Seconds for one request."""
        return self._settings["timeout"]  # type: ignore[no-any-return]

    @property
    def deadline(self) -> float:
        """Seconds for one call, waits and retries included."""
        return self._settings["deadline"]  # type: ignore[no-any-return]

    @property
    def fallbacks(self) -> tuple[str | LM, ...]:
        """Model strings or LMs to ask when this one cannot answer."""
        return self._settings["fallbacks"]  # type: ignore[no-any-return]

    @property
    def cache(self) -> bool:
        """Whether an earlier answer may be used."""
        return self._settings["cache"]  # type: ignore[no-any-return]

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

    def identity(self) -> str:
        """Return a digest of provider, model, server and all settings; the same in every process."""
        return self._identity

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data; the key only as its reference."""
        fallbacks = [lm if isinstance(lm, str) else lm.to_dict() for lm in self.fallbacks]
        return {"model": self.model, **self._settings, "fallbacks": fallbacks, "params": self.kwargs}

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

    def __call__(
        self, prompt: str | list[dict[str, Any]] | None = None, *, messages: Any = None, **params: Any
    ) -> LMReply:
        """Ask the model and wait for its answer.

        Args:
            prompt: a text, or a list of role/content messages.
            messages: the list, as DSPy names it.
            params: parameters or settings for this call only.

        Raises:
            ConfigError: nothing is connected, or a parameter is not usable.
            LMError: the model did not answer.
        """
        request = self._prepare(prompt, messages, params)
        with booking():
            reply = current_backend().complete(request)
        book_call(reply)
        return reply

    async def acall(
        self, prompt: str | list[dict[str, Any]] | None = None, *, messages: Any = None, **params: Any
    ) -> LMReply:
        """Ask the model; as `lm(...)`, from inside an event loop."""
        request = self._prepare(prompt, messages, params)
        with booking():
            reply = await current_backend().acomplete(request)
        book_call(reply)
        return reply

    def request(self, messages: list[dict[str, Any]], params: dict[str, Any]) -> LMRequest:
        """Return a call as the value that backends take.

        Args:
            messages: role/content messages.
            params: checked parameters of the call.
        """
        return LMRequest(self._parts, messages, params)

    def _prepare(self, prompt: Any, messages: Any, params: dict[str, Any]) -> LMRequest:
        lm = self
        if not _DEFAULTS.keys().isdisjoint(params):
            lm = self.copy(**{name: value for name, value in params.items() if name in _DEFAULTS})
            params = {name: value for name, value in params.items() if name not in _DEFAULTS}
        if not params:
            return lm.request(check.asked(prompt, messages), params)
        request = lm.request(check.asked(prompt, messages), check.params(params))
        rules.fit(lm.provider, lm.model_name, request.params)
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

    def __copy__(self) -> LM:
        """Return the LM itself: it cannot change."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> LM:
        """Return the LM itself: it cannot change."""
        return self

    def __repr__(self) -> str:
        """Show the model and every setting that is not the default; a key only as its reference."""
        shown = {key: value for key, value in self._settings.items() if value != _DEFAULTS[key]}
        words = [repr(self.model), *(f"{key}={value!r}" for key, value in {**shown, **self._params}.items())]
        return f"LM({', '.join(words)})"


@functools.lru_cache(maxsize=256)
def _known(data: bytes) -> LM:
    return LM.from_dict(orjson.loads(data))


def _fallbacks(given: Any) -> tuple[str | LM, ...]:
    if isinstance(given, (str, LM, dict)) or not isinstance(given, Iterable):
        raise check.bad("fallbacks", given, "a list of model strings or LMs")
    result: list[str | LM] = []
    for item in given:
        if isinstance(item, str):
            check.model_string(item)
            result.append(item)
            continue
        lm = LM.from_dict(item) if isinstance(item, dict) else item
        if not isinstance(lm, LM):
            raise check.bad("fallbacks", item, "model strings or LMs")
        if lm.fallbacks:
            raise check.bad("fallbacks", lm.model, "LMs that have no fallbacks of their own; list them all here")
        result.append(lm)
    return tuple(result)
