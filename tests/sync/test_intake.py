"""Chunks of rows against a ledger: what is claimed, stored, limited and left alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy.engine import Connection

from airflow_provider_popin.client.leads import make_lead
from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.client.outcomes import Outcome, Verdict
from airflow_provider_popin.sync import intake
from airflow_provider_popin.sync.admission import Action, ResultSet, Situation
from airflow_provider_popin.sync.intake import Admission, Admitted, CaptureDesk, Limit, Row, capture_job
from airflow_provider_popin.sync.jobs import BookingJob, Job
from airflow_provider_popin.sync.ledger import leases, ledger_queries
from airflow_provider_popin.sync.ledger.events import Answer, Event, Record, Settled, Step
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.source.booking_wish import BookingWish
from airflow_provider_popin.sync.source.rows import BadRow, LeadRow
from tests.sync.ledgers import (
    ACCOUNT,
    OWNER,
    RUN,
    SOURCE,
    apply,
    capture_intent,
    captured,
    lead_in,
    record,
)

OTHER = "00000000-0000-0000-0000-00000000000b"
NOW = Situation(
    dag_run="dag/run 2/task", books=True, resend=False, owner=OWNER, live_owners=frozenset({OWNER})
)


def good(
    lead_id: str = "L1", *, generation: int = 1, customer_id: str | None = None, fingerprint: str = "new"
) -> LeadRow:
    lead = make_lead(name="Ann Example", mobile="+12025550123") if customer_id is None else None
    return LeadRow(
        lead_id=lead_id,
        generation=generation,
        lead=lead,
        customer_id=customer_id,
        wish=BookingWish(priority=3),
        fingerprint=fingerprint,
        phone_column=None,
    )


def bad(lead_id: str = "L1", *, generation: int = 1) -> BadRow:
    return BadRow(
        lead_id=lead_id, generation=generation, reason="phone_letters", field="mobile", fingerprint="print"
    )


def admission(ledger: Ledger | None, situation: Situation = NOW, limit: int | None = None) -> Admission:
    return Admission(ledger=ledger, account=ACCOUNT, source=SOURCE, situation=situation, limit=Limit(limit))


def admit(
    ledger: Ledger, *rows: Row, situation: Situation = NOW, desk: Admission | None = None
) -> list[Admitted]:
    with ledger.write() as connection:
        leases.renew_lease(connection, OWNER, NOW.dag_run, 60)
        return (desk or admission(ledger, situation)).admit(connection, rows)


def told(admitted: Sequence[Admitted]) -> list[tuple[str, str | None]]:
    """The action of each row, or the set where it ended, and the reason."""
    return [(str(one.decision.result or one.decision.action), one.decision.reason) for one in admitted]


class TestStores:
    def test_new_leads_are_claimed_with_wish_and_fingerprint(self, ledger: Ledger) -> None:
        (one,) = admit(ledger, good())
        assert one.decision.action is Action.CAPTURE
        assert one.record is not None
        found = record(ledger, one.record.id)
        assert (found.lead_id, found.generation, found.capture_state) == ("L1", 1, "new")
        assert (found.claim_owner, found.wish, found.fingerprint) == (OWNER, '{"priority":3}', "new")

    def test_bad_rows_are_rejected_and_hold_nothing(self, ledger: Ledger) -> None:
        (one,) = admit(ledger, bad())
        assert one.decision.action is Action.REFUSE
        assert one.record is not None
        found = record(ledger, one.record.id)
        assert (found.capture_state, found.reason) == ("rejected", "phone_letters")
        assert (found.claim_owner, found.wish, found.fingerprint) == (None, None, "print")

    def test_a_corrected_row_is_tried_again(self, ledger: Ledger) -> None:
        admit(ledger, bad())
        (one,) = admit(ledger, good())
        assert one.record is not None
        found = record(ledger, one.record.id)
        assert (found.capture_state, found.claim_owner, found.reason) == ("new", OWNER, None)

    def test_a_known_customer_needs_no_capture(self, ledger: Ledger) -> None:
        (one,) = admit(ledger, good(customer_id="C1"))
        assert one.decision.action is Action.BOOK
        assert one.record is not None
        found = record(ledger, one.record.id)
        assert (found.capture_state, found.customer_id) == ("captured", "C1")

    def test_a_known_customer_is_kept_where_nothing_is_booked(self, ledger: Ledger) -> None:
        (one,) = admit(ledger, good(customer_id="C1"), situation=replace(NOW, books=False))
        assert told([one]) == [("nothing", None)]
        assert one.record is not None
        assert record(ledger, one.record.id).capture_state == "captured"

    def test_a_doubt_that_is_resent_is_claimed(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "in_doubt")
        (one,) = admit(ledger, good(), situation=replace(NOW, resend=True))
        assert one.decision.action is Action.RESEND
        assert record(ledger, key).wish == '{"priority":3}'
        assert record(ledger, key).booking_state == "in_doubt"

    def test_a_lead_of_a_live_run_is_left_alone(self, ledger: Ledger) -> None:
        key = lead_in(ledger, "captured")
        with ledger.write() as connection:
            leases.renew_lease(connection, OWNER, RUN, 60)
            leases.renew_lease(connection, OTHER, RUN, 60)
        (one,) = admit(ledger, good(), desk=admission(ledger, replace(NOW, owner=OTHER)))
        assert told([one]) == [("pending", "claimed_elsewhere")]
        assert record(ledger, key).claim_owner == OWNER

    def test_a_run_that_began_later_holds_its_leads_too(self, ledger: Ledger) -> None:
        desk = admission(ledger, replace(NOW, live_owners=frozenset()))
        with ledger.write() as connection:
            leases.renew_lease(connection, OTHER, RUN, 60)
        late = admission(ledger, replace(NOW, owner=OTHER))
        assert told(admit(ledger, good(), desk=late)) == [("capture", None)]
        assert told(admit(ledger, good(), desk=desk)) == [("pending", "claimed_elsewhere")]

    def test_whoever_inserts_first_has_the_claim(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another run adds the lead between our look and our insert."""
        insert = ledger_queries.insert_leads

        def slower(
            connection: Connection,
            account: str,
            source: str,
            leads: Sequence[Mapping[str, object]],
            now: float,
        ) -> dict[tuple[str, int], Record]:
            insert(connection, account, source, [{**lead, "claim_owner": OTHER} for lead in leads], now)
            return insert(connection, account, source, leads, now)

        monkeypatch.setattr(ledger_queries, "insert_leads", slower)
        with ledger.write() as connection:
            leases.renew_lease(connection, OTHER, RUN, 60)
        assert told(admit(ledger, good())) == [("pending", "claimed_elsewhere")]

    def test_a_claim_that_is_lost_between_look_and_claim(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lead_in(ledger, "captured")
        monkeypatch.setattr(ledger, "apply", lambda *_: [False])
        assert told(admit(ledger, good())) == [("pending", "claimed_elsewhere")]

    def test_a_dry_run_admits_nothing(self, ledger: Ledger) -> None:
        with ledger.write() as connection, pytest.raises(RuntimeError, match="a dry run"):
            admission(None).admit(connection, [good()])


class TestGenerationsOfOneChunk:
    def test_the_second_waits_for_the_first(self, ledger: Ledger) -> None:
        admitted = admit(ledger, good(generation=1), good(generation=2))
        assert told(admitted) == [("capture", None), ("pending", "earlier_generation_unfinished")]
        assert admitted[1].record is None

    def test_a_first_that_is_rejected_lets_the_second_go(self, ledger: Ledger) -> None:
        assert told(admit(ledger, bad(generation=1), good(generation=2))) == [
            ("refuse", "phone_letters"),
            ("capture", None),
        ]

    def test_a_first_that_comes_second_is_outdated(self, ledger: Ledger) -> None:
        assert told(admit(ledger, good(generation=2), good(generation=1))) == [
            ("capture", None),
            ("skipped", "older_generation"),
        ]


class TestForeignCustomers:
    def test_a_customer_of_another_lead_is_refused(self, ledger: Ledger) -> None:
        admit(ledger, good("L1", customer_id="C1"))
        assert told(admit(ledger, good("L2", customer_id="C1"))) == [("refuse", "customer_id_of_other_lead")]

    def test_within_one_chunk_the_first_has_it(self, ledger: Ledger) -> None:
        rows = good("L1", customer_id="C1"), good("L2", customer_id="C1")
        assert told(admit(ledger, *rows)) == [("book", None), ("refuse", "customer_id_of_other_lead")]

    def test_another_customer_than_before_is_refused(self, ledger: Ledger) -> None:
        admit(ledger, good("L1", customer_id="C1"))
        assert told(admit(ledger, good("L1", customer_id="C2"))) == [("refuse", "customer_id_changed")]

    def test_the_lead_s_own_customer_is_fine_even_if_another_lead_has_it_too(self, ledger: Ledger) -> None:
        """Popin may answer two captures of one phone number with one customer."""
        for lead_id in ("L1", "L2"):
            (one,) = admit(ledger, good(lead_id))
            assert one.record is not None
            apply(ledger, *_captured_as(one.record.id, "C1"))
        rows = good("L1", customer_id="C1"), good("L2", customer_id="C1")
        assert told(admit(ledger, *rows)) == [("book", None), ("book", None)]

    def test_the_next_generation_has_the_same_customer(self, ledger: Ledger) -> None:
        lead_in(ledger, "booked")
        customer = record(ledger, 1).customer_id
        assert customer is not None
        assert told(admit(ledger, good(generation=2, customer_id=customer))) == [("book", None)]


def _captured_as(key: int, customer_id: str) -> list[Event]:
    return [capture_intent(key), captured(key, customer_id=customer_id)]


class TestLimit:
    def test_the_first_that_would_be_sent_are_taken(self, ledger: Ledger) -> None:
        lead_in(ledger, "booked", "L2")
        desk = admission(ledger, limit=2)
        rows: list[Row] = [good("L1"), good("L2"), bad("L3"), good("L4"), good("L5")]
        assert told(admit(ledger, *rows, desk=desk)) == [
            ("capture", None),
            ("skipped", "already_booked"),
            ("refuse", "phone_letters"),
            ("capture", None),
            ("pending", "limit"),
        ]
        assert told(admit(ledger, good("L6"), desk=desk)) == [("pending", "limit")]

    def test_what_is_over_the_limit_is_not_stored(self, ledger: Ledger) -> None:
        (one,) = admit(ledger, good(), desk=admission(ledger, limit=0))
        assert one.record is None
        with ledger.read() as connection:
            assert ledger_queries.families(connection, ACCOUNT, SOURCE, ["L1"], lock=False) == {}

    def test_a_chunk_that_fails_does_not_count(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        desk = admission(ledger, limit=1)
        with monkeypatch.context() as patch:
            patch.setattr(ledger_queries, "insert_leads", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                admit(ledger, good(), desk=desk)
        assert told(admit(ledger, good(), desk=desk)) == [("capture", None)]


class TestPreview:
    def test_it_decides_as_admission_does_and_stores_nothing(self, ledger: Ledger) -> None:
        lead_in(ledger, "booked", "L1")
        rows: list[Row] = [good("L1"), good("L2"), bad("L3"), good("L4", customer_id="C1")]
        with ledger.read() as connection:
            previewed = told(admission(None).preview(connection, rows))
        with ledger.read() as connection:
            families = ledger_queries.families(connection, ACCOUNT, SOURCE, ["L2", "L3", "L4"], lock=False)
        assert families == {}
        assert previewed == told(admit(ledger, *rows))
        assert previewed[0] == ("skipped", "already_booked")

    def test_without_a_ledger_every_lead_is_new(self) -> None:
        rows: list[Row] = [good("L1"), good("L1", generation=2), bad("L2"), good("L3", customer_id="C1")]
        assert told(admission(None).preview(None, rows)) == [
            ("capture", None),
            ("pending", "earlier_generation_unfinished"),
            ("refuse", "phone_letters"),
            ("book", None),
        ]


class TestDesk:
    def settled(self, job: Job, answer: Answer) -> Settled:
        return Settled(job.record, Step.CAPTURE, 1, answer, RUN, customer_id="C1")

    @pytest.mark.parametrize("books", [True, False])
    def test_captured_leads_go_on_to_the_planner(self, ledger: Ledger, books: bool) -> None:
        (one,) = admit(ledger, good())
        assert one.record is not None
        assert isinstance(one.row, LeadRow)
        seen: list[Answer] = []
        desk = CaptureDesk(books=books, on_done=lambda _, event: seen.append(event.answer))
        job = capture_job(one.row, one.record)
        assert (job.record, job.attempt, job.lead_id) == (one.record.id, 0, "L1")
        assert desk.wanted(job)
        desk.done(job, self.settled(job, Answer.REJECTED), accepted=True)
        desk.done(job, self.settled(job, Answer.SUCCESS), accepted=False)
        assert desk.waiting == []
        desk.done(job, self.settled(job, Answer.SUCCESS), accepted=True)
        assert [(lead.key, lead.priority, lead.lead_id) for lead in desk.waiting] == (
            [(one.record.id, 3, "L1")] if books else []
        )
        assert seen == [Answer.REJECTED, Answer.SUCCESS, Answer.SUCCESS]

    def test_a_row_with_its_customer_has_nothing_to_capture(self, ledger: Ledger) -> None:
        (one,) = admit(ledger, good(customer_id="C1"))
        assert one.record is not None
        assert isinstance(one.row, LeadRow)
        with pytest.raises(ValueError, match="nothing to capture"):
            capture_job(one.row, one.record)

    async def test_a_lead_that_was_not_captured_goes_nowhere(self, ledger: Ledger) -> None:
        (one,) = admit(ledger, good())
        assert one.record is not None
        assert isinstance(one.row, LeadRow)
        desk, job = CaptureDesk(books=True, on_done=lambda *_: None), capture_job(one.row, one.record)
        desk.dropped(job)
        desk.in_doubt(job)
        assert desk.waiting == []
        taken = BookingJob(
            record=1,
            lead_id="L1",
            attempt=1,
            customer_id="C1",
            slot=Slot(datetime(2025, 9, 25, tzinfo=UTC), "then"),
            timezone="UTC",
        )
        assert not await desk.is_taken(taken, Outcome(Verdict.REJECTED, slot_blamed=True))

    def test_equal_wishes_share_one_window(self) -> None:
        first = intake.waiting_for(1, "L1", BookingWish(priority=1))
        second = intake.waiting_for(2, "L2", BookingWish(priority=2))
        assert first.window is second.window

    def test_no_result_set_is_forgotten(self) -> None:
        assert {str(name) for name in ResultSet} == {
            *("booked", "captured", "rejected", "unassigned"),
            *("in_doubt", "skipped", "pending", "planned"),
        }
