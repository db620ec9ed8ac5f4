"""What an LM call goes to: a model behind one key. One budget, one circuit, one client actor each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from dspex_actors.lm import address
from dspex_actors.lm.identity import digest
from dspex_actors.lm.keys import variable
from dspex_actors.lm.wire import PROVIDERS


class Limits(NamedTuple):
    """How fast a deployment may be asked, as one LM tells it; all that are told hold. In no identity.

    Args:
        rpm: requests a minute, for the whole cluster, as all but the last; None: not told.
        tpm: tokens a minute.
        max_in_flight: requests at the same time, per worker.
        itpm: input tokens a minute.
        otpm: output tokens a minute.
        rps: requests a second.
        rpd: requests a day of the provider's.
        tpd: tokens a day of the provider's.
    """

    rpm: float | None = None
    tpm: float | None = None
    max_in_flight: int | None = None
    itpm: float | None = None
    otpm: float | None = None
    rps: float | None = None
    rpd: float | None = None
    tpd: float | None = None

    @property
    def paced(self) -> bool:
        """Whether requests have to wait for their turn."""
        return self._replace(max_in_flight=None) != _NONE

    @property
    def plain(self) -> PlainLimits:
        """As it travels: a bare tuple."""
        return tuple(self)

    @property
    def told(self) -> dict[str, float]:
        """Those that are told, by name."""
        return {name: value for name, value in zip(self._fields, self, strict=True) if value is not None}

    @classmethod
    def smallest(cls, told: Iterable[Limits]) -> Limits:
        """Return the smallest of each."""
        columns = zip(*told, strict=True)
        return cls(*(min((value for value in column if value is not None), default=None) for column in columns))

    @classmethod
    def differ(cls, told: Iterable[Limits]) -> bool:
        """Tell whether two of them say different things about the same limit; one that is not told says nothing."""
        every = list(told)
        return any(len({each[place] for each in every} - {None}) > 1 for place in range(len(cls._fields)))


_NONE = Limits()
#: Limits, which are settings of an LM too, that came later: where they are not told they stand in no settings.
NEWER = ("itpm", "otpm", "rps", "rpd", "tpd")
#: As limits travel: the fields of `Limits`.
PlainLimits = tuple[float | int | None, ...]


@dataclass(frozen=True, slots=True)
class Deployment:
    """Provider, server, model and key: LMs that have them in common share budget, circuit and connections.

    Args:
        provider: openai, anthropic, gemini, cohere or embedded.
        model_name: the model as the provider knows it.
        base_url: the server given, checked; None: the provider's public one, or the node's own embedded LM.
        api_key: the key reference given; None: the provider's usual one, where it may go.
    """

    provider: str
    model_name: str
    base_url: str | None = None
    api_key: str | None = None
    #: The same in every process, and for every way of writing the same thing.
    digest: str = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Compute the digest, once."""
        server = self.server
        parts = {
            "provider": self.provider,
            "model": self.model_name,
            "server": None if server is None else address.canonical(server),
            "key": self.key_reference,
        }
        object.__setattr__(self, "digest", digest(parts, "deployment"))

    @property
    def model(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model_name}"

    @property
    def server(self) -> str | None:
        """The server that is asked; None for the embedded LM, whose address only a worker knows."""
        return self.base_url or PROVIDERS[self.provider].default_base_url

    @property
    def at_home(self) -> bool:
        """Whether the server is the provider's own: its prices hold, and its usual key may go there."""
        own = PROVIDERS[self.provider].default_base_url
        return self.base_url is None or (own is not None and address.origin(self.base_url) == address.origin(own))

    @property
    def key_reference(self) -> str | None:
        """The key reference in force; None where no key is sent.

        The provider's usual key goes to the provider's own server only: whoever chooses a `base_url` would
        otherwise be given it. Elsewhere a key is named, or there is none.
        """
        if self.api_key is not None:
            return self.api_key
        return PROVIDERS[self.provider].default_key if self.at_home else None

    @property
    def withheld_key(self) -> str | None:
        """The variable of the provider's usual key where it is not sent, since the server is another one; else None."""
        usual = PROVIDERS[self.provider].default_key
        return variable(usual) if usual is not None and self.key_reference is None else None

    @property
    def why_no_key(self) -> str | None:
        """What to tell who wonders why no key was sent; None where one is, or none is needed."""
        name, own = self.withheld_key, PROVIDERS[self.provider].default_base_url
        if name is None or own is None:
            return None
        return f"no key was sent: {name} goes to {urlsplit(own).hostname} only; name one with api_key='env:{name}'"
