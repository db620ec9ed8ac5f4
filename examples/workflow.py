"""A durable workflow: steps that go on where they were when the program is started again.

    python examples/workflow.py              # does all of it, or goes on where an earlier start was killed
    python examples/workflow.py --fail       # fails at the last step; the next start does that one only

Needs no provider: the LM is a script. Its runs are listed by `dspex runs`.
"""

import sys

import dspex_actors as dspex

TICKETS = {"17": "The invoice of May is wrong, and nobody answers."}


def fetch(data):
    """Look the ticket up."""
    print("fetch")
    return {"ticket": TICKETS[data["number"]]}


def count_words(data):
    """Count, beside the LM."""
    print("count")
    return {"words": len(data["ticket"].split())}


def answer(data):
    """Put the answer together."""
    print("answer")
    if "--fail" in sys.argv:
        raise ConnectionError("the mail server hung up")
    return {"answer": f"To {data['team']}: {data['ticket']} ({data['words']} words)"}


def main():
    """Run it under one id."""
    lm = dspex.testing.scripted_lm(["[[ ## team ## ]]\nbilling\n\n[[ ## completed ## ]]"])
    triage = dspex.Predict("ticket -> team")
    triage.set_lm(lm)
    workflow = dspex.Workflow(
        [
            ("fetch", fetch),
            dspex.Branches({"triage": triage, "count": count_words}),  # at the same time
            dspex.Step("answer", answer, retries=1),
        ],
        name="ticket",
    )
    with dspex.connect(workers=1):
        try:
            result = workflow.run({"number": "17"}, durable=True, run_id="ticket-17")
        except dspex.WorkflowError as error:
            print(error)
            return
    states = {step.name: step.state for step in result.steps}  # side by side they end in any order
    for name in workflow.steps:
        print(f"{name}: {states[name]}")
    print(result.data["answer"])


if __name__ == "__main__":
    main()
