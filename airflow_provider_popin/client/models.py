"""What goes to Popin and what comes back, as values. Nothing here shows a person's data in its repr."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Lead:
    """A person to capture, with every field in the form in which it is sent. Made by
    :func:`~.leads.make_lead`.

    :param name: full name
    :param mobile: national digits of the phone number
    :param country: digits of the calling code, ``"91"``
    :param email: e-mail address
    :param group: routing group
    :param agent: number of the agent to route the call to
    :param pincode: postal code
    :param native: False makes the join link the custom URL of the seller's dashboard
    :param campaign: tracking metadata, JSON values under free keys
    """

    name: str
    mobile: str
    country: str
    email: str | None = None
    group: str | None = None
    agent: int | None = None
    pincode: str | None = None
    native: bool | None = None
    campaign: Mapping[str, object] | None = None

    @property
    def e164(self) -> str:
        """The phone number as ``+`` calling code and national digits."""
        return f"+{self.country}{self.mobile}"

    def personal_values(self) -> tuple[str, ...]:
        """The values that must not appear in any text of ours, for the redaction of Popin's."""
        values = (self.name, self.mobile, f"{self.country}{self.mobile}", self.email, self.pincode)
        return tuple(value for value in values if value)

    def __repr__(self) -> str:
        return "Lead(***)"


@dataclass(frozen=True, slots=True)
class Customer:
    """What capture answered (grade D).

    :param customer_id: opaque text; the only handle, since no endpoint reads it back
    :param url: join link (http or https), None if the reply had none that is usable
    :param incomplete: whether a documented part of the reply was absent or unusable
    """

    customer_id: str
    url: str | None
    incomplete: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """One start time that can be booked.

    :param start: the instant, aware, in UTC
    :param time: Popin's own string for it, in the seller's timezone: ``Thu, 25 Sep 2025 03:15 PM``
    """

    start: datetime
    time: str


@dataclass(frozen=True, slots=True)
class Calendar:
    """The free slots (grade D).

    :param slots: ascending by start, no start twice; may be empty
    :param timezone: IANA name of the seller's timezone
    :param slot_minutes: minutes between slots as the reply says, None if it does not
    :param skipped: why parts of the reply were skipped, as ``availability[0].slots[3]: time_malformed``
    """

    slots: tuple[Slot, ...]
    timezone: str
    slot_minutes: int | None
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScheduledCall:
    """What schedule answered (grade D). The name and the phone number that it echoes are not kept.

    :param time: Popin's string without a year, ``Fri, Sep 19 | 07:30 PM``
    :param timezone: IANA name
    :param incomplete: whether a documented part of the reply was absent or unusable
    """

    time: str | None
    timezone: str | None
    incomplete: bool
