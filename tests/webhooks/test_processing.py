"""What received events do to the ledger, on SQLite and on Postgres."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from airflow_provider_popin.sync import admin
from airflow_provider_popin.sync.errors import LedgerError, LedgerRolledBackError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger import event_tables as tables
from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.events import Answer
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks import deliveries as deliveries_module
from airflow_provider_popin.webhooks import processing, queries
from airflow_provider_popin.webhooks.outbox import next_asset_events
from airflow_provider_popin.webhooks.processing import RETRY_SECONDS, Processed, process_waiting
from tests.sync.ledgers import (
    Database,
    add_lead,
    apply,
    capture_intent,
    captured,
    dump,
    lead_in,
    not_booked,
    record,
    seats,
    settled,
)
from tests.webhooks.deliveries import (
    SLOT,
    SOURCE,
    TIME,
    body,
    change,
    customer_lead,
    deliver,
    event_row,
    lead_row,
    let_pass,
    notes,
    scheduled,
    told,
)

HOUR = 3600
MISSED, SUCCESSFUL = "popin_call_missed", "popin_call_successful"


class TestEvidence:
    def test_it_ends_a_doubt(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "in_doubt")
        assert told(ledger, scheduled(SLOT)) == [("matched", "resolved")]
        assert record(ledger, key).booking_state == "booked"
        assert notes(ledger, key)[-1] == ("resolved_booked", "webhook")
        assert seats(ledger)[key] == (SLOT, 1)

    def test_it_waits_for_the_answer_of_what_is_being_sent(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "sending")
        assert told(ledger, scheduled(SLOT)) == [("matched", "remembered")]
        assert record(ledger, key).booking_state == "sending"
        assert apply(ledger, settled(key, Answer.UNKNOWN, reason="read_timeout")) == [True]
        assert record(ledger, key).booking_state == "booked"

    def test_it_confirms_a_booking(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "booked")
        assert told(ledger, scheduled(SLOT), scheduled(SLOT, timestamp=1_771_832_273)) == [
            ("matched", "confirmed"),
            ("matched", "confirmed"),
        ]
        found = record(ledger, key)
        assert (found.booking_state, found.alarm) == ("booked", False)
        assert found.confirmed_at is not None
        assert notes(ledger, key).count(("confirmed", "webhook")) == 1

    @pytest.mark.parametrize("state", ["captured", "unassigned", "planned", "rejected"])
    def test_it_holds_a_lead_that_has_no_call_with_an_alarm(self, ledger: Ledger, state: str) -> None:
        key = customer_lead(ledger, state)
        lead_in(ledger, "booked", "other", slot=SLOT, seat=2)  # whose timezone is the seller's
        assert told(ledger, scheduled(SLOT + HOUR)) == [("matched", "alarm")]
        found = record(ledger, key)
        assert (found.booking_state, found.alarm, found.slot_start) == ("in_doubt", True, SLOT + HOUR)
        assert found.slot_time == "Mon, 18 Mar 2030 12:30 AM"
        assert seats(ledger)[key] == (SLOT + HOUR, 1)

    def test_at_another_time_a_booked_lead_stays_and_gets_an_alarm(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "booked")
        assert told(ledger, scheduled(SLOT + HOUR)) == [("matched", "alarm")]
        found = record(ledger, key)
        assert (found.booking_state, found.alarm, found.slot_start) == ("booked", True, SLOT)

    def test_where_nobody_knows_the_sellers_timezone_the_lead_is_held_all_the_same(
        self, ledger: Ledger
    ) -> None:
        key = customer_lead(ledger, "captured")
        assert told(ledger, scheduled(SLOT)) == [("matched", "alarm")]
        found = record(ledger, key)
        assert (found.booking_state, found.alarm, found.slot_start, found.seat) == (
            "in_doubt",
            True,
            None,
            None,
        )
        assert seats(ledger) == {}
        assert apply(ledger, not_booked(key)) == [True]
        assert record(ledger, key).booking_state == "waiting"

    @pytest.mark.parametrize(
        ("raw", "reason"),
        [
            (body("popin_scheduled_created", scheduled_date="soon"), "time_unreadable"),
            (scheduled(SLOT, "7000012345"), "no_customer"),
            (scheduled(SLOT, None), "no_customer"),
        ],
    )
    def test_what_cannot_be_read_is_unmatched(self, ledger: Ledger, raw: bytes, reason: str) -> None:
        key = customer_lead(ledger, "in_doubt")
        assert told(ledger, raw) == [("unmatched", reason)]
        assert record(ledger, key).booking_state == "in_doubt"

    def test_of_another_account_it_is_of_another_customer(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "in_doubt")
        assert told(ledger, scheduled(SLOT), account="another shop") == [("waiting", None)]
        assert record(ledger, key).booking_state == "in_doubt"

    def test_two_in_doubt_at_one_instant_are_left_to_a_person(self, ledger: Ledger) -> None:
        keys = [customer_lead(ledger, "in_doubt"), customer_lead(ledger, "in_doubt", "L2", seat=2)]
        assert told(ledger, scheduled(SLOT)) == [("unmatched", "several_bookings")]
        assert [record(ledger, key).booking_state for key in keys] == ["in_doubt"] * 2
        assert not any(record(ledger, key).alarm for key in keys)


def fail_at_the_end(ledger: Ledger, *, sqlstate: str) -> None:
    """Have the database refuse the last thing that an event does, on Postgres with this code."""
    statements = {
        "sqlite": [
            "CREATE TRIGGER fails BEFORE INSERT ON popin_outbox BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ],
        "postgresql": [
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$",
            "CREATE TRIGGER fails BEFORE INSERT ON popin_outbox FOR EACH ROW EXECUTE FUNCTION fail()",
        ],
    }
    with ledger.write() as connection:
        for statement in statements[connection.dialect.name]:
            connection.exec_driver_sql(statement)


class TestUnprocessable:
    """As a newer receiver beside an older worker may store them."""

    @pytest.mark.parametrize("stored", [{"kind": "someday"}, {"slot_local": "next week"}])
    def test_it_holds_up_nobody_else_and_a_person_is_told(
        self, ledger: Ledger, stored: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        keys = [customer_lead(ledger, "in_doubt"), lead_in(ledger, "in_doubt", "L2", slot=SLOT, seat=2)]
        change(ledger, keys[1], customer_id="MzE3")
        before, event, after = deliver(ledger, scheduled(SLOT), scheduled(SLOT, 316), scheduled(SLOT, 317))
        with ledger.write() as connection:
            connection.execute(tables.events.update().where(tables.events.c.id == event).values(stored))

        assert process_waiting(ledger) == Processed(3, still_waiting=False)
        rows = [event_row(ledger, one) for one in (before, event, after)]
        assert [(row.status, row.reason) for row in rows] == [
            ("matched", "resolved"),
            ("waiting", None),
            ("matched", "resolved"),
        ]
        assert [record(ledger, key).booking_state for key in keys] == ["booked", "booked"]
        assert len(next_asset_events(ledger)) == 2
        assert f"event {event} of popin_events cannot be processed (ValueError)" in caplog.text

        for seconds in RETRY_SECONDS:
            let_pass(ledger, seconds)
            process_waiting(ledger)
        row = event_row(ledger, event)
        assert (row.status, row.reason, row.due_at) == ("unmatched", "unprocessable", None)
        assert [one.id for one in queries.unmatched(ledger)] == [event]

    def test_what_it_did_until_then_is_undone(self, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
        key = customer_lead(ledger, "in_doubt")
        (event,) = deliver(ledger, scheduled(SLOT))
        fail_at_the_end(ledger, sqlstate="23514")
        assert process_waiting(ledger) == Processed(1, still_waiting=False)
        assert record(ledger, key).booking_state == "in_doubt"
        assert (event_row(ledger, event).status, event_row(ledger, event).tries) == ("waiting", 1)
        assert "cannot be processed (IntegrityError)" in caplog.text

    @pytest.mark.postgres
    @pytest.mark.parametrize(
        ("sqlstate", "error"),
        [
            # A prepared statement that a pooler has lost; a standby that takes no writes.
            ("26000", LedgerRolledBackError),
            ("25006", LedgerUnreachableError),
        ],
    )
    def test_trouble_of_the_database_is_not_the_events(
        self, postgres_database: Database, sqlstate: str, error: type[LedgerError]
    ) -> None:
        ledger = Ledger.open(postgres_database.engine())
        key = customer_lead(ledger, "in_doubt")
        (event,) = deliver(ledger, scheduled(SLOT))
        fail_at_the_end(ledger, sqlstate=sqlstate)
        with pytest.raises(error):
            process_waiting(ledger)
        assert record(ledger, key).booking_state == "in_doubt"
        assert (event_row(ledger, event).status, event_row(ledger, event).tries) == ("waiting", 0)


class TestUnknownCustomer:
    def test_the_webhook_may_overtake_the_capture(self, ledger: Ledger) -> None:
        (event,) = deliver(ledger, body("popin_user_captured"))
        assert process_waiting(ledger).count == 1
        row = event_row(ledger, event)
        assert (row.status, row.tries) == ("waiting", 1)
        assert process_waiting(ledger) == Processed(0, still_waiting=False)
        key = add_lead(ledger)
        apply(ledger, capture_intent(key), captured(key, customer_id="MzE1"))
        let_pass(ledger, RETRY_SECONDS[0])
        process_waiting(ledger)
        row = event_row(ledger, event)
        assert (row.status, row.lead) == ("matched", key)

    @pytest.mark.parametrize(
        ("name", "status"),
        [
            ("popin_scheduled_created", "unmatched"),
            (MISSED, "unmatched"),
            ("popin_call_rated", "unmatched"),
            ("popin_user_captured", "noted"),
            ("popin_outgoing_call_missed", "noted"),
            ("popin_something_new", "noted"),
        ],
    )
    def test_in_the_end_it_is_nobody_of_ours(self, ledger: Ledger, name: str, status: str) -> None:
        (event,) = deliver(ledger, body(name))
        for seconds in (0, *RETRY_SECONDS):
            let_pass(ledger, seconds)
            process_waiting(ledger)
        row = event_row(ledger, event)
        assert (row.status, row.reason, row.due_at) == (status, "unknown_customer", None)
        assert next_asset_events(ledger) == []

    def test_a_forgotten_lead_has_no_customer_and_leaves_no_events(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "booked")
        (event,) = deliver(ledger, scheduled(SLOT, remark="at call"))
        process_waiting(ledger)
        (late,) = deliver(ledger, body(MISSED))
        admin.forget(ledger, source=SOURCE, lead_id="L1")
        for one in (event, late):
            row = event_row(ledger, one)
            assert (row.customer_id, row.slot_local, row.payload) == (None, None, "{}")
        assert event_row(ledger, event).lead == key
        process_waiting(ledger)
        assert event_row(ledger, late).reason == "no_customer"
        assert "MzE1" not in dump(ledger)
        assert told(ledger, scheduled(SLOT, timestamp=1_771_832_273)) == [("waiting", None)]
        assert record(ledger, key).booking_state == "booked"

    def test_a_deleted_lead(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "unassigned")
        (event,) = deliver(ledger, body("popin_user_captured"))
        process_waiting(ledger)
        assert event_row(ledger, event).lead == key
        admin.forget(ledger, source=SOURCE, lead_id="L1")
        assert told(ledger, scheduled(SLOT)) == [("waiting", None)]


class TestOutcomes:
    @pytest.mark.parametrize(("name", "outcome"), [(MISSED, "missed"), (SUCCESSFUL, "successful")])
    def test_of_the_one_booking(self, ledger: Ledger, name: str, outcome: str) -> None:
        key = customer_lead(ledger, "booked")
        assert told(ledger, body(name, timestamp=SLOT + HOUR)) == [("matched", "outcome")]
        row = lead_row(ledger, key)
        assert (row.outcome, row.outcome_at, row.booking_state) == (outcome, SLOT + HOUR, "booked")
        assert row.outcome_told_at > row.created_at

    def test_without_a_timestamp_its_receipt_counts(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "booked")
        assert told(ledger, body(MISSED)) == [("unmatched", "no_booking")]  # the slot is years away
        with ledger.read() as connection:
            now = connection.execute(sa.select(schema.database_clock(connection))).scalar_one()
        change(ledger, key, slot_start=int(now) - HOUR)
        assert told(ledger, body(MISSED, 315, product="x")) == [("matched", "outcome")]
        assert lead_row(ledger, key).outcome_at == pytest.approx(now, abs=60)

    @pytest.mark.parametrize("name", ["popin_call_rated", "popin_call_remark_added"])
    def test_a_rating_or_a_remark_is_no_ending(self, ledger: Ledger, name: str) -> None:
        key = customer_lead(ledger, "booked")
        assert told(ledger, body(name, timestamp=SLOT + HOUR, rating=5)) == [("matched", "outcome")]
        assert lead_row(ledger, key).outcome is None

    @pytest.mark.parametrize("backwards", [False, True])
    def test_the_order_of_arrival_does_not_matter(self, ledger: Ledger, backwards: bool) -> None:
        key = customer_lead(ledger, "booked")
        endings = [
            body(MISSED, timestamp=SLOT + 600),
            body("popin_call_abandoned", timestamp=SLOT + 700),
            body(SUCCESSFUL, timestamp=SLOT + 650),
            body(MISSED, timestamp=SLOT + 800),
        ]
        told(ledger, *(reversed(endings) if backwards else endings))
        row = lead_row(ledger, key)
        assert (row.outcome, row.outcome_at) == ("successful", SLOT + 650)

    def test_a_clock_that_was_set_back_hides_no_ending(self, ledger: Ledger) -> None:
        # Whoever tells the CRM has read up to the first one, and asks for what comes after.
        first = customer_lead(ledger, "booked")
        told(ledger, body(MISSED, timestamp=SLOT + HOUR))
        ahead = lead_row(ledger, first).outcome_told_at + HOUR
        change(ledger, first, outcome_told_at=ahead)
        change(ledger, lead_in(ledger, "booked", "L2", slot=SLOT, seat=2), customer_id="MzE2")
        told(ledger, body(MISSED, 316, timestamp=SLOT + HOUR))
        assert [view.lead_id for view in queries.outcomes(ledger, source=SOURCE, told_after=ahead)] == ["L2"]

    def test_without_a_success_the_last_word_counts(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "booked")
        told(ledger, body("popin_call_abandoned", timestamp=SLOT + 700), body(MISSED, timestamp=SLOT + 600))
        assert lead_row(ledger, key).outcome == "abandoned"

    def test_while_the_booking_is_in_doubt_it_waits_for_the_end_of_the_doubt(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "in_doubt")
        assert told(ledger, body(MISSED, timestamp=SLOT + HOUR)) == [("unmatched", "booking_in_doubt")]
        assert record(ledger, key).booking_state == "in_doubt"
        assert process_waiting(ledger) == Processed(0, still_waiting=False)
        assert told(ledger, scheduled(SLOT)) == [("matched", "resolved")]
        process_waiting(ledger)
        assert lead_row(ledger, key).outcome == "missed"

    def test_resolved_by_a_person_as_not_booked_it_has_no_booking(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "in_doubt")
        (event,) = deliver(ledger, body(MISSED, timestamp=SLOT + HOUR))
        process_waiting(ledger)
        apply(ledger, not_booked(key))
        assert process_waiting(ledger).count == 1
        assert event_row(ledger, event).reason == "no_booking"
        assert process_waiting(ledger).count == 0

    @pytest.mark.parametrize(
        "name",
        ["popin_outgoing_call_successful", "popin_outgoing_call_missed", "popin_scheduled_notification"],
    )
    def test_other_kinds_go_to_the_customers_lead_and_end_no_call(self, ledger: Ledger, name: str) -> None:
        key = customer_lead(ledger, "booked")
        assert told(ledger, body(name, timestamp=SLOT + HOUR)) == [("matched", "noted")]
        assert lead_row(ledger, key).outcome is None


class TestAssetEvents:
    def test_only_what_matches_a_lead_is_told_to_dags(self, ledger: Ledger) -> None:
        customer_lead(ledger, "booked")
        (event,) = deliver(ledger, body(MISSED, timestamp=SLOT + HOUR), conn_id="shop one")
        deliver(ledger, body(MISSED, 316))
        process_waiting(ledger)
        (told_event,) = next_asset_events(ledger)
        assert (told_event.id, told_event.uri) == (event, "popin://shop one/calls/missed")
        assert told_event.extra == {
            "source": SOURCE,
            "lead_id": "L1",
            "generation": 1,
            "kind": "missed",
            "call_time": "2030-03-17T23:30:00+05:30",
            "occurred_at": "2030-03-17T19:00:00+00:00",
            "event_id": event,
        }

    def test_a_timezone_that_this_machine_does_not_know_holds_up_nobody(self, ledger: Ledger) -> None:
        """The timezone database of the worker that booked may be newer."""
        key = customer_lead(ledger, "booked")
        change(ledger, key, slot_timezone="Nowhere/Yet")
        assert told(ledger, body(MISSED, timestamp=SLOT + 60)) == [("matched", "outcome")]
        (event,) = next_asset_events(ledger)
        assert event.extra["call_time"] == datetime.fromtimestamp(SLOT, UTC).isoformat()

    def test_of_a_resolved_doubt_the_call_is_told(self, ledger: Ledger) -> None:
        customer_lead(ledger, "in_doubt")
        told(ledger, scheduled(SLOT))
        (told_event,) = next_asset_events(ledger)
        assert told_event.uri.endswith("/calls/scheduled")
        assert told_event.extra["call_time"] == "2030-03-17T23:30:00+05:30"


class TestManyAndAtOnce:
    def test_a_batch_that_fails_is_taken_again_as_a_whole(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = customer_lead(ledger, "in_doubt")
        second = lead_in(ledger, "in_doubt", "L2", seat=2)
        change(ledger, second, customer_id="MzE2")
        deliver(ledger, scheduled(SLOT), scheduled(SLOT, 316))

        def crash(*_: object) -> None:
            raise LedgerUnreachableError("the process died here")

        with monkeypatch.context() as patch:
            patch.setattr(deliveries_module, "forget_old", crash)
            with pytest.raises(LedgerUnreachableError):
                process_waiting(ledger)
        assert [record(ledger, key).booking_state for key in (first, second)] == ["in_doubt"] * 2
        assert next_asset_events(ledger) == []
        assert process_waiting(ledger) == Processed(2, still_waiting=False)
        assert [record(ledger, key).booking_state for key in (first, second)] == ["booked"] * 2
        assert notes(ledger, first).count(("resolved_booked", "webhook")) == 1

    def test_limits(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processing, "BATCH", 3)
        customer_lead(ledger, "booked")
        deliver(ledger, *(body("popin_call_rated", rating=number) for number in range(8)))
        assert process_waiting(ledger, limit=5) == Processed(5, still_waiting=True)
        assert process_waiting(ledger, limit=5) == Processed(3, still_waiting=False)

    def test_without_a_limit_all_are_processed(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(processing, "BATCH", 3)
        customer_lead(ledger, "booked")
        deliver(ledger, *(body("popin_call_rated", rating=number) for number in range(9)))
        assert process_waiting(ledger) == Processed(9, still_waiting=False)

    def test_several_events_of_one_lead_in_one_batch(self, ledger: Ledger) -> None:
        key = customer_lead(ledger, "in_doubt")
        deliver(
            ledger,
            scheduled(SLOT),
            scheduled(SLOT, timestamp=1_771_832_273),
            body(SUCCESSFUL, timestamp=SLOT + HOUR),
            scheduled(SLOT + HOUR),
        )
        process_waiting(ledger)
        found = lead_row(ledger, key)
        assert (found.booking_state, found.outcome, found.alarm) == ("booked", "successful", True)
        with ledger.read() as connection:
            reasons = connection.execute(sa.select(tables.events.c.reason).order_by(tables.events.c.id))
            assert [row[0] for row in reasons] == ["resolved", "confirmed", "outcome", "alarm"]

    def test_several_processes_at_once_do_everything_once(self, database: Database) -> None:
        ledgers = [Ledger.open(database.engine()) for _ in range(3)]
        keys = []
        for number in range(1, 31):
            keys.append(lead_in(ledgers[0], "in_doubt", f"L{number}", seat=number))
            change(ledgers[0], keys[-1], customer_id=record_customer(number))
            deliver(ledgers[0], scheduled(SLOT, number), body(MISSED, number, timestamp=SLOT + HOUR))
        failures: list[BaseException] = []

        def work(ledger: Ledger) -> None:
            try:
                while process_waiting(ledger, limit=7).still_waiting:
                    pass
            except BaseException as error:  # noqa: BLE001 - told below
                failures.append(error)

        threads = [threading.Thread(target=work, args=(ledger,)) for ledger in ledgers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        for key in keys:
            assert record(ledgers[0], key).booking_state == "booked"
            assert notes(ledgers[0], key).count(("resolved_booked", "webhook")) == 1
            assert lead_row(ledgers[0], key).outcome == "missed"
        assert len(next_asset_events(ledgers[0])) == 60


def record_customer(number: int) -> str:
    import base64

    return base64.b64encode(str(number).encode()).decode()


def test_the_slot_in_popins_words(ledger: Ledger) -> None:
    key = customer_lead(ledger, "captured")
    lead_in(ledger, "booked", "other")
    told(ledger, scheduled(SLOT))
    assert record(ledger, key).slot_time == TIME
