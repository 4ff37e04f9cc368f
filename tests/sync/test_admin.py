"""What people do with a ledger."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from airflow_provider_popin.sync import admin
from airflow_provider_popin.sync.admin import NoSuchLeadError
from airflow_provider_popin.sync.ledger import run_log, schema
from airflow_provider_popin.sync.ledger.events import Answer, Evidence
from airflow_provider_popin.sync.ledger.ledger import Ledger
from tests.privacy import assert_no_personal_data, register_personal
from tests.sync.ledgers import (
    ACCOUNT,
    SLOT,
    SOURCE,
    add_lead,
    apply,
    booking_intent,
    capture_intent,
    captured,
    dump,
    lead_in,
    not_booked,
    record,
    seats,
    settled,
)

ALL = ["new", "captured", "unassigned", "planned", "sending", "in_doubt", "booked", "rejected"]
ALL += ["capture_sending", "capture_rejected", "capture_in_doubt"]
NAME, PHONE = "Zelda Exampleson", "+91 98765 12399"
register_personal(NAME, PHONE)


def every_state(ledger: Ledger) -> dict[str, int]:
    return {state: lead_in(ledger, state, state, seat=number) for number, state in enumerate(ALL)}


def resolve(ledger: Ledger, outcome: str = "booked", **changes: object) -> dict[str, object]:
    asked = {"source": SOURCE, "lead_id": "L1", "generation": None, "who": "ann", "why": "seen", **changes}
    return admin.resolve(ledger, outcome=outcome, **asked)  # type: ignore[arg-type]


class TestLook:
    def test_summary_counts_by_source_and_state(self, ledger: Ledger) -> None:
        lead_in(ledger, "booked", "L1")
        lead_in(ledger, "booked", "L2", seat=2)
        add_lead(ledger, "L3", source="another source")
        booked = {
            "account": ACCOUNT,
            "source": SOURCE,
            "capture": "captured",
            "booking": "booked",
            "leads": 2,
        }
        new = {
            "account": ACCOUNT,
            "source": "another source",
            "capture": "new",
            "booking": "waiting",
            "leads": 1,
        }
        assert admin.summary(ledger) == [new, booked]
        assert admin.summary(ledger, SOURCE) == [booked]
        assert admin.summary(ledger, "unknown") == []

    def test_export_tells_every_lead_in_the_order_of_its_first_appearance(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(admin, "CHUNK", 3)
        every_state(ledger)
        add_lead(ledger, "L3", source="another source")
        assert [line["lead_id"] for line in admin.export(ledger)] == [*ALL, "L3"]
        assert [line["lead_id"] for line in admin.export(ledger, SOURCE)] == ALL

    def test_what_a_line_tells(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "booked")
        (line,) = admin.export(ledger)
        updated = str(line.pop("updated_at"))
        assert updated.endswith("+00:00")
        assert line == {
            "account": ACCOUNT,
            "source": SOURCE,
            "lead_id": "L1",
            "generation": 1,
            "capture": "captured",
            "booking": "booked",
            "customer_id": f"C{key}",
            "second_customer": None,
            "join_url": f"https://live.example.com/{key}",
            "call_time": "2030-03-17T23:30:00+05:30",
            "slot": "Sun, 17 Mar 2030 11:30 PM",
            "attempt": 2,
            "alarm": False,
            "time_mismatch": False,
            "reply_incomplete": False,
            "reason": None,
            "run": "dag/run 1/task",
        }

    def test_doubts_come_oldest_first_with_their_history(self, ledger: Ledger) -> None:
        keys = [lead_in(ledger, "in_doubt", f"L{number}", seat=number) for number in (1, 2)]
        lead_in(ledger, "capture_in_doubt", "L3")
        with ledger.write() as connection:
            older = schema.leads.update().where(schema.leads.c.id == keys[1]).values(updated_at=1.0)
            connection.execute(older)
        found = admin.list_in_doubt(ledger)
        assert [line["lead_id"] for line in found] == ["L2", "L1"]
        history = found[0]["history"]
        assert isinstance(history, list)
        assert [(note["kind"], note["attempt"], note["why"]) for note in history] == [("in_doubt", 2, "so")]
        assert admin.list_in_doubt(ledger, "another source") == []

    def test_what_a_killed_task_left_is_a_doubt_once_its_time_is_over(self, ledger: Ledger) -> None:
        over, under_way = (lead_in(ledger, "planned", lead, seat=seat) for seat, lead in enumerate("AB", 1))
        apply(ledger, booking_intent(over, timeout_seconds=-60.0), booking_intent(under_way))
        assert [lead["lead_id"] for lead in admin.list_in_doubt(ledger)] == ["A"]
        assert record(ledger, over).reason == "no_outcome_recorded"
        assert record(ledger, under_way).booking_state == "sending"


class TestResolve:
    def test_what_a_killed_task_left_can_be_resolved_at_once(self, ledger: Ledger) -> None:
        apply(ledger, booking_intent(lead_in(ledger, "planned"), timeout_seconds=-60.0))
        assert resolve(ledger)["booking"] == "booked"

    def test_booked_stays_booked(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "in_doubt")
        told = resolve(ledger)
        assert (told["booking"], told["reason"]) == ("booked", None)
        assert record(ledger, key).booking_state == "booked"
        assert key in seats(ledger)

    def test_not_booked_gives_the_seat_back(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "in_doubt")
        assert resolve(ledger, "not-booked")["booking"] == "waiting"
        assert seats(ledger) == {}
        assert record(ledger, key).claim_owner is None

    def test_who_and_why_are_kept_without_personal_data(self, ledger: Ledger) -> None:
        lead_in(ledger, "in_doubt")
        resolve(ledger, who="ann" * 100, why=f"called {NAME} on {PHONE}: the call is booked")
        with ledger.read() as connection:
            rows = connection.execute(sa.select(schema.history).order_by(schema.history.c.id)).fetchall()
        assert rows[-1].kind == "resolved_booked"
        assert rows[-1].who == ("ann" * 100)[:255]
        assert "booked" in rows[-1].why
        assert_no_personal_data(dump(ledger), [NAME, PHONE])

    @pytest.mark.parametrize("state", [state for state in ALL if state != "in_doubt"])
    def test_only_a_booking_in_doubt_can_be_resolved(self, ledger: Ledger, state: str) -> None:
        lead_in(ledger, state)
        with pytest.raises(NoSuchLeadError, match="has no booking in doubt"):
            resolve(ledger)

    def test_an_unknown_lead(self, ledger: Ledger) -> None:
        with pytest.raises(NoSuchLeadError, match=r"lead 'L1' of .* has no booking in doubt"):
            resolve(ledger)

    def test_of_several_generations_one_must_be_named(self, ledger: Ledger) -> None:
        first = lead_in(ledger, "in_doubt")
        second = add_lead(ledger, generation=2)
        with ledger.write() as connection:
            doubted = {"booking_state": "in_doubt", "capture_state": "captured", "booking_doubted": True}
            connection.execute(schema.leads.update().where(schema.leads.c.id == second).values(**doubted))
        with pytest.raises(NoSuchLeadError, match="has 2 bookings in doubt: name the generation"):
            resolve(ledger)
        assert resolve(ledger, generation=2)["generation"] == 2
        assert record(ledger, first).booking_state == "in_doubt"
        assert resolve(ledger)["generation"] == 1

    def test_an_outcome_that_is_none(self, ledger: Ledger) -> None:
        lead_in(ledger, "in_doubt")
        with pytest.raises(ValueError, match="booked, not-booked"):
            resolve(ledger, "maybe")

    def test_only_what_was_seen_is_resolved(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "in_doubt")
        seen = record(ledger, key).version
        tell = Evidence(key, SLOT + 3600, "Mon, 18 Mar 2030 12:30 AM", "Asia/Kolkata", "event 7")
        assert apply(ledger, tell) == [True]
        with pytest.raises(NoSuchLeadError, match="has changed since it was shown"):
            resolve(ledger, seen=seen)
        assert (record(ledger, key).booking_state, record(ledger, key).alarm) == ("in_doubt", True)
        assert resolve(ledger, seen=record(ledger, key).version)["booking"] == "booked"

    def test_somebody_else_was_faster(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        lead_in(ledger, "in_doubt")
        monkeypatch.setattr(ledger, "apply", lambda *_: [False])
        with pytest.raises(NoSuchLeadError):
            resolve(ledger)


class TestForget:
    @pytest.mark.parametrize(
        "state", [s for s in ALL if s not in ("unassigned", "rejected", "capture_rejected")]
    )
    def test_a_lead_is_erased_but_for_identity_and_state(self, ledger: Ledger, state: str) -> None:
        key = lead_in(ledger, state)
        before, held = record(ledger, key), seats(ledger)
        assert admin.forget(ledger, source=SOURCE, lead_id="L1") == 1
        found = record(ledger, key)
        assert (found.lead_id, found.generation, found.attempt) == ("L1", 1, before.attempt)
        assert (found.capture_state, found.booking_state) == (before.capture_state, before.booking_state)
        assert (found.customer_id, found.second_customer, found.join_url) == (None, None, None)
        assert (found.slot_start, found.slot_time, found.slot_timezone) == (None, None, None)
        assert (found.reason, found.fingerprint, found.wish) == (None, None, None)
        # The call may exist, so its seat is not anybody else's.
        assert seats(ledger) == held
        with ledger.read() as connection:
            assert connection.execute(sa.select(schema.history.c.why)).scalars().all() in ([], [None])

    @pytest.mark.parametrize("state", ["unassigned", "rejected", "capture_rejected"])
    def test_a_lead_without_call_and_doubt_is_deleted(self, ledger: Ledger, state: str) -> None:
        lead_in(ledger, state)
        assert admin.forget(ledger, source=SOURCE, lead_id="L1") == 1
        assert list(admin.export(ledger)) == []

    def test_a_doubt_that_was_forgotten_is_resolved_all_the_same(self, ledger: Ledger) -> None:
        lead_in(ledger, "in_doubt")
        admin.forget(ledger, source=SOURCE, lead_id="L1")
        assert resolve(ledger, "not-booked")["booking"] == "waiting"
        assert seats(ledger) == {}

    def test_all_generations_of_a_lead_and_no_other(self, ledger: Ledger) -> None:
        lead_in(ledger, "booked", "L1")
        add_lead(ledger, "L1", generation=2)
        other = lead_in(ledger, "booked", "L2", seat=2)
        assert admin.forget(ledger, source=SOURCE, lead_id="L1") == 2
        assert record(ledger, other).customer_id is not None

    def test_the_rejected_of_a_source_are_tried_again(self, ledger: Ledger) -> None:
        keys = every_state(ledger)
        lead_in(ledger, "capture_rejected", "kept")
        with ledger.write() as connection:
            connection.execute(
                schema.leads.update().where(schema.leads.c.lead_id == "kept").values(source="another source")
            )
        assert admin.forget(ledger, source=SOURCE, rejected=True) == 2
        left = {line["lead_id"] for line in admin.export(ledger, SOURCE)}
        assert left == set(keys) - {"rejected", "capture_rejected"}
        assert len(admin.summary(ledger, "another source")) == 1

    def test_a_rejected_lead_under_alarm_is_no_rejected_lead(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "in_doubt")
        apply(ledger, not_booked(key))
        apply(ledger, settled(key, Answer.SUCCESS))
        assert record(ledger, key).alarm
        assert admin.forget(ledger, source=SOURCE, rejected=True) == 0
        admin.forget(ledger, source=SOURCE, lead_id="L1")
        assert record(ledger, key).booking_state == "in_doubt"

    def test_a_late_capture_does_not_bring_a_forgotten_customer_back(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "captured")
        admin.forget(ledger, source=SOURCE, lead_id="L1")
        assert apply(ledger, captured(key, customer_id="C9"), capture_intent(key, 1)) == [False, False]
        assert record(ledger, key).customer_id is None

    def test_an_unknown_lead(self, ledger: Ledger) -> None:
        with pytest.raises(NoSuchLeadError, match="knows no lead 'L1'"):
            admin.forget(ledger, source=SOURCE, lead_id="L1")

    @pytest.mark.parametrize("asked", [{}, {"lead_id": "L1", "rejected": True}])
    def test_one_thing_at_a_time(self, ledger: Ledger, asked: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="not both"):
            admin.forget(ledger, source=SOURCE, **asked)  # type: ignore[arg-type]


def test_init_tells_what_it_registered(ledger: Ledger) -> None:
    with ledger.write() as connection:
        sequence = run_log.next_sequence(connection)
    assert admin.init_source(ledger, account=ACCOUNT, source=SOURCE, lead_id_column="Id") == {
        "ledger_id": ledger.ledger_id,
        "ledger_sequence": sequence,
        "account": ACCOUNT,
        "source": SOURCE,
        "lead_id_column": "Id",
    }
