"""The promise under faults: a hostile server, a hostile operating system, and the invariants I1 to I5."""
