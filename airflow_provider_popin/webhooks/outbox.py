"""Asset events that wait to be emitted: written in the transaction that matched the event, emitted later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_popin.sync.ledger import Ledger

LEASE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class AssetEvent:
    """One asset event to emit. Only events that match a lead make one.

    :param id: of the webhook event.
    :param uri: ``popin://<connection id>/calls/<kind>``.
    :param extra: ``source``, ``lead_id``, ``generation``, ``kind``, ``call_time`` (ISO 8601 with the seller's
        offset, or None), ``occurred_at`` (ISO 8601, UTC) and ``event_id``; nothing personal.
    """

    id: int
    uri: str
    extra: Mapping[str, object]


def asset_uri(conn_id: str, kind: str) -> str:
    """The URI of the asset that Dags run on.

    :param conn_id: id of the Popin connection.
    :param kind: a value of :class:`.events.EventKind`.
    """
    return f"popin://{conn_id}/calls/{kind}"


def next_asset_events(ledger: Ledger, *, limit: int = 100) -> list[AssetEvent]:
    """Take the oldest asset events under a lease of :data:`LEASE_SECONDS`: nobody else gets them meanwhile.

    :param ledger: with the events.
    :param limit: at most so many.
    """
    raise NotImplementedError


def mark_emitted(ledger: Ledger, ids: Sequence[int]) -> None:
    """Note that asset events were emitted. A crash before this emits them twice; ``event_id`` tells.

    :param ledger: with the events.
    :param ids: of :class:`AssetEvent`.
    """
    raise NotImplementedError


def release(ledger: Ledger, ids: Sequence[int]) -> None:
    """Give asset events back that could not be emitted: the next call gets them at once.

    :param ledger: with the events.
    :param ids: of :class:`AssetEvent`.
    """
    raise NotImplementedError
