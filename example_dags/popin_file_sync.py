"""Hourly: leads of a CSV file in object storage become scheduled Popin calls.

For a CRM that drops an export somewhere. The file is read row by row, however large; ``.csv``,
``.jsonl`` and either of them gzipped will do.

**Set up once**

1. Connections ``popin_default`` (type ``popin``: login is the seller token, password the API key)
   and ``popin_ledger`` (SQLite or Postgres; the provider makes its tables there).
2. The pool: ``airflow pools set popin 1 "Popin account"``.
3. The Airflow Variable ``popin_leads_file``: ``s3://aws_default@bucket/leads.csv`` (``aws_default``
   is the Airflow connection for the bucket), ``gs://...``, or ``file:///data/leads.csv``. S3, GCS
   and the like need their Airflow provider installed.
4. Change `FIELD_MAP` to the file's header.
5. Optional: the Variable ``popin_results``, a folder or bucket for one JSON line per row and run:
   this is how the CRM can learn what came of each lead, as a file cannot be written back to.

The file may be overwritten by a longer one at any time between runs: who was booked stays booked
and is skipped.

**When something fails**

- Retries and cleared tasks are safe, as in ``popin_crm_sync``.
- A file that is absent, is not UTF-8, lacks a mapped column or has quotes that do not match fails
  the task; a row that is damaged in itself is ``rejected``, with its row number in the results.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator

FIELD_MAP = {
    "lead_id": "Lead ID",
    "name": ["First Name", "Last Name"],
    "mobile": ["Mobile", "Phone"],
    "email": "Email",
    "country": "Country Code",
    "campaign.utm_source": "Source",
}

with DAG(
    "popin_file_sync",
    description="Leads of a CSV file in object storage become scheduled Popin calls",
    schedule="@hourly",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"pool": "popin", "retries": 2, "retry_delay": timedelta(minutes=2)},
    tags=["popin"],
    doc_md=__doc__,
) as dag:
    PopinLeadSyncOperator(
        task_id="sync_leads",
        source="export.leads",
        path="{{ var.value.popin_leads_file }}",
        field_map=FIELD_MAP,
        results_path="{{ var.value.get('popin_results', 'file:///tmp/popin-results') }}",
        execution_timeout=timedelta(hours=1),
    )
