"""What Airflow asks a provider about itself: a literal that imports nothing, so that asking is cheap."""

from __future__ import annotations


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata for Airflow's ``apache_airflow_provider`` entry point.

    :return: a dict as Airflow's ``provider_info.schema.json`` describes it, JSON values only.
    """
    return {
        "package-name": "airflow-provider-popin",
        "name": "Popin",
        "description": "Popin live video shopping calls: leads from a CRM become scheduled calls.",
    }
