"""Fills a ledger until the disk is full, as a program of its own: the limit holds for the whole process."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

import sqlalchemy as sa

from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.ledger import Ledger
from tests.sync.ledgers import add_lead


def count(ledger: Ledger) -> int:
    with ledger.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(schema.leads)).scalar_one())


def main(url: str) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    engine = sa.create_engine(url, future=True)
    ledger = Ledger.open(engine)
    path = engine.url.database or ""
    files = [file for file in (path, path + "-wal") if os.path.exists(file)]
    room = max(map(os.path.getsize, files)) + 30_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    committed, error = 0, None
    while error is None and committed < 2_000:
        try:
            add_lead(ledger, f"L{committed}")
            committed += 1
        except LedgerError as full:
            error = type(full).__name__
    told = {"committed": committed, "error": error, "leads_when_full": count(ledger)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    add_lead(ledger, "after")
    print(json.dumps({**told, "leads_after_room": count(ledger)}))


if __name__ == "__main__":
    main(sys.argv[1])
