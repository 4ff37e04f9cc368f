"""The connection form for Airflow before 3.2, made of the declarative form that newer ones read.

One definition, so that the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast


def form_widgets(provider_info: Mapping[str, object]) -> dict[str, Any]:
    """Return the form fields as Airflow's Flask pages (2.11) and the mocks of 3.0 and 3.1 want them.

    :param provider_info: what ``get_provider_info`` returns.
    """
    # By name, for Airflow 3 installs neither of them: 3.1 puts mocks in their place.
    forms, look = import_module("wtforms"), import_module("flask_appbuilder.fieldwidgets")
    optional = import_module("wtforms.validators").Optional

    widgets: dict[str, Any] = {}
    for name, field in _connection_type(provider_info)["conn-fields"].items():
        schema = field["schema"]
        options: dict[str, Any] = {
            "description": field["description"],
            "validators": [optional()],
            "widget": look.BS3TextFieldWidget(),
        }
        kind: Any = forms.StringField
        if schema.get("format") == "password":
            kind, options["widget"] = forms.PasswordField, look.BS3PasswordFieldWidget()
        elif "integer" in schema["type"]:
            kind = forms.IntegerField
        # No default: an empty field means the default, which then need not be stored. A number with a
        # fraction is a text field, for only texts, integers, passwords and booleans are accepted here.
        widgets[name] = kind(_label(field), **options)
    return widgets


def field_behaviour(provider_info: Mapping[str, object]) -> dict[str, Any]:
    """Return labels, placeholders and hidden standard fields.

    :param provider_info: what ``get_provider_info`` returns.
    """
    behaviour = _connection_type(provider_info)["ui-field-behaviour"]
    return {key.replace("-", "_"): value for key, value in behaviour.items()}


def _label(field: Mapping[str, Any]) -> str:
    default = field["schema"].get("default")
    return str(field["label"]) if default is None else f"{field['label']} (default {default})"


def _connection_type(provider_info: Mapping[str, object]) -> Mapping[str, Any]:
    (connection_type,) = cast("list[Mapping[str, Any]]", provider_info["connection-types"])
    return connection_type
