"""What a person does about events and alarms; recorded with who and why."""

from __future__ import annotations

import sqlalchemy as sa

from airflow_provider_popin.client.redaction import redact_text
from airflow_provider_popin.sync.admin import NoSuchLeadError, locked_as_seen
from airflow_provider_popin.sync.errors import SyncError
from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.event_tables import EventStatus
from airflow_provider_popin.sync.ledger.events import AlarmCleared
from airflow_provider_popin.sync.ledger.ledger import Ledger, clock
from airflow_provider_popin.webhooks import queries
from airflow_provider_popin.webhooks.views import EventView, LeadView

_events = tables.events.c
_leads = schema.leads.c


class NoSuchEventError(SyncError):
    """There is no such unmatched event."""


def dismiss_event(ledger: Ledger, event_id: int, who: str, why: str) -> EventView:
    """Take an unmatched event off the list. It is kept.

    :param ledger: with the event.
    :param event_id: of the event.
    :param who: recorded as given.
    :param why: recorded with personal data replaced.
    :return: the event as it is now.
    :raises NoSuchEventError: no such event, or it is not unmatched.
    """
    with ledger.write() as connection:
        dismissed = connection.execute(
            tables.events.update()
            .where(_events.id == event_id, _events.status == EventStatus.UNMATCHED.value)
            .values(
                status=EventStatus.DISMISSED.value,
                closed_by=who[:255],
                closed_why=redact_text(why),
                closed_at=clock(connection),
            )
        )
        if not dismissed.rowcount:
            raise NoSuchEventError(f"there is no unmatched event {event_id}")
        return queries.event(connection, event_id)


def clear_alarm(
    ledger: Ledger,
    source: str,
    lead_id: str,
    generation: int | None,
    who: str,
    why: str,
    *,
    account: str | None = None,
    seen: str | None = None,
) -> LeadView:
    """Say that a double-booking alarm was dealt with. A lead in doubt is resolved instead (``resolve``).

    :param ledger: with the lead.
    :param source: of the lead.
    :param lead_id: of the lead.
    :param generation: None for the only one with an alarm.
    :param who: recorded as given.
    :param why: recorded with personal data replaced.
    :param account: of the lead, where the source was another account's once; None for the only one.
    :param seen: ``version`` of the lead that the person was shown; None if they were shown none.
    :return: the lead as it is now.
    :raises NoSuchLeadError: no such lead with an alarm, several, its booking is in doubt or under way, or it
        changed since it was seen.
    """
    with ledger.write() as connection:
        query = sa.select(_leads.id, _leads.account).where(
            _leads.source == source, _leads.lead_id == lead_id, _leads.alarm
        )
        if generation is not None:
            query = query.where(_leads.generation == generation)
        if account is not None:
            query = query.where(_leads.account == account)
        rows = connection.execute(query).fetchall()
        if len(rows) != 1:
            problem = f"{len(rows)} alarms: name the generation or the account" if rows else "no alarm"
            raise NoSuchLeadError(f"lead {lead_id!r} of {source!r} has {problem}")
        key, account = rows[0]
        records = locked_as_seen(connection, key, seen)
        event = AlarmCleared(key, who[:255], redact_text(why))
        if not all(ledger.apply(connection, account, [event], records)):
            raise NoSuchLeadError(
                f"lead {lead_id!r} of {source!r} is in doubt or being sent: say whether the call exists "
                "(`in-doubt resolve`), that ends its alarm too"
            )
        return queries.lead(connection, key)
