"""What is known from outside: the CRM's leads, the ledger by plain SQL, what the sandbox booked."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from airflow_provider_popin.sandbox.rows import BookingRow, CustomerRow

# The 555-01xx numbers of these areas are for fiction.
_AREAS = (201, 202, 203, 205, 206)
_COLUMNS = (
    *("id", "first_name", "last_name", "mobile_phone", "other_phone", "email", "country", "utm_source"),
    *("call_after", "call_before", "hours_from", "hours_to", "timezone", "priority", "created_at"),
    *("popin_state", "popin_reason", "popin_customer_id", "popin_join_url", "popin_call_time"),
)
_VOUCHED_FOR = frozenset({"booked", "in_doubt", "sending"})

Lead = Mapping[str, Any]


@dataclass(frozen=True)
class Person:
    """A lead of the CRM.

    :param lead_id: its key.
    :param mobile: unique, E.164; or no number at all.
    """

    lead_id: str
    first_name: str
    last_name: str
    mobile: str
    email: str


@dataclass(frozen=True)
class Fact:
    """One line of the table.

    :param name: what was looked at.
    :param value: what was seen.
    :param holds: whether it is as promised; None for a mere figure.
    """

    name: str
    value: object
    holds: bool | None = None


def make_people(count: int, *, unusable: int) -> list[Person]:
    """Invent leads.

    :param count: how many; at most 500.
    :param unusable: how many of them have no phone number that can be sent.
    """
    people = []
    for number in range(count):
        word = _word(number)
        phone = f"+1{_AREAS[number // 100]}55501{number % 100:02}"
        if number < unusable:
            phone = "ask at the desk"
        person = Person(f"D-{number:04}", f"Qu{word}vex", f"Zo{word}rath", phone, f"{word}.qvz@example.com")
        people.append(person)
    return people


class Databases:
    """The CRM and the ledger, seen with plain SQL.

    :param address: ``user@host:port`` of the Postgres server.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def create(self, *names: str) -> None:
        """Create databases.

        :param names: of the databases.
        """
        self._execute("postgres", *(f"CREATE DATABASE {name}" for name in names))

    def fill_crm(self, people: Sequence[Person]) -> None:
        """Create the table that the example reads.

        :param people: its rows.
        """
        columns = ", ".join(f"{name} TEXT" for name in _COLUMNS)
        names = "id, first_name, last_name, mobile_phone, email, created_at"
        self._execute("crm", f"CREATE TABLE leads ({columns})")
        insert = f"INSERT INTO leads ({names}) VALUES (:id, :first, :last, :phone, :email, :created)"  # noqa: S608
        now = datetime.now(UTC).isoformat()
        rows = [
            {
                "id": person.lead_id,
                "first": person.first_name,
                "last": person.last_name,
                "phone": person.mobile,
                "email": person.email,
                "created": now,
            }
            for person in people
        ]
        with self._engine("crm").begin() as connection:
            connection.execute(sa.text(insert), rows)

    def forget_answers(self) -> None:
        """The CRM forgets who was booked: the next run reads everybody again."""
        self._execute("crm", "UPDATE leads SET popin_state = NULL")

    def told_to_crm(self) -> set[str]:
        """Return the leads that the CRM believes are booked."""
        rows = self._rows("crm", "SELECT id FROM leads WHERE popin_state = 'booked'")
        return {str(row["id"]) for row in rows}

    def leads(self) -> dict[str, Lead]:
        """Return the ledger's leads by lead id; none as long as there is no ledger."""
        with self._engine("ledger").connect() as connection:
            if not sa.inspect(connection).has_table("popin_leads"):
                return {}
        return {str(row["lead_id"]): row for row in self._rows("ledger", "SELECT * FROM popin_leads")}

    def leases(self) -> int:
        """Return how many runs hold a lease, dead ones included."""
        query = (
            "SELECT count(*) AS n FROM popin_owners WHERE deadline > extract(epoch from clock_timestamp())"
        )
        return int(self._rows("ledger", query)[0]["n"])

    def ledger_text(self) -> str:
        """Return all that the ledger holds."""
        tables = ("ledger", "sources", "leads", "seats", "owners", "history", "runs")
        return "\n".join(
            str(row)
            for table in tables
            for row in self._rows("ledger", f"SELECT * FROM popin_{table}")  # noqa: S608
        )

    def _rows(self, database: str, query: str) -> list[Lead]:
        with self._engine(database).connect() as connection:
            return [dict(row) for row in connection.execute(sa.text(query)).mappings()]

    def _execute(self, database: str, *statements: str) -> None:
        with self._engine(database).connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def _engine(self, database: str) -> sa.Engine:
        # Nothing is held open: Postgres is stopped while this object still lives.
        return sa.create_engine(
            f"postgresql+psycopg://{self._address}/{database}",
            isolation_level="AUTOCOMMIT",
            poolclass=sa.pool.NullPool,
        )


def booked_by_lead(
    people: Iterable[Person], customers: Iterable[CustomerRow], bookings: Iterable[BookingRow]
) -> dict[str, list[BookingRow]]:
    """Return what Popin booked, by lead id: a customer is known by its phone number.

    :param people: of the CRM.
    :param customers: of the sandbox.
    :param bookings: of the sandbox.
    """
    by_phone = {person.mobile: person.lead_id for person in people}
    owners = {
        each["customer_id"]: by_phone[f"+{each['fields']['country']}{each['fields']['mobile']}"]
        for each in customers
    }
    found: dict[str, list[BookingRow]] = {}
    for booking in bookings:
        found.setdefault(owners[booking["customer_id"]], []).append(booking)
    return found


def check_bookings(booked: Mapping[str, Sequence[BookingRow]], leads: Mapping[str, Lead]) -> list[Fact]:
    """I1 and I2, and what the ledger calls booked is booked.

    :param booked: what Popin booked, by lead id.
    :param leads: the ledger's.
    """
    twice = sorted(lead for lead, bookings in booked.items() if len(bookings) > 1)
    state = {lead: str(leads[lead]["booking_state"]) if lead in leads else "absent" for lead in booked}
    unknown = sorted(lead for lead in booked if state[lead] not in _VOUCHED_FOR)
    untrue = sorted(
        lead
        for lead, row in leads.items()
        if row["booking_state"] == "booked"
        and row["slot_start"] not in [_epoch(booking["start"]) for booking in booked.get(lead, ())]
    )
    states = Counter(str(row["booking_state"]) for row in leads.values())
    return [
        Fact("leads booked at Popin", len(booked)),
        Fact("booking states in the ledger", ", ".join(f"{name} {n}" for name, n in sorted(states.items()))),
        Fact("I1: booked twice", _named(twice), not twice),
        Fact("I2: booked at Popin, unknown to the ledger", _named(unknown), not unknown),
        Fact("booked in the ledger only, or for another time", _named(untrue), not untrue),
    ]


def check_results(folder: Path, *, last: Path, people: Sequence[Person]) -> list[Fact]:
    """I3: every row is in exactly one result set.

    :param folder: of all results.
    :param last: results of the last run, which read everybody.
    :param people: of the CRM.
    """
    files = sorted(folder.rglob("*.jsonl"))
    wrong = [file for file in files if not _numbered(_lines(file))]
    lines = _lines(last) if last.exists() else []
    sets = Counter(str(line["result"]) for line in lines)
    expected = sorted(person.lead_id for person in people)
    whole = expected == sorted(str(line["lead_id"]) for line in lines)
    return [
        Fact(
            "results files, rows in order without a gap",
            f"{len(files) - len(wrong)} of {len(files)}",
            not wrong,
        ),
        Fact("I3: rows of the last run in one result set", f"{len(lines)} of {len(expected)}", whole),
        Fact("... which ones", ", ".join(f"{name} {count}" for name, count in sorted(sets.items()))),
    ]


def check_privacy(people: Iterable[Person], key: str, texts: Iterable[str]) -> Fact:
    """I4: no phone, name, e-mail or key in logs, ledger and results.

    :param people: of the CRM.
    :param key: the API key.
    :param texts: to be searched.
    """
    values = {key}
    for person in people:
        values |= {person.first_name, person.last_name, person.email}
        if person.mobile.startswith("+"):
            values.add(person.mobile.removeprefix("+1"))
    pattern = re.compile("|".join(map(re.escape, sorted(values))), re.IGNORECASE)
    found = sum(len(pattern.findall(text)) for text in texts)
    return Fact("I4: personal values in logs, ledger, results", found or "none", not found)


def _lines(file: Path) -> list[Mapping[str, object]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def _numbered(lines: Sequence[Mapping[str, object]]) -> bool:
    return [line["row"] for line in lines] == list(range(1, len(lines) + 1))


def _named(leads: Sequence[str]) -> str:
    return f"{len(leads)}: {', '.join(leads[:5])}" if leads else "none"


def _epoch(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp())


def _word(number: int) -> str:
    letters = ""
    for _ in range(4):
        number, index = divmod(number, 26)
        letters += "abcdefghijklmnopqrstuvwxyz"[index]
    return letters
