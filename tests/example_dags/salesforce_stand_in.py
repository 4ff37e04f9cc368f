"""A stand-in for Salesforce on loopback: TLS, the SOAP login and the paged query endpoint, behind a proxy.

The client library talks to ``https://<something>.salesforce.com`` and nothing else, so it is sent through a
proxy: this server takes its CONNECT, answers the handshake with a certificate for that name, and then is
Salesforce. Nothing in the client is replaced.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509

from tests.certificates import self_signed

SESSION_ID = "00Dxx0000000000!stand-in-session"
INSTANCE = "stand-in.my.salesforce.com"
_LOGIN = (
    '<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><loginResponse>'
    "<result><sessionId>{}</sessionId><serverUrl>https://{}/services/Soap/u/59.0</serverUrl></result>"
    "</loginResponse></e:Body></e:Envelope>"
)
_REFUSED = (
    '<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" '
    'xmlns:sf="urn:fault.partner.soap.sforce.com"><e:Body><e:Fault>'
    "<sf:exceptionCode>INVALID_LOGIN</sf:exceptionCode>"
    "<sf:exceptionMessage>Invalid username</sf:exceptionMessage>"
    "</e:Fault></e:Body></e:Envelope>"
)


class StandIn(ThreadingHTTPServer):
    """Salesforce with some leads.

    :param folder: where certificate and key are written.
    :param records: what a query returns, in pages.
    :param page_size: records of a page.
    :param password: the user's, with the security token at its end, as the SOAP login wants it.
    """

    daemon_threads = True

    def __init__(
        self, folder: Path, *, records: Sequence[dict[str, Any]], page_size: int, password: str
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.records = records
        self.page_size = page_size
        self.password = password
        self.queries: list[str] = []
        self.authority = folder / "authority.pem"
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(_make_certificate(folder, self.authority))

    @property
    def proxy(self) -> str:
        """The proxy's URL."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running(server: StandIn) -> Iterator[StandIn]:
    """Serve while the ``with`` block runs.

    :param server: not started yet.
    """
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if f"<n1:password>{self.server.password}</n1:password>" in body:
            self._answer(200, _LOGIN.format(SESSION_ID, INSTANCE), "text/xml")
        else:
            self._answer(500, _REFUSED, "text/xml")

    def do_GET(self) -> None:
        if self.headers["Authorization"] != f"Bearer {SESSION_ID}" or self.headers["Host"] != INSTANCE:
            self._answer(401, json.dumps([{"errorCode": "INVALID_SESSION_ID", "message": "expired"}]))
            return
        url = urlsplit(self.path)
        if "q" in parse_qs(url.query):
            self.server.queries.append(parse_qs(url.query)["q"][0])
            first = 0
        else:
            first = int(url.path.rpartition("-")[2])
        self._answer(200, json.dumps(self._page(first)))

    def finish(self) -> None:
        super().finish()
        # The TLS socket took the place of the one that the server knows and closes.
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def _page(self, first: int) -> dict[str, Any]:
        records, end = self.server.records, first + self.server.page_size
        page: dict[str, Any] = {
            "totalSize": len(records),
            "done": end >= len(records),
            "records": [
                {"attributes": {"type": "Lead", "url": "/services/data/x"}, **record}
                for record in records[first:end]
            ],
        }
        if not page["done"]:
            page["nextRecordsUrl"] = f"/services/data/v59.0/query/01gxx0000000001-{end}"
        return page

    def _answer(self, status: int, text: str, kind: str = "application/json") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _make_certificate(folder: Path, authority: Path) -> Path:
    """Write a certificate for ``*.salesforce.com`` with its key, signed by itself; return the path."""
    public, private = self_signed([x509.DNSName("*.salesforce.com"), x509.DNSName("*.my.salesforce.com")])
    authority.write_bytes(public)
    both = folder / "server.pem"
    both.write_bytes(public + private)
    return both
