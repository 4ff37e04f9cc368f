"""Ledgers for the tests of the page: a small one whose every number is known, and one with 100,000 leads."""

from __future__ import annotations

import json
import time

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger.ledger import Ledger

ACCOUNT = "shop"
DAY = 86_400

_LEADS = """
INSERT INTO popin_leads (lead_id, generation, capture_state, booking_state, attempt, capture_doubted,
  booking_doubted, resends, customer_id, slot_start, slot_time, slot_timezone, seat, reply_incomplete,
  time_mismatch, alarm, reason, run, change, written, updated_at, account, source, outcome, created_at)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :leads)
SELECT 'L' || i, 1,
  CASE WHEN i % 20 = 0 THEN 'rejected' ELSE 'captured' END,
  CASE WHEN i % 20 < 2 THEN 'waiting' WHEN i % 4000 = 7 THEN 'in_doubt' ELSE 'booked' END,
  2, FALSE, i % 4000 = 7, 0, 'C' || i,
  CASE WHEN i % 20 < 2 THEN NULL ELSE :slot + i * 3000 / :leads * 1800 END,
  'Sun, 17 Mar 2030 11:30 PM', 'Asia/Kolkata', CASE WHEN i % 20 < 2 THEN NULL ELSE i END, FALSE,
  FALSE, i % 9000 = 3, CASE WHEN i % 20 = 0 THEN 'phone_no_region' ELSE NULL END, 'dag/run/task', 2, 0,
  :now - i, 'shop', 'source ' || (i / 7 % 3),
  CASE WHEN i % 4000 = 7 OR i % 20 < 2 THEN NULL WHEN i % 5 = 2 THEN 'missed' WHEN i % 5 > 2 THEN 'successful'
    ELSE NULL END,
  :now - 90 * 86400.0 + i * 90 * 86400.0 / :leads
FROM n
"""
_SEATS = """
INSERT INTO popin_seats (account, slot_start, number, lead)
SELECT account, slot_start, seat, id FROM popin_leads WHERE seat IS NOT NULL
"""
_HISTORY = """
INSERT INTO popin_history (lead, at, attempt, kind)
SELECT id, updated_at, 2, 'in_doubt' FROM popin_leads WHERE booking_state = 'in_doubt'
"""
_EVENTS = """
INSERT INTO popin_events (conn_id, account, received_at, kind, name, customer_id, payload, status, tries,
  reason, lead)
SELECT 'popin_default', account, updated_at, 'successful', 'popin_call_successful', customer_id, '{}',
  CASE WHEN id % 200 = 9 THEN 'unmatched' ELSE 'matched' END, 1,
  CASE WHEN id % 200 = 9 THEN 'several_bookings' ELSE 'outcome' END,
  CASE WHEN id % 200 = 9 THEN NULL ELSE id END
FROM popin_leads WHERE booking_state <> 'waiting'
"""
_RUNS = """
INSERT INTO popin_runs (source, run, try_number, started_at, ended_at, report)
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
SELECT 'source ' || (i % 3), 'dag/run ' || i || '/task', 1, :now - (2000 - i) * 900.0,
  :now - (2000 - i) * 900.0 + 42, :report
FROM n
"""


def fill_with_many(ledger: Ledger, leads: int = 100_000) -> None:
    """Fill an empty ledger as months of work would: leads, seats, doubts, events and runs.

    :param leads: how many.
    """
    now = time.time()
    report = json.dumps({"rows": 50, "results": {"booked": 45, "rejected": 5}})
    values = {"now": now, "leads": leads, "report": report, "slot": int(now // 1800 * 1800) - 45 * DAY}
    with ledger.write() as connection:
        add_sources(connection, "source 0", "source 1", "source 2")
        for statement in (_LEADS, _SEATS, _HISTORY, _EVENTS, _RUNS):
            names = sa.text(statement).compile().params
            connection.execute(sa.text(statement), {name: values[name] for name in names})
    if ledger.engine.dialect.name == "postgresql":
        # What the database does by itself within a minute.
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE popin_leads, popin_seats, popin_events, popin_history")


def add_sources(connection: Connection, *sources: str) -> None:
    """Register sources, as their first run does."""
    for source in sources:
        connection.execute(
            sa.text(
                "INSERT INTO popin_sources (source, account, lead_id_column, registered_at, accepted_at) "
                "VALUES (:source, :account, 'id', 0, 0)"
            ),
            {"source": source, "account": ACCOUNT},
        )
