"""What the ledger asks of its database: durability, locks, and plain words when something is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import types
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool, QueuePool

from airflow_provider_popin.sync.errors import LedgerError, LedgerUnreachableError
from airflow_provider_popin.sync.ledger import database as database_module
from airflow_provider_popin.sync.ledger import schema
from airflow_provider_popin.sync.ledger.ledger import Ledger, clock
from tests.sync.ledgers import Database, add_lead, apply, booking_intent, capture_intent, lead_in, record
from tests.waiting import PATIENCE_SECONDS

MakeEngine = Callable[[str], Engine]


class TestOpen:
    def test_the_first_creates_and_the_next_finds(self, database: Database) -> None:
        first = Ledger.open(database.engine())
        assert Ledger.open(database.engine()).ledger_id == first.ledger_id
        found = Ledger.find(database.engine())
        assert found is not None
        assert found.ledger_id == first.ledger_id

    def test_one_engine_may_be_opened_again_and_again(self, database: Database) -> None:
        engine = database.engine()
        assert Ledger.find(engine) is None
        first = Ledger.open(engine)
        again = Ledger.open(engine)
        found = Ledger.find(engine)
        assert found is not None
        assert first.ledger_id == again.ledger_id == found.ledger_id
        assert apply(found, capture_intent(add_lead(again))) == [True]

    def test_several_processes_create_one_ledger(self, database: Database) -> None:
        program = (
            "import sys, sqlalchemy\n"
            "from airflow_provider_popin.sync.ledger.ledger import Ledger\n"
            "sys.stdin.readline()\n"
            "print(Ledger.open(sqlalchemy.create_engine(sys.argv[1], future=True)).ledger_id)\n"
        )
        command = [sys.executable, "-c", program, database.url]
        processes = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("now\n")
            process.stdin.flush()
        told = {process.communicate(timeout=60)[0].strip() for process in processes}
        assert [process.returncode for process in processes] == [0] * 4
        assert told == {Ledger.open(database.engine()).ledger_id}

    @pytest.mark.parametrize("version", [schema.SCHEMA_VERSION + 1, 0])
    def test_another_schema_version_is_refused(self, database: Database, version: int) -> None:
        with Ledger.open(database.engine()).write() as connection:
            connection.execute(schema.ledger.update().values(schema_version=version))
        for use in (Ledger.open, Ledger.find):
            with pytest.raises(LedgerError, match=f"schema version {version}"):
                use(database.engine())

    def test_a_ledger_without_an_identity_is_refused(self, database: Database) -> None:
        with Ledger.open(database.engine()).write() as connection:
            connection.execute(schema.ledger.delete())
        with pytest.raises(LedgerError, match="must hold one row, it holds 0"):
            Ledger.open(database.engine())

    @pytest.mark.parametrize(
        "url",
        [
            "sqlite://",
            "sqlite:///:memory:",
            "sqlite:///file::memory:?cache=shared&uri=true",
            "sqlite:///file:ledger?mode=memory&cache=shared&uri=true",
        ],
    )
    def test_a_ledger_in_memory_is_refused(self, url: str) -> None:
        for use in (Ledger.open, Ledger.find):
            with pytest.raises(LedgerError, match="in-memory"):
                use(sa.create_engine(url, future=True, poolclass=NullPool))

    @pytest.mark.parametrize("url", ["sqlite:///ledger.db", "sqlite:///file:ledger.db?uri=true"])
    def test_a_relative_path_is_refused(
        self, url: str, tmp_path: Path, engines: MakeEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for use in (Ledger.open, Ledger.find):
            with pytest.raises(LedgerError, match=r"'ledger\.db' .* absolute path"):
                use(engines(url))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("path", "problem"), [(".", "is a directory"), ("missing/ledger.db", "there is no directory")]
    )
    def test_a_file_that_cannot_be_made_is_named(
        self, path: str, problem: str, tmp_path: Path, engines: MakeEngine
    ) -> None:
        with pytest.raises(LedgerUnreachableError, match=f"{problem}.*{tmp_path}|{tmp_path}.*{problem}"):
            Ledger.open(engines(f"sqlite:///{tmp_path / path}"))

    def test_a_file_that_is_kept_in_memory_is_refused(self, engines: MakeEngine) -> None:
        with pytest.raises(LedgerError, match="write-ahead log"):
            Ledger.open(engines("sqlite:///file:/ledger?vfs=memdb&uri=true"))

    def test_another_database_is_refused(self) -> None:
        driver = types.ModuleType("a_driver")
        driver.paramstyle = "format"  # type: ignore[attr-defined]
        engine = sa.create_engine("mysql+pymysql://127.0.0.1/crm", module=driver, future=True)
        for use in (Ledger.open, Ledger.find):
            with pytest.raises(LedgerError, match="the connection is mysql"):
                use(engine)

    def test_no_parameter_is_shown_whatever_the_engine_was_told(self, database: Database) -> None:
        engine = database.engine()
        assert not engine.hide_parameters
        Ledger.open(engine)
        assert engine.hide_parameters


class TestFind:
    def test_a_file_that_does_not_exist_is_not_created(
        self, sqlite_database: Database, tmp_path: Path
    ) -> None:
        assert Ledger.find(sqlite_database.engine()) is None
        assert list(tmp_path.iterdir()) == []

    def test_a_uri_of_a_file_that_does_not_exist(self, tmp_path: Path, engines: MakeEngine) -> None:
        assert Ledger.find(engines(f"sqlite:///file:{tmp_path}/ledger.db?uri=true")) is None
        assert list(tmp_path.iterdir()) == []

    def test_another_database_stays_as_it_is(self, sqlite_database: Database, tmp_path: Path) -> None:
        with sqlite_database.engine().begin() as connection:
            connection.exec_driver_sql("CREATE TABLE leads (id INTEGER)")
        before = (tmp_path / "ledger.db").read_bytes()
        assert Ledger.find(sqlite_database.engine()) is None
        assert (tmp_path / "ledger.db").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]

    def test_an_empty_file_stays_empty(self, sqlite_database: Database, tmp_path: Path) -> None:
        (tmp_path / "ledger.db").touch()
        assert Ledger.find(sqlite_database.engine()) is None
        assert (tmp_path / "ledger.db").stat().st_size == 0

    @pytest.mark.postgres
    def test_no_table_is_created(self, postgres_database: Database) -> None:
        assert Ledger.find(postgres_database.engine()) is None
        assert sa.inspect(postgres_database.engine()).get_table_names() == []

    def test_no_database_is_no_answer(self, engines: MakeEngine, unused_tcp_port: int) -> None:
        from tests.postgres import DRIVER

        with pytest.raises(LedgerUnreachableError, match="the ledger's database answered"):
            Ledger.find(engines(f"postgresql+{DRIVER}://popin@127.0.0.1:{unused_tcp_port}/crm"))

    def test_a_file_that_is_no_database(self, sqlite_database: Database, tmp_path: Path) -> None:
        (tmp_path / "ledger.db").write_bytes(b"lead_id,name\n" * 500)
        for use in (Ledger.open, Ledger.find):
            with pytest.raises(LedgerError, match="file is not a database"):
                use(sqlite_database.engine())


class TestDurability:
    def test_sqlite_has_its_settings_on_every_connection(self, sqlite_database: Database) -> None:
        engine = sqlite_database.engine()
        with engine.connect() as connection:  # one from before, which the pool may keep
            connection.exec_driver_sql("SELECT 1")
        ledger = Ledger.open(engine)
        with ledger.connect() as one, ledger.connect() as another:
            for connection in (one, another):
                settings = {
                    name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                    for name in ("journal_mode", "synchronous", "busy_timeout")
                }
                assert settings == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30_000}
                connection.rollback()

    def test_a_ledger_that_was_found_is_written_as_durably(self, sqlite_database: Database) -> None:
        Ledger.open(sqlite_database.engine())
        ledger = Ledger.find(sqlite_database.engine())
        assert ledger is not None
        with ledger.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"

    @pytest.mark.postgres
    def test_postgres_waits_for_the_disk_whatever_the_server_says(
        self, postgres_database: Database, engines: MakeEngine
    ) -> None:
        engine = engines(_with_options(postgres_database.url, "-c synchronous_commit=off"))
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "off"
        with Ledger.open(engine).connect() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
            connection.rollback()
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"

    @pytest.mark.postgres
    @pytest.mark.parametrize("default", ["serializable", "repeatable read"])
    def test_postgres_locks_what_it_reads_whatever_the_server_isolates(
        self, postgres_database: Database, engines: MakeEngine, default: str
    ) -> None:
        options = "-c default_transaction_isolation=" + default.replace(" ", "\\ ")
        ledger = Ledger.open(engines(_with_options(postgres_database.url, options)))
        for _ in range(2):  # the second time on a connection that has read in another way
            with ledger.write() as connection:
                assert (
                    connection.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "read committed"
                )
            with ledger.read() as connection:
                assert (
                    connection.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "repeatable read"
                )

    @pytest.mark.postgres
    def test_postgres_takes_every_text_whatever_the_client_speaks(
        self, postgres_database: Database, engines: MakeEngine
    ) -> None:
        ledger = Ledger.open(engines(_with_options(postgres_database.url, "-c client_encoding=LATIN1")))
        for lead_id in ("Zoë", "日本-3"):
            assert record(ledger, add_lead(ledger, lead_id)).lead_id == lead_id

    @pytest.mark.postgres
    @pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
    def test_a_database_that_does_not_take_every_text_is_refused(
        self, postgres_database: Database, engines: MakeEngine, encoding: str
    ) -> None:
        name = f"popin_{encoding.lower()}_{uuid.uuid4().hex}"
        with engines(postgres_database.url).connect() as connection:
            administrator = connection.execution_options(isolation_level="AUTOCOMMIT")
            administrator.exec_driver_sql(
                f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
            )
            engine = engines(
                sa.engine.make_url(postgres_database.url)
                .set(database=name, query={})
                .render_as_string(hide_password=False)
            )
            try:
                for use in (Ledger.open, Ledger.find):
                    with pytest.raises(LedgerError, match="ENCODING 'UTF8'"):
                        use(engine)
            finally:
                engine.dispose()
                administrator.exec_driver_sql(f"DROP DATABASE {name}")

    def test_what_was_committed_is_seen_by_others_at_once(self, ledger: Ledger, database: Database) -> None:
        key = lead_in(ledger, "sending")
        assert record(Ledger.open(database.engine()), key).booking_state == "sending"

    def test_the_clock_is_utc_with_fractions(self, ledger: Ledger) -> None:
        import time

        with ledger.read() as connection:
            first, second = clock(connection), clock(connection)
        assert abs(first - time.time()) < 5
        assert first <= second


def _with_options(url: str, options: str) -> str:
    """The URL with more options of the server's command line."""
    parts = sa.engine.make_url(url)
    options = f"{parts.query['options']} {options}"
    return parts.update_query_dict({"options": options}).render_as_string(hide_password=False)


class TestLocks:
    def test_a_writer_locks_before_it_reads(
        self, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A transaction that reads first and writes later would be refused at once, whatever the timeout."""
        monkeypatch.setattr(database_module, "SQLITE_BUSY_SECONDS", 0.05)
        ledger, other = Ledger.open(sqlite_database.engine()), Ledger.open(sqlite_database.engine())
        with ledger.write():
            with other.read() as reading:
                assert reading.execute(sa.select(schema.leads)).fetchall() == []
            with pytest.raises(LedgerUnreachableError, match="locked"):
                add_lead(other)
        assert add_lead(other) > 0

    def test_a_second_writer_waits_for_the_first(self, ledger: Ledger, database: Database) -> None:
        key = lead_in(ledger, "planned")
        other = Ledger.open(database.engine())
        began = threading.Event()

        def send() -> list[bool]:
            began.set()
            return apply(other, booking_intent(key))

        with ThreadPoolExecutor(1) as pool:
            with ledger.write() as connection:
                assert ledger.apply(connection, "shop", [booking_intent(key)]) == [True]
                waiting = pool.submit(send)
                assert began.wait(PATIENCE_SECONDS)
                assert not waiting.done()
            # It waited, then found that somebody else had acted.
            assert waiting.result(10) == [False]
        assert record(ledger, key).attempt == 2

    @pytest.mark.parametrize("ends", [True, False])
    def test_it_waits_for_whoever_switches_a_file_to_the_write_ahead_log_just_now(
        self, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, ends: bool
    ) -> None:
        """SQLite answers "locked" at once there, whatever the timeout."""
        if not ends:
            monkeypatch.setattr(database_module, "SQLITE_BUSY_SECONDS", 0.05)
        with sqlite_database.engine().connect() as writer, ThreadPoolExecutor(1) as pool:
            writer.exec_driver_sql("BEGIN IMMEDIATE")
            opening = pool.submit(Ledger.open, sqlite_database.engine())
            if ends:
                with pytest.raises(FutureTimeoutError):
                    opening.result(0.2)
                writer.rollback()
                assert add_lead(opening.result(10)) > 0
            else:
                with pytest.raises(LedgerUnreachableError, match="locked"):
                    opening.result(10)

    def test_many_writers_lose_nothing(self, ledger: Ledger, database: Database) -> None:
        keys = [add_lead(ledger, f"L{number}") for number in range(24)]
        ledgers = [Ledger.open(database.engine()) for _ in range(4)]

        def write(side: int) -> list[bool]:
            return [apply(ledgers[side], capture_intent(key))[0] for key in keys]

        with ThreadPoolExecutor(4) as pool:
            accepted = list(pool.map(write, range(4)))
        # Every lead is sent by exactly one of them.
        assert [sum(side[n] for side in accepted) for n in range(24)] == [1] * 24

    @pytest.mark.postgres
    def test_a_read_is_one_view_and_cannot_write(self, postgres_database: Database) -> None:
        ledger = Ledger.open(postgres_database.engine())
        count = sa.select(sa.func.count()).select_from(schema.leads)
        with ledger.read() as connection:
            assert connection.execute(count).scalar_one() == 0
            add_lead(ledger)
            assert connection.execute(count).scalar_one() == 0
        with pytest.raises(LedgerError, match="read-only"), ledger.read() as connection:
            connection.execute(schema.leads.delete())
        # The connection that was lent for reading writes again.
        assert add_lead(ledger, "L2") > 0


class TestTrouble:
    @pytest.mark.postgres
    def test_a_connection_that_is_lost_between_statements(self, postgres_database: Database) -> None:
        ledger = Ledger.open(postgres_database.engine())
        key = lead_in(ledger, "planned")

        def write_and_lose() -> None:
            with ledger.write() as connection:
                assert ledger.apply(connection, "shop", [booking_intent(key)]) == [True]
                (process,) = connection.exec_driver_sql("SELECT pg_backend_pid()").one()
                with ledger.engine.connect() as other:
                    other.exec_driver_sql(f"SELECT pg_terminate_backend({process})")
                connection.execute(sa.select(schema.leads))

        with pytest.raises(LedgerUnreachableError):
            write_and_lose()
        assert record(ledger, key).booking_state == "planned"
        assert apply(ledger, booking_intent(key)) == [True]

    def test_a_connection_that_everybody_waits_for(self, database: Database) -> None:
        url = sa.engine.make_url(database.url)
        few = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01}
        ledger = Ledger.open(sa.create_engine(url, future=True, **few))
        with ledger.read():
            with pytest.raises(LedgerUnreachableError, match="are taken"), ledger.read():
                pass
            with pytest.raises(LedgerUnreachableError, match="are taken"):
                ledger.connect()
        ledger.engine.dispose()

    @pytest.mark.parametrize("how", ["deleted", "replaced"])
    def test_a_file_that_is_deleted_or_replaced_while_it_is_in_use(
        self, sqlite_database: Database, tmp_path: Path, how: str
    ) -> None:
        """Else everything would seem to be written, into a file that nobody can open any more."""
        ledger = Ledger.open(sqlite_database.engine())
        kept = ledger.connect()
        with ledger.write(kept):
            pass
        for file in tmp_path.glob("ledger.db*"):
            file.unlink()
        if how == "replaced":
            Ledger.open(sqlite_database.engine())

        with pytest.raises(LedgerUnreachableError, match="deleted or replaced"), ledger.write(kept):
            pass
        kept.close()
        ledger.engine.dispose()

        if how == "replaced":
            assert record(ledger, add_lead(ledger, "L2")).lead_id == "L2"

    def test_a_read_only_file(self, sqlite_database: Database, tmp_path: Path, engines: MakeEngine) -> None:
        key = lead_in(Ledger.open(sqlite_database.engine()), "booked")
        read_only = f"sqlite:///file:{tmp_path}/ledger.db?mode=ro&uri=true"
        for found in (Ledger.open(engines(read_only)), Ledger.find(engines(read_only))):
            assert found is not None
            assert record(found, key).booking_state == "booked"
            with pytest.raises(LedgerUnreachableError, match="readonly"):
                add_lead(found, "L2")

    def test_no_ledger_is_created_in_a_read_only_file(self, tmp_path: Path, engines: MakeEngine) -> None:
        (tmp_path / "ledger.db").touch()
        with pytest.raises(LedgerUnreachableError, match="readonly"):
            Ledger.open(engines(f"sqlite:///file:{tmp_path}/ledger.db?mode=ro&uri=true"))

    def test_a_full_disk_loses_nothing_that_was_committed(self, sqlite_database: Database) -> None:
        """In a process of its own, whose files may not grow: the same to SQLite as a full disk."""
        program = Path(__file__).with_name("full_disk.py")
        ran = subprocess.run(
            [sys.executable, str(program), sqlite_database.url],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        told = json.loads(ran.stdout)
        assert told["error"] == "LedgerUnreachableError"
        assert told["leads_when_full"] == told["committed"] > 0
        assert told["leads_after_room"] == told["committed"] + 1


def test_the_clock_is_asked_once_a_second_and_this_machine_in_between(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's own time counts, also where it jumps: all who share a ledger must agree on deadlines."""
    told, here = [1_000.0], [50.0]
    monkeypatch.setattr("airflow_provider_popin.sync.ledger.record_sql.read_clock", lambda _: told[0])
    monkeypatch.setattr("airflow_provider_popin.sync.ledger.ledger.boot_seconds", lambda: here[0])
    with ledger.read() as connection:
        assert ledger.now(connection) == 1_000.0
        told[0], here[0] = 5_000.0, 50.75
        assert ledger.now(connection) == 1_000.75
        here[0] = 51.5
        assert ledger.now(connection) == 5_000.0
