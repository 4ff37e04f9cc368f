"""The fixtures themselves: Dags run on real Airflow, and leaks and outside hosts are noticed."""

from __future__ import annotations

import datetime
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseHook, BaseOperator

from tests.airflow_runs import states, xcom

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class EchoOperator(BaseOperator):
    """Return its value, or fail."""

    def __init__(self, *, value: object, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value = value

    def execute(self, context: object) -> object:
        """Return the value; a value of None is an error."""
        if self.value is None:
            raise ValueError("no value")
        return self.value


class TalkOperator(BaseOperator):
    """Log one text and print another."""

    def execute(self, context: object) -> None:
        """Do both."""
        self.log.info("a %s value", "logged")
        print("a printed value")


def test_run_dag_returns_run_with_states_and_xcoms(run_dag: Callable[..., Any]) -> None:
    with DAG("echo", schedule=None, start_date=START) as dag:
        EchoOperator(task_id="one", value={"a": 1})
        EchoOperator.partial(task_id="many").expand(value=[10, 20])
    run = run_dag(dag)
    assert states(run) == {"one": "success", "many[0]": "success", "many[1]": "success"}
    assert xcom(run, "one") == {"a": 1}
    assert xcom(run, "many", map_index=1) == 20
    assert xcom(run, "one", key="absent") is None


def test_run_dag_returns_failed_run(run_dag: Callable[..., Any]) -> None:
    with DAG("echo_fails", schedule=None, start_date=START) as dag:
        EchoOperator(task_id="one", value=None)
    run = run_dag(dag)
    assert str(run.state) == "failed"
    assert states(run) == {"one": "failed"}


def test_what_an_operator_logs_and_prints_is_captured(
    run_dag: Callable[..., Any], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with DAG("talks", schedule=None, start_date=START) as dag:
        TalkOperator(task_id="one")
    run_dag(dag)
    captured = "".join(capsys.readouterr()) + caplog.text
    assert "a logged value" in captured
    assert "a printed value" in captured


def test_set_connection(set_connection: Callable[..., None]) -> None:
    set_connection("somewhere", conn_type="http", host="example.com", extra={"a": 1})
    connection = BaseHook.get_connection("somewhere")
    assert (connection.host, connection.extra_dejson) == ("example.com", {"a": 1})


def test_other_hosts_are_out_of_reach() -> None:
    with pytest.raises(socket.gaierror):
        socket.create_connection(("example.com", 80), timeout=1)
    with socket.socket() as outside, pytest.raises(OSError, match="unreachable"):
        outside.connect(("192.0.2.1", 80))


def test_output_with_personal_data_fails_the_test(pytester: pytest.Pytester) -> None:
    root = Path(__file__).parents[2]
    pytester.makepyprojecttoml(f'[tool.pytest.ini_options]\npythonpath = ["{root}"]\n')
    pytester.makeconftest("from tests.conftest import *  # noqa: F403")
    pytester.makepyfile(
        """
        import logging
        from tests.privacy import register_personal
        register_personal("Zaphod Testperson", "+1 202 555 0143", "zt@example.com")
        def test_clean(): print("nothing here")
        def test_printed(): print("calling 12025550143")
        def test_logged(): logging.getLogger("airflow_provider_popin.x").debug("to %s", "ZT@example.com")
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    outcome = result.parseoutcomes()
    assert (outcome["passed"], outcome["errors"]) == (3, 2)
