from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy
from sqlalchemy.engine import Engine

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.hooks.ledger import sql_engine
from airflow_provider_popin.operators._write_back import SqlWriteBack, check_write_back_sql
from airflow_provider_popin.sync.errors import WriteBackError

UPDATE = "UPDATE leads SET state = :state, call_time = :call_time WHERE id = :lead_id"
SECRET = "MzE1-secret"


def result(
    lead_id: str, *, state: str | None = "booked", customer_id: str | None = SECRET
) -> dict[str, object]:
    return {
        "lead_id": lead_id,
        "customer_id": customer_id,
        "join_url": None,
        "call_time": "2026-01-02T10:00:00+05:30",
        "state": state,
        "reason": None,
    }


@pytest.fixture
def leads(crm: Engine) -> Engine:
    """The table, on each database in turn."""
    return with_leads(crm)


@pytest.fixture
def leads_on_postgres(crm_on_postgres: Engine) -> Engine:
    return with_leads(crm_on_postgres)


def with_leads(crm: Engine) -> Engine:
    with crm.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE leads (id VARCHAR(9) PRIMARY KEY, state VARCHAR(9) NOT NULL, call_time VARCHAR(40),"
            " customer_id VARCHAR(40))"
        )
        connection.exec_driver_sql("INSERT INTO leads (id, state) VALUES ('a', '-'), ('b', '-'), ('c', '-')")
    return crm


@pytest.fixture
def write_back() -> Iterator[Callable[[str], SqlWriteBack]]:
    made: list[SqlWriteBack] = []

    def make(sql: str) -> SqlWriteBack:
        made.append(SqlWriteBack(sql_engine("crm"), sql=sql, conn_id="crm"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def states(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.exec_driver_sql("SELECT id, state FROM leads")}


def test_a_batch_is_written(leads: Engine, write_back: Callable[[str], SqlWriteBack]) -> None:
    write = write_back(UPDATE)
    write([result("a"), result("c", state="rejected")])
    write([])
    assert states(leads) == {"a": "booked", "b": "-", "c": "rejected"}
    with leads.connect() as connection:
        time = connection.exec_driver_sql("SELECT call_time FROM leads WHERE id = 'a'").scalar_one()
    assert time == "2026-01-02T10:00:00+05:30"


def test_a_row_that_fails_does_not_hold_back_the_others(
    leads: Engine, write_back: Callable[[str], SqlWriteBack]
) -> None:
    with pytest.raises(WriteBackError, match=r"failed for 2 rows through connection 'crm'") as error:
        write_back(UPDATE)([result("a"), result("b", state=None), result("c"), result("a", state=None)])
    assert error.value.failed == {1, 3}
    assert states(leads) == {"a": "booked", "b": "-", "c": "booked"}


def test_an_error_quotes_no_value(leads: Engine, write_back: Callable[[str], SqlWriteBack]) -> None:
    sql = "INSERT INTO leads (id, state, customer_id) VALUES (:lead_id, :state, :customer_id)"
    with pytest.raises(WriteBackError) as error:
        write_back(sql)([result("a")])
    assert "IntegrityError" in str(error.value) or "UniqueViolation" in str(error.value)
    assert SECRET not in str(error.value)
    assert (error.value.__cause__, error.value.__suppress_context__) == (None, True)


@pytest.mark.postgres
def test_casts_and_escaped_colons(
    leads_on_postgres: Engine, write_back: Callable[[str], SqlWriteBack]
) -> None:
    write_back(r"UPDATE leads SET state = ('x\:' || :state)::varchar WHERE id = :lead_id")([result("b")])
    assert states(leads_on_postgres)["b"] == "x:booked"


def test_a_database_that_is_away_fails_the_whole_batch(set_connection: Callable[..., None]) -> None:
    set_connection("crm", conn_type="postgres", host="127.0.0.1", port=1, login="popin", schema="x")
    with pytest.raises(WriteBackError, match=r"2 rows .*OperationalError") as error:
        SqlWriteBack(sql_engine("crm"), sql=UPDATE, conn_id="crm")([result("a"), result("b")])
    assert error.value.failed == {0, 1}
    assert (error.value.__cause__, error.value.__suppress_context__) == (None, True)


def test_a_locked_file_is_not_waited_for_row_by_row(crm_on_sqlite: Engine) -> None:
    """Five seconds for each of ten thousand leads would be half a day."""
    tried: list[str] = []
    engine = sqlalchemy.create_engine(crm_on_sqlite.url, future=True, connect_args={"timeout": 0})
    sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *args: tried.append(args[2]))
    write = SqlWriteBack(engine, sql=UPDATE, conn_id="crm")
    with with_leads(crm_on_sqlite).connect() as other:
        other.exec_driver_sql("BEGIN EXCLUSIVE")
        with pytest.raises(WriteBackError, match=r"3 rows .*database is locked") as error:
            write([result("a"), result("b"), result("c")])
    assert error.value.failed == {0, 1, 2}
    assert len(tried) == 2  # the batch, and its first row
    write([result("a"), result("b"), result("c")])
    write.close()
    assert set(states(crm_on_sqlite).values()) == {"booked"}


@pytest.mark.postgres
def test_a_connection_that_breaks_in_between_fails_the_rest(
    leads_on_postgres: Engine, write_back: Callable[[str], SqlWriteBack]
) -> None:
    suicide = "SELECT pg_terminate_backend(pg_backend_pid()) WHERE :lead_id IS NOT NULL"
    with pytest.raises(WriteBackError) as error:
        write_back(suicide)([result("a"), result("b")])
    assert error.value.failed == {0, 1}


@pytest.mark.postgres
def test_a_value_that_the_driver_cannot_encode_does_not_hold_back_the_others(
    leads_on_postgres: Engine,
    write_back: Callable[[str], SqlWriteBack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with pytest.raises(WriteBackError, match=r"1 rows .*'crm': UnicodeEncodeError$") as error:
        write_back(UPDATE)([result("a"), result("\u540d"), result("c")])
    assert error.value.failed == {1}
    assert states(leads_on_postgres) == {"a": "booked", "b": "-", "c": "booked"}


@pytest.mark.parametrize(
    "sql",
    [
        UPDATE,
        r"UPDATE t SET a = CAST(:state AS text), b = '12\:30', c = '09:15' WHERE customer = :customer_id",
        "UPDATE t SET at = now()::text WHERE id = :lead_id",
    ],
)
def test_accepted_statements(sql: str) -> None:
    check_write_back_sql(sql)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE t SET a = :status WHERE id = :lead_id", "uses :status; offered are :lead_id"),
        ("UPDATE t SET a = :state", "which row it means"),
        ("UPDATE t SET a = :state::text WHERE id = :lead_id", r"write CAST\(:state AS"),
        (r"UPDATE t SET a = :state WHERE id = '\:lead_id'", "which row it means"),
    ],
)
def test_refused_statements(sql: str, message: str) -> None:
    with pytest.raises(PopinInputError, match=message):
        check_write_back_sql(sql)
