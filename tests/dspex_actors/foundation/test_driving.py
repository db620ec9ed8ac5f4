"""Steps are carried out one after the other, in a thread that waits and on an event loop alike."""

import asyncio

import pytest

from dspex_actors.foundation import driving


def drive(steps, do):
    return driving.drive(steps, do)


def adrive(steps, do):
    async def done(step):
        await asyncio.sleep(0)
        return do(step)

    return asyncio.run(driving.adrive(steps, done))


#: What a step gives, or raises.
DOES = {"one": 1, "two": 2, "none": None, "bad": ValueError("bad"), "stop": KeyboardInterrupt()}


def do(step):
    if isinstance(DOES[step], BaseException):
        raise DOES[step]
    return DOES[step]


def nothing(left):
    return "at once"
    yield


def both(left):
    first = yield "one"
    return [first, (yield "two"), (yield "none"), left]


def heals(left):
    try:
        yield "bad"
    except ValueError as error:
        return [str(error), (yield "one")]


def in_order(left):
    try:
        return (yield "stop")
    finally:
        left.append((yield "two"))


def fails_itself(left):
    yield "one"
    raise KeyError("its own")


def fails_later(left):
    with pytest.raises(ValueError, match="bad"):
        yield "bad"
    left.append("healed")
    yield "bad"


#: What is carried out, what comes of it, and what it leaves.
TABLE = [
    (nothing, "at once", []),
    (both, [1, 2, None, []], []),
    (heals, ["bad", 1], []),
    (in_order, KeyboardInterrupt, [2]),
    (fails_itself, KeyError, []),
    (fails_later, ValueError, ["healed"]),
]


@pytest.mark.parametrize("carry", [drive, adrive])
@pytest.mark.parametrize(("work", "comes", "leaves"), TABLE, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_done_is_sent_in_and_errors_are_raised_there(carry, work, comes, leaves):
    left = []
    steps = work(left)
    if isinstance(comes, type):
        with pytest.raises(comes):
            carry(steps, do)
    else:
        assert carry(steps, do) == comes
    assert left == leaves
    assert steps.gi_frame is None  # over


def test_who_is_cancelled_meanwhile_leaves_everything_in_order():
    left = []

    def work():
        try:
            yield "asked"
        except asyncio.CancelledError:
            left.append((yield "put back"))
            raise

    async def done(step):
        if step == "asked":
            began.set()
            await asyncio.Event().wait()
        return step

    async def main():
        carried = asyncio.create_task(driving.adrive(work(), done))
        await began.wait()
        carried.cancel()
        with pytest.raises(asyncio.CancelledError):
            await carried

    began = asyncio.Event()
    asyncio.run(main())
    assert left == ["put back"]


def test_what_waits_for_an_event_loop_is_no_step_of_a_thread():
    """`drive` runs in handlers too, on whose thread a loop may run: it starts none."""

    def work():
        return (yield "one")

    async def main():
        return driving.drive(work(), do)

    assert asyncio.run(main()) == 1
