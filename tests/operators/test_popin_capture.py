"""PopinCaptureOperator in real Dag runs, against the local Popin."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import task

from airflow_provider_popin.operators.personal import Hidden, hide, reveal
from airflow_provider_popin.operators.popin import PopinCaptureOperator
from tests.airflow_runs import states, xcom
from tests.operators.support import ASHA, BENO, make_dag, no_waits, output, rendered, tries

if TYPE_CHECKING:
    from airflow_provider_popin.sandbox.server import SandboxServer

pytestmark = pytest.mark.usefixtures("popin_connection")


def test_every_field_arrives_and_the_answer_is_returned(
    run_dag: Callable[..., Any], sandbox: SandboxServer
) -> None:
    with make_dag("capture_all_fields", params={"agent": 210}) as dag:
        PopinCaptureOperator(
            task_id="capture",
            **ASHA,
            country="IN",
            group="QA101",
            agent="{{ params.agent }}",
            native="{{ 1 == 2 }}",
            campaign='{"utm_source": "{{ dag.dag_id }}", "test_lead": "asha"}',
        )
    run = run_dag(dag)

    (customer,) = sandbox.customers(lead="asha")
    assert customer["fields"] == {
        "name": "Asha Examplesen",
        "mobile": "9876543210",
        "country": "91",
        "email": ASHA["email"],
        "group": "QA101",
        "agent": 210,
        "pincode": "560001",
        "native": False,
        "campaign": {"utm_source": "capture_all_fields", "test_lead": "asha"},
    }
    # native is false, so the link is the one of the dashboard.
    assert xcom(run, "capture") == {
        "customer_id": customer["customer_id"],
        "url": "https://shop.example.com/live",
    }


def test_it_can_be_called_without_a_running_task(sandbox: SandboxServer) -> None:
    """As people do in tests of their Dags: no KeyError after the request."""
    captured = PopinCaptureOperator(task_id="capture", **ASHA).execute({})

    (customer,) = sandbox.customers()
    assert captured["customer_id"] == customer["customer_id"]


def test_absent_optional_fields_are_not_sent(run_dag: Callable[..., Any], sandbox: SandboxServer) -> None:
    with make_dag("capture_least") as dag:
        PopinCaptureOperator(
            task_id="capture",
            name=ASHA["name"],
            mobile=ASHA["mobile"],
            email="{{ none }}",
            group="",
            agent="None",
            native=None,
            campaign="{{ none }}",
        )
    assert states(run_dag(dag)) == {"capture": "success"}

    (customer,) = sandbox.customers()
    assert set(customer["fields"]) == {"name", "mobile", "country"}


def test_templates_give_text_in_a_dag_that_renders_native_objects(
    run_dag: Callable[..., Any], sandbox: SandboxServer
) -> None:
    """As Python literals they would be the numbers 6598765432 (of another country), 1000.0 and 7."""
    values = {"mobile": "+6598765432", "pincode": "1e3", "group": "007", "campaign": {"test_lead": "all"}}
    with make_dag("capture_native", params=values, render_template_as_native_obj=True) as dag:
        fields = {name: f"{{{{ params.{name} }}}}" for name in ("mobile", "pincode", "group")}
        code = {"test_lead": "one", "code": "{{ params.group }}"}
        PopinCaptureOperator(task_id="one", name="Asha", **fields, campaign=code)
        PopinCaptureOperator(task_id="all", name="Asha", **fields, campaign="{{ params.campaign }}")
        PopinCaptureOperator.partial(task_id="each", name="{{ 'Be' }}no", **fields).expand(
            campaign=[{"test_lead": "each", "code": "{{ params.group }}"}]
        )
    run_dag(dag)

    for lead in ("one", "all", "each"):
        (customer,) = sandbox.customers(lead=lead)
        sent: dict[str, Any] = customer["fields"]
        assert (sent["country"], sent["mobile"]) == ("65", "98765432")
        assert (sent["pincode"], sent["group"]) == ("1e3", "007")
        assert sent["campaign"].get("code") == (None if lead == "all" else "007")


# Airflow 3 deprecates its own e-mail alerts; Dags have them all the same.
@pytest.mark.filterwarnings("ignore:Setting email:Warning")
def test_mapped_leads_with_their_own_email_beside_the_alert_address_of_the_dag(
    run_dag: Callable[..., Any], sandbox: SandboxServer
) -> None:
    with make_dag("capture_mapped", default_args={"email": ["data-team@example.com"]}) as dag:

        @task(show_return_value_in_logs=False)
        def crm() -> list[dict[str, Any]]:
            return [{**ASHA, "campaign": {"test_lead": "a"}}, {**BENO, "campaign": {"test_lead": "b"}}]

        PopinCaptureOperator.partial(task_id="capture").expand_kwargs(crm())
        alone = PopinCaptureOperator(task_id="alone", name="Asha Examplesen", mobile=ASHA["mobile"])
    run = run_dag(dag)

    assert states(run) == {
        "crm": "success",
        "alone": "success",
        "capture[0]": "success",
        "capture[1]": "success",
    }
    for number, (lead, email) in enumerate((("a", ASHA["email"]), ("b", BENO["email"]))):
        (customer,) = sandbox.customers(lead=lead)
        assert customer["fields"]["email"] == email
        assert xcom(run, "capture", map_index=number)["customer_id"] == customer["customer_id"]
        assert xcom(run, "capture", key="popin_join_url", map_index=number) == customer["url"]
    # The address for alerts is Airflow's, and no lead gets it.
    assert alone.email == ["data-team@example.com"]
    assert sorted(str(row["fields"].get("email", "none")) for row in sandbox.customers()) == sorted(
        [ASHA["email"], BENO["email"], "none"]
    )


def test_an_email_that_all_mapped_leads_share(run_dag: Callable[..., Any], sandbox: SandboxServer) -> None:
    with make_dag("capture_shared_email") as dag:
        PopinCaptureOperator.partial(
            task_id="capture", email=ASHA["email"], name="Asha Examplesen", mobile=ASHA["mobile"]
        ).expand(group=["1", "2"])
    run_dag(dag)

    assert [row["fields"]["email"] for row in sandbox.customers()] == [ASHA["email"]] * 2


def test_rendered_fields_show_no_personal_value_not_even_a_short_one_or_a_number(
    run_dag: Callable[..., Any],
) -> None:
    people = [ASHA, BENO, {"name": "Jo", "mobile": "+91 98765-43210", "pincode": 123}]
    with make_dag("capture_rendered") as dag:
        PopinCaptureOperator(task_id="plain", **ASHA)
        PopinCaptureOperator.partial(task_id="mapped").expand_kwargs(people)
    fields = rendered(run_dag(dag))

    hidden = {"name": "***", "mobile": "***", "lead_email": "***", "pincode": "***"}
    assert fields["plain"].items() >= hidden.items()
    assert fields["mapped[0]"].items() >= hidden.items()
    assert fields["mapped[1]"].items() >= {**hidden, "pincode": None, "country": "in"}.items()
    assert fields["mapped[2]"].items() >= {**hidden, "lead_email": None}.items()


def test_hidden_values_show_nowhere_and_can_be_revealed() -> None:
    hidden = hide("Asha Examplesen")

    assert isinstance(hidden, Hidden)
    assert (str(hidden), repr(hidden), f"{hidden}") == ("***", "***", "***")
    assert reveal(hidden) == "Asha Examplesen"
    assert hide(hidden) is hidden
    assert (hide(None), hide("")) == (None, "")
    assert reveal(hide(["Asha Examplesen", {"a": 1}])) == ["Asha Examplesen", {"a": 1}]
    assert reveal("as it is") == "as it is"


def test_rendered_personal_values_are_registered_with_the_log_masker(run_dag: Callable[..., Any]) -> None:
    from airflow.providers.common.compat.sdk import redact

    with make_dag("capture_masked") as dag:
        PopinCaptureOperator.partial(task_id="mapped").expand_kwargs(
            [{"name": "Ziggurat Examplesen", "mobile": "+91 (98765) 11111", "email": "ziggurat@example.com"}]
        )
        PopinCaptureOperator(task_id="short", name="Jo", mobile=ASHA["mobile"])
    run_dag(dag)

    # As given, as sent, and with its calling code.
    for value in (
        "Ziggurat Examplesen",
        "+91 (98765) 11111",
        "9876511111",
        "919876511111",
        "ziggurat@example.com",
    ):
        assert redact(f"a log line with {value}") == "a log line with ***", value
    # Airflow does not mask texts under five characters: each "Jo" in "Job" would be hidden.
    assert redact("Job of Jo") == "Job of Jo"


@pytest.mark.parametrize(
    ("fault", "posts", "said"),
    [
        ("capture:echo(422)", 1, "Popin refused these values"),
        ("capture:echo(200)", 1, "Popin refused these values"),
        ("capture:401", 1, "login (seller token) and password (API key)"),
        ("capture:404", 1, "host"),
        ("capture:500", 2, "is not sent again"),
        ("capture:reset_after_commit", 2, "is not sent again"),
    ],
)
def test_what_a_retry_cannot_mend_fails_at_once_and_names_connection_and_remedy(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    fault: str,
    posts: int,
    said: str,
) -> None:
    monkeypatch.setattr("airflow_provider_popin.client.client.backoff_seconds", lambda *_: 0.0)
    sandbox.set_faults(fault)
    with make_dag("capture_final") as dag:
        PopinCaptureOperator(task_id="capture", **ASHA, retries=2, retry_delay=timedelta(0))
    run = run_dag(dag)

    assert states(run) == {"capture": "failed"}
    assert len(sandbox.requests(endpoint="capture")) == posts
    text = output(capfd, caplog)
    assert "connection 'popin_default'" in text
    assert said in text


def test_a_rate_limit_that_the_client_will_not_sit_out_is_left_to_a_retry(
    run_dag: Callable[..., Any], sandbox: SandboxServer
) -> None:
    sandbox.set_faults("capture:429(3600)@1")
    with make_dag("capture_429") as dag:
        PopinCaptureOperator(task_id="capture", **ASHA, retries=1, retry_delay=timedelta(0))
    run = run_dag(dag)

    assert (states(run), tries(run)) == ({"capture": "success"}, {"capture": 2})
    assert len(sandbox.customers()) == 1


def test_a_server_that_is_down_is_left_to_a_retry(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    no_waits(monkeypatch)
    sandbox.stop_listening()
    try:
        with make_dag("capture_down") as dag:
            PopinCaptureOperator(task_id="capture", **ASHA, retries=1, retry_delay=timedelta(0))
        run = run_dag(dag)
    finally:
        sandbox.start_listening()

    assert (states(run), tries(run)) == ({"capture": "failed"}, {"capture": 2})
    text = output(capfd, caplog)
    assert "PopinNotSentError" in text
    assert "connection 'popin_default'" in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mobile": "call me maybe"}, "mobile: "),
        ({"name": "  "}, "name: "),
        ({"name": "{{ none }}"}, "(name_missing)"),
        ({"mobile": "{{ none }}"}, "(phone_missing)"),
        ({"agent": "somebody"}, "agent: "),
        ({"native": "perhaps"}, "native: "),
        ({"campaign": "[1]"}, "campaign: "),
        ({"campaign": "{broken"}, "campaign: "),
        ({"mobile": "98765 43210"}, "mobile: "),
    ],
)
def test_unusable_values_are_named_without_showing_them_and_nothing_is_sent(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, Any],
    said: str,
) -> None:
    with make_dag("capture_unusable") as dag:
        PopinCaptureOperator(task_id="capture", **{**ASHA, **fields}, retries=1, retry_delay=timedelta(0))
    run = run_dag(dag)

    assert states(run) == {"capture": "failed"}
    assert sandbox.requests() == []
    text = output(capfd, caplog)
    assert said in text
    assert "Nothing was sent" in text
    assert "call me maybe" not in text


def test_a_region_of_the_connection_is_used_for_a_number_without_country(
    run_dag: Callable[..., Any], sandbox: SandboxServer, connect_popin: Callable[..., None]
) -> None:
    connect_popin(default_region="IN")
    with make_dag("capture_region") as dag:
        PopinCaptureOperator(task_id="capture", name="Asha Examplesen", mobile="98765 43210")
    run_dag(dag)

    assert sandbox.customers()[0]["fields"]["country"] == "91"


def test_an_answer_without_a_join_url_is_a_success_with_a_warning(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    sandbox.set_faults("capture:missing_parts(url)")
    with make_dag("capture_no_url") as dag:
        PopinCaptureOperator(task_id="capture", **ASHA)
    run = run_dag(dag)

    assert xcom(run, "capture")["url"] is None
    assert xcom(run, "capture", key="customer_id") == sandbox.customers()[0]["customer_id"]
    text = output(capfd, caplog)
    assert "has no join URL" in text


def test_a_missing_connection_is_named(
    run_dag: Callable[..., Any], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with make_dag("capture_no_connection") as dag:
        PopinCaptureOperator(task_id="capture", **ASHA, popin_conn_id="nowhere")

    assert states(run_dag(dag)) == {"capture": "failed"}
    text = output(capfd, caplog)
    assert "nowhere" in text
