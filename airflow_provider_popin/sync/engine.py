"""The run of a bulk job: read and capture, plan and book, write back, results.

Two threads and a writer. The caller's thread reads the source, validates rows and talks to the CRM:
connections and callables of Airflow belong to it. The exchange with Popin runs in an event loop of its own
thread (:class:`.session.Session`), so that a signal, a task timeout or any exception in the caller's thread
finds it and stops it in good order.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.sync.admission import Situation
from airflow_provider_popin.sync.dry_run import dry_run
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.ledger import ledger_queries, run_log
from airflow_provider_popin.sync.ledger.ledger import Ledger, clock
from airflow_provider_popin.sync.loop_thread import LoopThread, OverdueError
from airflow_provider_popin.sync.progress import Progress
from airflow_provider_popin.sync.reading import SourceReader, lead_id_column, row_reader
from airflow_provider_popin.sync.report import NAMED_LEADS, Report, summary_line
from airflow_provider_popin.sync.results import ResultsWriter, write_results
from airflow_provider_popin.sync.session import Session, TakeEvidence
from airflow_provider_popin.sync.settings import Prior, RunIdentity, SyncSettings
from airflow_provider_popin.sync.spool import Spool
from airflow_provider_popin.sync.stop_switch import StopSwitch
from airflow_provider_popin.sync.watermark import Watermark
from airflow_provider_popin.sync.write_back import WriteBack, write_back_changes

log = logging.getLogger(__name__)

# Airflow kills a task 5 s after SIGTERM: 3 s for answers under way, 1 s for their commit.
STOP_SECONDS = 4.5


class LeadSync:
    """One try of one bulk job. For one run only.

    :param settings: what to do
    :param config: the Popin connection
    :param ledger: None only in a dry run where there is no ledger yet
    :param run: which Dag run and try this is
    :param prior: what is known about earlier runs, for the guards
    :param write_back: tells the CRM; see :data:`.write_back.WriteBack`
    :param results: writes the results file; see :data:`.results.ResultsWriter`
    :param take_evidence: lets webhooks count that were received; see :data:`.session.TakeEvidence`
    :ivar noted: the report as the ledger keeps it, also of a run that raised; None where it keeps none
    """

    def __init__(
        self,
        *,
        settings: SyncSettings,
        config: ClientConfig,
        ledger: Ledger | None,
        run: RunIdentity,
        prior: Prior | None = None,
        write_back: WriteBack | None = None,
        results: ResultsWriter | None = None,
        take_evidence: TakeEvidence | None = None,
    ) -> None:
        if ledger is None and not settings.dry_run:
            raise LedgerError("a run that sends needs a ledger; only a dry run does without")
        self._settings = settings
        self._config = replace(
            config,
            max_concurrency=settings.max_concurrency,
            requests_per_second=settings.requests_per_second,
        )
        self._ledger = ledger
        self._run = run
        self._prior = prior or Prior()
        self._write_back = write_back
        self._results = results
        self._take_evidence = take_evidence
        self.noted: Report | None = None
        self._switch = StopSwitch()
        self._progress = Progress()
        self._watermark = Watermark(settings, config) if settings.watermark is not None else None

    @property
    def read_from(self) -> object:
        """What ``rows`` compare the watermark column with, once the first of them is asked for.

        None in a run without a watermark.
        """
        return None if self._watermark is None else self._watermark.read_from

    def run(self, rows: Iterable[Mapping[str, object]]) -> Report:
        """Run to the end.

        :param rows: the source, read once, in order; closed when read if it can be closed
        :return: the report; ask it for its problems
        :raises PopinError: Popin cannot be used (connection, key, address, rate limit); unsent leads are
            pending
        :raises LedgerError: the ledger cannot be used, or must not be (:class:`.errors.LedgerGuardError`)
        :raises SyncStoppedError: :meth:`stop` was called
        """
        report = Report(
            source=self._settings.source,
            dag_run=self._run.dag_run,
            try_number=self._run.try_number,
            dry_run=self._settings.dry_run,
        )
        with Spool() as spool:
            if self._settings.dry_run:
                dry_run(
                    rows,
                    settings=self._settings,
                    config=self._config,
                    ledger=self._ledger,
                    run=self._run,
                    spool=spool,
                    report=report,
                    results=self._results,
                    watermark=self._watermark,
                )
            elif self._ledger is not None:
                self._send(rows, spool, report, self._ledger)
            report.seconds = round(self._progress.seconds(), 3)
        log.info("Lead sync: %s", summary_line(report))
        if self._switch.failure is not None:
            raise self._switch.failure
        return report

    def stop(self, why: str) -> None:
        """Stop from outside, from any thread: nothing more is sent, answers under way get a few seconds.

        :param why: for the error's text
        """
        self._switch.stop_from_outside(why)

    def _send(
        self, rows: Iterable[Mapping[str, object]], spool: Spool, report: Report, ledger: Ledger
    ) -> None:
        reader = row_reader(self._settings, self._config)
        session = Session(
            settings=self._settings,
            config=self._config,
            ledger=ledger,
            run=self._run,
            prior=self._prior,
            switch=self._switch,
            progress=self._progress,
            lead_id_column=lead_id_column(self._settings),
            watermark=self._watermark,
            take_evidence=self._take_evidence,
        )
        with LoopThread(self._progress.tick, self._patience) as thread:
            try:
                situation = thread.call(session.open())
                SourceReader(reader, spool, self._progress, self._watermark, session.is_ahead).read(
                    self._while_unhurried(rows),
                    lambda chunk: thread.call(session.take([row for _, row in chunk])),
                    self._switch,
                )
                if self._settings.books:
                    # Beside the last captures, which are claimed by this run and so left out.
                    self._count_absent(ledger, spool, report, thread, session, situation.owner)
                thread.call(session.finish_captures())
                if self._settings.books and not self._switch.stopped:
                    thread.call(session.book())
            except BaseException as error:
                # A signal, a task timeout, or an error of the source: no unanswered POST is left behind.
                self._switch.stop(error, hurry=not isinstance(error, Exception))
                self._close(thread, session)
                if self._switch.failure is error:
                    raise
                raise self._switch.failure or error from error
            self._close(thread, session)
        self._finish(ledger, spool, report, situation, session)

    def _is_hurried(self) -> bool:
        """Whether the process is about to be killed."""
        return self._switch.hurry

    def _patience(self) -> float:
        """How many seconds the caller may still be kept waiting."""
        return STOP_SECONDS - self._switch.hurried_seconds() if self._switch.hurry else math.inf

    def _while_unhurried(self, rows: Iterable[Mapping[str, object]]) -> Iterator[Mapping[str, object]]:
        """The source, read to its end unless the process is about to be killed."""
        try:
            for row in rows:
                if self._switch.hurry:
                    return
                yield row
        finally:
            close = getattr(rows, "close", None)
            if callable(close):
                close()

    def _close(self, thread: LoopThread, session: Session) -> None:
        try:
            thread.call(session.close())
        except OverdueError:
            log.error(
                "The run could not be ended in %s s; what was unanswered becomes in doubt.", STOP_SECONDS
            )

    def _count_absent(
        self,
        ledger: Ledger,
        spool: Spool,
        report: Report,
        thread: LoopThread,
        session: Session,
        owner: str,
    ) -> None:
        """Captured, unbooked leads that this read did not contain: reported, and booked if asked to.

        :param owner: this run's name on its claims, all of which are on leads of this read
        """
        after = 0
        while not self._switch.stopped:
            with ledger.read() as connection:
                page = ledger_queries.unfinished(
                    connection, self._config.account_key, self._settings.source, after, owner
                )
            if not page:
                return
            after = page[-1].id
            present = spool.known_records([record.id for record in page])
            refused = spool.leads_without_record([record.lead_id for record in page])
            absent = [
                record
                for record in page
                if record.id not in present
                # A row of another generation does not stand for this one: it may have to wait for it.
                and refused.isdisjoint({(record.lead_id, record.generation), (record.lead_id, None)})
            ]
            report.unfinished_absent += len(absent)
            if self._settings.carry_over and absent:
                report.carried_over += thread.call(session.carry_over(absent))

    def _finish(
        self, ledger: Ledger, spool: Spool, report: Report, situation: Situation, session: Session
    ) -> None:
        """What comes after the last POST: the CRM, the results, the ledger's own note of this run."""
        account, source = self._config.account_key, self._settings.source
        if self._is_hurried() or isinstance(self._switch.failure, LedgerError):
            return
        if self._write_back is not None:
            write_back_changes(
                ledger,
                account=account,
                source=source,
                write_back=self._write_back,
                report=report,
                is_over=self._is_hurried,
            )
            if self._is_hurried():
                return
        report.shared_phones = spool.shared_phones()
        if report.shared_phones:
            log.warning("%s phone numbers stand on more than one lead id.", report.shared_phones)
        told = False
        try:
            write_results(
                spool,
                ledger=ledger,
                situation=situation,
                report=report,
                writer=self._results,
                unfinished_reason="stopped" if self._switch.stopped else "too_many_in_doubt",
                watermark=self._watermark,
            )
            told = True
        finally:
            # Where results cannot be written, the ledger keeps its note all the same, and doubts are named.
            if not self._is_hurried():
                self._note_end(ledger, report, situation, session, told=told)

    def _note_end(
        self, ledger: Ledger, report: Report, situation: Situation, session: Session, *, told: bool
    ) -> None:
        """The ledger's own note of this run.

        :param told: whether the results are written
        """
        account, source = self._config.account_key, self._settings.source
        report.seconds = round(self._progress.seconds(), 3)
        with ledger.write() as connection:
            report.in_doubt_open = ledger_queries.count_in_doubt(connection, account, source)
            report.tell(
                ledger_queries.troubles(
                    connection, account, source, self._run.dag_run, situation.owner, NAMED_LEADS
                )
            )
            if self._watermark is not None:
                # A run that was stopped did not do all it could for the rows that it read.
                if told and not self._switch.stopped:
                    self._watermark.save(connection)
                report.watermark = self._watermark.told()
            report.ledger_id = ledger.ledger_id
            report.ledger_sequence = run_log.next_sequence(connection)
            report.ledger_time = clock(connection)
            if session.run_row is not None:
                run_log.end_run(connection, session.run_row, report.to_xcom())
        self.noted = report
        if not told or self._switch.failure is not None:
            # What ends the run names no lead; the doubts of this run must be named all the same.
            for problem in report.problems(self._settings):
                log.error("%s", problem)
