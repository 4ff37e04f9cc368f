"""Which Popin connections there are, and the ledger behind each; what is wrong is said with its remedy.

Called in worker threads of the API server, where Airflow reads connections as a server does: from a secrets
backend, the environment, and its own database.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa
from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException, BaseHook

from airflow_provider_popin.client.errors import PopinConfigError
from airflow_provider_popin.hooks.connection import read_connection
from airflow_provider_popin.hooks.ledger import sql_engine
from airflow_provider_popin.plugins.connections import (
    DEFAULT_CONN_ID,
    ConnectionsUnavailableError,
    listed_conn_ids,
    named_conn_ids,
)
from airflow_provider_popin.sync.errors import LedgerError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger.ledger import Ledger

_log = logging.getLogger(__name__)


class TroubleError(Exception):
    """The page has nothing to show; told to the user as it stands.

    :param title: what is wrong.
    :param remedy: what to do about it.
    :param new: nothing is broken, everything is still to be set up.
    """

    def __init__(self, title: str, remedy: str, *, new: bool = False) -> None:
        super().__init__(title)
        self.title = title
        self.remedy = remedy
        self.new = new


@dataclass(frozen=True, slots=True)
class OpenLedger:
    """One Popin account and its ledger.

    :param conn_id: of the Popin connection.
    :param ledger_conn_id: of the database.
    :param account: the account's name in the ledger.
    :param ledger: open.
    """

    conn_id: str
    ledger_conn_id: str
    account: str
    ledger: Ledger


def connection_ids() -> list[str]:
    """Return the ids of the Popin connections: those of Airflow's database and the environment, and those of
    a secrets backend, which cannot be listed, as far as ``[popin] connections`` names them.

    :raises TroubleError: Airflow's database does not answer.
    """
    named = named_conn_ids()
    try:
        listed = listed_conn_ids()
    except ConnectionsUnavailableError:
        raise TroubleError("Airflow's database does not answer", "Try again in a moment.") from None
    if DEFAULT_CONN_ID in named - listed and not _exists(DEFAULT_CONN_ID):
        # Named by default; where it is not in use, nobody wants to hear that it is absent.
        named.discard(DEFAULT_CONN_ID)
    return sorted(named | listed)


class ShownLedgers:
    """The ledgers that were looked at, kept open between requests; an edited connection counts at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By connection: the digest of its address, and the ledger there.
        self._open: dict[str, tuple[str, Ledger]] = {}

    def open(self, conn_id: str) -> OpenLedger:
        """Return the ledger of a Popin connection; create none.

        :param conn_id: id of the Popin connection.
        :raises TroubleError: there is no such ledger, or it cannot be read now.
        """
        try:
            settings = read_connection(BaseHook.get_connection(conn_id), conn_id=conn_id)
        except AirflowNotFoundException:
            raise TroubleError(
                f"There is no connection {conn_id}",
                "Create it under Admin, Connections, with the type Popin, or take it out of the setting "
                "[popin] connections.",
            ) from None
        except PopinConfigError as error:
            raise _unusable(conn_id, error) from None
        if settings.ledger_conn_id is None:
            raise TroubleError(
                f"The connection {conn_id} names no ledger",
                "Edit it under Admin, Connections: the field Ledger connection takes the id of the SQLite or "
                "Postgres connection that your Dags give as ledger_conn_id.",
            )
        ledger = self._ledger(settings.ledger_conn_id)
        return OpenLedger(conn_id, settings.ledger_conn_id, settings.config.account_key, ledger)

    def close(self) -> None:
        """Close every database connection."""
        with self._lock:
            opened = list(self._open.values())
            self._open.clear()
        for _, ledger in opened:
            ledger.engine.dispose()

    def _ledger(self, conn_id: str) -> Ledger:
        try:
            connection = BaseHook.get_connection(conn_id)
            # Whoever edits the connection wants the page to follow.
            address = hashlib.sha256(repr(connection.get_uri()).encode()).hexdigest()
            with self._lock:
                known_address, known = self._open.get(conn_id, ("", None))
            return known if known and known_address == address else self._find(conn_id, address)
        except AirflowNotFoundException:
            raise TroubleError(
                f"There is no connection {conn_id}",
                "A Popin connection names it as its ledger. Create it under Admin, Connections: a SQLite or "
                "Postgres database.",
            ) from None
        except PopinConfigError as error:
            raise _unusable(conn_id, error) from None
        except (LedgerError, ImportError, AirflowException, OSError, sa.exc.SQLAlchemyError) as error:
            raise unreadable(conn_id, error) from None

    def _find(self, conn_id: str, address: str) -> Ledger:
        ledger = Ledger.find(sql_engine(conn_id))
        if ledger is None:
            raise TroubleError(
                "No leads yet",
                f"The ledger {conn_id} does not exist yet: the first run of a lead sync makes it.",
                new=True,
            )
        with self._lock:
            _, outdated = self._open.get(conn_id, ("", None))
            self._open[conn_id] = address, ledger
        if outdated:
            outdated.engine.dispose()
        return ledger


def unreadable(conn_id: str, error: Exception) -> TroubleError:
    """Say that a ledger cannot be read. The database's own words go to the log: they name hosts and users.

    :param conn_id: of the database.
    :param error: what it answered.
    """
    _log.warning("The ledger behind the connection %s cannot be read: %s", conn_id, error)
    if isinstance(error, LedgerUnreachableError) or not isinstance(error, (LedgerError, ImportError)):
        return TroubleError(
            f"The ledger {conn_id} does not answer",
            f"Is its database running, and does the connection {conn_id} hold the right address and "
            "password? The API server's log has what the database said.",
        )
    return TroubleError(f"The ledger {conn_id} cannot be used", f"{str(error)[:1].upper()}{str(error)[1:]}.")


def _unusable(conn_id: str, error: PopinConfigError) -> TroubleError:
    where = (
        f"the field {error.field} of the connection {conn_id}" if error.field else f"the connection {conn_id}"
    )
    return TroubleError(f"The connection {conn_id} cannot be used", f"Correct {where}: it {error.reason}.")


def _exists(conn_id: str) -> bool:
    with suppress(AirflowNotFoundException):
        return BaseHook.get_connection(conn_id) is not None
    return False
