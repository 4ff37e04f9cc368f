"""A customer missed the call: book one more, once, and tell the CRM.

Popin tells by webhook that a call was missed; the receiver in Airflow's API server makes it an event of
the asset ``popin://popin_default/calls/missed``, which starts this Dag. A lead is booked again on
purpose by its next *generation*: a number in the CRM's table that is part of what the ledger calls one
booking. So the second call is booked once, however often its event comes, and the ledger keeps both.

Once an hour the Dag runs without an event, for leads that found no slot for their second call.

Needs Airflow 3.0 or newer; on Airflow 2 this file holds no Dag.

**Set up once**

1. The Dag ``popin_crm_sync``, which books the first calls: its connections, its table and its source
   ``crm.leads``.
2. The pool: ``airflow pools set popin 1 "Popin account"``.
3. The webhook: a ``webhook_key`` on the connection ``popin_default``, and in Popin's dashboard
   (Settings, Developers, Webhook) the same key and the address
   ``https://<your Airflow>/popin/webhooks/popin_default``.
4. A column: ``ALTER TABLE leads ADD COLUMN popin_generation INTEGER NOT NULL DEFAULT 1``. Change the
   statements and the field map to the names in your table.

**When something fails**

- Events may come twice, and several may start one run: the statement moves a lead from generation 1
  to 2 once, whatever comes again. What is to be done stands in the CRM's table, so a run that died
  between the two tasks is made up for by its retry, or by the next run.
- A lead that misses its second call too is only marked as ``missed``: `MOST_CALLS`.
- Otherwise as in ``popin_crm_sync``: retries and clears are safe, a booking in doubt fails the task
  and is settled by its webhook or by a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_popin.hooks.ledger import sql_engine
from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator

try:
    from airflow.sdk import Asset
    from airflow.timetables.assets import AssetOrTimeSchedule
    from airflow.timetables.trigger import CronTriggerTimetable
except ImportError:  # Airflow 2: no webhook reaches it
    HAS_ASSET_EVENTS = False
else:
    HAS_ASSET_EVENTS = True

SOURCE = "crm.leads"
MOST_CALLS = 2

# One generation further, once: a second event of the same call finds the lead there already.
CALL_AGAIN = """
    UPDATE leads SET popin_generation = popin_generation + 1, popin_state = 'call again'
    WHERE id = :lead_id AND popin_generation = :generation AND popin_generation < :most_calls
"""
GIVE_UP = """
    UPDATE leads SET popin_state = 'missed'
    WHERE id = :lead_id AND popin_generation = :generation AND popin_generation >= :most_calls
"""

# All that have no second call yet, not only those of this run's events: an earlier run may have failed.
LEADS_TO_CALL_AGAIN = """
    SELECT id, popin_generation, first_name, last_name, mobile_phone, other_phone, email, country, utm_source,
           call_before, hours_from, hours_to, timezone
    FROM leads
    WHERE popin_generation > 1 AND popin_state NOT IN ('booked', 'missed')
    ORDER BY id
"""

TELL_CRM = """
    UPDATE leads
    SET popin_state = :state, popin_reason = :reason, popin_customer_id = :customer_id,
        popin_join_url = :join_url, popin_call_time = :call_time
    WHERE id = :lead_id
"""

FIELD_MAP = {
    "lead_id": "id",
    "generation": "popin_generation",
    "name": ["first_name", "last_name"],
    "mobile": ["mobile_phone", "other_phone"],
    "email": "email",
    "country": "country",
    "campaign.utm_source": "utm_source",
    "latest": "call_before",
    "hours_from": "hours_from",
    "hours_to": "hours_to",
    "timezone": "timezone",
}


@task
def note_missed_calls(triggering_asset_events: Any = None) -> None:
    """Note in the CRM who is to be called again. Several events may have started this one run."""
    from sqlalchemy import text

    events: Mapping[Any, Any] = triggering_asset_events or {}
    engine = sql_engine("crm")
    with engine.begin() as crm:
        for event in (event for asset in events for event in events[asset]):
            missed = event.extra
            if missed.get("source") != SOURCE:
                continue
            call = {
                "lead_id": missed["lead_id"],
                "generation": missed["generation"],
                "most_calls": MOST_CALLS,
            }
            crm.execute(text(GIVE_UP), call)
            crm.execute(text(CALL_AGAIN), call)
    engine.dispose()


def make_dag() -> DAG:
    """Make the Dag, with the asset that Popin's webhooks are events of."""
    hourly = CronTriggerTimetable("20 * * * *", timezone="UTC")
    missed_calls = Asset("popin://popin_default/calls/missed")
    with DAG(
        "popin_missed_calls",
        description="A missed call is booked again, once",
        schedule=AssetOrTimeSchedule(timetable=hourly, assets=[missed_calls]),  # type: ignore[list-item]
        start_date=datetime(2025, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"pool": "popin", "retries": 2, "retry_delay": timedelta(minutes=2)},
        tags=["popin"],
        doc_md=__doc__,
    ) as dag:
        call_again = PopinLeadSyncOperator(
            task_id="call_again",
            source=SOURCE,
            sql=LEADS_TO_CALL_AGAIN,
            sql_conn_id="crm",
            field_map=FIELD_MAP,
            min_notice=timedelta(hours=2),  # who was away just now may still be
            write_back_sql=TELL_CRM,
            execution_timeout=timedelta(hours=1),
        )
        note_missed_calls() >> call_again
    return dag


dag = make_dag() if HAS_ASSET_EVENTS else None
