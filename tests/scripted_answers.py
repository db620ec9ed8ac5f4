"""What a scripted LM answers to the questions of COPRO, MIPROv2, SIMBA and GEPA, whoever asks: ours or DSPy's.

An answer follows from all that is shown and from nothing of how it is worded, so who chooses the same with it has shown
the same. Nothing of ours or of DSPy's is imported here: `benchmarks/dspy_choices.py` asks it for DSPy.
"""

import hashlib
import json
import re

#: What COPRO alone asks for.
PREFIX = "proposed_prefix_for_output_field"
#: Words of tips that stand in DSPy's and in ours.
TIPS = ("creative", "concise", "informative", "stakes", "persona")
#: Where a section ends.
END = r"(?=\n\n\[\[ ##|\n\nNow write|\n\nRespond with (?:the corresponding|a JSON object)|\Z)"


def number(*parts):
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:4], "big")


def section(text, name):
    found = re.findall(rf"\[\[ ## {name} ## \]\]\n(.*?){END}", text, re.DOTALL)
    return found[-1].strip() if found else ""


def task(system):
    """Return the instruction, on one line."""
    return " ".join(re.split(r"your (?:task|objective) is:", system)[1].split())


def is_drawn(messages):
    """Tell whether a question is one of COPRO's: it asks the very same several times, for answers that differ."""
    return PREFIX in messages[0]["content"]


def answer(messages, rollout=0):
    """Return the outputs that are asked for, by name."""
    system, user = messages[0]["content"], messages[-1]["content"]

    def shown(*names):
        return [section(user, name) for name in names]

    if "new_instruction" in system:
        seen = re.findall(r"[qu]\d+|fb\d+", section(user, "examples_with_feedback"))
        return {"new_instruction": f"Rule {number(section(user, 'current_instruction'), *seen) % 10_000}"}
    if is_drawn(messages):
        # A list of attempts is told in many ways: what was tried, in its order, and what it came to.
        seen = re.findall(r"Rule \d+|Answer it|Give a hint|Say \d+|\d+\.\d+", section(user, "attempted_instructions"))
        found = number(*seen, section(user, "basic_instruction"), rollout)
        return {"proposed_instruction": f"Rule {found % 1000}", PREFIX: f"Say {found % 7}"}
    if "proposed_instruction" in system:
        tip = next((word for word in TIPS if word in section(user, "tip")), "none")
        seen = shown("dataset_description", "program_description", "module", "module_description", "task_demos")
        return {
            "proposed_instruction": f"Rule {number(tip, *seen, section(user, 'basic_instruction'), rollout) % 10_000}"
        }
    if "module_description" in system:
        return {
            "module_description": number(*shown("program_example", "program_description", "module"), rollout) % 1000
        }
    if "program_description" in system:
        return {"program_description": number(*shown("program_example"), rollout) % 1000}
    if "module_advice" in system:
        names = json.loads(section(user, "module_names"))
        # Told with other blanks and numbers, it is the same.
        seen = [re.sub(r"\s+", "", told) for told in shown("program_inputs", "oracle_metadata", *TRAJECTORIES)]
        seen = [{"true": "1.0", "false": "0.0"}.get(told, told) for told in seen]
        advice = {name: f"Advice {number(name, *seen) % 10_000}." for name in names}
        return {"discussion": "none", "module_advice": json.dumps(advice)}
    if "summary" in system:
        return {"summary": number(*shown("observations")) % 1000}
    if "observations" in system:
        seen = number(*shown("examples", "prior_observations"))
        return {"observations": "COMPLETE" if seen % 3 == 0 else f"Seen {seen % 1000}. "}
    return play(messages, rollout)


#: What is shown of a better and a worse way.
TRAJECTORIES = [
    f"{which}_{what}"
    for which in ("worse", "better")
    for what in ("program_trajectory", "program_outputs", "reward_value", "reward_info")
]


def play(messages, rollout):
    """Do the task, the better the luckier the number of the instruction and the demos."""
    system, user = messages[0]["content"], messages[-1]["content"]
    rule, question = task(system), section(user, "question")
    if question.startswith("u") and number(rule, question) % 2:
        return {"nothing": f"{question} is not clear"}
    shown = [section(one["content"], "question") for one in messages[1:-1] if one["role"] == "user"]
    if "[[ ## answer ## ]]" not in system:
        return {"hint": number(rule, question, rollout, *shown) % 2}
    hint = section(user, "hint") if "[[ ## hint ## ]]" in user else "0"
    is_right = number(rule, question, rollout, *shown) % 100 < number(rule, *shown) % 100 and hint == "0"
    return {"answer": "yes" if is_right else "no"}


def text(messages, rollout=0):
    found = answer(messages, rollout)
    if "new_instruction" in found:
        return json.dumps(found)
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in found.items())


def feedback(gold, pred, trace, name, calls):
    """Return a metric's words on a predictor, that follow from all that GEPA gives it."""
    shown = [(sorted(dict(given).items()), sorted(dict(gave.items()).items())) for _, given, gave in (*trace, *calls)]
    return f"fb{number(gold.question, pred.answer, name, shown) % 100_000}"
