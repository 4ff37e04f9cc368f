"""What keeps a single booking task from sending its booking twice when there is no ledger: retries only.

Airflow 3.3 and newer: the intent is written to the task state store before the request, and found by every
later try of the same task instance (and, on 3.3, after a clear). Before 3.3 there is nothing to write to that
survives a try, so only a first try may send. Neither knows of other Dag runs, nor of a second Dag: that takes
a ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, cast

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_popin.client.models import Slot

INTENT_KEY: Final = "popin_booking_intent"

_LEDGER_HINT: Final = "To be safe across clears and Dag runs, use a ledger (ledger_conn_id, source, lead_id)"


class StateStore(Protocol):
    """The part of Airflow's task state store that is used here."""

    def get(self, key: str) -> object:
        """Return the stored value, or None."""

    def set(self, key: str, value: object, *, retention: timedelta | None = None) -> None:
        """Store a JSON value."""

    def delete(self, key: str) -> None:
        """Delete a key; none is no error."""


class FirstTryOnly:
    """Before Airflow 3.3: no intent can be kept, so a second try never sends.

    :param try_number: number of this try, from 1; a clear counts on.
    """

    can_retry: Final = False

    def __init__(self, try_number: int) -> None:
        self._try_number = try_number

    def check(self) -> None:
        """Fail if an earlier try may have sent the booking.

        :raises AirflowFailException: this is not the first try.
        """
        if self._try_number > 1:
            raise AirflowFailException(
                f"This is try {self._try_number}. An earlier try may have booked the call, so nothing was"
                " sent: before Airflow 3.3 and without a ledger, only a first try sends. Look the customer up"
                f" in Popin's dashboard; if there is no call, book it in a new Dag run. {_LEDGER_HINT}"
            )

    def record(self, *, account: str, customer_id: str, slot: Slot) -> None:
        """Record nothing: there is no place that a second try could read."""

    def withdraw(self) -> None:
        """Withdraw nothing."""


class StoredIntent:
    """From Airflow 3.3 on: an intent in the task state store, one per task instance and map index.

    :param store: ``context["task_state_store"]``.
    """

    can_retry: Final = True

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def check(self) -> None:
        """Fail if an earlier try stored an intent, whatever it says: that customer may have a call.

        :raises AirflowFailException: there is one.
        """
        intent = self._store.get(INTENT_KEY)
        if intent is None:
            return
        known = intent if isinstance(intent, Mapping) else {}
        raise AirflowFailException(
            "An earlier try of this task sent, or was about to send, the booking of customer"
            f" {known.get('customer_id')!r} at {known.get('time')}, and did not learn that it failed. Nothing"
            " was sent now. Look the customer up in Popin's dashboard; if there is no call, delete the key"
            f" {INTENT_KEY!r} of this task instance's state store (REST API), then clear the task."
            f" {_LEDGER_HINT}"
        )

    def record(self, *, account: str, customer_id: str, slot: Slot) -> None:
        """Store the intent; it lives as long as the Dag run.

        :param account: key of the Popin account.
        :param customer_id: whose call.
        :param slot: when; stored as an instant in UTC, since Popin's string says it in the seller's time.
        """
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # missing in its stub

        value = {"account": account, "customer_id": customer_id, "time": slot.start.isoformat()}
        # The default retention of 30 days could drop it while the task can still be cleared.
        self._store.set(INTENT_KEY, value, retention=NEVER_EXPIRE)

    def withdraw(self) -> None:
        """Delete the intent: it is certain that nothing was booked, so a retry may send."""
        self._store.delete(INTENT_KEY)


def booking_intent(context: Context) -> FirstTryOnly | StoredIntent:
    """Return the protection that this Airflow offers.

    :param context: the task's context.
    """
    store = context.get("task_state_store") if AIRFLOW_V_3_3_PLUS else None
    if store is not None:
        return StoredIntent(cast("StateStore", store))
    return FirstTryOnly(context["ti"].try_number)
