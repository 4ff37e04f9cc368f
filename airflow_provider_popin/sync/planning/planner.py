"""Which lead gets which slot. Pure: the same input gives the same plan, in whatever order the leads come.

Leads are taken by priority, ties by lead id, and one is kept if there is a way to seat it beside all those
kept: so the plan has the maximum number of leads and, of all plans with that number, the best priorities.
Then each kept lead, in the same order, gets the earliest slot that leaves a seat for everybody kept. How:
:mod:`.matching`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.client.windows import SlotWindow
from airflow_provider_popin.sync.planning.matching import Admission, Seating, Settlement
from airflow_provider_popin.sync.planning.window_masks import WindowMasks

NO_SLOTS_OPEN = "no_slots_open"  # the calendar is empty
NO_SLOT_IN_WINDOW = "no_slot_in_window"  # there are slots, but none that this lead may have
SLOTS_FULL = "slots_full"  # all that it may have go to leads that come before it

# In place of a group, for windows that it is pointless to try.
_NOWHERE = -1
_FULL = -2


@dataclass(frozen=True, slots=True)
class Waiting:
    """A captured lead that wants a call.

    :param key: what the plan calls it; each one once
    :param priority: higher first
    :param lead_id: breaks ties, in the order of code points
    :param window: when the call may start; leads that share one object are planned faster
    """

    key: int
    priority: int
    lead_id: str
    window: SlotWindow


@dataclass(frozen=True, slots=True)
class Plan:
    """Every lead is in exactly one of the two.

    :param assigned: key to index in the slots that were given
    :param unassigned: key to reason: ``no_slots_open``, ``no_slot_in_window`` or ``slots_full``
    """

    assigned: dict[int, int]
    unassigned: dict[int, str]


def plan(
    waiting: Sequence[Waiting], slots: Sequence[Slot], seats: Sequence[int], *, seller_timezone: str
) -> Plan:
    """Assign as many leads as possible, the best priorities first, each as early as that permits.

    :param waiting: the leads, in any order
    :param slots: ascending by start, none twice, as in a calendar, without those too near to be booked
    :param seats: free seats per slot, after those that are planned, in doubt or booked
    :param seller_timezone: IANA name of the calendar's timezone
    :raises ValueError: a key comes twice, the slots do not ascend, or the seats are not one number per slot
    """
    if len(seats) != len(slots):
        raise ValueError("there must be one number of seats per slot")
    if len({lead.key for lead in waiting}) != len(waiting):
        raise ValueError("a key comes twice")
    masks = WindowMasks([slot.start for slot in slots], seller_timezone)
    if not slots:
        return Plan({}, dict.fromkeys((lead.key for lead in _in_order(waiting)), NO_SLOTS_OPEN))
    seating = Seating(seats)
    admission = Admission(seating)
    groups = _Groups(admission, masks)
    # The group of each kept lead, until that gives way to its slot.
    assigned: dict[int, int] = {}
    unassigned: dict[int, str] = {}
    for lead in _in_order(waiting):
        group = groups.of(lead.window)
        if group >= 0 and admission.admit(group):
            assigned[lead.key] = group
        else:
            unassigned[lead.key] = NO_SLOT_IN_WINDOW if group == _NOWHERE else SLOTS_FULL
    settlement = Settlement(seating, [*admission.closed, admission.alive])
    indices = list(range(len(slots)))  # one object for each slot, not one for each lead
    for key, group in assigned.items():
        assigned[key] = indices[settlement.settle(group)]
    return Plan(assigned, unassigned)


class Openings:
    """Tells whether a lead could have a seat if it were the only one.

    :param slots: ascending by start, none twice
    :param seats: free seats per slot
    :param seller_timezone: IANA name of the calendar's timezone
    """

    def __init__(self, slots: Sequence[Slot], seats: Sequence[int], *, seller_timezone: str) -> None:
        self._masks = WindowMasks([slot.start for slot in slots], seller_timezone)
        self._open = sum(1 << index for index, free in enumerate(seats) if free)
        self._any = bool(slots)

    def why_none(self, window: SlotWindow) -> str | None:
        """The reason that a plan would give for not assigning the lead; None where there is a seat.

        :param window: the lead's
        """
        if not self._any:
            return NO_SLOTS_OPEN
        allowed = self._masks.mask(window)
        if not allowed:
            return NO_SLOT_IN_WINDOW
        return None if allowed & self._open else SLOTS_FULL


class _Groups:
    """The group of a window, worked out once per window value.

    Windows that can have no seat any more get no group: so the number of masks in memory follows the number
    of seats and not that of the leads.
    """

    def __init__(self, admission: Admission, masks: WindowMasks) -> None:
        self._admission = admission
        self._masks = masks
        self._by_identity: dict[int, int] = {}  # hashing a window costs more than seating most leads
        self._by_value: dict[SlotWindow, int] = {}
        self._by_mask: dict[int, int] = {0: _NOWHERE}

    def of(self, window: SlotWindow) -> int:
        group = self._by_identity.get(id(window))
        if group is None:
            group = self._by_value.get(window)
            if group is None:
                group = self._by_value[window] = self._of_mask(self._masks.mask(window))
            self._by_identity[id(window)] = group
        return group

    def _of_mask(self, mask: int) -> int:
        group = self._by_mask.get(mask)
        if group is None:
            if not mask & self._admission.alive:
                return _FULL
            group = self._by_mask[mask] = self._admission.add_group(mask)
        return group


def _in_order(waiting: Sequence[Waiting]) -> list[Waiting]:
    # Three stable sorts on plain values are twice as fast as one on tuples.
    order = sorted(waiting, key=attrgetter("key"))
    order.sort(key=attrgetter("lead_id"))
    order.sort(key=attrgetter("priority"), reverse=True)
    return order
