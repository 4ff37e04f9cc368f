"""From an Airflow connection to the client's settings: one pure function, no I/O, no secret in any message.

The same connection may come from the form (typed values), from JSON (typed or text) or from a URI, where
every extra is text (``"8"``, ``"false"``); all of them mean the same here.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from airflow_provider_popin.client.config import (
    DEFAULT_CONCURRENCY,
    DEFAULT_RATE,
    DEFAULT_TIMEOUT_SECONDS,
    POSTAL_CODE_FIELDS,
    PRODUCTION_URL,
    ClientConfig,
)
from airflow_provider_popin.client.errors import PopinConfigError

CONN_TYPE = "popin"

# Every extra the form offers; a test compares them with the declarative form.
EXTRA_FIELDS = (
    "timeout_seconds",
    "max_concurrency",
    "requests_per_second",
    "default_region",
    "postal_code_field",
    "account",
    "ledger_conn_id",
    "webhook_key",
    "proxy",
    "verify",
)

# The client's settings have names of their own; a message must name the field that a user sees.
_FIELD_OF_SETTING = {"base_url": "host", "seller_token": "login", "api_key": "password"}
_SCHEMES = ("https", "http")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_PATH = re.compile(r"[\w./~-]*", re.ASCII)
_LAST_PORT = 65535


class ConnectionLike(Protocol):
    """The fields of an Airflow connection that count here; the same in Airflow 2 and 3."""

    conn_type: str | None
    host: str | None
    schema: str | None
    login: str | None
    password: str | None
    port: int | None
    extra: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PopinConnection:
    """What one Airflow connection of type ``popin`` says.

    :param config: settings of the HTTP client.
    :param ledger_conn_id: id of the connection that holds the ledger; None if there is none.
    :param webhook_key: the key that Popin's webhooks must present; None if none is accepted.
    :param unknown_extras: names of extra fields that mean nothing here, sorted.
    """

    config: ClientConfig
    ledger_conn_id: str | None
    webhook_key: str | None = field(repr=False)
    unknown_extras: tuple[str, ...]


def read_connection(connection: ConnectionLike, *, conn_id: str) -> PopinConnection:
    """Turn an Airflow connection into settings.

    White space around values is dropped, an empty value is the default. Unknown extra fields are no error
    (a newer or older provider may share the connection), but their names are returned for a warning.

    :param connection: the connection, as Airflow returned it.
    :param conn_id: its id, for messages.
    :raises PopinConfigError: names the connection and the field that cannot be used, never its value.
    """
    if connection.conn_type != CONN_TYPE:
        # Else the password of a database, say, would be sent to Popin as the API key.
        raise _config_error(conn_id, "conn_type", f"is {connection.conn_type!r}, and must be {CONN_TYPE!r}")
    extras = _Extras(_parse_extra(connection.extra, conn_id), conn_id)
    return PopinConnection(
        config=_client_config(connection, extras, conn_id),
        ledger_conn_id=extras.text("ledger_conn_id"),
        webhook_key=extras.text("webhook_key"),
        unknown_extras=extras.unknown(),
    )


def _client_config(connection: ConnectionLike, extras: _Extras, conn_id: str) -> ClientConfig:
    try:
        return ClientConfig(
            conn_id=conn_id,
            base_url=_base_url(connection, conn_id),
            seller_token=_required(connection.login, conn_id, "login", "the seller token"),
            api_key=_required(connection.password, conn_id, "password", "the API key"),
            timeout_seconds=extras.number("timeout_seconds", DEFAULT_TIMEOUT_SECONDS),
            max_concurrency=extras.integer("max_concurrency", DEFAULT_CONCURRENCY),
            requests_per_second=extras.number("requests_per_second", DEFAULT_RATE),
            default_region=extras.text("default_region"),
            postal_code_field=extras.text("postal_code_field") or POSTAL_CODE_FIELDS[0],
            account=extras.text("account"),
            proxy=extras.text("proxy"),
            verify=extras.flag_or_path("verify", default=True),
        )
    except PopinConfigError as error:
        name = _FIELD_OF_SETTING.get(error.field or "", error.field)
        raise PopinConfigError(error.reason, conn_id=conn_id, field=name) from None


class _Extras:
    """Typed access to the extra fields; every problem is a :class:`PopinConfigError` naming the field."""

    def __init__(self, values: Mapping[str, object], conn_id: str) -> None:
        self._values = values
        self._conn_id = conn_id

    def text(self, name: str) -> str | None:
        """Return a text without surrounding white space; None when absent or empty."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise self._error(name, "must be text")
        return str(value).strip() or None

    def number(self, name: str, default: float) -> float:
        """Return a number, given as number or text."""
        value = self._values.get(name)
        if isinstance(value, str):
            value = value.strip() or None
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self._error(name, "must be a number")
        try:
            return float(value)
        except (ValueError, OverflowError):
            # From None: the text of a ValueError quotes the value.
            raise self._error(name, "must be a number") from None

    def integer(self, name: str, default: int) -> int:
        """Return a whole number, given as number or text (``8``, ``"8"``, ``8.0``)."""
        number = self.number(name, float(default))
        if not number.is_integer():
            raise self._error(name, "must be a whole number")
        return int(number)

    def flag_or_path(self, name: str, *, default: bool) -> bool | str:
        """Return a boolean (also as text), or any other text as it is: the path of a file."""
        value = self._values.get(name)
        if isinstance(value, bool):
            return value
        text = self.text(name)
        if text is None:
            return default
        if text.lower() in _TRUE:
            return True
        return False if text.lower() in _FALSE else text

    def unknown(self) -> tuple[str, ...]:
        """Return the names that are no field of this connection type."""
        return tuple(sorted(name for name in self._values if name not in EXTRA_FIELDS))

    def _error(self, name: str, problem: str) -> PopinConfigError:
        return _config_error(self._conn_id, name, problem)


def _parse_extra(extra: str | None, conn_id: str) -> Mapping[str, object]:
    """Parse the extra field; broken JSON is an error here, where Airflow would go on with the defaults."""
    if not extra or not extra.strip():
        return {}
    try:
        values = json.loads(extra)
    except ValueError:
        # From None: a JSONDecodeError carries the whole document, keys included.
        raise _config_error(conn_id, "extra", "is not valid JSON") from None
    if not isinstance(values, dict):
        raise _config_error(conn_id, "extra", "must be a JSON object")
    return values


def _required(value: str | None, conn_id: str, name: str, meaning: str) -> str:
    text = (value or "").strip()
    if not text:
        raise _config_error(conn_id, name, f"is empty; it must hold {meaning}")
    return text


def _base_url(connection: ConnectionLike, conn_id: str) -> str:
    """Join host, schema and port.

    A host that is a whole URL decides; ``schema`` may then continue its path, which is where Airflow puts the
    path of a URI like ``popin://http://token:key@127.0.0.1:8081/prefix``. Otherwise ``schema`` is the scheme.
    """
    host = (connection.host or "").strip() or PRODUCTION_URL
    schema = (connection.schema or "").strip().strip("/")
    if "://" not in host:
        return _url_of_bare_host(host, schema, connection.port, conn_id)
    parts = _split(host, conn_id)
    if parts.scheme.lower() not in _SCHEMES:
        raise _config_error(conn_id, "host", "must begin with https:// or http://")
    if schema.lower() in _SCHEMES:
        if schema.lower() != parts.scheme.lower():
            raise _config_error(conn_id, "schema", "contradicts the URL in host; leave it empty")
        schema = ""
    if not _PATH.fullmatch(schema) or (schema and not (connection.host or "").strip()):
        raise _config_error(conn_id, "schema", "must be empty, or a path that continues the URL in host")
    path = "/".join(part for part in (parts.path.strip("/"), schema) if part)
    port = _one_port(parts.port, connection.port, conn_id)
    return _assemble(parts.scheme.lower(), parts.hostname or "", port, path)


def _url_of_bare_host(host: str, schema: str, port: int | None, conn_id: str) -> str:
    if schema.lower() not in (*_SCHEMES, ""):
        raise _config_error(
            conn_id, "schema", "must be https or http; write a path into host, as part of a whole URL"
        )
    bare = f"[{host}]" if _is_ipv6(host) else host
    parts = _split(f"//{bare}", conn_id)
    if not parts.hostname or parts.path.strip("/"):
        raise _config_error(conn_id, "host", "must be a host name or a whole URL beginning with https://")
    return _assemble(schema.lower() or "https", parts.hostname, _one_port(parts.port, port, conn_id), "")


def _split(url: str, conn_id: str) -> SplitResult:
    """Split a URL, and refuse the parts that a base URL cannot have."""
    if not url.isprintable():
        # A line break or a tab would be dropped, and what is left might be another host.
        raise _config_error(conn_id, "host", "must not have line breaks or other control characters")
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed on access
    except ValueError:
        raise _config_error(conn_id, "host", "is not a valid URL") from None
    if not parts.hostname:
        raise _config_error(conn_id, "host", "names no host")
    if parts.port == 0:
        raise _config_error(conn_id, "host", "must not have the port 0")
    if parts.username is not None or parts.password is not None:
        raise _config_error(conn_id, "host", "must not hold credentials; they go to login and password")
    if parts.query or parts.fragment:
        raise _config_error(conn_id, "host", "must not have a query or a fragment")
    return parts


def _one_port(in_url: int | None, in_field: int | None, conn_id: str) -> int | None:
    if in_url is not None and in_field and in_url != in_field:
        raise _config_error(conn_id, "port", "contradicts the port in host; leave it empty")
    if in_field and not 0 < in_field <= _LAST_PORT:
        raise _config_error(conn_id, "port", f"must be a number from 1 to {_LAST_PORT}, or empty")
    return in_url or in_field or None


def _assemble(scheme: str, hostname: str, port: int | None, path: str) -> str:
    host = f"[{hostname}]" if ":" in hostname else hostname
    return f"{scheme}://{host}{f':{port}' if port else ''}{f'/{path}' if path else ''}"


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _config_error(conn_id: str, name: str, problem: str) -> PopinConfigError:
    return PopinConfigError(problem, conn_id=conn_id, field=name)
