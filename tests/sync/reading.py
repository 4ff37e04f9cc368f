"""What the tests of rows share: a row, and readers that are sure of the outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_popin.sync.source.rows import BadRow, LeadRow, RowReader

BOTH = ("capture", "schedule")
# From the ranges that regulators set aside for fiction.
PHONE, OTHER_PHONE = "202-555-0123", "202-555-0188"
ANN = {"lead_id": "a1", "name": "Ann Example", "mobile": PHONE}


def make_reader(field_map: Mapping[str, str | Sequence[str]] | None = None, **settings: Any) -> RowReader:
    defaults: dict[str, Any] = {
        "steps": BOTH,
        "default_region": "US",
        "drop_phone_extension": False,
        "fingerprint_key": b"a secret",
    }
    return RowReader(field_map=field_map, **{**defaults, **settings})


def read(row: Mapping[str, object], **settings: Any) -> LeadRow | BadRow:
    return make_reader(**settings).read(row)


def read_good(row: Mapping[str, object], **settings: Any) -> LeadRow:
    result = read(row, **settings)
    assert isinstance(result, LeadRow), result
    return result


def read_bad(row: Mapping[str, object], **settings: Any) -> BadRow:
    result = read(row, **settings)
    assert isinstance(result, BadRow), result
    return result


def why(row: Mapping[str, object], **settings: Any) -> tuple[str, str | None]:
    bad = read_bad(row, **settings)
    return bad.reason, bad.field


ANN_MAP = {"lead_id": "lead_id", "name": "name", "mobile": "mobile"}
