"""What the pages say: numbers, lists, histories, and nothing personal."""

from __future__ import annotations

import html
import json
import re
import time
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from airflow_provider_popin.plugins.page import formats, lists, overview, telling
from airflow_provider_popin.webhooks import queries
from airflow_provider_popin.webhooks.figures import FunnelDay, SlotUse
from airflow_provider_popin.webhooks.queries import lead_history
from airflow_provider_popin.webhooks.views import EventView, LeadView, Note
from scripts.update_chart_library import RECORD, TARGET, sha256
from tests.plugins import deliveries
from tests.plugins.page_ledger import add_sources
from tests.plugins.page_site import DOUBT, Site, deliver, hidden_in, numbers_in
from tests.plugins.test_page_browser import ALL_PAGES
from tests.privacy import assert_no_personal_data
from tests.sync.ledgers import SOURCE, lead_in
from tests.webhooks.deliveries import body, change, told

DAY = FunnelDay(
    day=date(2026, 11, 2), source="crm", read=10, captured=9, booked=7, happened=3, missed=1, in_doubt=1,
    rejected=1, waiting=1,
)  # fmt: skip


def test_no_page_holds_anything_personal(site: Site) -> None:
    people = [deliveries.NAME, deliveries.PHONE, deliveries.EMAIL]
    with site.session() as ada:
        for path in ALL_PAGES:
            text = ada.get(site.url + path).text
            assert_no_personal_data(text, people)
            # A link to somebody's call is no business of whoever looks.
            assert "live.example.com" not in text
        event = ada.get(site.url + "dismiss?event=1").text
    assert "popin_call_missed" in event
    assert "***" in event


def test_everything_is_escaped(site: Site) -> None:
    evil = "<script>alert(1)</script>&\"'"
    lead_in(site.ledger, "in_doubt", evil, seat=77)
    with site.session() as ada:
        for path in ("", "doubts"):
            text = ada.get(site.url + path).text
            assert "<script>alert" not in text
            assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
        found = ada.get(site.url + "lead", params={"lead_id": evil, "source": SOURCE})
        shown = ada.get(site.url + "resolve", params={"lead_id": evil, "source": SOURCE, "generation": "1"})
        assert found.status_code == shown.status_code == 200
        assert "<script>alert" not in found.text + shown.text


def test_an_id_turns_no_question_around(site: Site) -> None:
    # Right to left from here on: unless it ends with the id, what follows is read backwards.
    override = "L-\N{RIGHT-TO-LEFT OVERRIDE}7"
    lead_in(site.ledger, "in_doubt", override, seat=77)
    with site.session() as ada:
        address = {"lead_id": override, "source": SOURCE, "generation": "1"}
        shown = ada.get(site.url + "resolve", params=address)
        assert f"Is the call of lead <bdi>{override}</bdi> booked?" in shown.text
        fields = hidden_in(shown.text) | {"outcome": "not-booked", "why": "not in the calendar"}
        asked = ada.post(site.url + "resolve", params=address, data=fields)
        assert f"Record lead <bdi>{override}</bdi> as not booked?" in asked.text
        assert f"<bdi>{override}</bdi>" in ada.get(site.url + "doubts").text


def test_one_is_one(site: Site) -> None:
    with site.session() as ada:
        text = ada.get(site.url).text
    assert "<strong>2</strong> were rejected" in text
    assert "<strong>2</strong> wait for a slot" in text
    assert "<strong>1</strong> is in doubt" in text


def test_lists_are_cut_and_continued(site: Site) -> None:
    for number in range(30):
        lead_in(site.ledger, "in_doubt", f"more-{number}", seat=100 + number)
    with site.session() as ada:
        first = ada.get(site.url + "doubts").text
        assert first.count("</tr>") == 1 + 25
        assert "limit=125" in first
        assert ada.get(site.url + "doubts?limit=125").text.count("</tr>") == 1 + 31
        assert ada.get(site.url + "doubts?limit=0").status_code == 422
        assert "All 31" in ada.get(site.url).text
        assert "No booking is in doubt" in ada.get(site.url + "doubts?source=web_form").text
        assert "sync_leads" in ada.get(site.url + "runs?limit=1").text
        assert "Every event" not in ada.get(site.url + "unmatched").text
        assert "Every event" in ada.get(site.url + "unmatched?before=1").text


def test_an_unmatched_event_names_its_customer(site: Site) -> None:
    [(customer_id,)] = site.rows("SELECT customer_id FROM popin_events WHERE status = 'unmatched'")
    with site.session() as ada:
        for path in ("", "unmatched", "dismiss?event=1"):
            assert f"<code>{customer_id}</code>" in ada.get(site.url + path).text


def test_no_list_goes_on_beyond_its_limit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "_MOST", 1)
    lead_in(site.ledger, "in_doubt", "another", seat=100)
    with site.session() as ada:
        assert "Show more" not in ada.get(site.url + "doubts?limit=1").text


def test_older_events_are_on_the_next_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "STEP", 1)
    with site.session() as ada:
        assert "Older events" not in ada.get(site.url + "unmatched").text
        deliver(site.ledger, 1)
        first = ada.get(site.url + "unmatched").text
        link = re.search(r'href="([^"]+)">Older events', first)
        assert link is not None
        second = ada.get(site.airflow + html.unescape(link[1])).text
    assert [re.findall(r"dismiss\?event=(\d)", page) for page in (first, second)] == [["2"], ["1"]]
    assert "Older events" not in second


def test_an_event_of_a_stranger_can_be_dismissed(site: Site) -> None:
    with site.ledger.write() as connection:
        connection.execute(sa.text("UPDATE popin_events SET reason = 'unknown_customer'"))
    with site.session() as ada:
        assert "no lead has this customer" in ada.get(site.url + "dismiss?event=1").text


def test_days_are_those_of_airflows_timezone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", "Asia/Kolkata")
    # Half past midnight of 15 Nov 2023; the first of seven days began at midnight of the 9th.
    now, began = 1_699_988_400, 1_699_988_400 - 6 * 86_400 - 1800
    monkeypatch.setattr(overview, "time", SimpleNamespace(time=lambda: now))
    with site.ledger.write() as connection:
        for created, where in (
            (began - 1, "TRUE"),
            (began, "lead_id = 'L-open'"),
            (now, "lead_id = 'L-alarm'"),
        ):
            connection.execute(sa.text(f"UPDATE popin_leads SET created_at = {created} WHERE {where}"))
    with site.session() as ada:
        rows = numbers_in(ada.get(site.url + "?days=7").text, "by-day")
    assert sorted([rows[0]["Read"], rows[-1]["Read"]]) == [1, 1]
    assert sum(row["Read"] for row in rows) == 2


def test_slots_are_those_of_the_account_from_a_week_ago_on(site: Site) -> None:
    with site.session() as ada:
        before = numbers_in(ada.get(site.url).text, "slot-days")
        for lead_id, days, account in (
            ("L-waiting", 6, "shop"),
            ("L-bad-phone", 5, "shop"),
            ("L-unassigned", 8, "shop"),
            ("L-rejected", 6, "popin_default"),
        ):
            with site.ledger.write() as connection:
                connection.execute(
                    sa.text(
                        "INSERT INTO popin_seats (account, slot_start, number, lead) "
                        "SELECT :account, :start, 7, id FROM popin_leads WHERE lead_id = :lead_id"
                    ),
                    {"account": account, "start": int(time.time()) - days * 86_400, "lead_id": lead_id},
                )
        after = numbers_in(ada.get(site.url).text, "slot-days")
    assert len(after) == len(before) + 2


def test_a_source_has_its_own_rejections_and_runs(site: Site) -> None:
    with site.ledger.write() as connection:
        connection.execute(sa.text("UPDATE popin_leads SET source = 'web_form' WHERE lead_id = 'L-happened'"))
    with site.session() as ada:
        every, other = (ada.get(site.url + query).text for query in ("", "?source=web_form"))
    for told_of in ("phone no region", "sync_leads"):
        assert (told_of in every, told_of in other) == (True, False)


def test_period_and_source(site: Site) -> None:
    with site.session() as ada:
        for days in (7, 30, 90):
            assert len(numbers_in(ada.get(site.url + f"?days={days}").text, "by-day")) == days
        assert len(numbers_in(ada.get(site.url + "?days=1000").text, "by-day")) == 30
        other = ada.get(site.url + "?source=web_form").text
        assert "No lead was read for the first time" in other or "The ledger has no lead yet" in other
        assert numbers_in(ada.get(site.url + "?source=nonsense").text, "by-source")[0]["Read"] == 9
        assert "Recorded as booked" in ada.get(site.url + "?done=booked").text
        assert "<script" not in ada.get(site.url + "?done=<script>").text.partition("<main")[2]


def test_a_source_is_chosen_by_its_exact_name(site: Site) -> None:
    """Of the text of an option, browsers make one space of several, and no source has that name."""
    with site.ledger.write() as connection:
        add_sources(connection, "web  form")
    with site.session() as ada:
        for path in ("", "lead"):
            assert '<option value="web  form">' in ada.get(site.url + path).text


def test_one_lead(site: Site) -> None:
    with site.session() as ada:
        found = ada.get(site.url + f"lead?lead_id=%20{DOUBT}%20&source=").text
        assert f"Lead {DOUBT}" in found
        assert "The booking is in doubt" in found
        alarm = ada.get(site.url + "lead?lead_id=L-alarm").text
        assert "Popin told: missed" in alarm
        assert ">Clear the alarm</a>" in alarm
        assert "The ledger knows no lead <bdi>X</bdi>" in ada.get(site.url + "lead?lead_id=X").text
        # Of a source that the ledger does not know: an old link.
        assert ada.get(site.url + "lead?lead_id=L-alarm&source=gone").status_code == 200
        assert ada.get(site.url + "lead?lead_id=L-alarm&source=web_form").status_code == 404


def test_a_lead_is_found_however_its_id_is_spelled(site: Site) -> None:
    lead_in(site.ledger, "in_doubt", "Zo\u00eb 1", seat=77)
    with site.session() as ada:
        for spelled in ("Zo\u00eb 1", "Zoe\u0308 1", " Zoe\u0308 1\u00a0"):
            found = ada.get(site.url + "lead", params={"lead_id": spelled, "source": SOURCE})
            assert (found.status_code, "Lead <bdi>Zo\u00eb 1</bdi>" in found.text) == (200, True)
        for unusable in ("L\n1", "L" * 256):
            missing = ada.get(site.url + "lead", params={"lead_id": unusable})
            assert (missing.status_code, "The ledger knows no lead" in missing.text) == (404, True)
        empty = ada.get(site.url + "lead", params={"lead_id": " "})
        assert (empty.status_code, "The ledger knows no lead" in empty.text) == (200, False)


def test_events_of_a_doubt_are_counted_beyond_those_that_are_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_EVENTS", 5)
    change(site.ledger, lead_in(site.ledger, "in_doubt", "L-many", seat=77), customer_id="OTk5OQ==")
    told(site.ledger, *(body("popin_call_rated", 9999, rating=number) for number in range(7)))
    with site.session() as ada:
        assert "and 4 earlier" in ada.get(site.url + "doubts").text


def test_days_without_leads_are_zeros() -> None:
    days = overview.by_day([DAY, replace(DAY, source="web")], date(2026, 11, 1), 3)
    assert [(day.day, counts.read) for day, counts in days] == [(1, 0), (2, 20), (3, 0)]
    assert days[1][1].open == 6


def test_sources_by_size() -> None:
    rows = [DAY, replace(DAY, source="web", read=11), replace(DAY, day=date(2026, 11, 3), read=3)]
    assert [(name, sums.read) for name, sums in overview.by_source(rows)] == [("crm", 13), ("web", 11)]


def test_slots_by_the_sellers_day() -> None:
    late = 1_900_000_800  # 17 Mar 2030, 18:00 UTC; 23:30 in Kolkata
    seats = [
        SlotUse(slot_start=late, timezone="Asia/Kolkata", booked=2, in_doubt=1, planned=0),
        SlotUse(slot_start=late + 3600, timezone="Asia/Kolkata", booked=0, in_doubt=0, planned=1),
        SlotUse(slot_start=late + 7200, timezone=None, booked=1, in_doubt=0, planned=0),
        # The timezone database here may be older than where it was booked.
        SlotUse(slot_start=late + 9000, timezone="Nowhere/Yet", booked=1, in_doubt=0, planned=0),
    ]
    days = overview.slot_days(seats)
    assert [(day.day.day, day.slots, day.booked, day.fullest) for day in days] == [
        (17, 1, 2, 3),
        (18, 1, 0, 1),
        (17, 2, 2, 1),
    ]


def lead(**fields: object) -> LeadView:
    values: dict[str, object] = dict.fromkeys(LeadView.__slots__)
    return LeadView(**(values | {"updated_at": 50.0, "notes": (), "events": ()} | fields))  # type: ignore[arg-type]


def test_doubts_and_alarms_in_words(site: Site) -> None:
    notes = [
        Note(at=1.0, attempt=1, kind="in_doubt", who=None, why="read_timeout"),
        Note(at=2.0, attempt=1, kind="double_booking_alarm", who="webhook", why="late_success"),
        Note(at=3.0, attempt=2, kind="something_new", who="ann", why=None),
    ]
    told = lead(notes=notes)
    assert telling.doubted_at(told) == 1.0
    assert telling.doubted_at(lead()) == 50.0
    assert telling.alarm_note(told) == "an attempt that was given up succeeded after all"
    assert telling.alarm_note(lead(notes=[replace(notes[1], why="Wed, 25 Nov 2026 03:15 PM")])) == (
        "a webhook tells of a call at Wed, 25 Nov 2026 03:15 PM"
    )
    assert telling.alarm_note(lead(notes=[replace(notes[1], why=None)])) == (
        "a call that the ledger did not make"
    )
    assert telling.alarm_note(lead(notes=notes[:1])) == ""
    assert [line.what for line in telling.story(told)] == [
        "The booking is in doubt",
        "Alarm: there may be a second call",
        "something new",
    ]
    again = [
        *notes,
        replace(notes[0], at=4.0),
        replace(notes[1], at=5.0, who="a run", why="Wed, 25 Nov 2026"),
    ]
    assert telling.doubted_at(lead(notes=again)) == 4.0
    assert telling.alarm_note(lead(notes=again)) == (
        "an attempt that was given up made a call at Wed, 25 Nov 2026"
    )
    values: dict[str, object] = dict.fromkeys(EventView.__slots__)
    values |= {"kind": "missed", "received_at": 9.0, "occurred_at": 1.5, "payload": {}}
    event = EventView(**values)  # type: ignore[arg-type]
    events = [replace(event, occurred_at=None), event]
    assert [line.at for line in telling.story(lead(notes=notes, events=events))] == [1.0, 1.5, 2.0, 3.0, 9.0]
    [found] = lead_history(site.ledger, SOURCE, "L-alarm")
    assert telling.story(found)[-1].payload is not None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.number(1_234_567), "1,234,567"),
        (formats.number(None), "\N{EN DASH}"),
        (formats.percent(1, 3), "33 %"),
        (formats.percent(1, 1000), "< 1 %"),
        (formats.percent(999, 1000), "> 99 %"),
        (formats.percent(0, 5), "0 %"),
        (formats.percent(5, 5), "100 %"),
        (formats.percent(5, 0), "\N{EN DASH}"),
        (formats.instant(1_900_000_800), "17 Mar 2030, 18:00 UTC"),
        (formats.instant(None), "\N{EN DASH}"),
        (formats.iso(1_900_000_800.7), "2030-03-17T18:00:00+00:00"),
        (formats.ago(100, 130), "just now"),
        (formats.ago(0, 300), "5 min ago"),
        (formats.ago(0, 7200), "2 h ago"),
        (formats.ago(0, 90_000), "25 h ago"),
        (formats.ago(0, 86_400 * 3), "3 days ago"),
        (formats.ago(None, 1), "\N{EN DASH}"),
        (formats.duration(4.23), "4.2 s"),
        (formats.duration(200), "3 min 20 s"),
        (formats.duration(119.6), "2 min 0 s"),
        (formats.duration(7500), "2 h 5 min"),
        (formats.duration(None), "\N{EN DASH}"),
        (formats.words("phone_no_region"), "phone no region"),
        (formats.words(None), "\N{EN DASH}"),
        (formats.query(limit=0, source="", before=None, q="a&b"), "?limit=0&q=a%26b"),
        (formats.day(date(2026, 11, 23)), "Mon 23 Nov 2026"),
        (formats.short_day(date(2026, 11, 23)), "23 Nov"),
        (telling.local("2026-11-25T15:15:00"), "Wed 25 Nov 2026, 15:15"),
        (telling.local(None), "\N{EN DASH}"),
        (telling.zone("2026-11-25T15:15:00+05:30"), "UTC+05:30"),
        (telling.zone(None), ""),
        (
            telling.reason("webhook_contradicts_refusal: taken"),
            "Popin refused the booking, and a webhook told of it: taken",
        ),
        (telling.reason("read_timeout"), "read timeout"),
        (telling.reason("http_503"), "HTTP 503"),
        (telling.reason(None), "\N{EN DASH}"),
    ],
)
def test_how_things_are_written(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("configured", "shown"), [("Europe/Berlin", "Europe/Berlin"), ("system", "UTC"), ("No/Where", "UTC")]
)
def test_the_timezone_of_airflow(monkeypatch: pytest.MonkeyPatch, configured: str, shown: str) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__DEFAULT_TIMEZONE", configured)
    assert formats.display_timezone() == shown


def test_the_chart_library_is_what_npm_has() -> None:
    record = json.loads((TARGET / RECORD).read_text())
    assert record["licence"] == "MIT"
    assert record["sha256"] == {name: sha256(TARGET / name) for name in record["sha256"]}
    assert f"v{record['version']}" in (TARGET / "chart.js").read_text()[:200]
