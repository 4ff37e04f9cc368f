"""What the commands do: open the ledger behind a connection, and ask ``sync.admin``."""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowNotFoundException

from airflow_provider_popin.client.errors import PopinError, PopinInputError
from airflow_provider_popin.hooks.ledger import open_ledger, sql_engine
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.sync import admin
from airflow_provider_popin.sync.errors import LedgerError, SyncError
from airflow_provider_popin.sync.ledger import watermark_store
from airflow_provider_popin.sync.ledger.database import file_problem
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.sync.source.cells import clean_lead_id
from airflow_provider_popin.sync.source.source_name import check_source
from airflow_provider_popin.webhooks import admin as webhooks_admin
from airflow_provider_popin.webhooks import figures, queries
from airflow_provider_popin.webhooks.processing import process_waiting
from airflow_provider_popin.webhooks.views import EventView, LeadView


class UsageError(Exception):
    """The options contradict each other, or one of them cannot be used."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command prints.

    :param rows: all with the same keys, or one kind of JSON object after the other.
    :param ok: False where the rows tell of a problem.
    """

    rows: Iterable[Mapping[str, object]]
    ok: bool = True


def expected_errors() -> tuple[type[Exception], ...]:
    """Return what is told in one line, without a traceback."""
    return AirflowException, PopinError, SyncError, ImportError, OSError


def explain(error: Exception, *, ledger_conn_id: str | None = None) -> str:
    """Say in one line what is wrong and what to do.

    :param error: one of :func:`expected_errors`.
    :param ledger_conn_id: to be named where the ledger is what the error is about; None where it is already.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SyncError) and ledger_conn_id is not None:
        return f"ledger connection {ledger_conn_id!r}: {text}"
    if isinstance(error, AirflowNotFoundException):
        return f"{text}: define it with `airflow connections add` or as AIRFLOW_CONN_<ID> in the environment"
    if isinstance(error, ImportError):
        return f"{text}: install the provider of this connection's database"
    return text


def check_text(arguments: argparse.Namespace) -> None:
    """Refuse what no database can be asked about.

    :param arguments: of any command.
    :raises UsageError: names the option that is not UTF-8; Python keeps its bytes as halves of surrogates.
    """
    texts = {name: value for name, value in vars(arguments).items() if isinstance(value, str)}
    for name, text in texts.items():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(f"--{name.replace('_', '-')} is not UTF-8") from None


def check(arguments: argparse.Namespace) -> Outcome:
    """Try the connections.

    :param arguments: ``popin_conn_id``, ``ledger_conn_id``.
    """
    answered, text = _ask_popin(arguments.popin_conn_id)
    usable, about = _look_at_ledger(arguments.ledger_conn_id)
    rows = [
        {"check": f"Popin, connection {arguments.popin_conn_id}", "ok": answered, "detail": text},
        {"check": f"ledger, connection {arguments.ledger_conn_id}", "ok": usable, "detail": about},
    ]
    return Outcome(rows, ok=answered and usable)


def init(arguments: argparse.Namespace) -> Outcome:
    """Create the ledger, and accept it for a source.

    :param arguments: ``source``, ``lead_id_column``, ``popin_conn_id``, ``ledger_conn_id``.
    :raises UsageError: no Dag can have such a source or column, or there is a column without a source.
    """
    if arguments.source is not None:
        try:
            check_source(arguments.source)
        except PopinInputError as error:
            raise UsageError(f"--source {error.reason}") from None
    if arguments.lead_id_column is not None:
        if not arguments.lead_id_column.strip():
            raise UsageError("--lead-id-column must name a column")
        if arguments.source is None:
            raise UsageError("--lead-id-column is of no use without --source")
    ledger = open_ledger(arguments.ledger_conn_id)
    try:
        if arguments.source is None:
            return Outcome([{"ledger_id": ledger.ledger_id}])
        account = PopinHook(popin_conn_id=arguments.popin_conn_id).config.account_key
        accepted = admin.init_source(
            ledger, account=account, source=arguments.source, lead_id_column=arguments.lead_id_column
        )
    finally:
        ledger.engine.dispose()
    return Outcome([accepted])


def summary(arguments: argparse.Namespace) -> Outcome:
    """Count leads.

    :param arguments: ``source``, ``ledger_conn_id``.
    """
    with _ledger(arguments) as ledger:
        return Outcome(admin.summary(ledger, arguments.source))


def export(arguments: argparse.Namespace) -> Outcome:
    """Give out every lead.

    :param arguments: ``source``, ``ledger_conn_id``.
    """

    def leads() -> Iterator[Mapping[str, object]]:
        with _ledger(arguments) as ledger:
            yield from admin.export(ledger, arguments.source)

    return Outcome(leads())


def forget(arguments: argparse.Namespace) -> Outcome:
    """Erase a lead's data, or rejections.

    :param arguments: ``source``, ``lead`` or ``rejected``, ``ledger_conn_id``.
    :raises UsageError: not exactly one of ``lead`` and ``rejected``, or no lead can have this id.
    """
    if (arguments.lead is None) is not arguments.rejected:
        raise UsageError("exactly one of --lead and --rejected is needed")
    lead_id = None if arguments.rejected else _lead_id(arguments)
    with _ledger(arguments) as ledger:
        forgotten = admin.forget(
            ledger, source=arguments.source, lead_id=lead_id, rejected=arguments.rejected
        )
    return Outcome([{"source": arguments.source, "forgotten": forgotten}])


def watermark(arguments: argparse.Namespace) -> Outcome:
    """Show the watermarks of a source, or reset them.

    :param arguments: ``source``, ``task``, ``reset``, ``ledger_conn_id``.
    :raises LedgerError: a task is named that has none: as with a source, it may be mistyped.
    """
    with _ledger(arguments) as ledger:
        if arguments.reset:
            watermark_store.reset(ledger, arguments.source, arguments.task)
        rows = watermark_store.watermarks(ledger, arguments.source)
    found = [row for row in rows if arguments.task in (None, row["task"])]
    if arguments.task is not None and not found:
        there_are = f"there are {', '.join(str(row['task']) for row in rows)}" if rows else "there is none"
        raise LedgerError(
            f"no task {arguments.task!r} keeps a watermark of {arguments.source!r}; {there_are}"
        )
    return Outcome(found)


def list_in_doubt(arguments: argparse.Namespace) -> Outcome:
    """List bookings in doubt.

    :param arguments: ``source``, ``ledger_conn_id``.
    """
    with _ledger(arguments) as ledger:
        return Outcome(admin.list_in_doubt(ledger, arguments.source))


def resolve(arguments: argparse.Namespace) -> Outcome:
    """End a doubt.

    :param arguments: ``source``, ``lead``, ``generation``, ``account``, ``outcome``, ``why``, ``user``,
        ``ledger_conn_id``.
    :raises UsageError: no lead can have this id, or ``why`` is blank.
    """
    lead_id = _lead_id(arguments)
    with _ledger(arguments) as ledger:
        resolved = admin.resolve(
            ledger,
            source=arguments.source,
            lead_id=lead_id,
            generation=arguments.generation,
            outcome=arguments.outcome,
            who=arguments.user or _user(),
            why=_why(arguments),
            account=arguments.account,
        )
    return Outcome([resolved])


def list_webhooks(arguments: argparse.Namespace) -> Outcome:
    """List events that match no one booking.

    :param arguments: ``strangers``, ``ledger_conn_id``.
    """
    with _ledger(arguments) as ledger:
        found = queries.unmatched(ledger, strangers=arguments.strangers, limit=None)
    return Outcome([_told(event) for event in found])


def dismiss_webhook(arguments: argparse.Namespace) -> Outcome:
    """Take an event off that list.

    :param arguments: ``event``, ``why``, ``user``, ``ledger_conn_id``.
    """
    with _ledger(arguments) as ledger:
        event = webhooks_admin.dismiss_event(
            ledger, arguments.event, arguments.user or _user(), _why(arguments)
        )
    return Outcome([_told(event)])


def process_webhooks(arguments: argparse.Namespace) -> Outcome:
    """Process what was received.

    :param arguments: ``ledger_conn_id``.
    """
    with _ledger(arguments) as ledger:
        return Outcome([{"processed": process_waiting(ledger).count}])


def list_alarms(arguments: argparse.Namespace) -> Outcome:
    """List leads with an alarm.

    :param arguments: ``source``, ``ledger_conn_id``.
    """
    with _ledger(arguments) as ledger:
        found = queries.alarms(ledger, source=arguments.source, limit=None)
    return Outcome([_told(lead) for lead in found])


def clear_alarm(arguments: argparse.Namespace) -> Outcome:
    """Say that an alarm was dealt with.

    :param arguments: ``source``, ``lead``, ``generation``, ``account``, ``why``, ``user``,
        ``ledger_conn_id``.
    :raises UsageError: no lead can have this id, or ``why`` is blank.
    """
    lead_id = _lead_id(arguments)
    with _ledger(arguments) as ledger:
        lead = webhooks_admin.clear_alarm(
            ledger,
            arguments.source,
            lead_id,
            arguments.generation,
            arguments.user or _user(),
            _why(arguments),
            account=arguments.account,
        )
    return Outcome([_told(lead)])


def _told(view: EventView | LeadView) -> dict[str, object]:
    told: dict[str, object] = _with_dates(asdict(view))
    return told


def _with_dates(value: Any, key: str = "") -> Any:
    """Write instants as ISO 8601 in UTC, as the other commands do."""
    if isinstance(value, dict):
        return {name: _with_dates(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_dates(item) for item in value]
    if isinstance(value, float) and (key == "at" or key.endswith("_at")):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")
    return value


@contextmanager
def _ledger(arguments: argparse.Namespace) -> Iterator[Ledger]:
    """Open a ledger that exists: a mistyped connection must not create one."""
    with _find(arguments.ledger_conn_id) as ledger:
        if ledger is None:
            raise LedgerError("it holds no ledger yet: the first run or `ledger init` makes it")
        if (source := getattr(arguments, "source", None)) is not None:
            _check_source(ledger, source)
        yield ledger


def _check_source(ledger: Ledger, source: str) -> None:
    """Refuse a source that is not there: that a mistyped one has nothing in doubt would be false comfort.

    :raises LedgerError: names those that are.
    """
    known = figures.sources(ledger)
    if source not in known:
        there_are = f"it knows {', '.join(known)}" if known else "it knows none yet"
        raise LedgerError(f"the ledger knows no source {source!r}; {there_are}")


@contextmanager
def _find(conn_id: str) -> Iterator[Ledger | None]:
    engine = sql_engine(conn_id)
    try:
        yield Ledger.find(engine)
    finally:
        engine.dispose()


def _ask_popin(conn_id: str) -> tuple[bool, str]:
    try:
        with PopinHook(popin_conn_id=conn_id) as hook:
            _ = hook.settings  # read here, for `test_connection` does not say how to define a connection
            return hook.test_connection()
    except expected_errors() as error:
        return False, explain(error)


def _look_at_ledger(conn_id: str) -> tuple[bool, str]:
    try:
        if problem := file_problem(sql_engine(conn_id)):
            return False, problem
        with _find(conn_id) as ledger:
            if ledger is None:
                return True, "no ledger yet, the first run creates it"
            return True, f"ledger {ledger.ledger_id}"
    except expected_errors() as error:
        return False, explain(error)


def _lead_id(arguments: argparse.Namespace) -> str:
    """Return the id as the ledger holds it: a source or a shell may spell the same text in another way."""
    try:
        return clean_lead_id(arguments.lead)
    except PopinInputError as error:
        raise UsageError(f"--lead {error.reason}") from None


def _why(arguments: argparse.Namespace) -> str:
    why = str(arguments.why).strip()
    if not why:
        raise UsageError("--why must say why; it is kept in the ledger")
    return why


def _user() -> str:
    """Return who runs this. Airflow's command line has no login, so it is the operating system's user."""
    with suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    # A container's user often has a number and no name.
    return f"uid {os.getuid()}"
