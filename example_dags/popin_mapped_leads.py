"""A handful of leads, one mapped task for each: every lead has its own log, retries and "Join call" button.

**Set up once**

1. Connections ``popin_default`` (type ``popin``: login is the seller token, password the API key)
   and ``popin_ledger`` (SQLite or Postgres; the provider makes its tables there).
2. The pool: ``airflow pools set popin 1 "Popin account"``.
3. Let `pick_leads` read your leads. What it returns goes through XCom, so Airflow stores it: names
   and numbers included. The log would show it too, but for ``show_return_value_in_logs=False``.

Mapping is for a handful. Each task costs a second or more, and Airflow maps 1,024 tasks at most;
for more leads, and to keep them out of Airflow's database, see ``popin_crm_sync``.

**When something fails**

- A lead that cannot be captured fails its own task. The others are captured, but nobody is
  scheduled before that lead is mended (or taken out) and its task cleared.
- Retries and clears of ``schedule`` are safe: the ledger allows one booking per ``source`` and
  ``lead_id``. A slot that somebody else took meanwhile fails its task, and that lead has no call;
  run the Dag again with the leads that are left.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_popin.operators.popin import PopinCaptureOperator, PopinScheduleOperator
from airflow_provider_popin.sensors.popin import PopinSlotAvailabilitySensor


@task(show_return_value_in_logs=False)
def pick_leads() -> list[dict[str, str]]:
    """Return the leads: for a retry or a clear, the same ones in the same order."""
    return [
        {"lead_id": "L-1", "name": "Asha Example", "mobile": "+1 202 555 0143", "email": "asha@example.com"},
        {"lead_id": "L-2", "name": "Björn Exempel", "mobile": "070-174 06 05", "country": "SE"},
        {"lead_id": "L-3", "name": "Chloé Exemple", "mobile": "01 99 00 12 34", "country": "33"},
    ]


def capture_arguments(lead: dict[str, str]) -> dict[str, str]:
    """Return what the capture task of a lead takes: all but its id."""
    return {name: value for name, value in lead.items() if name != "lead_id"}


@task
def schedule_arguments(
    leads: list[dict[str, str]], customers: Iterable[dict[str, str]], slots: list[dict[str, str]]
) -> list[dict[str, str]]:
    """Return what the schedule task of each lead takes: its customer, and a slot of its own."""
    return [
        {"lead_id": lead["lead_id"], "customer_id": customer["customer_id"], "time": slot["time"]}
        for lead, customer, slot in zip(leads, customers, slots, strict=False)
    ]


with DAG(
    "popin_mapped_leads",
    description="Capture and schedule a handful of leads with mapped tasks",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"pool": "popin", "retries": 2, "retry_delay": timedelta(seconds=30)},
    tags=["popin"],
    doc_md=__doc__,
) as dag:
    leads = pick_leads()
    capture = PopinCaptureOperator.partial(task_id="capture").expand_kwargs(leads.map(capture_arguments))
    wait_for_slots = PopinSlotAvailabilitySensor(
        task_id="wait_for_slots",
        min_slots="{{ ti.xcom_pull(task_ids='pick_leads') | length }}",
        earliest="{{ (macros.datetime.now().astimezone() + macros.timedelta(hours=1)).isoformat() }}",
        poke_interval=60,
        timeout=timedelta(days=2).total_seconds(),
        deferrable=True,
    )
    capture >> wait_for_slots
    arguments = schedule_arguments(leads, capture.output, wait_for_slots.output)  # type: ignore[arg-type]
    PopinScheduleOperator.partial(
        task_id="schedule", ledger_conn_id="popin_ledger", source="popin_mapped_leads"
    ).expand_kwargs(arguments)
