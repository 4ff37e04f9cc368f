"""Rows of whatever a source may hand over, and their fingerprints."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_popin.sync.source.booking_wish import BookingWish
from airflow_provider_popin.sync.source.field_map import TARGETS
from airflow_provider_popin.sync.source.rows import BadRow, LeadRow
from tests.sync.reading import (
    ANN,
    ANN_MAP,
    OTHER_PHONE,
    PHONE,
    make_reader,
    read,
    read_good,
    why,
)


class TextOfItsOwn(str):
    """What drivers and data frames derive from text."""


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**20, 10**5000, -(10**50)]),
    st.floats(),
    st.decimals() | st.just(Decimal("1E+1000000")) | st.just(Decimal("sNaN")),
    st.text(st.characters(codec=None)),  # lone surrogates and NUL too
    st.sampled_from(["\ud800", "a\x00b", "12", "12.0", " 7 ", "2025-09-25T10:00Z", "09:00", "US", PHONE]),
    st.binary(max_size=5),
    st.datetimes(timezones=st.none() | st.timezones()),
    st.dates(),
    st.times(timezones=st.none() | st.timezones()),
    st.timedeltas(),
    st.uuids(),
    st.recursive(st.none() | st.floats(), lambda inner: st.lists(inner, max_size=2), max_leaves=4),
    st.dictionaries(st.text(max_size=3) | st.integers(), st.integers(), max_size=2),
    st.just(object()),
)
COLUMNS = (*TARGETS, "campaign.x")


@st.composite
def junk_rows(draw: st.DrawFn) -> dict[str, object]:
    columns = draw(st.sets(st.sampled_from(COLUMNS), max_size=5))
    return {**ANN, **{column: draw(JUNK) for column in columns}}


class TestAnyCell:
    @settings(max_examples=500, deadline=None)
    @given(junk_rows())
    def test_no_row_raises_and_every_reason_has_a_field(self, row: dict[str, object]) -> None:
        result = read(row)
        assert len(result.fingerprint) == 64
        if isinstance(result, BadRow):
            assert result.reason.isidentifier()
            assert result.field in (*COLUMNS, "campaign")
        else:
            assert BookingWish.from_json(result.wish.to_json()) == result.wish

    @settings(max_examples=500, deadline=None)
    @given(junk_rows(), JUNK, st.sampled_from(COLUMNS))
    def test_equal_fingerprints_mean_equal_fates(
        self, row: dict[str, object], value: object, column: str
    ) -> None:
        reader = make_reader({column: column for column in COLUMNS})
        one, other = reader.read(row), reader.read({**row, column: value})
        if one.fingerprint == other.fingerprint:
            assert outcome(one) == outcome(other)

    def test_pandas_cells(self) -> None:
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(
            {
                "lead_id": [1, 2],
                "name": ["Ann Example", "Bo Example"],
                "mobile": [2025550123, float("nan")],
                "agent": pandas.array([7, None], dtype="Int64"),
                "native": [True, False],
                "earliest": pandas.to_datetime(["2025-09-25T10:00:00.000000001+05:30", None]),
                "email": [pandas.NA, None],
            }
        )
        row = read_good(dict(frame.iloc[0]))
        assert (row.lead_id, row.wish.agent, row.wish.native) == ("1", 7, True)
        assert row.wish.earliest == datetime(2025, 9, 25, 4, 30, tzinfo=UTC)
        assert type(row.wish.earliest) is datetime
        assert why(dict(frame.iloc[1])) == ("phone_missing", "mobile")
        numpy = pytest.importorskip("numpy")
        assert read_good({**ANN, "native": numpy.bool_(False)}).wish.native is False
        assert why({**ANN, "earliest": numpy.datetime64("2025-09-25T10:00")}) == ("time_naive", "earliest")
        assert why({**ANN, "agent": numpy.array([1, 2])}) == ("agent_invalid", "agent")


def outcome(result: LeadRow | BadRow) -> tuple[object, ...]:
    if isinstance(result, LeadRow):
        return (result.lead_id, result.generation)
    return (result.lead_id, result.generation, result.reason, result.field)


class TestFingerprint:
    def fingerprint(self, row: Mapping[str, object], **settings: Any) -> str:
        return read({**ANN, **row}, **settings).fingerprint

    def test_it_follows_the_mapped_values_and_the_settings(self) -> None:
        base = self.fingerprint({})
        assert self.fingerprint({}) == base
        assert self.fingerprint({"unmapped": 1}) == base
        others = [
            self.fingerprint({"mobile": OTHER_PHONE}),
            self.fingerprint({"name": "Ann  Example"}),
            self.fingerprint({"email": "ann@example.com"}),
            self.fingerprint({"generation": 1}),
            self.fingerprint({}, default_region="CA"),
            self.fingerprint({}, drop_phone_extension=True),
            self.fingerprint({}, fingerprint_key=b"another"),
        ]
        assert len({base, *others}) == len(others) + 1

    def test_values_cannot_pass_for_their_neighbours(self) -> None:
        field_map = {**ANN_MAP, "name": ["First", "Last"]}
        one = self.fingerprint({"First": "a", "Last": None}, field_map=field_map)
        assert one != self.fingerprint({"First": None, "Last": "a"}, field_map=field_map)

    def test_one_identity_one_fingerprint(self) -> None:
        same = {
            self.fingerprint({"lead_id": value}) for value in (12, "12", " 12 ", Decimal(12), Decimal("12.0"))
        }
        assert len(same) == 1
        assert self.fingerprint({"lead_id": "e\u0301"}) == self.fingerprint({"lead_id": "\u00e9"})

    def test_numbers_change_their_type_between_chunks_of_a_data_frame(self) -> None:
        assert self.fingerprint({"agent": 7}) == self.fingerprint({"agent": 7.0})
        assert self.fingerprint({"name": TextOfItsOwn("Ann Example")}) == self.fingerprint({})
        assert self.fingerprint({"agent": None}) == self.fingerprint({"agent": float("nan")})
        assert self.fingerprint({"native": True}) != self.fingerprint({"native": 1})
        assert self.fingerprint({"name": 5}) != self.fingerprint({"name": "5"})  # a name must be text

    def test_the_order_of_the_map_does_not_matter(self) -> None:
        backwards = dict(reversed(ANN_MAP.items()))
        assert self.fingerprint({}, field_map=backwards) == self.fingerprint({}, field_map=ANN_MAP)

    def test_it_is_the_same_in_another_process(self) -> None:
        row = {**ANN, "campaign.x": {"b": [1, "\ud800"]}, "earliest": "?"}
        script = (
            "import json, sys; from airflow_provider_popin.sync.source.rows import RowReader;"
            "print(RowReader(field_map=None, steps=('capture',), default_region='US',"
            "drop_phone_extension=False, fingerprint_key=b'a secret')"
            ".read(json.loads(sys.argv[1])).fingerprint)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps(row)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == self.fingerprint(row, steps=("capture",))
