"""What others ask of the ledger about its leads, and the writes that decide about no state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from airflow_provider_popin.client.models import Slot
from airflow_provider_popin.sync.ledger import new_leads, record_sql, schema
from airflow_provider_popin.sync.ledger.events import BookingState, CaptureState, Ending, Record
from airflow_provider_popin.sync.ledger.ledger import CHUNK, chunks, clock

_leads = schema.leads.c


def families(
    connection: Connection, account: str, source: str, lead_ids: Sequence[str], *, lock: bool
) -> dict[str, list[Record]]:
    """All generations of some leads.

    :param lead_ids: of one chunk of rows
    :param lock: keep other writers off these records until the transaction ends
    :return: by lead id, ascending by generation
    """
    found: dict[str, list[Record]] = {}
    for chunk in chunks(sorted(set(lead_ids))):
        for record in record_sql.read_leads(connection, account, source, chunk, lock=lock):
            found.setdefault(record.lead_id, []).append(record)
    for family in found.values():
        family.sort(key=lambda record: record.generation)
    return found


def insert_leads(
    connection: Connection,
    account: str,
    source: str,
    leads: Sequence[Mapping[str, object]],
    now: float | None = None,
) -> dict[tuple[str, int], Record]:
    """Add leads that the ledger does not know; whoever comes second adds nothing.

    :param leads: ``lead_id``, ``generation`` and, for a claimed lead, ``claim_owner``, ``wish`` and
        ``fingerprint``
    :param now: by the database's clock; None asks it
    :return: by lead id and generation, as the ledger has them now, whoever added them; locked
    """
    if not leads:
        return {}
    # Ordered, so that two processes that read the same leads never wait for each other in a circle.
    ordered = sorted(leads, key=lambda lead: (str(lead["lead_id"]), str(lead["generation"])))
    if now is None:
        now = clock(connection)
    added = new_leads.insert(connection, account, source, ordered, now)
    if len(added) < len(leads):
        ids = [str(lead["lead_id"]) for lead in leads]
        known = families(connection, account, source, ids, lock=True)
        added = [record for family in known.values() for record in family]
    return {(record.lead_id, record.generation): record for record in added}


def gather_statistics(connection: Connection) -> None:
    """Let Postgres count the leads, if nobody has: without statistics it reads a whole source to find a few
    of its leads, and it begins to gather them by itself only after a minute.

    :param connection: in a write transaction
    """
    if connection.dialect.name != "postgresql":
        return
    never = sa.text(
        "SELECT last_analyze IS NULL AND last_autoanalyze IS NULL FROM pg_stat_all_tables"
        " WHERE relid = CAST(:leads AS regclass)"
    )
    if connection.execute(never, {"leads": schema.leads.name}).scalar():
        connection.execute(sa.text(f"ANALYZE {schema.leads.name}"))


def seats_taken(connection: Connection, account: str, starts: Sequence[int]) -> dict[int, set[int]]:
    """Seat numbers that are taken, by slot.

    :param starts: slots, epoch seconds UTC
    """
    seats = schema.seats.c
    taken: dict[int, set[int]] = {}
    for chunk in chunks(starts):
        query = sa.select(seats.slot_start, seats.number).where(
            seats.account == account, seats.slot_start.in_(chunk)
        )
        for start, number in connection.execute(query):
            taken.setdefault(start, set()).add(number)
    return taken


def free_seats(connection: Connection, account: str, slots: Sequence[Slot], calls_per_slot: int) -> list[int]:
    """How many seats are free, slot by slot.

    :param calls_per_slot: seats of one slot; bookings beyond our own numbering take seats as well
    """
    starts = [int(slot.start.timestamp()) for slot in slots]
    taken = seats_taken(connection, account, starts)
    return [max(0, calls_per_slot - len(taken.get(start, ()))) for start in starts]


def endings(connection: Connection, ids: Sequence[int]) -> dict[int, Ending]:
    """Where leads ended, by id.

    :param ids: at most 500
    """
    found = record_sql.read_endings(connection, ids) if ids else []
    return {ending.id: ending for ending in found}


def holders_of_customers(
    connection: Connection, account: str, customer_ids: Sequence[str]
) -> dict[str, list[tuple[str, str]]]:
    """Which leads hold these customers.

    :return: by customer id, pairs of source and lead id
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for chunk in chunks(customer_ids):
        query = sa.select(_leads.customer_id, _leads.source, _leads.lead_id).where(
            _leads.account == account, _leads.customer_id.in_(chunk)
        )
        for customer_id, source, lead_id in connection.execute(query):
            found.setdefault(customer_id, []).append((source, lead_id))
    return found


def unfinished(
    connection: Connection, account: str, source: str, after: int, not_claimed_by: str = ""
) -> list[Record]:
    """One page of a source's captured leads that have no call yet and no doubt.

    :param after: id of the last record of the page before, 0 to begin
    :param not_claimed_by: a run whose leads are left out
    """
    return _page(
        connection,
        after,
        _leads.claim_owner.is_distinct_from(not_claimed_by),
        _leads.account == account,
        _leads.source == source,
        _leads.capture_state == CaptureState.CAPTURED.value,
        _leads.customer_id.is_not(None),
        _leads.booking_state.in_([BookingState.WAITING.value, BookingState.UNASSIGNED.value]),
    )


def unwritten(connection: Connection, account: str, source: str, after: int) -> list[Record]:
    """One page of a source's leads whose last change was not written back; nothing that is under way.

    :param after: id of the last record of the page before, 0 to begin
    """
    return _page(
        connection,
        after,
        _leads.account == account,
        _leads.source == source,
        _leads.change > _leads.written,
        _leads.capture_state != CaptureState.SENDING.value,
        _leads.booking_state.notin_([BookingState.SENDING.value, BookingState.PLANNED.value]),
    )


def mark_written(connection: Connection, written: Sequence[tuple[int, int]]) -> None:
    """Note that changes were written back.

    :param written: pairs of record id and change number
    """
    if written:
        statement = (
            schema.leads.update()
            .where(_leads.id == sa.bindparam("record_id"), _leads.written < sa.bindparam("new_written"))
            .values(written=sa.bindparam("new_written"))
        )
        connection.execute(statement, [{"record_id": i, "new_written": change} for i, change in written])


def count_in_doubt(connection: Connection, account: str, source: str) -> int:
    """How many bookings are in doubt, from whatever run."""
    query = sa.select(sa.func.count()).where(
        _leads.account == account,
        _leads.source == source,
        _leads.booking_state == BookingState.IN_DOUBT.value,
    )
    return int(connection.execute(query).scalar_one())


@dataclass(frozen=True, slots=True)
class Troubles:
    """What one Dag run has done that a person must look at; of each the number and the first leads.

    :param in_doubt: bookings that became so, and those that a killed try left ``sending`` just now
    :param time_mismatch: bookings that were confirmed for another time
    :param alarm: leads that may have two calls
    :param reply_incomplete: how many confirmations lacked parts or a readable time
    """

    in_doubt: tuple[int, list[str]]
    time_mismatch: tuple[int, list[str]]
    alarm: tuple[int, list[str]]
    reply_incomplete: int


def troubles(connection: Connection, account: str, source: str, run: str, owner: str, named: int) -> Troubles:
    """Look up what a Dag run, in whatever try, has to tell, about leads of its last read or not.

    :param run: the Dag run
    :param owner: whose claims are those of the try that asks
    :param named: how many leads to name of each kind
    """
    cut_off = sa.and_(
        _leads.booking_state == BookingState.SENDING.value, _leads.run == run, _leads.claim_owner != owner
    )
    kinds: dict[str, sa.ColumnElement[bool]] = {
        "in_doubt": sa.or_(
            sa.and_(_leads.booking_state == BookingState.IN_DOUBT.value, _leads.doubt_run == run), cut_off
        ),
        "time_mismatch": sa.and_(_leads.run == run, _leads.time_mismatch),
        "alarm": sa.and_(sa.or_(_leads.run == run, _leads.doubt_run == run), _leads.alarm),
        "reply_incomplete": sa.and_(_leads.run == run, _leads.reply_incomplete),
    }
    of_source = sa.and_(_leads.account == account, _leads.source == source)
    counts = [sa.func.coalesce(sa.func.sum(sa.case((kind, 1), else_=0)), 0) for kind in kinds.values()]
    counted = dict(zip(kinds, connection.execute(sa.select(*counts).where(of_source)).one(), strict=True))

    def told(kind: str) -> tuple[int, list[str]]:
        query = sa.select(_leads.lead_id).where(of_source, kinds[kind]).order_by(_leads.id).limit(named)
        return int(counted[kind]), list(connection.execute(query).scalars()) if counted[kind] else []

    return Troubles(
        in_doubt=told("in_doubt"),
        time_mismatch=told("time_mismatch"),
        alarm=told("alarm"),
        reply_incomplete=int(counted["reply_incomplete"]),
    )


def _page(
    connection: Connection, after: int, *conditions: sa.sql.elements.ColumnElement[bool]
) -> list[Record]:
    query = (
        sa.select(*schema.record_columns)
        .where(*conditions, _leads.id > after)
        .order_by(_leads.id)
        .limit(CHUNK)
    )
    return [Record(*row) for row in connection.execute(query)]
