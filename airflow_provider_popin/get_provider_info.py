"""What Airflow asks a provider about itself: plain values and no import, so that asking is cheap."""

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
        "connection-types": [_connection_type()],
        "config": {"popin": {"description": "Settings of the Popin provider.", "options": _options()}},
    }


def _connection_type() -> dict[str, object]:
    return {
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
        "conn-fields": {**_client_fields(), **_other_fields()},
    }


def _client_fields() -> dict[str, object]:
    return {
        "timeout_seconds": _field(
            "Timeout (seconds)",
            "For one whole request and its answer; connecting may take 5 of them.",
            type=["number", "null"],
            default=30,
            minimum=1,
            maximum=3600,
        ),
        "max_concurrency": _field(
            "Requests at a time",
            "Upper limit of requests in flight, in one bulk sync.",
            type=["integer", "null"],
            default=8,
            minimum=1,
            maximum=10_000,
        ),
        "requests_per_second": _field(
            "Requests per second",
            "Upper limit, per process; 0 for no limit. Popin documents none.",
            type=["number", "null"],
            default=5,
            minimum=0,
        ),
        "default_region": _text(
            "Default region",
            "ISO country (IN, US, ...) of phone numbers written without one. "
            "Empty: such numbers are refused, not guessed.",
            minLength=2,
            maxLength=2,
        ),
        "postal_code_field": _text(
            "Postal code field",
            "The name under which Popin gets a lead's postal code.",
            enum=["pincode", "pin_code"],
            default="pincode",
        ),
    }


def _other_fields() -> dict[str, object]:
    return {
        "account": _text(
            "Account name",
            "Stable name of this Popin account in the ledger. Set it before the "
            "first run if the URL or the seller token may ever change.",
        ),
        "ledger_conn_id": _text(
            "Ledger connection", "Id of the SQLite or Postgres connection that holds the ledger."
        ),
        "webhook_key": _text(
            "Webhook key",
            "The key that Popin's webhooks must present. Empty: none is accepted.",
            format="password",
        ),
        "proxy": _text("Proxy URL", "Empty: HTTPS_PROXY and NO_PROXY of the environment are obeyed."),
        "verify": _text(
            "Verify TLS",
            "true, false, or the path of a file with certificate authorities.",
            default="true",
        ),
    }


def _text(label: str, description: str, **schema: object) -> dict[str, object]:
    # Null, for else the form marks the field as required.
    return _field(label, description, type=["string", "null"], **schema)


def _field(label: str, description: str, **schema: object) -> dict[str, object]:
    return {"label": label, "description": description, "schema": schema}


def _options() -> dict[str, object]:
    return {
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
    }
