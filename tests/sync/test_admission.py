"""What becomes of a row, by what the ledger knows about its lead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_popin.client.leads import make_lead
from airflow_provider_popin.sync.admission import (
    Action,
    Decision,
    ResultSet,
    Situation,
    decide,
    final_result,
)
from airflow_provider_popin.sync.ledger.events import Ending, Record
from airflow_provider_popin.sync.source.booking_wish import BookingWish
from airflow_provider_popin.sync.source.rows import BadRow, LeadRow

RUN, EARLIER = "dag/run 2/task", "dag/run 1/task"
NOW = Situation(dag_run=RUN, books=True, resend=False, owner="me", live_owners=frozenset({"me", "other"}))
CAPTURE_ONLY = replace(NOW, books=False)
SCHEDULE_ONLY = replace(NOW, captures=False)
RESENDING = replace(NOW, resend=True)


def good(*, generation: int = 1, customer_id: str | None = None, fingerprint: str = "new") -> LeadRow:
    lead = make_lead(name="Ann Example", mobile="+12025550123") if customer_id is None else None
    return LeadRow(
        lead_id="L1",
        generation=generation,
        lead=lead,
        customer_id=customer_id,
        wish=BookingWish(),
        fingerprint=fingerprint,
        phone_column=None,
    )


def bad(*, generation: int = 1, fingerprint: str = "new") -> BadRow:
    return BadRow(
        lead_id="L1", generation=generation, reason="phone_letters", field="mobile", fingerprint=fingerprint
    )


def known(state: str, **changes: Any) -> Record:
    """A record of an earlier run, held by nobody."""
    capture, _, booking = state.partition("/")
    record = Record(7, "L1", 1, capture, booking or "waiting", 2, run=EARLIER, fingerprint="old")
    if capture == "captured":
        record.customer_id = "C1"
    return replace(record, **changes)


CAPTURE, BOOK, RESEND = Decision(Action.CAPTURE), Decision(Action.BOOK), Decision(Action.RESEND)
NOTHING = Decision(Action.NOTHING)


def ends(result: str, reason: str | None = None) -> Decision:
    return Decision(Action.NOTHING, ResultSet(result), reason)


def refuse(reason: str) -> Decision:
    return Decision(Action.REFUSE, reason=reason)


ELSEWHERE = ends("pending", "claimed_elsewhere")

SITUATIONS: list[tuple[str, LeadRow | BadRow, list[Record], Situation, Decision]] = [
    # unknown to the ledger
    ("new", good(), [], NOW, CAPTURE),
    ("new, capture only", good(), [], CAPTURE_ONLY, CAPTURE),
    ("new, schedule only", good(), [], SCHEDULE_ONLY, ends("pending", "not_captured")),
    ("new with its customer", good(customer_id="C1"), [], NOW, BOOK),
    ("new with its customer, schedule only", good(customer_id="C1"), [], SCHEDULE_ONLY, BOOK),
    ("new with its customer, capture only", good(customer_id="C1"), [], CAPTURE_ONLY, NOTHING),
    ("bad", bad(), [], NOW, refuse("phone_letters")),
    # capture not done
    ("known, not sent yet", good(), [known("new")], NOW, CAPTURE),
    ("capture in doubt is sent again", good(), [known("in_doubt")], NOW, CAPTURE),
    ("capture in doubt, now with its customer", good(customer_id="C1"), [known("in_doubt")], NOW, BOOK),
    ("capture in doubt, bad now", bad(), [known("in_doubt")], NOW, refuse("phone_letters")),
    ("capture being sent", good(), [known("sending")], NOW, ELSEWHERE),
    ("capture being sent, bad now", bad(), [known("sending")], NOW, ELSEWHERE),
    # rejected
    (
        "unchanged since its rejection",
        good(fingerprint="old"),
        [known("rejected", reason="phone_letters")],
        NOW,
        ends("skipped", "unchanged_since_rejection"),
    ),
    (
        "rejected in an earlier try of this run",
        good(fingerprint="old"),
        [known("rejected", reason="phone_letters", run=RUN)],
        NOW,
        ends("rejected", "phone_letters"),
    ),
    (
        "bad and unchanged",
        bad(fingerprint="old"),
        [known("rejected", reason="phone_letters")],
        NOW,
        ends("skipped", "unchanged_since_rejection"),
    ),
    ("corrected", good(), [known("rejected")], NOW, CAPTURE),
    ("changed, but bad still", bad(), [known("rejected")], NOW, refuse("phone_letters")),
    ("rejected by a single booking", good(), [known("rejected", fingerprint=None)], NOW, CAPTURE),
    (
        "booking rejected, unchanged",
        good(fingerprint="old"),
        [known("captured/rejected")],
        NOW,
        ends("skipped", "unchanged_since_rejection"),
    ),
    ("booking rejected, corrected", good(), [known("captured/rejected")], NOW, BOOK),
    # captured
    ("captured earlier", good(), [known("captured")], NOW, BOOK),
    ("captured, found no slot", good(), [known("captured/unassigned")], NOW, BOOK),
    ("captured, bad now", bad(), [known("captured")], NOW, refuse("phone_letters")),
    (
        "captured earlier, capture only",
        good(),
        [known("captured")],
        CAPTURE_ONLY,
        ends("skipped", "already_captured"),
    ),
    (
        "captured in this run, capture only",
        good(),
        [known("captured", run=RUN)],
        CAPTURE_ONLY,
        ends("captured"),
    ),
    (
        "captured, planned by a run that is gone",
        good(),
        [known("captured/planned", claim_owner="gone")],
        NOW,
        BOOK,
    ),
    ("forgotten", good(), [known("captured", customer_id=None)], NOW, ends("skipped", "forgotten")),
    (
        "forgotten, named again",
        good(customer_id="C1"),
        [known("captured", customer_id=None)],
        NOW,
        ends("skipped", "forgotten"),
    ),
    # claims
    ("claimed by a live run", good(), [known("captured", claim_owner="other")], NOW, ELSEWHERE),
    ("claimed by a live run, bad here", bad(), [known("captured", claim_owner="other")], NOW, ELSEWHERE),
    ("claimed by a run that is gone", good(), [known("captured", claim_owner="gone")], NOW, BOOK),
    ("claimed by this run", good(), [known("captured", claim_owner="me")], NOW, BOOK),
    ("new, claimed by a live run", good(), [known("new", claim_owner="other")], NOW, ELSEWHERE),
    (
        "in doubt, though the run that sent it holds it still",
        good(),
        [known("captured/in_doubt", reason="read_timeout", claim_owner="other")],
        NOW,
        ends("in_doubt", "read_timeout"),
    ),
    (
        "in doubt, a live run may be about to resend it",
        good(),
        [known("captured/in_doubt", claim_owner="other")],
        RESENDING,
        ELSEWHERE,
    ),
    # booked
    ("booked earlier", good(), [known("captured/booked")], NOW, ends("skipped", "already_booked")),
    ("booked earlier, bad now", bad(), [known("captured/booked")], NOW, ends("skipped", "already_booked")),
    ("booked in this run", good(), [known("captured/booked", run=RUN)], NOW, ends("booked")),
    (
        "booked, its claim still live",
        good(),
        [known("captured/booked", claim_owner="other")],
        NOW,
        ends("skipped", "already_booked"),
    ),
    ("being booked", good(), [known("captured/sending")], NOW, ELSEWHERE),
    # in doubt
    ("in doubt", good(), [known("captured/in_doubt", reason="http_500")], NOW, ends("in_doubt", "http_500")),
    (
        "in doubt, bad now",
        bad(),
        [known("captured/in_doubt", reason="http_500")],
        NOW,
        ends("in_doubt", "http_500"),
    ),
    ("in doubt, resend", good(), [known("captured/in_doubt", doubt_run=EARLIER)], RESENDING, RESEND),
    (
        "in doubt, resend, no booking asked for",
        good(),
        [known("captured/in_doubt", doubt_run=EARLIER)],
        replace(RESENDING, books=False),
        ends("in_doubt"),
    ),
    (
        "in doubt of this run",
        good(),
        [known("captured/in_doubt", doubt_run=RUN)],
        RESENDING,
        ends("in_doubt"),
    ),
    ("in doubt, resent before", good(), [known("captured/in_doubt", resends=1)], RESENDING, ends("in_doubt")),
    ("in doubt under alarm", good(), [known("captured/in_doubt", alarm=True)], RESENDING, ends("in_doubt")),
    (
        "in doubt, claimed elsewhere",
        good(),
        [known("captured/in_doubt", claim_owner="other")],
        RESENDING,
        ELSEWHERE,
    ),
    # generations
    ("next generation, first one booked", good(generation=2), [known("captured/booked")], NOW, CAPTURE),
    ("next generation, first one rejected", good(generation=2), [known("rejected")], NOW, CAPTURE),
    ("next generation, its booking rejected", good(generation=2), [known("captured/rejected")], NOW, CAPTURE),
    (
        "next generation, first one waits",
        good(generation=2),
        [known("captured")],
        NOW,
        ends("pending", "earlier_generation_unfinished"),
    ),
    (
        "next generation, first one unassigned",
        good(generation=2),
        [known("captured/unassigned")],
        NOW,
        ends("pending", "earlier_generation_unfinished"),
    ),
    (
        "next generation, first one in doubt",
        good(generation=2),
        [known("captured/in_doubt")],
        NOW,
        ends("pending", "earlier_generation_unfinished"),
    ),
    (
        "next generation, bad, first one waits",
        bad(generation=2),
        [known("captured")],
        NOW,
        ends("pending", "earlier_generation_unfinished"),
    ),
    (
        "next generation, bad, first one booked",
        bad(generation=2),
        [known("captured/booked")],
        NOW,
        refuse("phone_letters"),
    ),
    (
        "two before it, the older unfinished",
        good(generation=3),
        [known("captured"), known("captured/booked", generation=2)],
        NOW,
        ends("pending", "earlier_generation_unfinished"),
    ),
    (
        "older than the newest",
        good(),
        [known("captured/booked"), known("new", generation=2)],
        NOW,
        ends("skipped", "older_generation"),
    ),
    ("older and unknown", good(), [known("new", generation=2)], NOW, ends("skipped", "older_generation")),
    (
        "older and in doubt",
        good(),
        [known("captured/in_doubt"), known("new", generation=2)],
        NOW,
        ends("skipped", "older_generation"),
    ),
]


@pytest.mark.parametrize(
    ("row", "family", "situation", "decision"),
    [case[1:] for case in SITUATIONS],
    ids=[case[0] for case in SITUATIONS],
)
def test_decisions(
    row: LeadRow | BadRow, family: list[Record], situation: Situation, decision: Decision
) -> None:
    assert decide(row, family, situation) == decision


@pytest.mark.parametrize(
    ("state", "situation", "expected"),
    [
        ("captured/booked", NOW, ("booked", "why")),
        ("captured/rejected", NOW, ("rejected", "why")),
        ("captured/in_doubt", NOW, ("in_doubt", "why")),
        ("captured/sending", NOW, ("in_doubt", "why")),
        ("captured/unassigned", NOW, ("unassigned", "why")),
        ("captured/waiting", NOW, ("pending", "why")),
        ("captured/planned", NOW, ("pending", "why")),
        ("captured/waiting", CAPTURE_ONLY, ("captured", None)),
        ("captured/booked", CAPTURE_ONLY, ("booked", "why")),
        ("rejected/waiting", NOW, ("rejected", "why")),
        ("in_doubt/waiting", NOW, ("in_doubt", "why")),
        ("sending/waiting", NOW, ("in_doubt", "why")),
        ("new/waiting", NOW, ("pending", "why")),
        ("new/waiting", CAPTURE_ONLY, ("pending", "why")),
    ],
)
def test_where_a_row_ends(state: str, situation: Situation, expected: tuple[str, str | None]) -> None:
    assert final_result(ending(known(state, reason="why")), situation) == expected


def ending(record: Record) -> Ending:
    return Ending(*[getattr(record, name) for name in Ending._fields])


def test_a_capture_in_doubt_has_a_reason() -> None:
    assert final_result(ending(known("sending")), NOW) == ("in_doubt", "capture_in_doubt")
