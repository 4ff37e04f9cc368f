"""Leads that come in by themselves: nobody real, nearly all of them callable, none of them twice."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import phonenumbers
import pytest

from scripts import crm
from scripts.feeder import BAD_EVERY, MOST, Feeder, add_lead, new_lead
from tests.scripts.test_crm import belongs_to_nobody
from tests.waiting import wait_until

NOW = datetime(2026, 2, 27, 16, 0, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The sample CRM."""
    file = tmp_path / "crm.db"
    crm.make_sample_crm(file)
    return file


def added(database: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(
            "SELECT id, created_at FROM leads WHERE id LIKE 'W-%' ORDER BY id"
        ).fetchall()


def test_nobody_of_them_exists_and_nobody_comes_twice() -> None:
    leads = [new_lead(number, now=NOW) for number in range(1, MOST + 1)]
    assert len({lead["id"] for lead in leads}) == MOST
    callable_ones = [lead for lead in leads if lead["mobile_phone"].startswith("+")]
    assert len(callable_ones) == MOST - MOST // BAD_EVERY
    phones = [lead["mobile_phone"] for lead in callable_ones]
    assert len(set(phones)) == len(phones)
    assert [phone for phone in phones if not belongs_to_nobody(phone)] == []
    assert all(phonenumbers.is_valid_number(phonenumbers.parse(phone)) for phone in phones)
    assert {lead["email"].rpartition("@")[2] for lead in leads} == {"example.com"}
    assert all(lead["email"].isascii() for lead in leads)


def test_lead_is_a_row_of_the_crm(database: Path) -> None:
    add_lead(database, new_lead(7, now=NOW))
    assert added(database) == [("W-0007", "2026-02-27T16:00:00+00:00")]
    assert crm.count_rows(database) == 201


def test_leads_come_in_until_the_end(database: Path) -> None:
    with Feeder(database, every_seconds=0.01, batch=3) as feeder:
        wait_until(lambda: feeder.added >= 6)
    count = feeder.added
    assert [row[0] for row in added(database)] == [f"W-{number:04}" for number in range(1, count + 1)]


def test_a_crm_that_cannot_be_written_to_is_tried_again(tmp_path: Path) -> None:
    database = tmp_path / "crm.db"
    with Feeder(database, every_seconds=0.01) as feeder:
        time.sleep(0.05)  # there is no table yet
        assert feeder.added == 0
        database.unlink(missing_ok=True)
        crm.make_sample_crm(tmp_path / "made.db")
        (tmp_path / "made.db").rename(database)
        wait_until(lambda: feeder.added >= 2)
