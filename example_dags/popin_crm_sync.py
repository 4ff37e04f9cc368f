"""Every 15 minutes: leads of a CRM table become Popin calls, and the table learns what came of them.

**Set up once**

1. Connections:

   - ``popin_default``, type ``popin``: login is the seller token, password the API key;
   - ``popin_ledger``, SQLite or Postgres: the provider's own tables, which remember who was booked.
     Back it up like any database that must not be lost;
   - ``crm``: the database with your leads.

2. The pool, shared by all Dags of one Popin account: ``airflow pools set popin 1 "Popin account"``.
   One slot means one sync at a time, so the connection's limit of requests per second holds for the
   account.
3. Columns for the answers, as `TELL_CRM` fills them. Change `NEW_LEADS`, `TELL_CRM` and `FIELD_MAP`
   to the names in your table.
4. Optional: the Airflow Variable ``popin_results``, a folder or bucket (``s3://bucket/popin``) for
   one JSON line per row and run.

Try it first with *Trigger*, ``dry_run`` ticked: it reads, validates, plans and reports, and sends
nothing.

**When something fails**

- Retries and cleared tasks are safe: the ledger knows what was sent, and the run goes on where it
  stopped.
- A row that Popin or the validation refuses is ``rejected`` with a reason and is skipped until it
  changes. Too many of them (a fifth of the rows), or a booking *in doubt* (sent, answer lost), fail
  the task after everything is committed; its message names the leads and the command that settles a
  doubt.
- A statement of `TELL_CRM` that failed runs again in the next run, and fails this one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator

# Booked leads need not be read again. It only saves time: the ledger decides who is booked.
NEW_LEADS = """
    SELECT id, first_name, last_name, mobile_phone, other_phone, email, country, utm_source,
           call_after, call_before, hours_from, hours_to, timezone, priority
    FROM leads
    WHERE COALESCE(popin_state, '') <> 'booked'
    ORDER BY created_at, id
"""

# Runs at least once per change of a lead, so it must do no harm when it runs again.
TELL_CRM = """
    UPDATE leads
    SET popin_state = :state, popin_reason = :reason, popin_customer_id = :customer_id,
        popin_join_url = :join_url, popin_call_time = :call_time
    WHERE id = :lead_id
"""

FIELD_MAP = {
    "lead_id": "id",
    "name": ["first_name", "last_name"],  # joined
    "mobile": ["mobile_phone", "other_phone"],  # the first that is a valid number
    "email": "email",
    "country": "country",  # IN, +91 or 91; a number that begins with + needs none
    "campaign.utm_source": "utm_source",
    # When the lead wants to be called. All of it may be empty.
    "earliest": "call_after",
    "latest": "call_before",
    "hours_from": "hours_from",
    "hours_to": "hours_to",
    "timezone": "timezone",
    "priority": "priority",  # when there are fewer slots than leads: higher first
}

with DAG(
    "popin_crm_sync",
    description="CRM leads become scheduled Popin calls, with write-back",
    schedule="*/15 * * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={"dry_run": Param(False, type="boolean", description="Plan and report, send nothing")},
    # What a killed task was just sending counts as in doubt after 40 seconds; the retry takes over the rest.
    default_args={"pool": "popin", "retries": 2, "retry_delay": timedelta(minutes=2)},
    tags=["popin"],
    doc_md=__doc__,
) as dag:
    PopinLeadSyncOperator(
        task_id="sync_leads",
        source="crm.leads",
        sql=NEW_LEADS,
        sql_conn_id="crm",
        field_map=FIELD_MAP,
        dry_run="{{ params.dry_run }}",
        write_back_sql=TELL_CRM,
        results_path="{{ var.value.get('popin_results', 'file:///tmp/popin-results') }}",
        execution_timeout=timedelta(hours=1),
    )
