from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.models import Lead
from airflow_provider_popin.sync.source.booking_wish import BookingWish
from airflow_provider_popin.sync.source.rows import BadRow, LeadRow
from tests.sync.reading import (
    ANN,
    ANN_MAP,
    OTHER_PHONE,
    PHONE,
    make_reader,
    read,
    read_bad,
    read_good,
    why,
)

INDIA = timezone(timedelta(hours=5, minutes=30))


class TestLead:
    def test_all_fields(self) -> None:
        row = read_good(
            {
                **ANN,
                "email": "ann@example.com",
                "country": "GB",
                "mobile": "020 7946 0123",
                "group": 5211,
                "agent": "210",
                "pincode": 221007.0,
                "native": "no",
                "campaign.utm_source": "example",
                "campaign.score": 12.5,
                "campaign.nothing": "",
                "customer_id": None,
                "unrelated": object(),
            }
        )
        assert row.lead == Lead(
            name="Ann Example",
            mobile="2079460123",
            country="44",
            email="ann@example.com",
            group="5211",
            agent=210,
            pincode="221007",
            native=False,
            campaign={"utm_source": "example", "score": 12.5},
        )
        assert row.wish == BookingWish(agent=210, native=False)
        assert (row.lead_id, row.generation, row.customer_id) == ("a1", 1, None)
        assert row.phone_column == "mobile"

    def test_nothing_personal_in_the_repr(self) -> None:
        shown = repr(read_good({**ANN, "email": "ann@example.com"})) + repr(read_bad({**ANN, "mobile": "x1"}))
        assert "Ann" not in shown
        assert "555" not in shown
        assert "example.com" not in shown

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ({**ANN, "name": " "}, ("name_missing", "name")),
            ({**ANN, "name": 5}, ("name_invalid", "name")),
            ({**ANN, "mobile": None}, ("phone_missing", "mobile")),
            ({**ANN, "mobile": "call me"}, ("phone_letters", "mobile")),
            ({**ANN, "mobile": f"{PHONE}x12"}, ("phone_extension", "mobile")),
            ({**ANN, "mobile": PHONE, "country": "Atlantis"}, ("country_unknown", "country")),
            ({**ANN, "email": "nobody"}, ("email_invalid", "email")),
            ({**ANN, "agent": "Ann"}, ("agent_invalid", "agent")),
            ({**ANN, "native": "maybe"}, ("native_invalid", "native")),
            ({**ANN, "campaign.x": b"\x00"}, ("campaign_invalid", "campaign")),
            ({**ANN, "priority": "high"}, ("priority_invalid", "priority")),
            ({**ANN, "generation": 0}, ("generation_invalid", "generation")),
            ({**ANN, "customer_id": 315}, ("customer_id_invalid", "customer_id")),
            ({**ANN, "timezone": "Asia/Atlantis"}, ("timezone_unknown", "timezone")),
            ({**ANN, "earliest": "2025-09-25"}, ("time_naive", "earliest")),
            ({**ANN, "latest": "tomorrow"}, ("time_invalid", "latest")),
            ({**ANN, "hours_from": "9", "hours_to": "18:00"}, ("hours_invalid", "hours_from")),
            ({**ANN, "hours_from": "09:00"}, ("hours_incomplete", "hours_to")),
            ({**ANN, "hours_to": "09:00"}, ("hours_incomplete", "hours_from")),
            ({**ANN, "campaign.x": "x" * 10_001}, ("text_too_long", "campaign.x")),
            pytest.param({**ANN, "email": "x" * 10_000_000}, ("text_too_long", "email"), id="10 MB"),
        ],
    )
    def test_reasons(self, row: Mapping[str, object], reason: tuple[str, str]) -> None:
        assert why(row) == reason

    def test_settings_for_phones(self) -> None:
        assert why(ANN, default_region=None) == ("phone_no_region", "mobile")
        row = read_good({**ANN, "mobile": f"{PHONE} ext. 9"}, drop_phone_extension=True)
        assert row.lead is not None
        assert row.lead.e164 == "+12025550123"

    def test_a_bad_row_has_as_much_identity_as_can_be_told(self) -> None:
        bad = read_bad({**ANN, "generation": "2", "mobile": "?"})
        assert (bad.lead_id, bad.generation) == ("a1", 2)
        bad = read_bad({**ANN, "generation": "x"})
        assert (bad.lead_id, bad.generation) == ("a1", None)
        bad = read_bad({**ANN, "lead_id": 1.0, "generation": 2})
        assert (bad.lead_id, bad.generation, bad.reason) == (None, None, "lead_id_type")


class TestLists:
    MAP: Mapping[str, str | Sequence[str]] = MappingProxyType(
        {
            "lead_id": "Id",
            "name": ["First", "Last"],
            "mobile": ["Phone 1", "Phone 2"],
            "email": ["E1", "E2"],
        }
    )

    def row(self, **changes: object) -> dict[str, object]:
        row: dict[str, object] = {
            "Id": 7, "First": " Ann ", "Last": "Example", "Phone 1": PHONE, "Phone 2": OTHER_PHONE,
            "E1": "ann@example.com", "E2": "a@example.org",
        }  # fmt: skip
        return {**row, **{name.replace("_", " "): value for name, value in changes.items()}}

    def lead(self, **changes: object) -> Lead:
        lead = read_good(self.row(**changes), field_map=self.MAP).lead
        assert lead is not None
        return lead

    def test_names_are_joined_without_the_empty_ones(self) -> None:
        assert self.lead().name == "Ann Example"
        assert self.lead(First=None).name == "Example"
        assert self.lead(Last=float("nan")).name == "Ann"
        assert why(self.row(First="", Last=None), field_map=self.MAP) == ("name_missing", "name")
        assert why(self.row(First=5), field_map=self.MAP) == ("name_invalid", "name")

    def test_the_first_valid_phone_counts_and_its_column_is_told(self) -> None:
        assert read_good(self.row(), field_map=self.MAP).phone_column == "Phone 1"
        for unusable in (None, "", "123", f"{PHONE}x5"):
            row = read_good(self.row(Phone_1=unusable), field_map=self.MAP)
            assert row.phone_column == "Phone 2"
            assert row.lead is not None
            assert row.lead.mobile == "2025550188"

    def test_without_a_valid_phone_the_first_that_is_there_gives_the_reason(self) -> None:
        bad = self.row(Phone_1=f"{PHONE}x5", Phone_2="123")
        assert why(bad, field_map=self.MAP) == ("phone_extension", "mobile")
        assert why(self.row(Phone_1=" ", Phone_2="123"), field_map=self.MAP) == ("phone_invalid", "mobile")
        assert why(self.row(Phone_1=" ", Phone_2=None), field_map=self.MAP) == ("phone_missing", "mobile")

    def test_another_field_is_to_blame_even_if_the_first_phone_is_bad_too(self) -> None:
        bad = self.row(Phone_1="123", E1="nobody", E2="")
        assert why(bad, field_map=self.MAP) == ("email_invalid", "email")

    def test_the_first_usable_value_of_other_fields(self) -> None:
        assert self.lead().email == "ann@example.com"
        assert self.lead(E1="unknown").email == "a@example.org"
        assert self.lead(E1=None, E2=None).email is None

    def test_wishes_from_several_columns(self) -> None:
        field_map = {**ANN_MAP, "earliest": ["from", "created"], "country": ["c1", "c2"]}
        row = {**ANN, "from": "soon", "created": "2025-09-25T10:00Z", "c1": "", "c2": "US"}
        assert read_good(row, field_map=field_map).wish.earliest == datetime(2025, 9, 25, 10, tzinfo=UTC)


class TestCustomerId:
    def test_who_is_a_customer_already_is_not_captured(self) -> None:
        row = read_good({**ANN, "mobile": "no number", "customer_id": " MzE1== "})
        assert (row.customer_id, row.lead, row.phone_column) == ("MzE1==", None, None)

    def test_an_empty_customer_id_needs_a_lead(self) -> None:
        assert read_good({**ANN, "customer_id": ""}).lead is not None
        field_map = {"lead_id": "lead_id", "customer_id": "cid", "name": "name"}
        assert why({**ANN, "cid": None}, field_map=field_map) == ("customer_id_missing", "customer_id")

    def test_scheduling_alone_needs_neither(self) -> None:
        """The ledger may know the customer from an earlier sync."""
        row = read_good({"lead_id": 5}, steps=("schedule",))
        assert (row.lead_id, row.customer_id, row.lead) == ("5", None, None)
        assert read_good({**ANN, "mobile": "?"}, steps=("schedule",)).lead is None


class TestColumns:
    def test_all_absent_columns_are_named(self) -> None:
        reader = make_reader({**ANN_MAP, "mobile": ["Phone 1", "Phone 2"], "email": "Mail"})
        reader.check_columns(["lead_id", "name", "Phone 1", "Phone 2", "Mail", "more"])
        with pytest.raises(PopinInputError, match="'Mail', 'Phone 2'") as caught:
            reader.check_columns(["lead_id", "name", "Phone 1"])
        assert caught.value.code == "column_missing"

    def test_columns_of_the_same_name(self) -> None:
        reader = make_reader()
        with pytest.raises(PopinInputError, match="'lead_id', 'mobile'") as caught:
            reader.check_columns(["name", "Lead_Id"])
        assert caught.value.code == "column_missing"
        reader.check_columns(ANN)
        row = reader.read({**ANN, "priority": 5})
        assert isinstance(row, LeadRow)
        assert row.wish.priority == 0  # not a column of the source as it was checked

    def test_the_first_row_tells_the_columns_when_nobody_else_did(self) -> None:
        with pytest.raises(PopinInputError, match="'mobile'"):
            make_reader().read({"lead_id": 1, "name": "Ann Example"})

    def test_a_row_may_lack_a_column(self) -> None:
        reader = make_reader({**ANN_MAP, "email": "email"})
        reader.check_columns([*ANN, "email"])
        assert isinstance(reader.read(ANN), LeadRow)
        lacking = reader.read({"lead_id": "a"})
        assert isinstance(lacking, BadRow)
        assert lacking.reason == "phone_missing"


class TestWish:
    def test_limits_of_row_and_operator_hold_together(self) -> None:
        row = {**ANN, "earliest": "2025-09-25T10:00+05:30", "latest": "2025-09-27T10:00+05:30"}
        limits = {"earliest": "2025-09-24T00:00Z", "latest": datetime(2025, 9, 26, tzinfo=INDIA)}
        wish = read_good(row, **limits).wish
        assert wish.earliest == datetime(2025, 9, 25, 4, 30, tzinfo=UTC)
        assert wish.latest == datetime(2025, 9, 25, 18, 30, tzinfo=UTC)
        wish = read_good(ANN, **limits).wish
        assert (wish.earliest, wish.latest) == (
            datetime(2025, 9, 24, tzinfo=UTC), datetime(2025, 9, 25, 18, 30, tzinfo=UTC),
        )  # fmt: skip

    def test_hours_of_the_row_replace_those_of_the_operator(self) -> None:
        row = {**ANN, "hours_from": "20:00", "hours_to": time(2), "timezone": "Europe/Berlin"}
        wish = read_good(row, hours=("10:00", "18:30")).wish
        assert (wish.hours_from, wish.hours_to, wish.timezone) == (time(20), time(2), "Europe/Berlin")
        wish = read_good({**ANN, "timezone": "Europe/Berlin"}, hours=(time(10), "18:30")).wish
        assert (wish.hours_from, wish.hours_to, wish.timezone) == (time(10), time(18, 30), "Europe/Berlin")

    def test_an_empty_window_is_the_rows_fault_only_if_the_row_made_it(self) -> None:
        row = {**ANN, "earliest": "2025-09-25T10:00Z"}
        for latest in ("2025-09-25T10:00Z", "2025-09-25T09:00Z"):
            assert why({**row, "latest": latest}) == ("window_empty", "latest")
        wish = read_good(row, latest="2025-09-25T10:00Z").wish
        assert not wish.window().allows(datetime(2025, 9, 25, 10, tzinfo=UTC), "UTC")

    @pytest.mark.parametrize(
        ("limits", "code"),
        [
            ({"earliest": datetime(2025, 9, 25)}, "time_naive"),  # noqa: DTZ001
            ({"latest": "2025-09-25"}, "time_naive"),
            ({"hours": ("10", "18:00")}, "hours_invalid"),
            ({"hours": ("10:00", None)}, "hours_incomplete"),
            ({"hours": "10:00"}, "hours_invalid"),
            ({"hours": ("10:00",)}, "hours_invalid"),
        ],
    )
    def test_unusable_limits_of_the_operator(self, limits: dict[str, object], code: str) -> None:
        with pytest.raises(PopinInputError) as caught:
            make_reader(ANN_MAP, **limits)
        assert caught.value.code == code


class TestIdentity:
    @pytest.mark.parametrize(
        ("value", "lead_id"),
        [
            ("  a b ", "a b"),
            ("e\u0301", "\u00e9"),
            (12, "12"),
            (-3, "-3"),
            (10**254, "1" + "0" * 254),
            (Decimal("12"), "12"),
            (Decimal("12.000"), "12"),
            (Decimal("1E+3"), "1000"),
            (Decimal("-0"), "0"),
            (UUID("0A1B2C3D-0000-4000-8000-00000000ABCD"), "0a1b2c3d-0000-4000-8000-00000000abcd"),
            ("0A1B", "0A1B"),
            ("x" * 255, "x" * 255),
            ("e\u0301" * 255, "\u00e9" * 255),
        ],
    )
    def test_usable(self, value: object, lead_id: str) -> None:
        assert read_good({**ANN, "lead_id": value}).lead_id == lead_id

    @pytest.mark.parametrize(
        ("value", "code"),
        [
            (None, "lead_id_missing"),
            ("", "lead_id_missing"),
            (" \t", "lead_id_missing"),
            (float("nan"), "lead_id_missing"),
            (True, "lead_id_type"),
            (12.0, "lead_id_type"),
            (Decimal("12.5"), "lead_id_type"),
            (Decimal("Infinity"), "lead_id_type"),
            (b"12", "lead_id_type"),
            ({"id": 1}, "lead_id_type"),
            (date(2025, 9, 25), "lead_id_type"),
            ("x" * 256, "lead_id_too_long"),
            pytest.param("x" * 10_000_000, "lead_id_too_long", id="10 MB"),
            (10**255, "lead_id_too_long"),
            pytest.param(10**5000, "lead_id_too_long", id="huge"),
            (Decimal("1E+1000000"), "lead_id_too_long"),
            ("a\x00b", "lead_id_characters"),
            ("a\nb", "lead_id_characters"),
            ("a\ud800", "lead_id_characters"),
        ],
    )
    def test_unusable(self, value: object, code: str) -> None:
        bad = read_bad({**ANN, "lead_id": value})
        assert (bad.lead_id, bad.reason, bad.field) == (None, code, "lead_id")

    @given(st.text(min_size=1))
    def test_an_identity_is_its_own_identity(self, text: str) -> None:
        result = read({**ANN, "lead_id": text})
        if isinstance(result, LeadRow):
            assert unicodedata.is_normalized("NFC", result.lead_id)
            assert read_good({**ANN, "lead_id": result.lead_id}).lead_id == result.lead_id
