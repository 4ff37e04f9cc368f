"""Counts what a run has done so far, and says so at least every ten seconds."""

from __future__ import annotations

import logging
import time

from airflow_provider_popin.sync.ledger.events import Answer, Settled, Step

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0


class Progress:
    """Counters of one run. Written from the engine's thread, read from the waiting one."""

    def __init__(self) -> None:
        self.read = 0
        self.captured = 0
        self.booked = 0
        self.in_doubt = 0
        self.to_book = 0
        self._started = self._told = time.monotonic()

    def settled(self, event: Settled) -> None:
        """Count one durable outcome.

        :param event: as the ledger took it
        """
        if event.answer is Answer.SUCCESS and event.step is Step.CAPTURE:
            self.captured += 1
        elif event.answer is Answer.SUCCESS:
            self.booked += 1
        elif event.answer is Answer.UNKNOWN:
            self.in_doubt += 1

    def tick(self) -> None:
        """Log a line if the last one is ten seconds old."""
        now = time.monotonic()
        if now - self._told >= EVERY_SECONDS:
            self._told = now
            self.tell()

    def tell(self) -> None:
        """Log a line now."""
        seconds = max(self.seconds(), 0.001)
        log.info(
            "Lead sync: %s rows read, %s captured, %s booked, %s left to book, %s in doubt, %.1f POSTs/s",
            self.read,
            self.captured,
            self.booked,
            max(self.to_book - self.booked, 0),
            self.in_doubt,
            (self.captured + self.booked) / seconds,
        )

    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._started
