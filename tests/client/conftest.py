"""Fixtures of the client's tests."""

from __future__ import annotations

import ipaddress
import os
import ssl

import pytest
from cryptography import x509

from tests.certificates import self_signed
from tests.client.support import Certificate


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for 127.0.0.1 that nobody trusts by default."""
    public, private = self_signed([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(public)
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return Certificate(str(folder / "cert.pem"), context)
