"""The tables of what Popin tells, in the ledger's database (schema version 2)."""
