"""What became of the calls goes back to the CRM."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.sdk import AirflowException, BaseOperator

from airflow_provider_popin.client.errors import PopinConfigError, PopinInputError
from airflow_provider_popin.hooks.ledger import DEFAULT_LEDGER, open_ledger, sql_engine
from airflow_provider_popin.operators._run_identity import run_identity
from airflow_provider_popin.operators._write_back import SqlWriteBack, check_write_back_sql
from airflow_provider_popin.operators.failures import ledger_error, task_error
from airflow_provider_popin.operators.templated import is_literal
from airflow_provider_popin.sync.errors import LedgerError
from airflow_provider_popin.sync.source.source_name import check_source

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_popin.webhooks.telling import Told

# What `webhooks.telling` gives to the statement.
NAMES: Final = ("lead_id", "generation", "outcome", "outcome_at", "call_time")


class PopinOutcomesOperator(BaseOperator):
    """Tell the CRM how the calls of a source ended, as Popin's webhooks told the ledger.

    Every ending is told at least once, and again when it changes (a missed call that took place after all).
    How far it was told is kept in the ledger, for each task: a run tells only what is new. What a statement
    fails for is told again by the next run, and fails the task, which may be retried.

    Works on every Airflow. That there is anything to tell needs the webhook receiver, and so Airflow 3, on
    the same ledger. What was received and not processed yet is processed first.

    :param source: of the leads, as the lead sync names it; a literal.
    :param write_back_sql: idempotent statement, with any of ``:lead_id :generation :outcome :outcome_at
        :call_time``; ``:outcome`` is ``successful``, ``missed`` or ``abandoned``, times are ISO 8601 with an
        offset. Templated, or the name of a ``.sql`` file.
    :param write_back_conn_id: connection of the CRM's database.
    :param ledger_conn_id: connection of the ledger.
    :return: ``{"source": ..., "told": {"successful": 12, ...}}``.
    :raises PopinInputError: when the Dag is parsed: an argument cannot be used.
    """

    template_fields: Sequence[str] = ("write_back_sql",)
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"write_back_sql": "sql"}  # noqa: RUF012  (as Airflow declares it)
    ui_color = "#e8f4fd"

    def __init__(
        self,
        *,
        source: str,
        write_back_sql: str,
        write_back_conn_id: str,
        ledger_conn_id: str = DEFAULT_LEDGER,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source, self.ledger_conn_id = source, ledger_conn_id
        self.write_back_sql, self.write_back_conn_id = write_back_sql, write_back_conn_id
        check_source(source)
        if is_literal(write_back_sql) and not str(write_back_sql).endswith(".sql"):
            check_write_back_sql(write_back_sql, offered=NAMES)

    def execute(self, context: Context) -> dict[str, object]:
        """Tell what is new.

        :param context: of the running task.
        :raises AirflowFailException: the statement, the ledger or a connection cannot be used.
        :raises AirflowNotFoundException: a connection is not defined; a retry looks again.
        :raises AirflowException: the statement failed for some leads; a retry tells them again.
        """
        try:
            check_write_back_sql(self.write_back_sql, offered=NAMES)
            told = self._tell(context["ti"])
        except LedgerError as error:
            raise ledger_error(error, ledger_conn_id=self.ledger_conn_id) from error
        except PopinInputError as error:
            raise task_error(error, conn_id=self.write_back_conn_id) from error
        except PopinConfigError as error:
            raise task_error(error, conn_id=self.ledger_conn_id) from error
        if told.failed:
            raise AirflowException(
                f"{told.failed} outcomes could not be told; leads: {', '.join(told.leads)}. Mend the "
                "statement or its connection; the next run tells them again"
            )
        self.log.info("Outcomes told: %s", dict(told.outcomes) or "nothing new")
        return {"source": self.source, "told": dict(told.outcomes)}

    def _tell(self, ti: Any) -> Told:
        from airflow_provider_popin.webhooks.processing import process_waiting
        from airflow_provider_popin.webhooks.telling import tell_outcomes

        with ExitStack() as stack:
            ledger = open_ledger(self.ledger_conn_id)
            stack.callback(ledger.engine.dispose)
            engine = sql_engine(self.write_back_conn_id)
            tell = SqlWriteBack(engine, sql=self.write_back_sql, conn_id=self.write_back_conn_id)
            stack.callback(tell.close)
            process_waiting(ledger)
            run = run_identity(ti)
            return tell_outcomes(ledger, source=self.source, task=run.task, run=run.dag_run, tell=tell)
