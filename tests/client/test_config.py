"""What a connection may hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client.config import PRODUCTION_URL, ClientConfig
from airflow_provider_popin.client.errors import PopinConfigError


def config(**values: Any) -> ClientConfig:
    return ClientConfig(**{"seller_token": "51", "api_key": "secret-key", **values})


def test_the_utmost() -> None:
    made = config(timeout_seconds=3600, requests_per_second=0.001, max_concurrency=10_000)
    assert (made.timeout_seconds, made.requests_per_second) == (3600.0, 0.001)


def test_defaults() -> None:
    made = config()
    assert made.base_url == PRODUCTION_URL == "https://widget01.popin.to"
    assert (made.timeout_seconds, made.connect_timeout_seconds) == (30.0, 5.0)
    assert (made.max_concurrency, made.requests_per_second) == (8, 5.0)
    assert (made.default_region, made.account, made.proxy, made.verify) == (None, None, None, True)


def test_repr_shows_no_secret() -> None:
    shown = repr(config(seller_token="token-51", proxy="http://user:proxy-pass@127.0.0.1:1"))
    assert "secret-key" not in shown
    assert "token-51" not in shown
    assert "proxy-pass" not in shown


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("https://widget01.popin.to/", "https://widget01.popin.to"),
        ("HTTPS://Widget01.Popin.TO", "https://widget01.popin.to"),
        ("http://127.0.0.1:8081/prefix//", "http://127.0.0.1:8081/prefix"),
        ("https://popin.example/api/v1/", "https://popin.example/api/v1"),
        ("http://[::1]:8081", "http://[::1]:8081"),
    ],
)
def test_base_urls(given_url: str, kept: str) -> None:
    assert config(base_url=given_url).base_url == kept


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_url", ""),
        ("base_url", None),
        ("base_url", "widget01.popin.to"),
        ("base_url", "ftp://widget01.popin.to"),
        ("base_url", "https://"),
        ("base_url", "https://user:pass@widget01.popin.to"),
        ("base_url", "https://@widget01.popin.to"),
        ("base_url", "https://widget01.popin.to?x=1"),
        ("base_url", "https://widget01.popin.to#x"),
        ("base_url", "https://widget01.popin.to?"),
        ("base_url", "https://widget01 popin.to"),
        ("base_url", "https://widget01.popin.to\n"),
        ("base_url", "https://popin.to:99999"),
        ("base_url", "https://popin.to:0"),
        ("base_url", "https://popin.to:x"),
        ("base_url", "https://[::1"),
        ("base_url", "https://a..b"),
        ("base_url", "https://" + "a" * 64 + ".to"),
        ("base_url", "https://münchen.example"),
        ("seller_token", ""),
        ("seller_token", None),
        ("seller_token", 51),
        ("api_key", ""),
        ("api_key", "a\r\nX-Evil: 1"),
        ("api_key", "a\nb"),
        ("api_key", "key\u20ac"),
        ("api_key", "kéy"),
        ("api_key", " key"),
        ("api_key", "key "),
        ("api_key", "a\0"),
        ("timeout_seconds", 0),
        ("timeout_seconds", -1),
        ("timeout_seconds", float("nan")),
        ("timeout_seconds", float("inf")),
        ("timeout_seconds", True),
        ("timeout_seconds", "30"),
        ("timeout_seconds", 10**400),
        ("connect_timeout_seconds", 0),
        ("max_concurrency", 0),
        ("max_concurrency", 1.5),
        ("max_concurrency", True),
        ("max_concurrency", "8"),
        ("requests_per_second", -1),
        ("requests_per_second", float("inf")),
        ("requests_per_second", None),
        ("default_region", "XX"),
        ("default_region", "India"),
        ("default_region", 91),
        ("postal_code_field", "zip"),
        ("postal_code_field", None),
        ("account", " a"),
        ("account", "a" * 65),
        ("account", "a\nb"),
        ("account", 5),
        ("proxy", "127.0.0.1:3128"),
        ("proxy", "socks5://127.0.0.1"),
        ("proxy", 5),
        ("verify", ""),
        ("verify", None),
        ("verify", "a\0b"),
        ("verify", 1),
    ],
)
def test_refused(field: str, value: object) -> None:
    with pytest.raises(PopinConfigError) as caught:
        config(conn_id="my_popin", **{field: value})
    error = caught.value
    assert (error.conn_id, error.field) == ("my_popin", field)
    assert "my_popin" in str(error)
    assert field in str(error)
    assert error.__cause__ is None
    if isinstance(value, str) and len(value) > 4 and field in ("api_key", "seller_token"):
        assert value not in str(error)


def test_normal_forms() -> None:
    made = config(default_region="in", timeout_seconds=2, account="", proxy="")
    assert (made.default_region, made.account, made.proxy) == ("IN", None, None)
    assert (made.timeout_seconds, made.connect_timeout_seconds) == (2.0, 2.0)
    assert config(default_region="").default_region is None
    assert config(requests_per_second=0).requests_per_second == 0.0
    assert config(verify=False).verify is False
    assert config(proxy="http://user:pass@127.0.0.1:3128").proxy == "http://user:pass@127.0.0.1:3128"


def test_account_key() -> None:
    key = config().account_key
    assert len(key) == 16
    assert key != "51"
    # Another one is another account: its ledger would book everybody again.
    assert key == "169ac01e9bd26e52"
    assert key == config(base_url="https://widget01.popin.to:443/", api_key="another").account_key
    assert key == config(base_url="https://Widget01.popin.to.").account_key
    assert key == config(base_url="https://widget01.popin.to/api/v1").account_key
    assert key != config(seller_token="52").account_key
    assert key != config(base_url="https://widget01.popin-sandbox.com").account_key
    assert key != config(base_url="https://widget01.popin.to:8443").account_key
    assert config(account="shop one").account_key == "shop one"
    assert config(account="x" * 64).account_key == "x" * 64


@given(st.text(max_size=30), st.text(max_size=20))
def test_what_is_accepted_is_safe_as_a_header(key: str, token: str) -> None:
    try:
        made = config(api_key=key, seller_token=token)
    except PopinConfigError:
        return
    for value in (made.api_key, made.seller_token):
        assert value.isascii()
        assert value.isprintable()
        assert value == value.strip() != ""


@given(st.text(max_size=40) | st.from_regex(r"https?://[a-z0-9.:\[\]-]{0,20}(/[a-z]*)?"))
def test_any_base_url(url: str) -> None:
    try:
        made = config(base_url=url)
    except PopinConfigError:
        return
    assert made.base_url.startswith(("http://", "https://"))
    assert made.account_key
