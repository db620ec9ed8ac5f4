"""A scripted LM, and programs to optimise with it: answers follow from what is asked, so DSPy's own choice is known."""

import asyncio
import hashlib
import json
import re
import sys

import dspex_actors as dspex
from dspex_actors.teleprompt import (
    COPRO,
    GEPA,
    AdaptiveOptimizer,
    BootstrapFewShotWithRandomSearch,
    DistributedBootstrap,
)


def number(*parts):
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:4], "big")


def section(text, name):
    found = re.findall(rf"\[\[ ## {name} ## \]\]\n(.*?)(?=\n\n\[\[ ##|\n\nNow write|\n\nRespond with|\Z)", text, re.S)
    return found[-1].strip()


def answer(messages, rollout):
    """Propose rules by what is shown, and answer the better the luckier the number of the rule."""
    system, user = messages[0]["content"], messages[-1]["content"]
    if "new_instruction" in system:
        seen = re.findall(r"q\d+|fb\d+", section(user, "examples_with_feedback"))
        return {"new_instruction": f"Rule {number(section(user, 'current_instruction'), *seen) % 10_000}"}
    if "proposed_instruction" in system:
        shown = "basic_instruction" if "basic_instruction" in system else "attempted_instructions"
        rule = number(number(section(user, shown)), rollout) % 10_000
        return {"proposed_instruction": f"Rule {rule}", "proposed_prefix_for_output_field": f"So {rule % 3}:"}
    task, question = re.split(r"your (?:task|objective) is:", system)[1].strip(), section(user, "question")
    shown = [section(one["content"], "question") for one in messages[1:-1] if one["role"] == "user"]
    if "[[ ## answer ## ]]" not in system:
        return {"hint": number(task, question, *shown) % 2}
    hint = section(user, "hint") if "[[ ## hint ## ]]" in user else "0"
    is_right = number(task, question, *shown) % 100 < number(task, *shown) % 100 and hint == "0"
    return {"answer": "yes" if is_right else "no"}


class Scripted(dspex.BaseLM):
    """Writes a line into a file for each request."""

    def __init__(self, book=None, seconds=0.0):
        super().__init__("scripted")
        self.book, self.seconds = book, seconds

    async def aforward(self, messages, **params):
        if self.book:
            with open(self.book, "a") as book:  # noqa: ASYNC230 - a line
                book.write(".\n")
        await asyncio.sleep(self.seconds)
        found = answer(messages, params.get("rollout_id") or 0)
        if "new_instruction" in found:
            return json.dumps(found)
        return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in found.items())


def connected(shared_host):
    """Give a connection to the file's daemon, whose LM answers so: `system = pytest.fixture(connected)`."""
    with dspex.connect(home=shared_host.home, lm=Scripted()) as system:
        yield system


def one():
    return dspex.Predict(dspex.Signature("question -> answer", "Answer it."))


class Two(dspex.Module):
    def __init__(self):
        self.look = dspex.Predict(dspex.Signature("question -> hint", "Give a hint."))
        self.say = dspex.Predict(dspex.Signature("question, hint -> answer", "Answer with it."))

    async def aforward(self, question):
        hint = (await self.look.acall(question=question)).hint
        return await self.say.acall(question=question, hint=hint)


def is_yes(example, prediction, trace=None):
    return prediction.answer == example.answer


def questions(count):
    return [dspex.Example(question=f"q{place}", answer="yes").with_inputs("question") for place in range(count)]


def search(**options):
    """Compare eight bootstraps."""
    optimizer = BootstrapFewShotWithRandomSearch(is_yes, max_labeled_demos=6, num_candidate_programs=5)
    return optimizer.compile(Two(), trainset=questions(40), display_progress=False, max_in_flight=4, **options)


def propose(**options):
    optimizer = COPRO(metric=is_yes, breadth=3, depth=2)
    return optimizer.compile(Two(), trainset=questions(20), display_progress=False, max_in_flight=4, **options)


def spread(**options):
    """Bootstrap from four chunks."""
    optimizer = DistributedBootstrap(is_yes, target_demos=6, chunk_size=20, max_labeled_demos=6)
    return optimizer.compile(Two(), trainset=questions(80), display_progress=False, max_in_flight=4, **options)


def with_feedback(gold, pred, trace=None, pred_name=None, pred_trace=None):
    """Say of a predictor what follows from all that a metric is given."""
    seen = [] if pred_name is None else [pred_name, len(trace), dict(pred_trace[0][2].items())]
    return {"score": pred.answer == gold.answer, "feedback": f"fb{number(gold.question, pred.answer, seen) % 1000}"}


def evolve(calls=36, **options):
    """Change instructions in the light of feedback."""
    optimizer = GEPA(with_feedback, max_metric_calls=calls, seed=4, track_stats=True)
    data = questions(14)
    return optimizer.compile(Two(), trainset=data[:8], valset=data[8:], display_progress=False, **options)


def begin(way, system, run_id, **options):
    """Have the node do what `search`, `spread` or `evolve` does, or a smaller `propose`, or what suits."""
    data = questions(14)
    optimizer, student, given = {
        "search": lambda: (
            BootstrapFewShotWithRandomSearch(is_yes, max_labeled_demos=6, num_candidate_programs=5),
            Two(),
            {"trainset": questions(40)},
        ),
        "propose": lambda: (COPRO(metric=is_yes, breadth=4, depth=3), one(), {"trainset": questions(20)}),
        "spread": lambda: (
            DistributedBootstrap(is_yes, target_demos=6, chunk_size=20, max_labeled_demos=6),
            Two(),
            {"trainset": questions(80)},
        ),
        "evolve": lambda: (
            GEPA(with_feedback, max_metric_calls=36, seed=4, track_stats=True),
            Two(),
            {"trainset": data[:8], "valset": data[8:]},
        ),
        "adapt": lambda: (
            AdaptiveOptimizer(is_yes, ["random_search", "copro"], {"random_search": {"num_candidate_programs": 5}}),
            Two(),
            {"trainset": questions(60)},
        ),
    }[way]()
    return system.start_optimization(optimizer, student, **given, run_id=run_id, max_in_flight=4, **options)


def chosen(program):
    return [(one.signature.dump_state(), [dict(demo) for demo in one.demos]) for one in program.predictors()]


if __name__ == "__main__":
    home, way, book, run_id = sys.argv[1:]
    with dspex.connect(home=home, lm=Scripted(book, 0.02)) as system:
        if way.startswith("begin "):
            begin(way.removeprefix("begin "), system, run_id)
        else:
            globals()[way](run_id=run_id)
