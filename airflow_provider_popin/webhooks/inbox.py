"""Durable receipt of webhooks: many deliveries share a transaction, an identical body is one event."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.ledger import Ledger
from airflow_provider_popin.webhooks.events import CallEvent

DUPLICATE_SECONDS = 24 * 3600.0
# More than this waiting for the database means that it does not keep up.
MAX_WAITING = 2_000


class InboxFullError(LedgerError):
    """The database does not keep up: nothing was taken, deliver again later."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """A delivery is durable.

    :param event_id: of the event in the ledger's database.
    :param duplicate: an identical body came on this connection within 24 hours; ``event_id`` is that event.
    """

    event_id: int
    duplicate: bool


class Inbox:
    """Takes deliveries for one ledger. Thread-safe; its thread starts with the first delivery.

    :param ledger: where events are kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def submit(
        self, *, conn_id: str, account: str, body: bytes, event: CallEvent, key: bytes
    ) -> Future[Receipt]:
        """Hand in one delivery; what is handed in together shares a transaction.

        :param conn_id: the Popin connection that it was delivered to.
        :param account: ``ClientConfig.account_key`` of that connection.
        :param body: as received; only its HMAC is stored.
        :param event: what :func:`.envelopes.parse_event` made of it.
        :param key: for the HMAC; a bare hash of a body would let phone numbers be tried out.
        :return: done when the event is durable, or a :class:`~airflow_provider_popin.sync.errors.LedgerError`.
            For an event loop: ``await asyncio.wrap_future(...)``.
        :raises InboxFullError: too much is waiting already, or the inbox is closed.
        """
        raise NotImplementedError

    def receive(
        self,
        *,
        conn_id: str,
        account: str,
        body: bytes,
        event: CallEvent,
        key: bytes,
        timeout_seconds: float = 30.0,
    ) -> Receipt:
        """Hand in one delivery and wait until it is durable. Parameters as for :meth:`submit`.

        :param timeout_seconds: how long to wait for the database.
        :raises InboxFullError: too much is waiting already.
        :raises LedgerError: the database did not take it, or not in time; it may take it after all.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Write what was handed in, and end the thread."""
        raise NotImplementedError
