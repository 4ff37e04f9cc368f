"""Errors of the lead sync that are not Popin's.

::

    SyncError
     ├── LedgerError                     the ledger cannot be used or reached
     │    ├── LedgerUnreachableError     not now: the same statement may succeed later
     │    │    └── LedgerRolledBackError nothing was written: it may be done again at once
     │    ├── LedgerUnusableError        not before somebody changes the connection, its database or the code
     │    └── LedgerGuardError           using it could book a lead twice: refused before any POST
     ├── LeadHeldError                   this lead must not be sent now (booked, in doubt, claimed elsewhere)
     └── SyncStoppedError                the run was stopped from outside; everything known is committed

    WriteBackError                       the CRM did not take some rows; ends no run
"""

from __future__ import annotations

from collections.abc import Collection


class SyncError(Exception):
    """Base of the errors of ``sync``; its text names no person and no key."""


class LedgerError(SyncError):
    """The ledger cannot be used: unreachable, of another version, or on a database that is not supported."""


class LedgerUnusableError(LedgerError):
    """The database cannot hold this ledger: in memory, another product or encoding, another schema version.

    No retry mends it.
    """


class LedgerUnreachableError(LedgerError):
    """The database did not answer, is locked, full or read-only: the same statement may succeed later."""


class LedgerRolledBackError(LedgerUnreachableError):
    """Nothing was written, for certain, and it may be done again at once.

    Two transactions waited for each other or were in conflict, or a pooler has lost a prepared statement.
    """


class LedgerGuardError(LedgerError):
    """Using this ledger could book leads again that were booked before; nothing was sent.

    ``ledger init --source`` on the command line says that it is meant.
    """


class LeadHeldError(SyncError):
    """The ledger forbids sending this lead now.

    :param message: what holds it, with the lead's source and id.
    :param retry: True where waiting may help (another live task holds it), False where a person must act.
    """

    def __init__(self, message: str, *, retry: bool) -> None:
        super().__init__(message)
        self.retry = retry


class SyncStoppedError(SyncError):
    """The run was stopped from outside (task killed, timed out); what was unanswered is in doubt."""


class WriteBackError(Exception):
    """Some rows of a batch could not be written back; the others were, and stay written.

    The text holds no value of a row: database errors quote the values that they choke on.

    :param message: which statement and connection, and the kind of database error.
    :param failed: indexes into the batch, of the rows to repeat in the next run.
    """

    def __init__(self, message: str, *, failed: Collection[int]) -> None:
        super().__init__(message)
        self.failed = frozenset(failed)
