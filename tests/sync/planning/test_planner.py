from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time, timedelta
from time import process_time

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.client.windows import SlotWindow
from airflow_provider_popin.sync.planning.planner import Openings, Plan, Waiting, plan

SELLER = "Asia/Kolkata"
MIDNIGHT = datetime(2025, 9, 24, 18, 30, tzinfo=UTC)  # Thursday 00:00 in Kolkata
ANY = SlotWindow()


def slots_at(*hours: float) -> list[Slot]:
    """Slots so many hours after the seller's midnight."""
    return [Slot(MIDNIGHT + timedelta(hours=hour), f"slot at {hour}") for hour in hours]


def between(first: float, end: float) -> SlotWindow:
    return SlotWindow(earliest=MIDNIGHT + timedelta(hours=first), latest=MIDNIGHT + timedelta(hours=end))


def daily(first: int, end: int, timezone: str | None = None) -> SlotWindow:
    return SlotWindow(hours=(time(first), time(end)), timezone=timezone)


def leads(*windows: SlotWindow, priorities: Sequence[int] = ()) -> list[Waiting]:
    """Leads 0, 1, 2, ... in this order when they have equal priorities."""
    return [
        Waiting(key, priorities[key] if priorities else 0, f"lead-{key:03}", window)
        for key, window in enumerate(windows)
    ]


def make_plan(waiting: Sequence[Waiting], slots: Sequence[Slot], seats: Sequence[int] | None = None) -> Plan:
    return plan(waiting, slots, [1] * len(slots) if seats is None else seats, seller_timezone=SELLER)


def maximum(
    waiting: Iterable[Waiting],
    slots: Sequence[Slot],
    seats: Sequence[int],
    fixed: dict[int, int] | None = None,
) -> int:
    """How many leads networkx can seat, some of them in slots that are already said."""
    graph: nx.Graph[object] = nx.Graph()
    top = []
    for lead in waiting:
        for index, slot in enumerate(slots):
            said = (fixed or {}).get(lead.key, index)
            if said == index and lead.window.allows(slot.start, SELLER):
                for seat in range(seats[index]):
                    graph.add_edge(("lead", lead.key), ("seat", index, seat))
        if graph.has_node(("lead", lead.key)):
            top.append(("lead", lead.key))
    return len(nx.bipartite.hopcroft_karp_matching(graph, top)) // 2


def in_order(waiting: Iterable[Waiting]) -> list[Waiting]:
    return sorted(waiting, key=lambda lead: (-lead.priority, lead.lead_id, lead.key))


def assert_valid(
    result: Plan, waiting: Sequence[Waiting], slots: Sequence[Slot], seats: Sequence[int]
) -> None:
    by_key = {lead.key: lead for lead in waiting}
    assert result.assigned.keys() | result.unassigned.keys() == by_key.keys()
    assert not result.assigned.keys() & result.unassigned.keys()
    for key, index in result.assigned.items():
        assert by_key[key].window.allows(slots[index].start, SELLER)
    for index, number in Counter(result.assigned.values()).items():
        assert number <= seats[index]
    for key, reason in result.unassigned.items():
        fits = [index for index, slot in enumerate(slots) if by_key[key].window.allows(slot.start, SELLER)]
        expected = "slots_full" if fits else "no_slot_in_window" if slots else "no_slots_open"
        assert reason == expected


HALF_DAYS = st.integers(0, 8).map(lambda half: half * 6.0)
HOURS = st.tuples(st.sampled_from((0, 6, 9, 12, 20)), st.sampled_from((0, 6, 9, 12, 20))).map(
    lambda hours: daily(hours[0], hours[1])
)
WINDOWS = (
    st.builds(between, HALF_DAYS, HALF_DAYS)
    | HOURS
    | st.builds(daily, st.integers(0, 23), st.integers(0, 23), st.sampled_from(("UTC", "America/New_York")))
    | st.builds(SlotWindow, weekdays=st.frozensets(st.integers(3, 5)))
    | st.just(ANY)
)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Waiting], list[Slot], list[int]]:
    hours = sorted(draw(st.sets(st.integers(0, 47), max_size=7)))
    seats = draw(st.lists(st.integers(0, 3), min_size=len(hours), max_size=len(hours)))
    waiting = [
        Waiting(key, draw(st.integers(-1, 2)), draw(st.sampled_from(("a", "b", "c"))), draw(WINDOWS))
        for key in range(draw(st.integers(0, 12)))
    ]
    return waiting, slots_at(*hours), seats


class TestAgainstMaximumMatching:
    @settings(max_examples=300)
    @given(problems())
    def test_every_prefix_of_the_order_is_served_as_well_as_possible(
        self, problem: tuple[list[Waiting], list[Slot], list[int]]
    ) -> None:
        """Cardinality and priorities at once: no prefix could have more, whoever of the rest goes without."""
        waiting, slots, seats = problem
        result = make_plan(waiting, slots, seats)
        assert_valid(result, waiting, slots, seats)
        order = in_order(waiting)
        for length in range(len(order) + 1):
            served = sum(lead.key in result.assigned for lead in order[:length])
            assert served == maximum(order[:length], slots, seats)

    @settings(max_examples=100)
    @given(problems())
    def test_each_kept_lead_has_the_earliest_slot_that_keeps_all_placed(
        self, problem: tuple[list[Waiting], list[Slot], list[int]]
    ) -> None:
        waiting, slots, seats = problem
        result = make_plan(waiting, slots, seats)
        kept = [lead for lead in in_order(waiting) if lead.key in result.assigned]
        fixed: dict[int, int] = {}
        for lead in kept:
            for index in range(result.assigned[lead.key]):
                assert maximum(kept, slots, seats, {**fixed, lead.key: index}) < len(kept)
            fixed[lead.key] = result.assigned[lead.key]

    @given(problems())
    def test_a_lead_alone_has_an_opening_where_a_plan_would_seat_it(
        self, problem: tuple[list[Waiting], list[Slot], list[int]]
    ) -> None:
        waiting, slots, seats = problem
        openings = Openings(slots, seats, seller_timezone=SELLER)
        for lead in waiting:
            alone = make_plan([lead], slots, seats)
            assert openings.why_none(lead.window) == alone.unassigned.get(lead.key)

    @given(problems(), st.randoms(use_true_random=False))
    def test_the_order_of_the_input_does_not_matter(
        self, problem: tuple[list[Waiting], list[Slot], list[int]], randomness: random.Random
    ) -> None:
        waiting, slots, seats = problem
        shuffled = list(waiting)
        randomness.shuffle(shuffled)
        assert make_plan(shuffled, slots, seats) == make_plan(waiting, slots, seats)

    @pytest.mark.parametrize("seed", range(4))
    def test_larger_calendars(self, seed: int) -> None:
        """Long chains of moves, which small problems do not have."""
        chance = random.Random(seed)
        slots = slots_at(*(0.25 * index for index in range(150)))
        seats = [chance.randrange(3) for _ in slots]
        width = (1, 2, 5, 20)[seed]
        firsts = [chance.uniform(-width, 37) for _ in range(250)]
        waiting = leads(*(between(first, first + chance.uniform(0, width)) for first in firsts))
        chance.shuffle(waiting)
        result = make_plan(waiting, slots, seats)
        assert_valid(result, waiting, slots, seats)
        assert len(result.assigned) == maximum(waiting, slots, seats)


class TestByHand:
    def test_hours_of_the_day_are_no_interval_and_first_come_loses(self) -> None:
        # Thursday 10:00 and 15:00, Friday 10:00. First come, first served gives the first lead Thursday
        # morning, the second one Friday morning, and has nothing for the third.
        slots = slots_at(10, 15, 34)
        result = make_plan(leads(ANY, daily(9, 12), daily(9, 12)), slots)
        assert result == Plan({0: 1, 1: 0, 2: 2}, {})

    def test_earliest_deadline_first_would_lose_too(self) -> None:
        # The deadline of the night lead is later than that of the first, yet it must not wait: of the three
        # slots it can only have the first.
        slots = slots_at(2, 10, 26)
        night = SlotWindow(hours=(time(22), time(4)), latest=MIDNIGHT + timedelta(hours=20))
        result = make_plan(leads(between(0, 12), night, ANY), slots)
        assert result == Plan({0: 1, 1: 0, 2: 2}, {})

    def test_hours_are_those_of_the_leads_timezone(self) -> None:
        # 09:00 to 10:00 in New York is 18:30 to 19:30 in Kolkata in September.
        slots = slots_at(9, 18, 18.5, 19.5)
        assert make_plan(leads(daily(9, 10, "America/New_York")), slots).assigned == {0: 2}
        assert make_plan(leads(daily(9, 10)), slots).assigned == {0: 0}

    def test_a_higher_priority_wins_whatever_its_id(self) -> None:
        result = make_plan(leads(ANY, ANY, ANY, priorities=(0, -5, 7)), slots_at(1, 2))
        assert result == Plan({2: 0, 0: 1}, {1: "slots_full"})

    def test_a_low_priority_stays_if_the_high_one_can_move(self) -> None:
        result = make_plan(leads(between(0, 2), ANY, priorities=(0, 1)), slots_at(1, 5))
        assert result == Plan({1: 1, 0: 0}, {})

    def test_ties_break_by_lead_id_then_key(self) -> None:
        waiting = [Waiting(3, 0, "b", ANY), Waiting(9, 0, "a", ANY), Waiting(1, 0, "b", ANY)]
        assert make_plan(waiting, slots_at(1, 2)) == Plan({9: 0, 1: 1}, {3: "slots_full"})

    def test_several_seats_in_a_slot(self) -> None:
        result = make_plan(leads(ANY, ANY, ANY, ANY), slots_at(1, 2), [2, 1])
        assert result == Plan({0: 0, 1: 0, 2: 1}, {3: "slots_full"})

    def test_equal_windows_in_different_objects_are_one(self) -> None:
        result = make_plan(leads(*(between(0, 5) for _ in range(3))), slots_at(1, 2, 9))
        assert result == Plan({0: 0, 1: 1}, {2: "slots_full"})

    def test_a_full_stretch_does_not_hide_the_rest(self) -> None:
        narrow = [between(0, 2)] * 4
        result = make_plan(leads(*narrow, ANY), slots_at(0, 1, 5))
        assert result.assigned == {0: 0, 1: 1, 4: 2}

    def test_reasons(self) -> None:
        slots = slots_at(1, 2)
        assert make_plan(leads(ANY), []).unassigned == {0: "no_slots_open"}
        assert make_plan(leads(between(3, 4)), slots).unassigned == {0: "no_slot_in_window"}
        assert make_plan(leads(ANY), slots, [0, 0]).unassigned == {0: "slots_full"}
        assert make_plan(leads(ANY), slots, [-1, 0]).unassigned == {0: "slots_full"}
        assert make_plan(leads(between(3, 4)), slots, [0, 0]).unassigned == {0: "no_slot_in_window"}

    def test_nobody_waits(self) -> None:
        assert make_plan([], slots_at(1)) == Plan({}, {})


class TestInput:
    def test_a_key_comes_twice(self) -> None:
        with pytest.raises(ValueError, match="key"):
            make_plan([Waiting(1, 0, "a", ANY), Waiting(1, 0, "b", ANY)], slots_at(1))

    def test_seats_belong_to_slots(self) -> None:
        with pytest.raises(ValueError, match="seats"):
            make_plan([], slots_at(1), [1, 1])

    def test_slots_must_ascend(self) -> None:
        with pytest.raises(ValueError, match="ascend"):
            make_plan([], slots_at(2, 1))


class TestSize:
    """Far above what is measured, so that only a change of the order of growth fails here."""

    def test_a_hundred_thousand_leads_on_two_thousand_slots(self) -> None:
        chance = random.Random(1)
        slots = slots_at(*(0.25 * index for index in range(2000)))
        zones = (None, "America/New_York", "Europe/Berlin")
        windows = []
        for _ in range(300):
            first = chance.randrange(400)
            windows.append(
                SlotWindow(
                    earliest=MIDNIGHT + timedelta(hours=first),
                    latest=MIDNIGHT + timedelta(hours=first + chance.randrange(24, 200)),
                    hours=(time(chance.randrange(24)), time(chance.randrange(24))),
                    timezone=chance.choice(zones),
                )
            )
        waiting = [
            Waiting(key, chance.choice((0, 0, 5)), f"lead-{chance.random()}", chance.choice(windows))
            for key in range(100_000)
        ]
        began = process_time()
        result = make_plan(waiting, slots, [4] * len(slots))
        assert process_time() - began < 60
        assert len(result.assigned) > 7_000
        assert len(result.assigned) + len(result.unassigned) == 100_000

    @pytest.mark.parametrize("shape", ["chain", "nested", "onion"])
    def test_windows_made_to_cause_long_searches(self, shape: str) -> None:
        """Every lead has its own window, and there is exactly one way to seat them all."""
        number = 600
        if shape == "chain":
            windows = [between(index, index + 2) for index in range(number - 1)] + [between(0, 1)]
        elif shape == "nested":
            windows = [between(0, index + 1) for index in range(number)]
        else:
            middle = number // 2
            windows = [between(middle - 1 - index // 2, middle + (index + 1) // 2) for index in range(number)]
        began = process_time()
        result = make_plan(leads(*reversed(windows)), slots_at(*range(number)))
        assert process_time() - began < 60
        assert len(result.assigned) == number
