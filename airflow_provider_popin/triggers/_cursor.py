"""Where an event trigger keeps what it has told: in Airflow's asset state store, else in memory."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, Protocol

from airflow_provider_popin.triggers._told_slots import ToldSlots, from_json

log = logging.getLogger(__name__)

# The store is Airflow's own database, behind the triggerer's supervisor.
STORE_SECONDS: Final = 30.0
# So often a store that cannot be read is asked again, at the next looks, before slots are told without it.
MOST_READS: Final = 3


class Store(Protocol):
    """What is used of Airflow's ``AssetStateStoreAccessors`` (3.3 and newer)."""

    async def aget(self, key: str, default: Any = None) -> Any:
        """Return a stored JSON value."""

    async def aset(self, key: str, value: Any) -> None:
        """Store a JSON value."""


class Cursor:
    """The cursor of one trigger. A store that fails costs memory over restarts, never the trigger.

    :param store: None where Airflow offers none
    :param key: of the value in the store, which belongs to an asset and may serve several triggers
    """

    def __init__(self, store: Store | None, *, key: str) -> None:
        self._store = store
        self._key = key
        self._reads_left = MOST_READS
        self._told: ToldSlots | None = None
        self._stored: ToldSlots | None = None
        self._cause: str | None = None

    async def read(self) -> ToldSlots | None:
        """What has been told; None while the store has not answered yet: then nothing should be told."""
        if self._told is None:
            self._told = await self._load()
        return self._told

    async def advance(self, told: ToldSlots) -> None:
        """Remember, here and, if it is another than before, in the store.

        :param told: what will have been told
        """
        self._told = told
        if self._store is None or told == self._stored:
            return
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await self._store.aset(self._key, told.to_json())
        except Exception as error:  # noqa: BLE001
            self._failed(error)
        else:
            self._stored, self._cause = told, None

    async def _load(self) -> ToldSlots | None:
        if self._store is None:
            return ToldSlots()
        try:
            async with asyncio.timeout(STORE_SECONDS):
                value = await self._store.aget(self._key, None)
        except Exception as error:  # noqa: BLE001
            # The boundary to a store that may be anybody's ([workers] state_store_backend).
            self._failed(error)
            self._reads_left -= 1
            return None if self._reads_left else ToldSlots()
        self._cause = None
        if value is None:
            return ToldSlots()
        self._stored = from_json(value)
        if self._stored is None:
            log.warning("%r in the asset's state is no cursor; all open slots are told", self._key)
        return self._stored or ToldSlots()

    def _failed(self, error: Exception) -> None:
        # Only its name: the text of a backend may quote anything.
        cause = type(error).__name__
        if cause == self._cause:
            return
        self._cause = cause
        log.warning(
            "What was told cannot be kept in the asset's state (%s): after a restart of the triggerer, open "
            "slots may be told once more. If several assets have a trigger with the very same arguments, "
            "give each another max_slots: they are one trigger to Airflow, which then has no state",
            cause,
        )
