"""Lead syncs in a process of their own, whose Airflow was told to use OpenLineage and statsd.

Airflow reads both when it starts. Started by ``test_lead_sync_observability.py``; settings come on stdin. How
each run ended goes to a file: OpenLineage's own processes write to the same stdout, at any time.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.airflow_env import prepare_environment

prepare_environment()
os.environ.update(json.loads(sys.stdin.read()))

from airflow.providers.common.compat.sdk import DAG  # noqa: E402  (it reads its environment now)

from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator  # noqa: E402
from tests import airflow_runs  # noqa: E402

SQL = "SELECT leads.lead_id, people.name, people.mobile FROM leads JOIN people ON people.id = leads.person"


def main() -> None:
    """Run three syncs: of tables, of a file with too many bad rows, and of tables again, dry."""
    airflow_runs.init_database()
    sources: dict[str, dict[str, Any]] = {
        "tables": {"sql": SQL, "sql_conn_id": "crm", "source": "crm leads, EU"},
        "file": {"path": os.environ["LEADS_FILE"], "source": "export"},
        "dry": {"sql": SQL, "sql_conn_id": "crm", "source": "crm leads, EU", "dry_run": True},
    }
    ended = []
    for name, arguments in sources.items():
        with DAG(f"observed_{name}", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:
            PopinLeadSyncOperator(task_id="sync", **arguments)
        run = airflow_runs.run_dag(dag)
        ended.append(f"{name} {airflow_runs.states(run)['sync'].rpartition('.')[2].lower()}")
    Path(os.environ["ENDED_FILE"]).write_text(json.dumps(ended), "utf-8")


if __name__ == "__main__":
    main()
