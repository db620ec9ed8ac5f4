"""How much more each worker of a plan takes: reckoned for all of them at once as for each by itself."""

from hypothesis import given
from hypothesis import strategies as st

from dspex_actors.runs.plan.seats import Seats
from dspex_actors.runs.plan.types import PlanSettings

SEATS = st.lists(
    st.tuples(
        st.integers(0, 9), st.integers(0, 3), st.integers(0, 12), st.integers(0, 3), st.booleans(), st.booleans()
    ),
    max_size=6,
)


@given(SEATS, st.booleans(), st.booleans(), st.sampled_from([None, 0.01, 2.0]))
def test_the_rooms_of_all_are_those_of_each(told, suspects, looks_ahead, latency):
    seats = Seats(PlanSettings(requires=frozenset({"gpu"})), looks_ahead=looks_ahead)
    seats.latency = latency
    for number, (window, more, held, seconds, apart, fits) in enumerate(told):
        seats.join(number, {"gpu"} if fits else (), None)
        seat = seats.get(number)
        seat.window, seat.ceiling, seat.apart = window, window + more, apart
        seat.held, seat.seconds = dict.fromkeys(range(held)), set(range(seconds))
    assert seats.rooms(suspects=suspects) == [seats.room(seat, suspects=suspects) for seat in seats]
