"""Popin's errors as Airflow should see them: retried or not, naming the connection and what to do."""

from __future__ import annotations

import copy
import re
import shlex
from typing import Final

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_popin.client.errors import (
    PopinAccessError,
    PopinConfigError,
    PopinError,
    PopinInputError,
    PopinNotSentError,
    PopinOutcomeUnknownError,
    PopinRateLimitError,
    PopinRejectedError,
    PopinReplyError,
)
from airflow_provider_popin.hooks.ledger import DEFAULT_LEDGER
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.sync.errors import LeadHeldError, LedgerGuardError, LedgerUnusableError, SyncError

# What a retry of the task cannot mend, or must not repeat.
_FINAL: Final = (
    PopinConfigError,
    PopinInputError,
    PopinAccessError,
    PopinRejectedError,
    PopinOutcomeUnknownError,
)

_REMEDIES: Final[tuple[tuple[type[PopinError], str], ...]] = (
    (PopinConfigError, "Correct the connection, then clear the task"),
    (PopinInputError, "Nothing was sent. Correct the argument, then clear the task"),
    (
        PopinAccessError,
        "Check the connection's host, login (seller token) and password (API key), then clear the task",
    ),
    (PopinRejectedError, "Popin refused these values, nothing came of the request. Correct them"),
    (PopinOutcomeUnknownError, "The request was sent and the answer got lost, so it is not sent again"),
    (
        PopinNotSentError,
        "Nothing reached Popin, a retry is safe. Check the connection's host and proxy, and the network",
    ),
    (PopinRateLimitError, "Popin asks to slow down. Lower the connection's requests_per_second"),
    (PopinReplyError, "Popin's answer cannot be used. If it stays so, check the connection's host"),
)


def is_final(error: PopinError) -> bool:
    """Tell whether a retry of the task cannot mend this, or must not repeat it.

    :param error: what the client raised.
    """
    return isinstance(error, _FINAL)


def task_error(error: PopinError, *, conn_id: str, hint: str = "", final: bool | None = None) -> Exception:
    """Return the exception to raise from a task: final, or of the same class so that Airflow may retry.

    :param error: what the client raised; its text holds nothing personal and no key.
    :param conn_id: the Airflow connection that was used.
    :param hint: what else the reader should know or do, a sentence without its full stop.
    :param final: whether a retry is of no use; None: see :func:`is_final`.
    :return: an ``AirflowFailException`` for what a retry cannot mend or must not repeat, else a
        :class:`PopinError` with the data of ``error``.
    """
    named = copy.copy(error)
    # Popin's own sentences end with a full stop.
    named.reason = ". ".join(part for part in (error.reason.rstrip(". "), _remedy(error), hint) if part)
    named.name_connection(conn_id)
    return AirflowFailException(str(named)) if (is_final(error) if final is None else final) else named


def ledger_error(
    error: SyncError, *, ledger_conn_id: str, popin_conn_id: str = PopinHook.default_conn_name
) -> Exception:
    """Return the exception to raise from a task when the ledger forbids a request or cannot be used.

    :param error: what the sync engine raised; its text names no person and no key.
    :param ledger_conn_id: the Airflow connection of the ledger.
    :param popin_conn_id: the Popin connection, for the commands in the text.
    :return: an ``AirflowFailException`` where a person must act, else an exception that Airflow may retry:
        with a ledger a retry never books twice.
    """
    told = with_connections(str(error), ledger_conn_id=ledger_conn_id, popin_conn_id=popin_conn_id)
    text = f"ledger connection {ledger_conn_id!r}: {told}"
    is_held = isinstance(error, LeadHeldError) and not error.retry
    if is_held or isinstance(error, (LedgerGuardError, LedgerUnusableError)):
        return AirflowFailException(text)
    return AirflowException(text)


def with_connections(
    text: str, *, ledger_conn_id: str, popin_conn_id: str = PopinHook.default_conn_name
) -> str:
    """Return a text whose commands name the connections, where they are not the defaults.

    The sync knows which command helps, and no connection; whoever reads it copies the command.

    :param text: with commands of ours in backticks.
    :param ledger_conn_id: the Airflow connection of the ledger.
    :param popin_conn_id: the Popin connection, which only ``ledger init`` asks.
    """

    def complete(match: re.Match[str]) -> str:
        command = match[1]
        if ledger_conn_id != DEFAULT_LEDGER:
            command += f" --ledger-conn-id {shlex.quote(ledger_conn_id)}"
        if " ledger init " in command and popin_conn_id != PopinHook.default_conn_name:
            command += f" --popin-conn-id {shlex.quote(popin_conn_id)}"
        return f"`{command}`"

    return re.sub(r"`(python -m airflow_provider_popin [^`]*)`", complete, text)


def _remedy(error: PopinError) -> str:
    # A question has no values that could be refused: what is left is who asks.
    is_question = isinstance(error, PopinRejectedError) and error.method == "GET"
    found = PopinAccessError if is_question else type(error)
    return next((text for kind, text in _REMEDIES if issubclass(found, kind)), "")
