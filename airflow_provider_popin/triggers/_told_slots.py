"""Which slots an event trigger has told, and when: its cursor, small enough for Airflow's state store.

Times are whole minutes since the epoch, because a slot begins at one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from airflow_provider_popin.client.models import Slot

# A slot that is still open is told again after so long: whoever was told may not have booked it.
TELL_AGAIN_MINUTES: Final = 60
# The soonest ones; more are not looked at. With what a slot takes at most, a cursor stays below the 65,535
# bytes that Airflow's state store is made for.
MOST_SLOTS: Final = 5_000
_VERSION: Final = 1
_END_OF_TIME: Final = 253_402_300_800 // 60


@dataclass(frozen=True, slots=True)
class ToldSlots:
    """The slots that were open at the last look and have been told.

    :param account: whose slots they are, as the ledger names the account
    :param timezone: the seller's; a slot string means another time in another one
    :param told: start to the minute at which it was told
    """

    account: str = ""
    timezone: str = ""
    told: Mapping[int, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The cursor as JSON: for each minute of telling, the first start and the steps to the others."""
        groups: dict[int, list[int]] = {}
        for start in sorted(self.told):
            groups.setdefault(self.told[start], []).append(start)
        return {
            "version": _VERSION,
            "account": self.account,
            "timezone": self.timezone,
            "told": [[at, *_steps(starts)] for at, starts in sorted(groups.items())],
        }


def from_json(value: object) -> ToldSlots | None:
    """Read a stored cursor.

    :param value: anything: people can edit the store
    :return: None if it is none
    """
    if not isinstance(value, Mapping) or value.get("version") != _VERSION:
        return None
    account, timezone, groups = (value.get(name) for name in ("account", "timezone", "told"))
    if not isinstance(account, str) or not isinstance(timezone, str) or not isinstance(groups, list):
        return None
    told: dict[int, int] = {}
    for group in groups:
        if not isinstance(group, list) or len(group) < 2 or not all(_is_minute(part) for part in group):
            return None
        at, start, *steps = group
        told[start] = at
        for step in steps:
            start += step
            told[start] = at
    return ToldSlots(account, timezone, told)


def news(
    told: ToldSlots, *, account: str, timezone: str, slots: Sequence[Slot], now: float, min_slots: int
) -> tuple[list[Slot], ToldSlots]:
    """The slots to tell of, and what has been told when that is done.

    What is not open any more is forgotten, so a slot that comes back is told again. A clock that was set back
    delays nothing: what was told in the future counts as told now.

    :param told: what has been told so far
    :param account: of this look
    :param timezone: of this look; another account or timezone makes all slots new
    :param slots: the open ones that count, soonest first
    :param now: seconds since the epoch
    :param min_slots: with fewer open ones, nothing is told
    """
    known = told.told if (told.account, told.timezone) == (account, timezone) else {}
    looked_at = slots[:MOST_SLOTS]
    # Rounded in favour of silence, so that a full hour passes.
    this_minute, next_minute = math.floor(now / 60), math.ceil(now / 60)
    due = this_minute - TELL_AGAIN_MINUTES
    # Not older than due: else every slot might have a minute of its own, and the cursor grow.
    open_told = {
        start: max(min(known[start], next_minute), due)
        for start in map(start_minute, looked_at)
        if start in known
    }
    if len(slots) < min_slots:
        return [], ToldSlots(account, timezone, open_told)
    fresh = [slot for slot in looked_at if open_told.get(start_minute(slot), due) <= due]
    after = open_told | {start_minute(slot): next_minute for slot in fresh}
    return fresh, ToldSlots(account, timezone, after)


def start_minute(slot: Slot) -> int:
    """When a slot begins, in minutes since the epoch.

    :param slot: any
    """
    return int(slot.start.timestamp() // 60)


def _steps(starts: Sequence[int]) -> list[int]:
    return [starts[0], *(later - earlier for earlier, later in pairwise(starts))]


def _is_minute(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _END_OF_TIME
