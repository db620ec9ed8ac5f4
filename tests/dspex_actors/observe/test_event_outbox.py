"""What waits to be sent: bounded in number and in bytes, and what does not fit is counted."""

import threading

from dspex_actors.foundation.events.event import Event
from dspex_actors.foundation.events.record import to_record
from dspex_actors.observe.events.outbox import BATCH_BYTES, BATCH_EVENTS, MAX_BYTES, MAX_EVENTS, Outbox

SMALL = to_record(Event(type="x"))
LARGE = to_record(Event(type="x", data={"text": "x" * 200_000}))


def outbox():
    woken = []
    return Outbox(lambda: woken.append(1)), woken


def test_more_than_it_holds_is_dropped_and_counted_once():
    box, _ = outbox()
    for _ in range(MAX_EVENTS + 7):
        box.put(SMALL)
    assert len(box) == MAX_EVENTS
    assert box.take()[1] == 7
    assert box.take()[1] == 0


def test_it_is_bounded_in_bytes():
    box, _ = outbox()
    for _ in range(1000):
        box.put(LARGE)
    assert len(box) <= MAX_BYTES // 200_000
    taken, dropped = box.take()
    assert len(taken) * 200_000 <= BATCH_BYTES + 300_000
    assert dropped == 1000 - len(taken) - len(box)


def test_it_wakes_when_there_is_something_to_send_where_there_was_nothing():
    box, woken = outbox()
    for _ in range(3):
        box.put(SMALL)
    box.take()
    box.put(SMALL)
    assert len(woken) == 2


def test_what_goes_in_comes_out_in_order_and_there_is_room_again():
    box, _ = outbox()
    rows = [SMALL._replace(id=str(n)) for n in range(MAX_EVENTS)]
    for row in rows:
        box.put(row)
    out = []
    while box:
        batch, _ = box.take()
        assert len(batch) <= BATCH_EVENTS
        out += batch
    assert out == rows
    box.put(SMALL)
    assert (len(box), box.take()[1]) == (1, 0)


def test_threads_lose_nothing():
    box, _ = outbox()
    threads = [threading.Thread(target=lambda: [box.put(SMALL) for _ in range(1000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert box.accepted == len(box) == 8000


def test_putting_in_a_signal_handler_in_the_midst_of_putting_ends():
    box = Outbox(lambda: None)

    def interrupted():
        with box._lock:
            box.put(SMALL)

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(60)
    assert (thread.is_alive(), len(box)) == (False, 1)
