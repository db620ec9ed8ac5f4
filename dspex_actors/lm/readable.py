"""What can be read of an LM: one property per setting."""

from __future__ import annotations

from typing import Any, Literal

from dspex_actors.lm.capabilities import Capabilities, capabilities_of
from dspex_actors.lm.request import Parts
from dspex_actors.lm.wire.base import LOCAL_PARAMS


class Readable:
    """The settings of an LM, as properties."""

    __slots__ = ()

    _settings: dict[str, Any]
    _parts: Parts
    kwargs: dict[str, Any]

    @property
    def deployment(self) -> str:
        """A digest of provider, server, model and key reference: LMs with the same one share a budget."""
        return self._parts.deployment.digest

    @property
    def parameters(self) -> dict[str, Any]:
        """A copy of what changes the answer, as plain data: part of the identity of a run."""
        told = {name: value for name, value in self.kwargs.items() if name not in LOCAL_PARAMS}
        return told if self.model_type == "chat" else {**told, "model_type": self.model_type}

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do beside writing text, as far as it is known."""
        return capabilities_of(self.provider, self.model_name, self.model_type == "responses")

    @property
    def model_type(self) -> str:
        """What it is asked for: "chat", "responses" or "embeddings"."""
        return str(self._settings["model_type"])

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
    def itpm(self) -> float | None:
        """Input tokens per minute."""
        return self._settings["itpm"]  # type: ignore[no-any-return]

    @property
    def otpm(self) -> float | None:
        """Output tokens per minute."""
        return self._settings["otpm"]  # type: ignore[no-any-return]

    @property
    def rps(self) -> float | None:
        """Requests per second."""
        return self._settings["rps"]  # type: ignore[no-any-return]

    @property
    def rpd(self) -> float | None:
        """Requests per day."""
        return self._settings["rpd"]  # type: ignore[no-any-return]

    @property
    def tpd(self) -> float | None:
        """Tokens per day."""
        return self._settings["tpd"]  # type: ignore[no-any-return]

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
    def fallbacks(self) -> tuple[str | Any, ...]:
        """Model strings or LMs to ask when this one cannot answer."""
        return self._settings["fallbacks"]  # type: ignore[no-any-return]

    @property
    def context_fallbacks(self) -> tuple[str | Any, ...] | None:
        """Model strings or LMs to ask when a prompt does not fit this one's window; None: `fallbacks`."""
        return self._settings["context_fallbacks"]  # type: ignore[no-any-return]

    @property
    def content_fallbacks(self) -> tuple[str | Any, ...] | None:
        """Model strings or LMs to ask when this one's policy blocks the content; None: nobody."""
        return self._settings["content_fallbacks"]  # type: ignore[no-any-return]

    @property
    def circuit(self) -> dict[str, Any] | Literal[False] | None:
        """What was said of its circuit; False: it has none; None: as the configuration says."""
        given = self._settings["circuit"]
        return dict(given) if isinstance(given, dict) else given

    @property
    def hedge(self) -> bool:
        """Whether a second request follows one that takes long."""
        return self._settings["hedge"]  # type: ignore[no-any-return]

    @property
    def cache(self) -> bool:
        """Whether an earlier answer may be used."""
        return self._settings["cache"]  # type: ignore[no-any-return]
