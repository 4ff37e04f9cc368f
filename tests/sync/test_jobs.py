"""What is sent, and what its outcome means for the ledger; and the counters of a run."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_popin.client.leads import make_lead
from airflow_provider_popin.client.models import Customer, ScheduledCall, Slot
from airflow_provider_popin.client.outcomes import Outcome, Verdict
from airflow_provider_popin.sync import progress as progress_module
from airflow_provider_popin.sync.jobs import BookingJob, CaptureJob, Sending
from airflow_provider_popin.sync.ledger.events import Answer, Settled, Step
from airflow_provider_popin.sync.progress import Progress
from airflow_provider_popin.sync.source.booking_wish import BookingWish

SLOT = Slot(datetime(2025, 9, 25, 9, 45, tzinfo=UTC), "Thu, 25 Sep 2025 03:15 PM")
SENDING = Sending("me", "dag/run 1/task", 30.0)
ANSWERS = [
    (Verdict.NOT_SENT, Answer.NOT_SENT),
    (Verdict.RATE_LIMITED, Answer.NOT_SENT),
    (Verdict.STOP, Answer.NOT_SENT),
    (Verdict.REJECTED, Answer.REJECTED),
    (Verdict.UNKNOWN, Answer.UNKNOWN),
]


def capture() -> CaptureJob:
    lead = make_lead(name="Ann Example", mobile="+12025550123", pincode="10001")
    return CaptureJob(7, "L1", 2, lead, BookingWish())


def booking(**changes: Any) -> BookingJob:
    values = {"customer_id": "MzE1", "slot": SLOT, "timezone": "Asia/Kolkata", **changes}
    return BookingJob(record=7, lead_id="L1", attempt=2, **values)


class TestCapture:
    def test_the_request_spells_the_postal_code_as_the_connection_says(self) -> None:
        assert json.loads(capture().request("pin_code").body or b"")["pin_code"] == "10001"

    def test_the_intent_carries_who_sends(self) -> None:
        intent = capture().intent(SENDING)
        assert (intent.id, intent.step, intent.attempt) == (7, Step.CAPTURE, 2)
        assert (intent.owner, intent.run, intent.timeout_seconds) == ("me", "dag/run 1/task", 30.0)
        assert not intent.resend

    @pytest.mark.parametrize(("verdict", "answer"), ANSWERS)
    def test_outcomes(self, verdict: Verdict, answer: Answer) -> None:
        event = capture().settled(Outcome(verdict, reason="why"), SENDING)
        assert (event.answer, event.reason, event.customer_id) == (answer, "why", None)

    def test_a_success_brings_the_customer(self) -> None:
        outcome = Outcome(Verdict.OK, Customer("MzE1", "https://live.example.com/1", True))
        event = capture().settled(outcome, SENDING)
        assert (event.answer, event.customer_id, event.join_url) == (
            Answer.SUCCESS,
            "MzE1",
            "https://live.example.com/1",
        )
        assert event.incomplete
        assert event.reason is None

    def test_what_must_not_be_shown_is_not(self) -> None:
        assert "Ann Example" in capture().personal()
        assert "Ann" not in repr(capture())
        assert capture().describe() == "capture of lead L1"


class TestBooking:
    def test_the_request(self) -> None:
        job = booking(agent=210, native=False, url="https://example.com/ring")
        assert json.loads(job.request("pincode").body or b"") == {
            "customer_id": "MzE1",
            "time": SLOT.time,
            "agent": 210,
            "native": False,
            "url": "https://example.com/ring",
        }

    @pytest.mark.parametrize("resend", [True, False])
    def test_the_intent_says_whether_it_is_sent_again(self, resend: bool) -> None:
        assert booking(resend=resend).intent(SENDING).resend is resend

    @pytest.mark.parametrize(("verdict", "answer"), ANSWERS)
    def test_outcomes(self, verdict: Verdict, answer: Answer) -> None:
        event = booking().settled(Outcome(verdict, reason="why"), SENDING)
        assert (event.answer, event.reason) == (answer, "why")
        assert (event.slot_start, event.slot_time, event.slot_timezone) == (
            int(SLOT.start.timestamp()),
            SLOT.time,
            "Asia/Kolkata",
        )

    def test_a_rejection_may_be_about_the_slot(self) -> None:
        event = booking().settled(Outcome(Verdict.REJECTED), SENDING, taken=True)
        assert event.answer is Answer.TAKEN

    @pytest.mark.parametrize(
        ("time", "timezone", "mismatch", "incomplete"),
        [
            ("Thu, Sep 25 | 03:15 PM", "Asia/Kolkata", False, False),
            ("Thu, Sep 25 | 03:45 PM", "Asia/Kolkata", True, False),
            ("Thu, Sep 25 | 03:15 PM", "America/New_York", True, False),
            ("Thu, Sep 25 | 03:15 PM", None, False, False),
            (None, "Asia/Kolkata", False, True),
            ("soon", "Asia/Kolkata", False, True),
            ("Thu, Sep 25 | 03:15 PM", "Mars/Olympus", False, True),
        ],
    )
    def test_a_success_may_name_another_time_or_none(
        self, time: str | None, timezone: str | None, mismatch: bool, incomplete: bool
    ) -> None:
        call = ScheduledCall(time=time, timezone=timezone, incomplete=time is None)
        event = booking().settled(Outcome(Verdict.OK, call), SENDING)
        assert event.answer is Answer.SUCCESS
        assert event.time_mismatch is mismatch
        assert event.incomplete is incomplete

    def test_it_is_described_so_that_it_can_be_found(self) -> None:
        assert booking().describe() == "booking of lead L1, customer MzE1, slot Thu, 25 Sep 2025 03:15 PM"
        assert booking().personal() == ()
        assert "MzE1" not in repr(booking())


class TestProgress:
    def settle(self, progress: Progress, step: Step, *answers: Answer) -> None:
        for answer in answers:
            progress.settled(Settled(1, step, 1, answer, "run"))

    def test_it_counts_what_is_durable(self) -> None:
        progress = Progress()
        self.settle(progress, Step.CAPTURE, Answer.SUCCESS, Answer.UNKNOWN, Answer.REJECTED)
        self.settle(progress, Step.BOOKING, Answer.SUCCESS, Answer.SUCCESS, Answer.UNKNOWN, Answer.TAKEN)
        assert (progress.captured, progress.booked, progress.in_doubt) == (1, 2, 2)

    def test_a_line_every_ten_seconds(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        now = [100.0]
        monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
        progress = Progress()
        progress.read, progress.to_book = 40, 30
        self.settle(progress, Step.BOOKING, *[Answer.SUCCESS] * 10)
        with caplog.at_level(logging.INFO, logger=progress_module.__name__):
            for seconds in (5.0, 9.9, 10.0, 15.0, 20.0):
                now[0] = 100.0 + seconds
                progress.tick()
        assert len(caplog.messages) == 2
        assert (
            "40 rows read, 0 captured, 10 booked, 20 left to book, 0 in doubt, 1.0 POSTs/s"
            in (caplog.messages[0])
        )
        assert progress.seconds() == 20.0
