"""What the engine knows about telling the CRM: rows go out in batches, and some may fail."""

from __future__ import annotations

from collections.abc import Collection


class WriteBackError(Exception):
    """Some rows of a batch could not be written back; the others were, and stay written.

    The text holds no value of a row: database errors quote the values that they choke on.

    :param message: which statement and connection, and the kind of database error.
    :param failed: indexes into the batch, of the rows to repeat in the next run.
    """

    def __init__(self, message: str, *, failed: Collection[int]) -> None:
        super().__init__(message)
        self.failed = frozenset(failed)
