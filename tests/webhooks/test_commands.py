"""The commands for webhooks and alarms."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_provider_popin import cli
from airflow_provider_popin.hooks.ledger import open_ledger
from airflow_provider_popin.sync.ledger import guards, schema
from airflow_provider_popin.sync.ledger.event_tables import events
from airflow_provider_popin.sync.ledger.ledger import Ledger
from tests.privacy import assert_no_personal_data
from tests.sync.ledgers import ACCOUNT, record
from tests.webhooks.deliveries import (
    PERSON,
    SLOT,
    SOURCE,
    body,
    change,
    customer_lead,
    deliver,
    let_pass,
    scheduled,
    told,
)


@pytest.fixture(autouse=True)
def _process_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the command line sets for its own process."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")


@pytest.fixture(name="ledger")
def command_ledger(tmp_path: Path, set_connection: Callable[..., None]) -> Iterator[Ledger]:
    """Return the ledger behind the connection ``popin_ledger``."""
    set_connection("popin_ledger", conn_type="sqlite", host=str(tmp_path / "ledger.db"))
    found = open_ledger("popin_ledger")
    yield found
    found.engine.dispose()


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    capsys.readouterr()  # what Airflow logged before
    assert cli.main([*words, "--output", "json"]) == cli.OK
    rows = json.loads(capsys.readouterr().out)
    assert isinstance(rows, list)
    return rows


def test_unmatched_events(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    customer_lead(ledger, "booked")
    (event,) = deliver(ledger, body("popin_call_missed"))
    assert run_json(capsys, "webhooks", "process") == [{"processed": 1}]
    (row,) = run_json(capsys, "webhooks", "list")
    assert (row["id"], row["kind"], row["reason"]) == (event, "missed", "no_booking")
    assert str(row["received_at"]).endswith("+00:00")
    assert cli.main(["webhooks", "list"]) == cli.OK
    table = capsys.readouterr().out
    assert "no_booking" in table
    # Whose it is: the ledger's export has the lead to it.
    assert row["customer_id"] == "MzE1"
    assert "MzE1" in table
    assert_no_personal_data(table, PERSON.values())

    words = ["webhooks", "dismiss", "--event", str(event), "--why", f"call of {PERSON['name']}"]
    (row,) = run_json(capsys, *words, "--user", "ann")
    assert (row["status"], row["closed_by"], row["closed_why"]) == ("dismissed", "ann", "call of ***")
    assert run_json(capsys, "webhooks", "list") == []
    assert cli.main(words) == cli.PROBLEM
    assert "no unmatched event" in capsys.readouterr().err


def test_strangers_are_listed_apart(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    deliver(ledger, body("popin_call_missed", 999))
    for seconds in (0, 20, 300):
        let_pass(ledger, seconds)
        run_json(capsys, "webhooks", "process")
    assert run_json(capsys, "webhooks", "list") == []
    assert [row["reason"] for row in run_json(capsys, "webhooks", "list", "--strangers")] == [
        "unknown_customer"
    ]


def test_lists_are_complete(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """What they left out would be taken for done."""
    deliver(ledger, body("popin_call_missed"))
    customer_lead(ledger, "captured")
    with ledger.write() as connection:
        connection.execute(events.update().values(status="unmatched", reason="no_booking", due_at=None))
        connection.execute(schema.leads.update().values(alarm=True))
        for table in (events, schema.leads):
            row = dict(connection.execute(table.select()).mappings().one())
            del row["id"]
            connection.execute(
                table.insert(),
                [row | {"lead_id": f"L{n}"} if "lead_id" in row else row for n in range(2, 1_002)],
            )
    assert len(run_json(capsys, "webhooks", "list")) == 1_001
    assert len(run_json(capsys, "alarms", "list")) == 1_001


def test_alarms(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    with ledger.write() as connection:
        guards.register(connection, account=ACCOUNT, source=SOURCE, lead_id_column="Id")
    key = customer_lead(ledger, "booked")
    told(ledger, scheduled(SLOT + 3_600))
    (row,) = run_json(capsys, "alarms", "list", "--source", SOURCE)
    assert (row["lead_id"], row["booking"], row["alarm"]) == ("L1", "booked", True)
    notes = row["notes"]
    assert isinstance(notes, list)
    assert notes[0]["who"] == "webhook"
    assert str(notes[0]["at"]).endswith("+00:00")
    words = ["alarms", "clear", "--source", SOURCE, "--lead", "L1", "--why", "one was cancelled"]
    (row,) = run_json(capsys, *words, "--generation", "1")
    assert row["alarm"] is False
    assert run_json(capsys, "alarms", "list") == []
    assert cli.main(words) == cli.PROBLEM
    assert "no alarm" in capsys.readouterr().err
    change(ledger, key, alarm=True, booking_state="in_doubt")
    assert cli.main(words) == cli.PROBLEM
    assert "in-doubt resolve" in capsys.readouterr().err
    assert record(ledger, key).alarm


@pytest.mark.parametrize(
    ("words", "list_words", "states"),
    [
        (["in-doubt", "resolve", "--outcome", "booked"], ["in-doubt", "list"], {"booking_state": "in_doubt"}),
        (["alarms", "clear"], ["alarms", "list"], {"booking_state": "booked", "alarm": True}),
    ],
)
def test_of_one_lead_under_two_accounts_the_account_is_named(
    words: list[str],
    list_words: list[str],
    states: dict[str, object],
    ledger: Ledger,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A source was given to another account, and the new one has trouble with the same lead."""
    change(ledger, customer_lead(ledger, "booked"), **states)
    with ledger.write() as connection:
        guards.register(connection, account="newer", source=SOURCE, lead_id_column="Id")
        row = dict(connection.execute(schema.leads.select()).mappings().one())
        del row["id"]
        connection.execute(schema.leads.insert().values(row | {"account": "newer"}))
    words = [*words, "--source", SOURCE, "--lead", "L1", "--why", "in the dashboard"]
    assert cli.main([*words, "--generation", "1"]) == cli.PROBLEM
    assert "name the generation or the account" in capsys.readouterr().err
    run_json(capsys, *words, "--account", ACCOUNT)
    (left,) = run_json(capsys, *list_words)
    assert left["account"] == "newer"
    run_json(capsys, *words)
    assert run_json(capsys, *list_words) == []
