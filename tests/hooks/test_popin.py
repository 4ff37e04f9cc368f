"""The hook against the local Popin, its form on old and new Airflow, and the button that tests it."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import Connection

from airflow_provider_popin.client.client import PopinClient
from airflow_provider_popin.client.errors import (
    PopinConfigError,
    PopinError,
    PopinInputError,
    PopinOutcomeUnknownError,
)
from airflow_provider_popin.get_provider_info import get_provider_info
from airflow_provider_popin.hooks.connection import EXTRA_FIELDS
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.operators.failures import task_error
from tests.airflow_runs import IS_AIRFLOW_3
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.operators.support import ASHA, output

if TYPE_CHECKING:
    from airflow_provider_popin.sandbox.server import SandboxServer


@pytest.fixture
def hook(popin_connection: str) -> Any:
    with PopinHook(popin_conn_id=popin_connection) as made:
        yield made


def test_capture_slots_and_schedule(hook: PopinHook, sandbox: SandboxServer) -> None:
    customer = hook.capture(name=ASHA["name"], mobile="98765 43210", default_region="IN", native=True)
    calendar = hook.get_slots()
    call = hook.schedule(customer_id=customer.customer_id, time=calendar.slots[-1].start, agent=7)

    assert call.timezone == calendar.timezone == "Asia/Kolkata"
    (booking,) = sandbox.bookings()
    assert (booking["customer_id"], booking["time"]) == (customer.customer_id, calendar.slots[-1].time)
    assert booking["agent"] == 7


@pytest.mark.parametrize(
    ("number", "argument", "country"), [("98765 43210", None, "91"), ("070-174 06 05", "SE", "46")]
)
def test_a_number_without_a_country_is_read_in_the_region_of_argument_or_connection(
    connect_popin: Callable[..., None],
    sandbox: SandboxServer,
    number: str,
    argument: str | None,
    country: str,
) -> None:
    connect_popin(default_region="IN")
    with PopinHook() as hook:
        hook.capture(name=ASHA["name"], mobile=number, default_region=argument)
    (customer,) = sandbox.customers()
    assert customer["fields"]["country"] == country


def test_a_lost_answer_to_a_booking_is_not_followed_by_a_second_request(
    hook: PopinHook, sandbox: SandboxServer
) -> None:
    slot = hook.get_slots().slots[-1]
    customer = hook.capture(name=ASHA["name"], mobile=ASHA["mobile"])
    sandbox.set_faults("schedule:reset_after_commit")

    with pytest.raises(PopinOutcomeUnknownError):
        hook.schedule(customer_id=customer.customer_id, time=slot.time)
    assert len(sandbox.bookings()) == len(sandbox.requests(endpoint="schedule")) == 1


def test_find_slot_needs_no_free_slot_but_a_valid_time(hook: PopinHook) -> None:
    slot, timezone = hook.find_slot("2030-01-01T03:30:00+05:30")

    assert (slot.time, timezone) == ("Tue, 01 Jan 2030 03:30 AM", "Asia/Kolkata")
    assert slot.start == datetime(2029, 12, 31, 22, 0, tzinfo=UTC)
    with pytest.raises(PopinInputError):
        hook.find_slot("2030-01-01T03:30:00")


def test_malformed_slots_are_skipped_with_a_warning(
    hook: PopinHook,
    sandbox: SandboxServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.set_faults("slots:malformed_slots")

    assert hook.get_slots().slots
    assert "were left out" in output(capfd, caplog)


def test_run_returns_the_response_as_it_is(hook: PopinHook, sandbox: SandboxServer) -> None:
    assert hook.run("GET", "/external/slots").json()["timezone"] == "Asia/Kolkata"
    assert hook.run("GET", "/external/nothing").status_code == 404
    assert hook.run("POST", "/external/capture", json={"name": "x"}).status_code == 422
    sandbox.set_faults("slots:redirect(http://127.0.0.1:9/elsewhere)")
    assert hook.run("GET", "/external/slots").status_code == 302


@pytest.mark.parametrize(
    "path",
    [
        "http://127.0.0.1:9/external/slots",
        "HTTPS://popin.example/x",
        "@popin.example/x",
        ".popin.example/x",
        ":9/x",
        "external/slots",
        "/external/slots\r\nX-Evil: 1",
        "",
    ],
)
def test_run_sends_the_key_nowhere_else(hook: PopinHook, sandbox: SandboxServer, path: str) -> None:
    with pytest.raises(PopinInputError):
        hook.run("GET", path)
    assert sandbox.stats()["refused_headers"] == 0
    assert sandbox.requests() == []


@pytest.mark.parametrize("path", ["//popin.example/x", "/../../x", "/\\popin.example/x", "/@popin.example/x"])
def test_odd_paths_of_run_stay_on_the_host_of_the_connection(
    hook: PopinHook, sandbox: SandboxServer, path: str
) -> None:
    response = hook.run("GET", path)

    assert response.url.startswith(f"{sandbox.url}/")
    assert response.status_code == 404


def test_nothing_happens_before_the_first_call_and_the_client_is_kept(popin_connection: str) -> None:
    assert PopinHook(popin_conn_id="nowhere").popin_conn_id == "nowhere"
    hook = PopinHook()
    client = hook.client
    assert isinstance(client, PopinClient)
    assert hook.get_conn() is hook.client is client
    hook.close()
    assert hook.client is not client
    hook.close()
    hook.close()


def test_arguments_are_keywords_only() -> None:
    with pytest.raises(TypeError):
        PopinHook("popin_default")  # type: ignore[call-arg]


async def test_a_trigger_reads_the_same_settings(hook: PopinHook) -> None:
    assert await PopinHook().get_async_config() == hook.config


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda hook: hook.get_slots(),
            "GET /external/slots: connection 'popin_default': http_401 (HTTP 401)",
        ),
        (
            lambda hook: hook.capture(name="A", mobile="+1 202 555 0143"),
            "connection 'popin_default': http_401",
        ),
        (
            lambda hook: hook.capture(name="", mobile="+1 202 555 0143"),
            "connection 'popin_default', argument 'name': is ",
        ),
        (lambda hook: hook.schedule(customer_id="MQ==", time="x"), "connection 'popin_default': http_401"),
        (
            lambda hook: hook.run("GET", "https://example.com"),
            "connection 'popin_default', argument 'path': ",
        ),
    ],
)
def test_errors_name_the_connection_once(
    popin_connection: str, sandbox: SandboxServer, call: Callable[[PopinHook], object], said: str
) -> None:
    sandbox.set_faults("slots:401", "capture:401")
    with PopinHook() as hook, pytest.raises(PopinError) as caught:
        call(hook)

    assert said in str(caught.value)
    assert "popin_default" not in caught.value.reason
    assert str(task_error(caught.value, conn_id="popin_default")).count("popin_default") == 1
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


async def test_a_trigger_gets_the_same_error(set_connection: Callable[..., None]) -> None:
    set_connection("no_token", conn_type="popin", password=API_KEY)
    with pytest.raises(PopinConfigError) as caught:
        await PopinHook(popin_conn_id="no_token").get_async_config()
    assert caught.value.field == "login"


def test_token_key_and_webhook_key_are_masked_in_logs(set_connection: Callable[..., None]) -> None:
    from airflow.providers.common.compat.sdk import redact

    set_connection(
        "masked",
        conn_type="popin",
        login="seller-token-9d3f",
        password="api-key-77aa12",
        extra={"webhook_key": "hook-key-55b1"},
    )
    settings = PopinHook(popin_conn_id="masked").settings

    assert settings.webhook_key == "hook-key-55b1"
    assert redact("a seller-token-9d3f b api-key-77aa12 c hook-key-55b1") == "a *** b *** c ***"


# ---- the button that tests a connection


def judged(set_connection: Callable[..., None], **fields: Any) -> tuple[bool, str]:
    set_connection("judged", conn_type="popin", **fields)
    return PopinHook(popin_conn_id="judged").test_connection()


@pytest.mark.parametrize(
    ("fault", "works", "said"),
    [
        (None, True, "Asia/Kolkata"),
        ("slots:401", False, "Password (API key)"),
        ("slots:403", False, "Password (API key)"),
        ("slots:404", False, "Host: "),
        ("slots:status0(Invalid token.)", False, "check host, login (seller token) and password (API key)"),
        ("slots:429(7)", False, "429"),
        ("slots:500", False, "HTTP 500"),
        ("slots:html_after_commit", False, "Host: "),
        ("slots:redirect", False, "Host: "),
    ],
)
def test_the_button_says_what_is_wrong_as_far_as_the_answer_allows(
    sandbox: SandboxServer, set_connection: Callable[..., None], fault: str | None, works: bool, said: str
) -> None:
    if fault:
        sandbox.set_faults(fault)
    result, text = judged(set_connection, host=sandbox.url, login=SELLER_TOKEN, password=API_KEY)

    assert result is works
    assert said in text
    assert API_KEY not in text
    # Somebody waits for the button: it asks once.
    assert len(sandbox.requests()) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"password": "wrong-key-123"}, "Password (API key)"),
        ({"login": "wrong-token-123"}, "check both"),
        ({"host": "http://127.0.0.1:9"}, "Host: http://127.0.0.1:9 cannot be reached"),
        ({"host": "http://popin.invalid"}, "cannot be reached"),
        ({"password": None}, "'password'"),
        ({"host": "ftp://popin.example"}, "'host'"),
        ({"extra": {"verify": "/no/such/file.pem"}, "host": "https://127.0.0.1:9"}, "verify"),
    ],
)
def test_the_button_names_the_field_that_is_wrong(
    sandbox: SandboxServer, set_connection: Callable[..., None], fields: dict[str, Any], said: str
) -> None:
    given: dict[str, Any] = {"host": sandbox.url, "login": SELLER_TOKEN, "password": API_KEY}
    result, text = judged(set_connection, **given | fields)

    assert result is False
    assert said in text
    for secret in (API_KEY, SELLER_TOKEN, "wrong-key-123", "wrong-token-123"):
        assert secret not in text


def test_a_missing_connection_is_no_exception_for_the_button(airflow_db: None) -> None:
    result, text = PopinHook(popin_conn_id="nowhere").test_connection()

    assert result is False
    assert "nowhere" in text


def test_airflow_finds_the_hook_and_presses_the_button(popin_connection: str, sandbox: SandboxServer) -> None:
    testable: Any = Connection
    if not hasattr(Connection, "test_connection"):  # 3.0 to 3.2: the API server's own class alone has it
        testable = import_module("airflow.models.connection").Connection
    connection = testable(
        conn_id="popin_default",
        conn_type="popin",
        host=sandbox.url,
        login=SELLER_TOKEN,
        password=API_KEY,
    )
    result, text = connection.test_connection()

    assert result is True, text


# ---- the form


@pytest.fixture
def form_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide the form classes where Airflow brings none, as the API server of 3.1 does: by its mocks."""
    if not IS_AIRFLOW_3:
        return
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService as Mocks

    wtforms: Any = types.ModuleType("wtforms")
    wtforms.StringField, wtforms.IntegerField = Mocks.MockStringField, Mocks.MockIntegerField
    wtforms.PasswordField = Mocks.MockPasswordField
    validators: Any = types.ModuleType("wtforms.validators")
    validators.Optional = Mocks.MockOptional
    look: Any = types.ModuleType("flask_appbuilder.fieldwidgets")
    look.BS3TextFieldWidget = look.BS3PasswordFieldWidget = Mocks.MockAnyWidget
    for module in (wtforms, validators, look):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("form_library")
def test_the_form_of_old_airflow_has_the_fields_of_the_new_one() -> None:
    widgets = PopinHook.get_connection_form_widgets()

    assert tuple(widgets) == EXTRA_FIELDS
    kinds = {name: widget.field_class.__name__.removeprefix("Mock") for name, widget in widgets.items()}
    assert kinds.pop("webhook_key") == "PasswordField"
    assert kinds.pop("max_concurrency") == "IntegerField"
    assert set(kinds.values()) == {"StringField"}


def test_labels_and_hidden_fields_agree_with_the_declarative_form() -> None:
    info: Any = get_provider_info()
    declared = info["connection-types"][0]["ui-field-behaviour"]

    assert PopinHook.get_ui_field_behaviour() == {
        "hidden_fields": declared["hidden-fields"],
        "relabeling": declared["relabeling"],
        "placeholders": declared["placeholders"],
    }


@pytest.mark.skipif(IS_AIRFLOW_3, reason="Airflow 3.2 and newer draw the form from the declarative fields")
def test_the_web_server_of_airflow_2_shows_the_fields() -> None:
    from airflow.providers_manager import ProvidersManager

    manager: Any = ProvidersManager()  # type: ignore[no-untyped-call]
    widgets = manager.connection_form_widgets.values()
    shown = {widget.field_name for widget in widgets if "popin" in widget.package_name}
    assert shown == set(EXTRA_FIELDS)
    assert manager.field_behaviours["popin"]["relabeling"]["login"] == "Seller token"


def test_the_hook_is_declared_with_its_own_attributes() -> None:
    info: Any = get_provider_info()
    (declared,) = info["connection-types"]

    assert declared["connection-type"] == PopinHook.conn_type
    assert declared["hook-name"] == PopinHook.hook_name
    assert declared["hook-class-name"] == f"{PopinHook.__module__}.{PopinHook.__qualname__}"


async def test_extras_without_a_meaning_are_told_of_once(
    connect_popin: Callable[..., None], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    connect_popin(max_concurency=4)
    hook = PopinHook()
    await hook.get_async_config()
    assert "max_concurency" in output(capfd, caplog)
    caplog.clear()
    await hook.get_async_config()
    assert "max_concurency" not in output(capfd, caplog)


def test_the_button_names_an_error_without_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_connection(_: str) -> Any:
        raise TimeoutError

    hook = PopinHook()
    monkeypatch.setattr(hook, "get_connection", get_connection)
    assert hook.test_connection() == (False, "TimeoutError")
