"""The CRM of the demo: its sample holds nobody real, and files of one's own become a table."""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import phonenumbers
import pytest

from scripts import crm

# Ranges set aside for fiction: by the NANPA (555-01xx), Ofcom, ACMA, PTS and ARCEP. India has none, so the
# sample has no Indian number. Ofcom's and ARCEP's mobile ranges are unknown to phonenumbers, and serve as
# invalid ones.
FICTION = re.compile(
    r"1\d{3}55501\d\d"
    r"|44(207946|1174960|1214960|1414960|1134960)0?\d{3}|447700900\d{3}"
    r"|61(491570(006|156|157|158|159|110)|491571(266|491|804)|491572(549|665|983)|[2378](5550|7010)\d{4})"
    r"|46701740(6[0-9]{2})"
    r"|33(19900|26191|35301|46571|53649|63998)\d{4}"
)
REGIONS = ("US", "GB", "AU", "SE", "FR")
# Not numbers anybody could have: too short, no such country, or no digits at all.
NOBODY = {"202-555-CALL", "0000", "12345", "555-0123", "+1 202 555", "+999 12345678"}


def sample() -> list[dict[str, str]]:
    with crm.SAMPLE.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def belongs_to_nobody(text: str) -> bool:
    parts = re.split(r"\s*[;,]\s*|\s+/\s+", text)
    return all(part in NOBODY or not re.search(r"\d{3}", part) or _is_fiction(part) for part in parts)


def _is_fiction(text: str) -> bool:
    digits = [re.sub(r"\D", "", text.split(" x")[0].split("#")[0])]
    for region in REGIONS:
        try:
            number = phonenumbers.parse(text.replace("'", "").replace("tel:", ""), region)
        except phonenumbers.NumberParseException:
            continue
        digits.append(f"{number.country_code}{number.national_number}")
    return any(FICTION.fullmatch(one) for one in digits)


def test_sample_has_200_leads_of_whom_none_exists() -> None:
    rows = sample()
    assert len(rows) == 200
    phones = [row[name] for row in rows for name in ("mobile_phone", "other_phone") if row[name].strip()]
    assert [phone for phone in phones if not belongs_to_nobody(phone)] == []
    emails = [row["email"] for row in rows if "@" in row["email"]]
    assert len(emails) > 100
    assert {email.rpartition("@")[2] for email in emails} <= {"example.com", "example.org", "example.net"}


@pytest.mark.parametrize("phone", ["+91 95445 10895", "020 7183 8750", "+1 202 456 1111", "0700000000"])
def test_check_of_the_sample_notices_other_numbers(phone: str) -> None:
    assert not belongs_to_nobody(phone)


def test_times_of_the_sample_count_from_now(tmp_path: Path) -> None:
    database = tmp_path / "crm.db"
    crm.make_sample_crm(database, now=datetime(2030, 5, 1, 12, 0, 31, tzinfo=UTC))
    with closing(sqlite3.connect(database)) as connection:
        afters = {row[0] for row in connection.execute("SELECT call_after FROM leads")}
        (newest,) = connection.execute("SELECT max(created_at) FROM leads").fetchone()
    assert {"", "2030-05-02T12:00:00+00:00"} <= afters
    assert newest == "2030-05-01T11:59:00+00:00"


def test_own_file_becomes_a_table_with_columns_for_answers(tmp_path: Path) -> None:
    file, database = tmp_path / "mine.csv", tmp_path / "crm.db"
    file.write_bytes(b'\xef\xbb\xbfId,"The ""Name""",Note\r\n1,A,"two\r\nlines"\r\n\r\n2,B,\r\n')
    assert crm.make_own_crm(database, file, id_column="Id") == 2
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute('SELECT "Id", "The ""Name""", "Note", popin_state FROM leads').fetchall()
    assert rows == [("1", "A", "two\r\nlines", None), ("2", "B", "", None)]
    assert crm.count_states(database) == {"": 2}


@pytest.fixture
def usual_field_limit() -> Iterator[None]:
    """Whoever has read leads from a file in this process has raised it."""
    before = csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(before)


@pytest.mark.usefixtures("usual_field_limit")
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b" \r\n\r\n", "is empty"),
        (b"a,b\n", "has no rows below its header"),
        (b"a,A\n1,2\n", "each once"),
        (b"a,,b\n1,2,3\n", "must name every column"),
        (b"a,b\n1,\xff\n", "not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), 'not UTF-8; save it as "CSV UTF-8"'),
        (b"a,b\n1,2\n1\n", "ends in line 3 has 1 fields, the header 2"),
        (b'a,b\n1,2\n"3,4\n', "ends in line 3"),
        (b"a,b\n1," + b"2" * 200_000, "line 2: field larger than field limit"),
        (",".join(f"c{n}" for n in range(3000)).encode() + b"\n" + b"," * 2999, "does not fit into a SQLite"),
        (b"a,popin_state\n1,2\n", "adds itself: popin_state"),
        (b'\n{"id": 1, "name": "A B"}\n', "mine.csv is JSON; the demo takes a CSV file$"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_bytes(content)
    with pytest.raises(crm.LeadsFileError, match=problem):
        crm.make_own_crm(tmp_path / "crm.db", file, id_column="a")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_spreadsheets_of_other_countries_use_other_separators(tmp_path: Path, mark: str, end: str) -> None:
    file = tmp_path / "mine.csv"
    file.write_bytes(f"Id{mark}Name{end}1{mark}A B{end}".encode())
    assert crm.read_csv(file) == (["Id", "Name"], [["1", "A B"]])


def test_separator_may_stand_in_a_name_of_a_column(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text('Id;"Name, first";Phone\n1;A, B;2\n', "utf-8")
    assert crm.read_csv(file) == (["Id", "Name, first", "Phone"], [["1", "A, B", "2"]])


def test_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(crm.LeadsFileError, match="No such file"):
        crm.read_csv(tmp_path / "absent.csv")
