"""A row of a source that cannot be read as columns and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NoReturn


class Unreadable(StrEnum):
    """Why a row could not be read; the reason that its result line carries."""

    CSV_MALFORMED = "csv_malformed"  # quotes that do not match, or a field beyond csv's own limit
    ROW_TOO_SHORT = "row_too_short"  # fewer fields than the header has
    ROW_TOO_LONG = "row_too_long"
    NUL_BYTE = "nul_byte"
    JSON_MALFORMED = "json_malformed"
    JSON_NOT_OBJECT = "json_not_object"
    JSON_DUPLICATE_KEY = "json_duplicate_key"
    NOT_A_MAPPING = "row_not_a_mapping"  # what a `leads` callable yielded


class UnreadableRow(Mapping[str, object]):
    """Stands in a stream of rows for one that has no columns; it counts as a rejected row without identity.

    It holds nothing of the row's content, so that nothing of it can end up in a log.

    :param reason: why it could not be read.
    """

    __slots__ = ("reason",)

    def __init__(self, reason: Unreadable) -> None:
        self.reason = reason

    def __getitem__(self, column: str) -> NoReturn:
        raise KeyError(column)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"UnreadableRow({self.reason.value!r})"
