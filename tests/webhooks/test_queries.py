"""What the page, Dags and the command line are told."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from airflow_provider_popin.sync.admin import NoSuchLeadError
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks import queries
from airflow_provider_popin.webhooks.admin import NoSuchEventError, clear_alarm, dismiss_event
from tests.privacy import assert_no_personal_data
from tests.sync.ledgers import add_lead, lead_in, record
from tests.webhooks.deliveries import (
    CONN,
    PERSON,
    SLOT,
    SOURCE,
    body,
    change,
    customer_lead,
    deliver,
    let_pass,
    notes,
    scheduled,
    told,
)

HOUR = 3600


def stranger_event(ledger: Ledger, user_id: int = 999) -> int:
    (event,) = deliver(ledger, body("popin_call_missed", user_id))
    for seconds in (0, 20, 300):
        let_pass(ledger, seconds)
        queries_process(ledger)
    return event


def queries_process(ledger: Ledger) -> None:
    from airflow_provider_popin.webhooks.processing import process_waiting

    process_waiting(ledger)


class TestDoubtsAndAlarms:
    def test_a_doubt_with_its_history_and_the_evidence_at_hand(self, ledger: Ledger) -> None:
        customer_lead(ledger, "in_doubt")
        lead_in(ledger, "in_doubt", "L2", seat=2)
        lead_in(ledger, "booked", "L3", seat=3)
        told(ledger, body("popin_user_captured"), body("popin_call_missed", timestamp=SLOT + HOUR))
        first, second = queries.in_doubt(ledger)
        assert [lead.lead_id for lead in (first, second)] == ["L1", "L2"]
        assert (first.booking, first.reason, first.call_time) == (
            "in_doubt",
            "so",
            "2030-03-17T23:30:00+05:30",
        )
        assert [note.kind for note in first.notes] == ["in_doubt"]
        assert [(event.kind, event.status, event.reason) for event in first.events] == [
            ("captured", "matched", "noted"),
            ("missed", "unmatched", "booking_in_doubt"),
        ]
        assert (first.events[0].source, first.events[0].lead_id, first.events[0].generation) == (
            SOURCE,
            "L1",
            1,
        )
        assert second.events == []
        assert_no_personal_data(json.dumps([asdict(first)]), PERSON.values())
        assert "MzE1" not in repr(first)
        assert queries.in_doubt(ledger, source="other") == []
        assert len(queries.in_doubt(ledger, limit=1)) == 1

    def test_no_more_events_than_somebody_can_read(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queries, "MAX_EVENTS", 3)
        customer_lead(ledger, "in_doubt")
        told(ledger, *(body("popin_call_rated", rating=number) for number in range(5)))
        (lead,) = queries.in_doubt(ledger)
        properties = [event.payload["properties"] for event in lead.events]
        assert [one["rating"] for one in properties if isinstance(one, dict)] == [2, 3, 4]
        assert lead.earlier_events == 2

    def test_alarms_and_how_they_are_cleared(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "booked")
        told(ledger, scheduled(SLOT + HOUR))
        (lead,) = queries.alarms(ledger)
        assert (lead.lead_id, lead.booking, lead.alarm) == ("L1", "booked", True)
        assert [note.kind for note in lead.notes] == ["double_booking_alarm"]
        cleared = clear_alarm(
            ledger, SOURCE, "L1", None, "ann", f"called {PERSON['name']}, one call cancelled"
        )
        assert not cleared.alarm
        assert cleared.notes[-1].who == "ann"
        assert cleared.notes[-1].why == "called ***, one call cancelled"
        assert queries.alarms(ledger) == []
        assert notes(ledger, key)[-1] == ("alarm_cleared", "ann")
        with pytest.raises(NoSuchLeadError, match="no alarm"):
            clear_alarm(ledger, SOURCE, "L1", None, "ann", "again")

    def test_only_the_alarm_that_was_seen_is_cleared(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "booked")
        told(ledger, scheduled(SLOT + HOUR))
        (lead,) = queries.alarms(ledger)
        assert lead.version == record(ledger, key).version
        told(ledger, scheduled(SLOT + 2 * HOUR))
        with pytest.raises(NoSuchLeadError, match="has changed since it was shown"):
            clear_alarm(ledger, SOURCE, "L1", 1, "ann", "because", seen=lead.version)
        assert record(ledger, key).alarm
        (lead,) = queries.alarms(ledger)
        assert not clear_alarm(ledger, SOURCE, "L1", 1, "ann", "because", seen=lead.version).alarm

    def test_of_a_doubt_the_alarm_is_not_cleared(self, ledger: Ledger) -> None:
        customer_lead(ledger, "captured")
        told(ledger, scheduled(SLOT))
        with pytest.raises(NoSuchLeadError, match="in-doubt resolve"):
            clear_alarm(ledger, SOURCE, "L1", 1, "ann", "because")
        assert queries.alarms(ledger)[0].alarm

    def test_of_several_alarms_the_generation_must_be_named(self, ledger: Ledger) -> None:
        keys = [lead_in(ledger, "booked"), add_lead(ledger, generation=2)]
        for key in keys:
            change(ledger, key, alarm=True)
        with pytest.raises(NoSuchLeadError, match="2 alarms"):
            clear_alarm(ledger, SOURCE, "L1", None, "ann", "because")
        assert clear_alarm(ledger, SOURCE, "L1", 2, "ann", "because").generation == 2
        assert record(ledger, keys[0]).alarm


class TestUnmatched:
    def test_those_of_our_customers_and_those_of_strangers(self, ledger: Ledger) -> None:
        customer_lead(ledger, "booked")
        stranger = stranger_event(ledger)
        first, second = deliver(
            ledger, body("popin_call_missed"), body("popin_scheduled_created", scheduled_date="27-Feb-2026")
        )
        queries_process(ledger)
        assert [event.id for event in queries.unmatched(ledger)] == [second, first]
        assert [event.id for event in queries.unmatched(ledger, limit=1, before=second)] == [first]
        assert [event.id for event in queries.unmatched(ledger, strangers=True)] == [stranger]
        event = queries.unmatched(ledger)[1]
        assert (event.conn_id, event.kind, event.reason) == (CONN, "missed", "no_booking")
        assert (event.source, event.lead_id, event.generation) == (None, None, None)
        assert event.payload["event"] == "popin_call_missed"

    def test_dismissing_takes_it_off_the_list_and_keeps_it(self, ledger: Ledger) -> None:
        customer_lead(ledger, "booked")
        (event,) = deliver(ledger, body("popin_call_missed"))
        queries_process(ledger)
        told_event = dismiss_event(ledger, event, "ann", f"call of {PERSON['mobile']} was another")
        assert (told_event.status, told_event.closed_by) == ("dismissed", "ann")
        assert told_event.closed_why == "call of *** was another"
        assert told_event.closed_at is not None
        assert queries.unmatched(ledger) == []
        assert [one.status for one in queries.lead_history(ledger, SOURCE, "L1")[0].events] == ["dismissed"]
        for wrong in (event, event + 100):
            with pytest.raises(NoSuchEventError, match=str(wrong)):
                dismiss_event(ledger, wrong, "ann", "again")


def test_how_much_needs_a_person(ledger: Ledger) -> None:
    assert asdict(queries.attention(ledger)) == dict.fromkeys(asdict(queries.attention(ledger)), 0)
    customer_lead(ledger, "booked")
    lead_in(ledger, "in_doubt", "L2", seat=2)
    stranger_event(ledger)
    told(ledger, body("popin_call_missed"), scheduled(SLOT + HOUR))
    deliver(ledger, body("popin_user_captured"))
    assert asdict(queries.attention(ledger)) == {
        "in_doubt": 1,
        "alarms": 1,
        "unmatched": 1,
        "unmatched_strangers": 1,
        "events_waiting": 1,
        "asset_events_waiting": 1,
    }


class TestHistory:
    def test_of_every_generation(self, ledger: Ledger) -> None:
        customer_lead(ledger, "booked")
        add_lead(ledger, generation=2)
        told(ledger, scheduled(SLOT), body("popin_call_missed", timestamp=SLOT + HOUR))
        first, second = queries.lead_history(ledger, SOURCE, "L1")
        assert (first.generation, second.generation) == (1, 2)
        assert (first.outcome, first.outcome_at, second.outcome) == ("missed", SLOT + HOUR, None)
        assert [event.reason for event in first.events] == ["confirmed", "outcome"]
        assert first.confirmed_at is not None
        assert first.created_at <= second.created_at
        assert queries.lead_history(ledger, SOURCE, "nobody") == []
        assert queries.lead_history(ledger, "other", "L1") == []


class TestOutcomes:
    def test_in_the_order_in_which_they_were_told(self, ledger: Ledger) -> None:
        customer_lead(ledger, "booked")
        other = lead_in(ledger, "booked", "L2", seat=2)
        change(ledger, other, customer_id="MzE2")
        told(ledger, body("popin_call_missed", 316, timestamp=SLOT + HOUR))
        told(ledger, body("popin_call_abandoned", 315, timestamp=SLOT + 60))
        first, second = queries.outcomes(ledger, source=SOURCE)
        assert [(one.lead_id, one.outcome) for one in (first, second)] == [
            ("L2", "missed"),
            ("L1", "abandoned"),
        ]
        assert (first.call_time, first.outcome_at) == ("2030-03-17T23:30:00+05:30", SLOT + HOUR)
        assert queries.outcomes(ledger, source=SOURCE, told_after=first.told_at) == [second]
        assert queries.outcomes(ledger, source=SOURCE, told_after=second.told_at) == []
        assert queries.outcomes(ledger, source="other") == []
        # A changed ending comes again.
        told(ledger, body("popin_call_successful", 316, timestamp=SLOT + 120))
        (changed,) = queries.outcomes(ledger, source=SOURCE, told_after=second.told_at)
        assert (changed.lead_id, changed.outcome) == ("L2", "successful")

    def test_those_told_at_the_same_moment_all_come(self, ledger: Ledger) -> None:
        for number in range(1, 6):
            change(ledger, lead_in(ledger, "booked", f"L{number}", seat=number), customer_id=f"C{number}")
            change(ledger, number, outcome="missed", outcome_at=SLOT, outcome_told_at=1_000.0 + (number > 4))
        first = queries.outcomes(ledger, source=SOURCE, limit=2)
        assert [one.lead_id for one in first] == ["L1", "L2", "L3", "L4"]
        rest = queries.outcomes(ledger, source=SOURCE, limit=2, told_after=first[-1].told_at)
        assert [one.lead_id for one in rest] == ["L5"]
