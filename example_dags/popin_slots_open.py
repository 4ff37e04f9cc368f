"""Slots open up at Popin: leads that wait for a call get one, within a minute and without a schedule.

An agent is added, a call is cancelled, next week's hours are published: a trigger that asks Popin once
a minute tells of the new slots, and Airflow starts this Dag. Between two such moments it takes no
worker. It works beside ``popin_crm_sync``, on the same table and ledger: nobody is booked twice.

Needs Airflow 3.0 or newer; on Airflow 2 this file holds no Dag.

**Set up once**

1. Connections ``popin_default`` (type ``popin``: login is the seller token, password the API key),
   ``popin_ledger`` (SQLite or Postgres; the provider makes its tables there) and ``crm``, the
   database with your leads.
2. The pool: ``airflow pools set popin 1 "Popin account"``.
3. The table, `TELL_CRM` and the field map of ``popin_crm_sync``; change both alike.
4. A triggerer has to run. Unpause the Dag: it starts at once, for the slots that are open now.

**When something fails**

- Popin cannot be reached or refuses the key: no run starts, and the triggerer's log says why, once.
  It goes on by itself as soon as a slot list can be read again.
- A run that fails books the rest when the next slots open up, or after an hour, when slots that are
  still open are told again. A slot that was told may be gone before the run gets there: then its
  lead waits for the next.
- Several tellings may start one run. It does not matter here, because the run reads all waiting
  leads and Popin's list of that moment, not the event.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator
from airflow_provider_popin.triggers.slots_open import PopinSlotsOpenTrigger

try:
    from airflow.sdk import Asset, AssetWatcher
except ImportError:  # Airflow 2: nothing outside of it can start a Dag
    HAS_WATCHERS = False
else:
    HAS_WATCHERS = True

# The leads without a call. Who is captured already keeps the customer, and is only booked.
WAITING_LEADS = """
    SELECT id, first_name, last_name, mobile_phone, other_phone, email, country, utm_source,
           call_after, call_before, hours_from, hours_to, timezone, priority
    FROM leads
    WHERE COALESCE(popin_state, 'new') IN ('new', 'captured', 'unassigned')
    ORDER BY created_at, id
"""

TELL_CRM = """
    UPDATE leads
    SET popin_state = :state, popin_reason = :reason, popin_customer_id = :customer_id,
        popin_join_url = :join_url, popin_call_time = :call_time
    WHERE id = :lead_id
"""

FIELD_MAP = {
    "lead_id": "id",
    "name": ["first_name", "last_name"],
    "mobile": ["mobile_phone", "other_phone"],
    "email": "email",
    "country": "country",
    "campaign.utm_source": "utm_source",
    "earliest": "call_after",
    "latest": "call_before",
    "hours_from": "hours_from",
    "hours_to": "hours_to",
    "timezone": "timezone",
    "priority": "priority",
}


def make_dag() -> DAG:
    """Make the Dag, with the asset that the trigger watches."""
    slots_open = Asset(
        "popin://popin_default/slots/open",
        watchers=[
            AssetWatcher(
                name="popin_slots_open",
                trigger=PopinSlotsOpenTrigger(popin_conn_id="popin_default", poll_interval=60),
            )
        ],
    )
    with DAG(
        "popin_slots_open",
        description="When slots open up at Popin, waiting leads get a call",
        schedule=[slots_open],
        start_date=datetime(2025, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"pool": "popin", "retries": 2, "retry_delay": timedelta(minutes=2)},
        tags=["popin"],
        doc_md=__doc__,
    ) as dag:
        PopinLeadSyncOperator(
            task_id="book_waiting_leads",
            source="crm.leads",
            sql=WAITING_LEADS,
            sql_conn_id="crm",
            field_map=FIELD_MAP,
            write_back_sql=TELL_CRM,
            results_path="{{ var.value.get('popin_results', 'file:///tmp/popin-results') }}",
            execution_timeout=timedelta(hours=1),
        )
    return dag


dag = make_dag() if HAS_WATCHERS else None
