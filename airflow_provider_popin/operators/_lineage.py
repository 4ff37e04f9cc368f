"""What a lead sync tells OpenLineage: which table or file it read, and that calls at Popin came of it.

Nothing here is imported before the OpenLineage provider asks. Neither the statement nor any of its parameters
is told: rendered, they may name a person.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_popin.sync.report import Report

log = logging.getLogger(__name__)


class LeadSyncLike(Protocol):
    """What is asked of the operator."""

    source: str
    sql: str | None
    sql_conn_id: str | None
    path: str | None
    popin_conn_id: str
    steps: Sequence[str]
    last_report: Report | None


class LineageMethods:
    """The methods that the OpenLineage provider looks for in an operator."""

    def get_openlineage_facets_on_complete(
        self: LeadSyncLike, task_instance: Any
    ) -> OperatorLineage[Any, Any]:
        """Return inputs and outputs of the task.

        :param task_instance: not used
        """
        return lineage_of(self)

    def get_openlineage_facets_on_failure(
        self: LeadSyncLike, task_instance: Any
    ) -> OperatorLineage[Any, Any]:
        """Return the same for a task that failed: what it booked until then is booked.

        :param task_instance: not used
        """
        return lineage_of(self)


def lineage_of(operator: LeadSyncLike) -> OperatorLineage[Any, Any]:
    """Inputs: the tables of the statement, the file, or else the name of the source. Output: the calls.

    A dry run has no output. How many calls were booked stands with the output, if the run got that far.

    :param operator: with its rendered arguments
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    report = operator.last_report
    outputs = [] if report is not None and report.dry_run else [_output(operator)]
    return OperatorLineage(inputs=_inputs(operator), outputs=outputs)


def _output(operator: LeadSyncLike) -> Dataset:
    from airflow.providers.common.compat.openlineage.facet import (
        OutputDataset,
        OutputStatisticsOutputDatasetFacet,
    )

    report, books = operator.last_report, "schedule" in operator.steps
    facets: dict[str, Any] = {}
    if report is not None:
        rows = report.results["booked" if books else "captured"]
        facets["outputStatistics"] = OutputStatisticsOutputDatasetFacet(rowCount=rows)
    return OutputDataset(
        namespace=f"popin://{operator.popin_conn_id}",
        name="calls" if books else "customers",
        outputFacets=facets,
    )


def _inputs(operator: LeadSyncLike) -> list[Dataset]:
    if operator.sql is not None and operator.sql_conn_id is not None:
        try:
            found = _tables(operator.sql, operator.sql_conn_id)
        except Exception as error:  # noqa: BLE001
            # The boundary to parsers and hooks of other providers; without the tables, the output is still
            # worth telling. Only the name: a database's text may quote its connection.
            log.info("The tables of the source are not told to OpenLineage (%s)", type(error).__name__)
            found = []
        return found or [_source(operator)]
    return [_file(operator.path)] if operator.path is not None else [_source(operator)]


def _tables(sql: str, conn_id: str) -> list[Dataset]:
    """Name the tables as Airflow's SQL operators do, so that they are the same datasets."""
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.common.compat.sdk import BaseHook
    from airflow.providers.openlineage.sqlparser import SQLParser, get_openlineage_facets_with_sql

    connection = BaseHook.get_connection(conn_id)
    hook: Any = connection.get_hook()  # type: ignore[no-untyped-call]
    known = get_openlineage_facets_with_sql(hook, sql, conn_id, database=None, use_connection=False)
    if known is not None:
        # Without the columns that a statement was traced to: they would tell the same of every sync.
        return [Dataset(namespace=found.namespace, name=found.name) for found in known.inputs]
    # The hook has no name for its database; SQLite's has none.
    parsed = SQLParser(dialect=connection.conn_type).parse(sql)
    tables = parsed.in_tables if parsed is not None else []
    namespace = f"{connection.conn_type}://{connection.host or ''}"
    if connection.port:
        namespace = f"{namespace}:{connection.port}"
    names = sorted(".".join(filter(None, (table.database, table.schema, table.name))) for table in tables)
    return [Dataset(namespace=namespace, name=name) for name in names]


def _file(path: str) -> Dataset:
    from airflow.providers.common.compat.openlineage.facet import Dataset

    # Not taken for a URL: in the path of a file, # and ? are ordinary characters.
    scheme, is_url, rest = path.partition("://")
    if not is_url:
        return Dataset(namespace="file", name=path)
    bucket, _, name = rest.partition("/")
    if scheme == "file":
        return Dataset(namespace="file", name=f"/{name}")
    # In front of an @ Airflow writes a connection id.
    bucket = bucket.rpartition("@")[2]
    return Dataset(namespace=f"{scheme}://{bucket}", name=name.lstrip("/"))


def _source(operator: LeadSyncLike) -> Dataset:
    from airflow.providers.common.compat.openlineage.facet import Dataset

    return Dataset(namespace=f"popin://{operator.popin_conn_id}", name=f"sources/{operator.source}")
