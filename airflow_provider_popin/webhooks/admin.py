"""What a person does about events and alarms; recorded with who and why."""

from __future__ import annotations

from airflow_provider_popin.sync.errors import SyncError
from airflow_provider_popin.sync.ledger import Ledger


class NoSuchEventError(SyncError):
    """There is no such unmatched event."""


def dismiss_event(ledger: Ledger, event_id: int, who: str, why: str) -> None:
    """Take an unmatched event off the list. It is kept.

    :param ledger: with the event.
    :param event_id: of the event.
    :param who: recorded as given.
    :param why: recorded with personal data replaced.
    :raises NoSuchEventError: no such event, or it is not unmatched.
    """
    raise NotImplementedError


def clear_alarm(
    ledger: Ledger, source: str, lead_id: str, generation: int | None, who: str, why: str
) -> dict[str, object]:
    """Say that a double-booking alarm was dealt with. A lead in doubt is resolved instead (``resolve``).

    :param ledger: with the lead.
    :param source: of the lead.
    :param lead_id: of the lead.
    :param generation: None for the only one with an alarm.
    :param who: recorded as given.
    :param why: recorded with personal data replaced.
    :return: the lead as it is now.
    :raises NoSuchLeadError: no such lead with an alarm, several, or its booking is in doubt or under way.
    """
    raise NotImplementedError
