"""One scenario: a sandbox, a ledger, a source, and the runs over them."""

from __future__ import annotations

import json
import logging
import traceback
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.errors import PopinError
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.errors import SyncError
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.report import Report
from airflow_provider_popin.sync.settings import Prior, RunIdentity, SyncSettings
from airflow_provider_popin.webhooks.processing import take_evidence
from tests.faults.ledger_view import LedgerView
from tests.faults.people import Row
from tests.faults.worker import Task, Worker

SOURCE = "crm.leads"


@dataclass(slots=True)
class Run:
    """What one run of the lead sync told.

    :param rows: how many rows the source had; None where it was not read to its end
    :param lines: of the results file; None where it was not written
    """

    rows: int | None
    report: Report | None = None
    error: BaseException | None = None
    lines: list[Mapping[str, object]] | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def results(self) -> dict[str, str]:
        """Result set by lead id, for sources with one row per lead."""
        return {str(line["lead_id"]): str(line["result"]) for line in self.lines or ()}

    @property
    def reasons(self) -> dict[str, object]:
        """Reason by lead id."""
        return {str(line["lead_id"]): line["reason"] for line in self.lines or ()}

    def counts(self) -> dict[str, int]:
        """Rows by result set, without the empty ones."""
        assert self.report is not None
        return {name: count for name, count in self.report.results.items() if count}

    def told(self) -> str:
        """Everything that this run told anybody."""
        error = "".join(traceback.format_exception(self.error)) if self.error is not None else ""
        report = json.dumps(self.report.to_xcom()) if self.report is not None else ""
        return "\n".join([error, repr(self.report), report, json.dumps(self.lines), *self.problems])


class World:
    """Runs the lead sync over and over against one sandbox and one ledger.

    :param sandbox: reset
    :param ledger_url: of an empty database
    :param rows: the source
    :param config: changes to the connection
    """

    def __init__(self, sandbox: SandboxServer, ledger_url: str, rows: Sequence[Row], **config: Any) -> None:
        self.sandbox = sandbox
        self.ledger_url = ledger_url
        self.rows = list(rows)
        self.all_rows = list(rows)
        self.ledger = LedgerView(ledger_url)
        self.runs: list[Run] = []
        self.log: list[str] = []
        self._engines: list[Engine] = []
        self.config = ClientConfig(
            **{
                "base_url": sandbox.url,
                "seller_token": sandbox.settings.token,
                "api_key": sandbox.settings.api_key,
                "requests_per_second": 0,
                "timeout_seconds": 30.0,
                # All runs of an account in a process share a rate limiter; scenarios must not.
                "account": f"account-{uuid.uuid4().hex[:8]}",
                **config,
            }
        )

    def settings(self, **changes: Any) -> SyncSettings:
        """Settings of a run that holds nothing back, with changes."""
        return SyncSettings(**(self._defaults() | changes))

    def _defaults(self) -> dict[str, Any]:
        return {
            "source": SOURCE,
            "max_concurrency": 4,
            "requests_per_second": self.config.requests_per_second,
            "max_in_doubt": 1000,
            "max_rejected_ratio": 1.0,
        }

    def open_ledger(self) -> Ledger:
        """The ledger, over a connection pool of its own."""
        engine = sa.create_engine(self.ledger_url, future=True)
        self._engines.append(engine)
        return Ledger.open(engine)

    def close(self) -> None:
        """Close all connections to the ledger."""
        for engine in self._engines:
            engine.dispose()

    def sync(
        self,
        run: Run,
        *,
        dag_run: str = "dag/one/sync",
        try_number: int = 1,
        prior: Prior | None = None,
        write_back: Any = None,
        ledger: Ledger | None = None,
        config: ClientConfig | None = None,
        **settings: Any,
    ) -> LeadSync:
        """A lead sync that has not run yet.

        :param run: gets the result lines
        """

        def keep(lines: Iterable[Mapping[str, object]]) -> str:
            run.lines = [dict(line) for line in lines]
            return "results.jsonl"

        return LeadSync(
            settings=self.settings(**settings),
            config=config or self.config,
            ledger=ledger or self.open_ledger(),
            run=RunIdentity(dag_run=dag_run, try_number=try_number),
            prior=prior,
            write_back=write_back,
            results=keep,
            take_evidence=take_evidence,
        )

    def run(
        self,
        dag_run: str = "dag/one/sync",
        *,
        rows: Iterable[Row] | None = None,
        raises: type[BaseException] | tuple[type[BaseException], ...] = (),
        **options: Any,
    ) -> Run:
        """Run once, to the end.

        :param rows: instead of the world's
        :param raises: what may be raised besides errors of Popin and of the ledger
        :param options: of :meth:`sync`, or settings
        """
        source = self.rows if rows is None else rows
        run = Run(rows=len(source) if isinstance(source, Sequence) else None)
        self.runs.append(run)
        expected: tuple[type[BaseException], ...] = raises if isinstance(raises, tuple) else (raises,)
        expected += (PopinError, SyncError)
        with kept_logs(self.log):
            sync = self.sync(run, dag_run=dag_run, **options)
            try:
                run.report = sync.run(iter(source))
                run.problems = run.report.problems(self.settings())
            except expected as error:
                run.error = error
        return run

    def task(self, folder: Path, *, dag_run: str = "dag/one/sync", **options: Any) -> Task:
        """A run, for a process of its own.

        :param folder: for what it writes
        :param options: of :class:`.worker.Task`, or settings
        """
        own = {name: options.pop(name) for name in list(options) if name in Task.__dataclass_fields__}
        values: dict[str, Any] = {
            "ledger_url": self.ledger_url,
            "config": {each.name: getattr(self.config, each.name) for each in fields(self.config)},
            "settings": self._defaults() | options,
            "rows": self.rows,
        }
        return Task(folder=str(folder), dag_run=dag_run, **(values | own))

    def take_over(self, worker: Worker) -> Run:
        """Keep what a worker told that has ended, for the invariants."""
        lines = worker.lines()
        run = Run(rows=len(worker.task.rows), lines=lines)
        if lines is None:
            run.error = RuntimeError(f"ended with {worker.wait()}")
        self.log.append(worker.told())
        self.runs.append(run)
        return run

    def settle(self, runs: int = 1, **options: Any) -> Run:
        """Faults are over, time passes, and the next Dag runs pick up what is left.

        :return: the last run
        """
        self.sandbox.set_faults()
        self.sandbox.wait_listening()
        self.sandbox.wait_idle()
        for number in range(runs):
            self.ledger.let_time_pass()
            run = self.run(f"dag/settle-{len(self.runs)}-{number}/sync", **options)
        return run


@contextmanager
def kept_logs(lines: list[str]) -> Iterator[None]:
    """Collect every log line of every logger, formatted with its exception.

    :param lines: appended to
    """
    handler = _Keeper(lines)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


class _Keeper(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.DEBUG)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
