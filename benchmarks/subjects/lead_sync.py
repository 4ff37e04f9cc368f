"""The provider's bulk job, ``sync.engine.LeadSync``, with the ledger and the durability of production."""

from __future__ import annotations

import sqlalchemy

from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings
from airflow_provider_popin.webhooks.processing import take_evidence
from benchmarks.people import FIELD_MAP, REGION, people
from benchmarks.subjects.subject import Figures, Job, config_for, report, timed


def main() -> None:
    """Run one cell and print its figures."""
    job = Job.from_arguments()
    assert job.ledger is not None, "the lead sync needs a ledger"
    # As Airflow's hooks make it.
    engine = sqlalchemy.create_engine(job.ledger, future=True, hide_parameters=True)
    ledger = Ledger.open(engine)
    sync = LeadSync(
        settings=SyncSettings(
            source="benchmark",
            field_map=FIELD_MAP,
            steps=job.steps,
            default_region=REGION,
            calls_per_slot=job.calls_per_slot,
            max_concurrency=job.concurrency,
            requests_per_second=0.0,
        ),
        config=config_for(job),
        ledger=ledger,
        run=RunIdentity(dag_run="benchmark/run/sync"),
        take_evidence=take_evidence,
    )
    with timed() as clock:
        told = sync.run(people(job.leads))
    engine.dispose()
    report(Figures.of(clock, leads=told.results["booked" if "schedule" in job.steps else "captured"]))


if __name__ == "__main__":
    main()
