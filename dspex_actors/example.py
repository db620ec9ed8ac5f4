"""Examples and predictions: named values, dict-like, as in DSPy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel

from dspex_actors.foundation.config_errors import ConfigValueError
from dspex_actors.foundation.counts import as_dspys, summed_usage

_HIDDEN = "dspy_"
#: `Example.__setattr__` sets fields; this sets what is none.
_set = object.__setattr__


class Example:
    """One item of data: fields by name, some of them inputs, the rest labels.

    `example["team"]` and `example.team` are the same; a field named like a method (`keys`) is reached by
    item only. Names that begin with `dspy_` belong to DSPy's bookkeeping: they are kept, and left out of
    `keys` and `len`.

    Args:
        base: an example or a mapping to start from, also by keyword; its inputs are kept. As a keyword, anything
            else is a field of that name.
        **fields: values by name; they win over `base`.
    """

    __slots__ = ("_input_keys", "_store")

    _store: dict[str, Any]
    _input_keys: frozenset[str] | None

    def __init__(self, base: Example | Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Make an example from `base` and `fields`."""
        if base is None and "base" in fields and isinstance(fields["base"], Example | Mapping):
            base = fields.pop("base")
        inputs = None
        if base is None:
            store = fields
        elif isinstance(base, Example):
            store, inputs = {**base._store, **fields}, base._input_keys
        elif type(base) is dict or isinstance(base, Mapping):
            store = {**base, **fields}
        else:
            raise ConfigValueError(f"an Example starts from another one or a mapping, got {type(base).__name__}")
        _set(self, "_store", store)
        _set(self, "_input_keys", inputs)

    def __getattr__(self, name: str) -> Any:
        """Return the field `name`."""
        if name.startswith("__") or name in ("_store", "_input_keys"):
            raise AttributeError(name)
        try:
            return self._store[name]
        except KeyError:
            known = ", ".join(self._store) or "no fields"
            raise AttributeError(f"{type(self).__name__} has no field {name!r}; it has {known}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set the field `name`."""
        if name.startswith("_") or hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            self._store[name] = value

    def __delattr__(self, name: str) -> None:
        """Remove the field `name`."""
        if name not in self._store:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}")
        del self._store[name]

    def __getitem__(self, name: str) -> Any:
        """Return the field `name`."""
        return self._store[name]

    def __setitem__(self, name: str, value: Any) -> None:
        """Set the field `name`."""
        self._store[name] = value

    def __delitem__(self, name: str) -> None:
        """Remove the field `name`."""
        del self._store[name]

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a field `name`, even if it is None."""
        return name in self._store

    def __len__(self) -> int:
        """Return the number of fields."""
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.keys())

    def __repr__(self) -> str:
        """Show the fields and which are inputs."""
        shown = {name: value for name, value in self._store.items() if not name.startswith(_HIDDEN)}
        inputs = set(self._input_keys) if self._input_keys is not None else None
        return f"Example({shown}) (input_keys={inputs})"

    def __eq__(self, other: object) -> bool:
        """Tell whether `other` is an example with the same fields; which are inputs does not count."""
        return isinstance(other, Example) and self._store == other._store

    def __hash__(self) -> int:
        """Hash the fields; equal examples hash alike."""
        try:
            return hash(frozenset(self._store.items()))
        except TypeError:
            # A list or a dict among the values: the names alone are a coarser, still correct, hash.
            return hash(frozenset(self._store))

    def keys(self, include_dspy: bool = False) -> list[str]:
        """Return the names."""
        return [name for name in self._store if include_dspy or not name.startswith(_HIDDEN)]

    def values(self, include_dspy: bool = False) -> list[Any]:
        """Return the values."""
        return [self._store[name] for name in self.keys(include_dspy)]

    def items(self, include_dspy: bool = False) -> list[tuple[str, Any]]:
        """Return (name, value) pairs."""
        return [item for item in self._store.items() if include_dspy or not item[0].startswith(_HIDDEN)]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the field `name`, or `default` when there is none."""
        return self._store.get(name, default)

    def with_inputs(self, *names: str) -> Self:
        """Return a copy in which `names` are the inputs, and every other field is a label."""
        twin = self.copy()
        _set(twin, "_input_keys", frozenset(names))
        return twin

    def inputs(self) -> Example:
        """Return the inputs as an example of their own.

        Raises:
            ConfigValueError: nobody has said which fields are inputs.
        """
        chosen = self._chosen()
        inputs = Example({name: value for name, value in self._store.items() if name in chosen})
        _set(inputs, "_input_keys", chosen)
        return inputs

    def labels(self) -> Example:
        """Return the fields that are not inputs as an example of their own.

        Raises:
            ConfigValueError: nobody has said which fields are inputs.
        """
        chosen = self._chosen()
        return Example({name: value for name, value in self.items() if name not in chosen})

    def _chosen(self) -> frozenset[str]:
        if self._input_keys is None:
            raise ConfigValueError("which fields are inputs? Call example.with_inputs('name', ...) first")
        return self._input_keys

    def copy(self, **fields: Any) -> Self:
        """Return a copy with `fields` set; values are shared, not copied."""
        twin = type(self).__new__(type(self))
        Example.__init__(twin, self, **fields)
        return twin

    def without(self, *names: str) -> Self:
        """Return a copy that lacks `names`."""
        twin = self.copy()
        for name in names:
            del twin._store[name]
        return twin

    def toDict(self) -> dict[str, Any]:  # noqa: N802 - DSPy's name
        """Return the fields as a dict, examples and pydantic models among the values as dicts too."""
        return {name: _plain(value) for name, value in self._store.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Example):
        return value.toDict()
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def parted(example: Example) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what an example's `inputs()` and `labels()` hold, without making two examples of it.

    Raises:
        ConfigValueError: nobody has said which fields are inputs.
    """
    chosen = example._chosen()
    inputs: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    for name, value in example._store.items():
        if not name.startswith(_HIDDEN):
            (inputs if name in chosen else labels)[name] = value
    return inputs, labels


class Prediction(Example):
    """What a program returned: its output fields, and what they cost.

    A prediction with a field `score` compares, adds and divides as that number, so that metrics may return
    one.
    """

    __slots__ = ("_calls", "_completions")

    _calls: tuple[Any, ...]
    _completions: Completions | None

    def __init__(self, base: Example | Mapping[str, Any] | None = None, /, **fields: Any) -> None:
        """Make a prediction from fields."""
        Example.__init__(self, base, **fields)
        _set(self, "_calls", ())
        _set(self, "_completions", None)

    @classmethod
    def from_completions(
        cls, completions: Iterable[Mapping[str, Any]] | Mapping[str, list[Any]], signature: Any = None
    ) -> Prediction:
        """Make a prediction of the first of several completions; the others stay in `completions`.

        Args:
            completions: a list of dicts, or a dict of equally long lists.
            signature: whose outputs they are, which `completions.signature` says.

        Returns:
            The prediction.

        Raises:
            ConfigValueError: there is none.
        """
        if isinstance(completions, Mapping):
            rows = [dict(zip(completions, row, strict=True)) for row in zip(*completions.values(), strict=True)]
        else:
            rows = [dict(row) for row in completions]
        if not rows:
            raise ConfigValueError("a prediction needs at least one completion, got none")
        prediction = cls(rows[0])
        prediction._completions = Completions(rows, signature)
        return prediction

    @property
    def completions(self) -> Completions:
        """The LM's parsed answers; nearly always one."""
        return self._completions or Completions([dict(self._store)])

    def copy(self, **fields: Any) -> Self:
        """Return a copy with `fields` set; it keeps the record of its LM calls."""
        twin = super().copy(**fields)
        twin._calls = self._calls
        twin._completions = self._completions
        return twin

    def get_lm_calls(self) -> list[Any]:
        """Return the LM's replies that this prediction took, in the order they came (parse retries
        included)."""
        return list(self._calls)

    def set_lm_calls(self, calls: Iterable[Any]) -> None:
        """Book the LM's replies that this prediction took; programs do this by themselves."""
        _set(self, "_calls", tuple(calls))

    def get_lm_usage(self) -> dict[str, dict[str, Any]]:
        """Return the summed usage by LM, as DSPy names it.

        Returns:
            `provider/model` → `prompt_tokens`, `completion_tokens`, `total_tokens`, and our own counts of their
            parts (`cache_read`, `reasoning` ...) where the provider told them.
        """
        return {name: as_dspys(counts) for name, counts in summed_usage(self._calls).items()}

    def __repr__(self) -> str:
        """Show the fields, one a line."""
        shown = ",\n    ".join(f"{name}={value!r}" for name, value in self.items())
        return f"Prediction(\n    {shown}\n)"

    def __float__(self) -> float:
        """Return the field `score` as a number."""
        if "score" not in self._store:
            raise ConfigValueError(f"this prediction has no field 'score'; it has {', '.join(self._store)}")
        return float(self._store["score"])

    def __add__(self, other: Any) -> float:
        """Add scores."""
        return float(self) + float(other)

    __radd__ = __add__

    def __truediv__(self, other: Any) -> float:
        """Divide scores."""
        return float(self) / float(other)

    def __rtruediv__(self, other: Any) -> float:
        """Divide a number by the score."""
        return float(other) / float(self)

    def __lt__(self, other: Any) -> bool:
        """Compare scores."""
        return float(self) < float(other)

    def __le__(self, other: Any) -> bool:
        """Compare scores."""
        return float(self) <= float(other)

    def __gt__(self, other: Any) -> bool:
        """Compare scores."""
        return float(self) > float(other)

    def __ge__(self, other: Any) -> bool:
        """Compare scores."""
        return float(self) >= float(other)


class Completions:
    """Several answers to one call: a list by field, a prediction by number.

    `completions.answer` and `completions["answer"]` are the answers' values of that field; `completions[0]` is the
    first answer.

    Args:
        rows: one dict per answer.
        signature: whose outputs they are; None: not known.
    """

    __slots__ = ("_rows", "signature")

    def __init__(self, rows: Iterable[Mapping[str, Any]], signature: Any = None) -> None:
        """Keep the answers."""
        self._rows = [dict(row) for row in rows]
        self.signature = signature

    def __getattr__(self, name: str) -> list[Any]:
        """Return the values of the field `name`, one per answer."""
        if name.startswith("_") or not any(name in row for row in self._rows):
            raise AttributeError(f"the completions have no field {name!r}")
        return [row.get(name) for row in self._rows]

    def __getitem__(self, key: int | str) -> Any:
        """Return the answer of a number, or the values of a field."""
        if isinstance(key, int):
            return Prediction(self._rows[key])
        return [row[key] for row in self._rows]

    def __len__(self) -> int:
        """Return the number of answers."""
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the answers."""
        return (Prediction(row) for row in self._rows)

    def __contains__(self, name: object) -> bool:
        """Tell whether the answers have a field `name`."""
        return any(name in row for row in self._rows)

    def items(self) -> list[tuple[str, list[Any]]]:
        """Return (field, values) pairs."""
        return [(name, self[name]) for name in self._rows[0]]

    def __eq__(self, other: object) -> bool:
        """Tell whether `other` has the same answers, as completions or as a list of dicts."""
        return self._rows == (other._rows if isinstance(other, Completions) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Show the answers."""
        return f"Completions({self._rows!r})"
