from __future__ import annotations

from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client.windows import SlotWindow
from airflow_provider_popin.sync.source.booking_wish import BookingWish

TEN = datetime(2025, 9, 25, 10, tzinfo=UTC)
INSTANTS = st.none() | st.datetimes(timezones=st.just(UTC))


@st.composite
def wishes(draw: st.DrawFn) -> BookingWish:
    hours_from, hours_to = draw(st.just((None, None)) | st.tuples(st.times(), st.times()))
    return BookingWish(
        earliest=draw(INSTANTS),
        latest=draw(INSTANTS),
        hours_from=hours_from,
        hours_to=hours_to,
        timezone=draw(st.none() | st.sampled_from(("Asia/Kolkata", "UTC"))),
        priority=draw(st.integers(-(2**63) + 1, 2**63 - 1)),
        agent=draw(st.none() | st.integers(1, 999)),
        native=draw(st.none() | st.booleans()),
    )


@given(wishes())
def test_round_trip(wish: BookingWish) -> None:
    assert BookingWish.from_json(wish.to_json()) == wish


def test_json_is_compact() -> None:
    assert BookingWish().to_json() == "{}"
    wish = BookingWish(earliest=TEN, hours_from=time(9), hours_to=time(18), priority=2, native=False)
    assert wish.to_json() == (
        '{"earliest":"2025-09-25T10:00:00+00:00","hours_from":"09:00:00","hours_to":"18:00:00",'
        '"native":false,"priority":2}'
    )


def test_equal_wishes_share_their_window() -> None:
    one = BookingWish(earliest=TEN, agent=1)
    other = BookingWish.from_json(BookingWish(earliest=TEN, agent=2).to_json())
    assert one.window() is other.window()
    assert BookingWish.from_json("{}") is BookingWish.from_json("{}")


def test_window() -> None:
    wish = BookingWish(earliest=TEN, hours_from=time(9), hours_to=time(18), timezone="Asia/Kolkata")
    assert wish.window() == SlotWindow(earliest=TEN, hours=(time(9), time(18)), timezone="Asia/Kolkata")
    # Without hours the timezone says nothing, and must not keep windows from being shared.
    assert BookingWish(latest=TEN, timezone="Asia/Kolkata").window() == SlotWindow(latest=TEN)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", '{"earliest":5}', '{"earliest":"2025-09-25T10:00:00"}', '{"hours_from":"9 am"}',
        '{"later":1}', '{"priority":"high"}', '{"agent":"x"}',
        '{"hours_from":"09:00","hours_to":"18:00","timezone":"Nowhere"}',
    ],
)  # fmt: skip
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        BookingWish.from_json(text)
