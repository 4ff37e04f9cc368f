"""What a connection means, from every place that Airflow reads one from. No database is involved."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from typing import Any
from urllib.parse import urlencode

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinConfigError
from airflow_provider_popin.get_provider_info import get_provider_info
from airflow_provider_popin.hooks.connection import EXTRA_FIELDS, PopinConnection, read_connection
from airflow_provider_popin.hooks.popin import PopinHook
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.hooks.extras import extra_is_handed_on

_LOGIN = {"conn_type": "popin", "login": SELLER_TOKEN, "password": API_KEY}
_AUTH = f"{SELLER_TOKEN}:{API_KEY}"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return ``read(value)``: what a hook makes of the environment variable of its connection."""

    def read(value: str | dict[str, Any]) -> PopinConnection:
        text = value if isinstance(value, str) else json.dumps({**_LOGIN, **value})
        monkeypatch.setenv("AIRFLOW_CONN_SHOP", text)
        return PopinHook(popin_conn_id="shop").settings

    return read


def test_the_least_that_works_means_production_and_the_documented_defaults(read: Any) -> None:
    settings = read({})

    assert settings.config == ClientConfig(seller_token=SELLER_TOKEN, api_key=API_KEY, conn_id="shop")
    assert settings.config.base_url == "https://widget01.popin.to"
    assert (settings.ledger_conn_id, settings.webhook_key, settings.unknown_extras) == (None, None, ())


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "popin.example"}, "https://popin.example"),
        ({"host": " popin.example \n"}, "https://popin.example"),
        ({"host": "popin.example", "port": 8443}, "https://popin.example:8443"),
        ({"host": "popin.example", "port": 65535}, "https://popin.example:65535"),
        ({"host": "popin.example:8443"}, "https://popin.example:8443"),
        ({"host": "popin.example", "schema": "http"}, "http://popin.example"),
        ({"host": "popin.example", "schema": " HTTPS "}, "https://popin.example"),
        ({"host": "http://127.0.0.1:8081"}, "http://127.0.0.1:8081"),
        ({"host": "http://127.0.0.1", "port": 8081}, "http://127.0.0.1:8081"),
        ({"host": "http://127.0.0.1:8081", "port": 8081}, "http://127.0.0.1:8081"),
        ({"host": "https://popin.example:8443/prefix/"}, "https://popin.example:8443/prefix"),
        ({"host": "https://popin.example", "schema": "https"}, "https://popin.example"),
        ({"host": "https://popin.example/a", "schema": "b/c"}, "https://popin.example/a/b/c"),
        ({"host": "HTTPS://popin.example"}, "https://popin.example"),
        ({"host": "::1", "schema": "http", "port": 8081}, "http://[::1]:8081"),
        ({"host": "http://[::1]:8081"}, "http://[::1]:8081"),
        ({"host": "", "schema": "", "port": None}, "https://widget01.popin.to"),
        ({"host": "   "}, "https://widget01.popin.to"),
    ],
)
def test_host_schema_and_port_make_one_url(read: Any, fields: dict[str, Any], url: str) -> None:
    assert read(fields).config.base_url == url


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        (f"popin://{_AUTH}@", "https://widget01.popin.to"),
        (f"popin://{_AUTH}@popin.example", "https://popin.example"),
        (f"popin://{_AUTH}@popin.example:8443/http", "http://popin.example:8443"),
        (f"popin://http://{_AUTH}@127.0.0.1:8081", "http://127.0.0.1:8081"),
        (f"popin://http://{_AUTH}@127.0.0.1:8081/prefix", "http://127.0.0.1:8081/prefix"),
        (f"popin://{_AUTH}@http%3A%2F%2F127.0.0.1%3A8081%2Fprefix", "http://127.0.0.1:8081/prefix"),
    ],
)
def test_a_uri_means_the_same_as_the_form(read: Any, uri: str, url: str) -> None:
    config = read(uri).config

    assert (config.base_url, config.seller_token, config.api_key) == (url, SELLER_TOKEN, API_KEY)


def test_a_connection_survives_the_way_over_its_own_uri(read: Any) -> None:
    made = Connection(
        conn_id="shop",
        conn_type="popin",
        login=SELLER_TOKEN,
        password=API_KEY,
        host="https://popin.example:8443/prefix",
    )

    assert read(made.get_uri()).config.base_url == "https://popin.example:8443/prefix"


_ALL_EXTRAS = {
    "timeout_seconds": 12.5,
    "max_concurrency": 3,
    "requests_per_second": 0,
    "default_region": "in",
    "postal_code_field": "pin_code",
    "account": "main shop",
    "ledger_conn_id": "popin_ledger",
    "webhook_key": "webhook-key-3f21",
    "proxy": "http://127.0.0.1:3128",
    "verify": False,
}


def _assert_all_extras(settings: PopinConnection) -> None:
    config = settings.config
    assert (config.timeout_seconds, config.connect_timeout_seconds) == (12.5, 5.0)
    assert (config.max_concurrency, config.requests_per_second) == (3, 0.0)
    assert (config.default_region, config.postal_code_field) == ("IN", "pin_code")
    assert (config.account, config.account_key) == ("main shop", "main shop")
    assert (config.proxy, config.verify) == ("http://127.0.0.1:3128", False)
    assert (settings.ledger_conn_id, settings.webhook_key) == ("popin_ledger", "webhook-key-3f21")


def test_extras_as_typed_json(read: Any) -> None:
    _assert_all_extras(read({"extra": _ALL_EXTRAS}))


def test_extras_as_text_as_a_form_or_a_uri_has_them(read: Any) -> None:
    texts = {name: f" {str(value).lower()} " for name, value in _ALL_EXTRAS.items()}
    _assert_all_extras(read({"extra": texts}))
    _assert_all_extras(read({"extra": json.dumps(texts)}))
    _assert_all_extras(read(f"popin://{_AUTH}@/?{urlencode(_ALL_EXTRAS)}"))


def test_empty_extras_are_the_defaults(read: Any) -> None:
    assert read({"extra": dict.fromkeys(EXTRA_FIELDS, "")}) == read({})
    assert read({"extra": dict.fromkeys(EXTRA_FIELDS, "  ")}) == read({})
    assert read({"extra": dict.fromkeys(EXTRA_FIELDS)}) == read({})


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("true", True),
        ("False", False),
        ("0", False),
        ("yes", True),
        (True, True),
        ("/etc/ca.pem", "/etc/ca.pem"),
    ],
)
def test_verify_is_a_boolean_or_a_path(read: Any, value: object, meant: object) -> None:
    assert read({"extra": {"verify": value}}).config.verify == meant


def test_white_space_around_token_and_key_is_dropped(read: Any) -> None:
    config = read({"login": f" {SELLER_TOKEN}\n", "password": f"\t{API_KEY} "}).config

    assert (config.seller_token, config.api_key) == (SELLER_TOKEN, API_KEY)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"login": None}, "login"),
        ({"conn_type": "http"}, "conn_type"),
        ({"conn_type": "postgres", "host": ""}, "conn_type"),
        ({"login": "  "}, "login"),
        ({"password": None}, "password"),
        ({"password": f"{API_KEY}\r\nX-Evil: 1"}, "password"),
        ({"login": f"{SELLER_TOKEN}é"}, "login"),
        ({"host": "ftp://popin.example"}, "host"),
        ({"host": "popin.example/path"}, "host"),
        ({"host": f"https://{_AUTH}@popin.example"}, "host"),
        ({"host": "https://someone@popin.example"}, "host"),
        ({"host": "https://popin.example?a=1"}, "host"),
        ({"host": "https://popin.example#a"}, "host"),
        ({"host": "https://"}, "host"),
        ({"host": "https://popin.example:port"}, "host"),
        ({"host": "https://popin exa\u0301mple"}, "host"),
        ({"host": "https://[::1"}, "host"),
        ({"host": "https://popin.example:1", "port": 2}, "port"),
        ({"host": "https://popin.example", "port": 65536}, "port"),
        ({"host": "popin.example", "port": -1}, "port"),
        ({"host": "https://popin.example:99999"}, "host"),
        ({"host": "popin.example", "schema": "prefix"}, "schema"),
        ({"host": "https://popin.example", "schema": "http"}, "schema"),
        ({"host": "popin.exam\nple"}, "host"),
        ({"host": "popin.exam\tple"}, "host"),
        ({"host": "popin.example:0"}, "host"),
        ({"host": "https://popin.example", "schema": "a b"}, "schema"),
        ({"host": "https://popin.example", "schema": "a?b"}, "schema"),
        ({"host": "https://popin.example", "schema": "préfix"}, "schema"),
        ({"schema": "prefix"}, "schema"),
        pytest.param({"extra": "{broken"}, "extra", marks=extra_is_handed_on),
        pytest.param({"extra": "[1]"}, "extra", marks=extra_is_handed_on),
        ({"extra": {"timeout_seconds": "soon"}}, "timeout_seconds"),
        ({"extra": {"timeout_seconds": True}}, "timeout_seconds"),
        ({"extra": {"timeout_seconds": 0}}, "timeout_seconds"),
        ({"extra": {"timeout_seconds": "nan"}}, "timeout_seconds"),
        ({"extra": {"timeout_seconds": 10**400}}, "timeout_seconds"),
        ({"extra": {"timeout_seconds": 1e10}}, "timeout_seconds"),
        ({"extra": {"max_concurrency": 1.5}}, "max_concurrency"),
        ({"extra": {"max_concurrency": 10**30}}, "max_concurrency"),
        ({"extra": {"max_concurrency": "inf"}}, "max_concurrency"),
        ({"extra": {"requests_per_second": -1}}, "requests_per_second"),
        ({"extra": {"requests_per_second": 1e-12}}, "requests_per_second"),
        ({"extra": {"default_region": "Atlantis"}}, "default_region"),
        ({"extra": {"default_region": ["IN"]}}, "default_region"),
        ({"extra": {"postal_code_field": "zip"}}, "postal_code_field"),
        ({"extra": {"account": True}}, "account"),
        ({"extra": {"proxy": "not a url"}}, "proxy"),
    ],
)
@pytest.mark.filterwarnings("ignore:Encountered non-JSON")  # Airflow 2.11 about the broken extra
def test_what_cannot_be_used_is_named_and_nothing_of_it_is_shown(
    read: Any, fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(PopinConfigError) as caught:
        read(fields)

    assert (caught.value.conn_id, caught.value.field) == ("shop", field)
    text = "".join(traceback.format_exception(caught.value))
    assert "'shop'" in str(caught.value)
    assert f"'{field}'" in str(caught.value)
    for secret in (API_KEY, SELLER_TOKEN, "soon", "Atlantis", "X-Evil"):
        assert secret not in text
    # What it came of may hold the whole document.
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_unknown_extras_are_named_in_a_warning_without_their_values(
    read: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        settings = read({"extra": {"max_concurency": "4711", "account": "a"}})

    assert settings.unknown_extras == ("max_concurency",)
    assert settings.config.account == "a"
    # Airflow 2 writes with logging, Airflow 3 with structlog.
    said = caplog.text + capfd.readouterr().out
    assert "max_concurency" in said
    assert "4711" not in said


async def test_a_hook_that_reads_its_connection_every_minute_warns_once(
    read: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    read({"extra": {"max_concurency": "4711"}})
    hook = PopinHook(popin_conn_id="shop")
    await hook.get_async_config()
    assert "max_concurency" in caplog.text + capfd.readouterr().out
    caplog.clear()
    await hook.get_async_config()
    assert "max_concurency" not in caplog.text + capfd.readouterr().out


def test_no_repr_shows_a_secret(read: Any) -> None:
    settings = read({"extra": {"webhook_key": "webhook-key-3f21"}})

    for text in (repr(settings), str(settings), repr(settings.config)):
        for secret in (API_KEY, SELLER_TOKEN, "webhook-key-3f21"):
            assert secret not in text


def test_the_form_and_the_reader_know_the_same_extras() -> None:
    info: Any = get_provider_info()
    (connection_type,) = info["connection-types"]

    assert tuple(connection_type["conn-fields"]) == EXTRA_FIELDS


def test_an_error_can_be_sent_between_processes(read: Any) -> None:
    connection = Connection(conn_id="shop", conn_type="popin", password=API_KEY)
    with pytest.raises(PopinConfigError) as caught:
        read_connection(connection, conn_id="shop")

    copied = pickle.loads(pickle.dumps(caught.value))
    assert (copied.conn_id, copied.field, str(copied)) == ("shop", "login", str(caught.value))
