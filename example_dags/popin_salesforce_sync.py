"""Every 15 minutes: open Salesforce leads become scheduled Popin calls.

The leads come from a function that runs inside the task, so no lead passes through XCom or
Airflow's database.

**Set up once**

1. ``pip install 'airflow-provider-popin[salesforce]'``
2. Connections ``popin_default`` (type ``popin``: login is the seller token, password the API key),
   ``popin_ledger`` (SQLite or Postgres; the provider makes its tables there) and
   ``salesforce_default`` (type ``salesforce``; the Salesforce user needs to read leads).
3. The pool: ``airflow pools set popin 1 "Popin account"``.
4. Change `OPEN_LEADS` to what your sales people call an open lead. ``CountryCode`` exists where
   State and Country picklists are enabled; without them leave it out of query and map, and set
   ``default_region``.
5. Optional: the Variable ``popin_results``, a folder or bucket for one JSON line per row and run.

Nothing is written to Salesforce. A booked lead may stay in the query: it is skipped.

**When something fails**

- Salesforce refuses or is away: the task fails while it reads. Leads read until then may be
  captured already; the retry goes on from there.
- Otherwise as in ``popin_crm_sync``: retries and clears are safe, refused rows are named, a booking
  in doubt fails the task and is settled by a person.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

OPEN_LEADS = """
    SELECT Id, FirstName, LastName, MobilePhone, Phone, Email, CountryCode, LeadSource
    FROM Lead
    WHERE IsConverted = false AND Status = 'Open - Not Contacted' AND CreatedDate = LAST_N_DAYS:30
    ORDER BY CreatedDate, Id
"""
SECONDS_PER_REQUEST = 60

FIELD_MAP = {
    "lead_id": "Id",
    "name": ["FirstName", "LastName"],
    "mobile": ["MobilePhone", "Phone"],
    "email": "Email",
    "country": "CountryCode",
    "campaign.lead_source": "LeadSource",
}


def salesforce_leads(context: Context) -> Iterator[Mapping[str, object]]:
    """Yield leads page by page, as Salesforce sends them."""
    # Imported here: the Dag processor parses this file often and needs neither of them.
    from airflow.providers.salesforce.hooks.salesforce import SalesforceHook

    salesforce = SalesforceHook(salesforce_conn_id="salesforce_default").get_conn()
    yield from salesforce.query_all_iter(OPEN_LEADS, timeout=SECONDS_PER_REQUEST)


with DAG(
    "popin_salesforce_sync",
    description="Salesforce leads become scheduled Popin calls",
    schedule="*/15 * * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"pool": "popin", "retries": 2, "retry_delay": timedelta(minutes=2)},
    tags=["popin"],
    doc_md=__doc__,
) as dag:
    PopinLeadSyncOperator(
        task_id="sync_leads",
        source="salesforce.lead",
        leads=salesforce_leads,
        field_map=FIELD_MAP,
        results_path="{{ var.value.get('popin_results', 'file:///tmp/popin-results') }}",
        execution_timeout=timedelta(hours=1),
    )
