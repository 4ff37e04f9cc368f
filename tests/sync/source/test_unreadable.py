from __future__ import annotations

import pytest

from airflow_provider_popin.sync.source.unreadable import Unreadable, UnreadableRow
from airflow_provider_popin.sync.write_back import WriteBackError


def test_an_unreadable_row_is_a_mapping_without_columns() -> None:
    row = UnreadableRow(Unreadable.ROW_TOO_LONG)
    assert dict(row) == {}
    assert len(row) == 0
    assert row.get("name") is None
    with pytest.raises(KeyError):
        row["name"]
    assert row.reason == "row_too_long"
    assert repr(row) == "UnreadableRow('row_too_long')"


def test_a_write_back_error_says_which_rows_failed() -> None:
    error = WriteBackError("no", failed=[3, 1, 3])
    assert error.failed == {1, 3}
    assert str(error) == "no"
