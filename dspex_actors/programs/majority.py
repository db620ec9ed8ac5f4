"""`majority`: the answer that most completions give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dspex_actors.example import Completions, Example, Prediction
from dspex_actors.foundation.config_errors import ConfigTypeError, ConfigValueError
from dspex_actors.foundation.normal import normalize_text


def default_normalize(value: Any) -> Any:
    """Return a text as metrics see it, None for one that has no words; anything else as it is."""
    return (normalize_text(value) or None) if isinstance(value, str) else value


def majority(
    prediction_or_completions: Prediction | Completions | Sequence[Any],
    normalize: Callable[[Any], Any] | None = default_normalize,
    field: str | None = None,
) -> Prediction:
    """Return the completion whose value of a field most completions have; of several the earliest.

        votes = dspex.ChainOfThought("question -> answer")(question=question, config={"n": 5})
        dspex.majority(votes).answer

    Args:
        prediction_or_completions: a prediction with several completions, these, or a list of predictions or dicts.
        normalize: values are compared as this makes them; what it makes None of does not count, unless all are. None:
            as they are.
        field: which one; None: the signature's last output, else the last field of the first completion.

    Raises:
        ConfigTypeError: there are no completions in it.
        ConfigValueError: it is empty, or a completion has no such field, or values that cannot be compared.
    """
    given = prediction_or_completions
    if not isinstance(given, Prediction | Completions | list | tuple):
        raise ConfigTypeError(f"majority is invalid: got {given!r:.80}, expected a prediction, completions or a list")
    completions = given.completions if isinstance(given, Prediction) else given
    signature = getattr(completions, "signature", None)
    rows = [_row(place, one) for place, one in enumerate(completions)]
    if not rows:
        raise ConfigValueError("majority is invalid: got no completion, expected at least one")
    if normalize is not None and not callable(normalize):
        raise ConfigTypeError(f"normalize is invalid: got {normalize!r:.80}, expected a function of a value, or None")
    if field is not None and not isinstance(field, str):
        raise ConfigTypeError(f"field is invalid: got {field!r:.80}, expected the name of one")
    if field is None and signature is None and not rows[0]:
        raise ConfigValueError("majority is invalid: completion 0 has no field, expected one to compare")
    if field is None:
        field = [*(signature.output_fields if signature is not None else rows[0])][-1]
    if missing := [place for place, row in enumerate(rows) if field not in row]:
        raise ConfigValueError(
            f"majority: completion {missing[0]} has no field {field!r}: {', '.join(rows[missing[0]])}"
        )
    values = [row[field] if normalize is None else normalize(row[field]) for row in rows]
    try:
        votes = Counter(value for value in values if value is not None) or Counter(values)
    except TypeError as error:
        raise ConfigValueError(
            f"majority: values of {field!r} cannot be compared ({error}); give normalize="
        ) from error
    winner = max(votes, key=votes.__getitem__)
    return Prediction.from_completions([rows[values.index(winner)]], signature)


def _row(place: int, completion: Any) -> dict[str, Any]:
    if not isinstance(completion, Example | Mapping):
        raise ConfigTypeError(f"majority: completion {place} is {completion!r:.80}, expected a prediction or a dict")
    return dict(completion.items())
