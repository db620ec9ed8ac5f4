"""Every setting there is: what it means, its unit, what is legal, what holds where nobody says anything.

A section is a table of `dspex.toml`, a setting a key in it: `optimisation.copro.breadth` is `breadth` in
`[optimisation.copro]`. What the optimisers' settings are called, and their values, are DSPy's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dspex_actors.lm.hosts import Allowed


def setting(
    default: Any, description: str, unit: str | None = None, *, fixed: bool = False, legal: str = "", **bounds: Any
) -> Any:
    """Return a field of a section.

    Args:
        default: what holds where nobody says anything.
        description: one line for people.
        unit: of a number: "s", "bytes", "a minute"; None: it has none.
        fixed: it is read when the node starts, and cannot be updated.
        legal: what is legal, in words; empty: as the type and the bounds say.
        **bounds: pydantic's: ge, gt, le, lt, min_length.
    """
    return Field(
        default, description=description, json_schema_extra={"unit": unit, "fixed": fixed, "legal": legal}, **bounds
    )


class Section(BaseModel):
    """A table of settings. Strict: "3" is no number, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    #: Whether anything heeds what is set in it, or below. Where nothing does yet, descriptions say so.
    is_heeded: ClassVar[bool] = True


class Node(Section):
    """The node's own settings; read when it is started."""

    name: str | None = setting(None, "the node's name; none: this host's", fixed=True, min_length=1)
    host: str | None = setting(None, "address that everything of the node listens on", fixed=True, min_length=1)
    port: int | None = setting(None, "port of its door; 0 takes any free one", fixed=True, ge=0, le=65535)
    workers: int | None = setting(None, "http workers; none: one per core, at least 2", fixed=True, ge=1, le=1024)


# --- modules --------------------------------------------------------------------------------------------------------


class ModuleCache(Section):
    """The cache of a program's ecosystem."""

    strategy: Literal["lru", "lfu"] = setting("lru", "who goes when it is full: least recently or least often used")
    ttl: float = setting(3600.0, "how long an answer is kept", "s", gt=0, le=31_536_000)
    max_bytes: int = setting(64 * 2**20, "how much it holds", "bytes", ge=4096, le=2**40)


class ModuleReact(Section):
    """ReAct."""

    max_iters: int = setting(20, "rounds of thought and tool", ge=1, le=1000)


class Modules(Section):
    """Programs that the node serves."""

    is_heeded: ClassVar[bool] = False

    cache: ModuleCache = ModuleCache()
    react: ModuleReact = ModuleReact()
    max_versions: int = setting(10, "versions of a module that are kept to roll back to", ge=1, le=1000)


# --- optimisation ---------------------------------------------------------------------------------------------------


class Copro(Section):
    """COPRO: instructions are proposed, evaluated and proposed again."""

    breadth: int = setting(10, "proposals in each round", ge=2, le=1000)
    depth: int = setting(3, "rounds", ge=1, le=100)
    init_temperature: float = setting(1.4, "temperature of what proposes", ge=0, le=2)


class Bootstrap(Section):
    """BootstrapFewShot: a teacher's successful runs become demos."""

    max_bootstrapped_demos: int = setting(4, "demos from successful runs", ge=0, le=1000)
    max_labeled_demos: int = setting(16, "demos in all, filled up with labelled examples", ge=0, le=1000)
    max_rounds: int = setting(1, "tries of an example that did not pass", ge=1, le=100)
    max_errors: int | None = setting(10, "errors after which it is given up; none: without end", ge=1)
    metric_threshold: float | None = setting(None, "score that lets a run pass; none: any that counts as true")


class RandomSearch(Section):
    """BootstrapFewShotWithRandomSearch."""

    num_candidate_programs: int = setting(16, "programs that are bootstrapped and compared", ge=1, le=1000)


class Mipro(Section):
    """MIPROv2."""

    auto: Literal["light", "medium", "heavy"] | None = setting("light", "how much is tried; none: as `num_candidates`")
    num_candidates: int | None = setting(
        None, "instructions and sets of demos each; only without `auto`", ge=1, le=1000
    )
    max_bootstrapped_demos: int = setting(4, "demos from successful runs, in a set", ge=0, le=1000)
    max_labeled_demos: int = setting(4, "labelled demos in a set", ge=0, le=1000)
    init_temperature: float = setting(1.0, "temperature of what proposes", ge=0, le=2)
    minibatch_size: int = setting(35, "examples of a quick evaluation", ge=1)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.auto is not None and self.num_candidates is not None:
            raise ValueError(
                "auto and num_candidates exclude each other: set auto to none, or leave num_candidates out"
            )
        return self


class Simba(Section):
    """SIMBA."""

    bsize: int = setting(32, "examples of a mini-batch", ge=1)
    num_candidates: int = setting(6, "programs that each step makes", ge=1, le=1000)
    max_steps: int = setting(8, "steps", ge=1, le=1000)
    max_demos: int = setting(4, "demos that a predictor gets at most", ge=0, le=1000)


class Optimisation(Section):
    """Optimisers. `optimization` is the same."""

    at_once: int = setting(8, "runs of an optimisation that are under way at a time", ge=1, le=1000)
    copro: Copro = Copro()
    bootstrap: Bootstrap = Bootstrap()
    random_search: RandomSearch = RandomSearch()
    mipro: Mipro = Mipro()
    simba: Simba = Simba()


# --- providers ------------------------------------------------------------------------------------------------------


class Provider(Section):
    """Limits for each deployment of one provider, whatever its LMs tell: the smaller one holds."""

    rpm: float | None = setting(None, "requests, for the whole cluster; none: as the LMs tell", "a minute", gt=0)
    tpm: float | None = setting(None, "tokens, for the whole cluster; none: as the LMs tell", "a minute", gt=0)
    itpm: float | None = setting(None, "input tokens; none: as the LMs tell", "a minute", gt=0)
    otpm: float | None = setting(None, "output tokens; none: as the LMs tell", "a minute", gt=0)
    rps: float | None = setting(None, "requests; none: as the LMs tell", "a second", gt=0)
    rpd: float | None = setting(None, "requests; none: as the LMs tell", "a day", gt=0)
    tpd: float | None = setting(None, "tokens; none: as the LMs tell", "a day", gt=0)
    max_in_flight: int | None = setting(None, "requests at the same time, per worker; none: as the LMs tell", ge=1)


class Providers(Section):
    """Who is asked."""

    openai: Provider = Provider()
    anthropic: Provider = Provider()
    gemini: Provider = Provider()
    cohere: Provider = Provider()
    embedded: Provider = Provider()
    media_hosts: list[str] = setting(
        [],
        "hosts that pictures may be fetched from, for providers that take no addresses (Gemini)",
        legal="a list of hosts such as images.example.org or host:8443, with http:// in front where http is meant",
    )

    @field_validator("media_hosts")
    @classmethod
    def _are_hosts(cls, entries: list[str]) -> list[str]:
        Allowed.of(entries)
        return entries


# --- infrastructure -------------------------------------------------------------------------------------------------


class CircuitBreakers(Section):
    """What stops asking a deployment that fails, where its LMs say nothing of it."""

    failure_threshold: int = setting(10, "failures in a row that open a circuit", ge=1, le=10_000)
    failure_time: float = setting(0.5, "but not before they have gone on for so long", "s", ge=0, le=86_400)
    recovery_time: float = setting(5.0, "how long an open circuit lets nobody through", "s", gt=0, le=86_400)
    growth: float = setting(2.0, "after each probe that failed it is open so many times as long", ge=1, le=100)
    max_recovery_time: float = setting(60.0, "but never longer than this", "s", gt=0, le=86_400)
    failure_rate: float | None = setting(None, "share of failures that opens it too; none: no share does", gt=0, le=1)
    window: float = setting(60.0, "time over which the share is taken", "s", gt=0, le=86_400)
    min_calls: int = setting(20, "with fewer calls in that time no share opens it", ge=1, le=1_000_000)
    half_open_calls: int = setting(1, "probes that must succeed, one after the other", ge=1, le=1000)


class Personal(Section):
    """Limits at each deployment for each user, or for each tag, by itself."""

    rpm: float | None = setting(None, "requests; none: no limit", "a minute", gt=0)
    tpm: float | None = setting(None, "tokens; none: no limit", "a minute", gt=0)
    itpm: float | None = setting(None, "input tokens; none: no limit", "a minute", gt=0)
    otpm: float | None = setting(None, "output tokens; none: no limit", "a minute", gt=0)
    rps: float | None = setting(None, "requests; none: no limit", "a second", gt=0)
    rpd: float | None = setting(None, "requests; none: no limit", "a day", gt=0)
    tpd: float | None = setting(None, "tokens; none: no limit", "a day", gt=0)


class RateLimiters(Section):
    """How a rate is kept, and whose rates there are beside those of deployments."""

    burst_seconds: float = setting(1.0, "so much of a rate may be taken at once", "s", gt=0, le=60)
    user: Personal = Personal()
    tag: Personal = Personal()


class Clients(Section):
    """The client actors of LM deployments."""

    idle_time: float = setting(60.0, "without a worker one ends after so long", "s", ge=1, le=86_400)


class Events(Section):
    """The store of events."""

    max_bytes: int = setting(256 * 2**20, "how large it may become", "bytes", ge=8 * 2**20, le=2**40)
    max_age: float = setting(7 * 86_400.0, "how long an event is kept", "s", ge=60, le=10 * 365 * 86_400)


class Budgets(Section):
    """What LM calls may cost on a day (of UTC), all runs and programs of the node together, in US dollars."""

    per_day: float | None = setting(None, "everything together; none: no limit", "USD", gt=0, le=1_000_000)
    tags: dict[str, float] = setting(
        {},
        "what has a tag, by name=text; a limit each",
        "USD",
        legal='a table of tags, such as {"team=search" = 5.0}, each above 0',
    )
    unknown_price: Literal["refuse", "warn"] = setting(
        "refuse", "what becomes of a call that belongs to no run and whose price is not known"
    )

    @field_validator("tags")
    @classmethod
    def _are_limits(cls, tags: dict[str, float]) -> dict[str, float]:
        for tag, limit in tags.items():
            name, equals, text = tag.partition("=")
            if not (name and equals and text):
                raise ValueError(f"{tag!r:.100} is no tag, expected name=text, as in team=search")
            if not 0 < limit <= 1_000_000:
                raise ValueError(f"the limit of {tag!r:.100} is {limit!r:.40}, expected US dollars above 0")
        return tags


class Telemetry(Section):
    """What is measured."""

    enabled: bool = setting(True, "whether anything is measured")
    interval: float = setting(1.0, "how often processes tell what they have measured", "s", ge=0.1, le=60)
    metrics_port: int | None = setting(None, "port of /metrics, on loopback; none: not served", ge=0, le=65535)


class ServiceHealth(Section):
    """What is said of a service that answers late."""

    slow: float = setting(0.25, "one that answers later is slow", "s", gt=0, le=60)
    timeout: float = setting(2.0, "one that answers later does not answer", "s", gt=0, le=60)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.slow >= self.timeout:
            raise ValueError(f"slow has to be below timeout, got slow={self.slow:g} and timeout={self.timeout:g}")
        return self


class Infrastructure(Section):
    """What programs stand on."""

    circuit_breakers: CircuitBreakers = CircuitBreakers()
    rate_limiters: RateLimiters = RateLimiters()
    clients: Clients = Clients()
    budgets: Budgets = Budgets()
    events: Events = Events()
    telemetry: Telemetry = Telemetry()
    services: ServiceHealth = ServiceHealth()


class Schema(Section):
    """All of it."""

    node: Node = Node()
    #: As `[lm.NAME]`: its settings are those of `dspex.LM`, which checks them.
    lm: dict[str, dict[str, Any]] = setting({}, "LMs by name: the settings of dspex.LM")
    modules: Modules = Modules()
    optimisation: Optimisation = Optimisation()
    providers: Providers = Providers()
    infrastructure: Infrastructure = Infrastructure()
