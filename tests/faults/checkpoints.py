"""Named steps of a run, from outside: the code under test knows nothing of them.

Every ledger transition is a step twice: ``NAME:uncommitted`` (written, the transaction still open;
on Postgres a step of the sending itself is committed then, for it is a statement by itself) and
``NAME:committed``. Every request is one twice: ``ENDPOINT:unsent`` (its intent is durable) and
``ENDPOINT:answered`` (its outcome is not yet).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from sqlalchemy.engine import Connection

from airflow_provider_popin.client.async_sender import AsyncSender
from airflow_provider_popin.client.exchange import Exchange, Request
from airflow_provider_popin.sync.ledger import guards, leases, ledger_queries, run_log
from airflow_provider_popin.sync.ledger.events import Event, Intent, Record, Released, Settled
from airflow_provider_popin.sync.ledger.known_records import KnownRecords
from airflow_provider_popin.sync.ledger.ledger import Ledger

Reach = Callable[[str], None]

# Writes that concern no lead's state, or many at once.
_WRITES = {
    guards: ("_enter",),
    ledger_queries: ("insert_leads", "mark_written"),
    leases: ("renew_lease", "end_lease"),
    run_log: ("start_run", "end_run"),
}


def name_of(event: Event) -> str:
    """The name of a transition, such as ``intent.booking`` or ``settled.capture.success``."""
    match event:
        case Intent():
            return "intent.resend" if event.resend else f"intent.{event.step}"
        case Settled():
            return f"settled.{event.step}.{event.answer}"
        case Released():
            return f"released.{event.to}"
        case _:
            return type(event).__name__.lower()


@contextmanager
def checkpoints(reach: Reach) -> Iterator[None]:
    """Have ``reach(name)`` called at every step of every run in this process.

    :param reach: may be called from the loop's thread and from the writer's
    """
    patches = _Patches(reach)
    with ExitStack() as stack:
        for owner, name, replacement in patches.all():
            stack.enter_context(mock.patch.object(owner, name, replacement))
        yield


class _Patches:
    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._local = threading.local()

    def all(self) -> Iterator[tuple[Any, str, Any]]:
        yield Ledger, "write", self._write(Ledger.write)
        yield Ledger, "apply", self._apply(Ledger.apply)
        yield KnownRecords, "apply", self._apply_to_known(KnownRecords.apply)
        yield AsyncSender, "send", self._send(AsyncSender.send)
        for module, names in _WRITES.items():
            for name in names:
                yield module, name, self._noted(name, getattr(module, name))

    def _note(self, name: str) -> None:
        names: list[str] = self._local.__dict__.setdefault("names", [])
        if name not in names:
            names.append(name)

    def _write(self, real: Any) -> Any:
        @contextmanager
        def write(ledger: Ledger, connection: Connection | None = None) -> Iterator[Connection]:
            self._local.names = []
            with real(ledger, connection) as opened:
                yield opened
                names = list(self._local.names)
                for name in names:
                    self._reach(f"{name}:uncommitted")
            for name in names:
                self._reach(f"{name}:committed")

        return write

    def _apply(self, real: Any) -> Any:
        def apply(
            ledger: Ledger,
            connection: Connection,
            account: str,
            events: Sequence[Event],
            records: dict[int, Record] | None = None,
        ) -> list[bool]:
            accepted: list[bool] = real(ledger, connection, account, events, records)
            self._note_accepted(events, accepted)
            return accepted

        return apply

    def _apply_to_known(self, real: Any) -> Any:
        def apply(known: KnownRecords, connection: Connection, events: Sequence[Event]) -> list[bool]:
            accepted: list[bool] = real(known, connection, events)
            self._note_accepted(events, accepted)
            return accepted

        return apply

    def _note_accepted(self, events: Sequence[Event], accepted: Sequence[bool]) -> None:
        for event, ok in zip(events, accepted, strict=True):
            if ok:
                self._note(name_of(event))

    def _noted(self, name: str, real: Any) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self._note(name)
            return real(*args, **kwargs)

        return noted

    def _send(self, real: Any) -> Any:
        async def send(sender: AsyncSender, request: Request, *, not_after: float | None = None) -> Exchange:
            self._reach(f"{request.endpoint}:unsent")
            exchange: Exchange = await real(sender, request, not_after=not_after)
            self._reach(f"{request.endpoint}:answered")
            return exchange

        return send
