"""Ledgers, as the tests of the sync have them."""

from __future__ import annotations

from tests.sync.conftest import database, engines, ledger, postgres_database, sqlite_database, sqlite_ledger

__all__ = ["database", "engines", "ledger", "postgres_database", "sqlite_database", "sqlite_ledger"]
