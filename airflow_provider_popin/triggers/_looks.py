"""Looks at Popin's free slots, one after the other, for as long as somebody waits for the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_popin.client.errors import PopinAccessError, PopinConfigError, PopinError
from airflow_provider_popin.client.slots import log_skipped
from airflow_provider_popin.hooks.popin import PopinHook

if TYPE_CHECKING:
    from airflow_provider_popin.client.models import Calendar

log = logging.getLogger(__name__)

# What a person must mend, or what does not mend itself soon.
LONGEST_PAUSE_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw.

    :param account: whose slots they are, as the ledger names the account
    :param calendar: the free slots
    """

    account: str
    calendar: Calendar


async def looks(conn_id: str, pause_seconds: float) -> AsyncGenerator[Look, None]:
    """Look for ever. Nothing ends it but its consumer; what fails is tried again, later and later.

    The connection is read anew for every look, so that a corrected key counts at once.

    :param conn_id: id of a connection of type ``popin``
    :param pause_seconds: between two looks
    """
    watch = _Watch(conn_id, pause_seconds)
    while True:
        look = await watch.look()
        if look is not None:
            yield look
        await asyncio.sleep(watch.pause)


class _Watch:
    """One connection, and what is known about its health."""

    def __init__(self, conn_id: str, pace: float) -> None:
        self._hook = PopinHook(popin_conn_id=conn_id)
        self._pace = pace
        self._failures = 0
        self._cause: tuple[str, str] | None = None
        self._skipped: tuple[str, ...] = ()
        self.pause = pace

    async def look(self) -> Look | None:
        try:
            look = await self._look()
        except AirflowNotFoundException as error:
            self._failed(error, "It does not exist. Make one of type popin with this id", permanent=True)
        except PopinConfigError as error:
            self._failed(error, f"{error}. Correct the connection", permanent=True)
        except PopinAccessError as error:
            remedy = "Check the connection's host, login (seller token) and password (API key)"
            self._failed(error, f"{error}. {remedy}", permanent=True)
        except PopinError as error:
            self._failed(error, str(error), asked=error.retry_after or 0.0)
        except Exception as error:  # noqa: BLE001
            # The one boundary: a secrets backend may raise anything, and Airflow would start a trigger that
            # fails again at once, for ever. Its text may quote a connection, so the name must do.
            self._failed(error, f"{type(error).__name__} while it was read or used")
        else:
            self._succeeded(look)
            return look
        return None

    async def _look(self) -> Look:
        from airflow_provider_popin.client.async_sender import AsyncSender
        from airflow_provider_popin.client.client import fetch_calendar

        config = await self._hook.get_async_config()
        async with AsyncSender(config) as sender:
            return Look(config.account_key, await fetch_calendar(sender, config))

    def _failed(self, error: Exception, text: str, *, permanent: bool = False, asked: float = 0.0) -> None:
        self._failures += 1
        # The exponent is bounded: a float overflows after a thousand failures.
        doubled = self._pace * 2.0 ** min(self._failures - 1, 16)
        longest = max(LONGEST_PAUSE_SECONDS, self._pace)
        self.pause = longest if permanent else min(max(doubled, asked), longest)
        if (cause := (type(error).__name__, text)) != self._cause:
            # Once per change: the same line every minute would hide all others.
            self._cause = cause
            log.warning(
                "Popin's slots cannot be seen through connection %r: %s. Next try within %d s",
                self._hook.popin_conn_id,
                text,
                longest,
            )

    def _succeeded(self, look: Look) -> None:
        if self._cause is not None:
            log.info("Popin's slots can be seen again through connection %r", self._hook.popin_conn_id)
        self._failures, self._cause, self.pause = 0, None, self._pace
        if look.calendar.skipped != self._skipped:
            self._skipped = look.calendar.skipped
            log_skipped(log, look.calendar)
