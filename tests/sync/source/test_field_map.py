from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.sync.source.field_map import FieldMap

BOTH = ("capture", "schedule")
LEAD = {"lead_id": "Id", "name": ["First", "Last"], "mobile": "Phone"}


def test_columns_in_a_fixed_order() -> None:
    setting = {"campaign.b": "B", "campaign.a": ("A", "B"), "email": ["Mail"], **LEAD}
    field_map = FieldMap.parse(setting, steps=BOTH)
    assert list(field_map.columns.items()) == [
        ("lead_id", ("Id",)),
        ("name", ("First", "Last")),
        ("mobile", ("Phone",)),
        ("email", ("Mail",)),
        ("campaign.a", ("A", "B")),
        ("campaign.b", ("B",)),
    ]


@pytest.mark.parametrize(
    ("setting", "code", "names"),
    [
        ({**LEAD, "phone": "Phone"}, "field_map_target", "'phone'"),
        ({**LEAD, "campaign": "X"}, "field_map_target", "'campaign'"),
        ({**LEAD, "campaign. ": "X"}, "field_map_target", "'campaign. '"),
        ({"lead_id": "Id", 5: "X"}, "field_map_target", "5"),
        ({**LEAD, "email": None}, "field_map_column", "'email'"),
        ({**LEAD, "email": []}, "field_map_column", "'email'"),
        ({**LEAD, "email": ["Mail", ""]}, "field_map_column", "'email'"),
        ({**LEAD, "email": ["Mail", 5]}, "field_map_column", "'email'"),
        ({**LEAD, "lead_id": ["Id", "Old Id"]}, "field_map_list", "'lead_id'"),
        ({**LEAD, "generation": ["G", "H"]}, "field_map_list", "'generation'"),
        ({"name": "Name"}, "field_map_missing", "'lead_id', 'mobile'"),
        ({"customer_id": "Customer"}, "field_map_missing", "'lead_id'"),
        ("lead_id", "field_map_column", "targets"),
    ],
)
def test_unusable_maps(setting: Any, code: str, names: str) -> None:
    with pytest.raises(PopinInputError) as caught:
        FieldMap.parse(setting, steps=BOTH)
    assert (caught.value.code, caught.value.field) == (code, "field_map")
    assert names in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "steps"),
    [
        ({"lead_id": ["Id"], "customer_id": "Customer"}, BOTH),
        ({"lead_id": "Id"}, ("schedule",)),
        (LEAD, ("capture",)),
    ],
)
def test_what_is_required(setting: Any, steps: tuple[str, ...]) -> None:
    assert set(FieldMap.parse(setting, steps=steps).columns) == set(setting)


def test_same_names() -> None:
    names = ["more", "mobile", "lead_id", "campaign.x", "campaign.", "Name", "name"]
    field_map = FieldMap.of_same_names(names, steps=BOTH)
    assert list(field_map.columns) == ["lead_id", "name", "mobile", "campaign.x"]
    with pytest.raises(PopinInputError, match="'mobile', 'name'") as caught:
        FieldMap.of_same_names(["lead_id"], steps=BOTH)
    assert caught.value.code == "column_missing"


def test_absent_columns() -> None:
    field_map = FieldMap.parse(LEAD, steps=BOTH)
    field_map.check(["Id", "First", "Last", "Phone"])
    with pytest.raises(PopinInputError, match="no column 'First', 'Phone'") as caught:
        field_map.check(["Id", "Last"])
    assert caught.value.code == "column_missing"
