"""Leads that come in while ``make up`` runs: every few seconds some new rows in the CRM."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts import crm

FIRST_NAMES = ("Aino", "Bao", "Chiara", "Dmitri", "Eilidh", "Farid", "Giulia", "Hanna", "Ikaika", "Jonna")
LAST_NAMES = ("Example", "Exempel", "Muster", "Prueba", "Voorbeeld", "Przykład", "Esimerkki", "Sample")
CAMPAIGNS = ("newsletter", "google", "instagram", "walk-in")
# Set aside for fiction by Ofcom: area codes with 1,000 numbers each.
AREAS = ("+44 20 7946 0", "+44 117 496 0", "+44 121 496 0", "+44 141 496 0", "+44 113 496 0")
# Every so many leads one cannot be called, as in real life.
BAD_EVERY = 15
# The sandbox's seats come to an end.
MOST = 600
_BUSY_SECONDS = 30.0


def new_lead(number: int, *, now: datetime) -> dict[str, str]:
    """Return a row for the CRM, of somebody who does not exist.

    :param number: from 1; the same number is the same lead.
    :param now: when it comes in.
    """
    dice = random.Random(number)
    first, last = dice.choice(FIRST_NAMES), dice.choice(LAST_NAMES)
    area = AREAS[number % len(AREAS)]
    phone = f"{area}{number // len(AREAS) % 1000:03}" if number % BAD_EVERY else "please mail me"
    return {
        "id": f"W-{number:04}",
        "first_name": first,
        "last_name": last,
        "mobile_phone": phone,
        "email": f"{first}.{last}.{number}@example.com".lower().replace("ł", "l"),
        "utm_source": dice.choice(CAMPAIGNS),
        "created_at": now.isoformat(timespec="seconds"),
    }


def add_lead(database: Path, lead: Mapping[str, str]) -> None:
    """Add a row to the table of leads.

    :param database: the CRM.
    :param lead: column to value.
    :raises sqlite3.Error: it cannot be added now.
    """
    names, marks = ", ".join(map(crm.quoted, lead)), ", ".join("?" for _ in lead)
    insert = f"INSERT INTO {crm.TABLE} ({names}) VALUES ({marks})"  # noqa: S608
    with closing(sqlite3.connect(database, timeout=_BUSY_SECONDS)) as connection, connection:
        connection.execute(insert, tuple(lead.values()))


class Feeder:
    """Adds leads in a thread of its own while its ``with`` block runs.

    :param database: the CRM.
    :param every_seconds: between two batches.
    :param batch: leads at a time.
    """

    def __init__(self, database: Path, *, every_seconds: float = 15.0, batch: int = 2) -> None:
        self.database = database
        self.added = 0
        self._every_seconds = every_seconds
        self._batch = batch
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_seconds) and self.added < MOST:
            for _ in range(self._batch):
                try:
                    add_lead(self.database, new_lead(self.added + 1, now=datetime.now(UTC)))
                except sqlite3.OperationalError:
                    break  # somebody writes for long; the next batch will do
                self.added += 1
