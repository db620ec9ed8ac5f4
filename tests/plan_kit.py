"""A run's plan worked off in memory, with answers in an order of chance."""


def worked_off(plan, total, answer, rng, known=()):
    """Answer what is asked, one after the other by chance, until there is nothing left to do.

    Args:
        plan: of the run; it has a rule.
        total: how many examples there are.
        answer: says of an example whether it succeeds.
        rng: draws who answers next.
        known: examples that are not asked: they have a result.

    Returns:
        The examples that were asked, in order.
    """
    fresh, asked, flying = (index for index in range(total) if index not in known), [], []
    for worker in ("a", "b"):
        plan.worker_joined(worker)
    while not plan.finished:
        while count := plan.wanted():
            for _ in range(count):
                if (index := next(fresh, None)) is None:
                    plan.source_ended()
                    break
                plan.feed(index, b"x")
        sent = [item for chunk in plan.take() for item in chunk.items]
        asked += [index for index, _, _ in sent]
        flying += sent
        if not plan.finished:
            assert flying, "nothing is under way, and something is left to do"
            index, send, _ = flying.pop(rng.randrange(len(flying)))
            plan.result(index, send, success=answer(index))
    return asked
