"""What senders know about bytes: when the first one left, to whom it may go, how many may come back, how
they are unpacked.
"""

from __future__ import annotations

import os
import ssl
import threading
import zlib

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from airflow_provider_popin.client.clock import boot_seconds
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinConfigError

MAX_BODY_BYTES = 4 * 1024 * 1024

# zlib detects by itself whether the bytes are gzip or zlib.
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class SendRefusedError(Exception):
    """The gate did not open: the body must not be written. Not an OSError, so that no library takes it for
    its own.
    """


class SendGate:
    """Stands before the body of one request, and knows exactly whether it was let out.

    The body object that an HTTP library is given passes the gate when the library asks for its first byte.
    Before that, Popin cannot have acted on the request; after that, nobody can say. Thread-safe.

    :param not_after: value of :func:`~.clock.boot_seconds` after which the body must not be written, None for
        no limit
    """

    def __init__(self, not_after: float | None = None) -> None:
        self._not_after = not_after
        self._lock = threading.Lock()
        self._shut = False
        self._sent = False
        self._late = False

    @property
    def sent(self) -> bool:
        """Whether the first byte was asked for."""
        return self._sent

    @property
    def late(self) -> bool:
        """Whether the body was held back because its time was over."""
        return self._late

    def is_late(self) -> bool:
        """Whether the time to send is over by now."""
        return is_late(self._not_after)

    def open(self) -> None:
        """Let the body out.

        :raises SendRefusedError: it is too late, or somebody gave up waiting
        """
        with self._lock:
            if self._shut:
                raise SendRefusedError
            if self.is_late():
                self._late = self._shut = True
                raise SendRefusedError
            self._sent = True

    def shut(self) -> bool:
        """Never let the body out from now on.

        :return: whether it is out already
        """
        with self._lock:
            self._shut = True
            return self._sent


def is_late(not_after: float | None) -> bool:
    """Whether a body must not be written any more.

    :param not_after: value of :func:`~.clock.boot_seconds`, None for no limit
    """
    return not_after is not None and boot_seconds() > not_after


def unpack(body: bytes, encoding: str | None, max_bytes: int = MAX_BODY_BYTES) -> bytes | str:
    """The body of a reply without its content encoding.

    No encoding is asked for; a server that applies one nevertheless is understood, within the same limit of
    size.

    :param body: bytes as they came
    :param encoding: the ``Content-Encoding`` header
    :param max_bytes: how large the result may be
    :return: the bytes, or the reason of a failure: ``body_too_large``, ``bad_reply``
    """
    name = (encoding or "identity").strip().lower()
    # Nothing is nothing in every encoding: a 401 without a body is a 401.
    if not body or name in ("", "identity"):
        return body
    if name not in ("gzip", "x-gzip", "deflate"):
        return "bad_reply"
    for window in (_GZIP_OR_ZLIB, -zlib.MAX_WBITS):
        unpacker = zlib.decompressobj(window)
        try:
            plain = unpacker.decompress(body, max_bytes + 1)
        except zlib.error:
            # Some servers mean raw deflate by "deflate".
            continue
        if len(plain) > max_bytes:
            return "body_too_large"
        return plain if unpacker.eof else "bad_reply"
    return "bad_reply"


def tls_context(config: ClientConfig) -> ssl.SSLContext:
    """What to check certificates with, the same for both senders: ``verify``, else the bundle that requests
    would use.

    Reads files.

    :param config: with ``verify``; False checks nothing
    :raises PopinConfigError: the bundle cannot be read
    """
    if config.verify is False:
        unchecked = ssl.create_default_context()
        unchecked.check_hostname = False
        unchecked.verify_mode = ssl.CERT_NONE
        return unchecked
    bundle = (
        config.verify
        if isinstance(config.verify, str)
        else os.environ.get("REQUESTS_CA_BUNDLE")
        or os.environ.get("CURL_CA_BUNDLE")
        or DEFAULT_CA_BUNDLE_PATH
    )
    try:
        if os.path.isdir(bundle):
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except OSError:
        raise PopinConfigError("is no readable CA bundle", conn_id=config.conn_id, field="verify") from None
