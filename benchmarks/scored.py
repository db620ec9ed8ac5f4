"""What `benchmarks.scores` does alike with our optimisers and with DSPy's, and its part that runs where DSPy is.

    DSPY-PYTHON -m benchmarks.scored URL THREADS < PAIRS-AND-NAMES-AS-JSON

It prints a line of JSON for each optimiser of these names. URL is the base URL of an embedded LM in OpenAI's format,
as `python -m dspex_actors.embedded` prints it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

#: What the embedded LM is called at its server.
MODEL = "openai/nearest"


def is_right(example: Any, prediction: Any, trace: Any = None) -> bool:
    """Whether the label is the right one."""
    return bool(example.label == prediction.label)


class Told:
    """Score with feedback, as the library's Prediction.

    Args:
        library: ours, or DSPy.
    """

    def __init__(self, library: Any) -> None:
        """Keep its kind of prediction."""
        self._made = library.Prediction

    def __call__(self, gold: Any, pred: Any, trace: Any = None, pred_name: Any = None, pred_trace: Any = None) -> Any:
        """Tell what it belongs to."""
        right = gold.label == pred.label
        return self._made(score=float(right), feedback="Right." if right else f"It belongs to {gold.label}.")


def optimisers(library: Any, lm: Any, train: Sequence[Any], embedder: Any) -> dict[str, Callable[[], Any]]:
    """Return what makes each optimiser that the library has, by name.

    Args:
        library: ours, or DSPy.
        lm: proposes and reflects.
        train: examples to learn from.
        embedder: of KNNFewShot.
    """

    def few(kind: str, **settings: Any) -> Callable[[], Any]:
        return lambda: getattr(library, kind)(metric=is_right, **settings)

    made = {
        "LabeledFewShot(16)": lambda: library.LabeledFewShot(16),
        "BootstrapFewShot": few("BootstrapFewShot", max_bootstrapped_demos=16, max_labeled_demos=16),
        "BootstrapFewShotWithRandomSearch": few(
            "BootstrapFewShotWithRandomSearch",
            max_bootstrapped_demos=8,
            max_labeled_demos=16,
            num_candidate_programs=16,
        ),
        "KNNFewShot(8)": lambda: library.KNNFewShot(8, train, embedder, metric=is_right, max_bootstrapped_demos=8),
        "DistributedBootstrap": few("DistributedBootstrap"),
        "AdaptiveOptimizer": few("AdaptiveOptimizer"),
        "COPRO": few("COPRO", prompt_model=lm),
        'MIPROv2("light")': few("MIPROv2", auto="light", prompt_model=lm),
        "SIMBA": few("SIMBA"),
        'GEPA("light")': lambda: library.GEPA(Told(library), auto="light", reflection_lm=lm, track_stats=True),
    }
    return {name: make for name, make in made.items() if hasattr(library, name.partition("(")[0])}


def program(library: Any, pairs: Sequence[tuple[str, str]]) -> Any:
    """Return the program that is optimised: it knows the labels and nothing else."""
    labels = Literal[tuple(sorted({label for _, label in pairs}))]  # type: ignore[valid-type]
    fields = {"text": (str, library.InputField()), "label": (labels, library.OutputField())}
    return library.Predict(library.Signature(fields, "Decide which label a text has."))


def examples(library: Any, pairs: Sequence[tuple[str, str]]) -> list[Any]:
    """Return the pairs as examples."""
    return [library.Example(text=text, label=label).with_inputs("text") for text, label in pairs]


def compiled(library: Any, optimiser: Any, student: Any, train: list[Any], **settings: Any) -> Any:
    """Return what an optimiser makes of the program."""
    data = {} if type(optimiser).__name__ == "KNNFewShot" else {"trainset": train}
    return optimiser.compile(student, **data, **settings)


def chosen(better: Any) -> list[Any]:
    """Return instructions and demos of each predictor, alike for ours and DSPy's."""
    return [
        [one.signature.instructions, [[demo["text"], demo["label"], "augmented" in demo.keys()] for demo in one.demos]]  # noqa: SIM118
        for one in better.predictors()
    ]


def candidates(better: Any) -> list[Any]:
    """Return score and `chosen` of each candidate that an optimiser tells of; of none that was stopped."""
    found = [(one["score"], one["program"]) for one in getattr(better, "candidate_programs", None) or []]
    if (evolved := getattr(better, "detailed_results", None)) is not None:
        found = list(zip(evolved.val_aggregate_scores, evolved.candidates, strict=True))
    return [[round(score, 6), chosen(program)] for score, program in found if score is not None]


def learned(library: Any, name: str, url: str, lm: Any, embedder: Any, pairs: list[Any], count: int) -> dict[str, Any]:
    """Have an optimiser learn from the first `count` pairs; return what it chose, and what it asked and took."""
    make = optimisers(library, lm, train := examples(library, pairs[:count]), embedder)[name]
    before, began = answered(url), time.perf_counter()
    better = compiled(library, make(), program(library, pairs), train)
    seconds = time.perf_counter() - began
    return {
        "name": name,
        "program": better,
        "seconds": seconds,
        "calls": answered(url) - before,
        "chosen": chosen(better),
        "candidates": candidates(better),
    }


def answered(url: str) -> int:
    """Return how many calls the server at a base URL has answered."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/stats", timeout=10) as said:
        return int(json.load(said)["answered"])


def dspys(url: str, threads: int, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Have DSPy's optimisers learn, and score what they chose on the other pairs, in this process."""
    import logging

    import dspy  # type: ignore[import-not-found,unused-ignore]

    logging.disable(logging.CRITICAL)
    lm = dspy.LM(MODEL, api_base=url, api_key="none", temperature=0.0)
    embedder = dspy.Embedder(MODEL, api_base=url, api_key="none")
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    dspy.configure(lm=lm, num_threads=threads)
    pairs = [tuple(pair) for pair in asked["pairs"]]
    score = dspy.Evaluate(devset=examples(dspy, pairs[asked["train"] :]), metric=is_right, num_threads=threads)
    for name in asked["names"]:
        dspy.cache.reset_memory_cache()
        try:
            row = learned(dspy, name, url, lm, embedder, pairs, asked["train"])
        except Exception as error:  # what DSPy raises is told in its row
            yield {"name": name, "error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
            continue
        better = row.pop("program")
        yield {**row, "score": score(better).score}


def main() -> None:
    """Measure; what DSPy prints is not shown."""
    told = sys.stdout
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        for row in dspys(sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)):
            print(json.dumps(row), file=told, flush=True)


if __name__ == "__main__":
    main()
