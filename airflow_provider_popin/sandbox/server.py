"""The sandbox as a running server, in a thread of the process that asks for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Self, TypeVar

from airflow_provider_popin.sandbox.rows import BookingRow, CustomerRow, RequestRow, Stats, WebhookRow
from airflow_provider_popin.sandbox.runner import Runner
from airflow_provider_popin.sandbox.settings import SandboxSettings

START_SECONDS = 10.0
ANSWER_SECONDS = 30.0
POLL_SECONDS = 0.005

T = TypeVar("T")


class SandboxServer:
    """
    A sandbox that runs while its `with` block does. Any number may run at once.

    :param settings: how it behaves; the defaults suit most tests.
    :param access_log: log method, path, status and faults of each request, never a body.
    """

    def __init__(self, settings: SandboxSettings | None = None, *, access_log: bool = False) -> None:
        self.settings = SandboxSettings() if settings is None else settings
        self.port = 0
        self._runner = Runner(self.settings, access_log=access_log)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """
        Start; the port is open when this returns.

        :raises OSError: the port is taken.
        """
        self._runner.started_event.clear()
        self.port = self._runner.bind()
        self._thread = threading.Thread(target=self._runner.run, name="popin-sandbox", daemon=True)
        self._thread.start()
        if not self._runner.started_event.wait(START_SECONDS):  # pragma: no cover - no known way to get here
            raise RuntimeError("the sandbox did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop: open requests are cut off. What the oracle knows can still be read."""
        assert self._thread is not None
        self._runner.stop()
        self._thread.join()
        self._thread = None

    @property
    def url(self) -> str:
        """Base URL without a path, like `http://127.0.0.1:41234`."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self.port}"

    def bookings(self, *, lead: str | None = None) -> list[BookingRow]:
        """
        Bookings committed, oldest first.

        :param lead: only of this test_lead.
        """
        return self._ask(lambda: self._runner.app.world.oracle.booking_rows(lead=lead))

    def requests(
        self, *, endpoint: str | None = None, lead: str | None = None, limit: int | None = None
    ) -> list[RequestRow]:
        """
        Requests received by the three endpoints, oldest first.

        :param endpoint: only of this endpoint.
        :param lead: only of this test_lead.
        :param limit: only the newest so many.
        """
        return self._ask(
            lambda: list(self._runner.app.world.oracle.rows(endpoint=endpoint, lead=lead, limit=limit))
        )

    def customers(self, *, lead: str | None = None) -> list[CustomerRow]:
        """
        Customers captured, oldest first, with the fields as received.

        :param lead: only of this test_lead.
        """
        return self._ask(lambda: self._runner.app.world.popin.customer_rows(lead=lead))

    def webhooks(
        self, *, event: str | None = None, lead: str | None = None, state: str | None = None
    ) -> list[WebhookRow]:
        """
        Deliveries of webhooks, in the order in which they were planned.

        :param event: only of this event.
        :param lead: only of this test_lead.
        :param state: only in this state.
        """
        return self._ask(
            lambda: list(self._runner.app.world.popin.webhooks.rows(event=event, lead=lead, state=state))
        )

    def send_webhook(self, event: str, customer_id: str, *, participant: str | None = None) -> None:
        """
        Send one webhook now, about the customer's newest booking if there is one.

        :param event: name, like `popin_outgoing_call_initiated`.
        :param customer_id: of a captured customer.
        :param participant: `user` or `agent`, of `popin_outgoing_call_network_failure`.
        :raises ValueError: it cannot be sent.
        """
        self._ask(lambda: self._runner.app.world.send_webhook(event, customer_id, participant=participant))

    def stats(self) -> Stats:
        """The oracle's counts."""
        return self._ask(lambda: self._runner.app.world.stats())

    def set_faults(self, *specs: str, seed: int | None = None) -> None:
        """
        Replace all faults; requests are counted for them from 1 again.

        :param specs: like `schedule:500_after_commit@1`; none ends all faults.
        :param seed: seed of the probabilities, None for the one of the settings.
        :raises FaultError: a specification cannot be used; then the old faults stay.
        """
        self._ask(lambda: self._runner.app.world.set_faults(specs, seed=seed))

    def reset(self, **changes: object) -> None:
        """
        Forget everything and behave as at the start.

        :param changes: settings that differ until the next reset.
        :raises ValueError: a change cannot be made; then nothing happens.
        """
        self._ask(lambda: self._runner.app.reset(changes))

    def wait_idle(self, *, timeout_seconds: float = 30.0) -> None:
        """
        Wait until no request is being handled: those of a client that was killed go on without it.

        :param timeout_seconds: how long at most.
        :raises TimeoutError: some are still open.
        """
        _wait_while(
            lambda: self.stats()["open_requests"], timeout_seconds, "requests are still being handled"
        )

    def wait_webhooks(self, *, timeout_seconds: float = 30.0) -> None:
        """
        Wait until every webhook planned so far is answered, has failed or was given up.

        :param timeout_seconds: how long at most.
        :raises TimeoutError: some are still under way.
        """
        _wait_while(lambda: self.stats()["webhooks"]["open"], timeout_seconds, "webhooks are still under way")

    def wait_listening(self, *, timeout_seconds: float = 30.0) -> None:
        """
        Wait until the port is open, as it is again at the end of an outage.

        :param timeout_seconds: how long at most.
        :raises TimeoutError: it is still closed.
        """
        _wait_while(
            lambda: not self._ask(lambda: self._runner.server.listening),
            timeout_seconds,
            "the port is still closed",
        )

    def stop_listening(self) -> None:
        """Reset all connections and close the port: new connections are refused until `start_listening`."""
        self._await(self._runner.server.stop_listening)

    def start_listening(self) -> None:
        """Open the same port again."""
        self._await(self._runner.server.start_listening)

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask in the server's loop, where nothing changes meanwhile; directly when it does not run."""
        if self._thread is None:
            return question()

        async def ask() -> T:
            return question()

        return asyncio.run_coroutine_threadsafe(ask(), self._runner.loop).result(ANSWER_SECONDS)

    def _await(self, action: Callable[[], Coroutine[object, object, None]]) -> None:
        assert self._thread is not None, "the sandbox is not running"
        asyncio.run_coroutine_threadsafe(action(), self._runner.loop).result(ANSWER_SECONDS)


def _wait_while(lasts: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while lasts():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(POLL_SECONDS)
