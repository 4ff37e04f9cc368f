"""What a run wrote last of the leads that it is sending: the next step needs no reading under a lock.

Every POST has two events in the ledger, and almost always nobody else touches the lead meanwhile. So the
record is kept in memory, ``states`` decides on it, and the change is written only where ``updated_at`` is
still what it was: every accepted event makes it larger, whoever applied it. Where it is not, where the state
machine refuses, and where a change concerns more than the record itself (seats, history), nothing is written
here; :meth:`.ledger.Ledger.apply` reads the records anew, under a lock, and has the last word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy.engine import Connection

from airflow_provider_popin.sync.ledger import record_sql, states
from airflow_provider_popin.sync.ledger.events import Answer, Effects, Event, Intent, Record, Settled
from airflow_provider_popin.sync.ledger.ledger import Ledger


class KnownRecords:
    """Records by id, as far as they are known. Used by one writer.

    :param ledger: that has them
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._records: dict[int, Record] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._records

    def remember(self, records: Iterable[Record]) -> None:
        """Know these from now on.

        :param records: as they were committed; :meth:`apply` changes them in place, nobody else does
        """
        self._records.update((record.id, record) for record in records)

    def forget(self, ids: Iterable[int]) -> None:
        """Know these no more.

        :param ids: of records whose next event is far away, or whose state nobody knows
        """
        for key in ids:
            self._records.pop(key, None)

    def forget_settled(self, events: Iterable[Event]) -> None:
        """Forget whose step has ended: until the next one, if there is one, much time may pass.

        :param events: that were applied
        """
        self.forget(
            event.id
            for event in events
            if not isinstance(event, Intent)
            and not (isinstance(event, Settled) and event.answer is Answer.NOT_SENT)
        )

    def apply(self, connection: Connection, events: Sequence[Event]) -> list[bool]:
        """Apply events that concern known records only. Records that are not written are known no more.

        :param connection: in a write transaction, or one that commits each statement
        :param events: in order
        :return: for each event whether it was accepted and written. All False: nothing has been decided.
            A single one is False where somebody else has changed the record in the meantime; only then may
            an outcome become durable after an intent that was handed in with it.
        """
        changes = self._changes(connection, events)
        if changes is None:
            return [False] * len(events)
        written = record_sql.write_unless_changed(connection, changes)
        self.remember(record for _, record in changes if record.id in written)
        return [event.id in written for event in events]

    def _changes(self, connection: Connection, events: Sequence[Event]) -> list[record_sql.Change] | None:
        """What events come to, if it can be told from memory. Their records are taken out of it, and changed.

        :param connection: any open connection, to ask for the time
        :param events: in order
        :return: what each record held, and the record; None if a single event needs the lock. What is handed
            in together must not be torn: an outcome that became durable after the next lead's intent would
            let a crash leave more leads in doubt than were under way.
        """
        now, effects = self._ledger.now(connection), Effects()
        changes: dict[int, record_sql.Change] = {}
        for event in events:
            if event.id not in changes:
                known = self._records.pop(event.id, None)
                if known is None:
                    return None
                changes[event.id] = known.values(), known
            _, record = changes[event.id]
            if not isinstance(event, (Intent, Settled)) or not states.apply(record, event, effects, now):
                return None
        return None if effects else list(changes.values())
