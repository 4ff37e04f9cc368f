"""What Airflow asks a provider about itself: a literal that imports nothing, so that asking is cheap."""

from __future__ import annotations


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata for Airflow's ``apache_airflow_provider`` entry point.

    Airflow 3.2 and newer draw the connection form from ``conn-fields`` and ``ui-field-behaviour``;
    older ones ask the hook class for the same fields.

    :return: a dict as Airflow's ``provider_info.schema.json`` describes it, JSON values only.
    """
    return {
        "package-name": "airflow-provider-popin",
        "name": "Popin",
        "description": "Popin live video shopping calls: leads from a CRM become scheduled calls.",
        "integrations": [
            {"integration-name": "Popin", "external-doc-url": "https://popin.to", "tags": ["service"]}
        ],
        "hooks": [
            {"integration-name": "Popin", "python-modules": ["airflow_provider_popin.hooks.popin"]},
        ],
        "operators": [
            {
                "integration-name": "Popin",
                "python-modules": [
                    "airflow_provider_popin.operators.popin",
                    "airflow_provider_popin.operators.lead_sync",
                    "airflow_provider_popin.operators.outcomes",
                ],
            }
        ],
        "sensors": [
            {"integration-name": "Popin", "python-modules": ["airflow_provider_popin.sensors.popin"]},
        ],
        "triggers": [
            {
                "integration-name": "Popin",
                "python-modules": [
                    "airflow_provider_popin.triggers.popin",
                    "airflow_provider_popin.triggers.slots_open",
                ],
            }
        ],
        "extra-links": ["airflow_provider_popin.links.popin.PopinJoinCallLink"],
        # Assets like popin://popin_default/calls/missed. Airflow reads an entry only if it has a handler,
        # which may be null; 2.11 looks for the old name.
        "asset-uris": [{"schemes": ["popin"], "handler": None}],
        "dataset-uris": [{"schemes": ["popin"], "handler": None}],
        "cli": ["airflow_provider_popin.cli.get_popin_cli_commands"],
        "connection-types": [
            {
                "connection-type": "popin",
                "hook-class-name": "airflow_provider_popin.hooks.popin.PopinHook",
                "hook-name": "Popin",
                "ui-field-behaviour": {
                    # The host field takes a whole URL; schema and port still work in URIs and JSON.
                    "hidden-fields": ["schema", "port", "extra"],
                    "relabeling": {"host": "Popin URL", "login": "Seller token", "password": "API key"},
                    "placeholders": {
                        "host": "https://widget01.popin.to",
                        "login": "Popin dashboard, Integrations",
                        "password": "Popin dashboard, Settings, Developers, Popin API",
                    },
                },
                "conn-fields": {
                    "timeout_seconds": {
                        "label": "Timeout (seconds)",
                        "description": "For one whole request and its answer; connecting may take 5 of them.",
                        "schema": {"type": ["number", "null"], "default": 30, "minimum": 1},
                    },
                    "max_concurrency": {
                        "label": "Requests at a time",
                        "description": "Upper limit of requests in flight, per process.",
                        "schema": {"type": ["integer", "null"], "default": 8, "minimum": 1},
                    },
                    "requests_per_second": {
                        "label": "Requests per second",
                        "description": "Upper limit, per process; 0 for no limit. Popin documents none.",
                        "schema": {"type": ["number", "null"], "default": 5, "minimum": 0},
                    },
                    "default_region": {
                        "label": "Default region",
                        "description": "ISO country (IN, US, ...) of phone numbers written without one. "
                        "Empty: such numbers are refused, not guessed.",
                        "schema": {"type": ["string", "null"], "minLength": 2, "maxLength": 2},
                    },
                    "postal_code_field": {
                        "label": "Postal code field",
                        "description": "The name under which Popin gets a lead's postal code.",
                        "schema": {
                            # Null, for else the form marks it as required.
                            "type": ["string", "null"],
                            "enum": ["pincode", "pin_code"],
                            "default": "pincode",
                        },
                    },
                    "account": {
                        "label": "Account name",
                        "description": "Stable name of this Popin account in the ledger. Set it before the "
                        "first run if the URL or the seller token may ever change.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "ledger_conn_id": {
                        "label": "Ledger connection",
                        "description": "Id of the SQLite or Postgres connection that holds the ledger.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "webhook_key": {
                        "label": "Webhook key",
                        "description": "The key that Popin's webhooks must present. Empty: none is accepted.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "proxy": {
                        "label": "Proxy URL",
                        "description": "Empty: HTTPS_PROXY and NO_PROXY of the environment are obeyed.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "verify": {
                        "label": "Verify TLS",
                        "description": "true, false, or the path of a file with certificate authorities.",
                        "schema": {"type": ["string", "null"], "default": "true"},
                    },
                },
            }
        ],
        "config": {
            "popin": {
                "description": "Settings of the Popin provider.",
                "options": {
                    "sqlite_ledger_executors": {
                        "description": "Remote executors, by class name and separated by commas, under which "
                        "a SQLite file may be the ledger: only where every worker sees the same file.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "CeleryExecutor",
                        "default": "",
                    },
                    "connections": {
                        "description": "Popin connections, separated by commas, that only a secrets backend "
                        "knows: the page in Airflow's UI shows them, and after a restart the API server "
                        "looks for their webhooks. Those in Airflow's database or the environment are found "
                        "without it.",
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "popin_emea,popin_apac",
                        "default": "popin_default",
                    },
                },
            },
        },
    }
