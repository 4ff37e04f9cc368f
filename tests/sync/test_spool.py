"""What a run remembers of its rows on disk."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from airflow_provider_popin.sync.errors import SyncError
from airflow_provider_popin.sync.spool import Spool, SpooledRow


def row(number: int, lead_id: str | None = "L1", **changes: object) -> SpooledRow:
    values = {"generation": 1, "record": number, "result": None, "reason": None, **changes}
    return SpooledRow(number, lead_id, **values)  # type: ignore[arg-type]


def test_rows_come_back_in_read_order_in_chunks() -> None:
    with Spool() as spool:
        rows = [row(number, f"L{number}", phone=b"x", phone_column="Phone") for number in range(1, 1203)]
        spool.add(rows[:700])
        spool.add(rows[700:])
        chunks = list(spool.rows())
        assert [len(chunk) for chunk in chunks] == [500, 500, 202]
        assert [found for chunk in chunks for found in chunk] == rows


def test_which_leads_were_read_before() -> None:
    with Spool() as spool:
        spool.add([row(1, "L1"), row(2, "L1", generation=2), row(3, "L2"), row(4, None, generation=None)])
        assert spool.seen(["L1", "L3"]) == {("L1", 1), ("L1", 2)}
        assert spool.seen([f"X{number}" for number in range(1500)] + ["L2"]) == {("L2", 1)}
        assert spool.seen([]) == set()


def test_which_records_have_a_row() -> None:
    with Spool() as spool:
        spool.add([row(1), row(2, record=None)])
        assert spool.known_records([1, 2, 3]) == {1}


def test_open_rows_are_decided_later() -> None:
    with Spool() as spool, warnings.catch_warnings():
        warnings.simplefilter("error")
        spool.add([row(1), row(2), row(3)])
        spool.decide([(1, "planned", None, "then"), (3, "unassigned", "slots_full", None)])
        ((first, second, third),) = spool.rows()
    assert (first.result, first.reason, first.slot) == ("planned", None, "then")
    assert (second.result, second.reason, second.slot) == (None, None, None)
    assert (third.result, third.reason, third.slot) == ("unassigned", "slots_full", None)


def test_shared_phones_are_counted_by_lead() -> None:
    with Spool() as spool:
        one, other = spool.phone_digest("+12025550123"), spool.phone_digest("+12025550188")
        assert one != other
        assert one == spool.phone_digest("+12025550123")
        spool.add([row(1, "L1", phone=one), row(2, "L1", phone=one, generation=2), row(3, "L2", phone=other)])
        assert spool.shared_phones() == 0
        spool.add([row(4, "L3", phone=other), row(5, "L4"), row(6, "L5")])
        assert spool.shared_phones() == 1


def test_a_digest_tells_nothing_to_another_run() -> None:
    with Spool() as first, Spool() as second:
        assert first.phone_digest("+12025550123") != second.phone_digest("+12025550123")


def test_the_file_is_gone_at_the_end() -> None:
    with Spool() as spool:
        path = Path(spool._file.name)
        spool.add([row(1)])
        assert path.exists()
    assert not path.exists()


def test_a_full_disk_is_told_with_its_file() -> None:
    with Spool() as spool:
        spool._db.execute("PRAGMA max_page_count = 8")
        with pytest.raises(SyncError, match=r"disk is full: .* kept in /.*\.spool .* TMPDIR"):
            spool.add(row(number, "L" * 200) for number in range(1, 1000))
