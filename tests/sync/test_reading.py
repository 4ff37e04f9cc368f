"""Rows read in order, numbered, without duplicates, each with an end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from datetime import time as clock

import pytest
from pytest_mock import MockerFixture

from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.sync import reading
from airflow_provider_popin.sync.admission import Action, Decision
from airflow_provider_popin.sync.intake import Admitted, Row
from airflow_provider_popin.sync.ledger.events import Record
from airflow_provider_popin.sync.progress import Progress
from airflow_provider_popin.sync.reading import SourceReader, lead_id_column, row_reader
from airflow_provider_popin.sync.settings import SyncSettings
from airflow_provider_popin.sync.source.booking_wish import BookingWish
from airflow_provider_popin.sync.source.rows import LeadRow
from airflow_provider_popin.sync.source.unreadable import Unreadable, UnreadableRow
from airflow_provider_popin.sync.spool import Spool, SpooledRow
from airflow_provider_popin.sync.stop_switch import StopSwitch

RawRow = Mapping[str, object]
CONFIG = ClientConfig(seller_token="51", api_key="key", base_url="http://127.0.0.1:1", default_region="US")


def raw(lead_id: object, **changes: object) -> RawRow:
    return {"lead_id": lead_id, "name": "Ann Example", "mobile": "202-555-0123", **changes}


class Desk:
    """Takes every good row under the next record id."""

    def __init__(self) -> None:
        self.chunks: list[list[tuple[int, Row]]] = []

    def take(self, rows: Sequence[tuple[int, Row]]) -> list[Admitted]:
        self.chunks.append(list(rows))
        return [
            Admitted(row, Decision(Action.CAPTURE), Record(number + 100, row.lead_id or "", 1))
            for number, row in rows
        ]

    @property
    def taken(self) -> list[str | None]:
        return [row.lead_id for chunk in self.chunks for _, row in chunk]


def read(
    rows: object, desk: Desk, *, switch: StopSwitch | None = None, **settings: object
) -> list[SpooledRow]:
    chosen = SyncSettings(source="crm", **settings)  # type: ignore[arg-type]
    with Spool() as spool:
        reader = SourceReader(row_reader(chosen, CONFIG), spool, Progress())
        reader.read(rows, desk.take, switch)  # type: ignore[arg-type]
        return [row for chunk in spool.rows() for row in chunk]


def ends(rows: Sequence[SpooledRow]) -> list[tuple[str | None, str | None, str | None]]:
    return [(row.lead_id, row.result, row.reason) for row in rows]


class TestWorkersGoFirst:
    """Validating is work for the interpreter, and so is every answer that arrives meanwhile."""

    @pytest.mark.parametrize(("is_ahead", "lets_go"), [(True, 3), (False, 0)])
    def test_before_each_row_where_they_have_enough_to_do(
        self, is_ahead: bool, lets_go: int, mocker: MockerFixture
    ) -> None:
        sleep = mocker.spy(time, "sleep")
        desk = Desk()
        with Spool() as spool:
            reader = SourceReader(
                row_reader(SyncSettings(source="crm"), CONFIG),
                spool,
                Progress(),
                is_ahead=lambda: is_ahead,
            )
            reader.read([raw("L1"), raw("L2"), raw("L3")], desk.take)
        assert desk.taken == ["L1", "L2", "L3"]
        assert [call.args for call in sleep.call_args_list] == [(0,)] * lets_go


class TestRows:
    def test_every_row_is_spooled_in_order_with_its_number(self) -> None:
        desk = Desk()
        rows = read([raw("L1"), raw("L2"), raw("L3", mobile="call me")], desk)
        assert [(row.row, row.lead_id, row.generation, row.record) for row in rows] == [
            (1, "L1", 1, 101),
            (2, "L2", 1, 102),
            (3, "L3", 1, 103),
        ]
        # The ledger will tell; a bad row with an identity is remembered by it too.
        assert [row.result for row in rows] == [None, None, None]
        assert desk.taken == ["L1", "L2", "L3"]

    def test_without_a_field_map_the_columns_are_those_of_all_the_first_rows(self) -> None:
        """An object of a jsonl file leaves out what it has no value for."""
        desk = Desk()
        read([raw("L1"), raw("L2", generation=2)], desk)
        assert [(row.lead_id, row.generation) for _, row in desk.chunks[0]] == [("L1", 1), ("L2", 2)]

    def test_columns_that_only_the_first_rows_have_are_missed_by_no_later_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 2)
        field_map = {"lead_id": "lead_id", "name": "name", "mobile": "mobile", "email": "mail"}
        rows = [raw("L1", mail="ann@example.com"), raw("L2"), raw("L3"), raw("L4")]
        desk = Desk()
        read(rows, desk, field_map=field_map)
        assert desk.taken == ["L1", "L2", "L3", "L4"]

    def test_what_the_settings_say_of_phones_and_times_counts_for_every_row(self) -> None:
        first, end = datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 2, 1, tzinfo=UTC)
        desk = Desk()
        read(
            [raw("L1", mobile="020 7946 0123 ext. 5")],
            desk,
            default_region="GB",  # not the connection's
            drop_phone_extension=True,
            earliest=first,
            latest=end,
            hours=(clock(10), clock(18)),
        )
        ((_, row),) = desk.chunks[0]
        assert isinstance(row, LeadRow)
        assert row.lead is not None
        assert row.lead.e164 == "+442079460123"
        assert row.wish == BookingWish(earliest=first, latest=end, hours_from=clock(10), hours_to=clock(18))

    def test_the_first_row_of_a_lead_counts_valid_or_not(self) -> None:
        desk = Desk()
        rows = read([raw("L1", mobile="call me"), raw("L1"), raw(" L1 "), raw("L2")], desk)
        assert desk.taken == ["L1", "L2"]
        assert ends(rows)[1:3] == [("L1", "skipped", "duplicate_lead_id")] * 2

    def test_duplicates_are_found_across_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 2)
        desk = Desk()
        rows = read([raw("L1"), raw("L2"), raw("L3"), raw("L1"), raw("L4")], desk)
        assert [len(chunk) for chunk in desk.chunks] == [2, 1, 1]
        assert ends(rows)[3] == ("L1", "skipped", "duplicate_lead_id")

    def test_a_generation_is_a_row_of_its_own_across_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 1)
        desk = Desk()
        rows = read([raw("L1", generation=2), raw("L1", generation=2), raw("L1", generation=1)], desk)
        assert [(row.generation, row.result) for row in rows] == [(2, None), (2, "skipped"), (1, None)]
        assert len(desk.chunks) == 2

    def test_the_first_rows_are_handed_on_before_the_rest_is_validated(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "FIRST_ROWS", 2)
        monkeypatch.setattr(reading, "CHUNK_ROWS", 3)
        desk = Desk()
        rows = read([raw(f"L{number}") for number in (1, 2, 3, 4, 5, 6, 1)], desk)
        assert [len(chunk) for chunk in desk.chunks] == [2, 1, 3]
        assert desk.taken == ["L1", "L2", "L3", "L4", "L5", "L6"]
        assert ends(rows)[6] == ("L1", "skipped", "duplicate_lead_id")

    def test_another_generation_is_no_duplicate(self) -> None:
        desk = Desk()
        rows = read([raw("L1", generation=1), raw("L1", generation=2), raw("L1", generation=2)], desk)
        assert desk.taken == ["L1", "L1"]
        assert ends(rows)[2] == ("L1", "skipped", "duplicate_lead_id")

    def test_rows_without_an_identity_are_rejected_one_by_one(self) -> None:
        desk = Desk()
        broken = UnreadableRow(Unreadable.CSV_MALFORMED)
        rows = read([raw(""), raw(None), broken, raw(1.5), raw("L1")], desk)
        assert ends(rows)[:4] == [
            (None, "rejected", "lead_id_missing"),
            (None, "rejected", "lead_id_missing"),
            (None, "rejected", "csv_malformed"),
            (None, "rejected", "lead_id_type"),
        ]
        assert desk.taken == ["L1"]

    def test_a_row_with_an_unusable_generation_stands_for_no_other(self) -> None:
        """It is neither the first generation nor a reason to skip that."""
        desk = Desk()
        rows = read(
            [raw("L1", generation="second"), raw("L1", generation=1), raw("L1", generation="x")], desk
        )
        assert desk.taken == ["L1"]
        assert ends(rows) == [
            ("L1", "rejected", "generation_invalid"),
            ("L1", None, None),
            ("L1", "rejected", "generation_invalid"),
        ]

    def test_phone_numbers_are_spooled_as_digests_with_their_column(self) -> None:
        desk = Desk()
        field_map = {"lead_id": "Id", "name": "Name", "mobile": ["Phone 1", "Phone 2"]}
        row = {"Id": "L1", "Name": "Ann Example", "Phone 1": "none", "Phone 2": "202-555-0123"}
        (spooled,) = read([row], desk, field_map=field_map)
        assert spooled.phone_column == "Phone 2"
        assert spooled.phone is not None
        assert b"2025550123" not in spooled.phone

    def test_a_source_without_rows(self) -> None:
        desk = Desk()
        assert read([], desk) == []
        assert desk.chunks == []


class TestColumns:
    def test_a_missing_column_is_an_error_before_anything_is_taken(self) -> None:
        desk = Desk()
        field_map = {"lead_id": "Id", "name": "Name", "mobile": "Phone"}
        with pytest.raises(PopinInputError, match=r"Id.*Phone"):
            read([{"Name": "Ann Example"}], desk, field_map=field_map)
        assert desk.chunks == []

    def test_the_first_readable_row_shows_the_columns(self) -> None:
        desk = Desk()
        broken = UnreadableRow(Unreadable.JSON_MALFORMED)
        with pytest.raises(PopinInputError):
            read([broken, {"lead_id": "L1"}], desk)
        assert read([broken], desk)[0].reason == "json_malformed"

    @pytest.mark.parametrize(
        ("field_map", "column"),
        [
            (None, "lead_id"),
            ({"lead_id": "Id"}, "Id"),
            ({"name": "Name"}, "lead_id"),
            ({"lead_id": ["Id", "Old Id"]}, "Id,Old Id"),
        ],
    )
    def test_the_column_of_the_lead_ids(self, field_map: Mapping[str, str] | None, column: str) -> None:
        assert lead_id_column(SyncSettings(source="crm", field_map=field_map)) == column

    def test_the_operator_s_region_wins_over_the_connection_s(self) -> None:
        desk = Desk()
        read([raw("L1", mobile="98765 43210")], desk, default_region="IN")
        (((_, row),),) = desk.chunks
        assert not hasattr(row, "reason")
        read([raw("L1", mobile="98765 43210")], desk)
        assert getattr(desk.chunks[1][0][1], "reason", None) == "phone_invalid"


class TestStops:
    def test_after_a_stop_rows_are_pending_and_nobody_takes_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "CHUNK_ROWS", 2)
        switch, desk = StopSwitch(), Desk()

        def source() -> Iterator[RawRow]:
            yield raw("L1")
            yield raw("L2")
            switch.stop(None)
            yield from (raw("L3"), raw("L1"), raw(""), raw("L4"))

        rows = read(source(), desk, switch=switch)
        assert desk.taken == ["L1", "L2"]
        assert ends(rows)[2:] == [
            ("L3", "pending", "stopped"),
            ("L1", "skipped", "duplicate_lead_id"),
            (None, "rejected", "lead_id_missing"),
            ("L4", "pending", "stopped"),
        ]

    def test_the_source_is_closed_at_its_end_and_after_an_error(self) -> None:
        closed: list[str] = []

        def source(rows: Sequence[RawRow], name: str) -> Iterator[RawRow]:
            try:
                yield from rows
            finally:
                closed.append(name)

        read(source([raw("L1")], "read"), Desk())
        # Held here, and not read to its end: nobody else closes it.
        failing = source([{"name": "Ann Example"}] * (reading.CHUNK_ROWS + 1), "failed")
        with pytest.raises(PopinInputError):
            read(failing, Desk())
        assert closed == ["read", "failed"]
