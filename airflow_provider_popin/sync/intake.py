"""Rows go in, in chunks: claimed in the ledger, captured, and handed on to the planner as compact tuples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy.engine import Connection

from airflow_provider_popin.client.outcomes import Outcome
from airflow_provider_popin.sync.admission import Action, Decision, ResultSet, Situation, decide
from airflow_provider_popin.sync.jobs import BookingJob, CaptureJob, Job
from airflow_provider_popin.sync.ledger import leases, ledger_queries
from airflow_provider_popin.sync.ledger.events import (
    Adopted,
    Answer,
    CaptureState,
    Claimed,
    Corrected,
    Event,
    Record,
    Refused,
    Settled,
)
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.planning.planner import Openings, Waiting
from airflow_provider_popin.sync.source.booking_wish import BookingWish
from airflow_provider_popin.sync.source.rows import BadRow, LeadRow

Row = LeadRow | BadRow


@dataclass(slots=True)
class Admitted:
    """One row after admission.

    :param decision: what is done with it
    :param record: the ledger's record, None where nothing was stored (dry run, or not taken in)
    """

    row: Row
    decision: Decision
    record: Record | None = None


@dataclass(slots=True)
class Limit:
    """``limit=N``: how many leads may still be sent.

    :param left: None for any number
    :param openings: what a lead that only waits for its booking must find; None where nothing is booked
    """

    left: int | None
    openings: Openings | None = None

    def hold_back(self, wish: BookingWish | None) -> Decision | None:
        """Where a lead ends that is not sent in this run; None if it may be, and has taken a place.

        A booking that could have no seat takes no place: it would take it in each run, until nobody else is
        ever sent.

        :param wish: of a lead that only waits for its booking
        """
        if self.left is None:
            return None
        if wish is not None and self.openings is not None:
            reason = self.openings.why_none(wish.window())
            if reason is not None:
                return Decision(Action.NOTHING, ResultSet.UNASSIGNED, reason)
        self.left -= 1
        return None if self.left >= 0 else Decision(Action.NOTHING, ResultSet.PENDING, "limit")


class Admission:
    """Decides about chunks of rows inside ledger transactions.

    :param ledger: None in a dry run without a ledger
    :param account: the account's name in the ledger
    :param source: the source's name
    :param situation: what is the same for all rows
    :param limit: shared with whoever else sends leads of this run
    """

    def __init__(
        self, *, ledger: Ledger | None, account: str, source: str, situation: Situation, limit: Limit
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._source = source
        self._situation = situation
        self._limit = limit

    def preview(self, connection: Connection | None, rows: Sequence[Row]) -> list[Admitted]:
        """Decide and store nothing.

        :param connection: None where there is no ledger
        """
        families: dict[str, list[Record]] = {}
        if connection is not None:
            ids = [row.lead_id for row in rows if row.lead_id is not None]
            families = ledger_queries.families(connection, self._account, self._source, ids, lock=False)
        holders = self._holders(connection, rows) if connection is not None else {}
        return [self._decided(row, families.setdefault(row.lead_id or "", []), holders) for row in rows]

    def admit(self, connection: Connection, rows: Sequence[Row]) -> list[Admitted]:
        """Decide, and store claims and refusals.

        :param connection: in a write transaction
        :param rows: with usable identities, each lead and generation once
        """
        if self._ledger is None:
            raise RuntimeError("a dry run admits nothing")
        limit_before = self._limit.left
        try:
            return self._admit(connection, self._ledger, rows)
        except BaseException:
            self._limit.left = limit_before
            raise

    def _admit(self, connection: Connection, ledger: Ledger, rows: Sequence[Row]) -> list[Admitted]:
        ids = [row.lead_id or "" for row in rows]
        families = ledger_queries.families(connection, self._account, self._source, ids, lock=True)
        if any(self._is_foreign(record) for family in families.values() for record in family):
            # Runs that began after this one hold their leads as well.
            live = leases.live_owners(connection)
            self._situation = replace(self._situation, live_owners=live)
        holders = self._holders(connection, rows)
        admitted = [self._decided(row, families.setdefault(row.lead_id or "", []), holders) for row in rows]
        new = [a for a in admitted if a.record is None and _is_stored(a)]
        stored = ledger_queries.insert_leads(
            connection,
            self._account,
            self._source,
            [self._new_lead(a) for a in new],
            ledger.now(connection),
        )
        for one in new:
            one.record = stored.get((one.row.lead_id or "", one.row.generation or 1))
        self._store(connection, ledger, admitted, {id(a) for a in new})
        return admitted

    def _is_foreign(self, record: Record) -> bool:
        """Whether another run has claimed this lead, live or not."""
        return record.claim_owner not in (None, self._situation.owner)

    def _store(
        self, connection: Connection, ledger: Ledger, admitted: Sequence[Admitted], new: set[int]
    ) -> None:
        steps: list[tuple[Admitted, Event]] = []
        for one in admitted:
            if one.record is None or not _is_stored(one):
                continue
            claims = id(one) in new and one.decision.action is not Action.REFUSE
            if claims and one.record.claim_owner != self._situation.owner:
                one.decision = Decision(Action.NOTHING, ResultSet.PENDING, "claimed_elsewhere")
                continue
            steps.extend((one, event) for event in self._events(one, one.record, id(one) in new))
        if not steps:
            return  # as in most chunks of a first run, whose claims are inserted with the leads
        accepted = ledger.apply(connection, self._account, [event for _, event in steps])
        for (one, event), ok in zip(steps, accepted, strict=True):
            if not ok and isinstance(event, Claimed | Refused):
                one.decision = Decision(Action.NOTHING, ResultSet.PENDING, "claimed_elsewhere")

    def _decided(self, row: Row, family: list[Record], holders: dict[str, tuple[str, str]]) -> Admitted:
        record = next((known for known in family if known.generation == (row.generation or 1)), None)
        decision = decide(self._without_foreign_customer(row, record, holders), family, self._situation)
        if decision.action in (Action.CAPTURE, Action.BOOK, Action.RESEND):
            only_booked = row.wish if decision.action is Action.BOOK and isinstance(row, LeadRow) else None
            decision = self._limit.hold_back(only_booked) or decision
        admitted = Admitted(row, decision, record)
        if record is None and _is_stored(admitted):
            family.append(
                _to_be(row, decision)
            )  # another generation of this lead may follow in the same chunk
        return admitted

    def _without_foreign_customer(
        self, row: Row, record: Record | None, holders: dict[str, tuple[str, str]]
    ) -> Row:
        """A row that names a customer of another lead is bad: two leads would share one customer's calls."""
        if isinstance(row, BadRow) or row.customer_id is None:
            return row
        if record is not None and record.customer_id == row.customer_id:
            return row
        holder = holders.setdefault(row.customer_id, (self._source, row.lead_id))
        reason = None
        if holder != (self._source, row.lead_id):
            reason = "customer_id_of_other_lead"
        elif record is not None and record.customer_id not in (None, row.customer_id):
            reason = "customer_id_changed"
        if reason is None:
            return row
        return BadRow(
            lead_id=row.lead_id,
            generation=row.generation,
            reason=reason,
            field="customer_id",
            fingerprint=row.fingerprint,
        )

    def _holders(self, connection: Connection, rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
        customers = [
            row.customer_id for row in rows if isinstance(row, LeadRow) and row.customer_id is not None
        ]
        found = ledger_queries.holders_of_customers(connection, self._account, customers)
        return {customer: holders[0] for customer, holders in found.items()}

    def _new_lead(self, one: Admitted) -> dict[str, object]:
        lead: dict[str, object] = {"lead_id": one.row.lead_id, "generation": one.row.generation or 1}
        if isinstance(one.row, LeadRow) and one.decision.action is not Action.REFUSE:
            lead |= {
                "claim_owner": self._situation.owner,
                "wish": one.row.wish.to_json(),
                "fingerprint": one.row.fingerprint,
            }
        return lead

    def _events(self, one: Admitted, record: Record, is_new: bool) -> list[Event]:
        row = one.row
        if one.decision.action is Action.REFUSE or isinstance(row, BadRow):
            reason = one.decision.reason or "invalid"
            return [Refused(record.id, reason, row.fingerprint, self._situation.dag_run)]
        events: list[Event] = []
        if CaptureState.REJECTED in (record.capture_state, record.booking_state):
            events.append(Corrected(record.id))
        if row.customer_id is not None and record.customer_id is None:
            events.append(Adopted(record.id, row.customer_id, self._situation.dag_run))
        if not is_new:
            live = self._situation.live_owners
            wish, fingerprint = row.wish.to_json(), row.fingerprint
            events.append(Claimed(record.id, record.attempt, self._situation.owner, live, wish, fingerprint))
        return events


def _is_stored(one: Admitted) -> bool:
    return one.decision.action is not Action.NOTHING or one.decision.result is None


def _to_be(row: Row, decision: Decision) -> Record:
    record = Record(0, row.lead_id or "", row.generation or 1)
    if decision.action is Action.REFUSE:
        record.capture_state = CaptureState.REJECTED
    return record


@dataclass
class CaptureDesk:
    """Hands captured leads on to the planner.

    :param books: whether they are to be booked
    :param waiting: collects what the planner needs, nothing else of a lead stays in memory
    :param on_done: told about every durable outcome
    """

    books: bool
    on_done: Callable[[Job, Settled], None]
    waiting: list[Waiting] = field(default_factory=list)

    def wanted(self, job: Job) -> bool:
        """A lead that waits for its capture is always wanted."""
        return True

    async def is_taken(self, job: BookingJob, outcome: Outcome) -> bool:
        """A capture has no slot."""
        return False

    def done(self, job: Job, event: Settled, accepted: bool) -> None:
        """Remember a captured lead for the planner."""
        self.on_done(job, event)
        if self.books and event.answer is Answer.SUCCESS and accepted and isinstance(job, CaptureJob):
            self.waiting.append(waiting_for(job.record, job.lead_id, job.wish))

    def in_doubt(self, job: Job) -> None:
        """A registration may be sent again; nothing is held for it."""

    def dropped(self, job: Job) -> None:
        """The run stopped; the lead stays new."""


def capture_job(row: LeadRow, record: Record) -> CaptureJob:
    """The POST that registers a lead.

    :param row: with a lead
    :param record: claimed by this run
    """
    if row.lead is None:
        raise ValueError("a row that names its customer has nothing to capture")
    return CaptureJob(
        record=record.id,
        lead_id=row.lead_id,
        attempt=record.attempt,
        lead=row.lead,
        wish=row.wish,
    )


def waiting_for(key: int, lead_id: str, wish: BookingWish) -> Waiting:
    """The planner's tuple for one lead.

    :param key: how the plan shall name it
    """
    return Waiting(key=key, priority=wish.priority, lead_id=lead_id, window=wish.window())
