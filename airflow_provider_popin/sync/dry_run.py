"""A dry run: validate, plan and report. It creates no ledger, claims nothing and sends no POST."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from airflow_provider_popin.client.client import PopinClient
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.client.models import Calendar
from airflow_provider_popin.sync.admission import Action, Decision, ResultSet, Situation
from airflow_provider_popin.sync.intake import Admission, Admitted, Limit, Row, waiting_for
from airflow_provider_popin.sync.ledger import leases, ledger_queries
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.planning import planner
from airflow_provider_popin.sync.planning.planner import Openings, Waiting
from airflow_provider_popin.sync.progress import Progress
from airflow_provider_popin.sync.reading import SourceReader, row_reader
from airflow_provider_popin.sync.report import Report
from airflow_provider_popin.sync.results import ResultsWriter, write_results
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings
from airflow_provider_popin.sync.source.rows import LeadRow
from airflow_provider_popin.sync.spool import Spool
from airflow_provider_popin.sync.watermark import Watermark


def dry_run(
    rows: Iterable[Mapping[str, object]],
    *,
    settings: SyncSettings,
    config: ClientConfig,
    ledger: Ledger | None,
    run: RunIdentity,
    spool: Spool,
    report: Report,
    results: ResultsWriter | None,
    watermark: Watermark | None = None,
) -> None:
    """Say what a run would do now. What others do meanwhile may change it.

    :param rows: the source
    :param ledger: None where there is none yet; then every lead is new
    :param report: filled in
    :param watermark: read by, and left where it is
    :raises PopinError: the slots cannot be read as documented
    """
    with PopinClient(config) as client:
        calendar = client.get_slots()
    preview = _Preview(settings, config, ledger, run, calendar)
    if watermark is not None and ledger is not None:
        with ledger.read() as connection:
            account = config.account_key
            watermark.open(connection, account=account, source=settings.source, run=run, write=False)
    SourceReader(row_reader(settings, config), spool, Progress(), watermark).read(rows, preview.take)
    if settings.books:
        spool.decide(preview.planned())
    else:
        spool.decide((number, ResultSet.PLANNED, None, None) for number in preview.to_capture)
    report.shared_phones = spool.shared_phones()
    write_results(
        spool,
        ledger=ledger,
        situation=preview.situation,
        report=report,
        writer=results,
        unfinished_reason=None,
    )
    if ledger is not None:
        with ledger.read() as connection:
            report.in_doubt_open = ledger_queries.count_in_doubt(
                connection, config.account_key, settings.source
            )
    report.watermark = watermark.told() if watermark is not None else None


class _Preview:
    """Collects what would be sent. The planner's key of a lead is its row number."""

    def __init__(
        self,
        settings: SyncSettings,
        config: ClientConfig,
        ledger: Ledger | None,
        run: RunIdentity,
        calendar: Calendar,
    ) -> None:
        self._ledger = ledger
        earliest = datetime.now(UTC) + settings.min_notice
        self._slots = [slot for slot in calendar.slots if slot.start >= earliest]
        self._seats = [settings.calls_per_slot] * len(self._slots)
        self._timezone = calendar.timezone
        live: frozenset[str] = frozenset()
        if ledger is not None:
            with ledger.read() as connection:
                live = leases.live_owners(connection)
                self._seats = ledger_queries.free_seats(
                    connection, config.account_key, self._slots, settings.calls_per_slot
                )
        openings = Openings(self._slots, self._seats, seller_timezone=calendar.timezone)
        self.situation = Situation(
            dag_run=run.dag_run,
            books=settings.books,
            captures=settings.captures,
            resend=settings.on_in_doubt == "resend",
            owner="dry-run",
            live_owners=live,
        )
        self._admission = Admission(
            ledger=None,
            account=config.account_key,
            source=settings.source,
            situation=self.situation,
            limit=Limit(settings.limit, openings if settings.books else None),
        )
        self._waiting: list[Waiting] = []
        self._resent: list[tuple[int, ResultSet, str | None, str | None]] = []
        self.to_capture: list[int] = []

    def take(self, rows: Sequence[tuple[int, Row]]) -> list[Admitted]:
        """Decide about a chunk and remember who would be sent."""
        if self._ledger is None:
            admitted = self._admission.preview(None, [row for _, row in rows])
        else:
            with self._ledger.read() as connection:
                admitted = self._admission.preview(connection, [row for _, row in rows])
        for (number, _), one in zip(rows, admitted, strict=True):
            self._remember(number, one)
        return admitted

    def _remember(self, number: int, one: Admitted) -> None:
        if one.decision.result is not None:
            return
        if one.decision.action is Action.REFUSE:
            one.decision = Decision(Action.NOTHING, ResultSet.REJECTED, one.decision.reason)
        elif one.decision.action is Action.RESEND and one.record is not None:
            # It goes to its own slot, whose seat it holds: there is nothing to plan.
            self._resent.append((number, ResultSet.PLANNED, None, one.record.slot_time))
        elif isinstance(one.row, LeadRow):
            self.to_capture.append(number)
            self._waiting.append(waiting_for(number, one.row.lead_id, one.row.wish))

    def planned(self) -> Iterable[tuple[int, ResultSet, str | None, str | None]]:
        """Where those who would be sent end."""
        plan = planner.plan(self._waiting, self._slots, self._seats, seller_timezone=self._timezone)
        yield from self._resent
        for number, index in plan.assigned.items():
            yield number, ResultSet.PLANNED, None, self._slots[index].time
        for number, reason in plan.unassigned.items():
            yield number, ResultSet.UNASSIGNED, reason, None
