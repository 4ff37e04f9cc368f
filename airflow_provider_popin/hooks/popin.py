"""The Popin hook: an Airflow connection on one side, the client on the other, nothing else in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_popin.client.slots import log_skipped
from airflow_provider_popin.get_provider_info import get_provider_info
from airflow_provider_popin.hooks.connection import CONN_TYPE, PopinConnection, read_connection
from airflow_provider_popin.hooks.masking import mask_in_logs

if TYPE_CHECKING:
    from types import TracebackType

    import requests
    from airflow.providers.common.compat.sdk import Connection

    from airflow_provider_popin.client.client import PopinClient
    from airflow_provider_popin.client.config import ClientConfig
    from airflow_provider_popin.client.models import Calendar, Customer, ScheduledCall, Slot
    from airflow_provider_popin.client.outcomes import Outcome


class PopinHook(BaseHook):
    """Talk to Popin with the credentials of an Airflow connection.

    Nothing happens before the first call. Close it when done, or use it in a ``with`` statement.

    :param popin_conn_id: id of a connection of type ``popin``: login holds the seller token, password the API
        key, host the URL (default ``https://widget01.popin.to``).
    """

    conn_name_attr = "popin_conn_id"
    default_conn_name = "popin_default"
    conn_type = CONN_TYPE
    hook_name = "Popin"

    def __init__(self, *, popin_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.popin_conn_id = popin_conn_id
        self._warned_of: tuple[str, ...] = ()

    @cached_property
    def settings(self) -> PopinConnection:
        """What the connection says; read once.

        :raises PopinConfigError: names the connection and the field that cannot be used.
        """
        return self._read(self.get_connection(self.popin_conn_id))

    @property
    def config(self) -> ClientConfig:
        """Settings of the HTTP client, from the connection."""
        return self.settings.config

    @property
    def ledger_conn_id(self) -> str | None:
        """Id of the connection that holds the ledger; None where the connection names none."""
        return self.settings.ledger_conn_id

    @cached_property
    def client(self) -> PopinClient:
        """The client, made on first use."""
        from airflow_provider_popin.client.client import PopinClient

        return PopinClient(self.config)

    async def get_async_config(self) -> ClientConfig:
        """Read the connection without blocking the event loop; for triggers.

        :raises PopinConfigError: names the connection and the field that cannot be used.
        """
        from airflow.providers.common.compat.connection import get_async_connection
        from asgiref.sync import sync_to_async

        connection = await get_async_connection(self.popin_conn_id, hook=self)
        # In a thread, because registering a value with the log masker is a blocking call to the supervisor.
        settings: PopinConnection = await sync_to_async(self._read)(connection)
        return settings.config

    def get_conn(self) -> PopinClient:
        """Return the client; the name is Airflow's."""
        return self.client

    def capture(
        self,
        *,
        name: str,
        mobile: str,
        email: str | None = None,
        country: str | None = None,
        group: str | None = None,
        agent: int | None = None,
        pincode: str | None = None,
        native: bool | None = None,
        campaign: Mapping[str, object] | None = None,
        default_region: str | None = None,
    ) -> Customer:
        """Register a lead; when the answer is lost, it is sent once more (which may make a second customer).

        :param name: full name.
        :param mobile: phone number in any usual notation.
        :param email: e-mail address.
        :param country: ISO country (``IN``) or calling code (``91``, ``+91``) of the number.
        :param group: routing group of the Popin dashboard.
        :param agent: number of the agent who gets the call.
        :param pincode: postal code.
        :param native: False: the join URL is the one set in the dashboard. Popin's default is True.
        :param campaign: free keys for tracking.
        :param default_region: ISO country for a number written without one; default: the connection's.
        :return: customer id and join URL.
        :raises PopinInputError: a value cannot be used; nothing was sent.
        :raises PopinError: one of its other subclasses says what happened.
        """
        from airflow_provider_popin.client.leads import make_lead

        with self._named_errors():
            lead = make_lead(
                name=name,
                mobile=mobile,
                email=email,
                country=country,
                group=group,
                agent=agent,
                pincode=pincode,
                native=native,
                campaign=campaign,
                default_region=default_region or self.config.default_region,
            )
            return self.client.capture(lead)

    def get_slots(self) -> Calendar:
        """Return the free slots, ascending, with the seller's timezone.

        :raises PopinError: one of its subclasses says what happened.
        """
        with self._named_errors():
            calendar = self.client.get_slots()
        log_skipped(self.log, calendar)
        return calendar

    def find_slot(self, time: str | datetime) -> tuple[Slot, str]:
        """Turn a time into a slot of the seller's calendar, with the timezone of a fresh GET.

        The slot need not be free: Popin decides that when it is booked.

        :param time: Popin's own string (``Thu, 25 Sep 2025 03:15 PM``, weekday checked), an aware datetime,
            or an ISO 8601 text with an offset.
        :return: the slot and the seller's IANA timezone.
        :raises PopinInputError: the time is naive, past, not on a whole minute, or ambiguous.
        :raises PopinError: one of its other subclasses says why the slots are not known.
        """
        from airflow_provider_popin.client.slots import resolve_time

        calendar = self.get_slots()
        now = datetime.now(UTC)
        with self._named_errors():
            return resolve_time(time, timezone=calendar.timezone, now=now), calendar.timezone

    def schedule(
        self,
        *,
        customer_id: str,
        time: str | datetime,
        agent: int | None = None,
        native: bool | None = None,
        url: str | None = None,
    ) -> ScheduledCall:
        """Book a call. The request is sent once: Popin has no key that would make a second one harmless.

        :param customer_id: from :meth:`capture`.
        :param time: see :meth:`find_slot`.
        :param agent: number of the agent who gets the call.
        :param native: False: the customer gets ``url``, or the URL of the dashboard profile.
        :param url: join URL; only considered by Popin when ``native`` is False.
        :return: the time as Popin confirmed it.
        :raises PopinInputError: a value cannot be used; nothing was sent.
        :raises PopinOutcomeUnknownError: the call may be booked or not; do not send it again unseen.
        :raises PopinError: one of its other subclasses says what happened.
        """
        slot, _ = self.find_slot(time)
        with self._named_errors():
            return self.client.schedule(customer_id, slot.time, agent=agent, native=native, url=url)

    def run(self, method: str, path: str, json: Mapping[str, object] | None = None) -> requests.Response:
        """Send any other request with the connection's credentials, once, and return the answer as it is.

        :param method: HTTP method.
        :param path: path below ``/api/v1``, beginning with a slash, with its query if there is one. A whole
            URL is refused, and redirects are not followed: the key goes to the connection's host only.
        :param json: body, sent as JSON.
        :raises PopinInputError: the path is not relative.
        :raises PopinError: one of its other subclasses says what happened.
        """
        with self._named_errors():
            return self.client.run(method, path, json=json)

    def test_connection(self) -> tuple[bool, str]:
        """Ask Popin for its slots, once, and say in words what came of it; for the button in the UI."""
        try:
            return _judge(self._ask_for_slots(), self.config)
        except Exception as error:  # noqa: BLE001  (Airflow wants a tuple, whatever happened)
            return False, str(error) or type(error).__name__

    def close(self) -> None:
        """Close the connections to Popin; the hook can be used again."""
        client = self.__dict__.pop("client", None)
        if client is not None:
            client.close()

    def __enter__(self) -> PopinHook:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form fields for Airflow before 3.2; newer ones read them from ``get_provider_info``."""
        from airflow_provider_popin.hooks.form import form_widgets

        return form_widgets(get_provider_info())

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and hidden fields for Airflow before 3.2."""
        from airflow_provider_popin.hooks.form import field_behaviour

        return field_behaviour(get_provider_info())

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Let errors name the connection, so that a task that uses several says which one it was."""
        from airflow_provider_popin.client.errors import PopinError

        try:
            yield
        except PopinError as error:
            error.name_connection(self.popin_conn_id)
            raise

    def _read(self, connection: Connection) -> PopinConnection:
        settings = read_connection(connection, conn_id=self.popin_conn_id)
        # Airflow masks the password and extras with telling names; the seller token and the key are ours.
        mask_in_logs((settings.config.seller_token, settings.config.api_key, settings.webhook_key or ""))
        # Once: a trigger reads its connection every minute.
        if settings.unknown_extras != self._warned_of:
            self._warned_of = settings.unknown_extras
            self.log.warning(
                "Connection %r: extra fields without a meaning here are ignored: %s",
                self.popin_conn_id,
                ", ".join(settings.unknown_extras),
            )
        return settings

    def _ask_for_slots(self) -> Outcome:
        from airflow_provider_popin.client.exchange import Endpoint
        from airflow_provider_popin.client.outcomes import classify
        from airflow_provider_popin.client.protocol import build_slots
        from airflow_provider_popin.client.requests_sender import RequestsSender

        with RequestsSender(self.config) as sender:
            exchange = sender.send(build_slots())
        return classify(Endpoint.SLOTS, exchange, now=datetime.now(UTC))


def _judge(outcome: Outcome, config: ClientConfig) -> tuple[bool, str]:
    """Say which of host, key and token is wrong, as far as Popin's answer tells."""
    from airflow_provider_popin.client.models import Calendar
    from airflow_provider_popin.client.outcomes import Verdict

    status = f"HTTP {outcome.status}" if outcome.status is not None else outcome.reason
    if outcome.verdict is Verdict.OK and isinstance(outcome.value, Calendar):
        calendar = outcome.value
        return True, f"Popin answered: {len(calendar.slots)} free slots, times in {calendar.timezone}"
    if outcome.verdict is Verdict.NOT_SENT:
        return False, f"Host: {config.base_url} cannot be reached ({outcome.reason})"
    if outcome.verdict is Verdict.RATE_LIMITED:
        return False, "Host: answered, but asks to slow down (HTTP 429); try again later"
    if outcome.verdict is Verdict.STOP and outcome.status in (401, 403):
        return False, (
            f"Password (API key): refused by Popin ({status}). Popin does not document whether a wrong login"
            " (seller token) is answered in the same way, so check both"
        )
    if outcome.verdict is Verdict.STOP:
        return False, f"Host: {config.base_url} answered, but not as Popin does ({status}); check the URL"
    detail = outcome.reason if outcome.status is None else f"{status}: {outcome.reason}"
    if outcome.verdict is Verdict.REJECTED:
        return False, f"Refused by Popin ({detail}): check host, login (seller token) and password (API key)"
    return False, f"Host: {config.base_url} gave no usable answer ({detail})"
