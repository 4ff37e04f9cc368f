"""The page on Airflow's real API server, over a small ledger whose every number is known."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import requests
import sqlalchemy as sa

from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks.envelopes import parse_event
from airflow_provider_popin.webhooks.inbox import Inbox
from airflow_provider_popin.webhooks.processing import process_waiting
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.plugins.deliveries import missed_call
from tests.plugins.page_ledger import ACCOUNT, add_sources
from tests.sync.ledgers import SOURCE, lead_in

CONN_ID, LEDGER_CONN_ID = "popin_default", "popin_ledger"
DOUBT = "L-doubt"
# What the small ledger holds, as the page's funnel counts it.
FUNNEL = {
    "read": 9, "captured": 8, "booked": 4, "happened": 1, "missed": 1, "open": 2, "in_doubt": 1, "waiting": 2,
    "rejected": 2,
}  # fmt: skip
_LEADS = {
    "L-happened": "booked",
    "L-missed": "booked",
    "L-open": "booked",
    "L-alarm": "booked",
    DOUBT: "in_doubt",
    "L-waiting": "captured",
    "L-unassigned": "unassigned",
    "L-rejected": "rejected",
    "L-bad-phone": "capture_rejected",
}


@dataclass
class Site:
    """Airflow's API server with the page, and the ledger that it shows.

    :param airflow: URL of Airflow.
    :param ledger: the same database, opened by the test.
    """

    airflow: str
    ledger: Ledger
    _tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """URL of the page, with a slash at its end."""
        return f"{self.airflow}/popin/page/"

    def token(self, role: str = "admin", name: str = "Ada Admin") -> str:
        """Return a session token of Airflow's, as its login makes it."""
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

        if (role, name) not in self._tokens:
            user = SimpleAuthManagerUser(username=name, role=role)
            self._tokens[role, name] = get_auth_manager().generate_jwt(user)
        return self._tokens[role, name]

    def session(self, role: str = "admin", name: str = "Ada Admin") -> requests.Session:
        """Return a logged-in browser without a window: it has the cookie, and names its origin."""
        session = requests.Session()
        session.cookies.set("_token", self.token(role, name))
        session.headers["Origin"] = self.airflow
        return session

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        """Read the ledger."""
        with self.ledger.read() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    def state(self, lead_id: str) -> str:
        """Return the state of a lead's booking."""
        [[found]] = self.rows(f"SELECT booking_state FROM popin_leads WHERE lead_id = '{lead_id}'")
        return str(found)

    def history(self, lead_id: str) -> list[tuple[object, ...]]:
        """Return kind, who and why of a lead's history."""
        return self.rows(
            "SELECT h.kind, h.who, h.why FROM popin_history h JOIN popin_leads l ON l.id = h.lead "
            f"WHERE l.lead_id = '{lead_id}' ORDER BY h.id"
        )


def connect(set_connection: Callable[..., None], ledger: Path, **extra: object) -> None:
    """Make the connections that the page reads.

    :param ledger: file of the ledger.
    :param extra: extra fields of the Popin connection, instead of these.
    """
    set_connection(LEDGER_CONN_ID, conn_type="sqlite", host=str(ledger))
    fields = {"ledger_conn_id": LEDGER_CONN_ID, "account": ACCOUNT} | extra
    set_connection(CONN_ID, conn_type="popin", login=SELLER_TOKEN, password=API_KEY, extra=fields)


def fill(ledger: Ledger) -> None:
    """Fill an empty ledger: leads in every state, an alarm, an event that fits no one booking, two runs."""
    with ledger.write() as connection:
        add_sources(connection, SOURCE, "web_form")
    slot = int(time.time() // 1800 * 1800) - 3600
    keys = {
        lead_id: lead_in(ledger, state, lead_id, slot=slot, seat=seat)
        for seat, (lead_id, state) in enumerate(_LEADS.items(), start=1)
    }
    with ledger.write() as connection:
        for statement in (
            "UPDATE popin_leads SET outcome = 'successful' WHERE lead_id = 'L-happened'",
            "UPDATE popin_leads SET outcome = 'missed' WHERE lead_id = 'L-missed'",
            "UPDATE popin_leads SET alarm = TRUE WHERE lead_id = 'L-alarm'",
            "UPDATE popin_leads SET reason = 'phone_no_region: text' WHERE lead_id = 'L-bad-phone'",
        ):
            connection.execute(sa.text(statement))
        report = {"rows": 9, "results": {"booked": 4, "in_doubt": 1, "rejected": 2}}
        for number, told in ((1, json.dumps(report)), (2, None)):
            connection.execute(
                sa.text(
                    "INSERT INTO popin_runs (source, run, try_number, started_at, ended_at, report) "
                    "VALUES (:source, :run, 1, :start, :end, :report)"
                ),
                {
                    "source": SOURCE,
                    "run": f"crm_sync/run {number}/sync_leads",
                    "start": time.time() - 600 / number,
                    "end": None if told is None else time.time() - 500,
                    "report": told,
                },
            )
    deliver(ledger, keys["L-open"])


def deliver(ledger: Ledger, key: int) -> None:
    """Have Popin tell of a missed call of a customer with two bookings: it fits no one of them.

    :param key: of a lead that is booked.
    """
    body = json.dumps(missed_call(key)).encode()
    event = parse_event(body)
    with ledger.write() as connection:
        connection.execute(
            sa.text("UPDATE popin_leads SET customer_id = :id WHERE lead_id IN ('L-open', 'L-alarm')"),
            {"id": event.customer_id},
        )
    inbox = Inbox(ledger)
    try:
        inbox.submit(conn_id=CONN_ID, account=ACCOUNT, body=body, event=event, key=b"key")
    finally:
        inbox.close()
    process_waiting(ledger)


def hidden_in(html: str) -> dict[str, str]:
    """Return the hidden fields of the form in a page."""
    found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))
    assert "token" in found, "no form"
    return found


def numbers_in(html: str, table: str) -> list[dict[str, int]]:
    """Return the rows of a table by column, as its cells' ``data-value`` say."""
    parser = _Table(table)
    parser.feed(html)
    return [dict(zip(parser.heads[-len(row) :], row, strict=True)) for row in parser.rows if row]


class _Table(HTMLParser):
    def __init__(self, wanted: str) -> None:
        super().__init__()
        self._wanted, self._inside, self._in_head = wanted, False, False
        self.heads: list[str] = []
        self.rows: list[list[int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "table":
            self._inside = values.get("id") == self._wanted
        elif self._inside and tag == "tr":
            self.rows.append([])
        elif self._inside and tag == "td" and values.get("data-value"):
            self.rows[-1].append(int(values["data-value"] or 0))
        self._in_head = self._inside and tag == "th" and values.get("scope") == "col"

    def handle_data(self, data: str) -> None:
        if self._in_head and data.strip():
            self.heads.append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        self._in_head = False
        if tag == "table":
            self._inside = False
