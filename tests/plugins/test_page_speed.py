"""No page does work that grows out of bounds with 100,000 leads in the ledger, on SQLite and on Postgres.

With ``-s`` it prints how long each page took.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from airflow_provider_popin.sync.ledger.ledger import Ledger
from tests import postgres as databases
from tests.plugins import page_ledger
from tests.plugins.page_site import LEDGER_CONN_ID, Site, connect

# Of processors, whatever else they do meanwhile; far above what is measured, so that only another order of
# growth fails: one query per lead, say.
MOST_SECONDS = 3.0
TRIES = 3
PAGES = (
    "", "?days=90", "?days=90&source=source+1", "doubts", "alarms", "unmatched", "runs", "lead?lead_id=L4007",
    "resolve?source=source+2&lead_id=L4007&generation=1",
)  # fmt: skip


def check(site: Site) -> None:
    """Ask for each page some times, and compare the least work of the processors with the limit.

    Of this process, in which the API server is, and of the database's.
    """
    told: list[str] = []
    with site.session() as ada:
        for path in PAGES:
            fastest = least = float("inf")
            for _ in range(TRIES):
                asked, before = time.perf_counter(), worked(site)
                assert ada.get(site.url + path).status_code == 200, path
                least = min(least, worked(site) - before)
                fastest = min(fastest, time.perf_counter() - asked)
            told.append(f"{path or 'overview'}: {fastest * 1000:.0f} ms, processors {least * 1000:.0f} ms")
            assert least < MOST_SECONDS, told[-1]
    print("\n".join(told))


def worked(site: Site) -> float:
    """Return the processor seconds of this process, the API server in it, and of a Postgres of our own."""
    spent = time.process_time()
    if site.ledger.engine.dialect.name == "postgresql":
        [[backend]] = site.rows("SELECT pg_backend_pid()")
        with suppress(psutil.NoSuchProcess):  # it runs on another machine
            for process in psutil.Process(int(str(backend))).parents()[0].children():
                spent += sum(process.cpu_times()[:2])
    return spent


def test_sqlite(api_server: str, set_connection: Callable[..., None], tmp_path: Path) -> None:
    connect(set_connection, tmp_path / "many.db")
    ledger = Ledger.open(sa.create_engine(f"sqlite:///{tmp_path / 'many.db'}", future=True))
    page_ledger.fill_with_many(ledger)
    try:
        check(Site(api_server, ledger))
    finally:
        ledger.engine.dispose()


@pytest.mark.postgres
def test_postgres(
    api_server: str, set_connection: Callable[..., None], tmp_path: Path, postgres: str
) -> None:
    connect(set_connection, tmp_path / "unused.db")
    with databases.empty_schema(postgres) as url:
        set_connection(
            LEDGER_CONN_ID,
            conn_type="postgres",
            host=url.host,
            port=url.port,
            login=url.username,
            password=url.password,
            schema=url.database,
            extra={"options": url.query["options"]},
        )
        ledger = Ledger.open(sa.create_engine(url, future=True))
        page_ledger.fill_with_many(ledger)
        try:
            check(Site(api_server, ledger))
        finally:
            ledger.engine.dispose()
