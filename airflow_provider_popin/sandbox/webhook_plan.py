"""What becomes of a booked call, and when it is told. Pure. The names are P, the rest is invented (I)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from airflow_provider_popin.sandbox import webhook_events as events
from airflow_provider_popin.sandbox.webhook_settings import WebhookSettings

MINUTE = 60.0
PRESCHEDULED_BEFORE = 30 * MINUTE
NOTIFIED_BEFORE = 5 * MINUTE
GUEST_AFTER = 1 * MINUTE
ABANDONED_AFTER = 2 * MINUTE
MISSED_AFTER = 10 * MINUTE
MISSED_NOTIFIED_AFTER = 12 * MINUTE
DURATIONS = (3 * 60, 20 * 60)
RATED_AFTER = 2 * MINUTE
REMARK_AFTER = 5 * MINUTE

EVENT_OF = {"successful": events.SUCCESSFUL, "missed": events.MISSED, "abandoned": events.ABANDONED}


@dataclass(frozen=True, slots=True)
class Planned:
    """
    One event of a call.

    :param event: name.
    :param after_start: seconds from the slot's start, negative before it.
    :param values: properties that no other event of the call has.
    """

    event: str
    after_start: float
    values: Mapping[str, object] = field(default_factory=dict)


def plan_call(settings: WebhookSettings, dice: random.Random, *, name: str) -> list[Planned]:
    """
    What will be told of a call after its booking.

    :param settings: probabilities.
    :param dice: of this call alone.
    :param name: the customer's; remarks name people.
    :return: events in the order in which they happen.
    """
    planned = [*_before(settings, dice), *_outcome(settings, dice, name)]
    return sorted(planned, key=lambda each: each.after_start)


def seconds_until(settings: WebhookSettings, occurred: float, *, now: float, start: float) -> float:
    """
    How long the sandbox waits for a moment of a call.

    :param settings: `outcome_after` or `time_factor`.
    :param occurred: the moment in uncompressed time, in epoch seconds.
    :param now: the sandbox's clock, at the booking.
    :param start: start of the slot.
    :return: seconds from now, at least 0.
    """
    factor = settings.time_factor
    if settings.outcome_after is not None:
        if settings.outcome_after == 0:
            return 0.0
        factor = max(1.0, (start - now) / settings.outcome_after)
    return max(0.0, (occurred - now) / factor)


def _before(settings: WebhookSettings, dice: random.Random) -> Iterator[Planned]:
    if dice.random() < settings.notified:
        yield Planned(events.PRESCHEDULED_NOTIFICATION, -PRESCHEDULED_BEFORE)
    if dice.random() < settings.notified:
        yield Planned(events.SCHEDULED_NOTIFICATION, -NOTIFIED_BEFORE)


def _outcome(settings: WebhookSettings, dice: random.Random, name: str) -> Iterator[Planned]:
    outcome = _choose(settings, dice)
    seconds = dice.randint(*DURATIONS)
    ends = {"successful": float(seconds), "missed": MISSED_AFTER, "abandoned": ABANDONED_AFTER}
    # The dice are thrown for every call, so that one probability does not change what another does.
    extras = {
        extra: dice.random() for extra in ("guest_connected", "missed_notified", "rated", "remark_added")
    }
    stars = dice.randint(1, 5)
    if outcome is None:
        return
    end = ends[outcome]
    values: dict[str, object] = {"call_duration": str(seconds)} if outcome == "successful" else {}
    yield Planned(EVENT_OF[outcome], end, values)
    if outcome == "successful" and extras["guest_connected"] < settings.guest_connected:
        yield Planned(events.GUEST_CONNECTED, GUEST_AFTER, {"guest_name": "Guest Example"})
    if outcome == "missed" and extras["missed_notified"] < settings.missed_notified:
        yield Planned(events.MISSED_NOTIFICATION, MISSED_NOTIFIED_AFTER)
    if outcome == "successful" and extras["rated"] < settings.rated:
        rating = {"rating": str(stars), "comments": f"{name} was here."}
        yield Planned(events.RATED, end + RATED_AFTER, rating)
    if extras["remark_added"] < settings.remark_added:
        yield Planned(events.REMARK_ADDED, end + REMARK_AFTER, {"remark": f"Call {name} again."})


def _choose(settings: WebhookSettings, dice: random.Random) -> str | None:
    chance = dice.random()
    for outcome, share in settings.shares:
        chance -= share
        if chance < 0:
            return outcome
    return None
