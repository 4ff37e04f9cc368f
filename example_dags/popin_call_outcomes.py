"""Hourly: how the calls ended goes back to the CRM's table.

Popin tells by webhook whether a call took place, was missed or abandoned; the receiver in Airflow's API
server keeps that in the ledger, beside the booking. This Dag writes it where your sales people look.

**Set up once**

1. The Dag ``popin_crm_sync``, which books the calls of the source ``crm.leads``: its connections
   ``popin_ledger`` and ``crm`` are used here too.
2. The pool: ``airflow pools set popin 1 "Popin account"``.
3. The webhook: a ``webhook_key`` on the connection ``popin_default``, and in Popin's dashboard
   (Settings, Developers, Webhook) the same key and the address
   ``https://<your Airflow>/popin/webhooks/popin_default``. The receiver needs Airflow 3; this Dag
   does not.
4. Columns for the answers, as `TELL_CRM` fills them::

       ALTER TABLE leads ADD COLUMN popin_outcome VARCHAR(20);     -- successful, missed, abandoned
       ALTER TABLE leads ADD COLUMN popin_outcome_at VARCHAR(40);  -- ISO 8601

**When something fails**

- Every outcome is told at least once, so a retry or a cleared task does no harm: the ledger keeps up
  to where it was told. A lead that the statement fails for is named, and told again by the next run.
- An outcome that cannot be told from another booking of the same customer is not guessed: it stays
  *unmatched*, on the page "Popin" in Airflow and under
  ``python -m airflow_provider_popin webhooks list``.
- No webhook is no proof of anything: a call without an outcome may have taken place.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_popin.operators.outcomes import PopinOutcomesOperator

# Runs at least once per outcome, so it must do no harm when it runs again.
TELL_CRM = """
    UPDATE leads
    SET popin_outcome = :outcome, popin_outcome_at = :outcome_at
    WHERE id = :lead_id
"""

with DAG(
    "popin_call_outcomes",
    description="How Popin calls ended is written to the CRM",
    schedule="@hourly",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"pool": "popin", "retries": 2, "retry_delay": timedelta(minutes=2)},
    tags=["popin"],
    doc_md=__doc__,
) as dag:
    PopinOutcomesOperator(
        task_id="tell_crm",
        source="crm.leads",
        write_back_sql=TELL_CRM,
        write_back_conn_id="crm",
        execution_timeout=timedelta(minutes=30),
    )
