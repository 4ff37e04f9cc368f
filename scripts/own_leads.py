"""A Dag file for somebody's own leads, written by the demo: a whole one, to read and to copy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from scripts.crm import ANSWERS, TABLE, quoted
from scripts.field_maps import FieldMap

DAG_ID = "popin_own_leads"

_DAG = '''\
"""The leads of {file} become scheduled calls in the local sandbox. Written by `make demo`."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_popin.operators.lead_sync import PopinLeadSyncOperator

FIELD_MAP = {field_map}

TELL_CRM = {tell_crm}

with DAG(
    "{dag_id}",
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={{"pool": "popin"}},
) as dag:
    PopinLeadSyncOperator(
        task_id="sync_leads",
        source={source},
        sql="SELECT * FROM {table} ORDER BY rowid",
        sql_conn_id="crm",
        field_map=FIELD_MAP,
        default_region={region},
        calls_per_slot={calls_per_slot},
        max_rejected_ratio=1,
        write_back_sql=TELL_CRM,
        results_path="{{{{ var.value.popin_results }}}}",
    )
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLeads:
    """What the Dag of somebody's own leads is made of.

    :param file: where they come from.
    :param source: their name in the ledger.
    :param field_map: as the operator takes it.
    :param region: ISO country of phone numbers without one, or None.
    :param calls_per_slot: how many calls may start at the same time.
    """

    file: Path
    source: str
    field_map: FieldMap
    region: str | None
    calls_per_slot: int = 1

    @property
    def id_column(self) -> str:
        """The column of the leads' ids."""
        column = self.field_map["lead_id"]
        return column if isinstance(column, str) else column[0]

    def write_dag(self, folder: Path) -> Path:
        """Write the Dag file and return its path.

        :param folder: the Dags folder.
        """
        path = folder / f"{DAG_ID}.py"
        text = _DAG.format(
            dag_id=DAG_ID,
            file=self.file.name.replace("\\", "").replace('"', ""),
            field_map=json.dumps(self.field_map, ensure_ascii=False, indent=4),
            tell_crm=json.dumps(self._tell_crm(), ensure_ascii=False),
            source=json.dumps(self.source, ensure_ascii=False),
            table=TABLE,
            region=None if self.region is None else json.dumps(self.region),
            calls_per_slot=self.calls_per_slot,
        )
        path.write_text(text, "utf-8")
        return path

    def _tell_crm(self) -> str:
        # In a statement with binds a colon begins one, unless a backslash says that it does not.
        name = quoted(self.id_column).replace(":", "\\:")
        answers = ", ".join(f"{answer} = :{answer.removeprefix('popin_')}" for answer in ANSWERS)
        return f"UPDATE {TABLE} SET {answers} WHERE TRIM({name}) = :lead_id"  # noqa: S608
