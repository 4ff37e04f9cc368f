"""Where a scenario's webhooks arrive: the real inbox and the real processing, behind a small HTTP server."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from airflow_provider_popin.webhooks.envelopes import parse_event
from airflow_provider_popin.webhooks.inbox import Inbox
from airflow_provider_popin.webhooks.processing import process_waiting
from tests.faults.world import World
from tests.sandbox.receiver import Arrived, Receiver
from tests.waiting import PATIENCE_SECONDS

CONN_ID = "popin_default"
KEY = "kq7vxz0w2b-5c1e9d"
# Calls end as soon as they are booked, and of each there is word.
CALLS = {"outcome_after": 0.0, "notified": 0.5, "missed": 0.3, "abandoned": 0.1}
_POLL_SECONDS = 0.02


class PostOffice:
    """Stores every delivery before it is answered, as Airflow's API server does.

    :param held: keep what arrives, unanswered, until :meth:`open`.
    :param processing: process it while it arrives, in a thread; else :meth:`process` does.
    """

    def __init__(self, *, held: bool = False, processing: bool = False) -> None:
        self.receiver = Receiver(self._take)
        if held:
            self.receiver.gate.clear()
        self._processing = processing
        self._world: World | None = None
        self._inbox: Inbox | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="processing", daemon=True)
        self._failed: BaseException | None = None

    def __enter__(self) -> Self:
        """Start listening."""
        self.receiver.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.receiver.__exit__(None, None, None)
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._inbox is not None:
            self._inbox.close()
        assert self._failed is None, self._failed

    def tells(self, **changes: object) -> dict[str, object]:
        """Settings of the sandbox's webhooks that lead here."""
        return {"url": self.receiver.url, "key": KEY, "timeout_seconds": 60.0, **CALLS, **changes}

    def serve(self, world: World) -> None:
        """Keep what arrives in the ledger of a scenario.

        :param world: of the sandbox that tells.
        """
        self._world = world
        self._inbox = Inbox(world.open_ledger())
        if self._processing:
            self._thread.start()

    def open(self) -> None:
        """Take what was held, and everything from now on; returns when all of it is stored and processed."""
        self.receiver.gate.set()
        self.settle()

    def settle(self) -> None:
        """Wait until the sandbox has nothing left to tell, and process it."""
        assert self._world is not None
        self._world.sandbox.wait_webhooks(timeout_seconds=60)
        self.process()

    def process(self) -> None:
        """Process what is stored."""
        assert self._world is not None
        process_waiting(self._world.open_ledger())

    def _take(self, arrived: Arrived) -> int:
        assert self._world is not None
        assert self._inbox is not None
        assert arrived.headers["x-api-key"] == KEY
        stored = self._inbox.submit(
            conn_id=CONN_ID,
            account=self._world.config.account_key,
            body=arrived.body,
            event=parse_event(arrived.body),
            key=KEY.encode(),
        )
        stored.result(PATIENCE_SECONDS)
        return 200

    def _work(self) -> None:
        assert self._world is not None
        ledger = self._world.open_ledger()
        try:
            while not self._stopping.wait(_POLL_SECONDS):
                process_waiting(ledger)
        except BaseException as error:
            self._failed = error
            raise
