"""The bulk job: leads from a database, a file or Python become scheduled Popin calls, each at most once."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import datetime, time, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator, XComArg

from airflow_provider_popin.client.config import region_code
from airflow_provider_popin.client.errors import PopinError
from airflow_provider_popin.hooks.ledger import DEFAULT_LEDGER, open_ledger, sql_engine
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.operators._arguments import check_sql, read_dry_run, read_limit, read_parameters
from airflow_provider_popin.operators._earlier_runs import leave_note, look_back
from airflow_provider_popin.operators._leads_from_files import check_path, leads_from_file
from airflow_provider_popin.operators._leads_from_python import check_leads, leads_from_python
from airflow_provider_popin.operators._leads_from_sql import SqlParameters, leads_from_sql
from airflow_provider_popin.operators._lineage import LineageMethods
from airflow_provider_popin.operators._metrics import count_run
from airflow_provider_popin.operators._object_storage import object_path, path_text
from airflow_provider_popin.operators._results_file import ResultsFile, check_folder
from airflow_provider_popin.operators._run_identity import run_identity
from airflow_provider_popin.operators._watermark import check_watermark, watermark_settings
from airflow_provider_popin.operators._write_back import SqlWriteBack, check_write_back_sql
from airflow_provider_popin.operators.failures import ledger_error, task_error, with_connections
from airflow_provider_popin.operators.templated import (
    argument_error,
    is_literal,
    optional_hours,
    optional_instant,
)
from airflow_provider_popin.sync.errors import LedgerError, SyncStoppedError
from airflow_provider_popin.sync.settings import Prior, RunIdentity, SyncSettings
from airflow_provider_popin.sync.source.field_map import FieldMap

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_popin.client.config import ClientConfig
    from airflow_provider_popin.operators._leads_from_python import Leads
    from airflow_provider_popin.sync.engine import LeadSync
    from airflow_provider_popin.sync.ledger.ledger import Ledger
    from airflow_provider_popin.sync.report import Report
    from airflow_provider_popin.sync.source.watermark_settings import Start

_TEMPLATED: Final[Mapping[str, Callable[[object], object]]] = {
    "sql": check_sql,
    "parameters": read_parameters,
    "path": check_path,
    "results_path": check_folder,
    "limit": read_limit,
    "dry_run": read_dry_run,
}
_KILLED: Final = "the task was killed"
_T = TypeVar("_T")


class PopinLeadSyncOperator(LineageMethods, BaseOperator):
    """Capture leads at Popin and book a call for each, with a ledger that forbids booking one twice.

    Exactly one of ``sql``, ``path`` and ``leads`` says where the leads come from. Rows are read one at a time
    and never stand in rendered fields, logs or this operator's XComs.

    The task fails, after everything is committed, when too many rows were rejected or bookings are in doubt;
    then it is not retried, because a retry would change nothing. In every other failure a retry is safe: it
    goes on from the ledger.

    :param source: stable name of where the leads come from, part of each lead's identity in the ledger. A
        literal: a template would make every lead new.
    :param sql: a SELECT, or the name of a ``.sql`` file; one row per lead. Templated.
    :param sql_conn_id: connection of ``sql``.
    :param parameters: of ``sql``: a mapping for ``:name``, or a mapping or list as the driver takes it.
        Templated.
    :param path: csv or jsonl file, also gzipped, local or on object storage (``s3://bucket/leads.csv``).
        Templated.
    :param path_conn_id: connection of ``path``, if it needs one.
    :param leads: a sequence of mappings, the output of another task, or a function ``(context) -> iterable of
        mappings`` that is called in the task. What another task returns is stored by Airflow; only a function
        keeps the rows out of its database. In ``partial()`` give a function: Airflow stores the arguments of
        mapped tasks, and does not see that an output there makes the task depend on another.
    :param watermark_column: column that grows with every change of a row: only new, changed and unfinished
        rows are read. ``sql`` must use ``:watermark`` (``WHERE updated_at >= :watermark``); a function in
        ``leads`` is called as ``leads(context, watermark=...)``. Not for files.
    :param watermark_start: the first run reads from here: an aware or naive datetime, a date, a whole number
        or ISO 8601 text, of the type that the column has.
    :param watermark_overlap: how much is read again for rows that appear late: a timedelta (one hour), for a
        column of whole numbers a whole number (1000).
    :param field_map: Popin's field to the source's column or list of columns; default: columns of the same
        name. Targets: lead_id, name, mobile, email, country, group, agent, pincode, native, campaign.<key>,
        earliest, latest, hours_from, hours_to, timezone, priority, generation, customer_id.
    :param popin_conn_id: connection of type ``popin``.
    :param ledger_conn_id: SQLite or Postgres connection of the ledger; None takes the one that the Popin
        connection names.
    :param steps: ``("capture", "schedule")``, ``("capture",)`` or ``("schedule",)``.
    :param calls_per_slot: how many calls may start at the same time.
    :param min_notice: how long before its start a slot may still be booked.
    :param earliest: no call before this instant: an aware datetime or ISO 8601 text with an offset.
    :param latest: no call at or after this instant.
    :param hours: hours of the day, in the lead's or else the seller's timezone: two times, or
        ``"10:00-18:00"``.
    :param default_region: ISO country of phone numbers without one; None takes the connection's.
    :param drop_phone_extension: drop extensions instead of rejecting the number.
    :param max_concurrency: requests under way at once, 1 to 10,000; None takes the connection's.
    :param requests_per_second: client-side limit, 0.001 to 1e9, or 0 for none; None takes the connection's.
    :param limit: send at most so many leads in each try, the first in source order. A lead that was captured
        before and could have no slot now does not count. Templated.
    :param dry_run: validate, plan and report; send nothing and keep nothing. Templated: true, yes, 1, false,
        no, 0 in any case; anything else is an error.
    :param carry_over: also book leads that were captured by an earlier run and are absent from this read.
    :param max_rejected_ratio: share of rejected rows above which the task fails, from 20 attempted rows on.
    :param max_in_doubt: bookings in doubt above which no further booking starts and the task fails.
    :param on_in_doubt: ``"hold"`` waits for a person or a webhook; ``"resend"`` sends a booking in doubt once
        more in a later run, and may book it twice.
    :param results_path: folder for one JSON line per row, ``<results_path>/<dag>/<run>/<task>/<try>.jsonl``;
        of a mapped task ``.../<task>/<map_index>/<try>.jsonl``. Templated; empty or ``"None"``: no results
        are written.
    :param results_conn_id: connection of ``results_path``, if it needs one.
    :param write_back_sql: idempotent statement that tells the CRM, with any of ``:lead_id :customer_id
        :join_url :call_time :state :reason``; it runs at least once per change of a lead.
    :param write_back_conn_id: its connection; None takes ``sql_conn_id``.
    :return: the report: counts per result set and reason, ledger id and sequence, ``results_path``; nothing
        personal.
    :raises PopinInputError: when the Dag is parsed: an argument cannot be used.
    """

    template_fields: Sequence[str] = ("sql", "parameters", "path", "results_path", "limit", "dry_run")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql", "parameters": "json"}  # noqa: RUF012  (as Airflow declares it)
    # A Dag is copied more often than one would think, and so would be all leads in it.
    shallow_copy_attrs: Sequence[str] = ("leads",)
    ui_color = "#e8f4fd"

    def __init__(
        self,
        *,
        source: str,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        parameters: SqlParameters | None = None,
        path: str | os.PathLike[str] | None = None,
        path_conn_id: str | None = None,
        leads: Leads | None = None,
        watermark_column: str | None = None,
        watermark_start: Start | None = None,
        watermark_overlap: timedelta | int | None = None,
        field_map: Mapping[str, str | Sequence[str]] | None = None,
        popin_conn_id: str = PopinHook.default_conn_name,
        ledger_conn_id: str | None = DEFAULT_LEDGER,
        steps: Sequence[str] = ("capture", "schedule"),
        calls_per_slot: int = 1,
        min_notice: timedelta = timedelta(minutes=30),
        earliest: datetime | str | None = None,
        latest: datetime | str | None = None,
        hours: tuple[time, time] | Sequence[str] | str | None = None,
        default_region: str | None = None,
        drop_phone_extension: bool = False,
        max_concurrency: int | None = None,
        requests_per_second: float | None = None,
        limit: int | str | None = None,
        dry_run: bool | str = False,
        carry_over: bool = False,
        max_rejected_ratio: float = 0.2,
        max_in_doubt: int = 0,
        on_in_doubt: str = "hold",
        results_path: str | os.PathLike[str] | None = None,
        results_conn_id: str | None = None,
        write_back_sql: str | None = None,
        write_back_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source, self.field_map, self.steps = source, field_map, steps
        self.sql, self.sql_conn_id, self.parameters = sql, sql_conn_id, parameters
        self.path, self.path_conn_id = path_text(path), path_conn_id
        self.leads = leads
        self.watermark_column, self.watermark_start = watermark_column, watermark_start
        self.watermark_overlap = watermark_overlap
        self.popin_conn_id, self.ledger_conn_id = popin_conn_id, ledger_conn_id
        self.calls_per_slot, self.min_notice = calls_per_slot, min_notice
        self.earliest, self.latest, self.hours = earliest, latest, hours
        self.default_region, self.drop_phone_extension = default_region, drop_phone_extension
        self.max_concurrency, self.requests_per_second = max_concurrency, requests_per_second
        # The name hides a method of BaseOperator, for `airflow tasks test --dry-run`: it renders templates.
        self.limit, self.dry_run, self.carry_over = limit, dry_run, carry_over  # type: ignore[assignment]
        self.max_rejected_ratio, self.max_in_doubt = max_rejected_ratio, max_in_doubt
        self.on_in_doubt = on_in_doubt
        self.results_path, self.results_conn_id = path_text(results_path), results_conn_id
        self.write_back_sql, self.write_back_conn_id = write_back_sql, write_back_conn_id
        self._sync: LeadSync | None = None
        self._killed = False
        # For OpenLineage, which asks after the task has ended.
        self.last_report: Report | None = None
        self._check_arguments()
        # As if `leads` were a template field, which it is not: rendered fields are stored and shown.
        XComArg.apply_upstream_relationship(self, leads)

    @cached_property
    def hook(self) -> PopinHook:
        """The hook of ``popin_conn_id``."""
        return PopinHook(popin_conn_id=self.popin_conn_id)

    def execute(self, context: Context) -> dict[str, object]:
        """Run the job and return its report.

        :param context: of the running task.
        :raises AirflowFailException: a person must act: an argument, a connection or the ledger is unusable,
            or too many leads were rejected or are in doubt. Everything is committed by then.
        :raises SyncStoppedError: the task was killed or timed out.
        """
        self.last_report = None
        try:
            prior = look_back(context["ti"])
            # Before anything can fail: what a wrong connection ends sent nothing, and later runs must know.
            self._note(context, prior, dry_run=False, sending=False)
            self._check_where_from()
            self._check_templated(rendered=True)
            settings = self._settings(self.hook.config)
            report = self.last_report = self._run(context, settings, prior)
        except LedgerError as error:
            raise ledger_error(error, **self._connections()) from error
        except PopinError as error:
            raise task_error(error, conn_id=self.popin_conn_id) from error
        finally:
            # In `dag.test()` the next try uses this very object.
            self._sync, self._killed = None, False
        if problems := report.problems(settings):
            raise AirflowFailException(with_connections("\n".join(problems), **self._connections()))
        return report.to_xcom()

    def on_kill(self) -> None:
        """Stop at once: what is unanswered is committed as in doubt."""
        self._killed = True
        if self._sync is not None:
            self._sync.stop(_KILLED)

    @staticmethod
    def _note(context: Context, prior: Prior, *, dry_run: bool, sending: bool) -> None:
        newest = prior.reports[0] if prior.reports else {}
        leave_note(context["ti"], dry_run=dry_run, sending=sending, report=newest)

    def _run(self, context: Context, settings: SyncSettings, prior: Prior) -> Report:
        from airflow_provider_popin.sync.engine import LeadSync
        from airflow_provider_popin.webhooks.processing import take_evidence

        ti, run = context["ti"], run_identity(context["ti"])
        with ExitStack() as stack:
            ledger = self._ledger(stack, dry_run=settings.dry_run)
            sync = self._sync = LeadSync(
                settings=settings,
                config=self.hook.config,
                ledger=ledger,
                run=run,
                prior=prior,
                write_back=self._write_back(stack),
                results=self._results(run),
                take_evidence=take_evidence,
            )
            if self._killed:
                # Airflow 3 raises nothing in a task that it stops: without this, everything would be sent.
                raise SyncStoppedError(_KILLED)
            rows = stack.enter_context(closing(self._rows(context, sync)))
            self._note(context, prior, dry_run=settings.dry_run, sending=True)
            try:
                return sync.run(rows)
            finally:
                # Also where something stopped the run: what it booked counts. A dry run has no numbers of its
                # own, and must not hide those of the run before it.
                if sync.noted is not None:
                    count_run(sync.noted, ledger)
                    leave_note(ti, dry_run=False, sending=True, report=sync.noted.to_xcom())

    def _rows(self, context: Context, sync: LeadSync) -> Generator[Mapping[str, object]]:
        read_from = (lambda: sync.read_from) if self.watermark_column is not None else None
        if self.sql is not None:
            return leads_from_sql(
                sql_engine(_given(self.sql_conn_id)),
                sql=self.sql,
                parameters=read_parameters(self.parameters),
                conn_id=_given(self.sql_conn_id),
                read_from=read_from,
            )
        if self.path is not None:
            return leads_from_file(object_path(self.path, self.path_conn_id, field="path"))
        assert self.leads is not None
        return leads_from_python(self.leads, context, read_from)

    def _ledger(self, stack: ExitStack, *, dry_run: bool) -> Ledger | None:
        from airflow_provider_popin.sync.ledger.ledger import Ledger

        conn_id = self._ledger_id()
        # A dry run reads what is there, and makes nothing.
        ledger = Ledger.find(sql_engine(conn_id)) if dry_run else open_ledger(conn_id)
        if ledger is not None:
            stack.callback(ledger.engine.dispose)
        return ledger

    def _ledger_id(self) -> str:
        return self.ledger_conn_id or self.hook.ledger_conn_id or DEFAULT_LEDGER

    def _connections(self) -> dict[str, str]:
        return {"ledger_conn_id": self._ledger_id(), "popin_conn_id": self.popin_conn_id}

    def _write_back(self, stack: ExitStack) -> SqlWriteBack | None:
        if self.write_back_sql is None:
            return None
        conn_id = _given(self.write_back_conn_id or self.sql_conn_id)
        write_back = SqlWriteBack(sql_engine(conn_id), sql=self.write_back_sql, conn_id=conn_id)
        stack.callback(write_back.close)
        return write_back

    def _results(self, run: RunIdentity) -> Callable[[Iterable[Mapping[str, object]]], str] | None:
        folder = check_folder(self.results_path)
        if folder is None:
            return None
        place = object_path(folder, self.results_conn_id, field="results_path")
        file = ResultsFile(place, run=run.dag_run, try_number=run.try_number)
        file.prepare()
        return file.write

    def _settings(self, config: ClientConfig | None) -> SyncSettings:
        """Build the engine's settings, which checks them.

        :param config: of the connection, for what the arguments leave open; None when the Dag is parsed: then
            the templated arguments are not rendered yet, and left out.
        """
        given: dict[str, Any] = {
            "max_concurrency": self.max_concurrency,
            "requests_per_second": self.requests_per_second,
            "default_region": self.default_region,
        }
        if config is not None:
            connection = {name: getattr(config, name) for name in given}
            given = {name: connection[name] if value is None else value for name, value in given.items()}
            given["limit"] = read_limit(self.limit)
            given["dry_run"] = read_dry_run(self.dry_run)
        return SyncSettings(
            source=self.source,
            field_map=self.field_map,
            steps=self.steps,
            calls_per_slot=self.calls_per_slot,
            min_notice=self.min_notice,
            earliest=optional_instant(self.earliest, "earliest"),
            latest=optional_instant(self.latest, "latest"),
            hours=optional_hours(self.hours, "hours"),
            drop_phone_extension=self.drop_phone_extension,
            carry_over=self.carry_over,
            max_rejected_ratio=self.max_rejected_ratio,
            max_in_doubt=self.max_in_doubt,
            on_in_doubt=self.on_in_doubt,
            watermark=watermark_settings(self),
            **{name: value for name, value in given.items() if value is not None},
        )

    def _check_arguments(self) -> None:
        """Find at parse time what can be found then; see ``__init__``."""
        self._check_where_from()
        check_leads(self.leads, watermark=self.watermark_column is not None)
        self._check_templated(rendered=False)
        check_watermark(self)
        self._settings(None)
        if self.default_region is not None and region_code(self.default_region) is None:
            # Else every number without a country would be rejected, and its row blamed.
            raise argument_error("default_region", "must be an ISO alpha-2 region, for example IN, or None")
        if self.field_map is not None:
            FieldMap.parse(self.field_map, steps=self.steps)
        if self.write_back_sql is not None:
            check_write_back_sql(self.write_back_sql)
            if self.write_back_conn_id is None and self.sql_conn_id is None:
                raise argument_error(
                    "write_back_conn_id", "write_back_sql needs it where there is no sql_conn_id"
                )

    def _check_templated(self, *, rendered: bool) -> None:
        """Check the templated arguments: all of them in the task, the literal ones when the Dag is parsed."""
        for name, check in _TEMPLATED.items():
            value = getattr(self, name)
            if rendered or is_literal(value):
                check(value)

    def _check_where_from(self) -> None:
        given = [name for name in ("sql", "path", "leads") if getattr(self, name) is not None]
        if len(given) != 1:
            raise argument_error(
                "sql", f"exactly one of sql, path and leads is needed, not {' and '.join(given) or 'none'}"
            )
        if self.sql is not None and self.sql_conn_id is None:
            raise argument_error("sql_conn_id", "sql needs it")
        if self.sql is None and self.parameters is not None:
            raise argument_error("parameters", "belongs to sql, which is not given")


def _given(value: _T | None) -> _T:
    """Return an argument of which ``_check_arguments`` said that it is there."""
    assert value is not None
    return value
