"""A task stopped by Airflow's own supervisor: within its 5 s the ledger knows what is open."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync.reading import CHUNK_ROWS
from scripts.ports import free_port
from tests import airflow_runs, privacy
from tests.conftest import AIRFLOW_HOME, API_KEY, SELLER_TOKEN
from tests.faults.ledger_view import LedgerView
from tests.faults.people import lead_rows, values_of
from tests.scheduler import slow_bookings, supervised
from tests.scheduler.supervised import HEARTBEAT_SECONDS, Supervised, wait_for

pytestmark = pytest.mark.scheduler

CONCURRENCY = slow_bookings.CONCURRENCY
# After SIGTERM, Airflow 3 waits so long before it sends SIGKILL.
AIRFLOW_KILLS_AFTER = 5.0
ANSWERED = 6

Stop = Callable[[Supervised], None]


@pytest.fixture(scope="module", autouse=True)
def _settings() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in supervised.SETTINGS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def url(airflow_db: None, _settings: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of an API server, which Airflow 2 does not need."""
    if not airflow_runs.IS_AIRFLOW_3:
        yield "http://127.0.0.1:1"
        return
    output = tmp_path_factory.mktemp("api") / "output"
    with supervised.api_server(free_port(), output) as address:
        yield address


@pytest.fixture
def dag_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The Dag file, where Airflow looks for it."""
    monkeypatch.setenv(slow_bookings.NAME_VARIABLE, f"slow_bookings_{time.time_ns()}")
    file = AIRFLOW_HOME / "dags" / "slow_bookings_of_tests.py"
    shutil.copy(slow_bookings.__file__, file)
    yield file
    file.unlink()


@pytest.fixture
def ledger(tmp_path: Path, sandbox: SandboxServer, set_connection: Callable[..., None]) -> LedgerView:
    """The ledger of the task, and its connections."""
    file = tmp_path / "ledger.db"
    set_connection("popin_ledger", conn_type="sqlite", host=str(file))
    extra = {"requests_per_second": 0, "timeout_seconds": 60}
    popin: dict[str, Any] = {"login": SELLER_TOKEN, "password": API_KEY, "extra": extra}
    set_connection("popin_default", conn_type="popin", host=sandbox.url, **popin)
    return LedgerView(f"sqlite:///{file}")


@pytest.fixture
def task(dag_file: Path, ledger: LedgerView, url: str, tmp_path: Path) -> Iterator[Supervised]:
    """The running task."""
    dag = _load(dag_file)
    output = tmp_path / "output"
    with supervised.supervised(dag_file, dag, slow_bookings.TASK_ID, url=url, output=output) as running:
        yield running


# With how long Airflow may take to notice, before it sends SIGTERM to the task.
STOPS = pytest.mark.parametrize(
    ("stop", "noticed"),
    [
        pytest.param(Supervised.terminate, 0.0, id="SIGTERM to the supervisor"),
        pytest.param(lambda task: task.mark_failed(), 3.0 * HEARTBEAT_SECONDS, id="marked as failed"),
    ],
)


@STOPS
def test_stopped_while_booking(
    task: Supervised, sandbox: SandboxServer, ledger: LedgerView, stop: Stop, noticed: float
) -> None:
    # What the sandbox answers too late is committed there all the same.
    sandbox.set_faults(f"schedule:slow_after_commit(20)@{ANSWERED + 1}-")
    wait_for(lambda: _open(sandbox, ledger) == CONCURRENCY, 90, task.process)
    assert Counter(ledger.ended().values())["sending"] == CONCURRENCY

    seconds = _stop(task, stop)

    assert seconds < noticed + AIRFLOW_KILLS_AFTER
    ended = Counter(ledger.ended().values())
    assert ended == {
        "booked": ANSWERED,
        "in_doubt": CONCURRENCY,
        "captured": slow_bookings.LEADS - ANSWERED - CONCURRENCY,
    }
    assert not ledger.live_owners(), "the lease was not given back"
    assert sandbox.stats()["requests"]["schedule"] == ANSWERED + CONCURRENCY, "sent after the stop"
    _check_told(task)


@STOPS
def test_stopped_while_capturing(
    task: Supervised, sandbox: SandboxServer, ledger: LedgerView, stop: Stop, noticed: float
) -> None:
    sandbox.set_faults(f"capture:slow_before_commit(20)@{ANSWERED + 1}-")
    wait_for(lambda: _open(sandbox, ledger) == CONCURRENCY, 90, task.process)

    seconds = _stop(task, stop)

    assert seconds < noticed + AIRFLOW_KILLS_AFTER
    ended = Counter(ledger.ended().values())
    assert ended["captured"] == ANSWERED
    assert ended["in_doubt"] == CONCURRENCY
    assert not ledger.sending()
    assert sandbox.stats()["requests"]["capture"] == ANSWERED + CONCURRENCY, "sent after the stop"
    assert not sandbox.bookings()
    _check_told(task)


def test_stopped_before_anything_is_sent(
    task: Supervised, sandbox: SandboxServer, ledger: LedgerView
) -> None:
    # The task is asking for the slots, which it does before it sends anything.
    sandbox.set_faults("slots:slow_after_commit(20)")
    wait_for(lambda: sandbox.stats()["open_requests"], 90, task.process)

    seconds = _stop(task, Supervised.terminate)

    assert seconds < AIRFLOW_KILLS_AFTER
    stats = sandbox.stats()
    assert not stats["requests"]["capture"] + stats["requests"]["schedule"]
    _check_told(task)


@pytest.fixture
def _source_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    # More than the engine reads at once, so that it sends what it has.
    monkeypatch.setenv(slow_bookings.HANGS_VARIABLE, str(CHUNK_ROWS + 1))


@pytest.mark.usefixtures("_source_hangs")
def test_stopped_while_the_source_hangs(task: Supervised, sandbox: SandboxServer, ledger: LedgerView) -> None:
    # So late that the whole first portion is handed over, and the engine asks the source for more.
    answered = CHUNK_ROWS - CONCURRENCY - 2
    sandbox.set_faults(f"capture:slow_before_commit(20)@{answered + 1}-")
    wait_for(lambda: _open(sandbox, ledger) == CONCURRENCY, 90, task.process)

    # Airflow 2 interrupts the source; Airflow 3 lets it hang, and kills the task.
    seconds = _stop(task, lambda task: task.mark_failed())

    assert seconds < AIRFLOW_KILLS_AFTER + 5.0
    ended = Counter(ledger.ended().values())
    assert (ended["captured"], ended["in_doubt"], ended["sending"]) == (answered, CONCURRENCY, 0)
    assert sandbox.stats()["requests"]["capture"] == answered + CONCURRENCY, "sent after the stop"
    killed = "SIGKILL" in task.told()
    assert killed is airflow_runs.IS_AIRFLOW_3


def _open(sandbox: SandboxServer, ledger: LedgerView) -> int:
    """Exchanges under way, once so many are that no other can start."""
    return sandbox.stats()["open_requests"] if len(ledger.sending()) == CONCURRENCY else 0


def _stop(task: Supervised, stop: Stop) -> float:
    """Stop the task; return how many seconds it lived from the moment it was told."""
    process = task.task_process()
    began = time.monotonic()
    stop(task)
    psutil.wait_procs([process], timeout=30)
    seconds = time.monotonic() - began
    print(f"the task ended {seconds:.2f} s after it was stopped")
    assert not process.is_running()
    task.process.wait(30)
    return seconds


def _check_told(task: Supervised) -> None:
    told = task.told()
    assert "the task was killed" in told
    assert "SIGKILL" not in told
    assert privacy.find_personal_data(told, {*values_of(lead_rows(slow_bookings.LEADS)), API_KEY}) == []


def _load(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.dag
