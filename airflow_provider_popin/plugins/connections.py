"""Airflow connections, as the API server reads them: its database, the environment, a secrets backend.

Everything here blocks (a database, perhaps a remote secrets backend), so it never runs in the event loop.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowNotFoundException,
    BaseHook,
    conf,
)

from airflow_provider_popin.client.errors import PopinConfigError
from airflow_provider_popin.hooks.connection import CONN_TYPE, read_connection
from airflow_provider_popin.hooks.masking import mask_in_logs

log = logging.getLogger(__name__)

DEFAULT_CONN_ID = "popin_default"
_ENVIRONMENT_PREFIX = "AIRFLOW_CONN_"


class ConnectionsUnavailableError(Exception):
    """Connections cannot be read now: nothing is known about this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookConnection:
    """What the webhooks need of a connection of type ``popin``.

    :param conn_id: its id.
    :param account: its account in the ledger.
    :param ledger_conn_id: id of the connection that holds the ledger; None if there is none.
    :param key_digest: SHA-256 of the key that Popin must present; None where no key is configured, and
        nothing is accepted.
    :param secret: keys the fingerprints of bodies.
    """

    conn_id: str
    account: str
    ledger_conn_id: str | None
    key_digest: bytes | None = field(repr=False)
    secret: bytes = field(repr=False)

    def accepts(self, presented: bytes | None) -> bool:
        """Tell whether this is the key, in a time that tells nothing about how much of it is right.

        :param presented: the header's bytes; None if it was absent.
        """
        # Digests have one length: comparing keys themselves would tell theirs.
        given = hashlib.sha256(presented or b"").digest()
        equal = hmac.compare_digest(given, self.key_digest or bytes(32))
        return equal and presented is not None and self.key_digest is not None


def read_webhook_connection(conn_id: str) -> WebhookConnection | None:
    """Read one connection. Blocking.

    :param conn_id: any text. A connection of the environment has the id that :func:`listed_conn_ids` names.
    :return: None where there is no usable connection of type ``popin`` with this id.
    :raises ConnectionsUnavailableError: Airflow's database or the secrets backend did not answer.
    """
    if conn_id != conn_id.lower() and _ENVIRONMENT_PREFIX + conn_id.upper() in os.environ:
        # Airflow finds it under any capitalization: one connection would answer, and store, under many ids.
        return None
    try:
        connection = BaseHook.get_connection(conn_id)
        if connection.conn_type != CONN_TYPE:
            return None
        settings = read_connection(connection, conn_id=conn_id)
    except AirflowNotFoundException:
        # Airflow says the same when its database is away.
        if not _database_answers():
            raise ConnectionsUnavailableError from None
        return None
    except PopinConfigError as error:
        log.error("Webhooks of this connection are refused until it is corrected: %s", error)
        return None
    except AirflowException as error:
        log.warning("Airflow cannot read a connection: %s", type(error).__name__)
        raise ConnectionsUnavailableError from None
    key = settings.webhook_key
    if key is not None:
        # Its name is none that Airflow's masker takes for a secret.
        mask_in_logs([key])
    return WebhookConnection(
        conn_id=conn_id,
        account=settings.config.account_key,
        ledger_conn_id=settings.ledger_conn_id,
        key_digest=None if key is None else hashlib.sha256(key.encode()).digest(),
        secret=settings.config.api_key.encode(),
    )


def list_webhook_connections() -> list[WebhookConnection]:
    """Read every connection of type ``popin`` that can be found. Blocking.

    A secrets backend cannot be asked for a list: of its connections only ``popin_default`` and those that
    ``[popin] connections`` names are found.

    :raises ConnectionsUnavailableError: Airflow's database did not answer.
    """
    found = []
    for conn_id in sorted({DEFAULT_CONN_ID} | named_conn_ids() | listed_conn_ids()):
        # One that cannot be read now must not hide the others.
        with suppress(ConnectionsUnavailableError):
            if (connection := read_webhook_connection(conn_id)) is not None:
                found.append(connection)
    return found


def named_conn_ids() -> set[str]:
    """Ids that the setting ``[popin] connections`` names, whether or not there are such connections."""
    names = conf.get("popin", "connections", fallback=DEFAULT_CONN_ID) or ""
    return {name.strip() for name in names.split(",") if name.strip()}


def listed_conn_ids() -> set[str]:
    """Ids of the Popin connections that can be listed: of Airflow's database and the environment. Blocking.

    :raises ConnectionsUnavailableError: Airflow's database did not answer.
    """
    return _in_environment() | _in_database()


def connection_digest(conn_id: str) -> bytes:
    """Return a value that changes when a connection is changed. Blocking.

    :param conn_id: of any type.
    :raises ConnectionsUnavailableError: it cannot be read now, or is not there.
    """
    try:
        uri: str = BaseHook.get_connection(conn_id).get_uri()
    except AirflowException:
        raise ConnectionsUnavailableError from None
    return hashlib.sha256(uri.encode()).digest()


def _in_environment() -> set[str]:
    """Ids of the environment's connections that may be Popin's: a URI, or JSON that names the type."""
    return {
        name.removeprefix(_ENVIRONMENT_PREFIX).lower()
        for name, value in os.environ.items()
        if name.startswith(_ENVIRONMENT_PREFIX) and (value.startswith("popin") or '"popin"' in value)
    }


def _in_database() -> set[str]:
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_session() as session:
            ids = session.scalars(select(Connection.conn_id).where(Connection.conn_type == CONN_TYPE))
            return {str(conn_id) for conn_id in ids}
    except SQLAlchemyError:
        raise ConnectionsUnavailableError from None


def _database_answers() -> bool:
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with create_session() as session:
            session.execute(select(1))
    except SQLAlchemyError:
        return False
    return True
