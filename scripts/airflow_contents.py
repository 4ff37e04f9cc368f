"""Fills a new Airflow's database: tables, connections, the pool. Runs in a process of that Airflow."""

from __future__ import annotations

import json

from scripts import local_airflow


def fill(connections: str) -> None:
    """Create the tables, and what the examples ask for.

    :param connections: JSON object: id to the fields of Airflow's JSON form.
    """
    from airflow.models import Connection
    from airflow.models.pool import Pool
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    Pool.create_or_update_pool(local_airflow.POOL, slots=1, description="Popin", include_deferred=False)
    with create_session() as session:
        for conn_id, fields in json.loads(connections).items():
            session.add(Connection.from_json(json.dumps(fields), conn_id=conn_id))
