from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.engine import Engine
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from airflow_provider_popin.hooks.ledger import sql_engine
from airflow_provider_popin.operators._database_errors import describe
from airflow_provider_popin.operators._leads_from_sql import LeadQueryError, leads_from_sql
from tests.waiting import wait_until

SECRET = "not-a-number-7731"


@pytest.fixture
def leads(crm: Engine) -> Engine:
    """The table, on each database in turn."""
    return with_leads(crm)


@pytest.fixture
def leads_on_postgres(crm_on_postgres: Engine) -> Engine:
    return with_leads(crm_on_postgres)


def with_leads(crm: Engine) -> Engine:
    run(crm, "CREATE TABLE leads (id INTEGER PRIMARY KEY, name TEXT)")
    run(crm, "INSERT INTO leads VALUES (1, 'Ann'), (2, 'Bob 100%'), (3, :name)", {"name": SECRET})
    return crm


def run(engine: Engine, sql: str, parameters: Mapping[str, object] | None = None) -> None:
    from sqlalchemy import text

    with engine.begin() as connection:
        connection.execute(text(sql), dict(parameters or {}))


def query(sql: str, parameters: Any = None) -> list[dict[str, object]]:
    return [dict(row) for row in stream(sql, parameters)]


def stream(sql: str, parameters: Any = None) -> Any:
    return leads_from_sql(sql_engine("crm"), sql=sql, parameters=parameters, conn_id="crm")


def is_postgres(engine: Engine) -> bool:
    return engine.dialect.name == "postgresql"


def test_rows_are_mappings(leads: Engine) -> None:
    assert query("SELECT id AS \"Id\", name FROM leads WHERE name LIKE '%0%' OR id = 1 ORDER BY id;") == [
        {"Id": 1, "name": "Ann"},
        {"Id": 2, "name": "Bob 100%"},
    ]


def test_no_rows(leads: Engine) -> None:
    assert query("SELECT id FROM leads WHERE id > 10") == []


def test_named_parameters_beside_a_percent_sign(leads: Engine) -> None:
    sql = "SELECT id FROM leads WHERE name LIKE '%00%' AND id > :least"
    assert query(sql, {"least": 1, "unused": 2}) == [{"id": 2}]


def test_a_named_parameter_that_is_absent_is_named(leads: Engine) -> None:
    with pytest.raises(LeadQueryError, match="parameters has no value for :most"):
        query("SELECT id FROM leads WHERE id > :least AND id < :most", {"least": 1})


def test_the_drivers_own_styles(leads: Engine) -> None:
    if is_postgres(leads):
        assert query("SELECT id FROM leads WHERE id = %s", (2,)) == [{"id": 2}]
        assert query("SELECT id FROM leads WHERE id = %(id)s", {"id": 2}) == [{"id": 2}]
    else:
        assert query("SELECT id FROM leads WHERE id = ?", [2]) == [{"id": 2}]
        assert query("SELECT id FROM leads WHERE id = $id", {"id": 2}) == [{"id": 2}]


def test_a_column_name_twice_is_an_error(leads: Engine) -> None:
    with pytest.raises(LeadQueryError, match=r"'crm': the query returns 'id' twice; rename one with AS"):
        query("SELECT a.id, b.id, a.name FROM leads a JOIN leads b ON a.id = b.id")


@pytest.mark.postgres
def test_values_keep_their_types(crm_on_postgres: Engine) -> None:
    (row,) = query(
        "SELECT 7.50::numeric AS n, '2026-01-02T03:04:05Z'::timestamptz AS t, "
        "'0B8C8F1C-7A3C-4C38-9D4F-111111111111'::uuid AS u"
    )
    assert row["n"] == Decimal("7.50")
    assert row["t"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert str(row["u"]) == "0b8c8f1c-7a3c-4c38-9d4f-111111111111"


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("'24:00'::time", "24:00:00"),
        ("'24:00+05:30'::timetz", "24:00:00+05:30"),
        ("'infinity'::timestamptz", "infinity"),
        ("'-infinity'::timestamp", "-infinity"),
        ("'infinity'::date", "infinity"),
        ("'0044-03-15 BC'::date", "0044-03-15 BC"),
        ("'20000-01-01 00:00+00'::timestamptz AT TIME ZONE 'UTC'", "20000-01-01 00:00:00"),
        ("'9000000 years'::interval", "9000000 years"),
    ],
)
def test_a_time_that_python_has_not_is_text(crm_on_postgres: Engine, value: str, text: str) -> None:
    rows = query(f"SELECT {value} AS t, ARRAY[{value}, NULL] AS a UNION ALL SELECT NULL, NULL")
    assert rows == [{"t": text, "a": [text, None]}, {"t": None, "a": None}]


@pytest.mark.postgres
def test_other_times_are_times(crm_on_postgres: Engine) -> None:
    (row,) = query(
        "SELECT DATE '2026-01-02' AS d, TIME '03:04' AS t, '03:04+05:30'::timetz AS tz,"
        " TIMESTAMP '2026-01-02 03:04' AS ts, INTERVAL '90 minutes' AS i, ARRAY[DATE '2026-01-02'] AS a"
    )
    assert row == {
        "d": date(2026, 1, 2),
        "t": time(3, 4),
        "tz": time(3, 4, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        "ts": datetime(2026, 1, 2, 3, 4),  # noqa: DTZ001 - as it stands in the database
        "i": timedelta(minutes=90),
        "a": [date(2026, 1, 2)],
    }


@pytest.mark.postgres
def test_rows_stream_from_the_server(crm_on_postgres: Engine) -> None:
    """A million rows in memory would take far longer, and the first one would wait for the last."""
    import tracemalloc

    tracemalloc.start()
    try:
        rows = stream("SELECT i, repeat('x', 1000) AS filler FROM generate_series(1, 1000000) AS i")
        assert next(rows)["i"] == 1
        for _ in range(2000):
            next(rows)
        _, peak = tracemalloc.get_traced_memory()
        rows.close()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


def test_the_connection_is_closed_at_the_end_and_when_reading_stops(leads: Engine) -> None:
    def open_connections() -> int:
        with leads.connect() as connection:
            sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            return int(connection.exec_driver_sql(sql).scalar_one())

    stopped = stream("SELECT id FROM leads")
    next(stopped)
    if is_postgres(leads):
        before = open_connections()
        stopped.close()
        query("SELECT id FROM leads")
        # The server ends a session a moment after its client has hung up.
        wait_until(lambda: open_connections() == before - 1)
    else:
        stopped.close()
        run(leads, "DROP TABLE leads")  # locked while a cursor is open


def test_an_unknown_table_is_named(crm: Engine) -> None:
    with pytest.raises(LeadQueryError, match=r"connection 'crm': \w+.*: .*no_such_table"):
        query("SELECT * FROM no_such_table")


@pytest.mark.postgres
def test_a_value_that_the_database_chokes_on_is_not_quoted(leads_on_postgres: Engine) -> None:
    with pytest.raises(LeadQueryError, match=r"InvalidTextRepresentation \(22P02\)") as error:
        query("SELECT CAST(name AS integer) FROM leads WHERE id = 3")
    assert SECRET not in str(error.value)
    assert (error.value.__cause__, error.value.__suppress_context__) == (None, True)


@pytest.mark.postgres
def test_a_value_that_the_driver_chokes_on_is_an_error_of_the_query(crm_on_postgres: Engine) -> None:
    with pytest.raises(LeadQueryError, match=r"connection 'crm': a value .* the driver \(ValueError\)$"):
        query("SELECT CAST(repeat('9', 5000) AS jsonb) AS j")


@pytest.fixture
def usual_recursion_limit() -> Iterator[None]:
    """What ran before in this process may have raised it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.postgres
@pytest.mark.usefixtures("usual_recursion_limit")
def test_json_too_deep_for_python_is_an_error_of_the_query(crm_on_postgres: Engine) -> None:
    # Python 3.13 stops at 10,000, whatever the limit, and Postgres not much later.
    with pytest.raises(LeadQueryError, match=r"connection 'crm': a value .* the driver \(RecursionError\)$"):
        query("SELECT CAST(repeat('[', 12000) || repeat(']', 12000) AS json) AS j")


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT %s AS a", {"x": 1}),
        ("SELECT %(x)s AS a", [1]),
        ("SELECT %(x)s AS a", {"y": 1}),
        ("SELECT %s AS a, %s AS b", [1]),
        ("SELECT 1 AS a WHERE 'x' LIKE '50% s' OR 1 = %s", [1]),
        ("SELECT 1 AS a WHERE 'x' LIKE '50%'", {"unused": 1}),
    ],
)
def test_parameters_that_do_not_fit_the_placeholders_are_an_error_of_the_query(
    crm_on_postgres: Engine, sql: str, parameters: Any
) -> None:
    with pytest.raises(LeadQueryError, match=r"connection 'crm': .*(placeholder|parameter)"):
        query(sql, parameters)


def test_a_parameter_that_the_driver_cannot_bind_is_an_error_of_the_query(crm_on_sqlite: Engine) -> None:
    with pytest.raises(LeadQueryError, match=r"connection 'crm': a value .* the driver \(OverflowError\)$"):
        query("SELECT :number AS n", {"number": 2**70})


@pytest.mark.postgres
@pytest.mark.parametrize("code", ["P0001", "42501", "55000", "57014", "0A000", "45000", "08000"])
def test_what_a_function_says_of_a_row_is_not_quoted(leads_on_postgres: Engine, code: str) -> None:
    """The code that a function gives to its error is its own choice."""
    run(
        leads_on_postgres,
        "CREATE FUNCTION pg_temp_refuse(who text) RETURNS text LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'refused %', who USING ERRCODE = '{code}'; END $$",
    )
    with pytest.raises(LeadQueryError, match=rf"\({code}\); its text .*run the statement by hand") as error:
        query("SELECT pg_temp_refuse(name) AS name FROM leads WHERE id = 3")
    assert SECRET not in str(error.value)


@pytest.mark.postgres
@pytest.mark.parametrize(
    "expression",
    [
        "nextval(name)",
        "current_setting(name)",
        "CAST(name AS regclass)",
        "CAST(name || '.x' AS regclass)",
        "has_database_privilege(name, 'connect')",
        "pg_read_file(name)",
    ],
)
def test_a_name_that_comes_from_a_row_is_not_quoted(leads_on_postgres: Engine, expression: str) -> None:
    with pytest.raises(LeadQueryError, match="run the statement by hand") as error:
        query(f"SELECT {expression} AS name FROM leads WHERE id = 1")
    assert not re.search(r"\bann\b", str(error.value), re.IGNORECASE)


@pytest.mark.postgres
def test_a_missing_right_is_named(leads_on_postgres: Engine) -> None:
    run(leads_on_postgres, f"ALTER DATABASE {leads_on_postgres.url.database} SET role = pg_monitor")
    with pytest.raises(LeadQueryError, match="permission denied for table leads"):
        query("SELECT * FROM leads")


def test_the_text_of_another_driver_is_left_out() -> None:
    """What it quotes is not known; MySQL's drivers name an error by a number."""
    cause = Exception(1146, f"Table {SECRET!r} doesn't exist")
    told = describe(ProgrammingError("SELECT 1", {}, cause))
    assert told.startswith("Exception (1146); its text may quote a lead")
    assert SECRET not in told


def test_a_value_that_is_no_utf_8_is_not_quoted(crm_on_sqlite: Engine) -> None:
    bytes_of_it = (SECRET.encode() + b"\xff").hex()
    with pytest.raises(LeadQueryError, match=r"Could not decode to UTF-8 column 'name'$") as caught:
        query(f"SELECT CAST(x'{bytes_of_it}' AS TEXT) AS name")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("path", ["name", "'$[' || name"])
def test_a_json_path_that_comes_from_a_row_is_not_quoted(crm_on_sqlite: Engine, path: str) -> None:
    with_leads(crm_on_sqlite)
    with pytest.raises(LeadQueryError, match=r"OperationalError: .*JSON path( error)?$") as caught:
        query(f"SELECT json_extract('{{}}', {path}) AS name FROM leads WHERE id = 3")
    assert SECRET not in str(caught.value)


def test_a_statement_without_rows_is_an_error(leads: Engine) -> None:
    with pytest.raises(LeadQueryError):
        query("DELETE FROM leads")


def test_an_unreachable_database_is_an_error(set_connection: Any) -> None:
    set_connection("crm", conn_type="postgres", host="127.0.0.1", port=1, login="popin", schema="x")
    with pytest.raises(LeadQueryError, match=r"OperationalError: .*127\.0\.0\.1"):
        query("SELECT 1")


def test_an_error_of_sqlalchemy_itself_is_named_by_its_type() -> None:
    assert describe(SQLAlchemyError(SECRET)) == "SQLAlchemyError"
