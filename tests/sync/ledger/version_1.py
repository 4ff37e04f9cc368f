"""The tables of a ledger of schema version 1, as it made them: what an upgrade finds."""

from __future__ import annotations

SQLITE = (
    """CREATE TABLE popin_history (
    id INTEGER NOT NULL,
    lead BIGINT NOT NULL,
    at FLOAT NOT NULL,
    attempt INTEGER NOT NULL,
    kind VARCHAR(32) NOT NULL,
    who VARCHAR(255),
    why TEXT,
    PRIMARY KEY (id)
)""",
    """CREATE INDEX ix_popin_history_lead ON popin_history (lead)""",
    """CREATE TABLE popin_leads (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    lead_id VARCHAR(255) NOT NULL,
    generation INTEGER NOT NULL,
    capture_state VARCHAR(16) NOT NULL,
    booking_state VARCHAR(16) NOT NULL,
    attempt INTEGER NOT NULL,
    deadline FLOAT,
    capture_doubted BOOLEAN NOT NULL,
    booking_doubted BOOLEAN NOT NULL,
    resends INTEGER NOT NULL,
    customer_id TEXT,
    second_customer TEXT,
    join_url TEXT,
    slot_start BIGINT,
    slot_time VARCHAR(40),
    slot_timezone VARCHAR(64),
    seat INTEGER,
    reply_incomplete BOOLEAN NOT NULL,
    time_mismatch BOOLEAN NOT NULL,
    alarm BOOLEAN NOT NULL,
    reason TEXT,
    fingerprint VARCHAR(64),
    wish TEXT,
    claim_owner VARCHAR(36),
    run TEXT,
    doubt_run TEXT,
    change INTEGER NOT NULL,
    written INTEGER NOT NULL,
    updated_at FLOAT NOT NULL,
    account VARCHAR(255) NOT NULL,
    source VARCHAR(255) NOT NULL,
    CONSTRAINT popin_leads_identity UNIQUE (account, source, lead_id, generation)
)""",
    """CREATE INDEX popin_leads_by_customer ON popin_leads (account, customer_id)""",
    """CREATE INDEX popin_leads_by_state ON popin_leads (source, booking_state)""",
    """CREATE TABLE popin_ledger (
    ledger_id VARCHAR(36) NOT NULL,
    schema_version INTEGER NOT NULL,
    sequence BIGINT NOT NULL,
    created_at FLOAT NOT NULL,
    PRIMARY KEY (ledger_id)
)""",
    """CREATE TABLE popin_owners (
    owner VARCHAR(36) NOT NULL,
    deadline FLOAT NOT NULL,
    run TEXT NOT NULL,
    try_number INTEGER NOT NULL,
    PRIMARY KEY (owner)
)""",
    """CREATE TABLE popin_runs (
    id INTEGER NOT NULL,
    source VARCHAR(255) NOT NULL,
    run TEXT NOT NULL,
    try_number INTEGER NOT NULL,
    started_at FLOAT NOT NULL,
    ended_at FLOAT,
    report TEXT,
    PRIMARY KEY (id)
)""",
    """CREATE TABLE popin_seats (
    account VARCHAR(255) NOT NULL,
    slot_start BIGINT NOT NULL,
    number INTEGER NOT NULL,
    lead BIGINT NOT NULL,
    PRIMARY KEY (account, slot_start, number),
    UNIQUE (lead)
)""",
    """CREATE TABLE popin_sources (
    source VARCHAR(255) NOT NULL,
    account VARCHAR(255) NOT NULL,
    lead_id_column VARCHAR(255),
    registered_at FLOAT NOT NULL,
    accepted_at FLOAT NOT NULL,
    PRIMARY KEY (source)
)""",
)

POSTGRES = (
    """CREATE TABLE popin_history (
    id BIGSERIAL NOT NULL,
    lead BIGINT NOT NULL,
    at FLOAT(53) NOT NULL,
    attempt INTEGER NOT NULL,
    kind VARCHAR(32) NOT NULL,
    who VARCHAR(255),
    why TEXT,
    PRIMARY KEY (id)
)""",
    """CREATE INDEX ix_popin_history_lead ON popin_history (lead)""",
    """CREATE TABLE popin_leads (
    id BIGSERIAL NOT NULL,
    lead_id VARCHAR(255) NOT NULL,
    generation INTEGER NOT NULL,
    capture_state VARCHAR(16) NOT NULL,
    booking_state VARCHAR(16) NOT NULL,
    attempt INTEGER NOT NULL,
    deadline FLOAT(53),
    capture_doubted BOOLEAN NOT NULL,
    booking_doubted BOOLEAN NOT NULL,
    resends INTEGER NOT NULL,
    customer_id TEXT,
    second_customer TEXT,
    join_url TEXT,
    slot_start BIGINT,
    slot_time VARCHAR(40),
    slot_timezone VARCHAR(64),
    seat INTEGER,
    reply_incomplete BOOLEAN NOT NULL,
    time_mismatch BOOLEAN NOT NULL,
    alarm BOOLEAN NOT NULL,
    reason TEXT,
    fingerprint VARCHAR(64),
    wish TEXT,
    claim_owner VARCHAR(36),
    run TEXT,
    doubt_run TEXT,
    change INTEGER NOT NULL,
    written INTEGER NOT NULL,
    updated_at FLOAT(53) NOT NULL,
    account VARCHAR(255) NOT NULL,
    source VARCHAR(255) NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT popin_leads_identity UNIQUE (account, source, lead_id, generation)
)""",
    """CREATE INDEX popin_leads_by_customer ON popin_leads (account, customer_id)""",
    """CREATE INDEX popin_leads_by_state ON popin_leads (source, booking_state)""",
    """CREATE TABLE popin_ledger (
    ledger_id VARCHAR(36) NOT NULL,
    schema_version INTEGER NOT NULL,
    sequence BIGINT NOT NULL,
    created_at FLOAT(53) NOT NULL,
    PRIMARY KEY (ledger_id)
)""",
    """CREATE TABLE popin_owners (
    owner VARCHAR(36) NOT NULL,
    deadline FLOAT(53) NOT NULL,
    run TEXT NOT NULL,
    try_number INTEGER NOT NULL,
    PRIMARY KEY (owner)
)""",
    """CREATE TABLE popin_runs (
    id BIGSERIAL NOT NULL,
    source VARCHAR(255) NOT NULL,
    run TEXT NOT NULL,
    try_number INTEGER NOT NULL,
    started_at FLOAT(53) NOT NULL,
    ended_at FLOAT(53),
    report TEXT,
    PRIMARY KEY (id)
)""",
    """CREATE TABLE popin_seats (
    account VARCHAR(255) NOT NULL,
    slot_start BIGINT NOT NULL,
    number INTEGER NOT NULL,
    lead BIGINT NOT NULL,
    PRIMARY KEY (account, slot_start, number),
    UNIQUE (lead)
)""",
    """CREATE TABLE popin_sources (
    source VARCHAR(255) NOT NULL,
    account VARCHAR(255) NOT NULL,
    lead_id_column VARCHAR(255),
    registered_at FLOAT(53) NOT NULL,
    accepted_at FLOAT(53) NOT NULL,
    PRIMARY KEY (source)
)""",
)
