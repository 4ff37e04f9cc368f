"""The plugin that Airflow finds by its entry point ``airflow.plugins``.

Every Airflow process imports this module (scheduler, workers, each command), so it imports next to nothing.
What costs time, or exists only in Airflow 3, is imported when an API server asks for it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import AirflowPlugin
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

WEBHOOKS_PREFIX = "/popin/webhooks"


class PopinPlugin(AirflowPlugin):
    """What the API server mounts. Empty on Airflow 2.11, which has none."""

    name = "popin"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The apps, made when they are first asked for: by the API server, or to list plugins.

        :return: as Airflow documents it: ``app``, ``url_prefix``, ``name``. The first prefix that fits a path
            gets the request.
        """
        if not AIRFLOW_V_3_0_PLUS:
            return []
        from airflow_provider_popin.plugins.receiver import make_app

        apps = [{"app": make_app(), "url_prefix": WEBHOOKS_PREFIX, "name": "Popin webhooks"}]
        if AIRFLOW_V_3_1_PLUS:
            from airflow_provider_popin.plugins.page import URL_PREFIX, create_page_app

            apps.append({"app": create_page_app(), "url_prefix": URL_PREFIX, "name": "Popin page"})
        return apps

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The entry of the page in Airflow's navigation; Airflow 3.1 and newer ask for it."""
        from airflow_provider_popin.plugins.page import EXTERNAL_VIEWS

        return list(EXTERNAL_VIEWS) if AIRFLOW_V_3_1_PLUS else []
