"""A row that cannot be read as columns and values."""

from __future__ import annotations

import pytest

from airflow_provider_popin.sync.source.unreadable import Unreadable, UnreadableRow


def test_an_unreadable_row_is_a_mapping_without_columns() -> None:
    row = UnreadableRow(Unreadable.ROW_TOO_LONG)
    assert dict(row) == {}
    assert len(row) == 0
    assert row.get("name") is None
    with pytest.raises(KeyError):
        row["name"]
    assert row.reason == "row_too_long"
    assert repr(row) == "UnreadableRow('row_too_long')"
