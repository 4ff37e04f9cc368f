"""The "Join call" link, as Airflow's own pages get it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.providers.common.compat.sdk import XCom

from airflow_provider_popin.get_provider_info import get_provider_info
from airflow_provider_popin.links.popin import JOIN_URL_KEY, PopinJoinCallLink, is_web_url
from airflow_provider_popin.operators.popin import PopinCaptureOperator, PopinScheduleOperator
from tests.airflow_runs import IS_AIRFLOW_3, states, xcom
from tests.operators.support import ASHA, BENO, make_dag, output

if TYPE_CHECKING:
    from airflow_provider_popin.sandbox.server import SandboxServer


def link_of(dag: Any, run: Any, task_id: str, map_index: int = -1) -> Any:
    """Return what the server shows: it knows the Dag only in its serialized form."""
    from airflow.serialization import serialized_objects
    from airflow.utils.session import create_session

    stored: Any
    if IS_AIRFLOW_3:
        from airflow.models.serialized_dag import SerializedDagModel

        stored = SerializedDagModel.get_dag(dag.dag_id)
    else:
        form: Any = vars(serialized_objects)["SerializedDAG"]
        stored = form.from_dict(form.to_dict(dag))
    ti = run.get_task_instance(task_id, map_index=map_index)
    with create_session() as session:
        ti = session.merge(ti)
        ti.task = stored.get_task(task_id)
        return ti.task.get_extra_links(ti, "Join call")


def test_the_link_opens_the_join_url_of_plain_and_mapped_captures(
    run_dag: Callable[..., Any], sandbox: SandboxServer, popin_connection: str
) -> None:
    with make_dag("link_capture") as dag:
        PopinCaptureOperator(task_id="plain", **ASHA, campaign={"test_lead": "plain"})
        PopinCaptureOperator.partial(task_id="mapped").expand_kwargs(
            [{**ASHA, "campaign": {"test_lead": "0"}}, {**BENO, "campaign": {"test_lead": "1"}}]
        )
    run = run_dag(dag)

    urls = {customer["lead"]: customer["url"] for customer in sandbox.customers()}
    assert link_of(dag, run, "plain") == urls["plain"]
    assert link_of(dag, run, "mapped", 0) == urls["0"]
    assert link_of(dag, run, "mapped", 1) == urls["1"]
    assert len(set(urls.values())) == 3


def test_there_is_no_link_where_nothing_was_captured(
    run_dag: Callable[..., Any], sandbox: SandboxServer, popin_connection: str
) -> None:
    sandbox.set_faults("capture:422")
    with make_dag("link_none") as dag:
        PopinCaptureOperator(task_id="plain", **ASHA)
    run = run_dag(dag)

    assert states(run) == {"plain": "failed"}
    assert not link_of(dag, run, "plain")


def test_a_link_that_is_not_there_is_no_error_in_the_log(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    popin_connection: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Airflow 3 asks for it when a task ends, and says "XCom not found" where nothing was pushed."""
    with make_dag("link_asked") as dag:
        capture: Any = PopinCaptureOperator(task_id="capture", **ASHA)
        PopinCaptureOperator(task_id="refused", **{**ASHA, "mobile": "call me"})
        PopinScheduleOperator(
            task_id="book",
            customer_id=capture.output["customer_id"],
            time=free_slot(popin_connection),
        )
    run = run_dag(dag)

    assert states(run) == {"capture": "success", "refused": "failed", "book": "success"}
    assert "XCom not found" not in output(capfd, caplog)
    for task_id in ("refused", "book"):
        assert xcom(run, task_id, key=JOIN_URL_KEY) == ""


@pytest.mark.parametrize(("native", "linked"), [(False, True), ("false", True), (True, False), (None, False)])
def test_a_booking_links_to_the_url_that_popin_will_use(
    run_dag: Callable[..., Any],
    sandbox: SandboxServer,
    popin_connection: str,
    native: bool | str | None,
    linked: bool,
) -> None:
    url = "https://shop.example.com/ring"
    with make_dag("link_schedule") as dag:
        capture: Any = PopinCaptureOperator(task_id="capture", **ASHA)
        PopinScheduleOperator(
            task_id="book",
            customer_id=capture.output["customer_id"],
            time=free_slot(popin_connection),
            native=native,
            url=url,
        )
    run = run_dag(dag)

    assert states(run) == {"capture": "success", "book": "success"}
    assert (link_of(dag, run, "book") or None) == (url if linked else None)
    assert (sandbox.bookings()[0]["join_url"] == url) == linked


def free_slot(conn_id: str) -> str:
    """Return Popin's string of a free slot."""
    from airflow_provider_popin.hooks.popin import PopinHook

    with PopinHook(popin_conn_id=conn_id) as hook:
        return hook.get_slots().slots[-1].time


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://live.popin.to/8131-a157", True),
        ("http://127.0.0.1:8081/x", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("https://", False),
        ("//live.popin.to/x", False),
        ("https://[::1", False),
        ("", False),
    ],
)
def test_only_web_pages_become_links(url: str, allowed: bool) -> None:
    assert is_web_url(url) is allowed


@pytest.mark.parametrize("pushed", ["javascript:alert(1)", 5, None])
def test_whoever_pushed_it_only_a_web_page_becomes_a_link(
    monkeypatch: pytest.MonkeyPatch, pushed: object
) -> None:
    monkeypatch.setattr(XCom, "get_value", lambda **_: pushed)
    operator, ti_key = cast("Any", None), cast("Any", None)
    assert PopinJoinCallLink().get_link(operator, ti_key=ti_key) == ""


def test_the_link_is_declared_for_airflow_2() -> None:
    link = f"{PopinJoinCallLink.__module__}.{PopinJoinCallLink.__qualname__}"
    assert get_provider_info()["extra-links"] == [link]
