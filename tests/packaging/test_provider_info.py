"""Airflow finds the provider, its metadata fit Airflow's schema, and everything it names is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from importlib import metadata, resources
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager

import airflow_provider_popin
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.get_provider_info import get_provider_info

INFO: dict[str, Any] = get_provider_info()
[CONNECTION] = INFO["connection-types"]
FORM_FIELDS = {
    "timeout_seconds",
    "max_concurrency",
    "requests_per_second",
    "default_region",
    "postal_code_field",
    "account",
    "ledger_conn_id",
    "webhook_key",
    "proxy",
    "verify",
}


def named_modules() -> Iterator[str]:
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for item in INFO[kind]:
            yield from item["python-modules"]


@pytest.fixture(scope="module")
def providers_manager() -> Any:
    """Return Airflow's own manager of providers, which reads entry points."""
    untyped: Any = ProvidersManager
    return untyped()


def test_entry_point_is_the_function() -> None:
    [entry] = metadata.entry_points(
        group="apache_airflow_provider", module="airflow_provider_popin.get_provider_info"
    )
    assert entry.load() is get_provider_info
    assert entry.dist is not None
    assert entry.dist.name == INFO["package-name"]


def test_version_is_in_one_place() -> None:
    assert metadata.version("airflow-provider-popin") == airflow_provider_popin.__version__


def test_metadata_fit_airflows_schema() -> None:
    schema = json.loads(resources.files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)
    json.dumps(INFO, allow_nan=False)


def test_airflow_discovers_the_provider(providers_manager: Any) -> None:
    provider = providers_manager.providers["airflow-provider-popin"]
    assert provider.version == airflow_provider_popin.__version__
    assert provider.data["connection-types"] == INFO["connection-types"]


@pytest.mark.parametrize("module", list(named_modules()))
def test_named_module_is_there(module: str) -> None:
    assert find_spec(module) is not None


@pytest.mark.parametrize("name", [CONNECTION["hook-class-name"], *INFO["extra-links"], *INFO["cli"]])
def test_named_object_is_there(name: str) -> None:
    assert callable(resolve_name(name))


def test_airflow_loads_the_hook(providers_manager: Any) -> None:
    with suppress(ImportError):  # from 3.2 on, what tasks ask
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

        untyped: Any = ProvidersManagerTaskRuntime
        providers_manager = untyped()
    hook = providers_manager.hooks["popin"]
    assert hook is not None
    assert (hook.hook_class_name, hook.hook_name) == (CONNECTION["hook-class-name"], "Popin")


def test_form_has_every_field_with_label_and_description() -> None:
    assert set(CONNECTION["conn-fields"]) == FORM_FIELDS
    assert all(field["label"] and field["description"] for field in CONNECTION["conn-fields"].values())


def test_form_defaults_fit_their_own_schemas() -> None:
    for field in CONNECTION["conn-fields"].values():
        jsonschema.Draft7Validator.check_schema(field["schema"])
        if "default" in field["schema"]:
            jsonschema.validate(field["schema"]["default"], field["schema"])


def test_form_defaults_are_those_of_an_empty_field() -> None:
    told = {
        name: field["schema"]["default"]
        for name, field in CONNECTION["conn-fields"].items()
        if "default" in field["schema"]
    }
    defaults = {field.name: field.default for field in fields(ClientConfig)}
    assert told | {"verify": True} == {name: defaults[name] for name in told}


def test_webhook_key_is_hidden_in_the_form() -> None:
    assert CONNECTION["conn-fields"]["webhook_key"]["schema"]["format"] == "password"
