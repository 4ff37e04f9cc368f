"""One lead: capture it, wait until a slot suits, book the call.

**Set up once**

1. Connections ``popin_default`` (type ``popin``: login is the seller token, password the API key)
   and ``popin_ledger`` (SQLite or Postgres; the provider makes its tables there).
2. The pool: ``airflow pools set popin 1 "Popin account"``.

*Trigger* it and fill in the form. Airflow keeps what you type there with the Dag run, visible to
whoever may see the run; for anything but a trial let the tasks read the lead where it lives
(``popin_crm_sync`` does).

The task ``capture`` has a button "Join call", which opens the customer's page. The sensor waits in
the triggerer and takes no worker.

**When something fails**

- ``capture`` may be cleared: it registers the lead again, and Popin may then hold it twice.
- ``wait_for_slot`` gives up after two days; nothing is booked then.
- ``schedule`` may be retried and cleared: the ledger allows one booking per ``source`` and
  ``lead_id``. When the answer to it got lost, the task fails at once, and says how to find out
  whether the call exists.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, Param

from airflow_provider_popin.operators.popin import PopinCaptureOperator, PopinScheduleOperator
from airflow_provider_popin.sensors.popin import PopinSlotAvailabilitySensor

with DAG(
    "popin_one_lead",
    description="Capture one lead, wait for a slot, schedule the call",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        "lead_id": Param("demo-1", type="string", description="The lead's id in your CRM"),
        "name": Param("Asha Example", type="string"),
        "mobile": Param("+1 202 555 0143", type="string", description="With + and country"),
        "email": Param("asha@example.com", type=["string", "null"]),
        "hours": Param(
            "11:00-20:00", type="string", description="Hours of the day, in the seller's timezone"
        ),
    },
    default_args={"pool": "popin", "retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["popin"],
    doc_md=__doc__,
) as dag:
    capture = PopinCaptureOperator(
        task_id="capture",
        name="{{ params.name }}",
        mobile="{{ params.mobile }}",
        email="{{ params.email }}",
        campaign={"utm_source": "airflow"},
    )
    wait_for_slot = PopinSlotAvailabilitySensor(
        task_id="wait_for_slot",
        hours="{{ params.hours }}",
        earliest="{{ (macros.datetime.now().astimezone() + macros.timedelta(hours=1)).isoformat() }}",
        max_slots=1,
        poke_interval=60,
        timeout=timedelta(days=2).total_seconds(),
        deferrable=True,
    )
    schedule = PopinScheduleOperator(
        task_id="schedule",
        customer_id="{{ ti.xcom_pull(task_ids='capture')['customer_id'] }}",
        time="{{ ti.xcom_pull(task_ids='wait_for_slot')[0]['time'] }}",
        ledger_conn_id="popin_ledger",
        source="popin_one_lead",
        lead_id="{{ params.lead_id }}",
    )
    capture >> wait_for_slot >> schedule
