"""How to reach one Popin account: the checked form of an Airflow connection of type ``popin``."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from airflow_provider_popin.client.errors import PopinConfigError

PRODUCTION_URL = "https://widget01.popin.to"
DEFAULT_TIMEOUT_SECONDS = 30.0
DEFAULT_CONCURRENCY = 8
DEFAULT_RATE = 5.0
POSTAL_CODE_FIELDS = ("pincode", "pin_code")
DEFAULT_PORTS = {"http": 80, "https": 443}

# Visible ASCII with inner spaces: everything else is either refused by the HTTP libraries or, above ASCII,
# encoded by one of them as Latin-1 and by the other as UTF-8.
_HEADER_TEXT = re.compile(r"[!-~]([ -~]*[!-~])?")
_URL_TEXT = re.compile(r"[!-~]+")
# Beyond these, clocks, threads and sockets of the platform refuse the number in the midst of a request.
_MOST_SECONDS = 3600.0
_MOST_CONCURRENCY = 10_000
_LEAST_RATE, _MOST_RATE = 0.001, 1e9


def region_code(value: object) -> str | None:
    """The ISO alpha-2 region that a text names, in capitals; None if it names none.

    :param value: anything
    """
    # Imported here: the metadata of phonenumbers is large, and who has no region needs none of it.
    import phonenumbers

    region = value.strip().upper() if isinstance(value, str) else ""
    return region if region in phonenumbers.SUPPORTED_REGIONS else None


def concurrency_problem(value: object) -> str | None:
    """What is wrong with a ``max_concurrency``; None if it can be used.

    :param value: anything
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_CONCURRENCY:
        return f"must be a whole number from 1 to {_MOST_CONCURRENCY}"
    return None


def rate_problem(value: object) -> str | None:
    """What is wrong with a ``requests_per_second``; None if it can be used.

    :param value: anything
    """
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if number == 0 or _LEAST_RATE <= number <= _MOST_RATE:
        return None
    return f"must be a number from {_LEAST_RATE:g} to {_MOST_RATE:g}, or 0 (no limit)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """One Popin account and the limits of talking to it.

    Every value is checked when the object is made; :class:`~.errors.PopinConfigError` names the connection
    and the field.

    :param base_url: ``scheme://host[:port][/prefix]``; ``/api/v1`` is appended unless it already ends in it
        (grade D)
    :param seller_token: sent as ``X-TOKEN`` (grade D)
    :param api_key: sent as ``X-API-KEY`` (grade D)
    :param conn_id: Airflow connection id, for error texts only
    :param timeout_seconds: limit for a whole exchange, from DNS to the last byte of the reply; at most 3600
    :param connect_timeout_seconds: limit for DNS, connect and TLS; never more than ``timeout_seconds``
    :param max_concurrency: how many requests a bulk sync may have under way at once, 1 to 10,000
    :param requests_per_second: client-side rate limit, 0.001 to 1e9, or 0 for none (Popin documents none,
        grade U)
    :param default_region: ISO alpha-2 region for phone numbers written without a country
    :param postal_code_field: ``pincode`` (grade D) or ``pin_code`` (grade P)
    :param account: stable name of the account in the ledger
    :param proxy: URL of an HTTP proxy; wins over the proxies of the environment
    :param verify: False turns the check of TLS certificates off, a text is the path of a CA bundle
    """

    base_url: str = PRODUCTION_URL
    seller_token: str = field(repr=False)
    api_key: str = field(repr=False)
    conn_id: str = "popin_default"
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    connect_timeout_seconds: float = 5.0
    max_concurrency: int = DEFAULT_CONCURRENCY
    requests_per_second: float = DEFAULT_RATE
    default_region: str | None = None
    postal_code_field: str = POSTAL_CODE_FIELDS[0]
    account: str | None = None
    proxy: str | None = field(default=None, repr=False)
    verify: bool | str = True

    def __post_init__(self) -> None:
        self._check_base_url()
        self._check_credentials()
        self._check_limits()
        self._check_region()
        self._check_names()
        self._check_transport()

    @property
    def account_key(self) -> str:
        """The account's name in the ledger: ``account``, else 16 hex digits over host and seller token."""
        if self.account is not None:
            return self.account
        parts = urlsplit(self.base_url)
        host = (parts.hostname or "").rstrip(".")
        port = parts.port
        if port is not None and port != DEFAULT_PORTS[parts.scheme]:
            host = f"{host}:{port}"
        return hashlib.sha256(f"{host}\n{self.seller_token}".encode()).hexdigest()[:16]

    def _error(self, name: str, reason: str) -> PopinConfigError:
        return PopinConfigError(reason, conn_id=self.conn_id, field=name)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_base_url(self) -> None:
        parts = self._split_url("base_url", self.base_url)
        if "@" in parts.netloc:
            raise self._error("base_url", "must not hold a user name or password")
        if parts.query or parts.fragment or "?" in self.base_url or "#" in self.base_url:
            raise self._error("base_url", "must not have a query or a fragment")
        prefix = parts.path.rstrip("/")
        self._set("base_url", f"{parts.scheme}://{parts.netloc.lower()}{prefix}")

    def _split_url(self, name: str, url: object) -> SplitResult:
        """Split a URL that must have the scheme http or https and a host."""
        if not isinstance(url, str) or not _URL_TEXT.fullmatch(url):
            raise self._error(name, "must be a URL without spaces or characters beyond ASCII")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise self._error(name, "is not a URL") from None
        if parts.scheme not in DEFAULT_PORTS or not parts.hostname or port == 0:
            raise self._error(name, "must begin with http:// or https:// and name a host")
        # The look-up of a label of another length is no failed look-up, but an encoding error.
        if not all(0 < len(label) < 64 for label in parts.hostname.removesuffix(".").split(".")):
            raise self._error(name, "has a host that no name server can know")
        return parts

    def _check_credentials(self) -> None:
        for name in ("seller_token", "api_key"):
            value: object = getattr(self, name)
            if value is None or value == "":
                raise self._error(name, "is missing")
            if not isinstance(value, str) or not _HEADER_TEXT.fullmatch(value):
                raise self._error(
                    name,
                    "must be ASCII text without line breaks or spaces around it, to be sent as a header",
                )

    def _check_limits(self) -> None:
        for name in ("timeout_seconds", "connect_timeout_seconds"):
            self._set(name, self._finite(name))
            if not 0 < getattr(self, name) <= _MOST_SECONDS:
                raise self._error(name, f"must be more than 0 and at most {_MOST_SECONDS:.0f} seconds")
        self._set("connect_timeout_seconds", min(self.connect_timeout_seconds, self.timeout_seconds))
        if problem := rate_problem(self.requests_per_second):
            raise self._error("requests_per_second", problem)
        self._set("requests_per_second", float(self.requests_per_second))
        if problem := concurrency_problem(self.max_concurrency):
            raise self._error("max_concurrency", problem)

    def _finite(self, name: str) -> float:
        value: object = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._error(name, "must be a number")
        try:
            number = float(value)
        except OverflowError:
            raise self._error(name, "must be a finite number") from None
        if not math.isfinite(number):
            raise self._error(name, "must be a finite number")
        return number

    def _check_region(self) -> None:
        if self.default_region is None or self.default_region == "":
            self._set("default_region", None)
            return
        region = region_code(self.default_region)
        if region is None:
            raise self._error("default_region", "must be an ISO alpha-2 region, for example IN")
        self._set("default_region", region)

    def _check_names(self) -> None:
        if self.postal_code_field not in POSTAL_CODE_FIELDS:
            raise self._error("postal_code_field", f"must be one of {', '.join(POSTAL_CODE_FIELDS)}")
        if self.account is None or self.account == "":
            self._set("account", None)
            return
        account: object = self.account
        if (
            not isinstance(account, str)
            or account != account.strip()
            or len(account) > 64
            or not account.isprintable()
        ):
            raise self._error(
                "account", "must be printable text of at most 64 characters, without spaces around it"
            )

    def _check_transport(self) -> None:
        if self.proxy == "":
            self._set("proxy", None)
        if self.proxy is not None:
            self._split_url("proxy", self.proxy)
        verify: object = self.verify
        if not isinstance(verify, bool) and not (isinstance(verify, str) and verify and "\0" not in verify):
            raise self._error("verify", "must be true, false or the path of a CA bundle")
