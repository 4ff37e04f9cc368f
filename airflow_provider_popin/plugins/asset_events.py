"""The one call into Airflow's inside: an asset event for everybody who is scheduled on an asset.

Airflow's public way (``POST /api/v2/assets/events``) needs the token of an Airflow user, which a webhook does
not have. ``register_asset_change`` is not in the public interface, and its arguments grew with each version;
what is passed here has meant the same in all of them. Run on 3.0.6, 3.1.8, 3.2.2 and 3.3.2.

Like Airflow's own event triggers, the event belongs to no team: under ``[core] multi_team`` a Dag of a team
gets it unless its schedule refuses events from outside (``allow_global_producers``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def register(uri: str, extras: Sequence[Mapping[str, object]], *, session: Session) -> int:
    """Record events of an asset, and queue the Dags that are scheduled on it.

    :param uri: of the asset, for example ``popin://popin_default/calls/missed``.
    :param extras: for each event the JSON values that Dags get with it.
    :param session: of Airflow's database; the caller commits.
    :return: how many assets have this URI and are in use; 0 where no Dag knows it, which is no error.
    :raises NotImplementedError: Airflow older than 3.0.
    """
    if not AIRFLOW_V_3_0_PLUS:
        raise NotImplementedError("asset events from webhooks need Airflow 3.0 or newer")
    from airflow.assets.manager import asset_manager
    from airflow.models.asset import AssetModel
    from sqlalchemy import select

    # Several assets may share a URI under different names.
    in_use = select(AssetModel).where(AssetModel.uri == uri, AssetModel.active.has())
    assets = list(session.scalars(in_use))
    for asset in assets:
        # Before: it locks what is queued, so that no scheduler takes it away while more is added.
        _queued_now(asset.id, session)
        for extra in extras:
            asset_manager.register_asset_change(asset=asset, extra=dict(extra), session=session)
        _queued_now(asset.id, session)
    return len(assets)


def _queued_now(asset_id: int, session: Session) -> None:
    """Let what is queued for an asset be as late as its newest event.

    The scheduler gives a run the events up to the time at which its Dag was queued. A Dag that is queued
    already stays so with the time of the first event (seen on 3.3.2; read in 3.0 to 3.2), and later ones
    would wait until the next event of the asset, however long that takes.
    """
    from airflow.models.asset import AssetDagRunQueue
    from sqlalchemy import update

    queued = update(AssetDagRunQueue).where(AssetDagRunQueue.asset_id == asset_id)
    session.execute(
        queued.values(created_at=datetime.now(UTC)).execution_options(synchronize_session="fetch")
    )
