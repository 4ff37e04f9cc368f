"""What can go wrong between this project and Popin, as exceptions that carry data.

    PopinError
    ├── PopinConfigError          a connection or a setting is unusable; nothing was sent
    ├── PopinInputError           an argument or a lead's field is unusable (also a ValueError)
    ├── PopinNotSentError         DNS, connect or TLS failure: no byte of the body left
    ├── PopinRateLimitError       429
    ├── PopinAccessError          401, 403 and every 4xx that blames the connection or the address
    ├── PopinRejectedError        Popin refused this one request (400, 409, 422, a status not 1)
    ├── PopinReplyError           a GET was answered with something unusable
    └── PopinOutcomeUnknownError  a POST was sent and nobody can say what became of it

No message and no attribute holds a phone number, an e-mail address, a name or a key: what Popin wrote is
redacted before it gets here.
"""

from __future__ import annotations

from collections.abc import Mapping


class PopinError(Exception):
    """The root of everything that this client raises.

    :param reason: a short code or a redacted sentence, at most 200 characters
    :param status: the HTTP status, if there was a reply
    :param field_errors: per field, what Popin wrote about it, redacted
    :param retry_after: seconds that Popin asked to wait, not clamped
    :param method: HTTP method of the request, if there was one
    :param path: path of the request below ``/api/v1``; a query may hold anything and is not kept

    ``conn_id`` is the Airflow connection that was used, once it is named.
    """

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        field_errors: Mapping[str, tuple[str, ...]] | None = None,
        retry_after: float | None = None,
        method: str | None = None,
        path: str | None = None,
    ) -> None:
        # Only the reason is in `args`: pickling calls the class with it and restores the rest from __dict__.
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.field_errors: Mapping[str, tuple[str, ...]] = dict(field_errors or {})
        self.retry_after = retry_after
        self.method = method
        self.path = path and path.partition("?")[0]
        self.conn_id: str | None = None

    def name_connection(self, conn_id: str) -> None:
        """Say which connection was used, unless one is named already.

        :param conn_id: its id.
        """
        self.conn_id = self.conn_id or conn_id

    def __str__(self) -> str:
        request = f"{self.method} {self.path}: " if self.method and self.path else ""
        where = f"connection {self.conn_id!r}: " if self.conn_id else ""
        status = f" (HTTP {self.status})" if self.status is not None else ""
        return f"{request}{where}{self.reason}{status}"


class PopinConfigError(PopinError):
    """A connection or a setting cannot be used; nothing was sent.

    :param reason: what is wrong, without the value
    :param conn_id: the Airflow connection id that the value came from
    :param field: the connection field or setting
    """

    def __init__(self, reason: str, *, conn_id: str | None = None, field: str | None = None) -> None:
        super().__init__(reason)
        self.conn_id = conn_id
        self.field = field

    def __str__(self) -> str:
        where = f"connection {self.conn_id!r}, " if self.conn_id else ""
        what = f"field {self.field!r}: " if self.field else ""
        return f"{where}{what}{self.reason}"


class PopinInputError(PopinError, ValueError):
    """An argument or a field of a lead cannot be used; nothing was sent.

    :param reason: what is wrong, without the value
    :param code: short code of the reason, for example ``phone_letters``
    :param field: the argument or lead field
    """

    def __init__(self, reason: str, *, code: str = "invalid", field: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.field = field

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        if self.conn_id:
            what = f", argument {self.field!r}" if self.field else ""
            where = f"connection {self.conn_id!r}{what}: "
        return f"{where}{self.reason} ({self.code})"


class PopinNotSentError(PopinError):
    """The request never reached Popin: no byte of its body left. Sending it again is safe."""


class PopinRateLimitError(PopinError):
    """Popin answered 429. Taken as not processed (an inference from Laravel's throttle, grade I)."""


class PopinAccessError(PopinError):
    """The connection or the address is wrong (401, 403, other 4xx): no lead is to blame, and going on is
    pointless.
    """


class PopinRejectedError(PopinError):
    """Popin refused this one request, and says so in a documented form."""


class PopinReplyError(PopinError):
    """A GET was answered with something unusable: 5xx, HTML, a redirect, or not as documented."""


class PopinOutcomeUnknownError(PopinError):
    """A POST was sent, and its outcome is unknown: it may or may not have taken effect. Never send it again
    blindly.
    """
