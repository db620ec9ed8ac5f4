"""A program written for DSPy, and its optimisation by ours; run as a script, to be killed. Needs DSPy."""

import sys

import dspy
from optimised import Scripted, is_yes, with_feedback

import dspex_actors as dspex

TRAIN = 20


class Two(dspy.Module):
    """As `optimised.Two`, written for DSPy."""

    def __init__(self):
        super().__init__()
        self.look = dspy.Predict(dspy.Signature("question -> hint", "Give a hint."))
        self.say = dspy.Predict(dspy.Signature("question, hint -> answer", "Answer with it."))

    def forward(self, question):
        return self.say(question=question, hint=self.look(question=question).hint)


def questions(count=TRAIN):
    return [dspy.Example(question=f"q{place}", answer="yes").with_inputs("question") for place in range(count)]


def what(program):
    """Return instructions, last prefix and the demos' questions of each predictor."""
    return [
        (
            one.signature.instructions,
            list(one.signature.fields.values())[-1].json_schema_extra["prefix"],
            [(demo["question"], "augmented" in demo.keys()) for demo in one.demos],  # noqa: SIM118
        )
        for one in program.predictors()
    ]


WAYS = {
    "labeled": {"k": 3},
    "bootstrap": {"max_labeled_demos": 4, "max_bootstrapped_demos": 2, "max_rounds": 2},
    "random_search": {"max_labeled_demos": 4, "num_candidate_programs": 2},
    "copro": {"breadth": 3, "depth": 2},
    "mipro": {"auto": None, "num_candidates": 3, "num_trials": 4, "minibatch": False, "max_bootstrapped_demos": 2},
    "simba": {"bsize": 4, "num_candidates": 2, "max_steps": 1},
    "gepa": {"max_metric_calls": 30, "track_stats": True},
    "adaptive": {"strategies": ["bootstrap"]},
}


def better(way, program, run_id=None, train=None):
    metric = None if way == "labeled" else with_feedback if way == "gepa" else is_yes
    valset = questions(8) if way in ("mipro", "gepa") else None
    return dspex.optimize(
        program, train or questions(), metric, way, valset, run_id=run_id, display_progress=False, **WAYS[way]
    )


if __name__ == "__main__":
    with dspex.connect(home=sys.argv[1], lm=Scripted(sys.argv[2], 0.02)):
        better("copro", Two(), "killed theirs")
