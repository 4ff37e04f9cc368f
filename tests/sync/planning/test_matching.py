from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from airflow_provider_popin.sync.planning.matching import Admission, Seating, Settlement


def assign(order: Sequence[int], masks: Sequence[int], seats: Sequence[int]) -> dict[int, int]:
    """Place in the order to slot, for leads that are told by the number of their group."""
    seating = Seating(seats)
    admission = Admission(seating)
    for mask in masks:
        admission.add_group(mask)
    kept = [(place, group) for place, group in enumerate(order) if admission.admit(group)]
    settlement = Settlement(seating, [*admission.closed, admission.alive])
    return {place: settlement.settle(group) for place, group in kept}


def assign_slowly(order: Sequence[int], masks: Sequence[int], seats: Sequence[int]) -> dict[int, int]:
    """The same by the definition, with nothing shared: try, and count whether all fit."""
    kept: dict[int, int] = {}
    for place, group in enumerate(order):
        if all_fit([*kept.values(), masks[group]], seats):
            kept[place] = masks[group]
    settled: dict[int, int] = {}
    for place, mask in kept.items():
        for slot in range(len(seats)):
            tried = {**kept, **{other: 1 << at for other, at in settled.items()}, place: 1 << slot}
            if mask >> slot & 1 and all_fit(list(tried.values()), seats):
                settled[place] = slot
                break
    return settled


def all_fit(masks: Sequence[int], seats: Sequence[int]) -> bool:
    """Whether every mask finds a seat, by Kuhn's algorithm."""
    sitting: list[list[int]] = [[] for _ in seats]

    def seat(lead: int, seen: set[int]) -> bool:
        for slot, number in enumerate(seats):
            if not masks[lead] >> slot & 1 or slot in seen:
                continue
            seen.add(slot)
            if len(sitting[slot]) < number:
                sitting[slot].append(lead)
                return True
            for index, other in enumerate(sitting[slot]):
                if seat(other, seen):
                    sitting[slot][index] = lead
                    return True
        return False

    return all(seat(lead, set()) for lead in range(len(masks)))


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_the_definition(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(400):
        slots = chance.randrange(1, 9)
        # Few slots per group make long chains of moves, many make many ways.
        share = chance.choice((0.15, 0.3, 0.6))
        masks = [
            sum(1 << slot for slot in range(slots) if chance.random() < share)
            for _ in range(chance.randrange(1, 9))
        ]
        seats = [chance.choice((0, 1, 1, 1, 2)) for _ in range(slots)]
        order = [chance.randrange(len(masks)) for _ in range(chance.randrange(1, 14))]
        assert assign(order, masks, seats) == assign_slowly(order, masks, seats)


def test_an_earlier_slot_may_be_won_by_sending_somebody_to_a_free_one() -> None:
    # The first lead gives way to the third, which can have slot 0 only, and finds slot 3 free but 1 taken by
    # the second. Yet the second can go to slot 2, which is free: so the first gets 1.
    masks = [0b1011, 0b0110, 0b0001]
    assert assign([0, 1, 2], masks, [1] * 4) == {0: 1, 1: 2, 2: 0}


def test_who_cannot_be_seated_changes_nothing() -> None:
    masks = [0b011, 0b011, 0b111]
    assert assign([0, 1, 0, 1, 2], masks, [1] * 3) == {0: 0, 1: 1, 4: 2}
    assert assign([0], [0b1], [0]) == {}
