"""The command line, in this process and as real processes, with a ledger that a real run has filled."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_2_PLUS

from airflow_provider_popin import cli, cli_actions
from airflow_provider_popin.client.config import ClientConfig
from airflow_provider_popin.hooks.ledger import open_ledger
from airflow_provider_popin.sandbox.server import SandboxServer
from airflow_provider_popin.sync.engine import LeadSync
from airflow_provider_popin.sync.ledger import watermark_store
from airflow_provider_popin.sync.settings import RunIdentity, SyncSettings
from tests.conftest import API_KEY, SELLER_TOKEN
from tests.privacy import register_personal

ROOT = Path(__file__).parent.parent
NAMES = ["Dara Cliperson", "Esha Cliperson", "Farid Cliperson"]
PHONES = ["+91 95445 20801", "+91 95445 20802", "95445 x 20803"]
register_personal(*NAMES, *PHONES)

Command = Callable[..., int]
WHERE = "ledger connection 'popin_ledger': "
RESOLVE = ["in-doubt", "resolve", "--source", "crm", "--lead", "L1", "--outcome", "booked", "--why", "x"]
CLEAR = ["alarms", "clear", "--source", "crm", "--lead", "L1", "--why", "x"]


@pytest.fixture(autouse=True)
def _process_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets it for its process; this process has other tests to run."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")


@pytest.fixture
def ledger(tmp_path: Path, set_connection: Callable[..., None], popin_connection: str) -> Path:
    path = tmp_path / "ledger.db"
    set_connection("popin_ledger", conn_type="sqlite", host=str(path))
    return path


@pytest.fixture
def filled(ledger: Path, sandbox: SandboxServer) -> Path:
    """A ledger with one lead booked, one in doubt, one rejected."""
    sandbox.set_faults("schedule:500_after_commit@2")
    config = ClientConfig(
        base_url=sandbox.url, seller_token=SELLER_TOKEN, api_key=API_KEY, requests_per_second=0
    )
    book = open_ledger("popin_ledger")
    settings = SyncSettings(source="crm", max_concurrency=1, requests_per_second=0)
    run = RunIdentity(dag_run="dag/run/task")
    rows = [
        {"lead_id": f"L{number}", "name": name, "mobile": phone}
        for number, (name, phone) in enumerate(zip(NAMES, PHONES, strict=True), start=1)
    ]
    LeadSync(settings=settings, config=config, ledger=book, run=run).run(rows)
    book.engine.dispose()
    return ledger


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    capsys.readouterr()  # what Airflow logged before, when the test opened the ledger itself
    assert cli.main([*words, "--output", "json"]) == cli.OK
    rows = json.loads(capsys.readouterr().out)
    assert isinstance(rows, list)
    return rows


class TestLooking:
    def test_check(self, filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["check"]) == cli.OK
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["check", "ok", "detail"]
        assert "popin_default" in lines[1]
        assert "yes" in lines[1].split()
        assert "popin_ledger" in lines[2]

    def test_check_creates_no_ledger(self, ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
        _, about_ledger = run_json(capsys, "check")
        assert about_ledger["ok"] is True
        assert "no ledger yet" in str(about_ledger["detail"])
        assert not ledger.exists()

    @pytest.mark.parametrize(
        ("path", "problem"), [(".", "is a directory"), ("missing/ledger.db", "there is no directory")]
    )
    def test_check_finds_a_ledger_that_no_run_could_create(
        self,
        ledger: Path,
        path: str,
        problem: str,
        set_connection: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        set_connection("popin_ledger", conn_type="sqlite", host=str(ledger.parent / path))
        assert cli.main(["check", "--output", "json"]) == cli.PROBLEM
        _, about_ledger = json.loads(capsys.readouterr().out)
        assert about_ledger["ok"] is False
        assert problem in about_ledger["detail"]
        assert list(ledger.parent.iterdir()) == []

    def test_check_finds_a_directory_that_cannot_be_written(
        self, ledger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # For the superuser, whose access nothing restricts.
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != ledger.parent)
        assert cli.main(["check", "--output", "json"]) == cli.PROBLEM
        _, about_ledger = json.loads(capsys.readouterr().out)
        assert "cannot be written" in about_ledger["detail"]

    def test_check_finds_problems(
        self, capsys: pytest.CaptureFixture[str], set_connection: Callable[..., None]
    ) -> None:
        set_connection(
            "popin_default", conn_type="popin", host="http://127.0.0.1:1", login="1", password="kkk"
        )
        assert cli.main(["check", "--ledger-conn-id", "absent", "--output", "json"]) == cli.PROBLEM
        rows = json.loads(capsys.readouterr().out)
        assert [row["ok"] for row in rows] == [False, False]
        assert "AIRFLOW_CONN_" in rows[1]["detail"]

    def test_check_says_how_to_define_a_connection(
        self, ledger: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["check", "--popin-conn-id", "absent", "--output", "json"]) == cli.PROBLEM
        (row, _) = json.loads(capsys.readouterr().out)
        assert "AIRFLOW_CONN_" in row["detail"]

    def test_summary(self, filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
        rows = run_json(capsys, "ledger", "summary", "--source", "crm")
        assert {(row["capture"], row["booking"]): row["leads"] for row in rows}.keys() >= {
            ("captured", "booked"),
            ("captured", "in_doubt"),
        }

    def test_an_empty_table_says_so(self, filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["alarms", "list", "--source", "crm"]) == cli.OK
        assert capsys.readouterr().out == "(nothing)\n"

    @pytest.mark.parametrize(
        "words",
        [
            ["ledger", "summary"],
            ["ledger", "export"],
            ["ledger", "watermark"],
            ["ledger", "forget", "--rejected"],
            ["in-doubt", "list"],
            ["alarms", "list"],
        ],
    )
    def test_a_mistyped_source_is_no_source_without_problems(
        self, filled: Path, words: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main([*words, "--source", "crn"]) == cli.PROBLEM
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.endswith(f"error: {WHERE}the ledger knows no source 'crn'; it knows crm\n")

    def test_export_is_json_lines(self, filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["ledger", "export"]) == cli.OK
        leads = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {lead["lead_id"] for lead in leads} == {"L1", "L2", "L3"}

    def test_the_doubtful_are_listed(self, filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (row,) = run_json(capsys, "in-doubt", "list")
        assert row["source"] == "crm"
        assert row["history"]
        assert cli.main(["in-doubt", "list"]) == cli.OK
        header, line = capsys.readouterr().out.splitlines()
        assert header.split()[:3] == ["source", "lead_id", "generation"]
        assert str(row["lead_id"]) in line.split()


class TestActing:
    def test_init_creates_a_ledger_and_says_which(
        self, ledger: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (made,) = run_json(capsys, "ledger", "init")
        assert ledger.exists()
        (again,) = run_json(capsys, "ledger", "init", "--source", "crm", "--lead-id-column", "Id")
        assert again["ledger_id"] == made["ledger_id"]
        assert again["source"] == "crm"
        with closing(sqlite3.connect(ledger)) as connection:
            assert connection.execute("SELECT source, lead_id_column FROM popin_sources").fetchall() == [
                ("crm", "Id")
            ]

    @pytest.mark.parametrize("outcome", ["booked", "not-booked"])
    def test_a_doubt_is_resolved_by_name(
        self, filled: Path, capsys: pytest.CaptureFixture[str], outcome: str
    ) -> None:
        (row,) = run_json(capsys, "in-doubt", "list")
        lead = str(row["lead_id"])
        words = ["in-doubt", "resolve", "--source", "crm", "--lead", lead, "--outcome", outcome]
        (resolved,) = run_json(capsys, *words, "--why", "seen in the dashboard", "--user", "ops.person")
        assert (resolved["booking"] == "booked") is (outcome == "booked")
        assert run_json(capsys, "in-doubt", "list") == []
        with closing(sqlite3.connect(filled)) as connection:
            recorded = connection.execute("SELECT who FROM popin_history WHERE who IS NOT NULL").fetchall()
        assert ("ops.person",) in recorded
        assert cli.main([*words, "--why", "again"]) == cli.PROBLEM
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {WHERE}lead ")

    def test_a_lead_is_forgotten(self, filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (told,) = run_json(capsys, "ledger", "forget", "--source", "crm", "--lead", "L1")
        assert told == {"source": "crm", "forgotten": 1}
        assert cli.main(["ledger", "forget", "--source", "crm", "--lead", "nobody"]) == cli.PROBLEM
        assert "nobody" in capsys.readouterr().err

    @pytest.mark.parametrize("spelled", ["Zoe\u0308 1", " Zo\u00eb 1 ", "\u00a0Zoe\u0308 1"])
    def test_a_lead_is_found_however_its_id_is_spelled(
        self, filled: Path, capsys: pytest.CaptureFixture[str], spelled: str
    ) -> None:
        (doubt,) = run_json(capsys, "in-doubt", "list")
        with closing(sqlite3.connect(filled)) as connection, connection:
            rename = "UPDATE popin_leads SET lead_id = ? WHERE lead_id = ?"
            connection.execute(rename, ("Zo\u00eb 1", doubt["lead_id"]))
        named = ["--source", "crm", "--lead", spelled]
        (resolved,) = run_json(
            capsys, "in-doubt", "resolve", *named, "--outcome", "booked", "--why", "in the calendar"
        )
        assert (resolved["lead_id"], resolved["booking"]) == ("Zo\u00eb 1", "booked")
        with closing(sqlite3.connect(filled)) as connection, connection:
            connection.execute("UPDATE popin_leads SET alarm = TRUE WHERE lead_id = ?", ("Zo\u00eb 1",))
        (cleared,) = run_json(capsys, "alarms", "clear", *named, "--why", "one call was cancelled")
        assert cleared["alarm"] is False
        assert run_json(capsys, "ledger", "forget", *named) == [{"source": "crm", "forgotten": 1}]

    def test_the_rejected_are_forgotten(self, filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["ledger", "forget", "--source", "crm", "--rejected"]
        assert run_json(capsys, *words) == [{"source": "crm", "forgotten": 1}]
        assert run_json(capsys, *words) == [{"source": "crm", "forgotten": 0}]

    def test_watermarks_are_shown_and_reset(self, ledger: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["ledger", "init", "--source", "crm"]) == cli.OK
        book = open_ledger("popin_ledger")
        with book.write() as connection:
            for task in ("dag/one", "dag/two"):
                kept = watermark_store.load(connection, account="a", source="crm", task=task, write=True)
                assert kept is not None
                now = watermark_store.Position("2026-01-02", "2026-01-01")
                watermark_store.save(
                    connection, kept, reader="r", column="day", run="dag/1/one", now=now, before=now
                )
        book.engine.dispose()
        words = ["ledger", "watermark", "--source", "crm"]
        shown = run_json(capsys, *words)
        assert [
            (row["task"], row["column"], row["highest_read"], row["oldest_unfinished"]) for row in shown
        ] == [
            ("dag/one", "day", "2026-01-02", "2026-01-01"),
            ("dag/two", "day", "2026-01-02", "2026-01-01"),
        ]
        (one,) = run_json(capsys, *words, "--task", "dag/two", "--reset")
        assert (one["task"], one["highest_read"]) == ("dag/two", None)
        assert run_json(capsys, *words)[0]["highest_read"] == "2026-01-02"
        for reset in ([], ["--reset"]):
            assert cli.main([*words, "--task", "dag/tow", *reset]) == cli.PROBLEM
            mistyped = "no task 'dag/tow' keeps a watermark of 'crm'; there are dag/one, dag/two"
            assert capsys.readouterr().err.endswith(f"error: {WHERE}{mistyped}\n")
        assert {row["highest_read"] for row in run_json(capsys, *words, "--reset")} == {None}


class TestMistakes:
    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["ledger"],
            ["unknown"],
            ["ledger", "summary", "--output", "yaml"],
            ["ledger", "forget", "--lead", "1"],
            ["in-doubt", "resolve", "--source", "s", "--lead", "1", "--outcome", "perhaps", "--why", "x"],
            *(
                [*words, number]
                for number in ("0", "-1", "1.5", "²", "9" * 20, "9" * 5000)
                for words in (
                    ["webhooks", "dismiss", "--why", "x", "--event"],
                    [*RESOLVE, "--generation"],
                    [*CLEAR, "--generation"],
                )
            ),
            [*RESOLVE, "--generation", str(2**31)],
        ],
    )
    def test_wrong_use(self, words: list[str]) -> None:
        with pytest.raises(SystemExit) as error:
            cli.main(words)
        assert error.value.code == cli.USAGE

    @pytest.mark.parametrize("number", ["1", str(2**31 - 1)])
    def test_numbers_that_the_ledger_can_be_asked_for(
        self, filled: Path, number: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for words in ([*RESOLVE, "--generation", number], [*CLEAR, "--generation", number]):
            assert cli.main(words) == cli.PROBLEM
        assert cli.main(["webhooks", "dismiss", "--why", "x", "--event", str(2**63 - 1)]) == cli.PROBLEM
        assert "no unmatched event" in capsys.readouterr().err

    @pytest.mark.parametrize("option", ["--source", "--lead"])
    def test_what_is_no_text_is_said_in_one_line(
        self, filled: Path, option: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        given = {"--source": "crm", "--lead": "L1"} | {option: os.fsdecode(b"\xff")}
        words = [word for pair in given.items() for word in pair]
        assert cli.main(["ledger", "forget", *words]) == cli.USAGE
        assert capsys.readouterr().err == f"error: {option} is not UTF-8\n"

    @pytest.mark.parametrize(
        ("lead", "problem"),
        [
            (" ", "is missing"),
            ("L\n1", "has characters that no identity may have"),
            ("L" * 256, "is longer than 255 characters"),
        ],
    )
    @pytest.mark.parametrize("words", [RESOLVE, CLEAR, ["ledger", "forget", "--source", "crm"]])
    def test_an_id_that_no_lead_can_have(
        self, filled: Path, words: list[str], lead: str, problem: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main([*words, "--lead", lead]) == cli.USAGE
        assert capsys.readouterr().err == f"error: --lead {problem}\n"

    @pytest.mark.parametrize("words", [["in-doubt", "resolve", "--outcome", "booked"], ["alarms", "clear"]])
    def test_a_reason_must_be_given(
        self, filled: Path, words: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main([*words, "--source", "crm", "--lead", "L2", "--why", " "]) == cli.USAGE
        assert "--why must say why" in capsys.readouterr().err

    @pytest.mark.parametrize("source", ["", " ", "crm ", "{{ ds }}", "c\nrm", "c" * 256])
    def test_a_source_that_no_dag_can_have_is_not_registered(
        self, ledger: Path, source: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["ledger", "init", "--source", source]) == cli.USAGE
        assert capsys.readouterr().err.startswith("error: --source must ")
        assert not ledger.exists()

    @pytest.mark.parametrize("column", ["", " "])
    def test_a_column_without_a_name_is_not_registered(
        self, ledger: Path, column: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["ledger", "init", "--source", "crm", "--lead-id-column", column]) == cli.USAGE
        assert capsys.readouterr().err == "error: --lead-id-column must name a column\n"
        assert not ledger.exists()

    def test_a_column_without_a_source_is_not_taken_for_registered(
        self, ledger: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(["ledger", "init", "--lead-id-column", "Id"]) == cli.USAGE
        assert capsys.readouterr().err == "error: --lead-id-column is of no use without --source\n"
        assert not ledger.exists()

    @pytest.mark.parametrize("which", [[], ["--lead", "1", "--rejected"]])
    def test_forget_wants_to_know_whom(self, which: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["ledger", "forget", "--source", "s", *which]) == cli.USAGE
        assert capsys.readouterr().err == "error: exactly one of --lead and --rejected is needed\n"

    @pytest.mark.parametrize(
        "words",
        [
            ["ledger", "summary"],
            ["ledger", "export"],
            ["ledger", "forget", "--source", "s", "--rejected"],
            ["ledger", "watermark", "--source", "s", "--reset"],
            ["in-doubt", "list"],
        ],
    )
    def test_without_a_ledger_nothing_is_created(
        self, ledger: Path, words: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main(words) == cli.PROBLEM
        assert f"error: {WHERE}it holds no ledger yet" in capsys.readouterr().err
        assert not ledger.exists()

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"conn_type": "sqlite", "host": ":memory:"}, "memory"),
            ({"conn_type": "http", "host": "localhost"}, "conn_type"),
            ({"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "u"}, "127.0.0.1"),
        ],
    )
    def test_a_connection_that_cannot_hold_a_ledger(
        self,
        fields: dict[str, object],
        message: str,
        set_connection: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        set_connection("popin_ledger", **fields)
        assert cli.main(["ledger", "init"]) == cli.PROBLEM
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("error: ")
        assert last.count("'popin_ledger'") == 1
        assert message in last

    def test_every_expected_error_is_one_line(self) -> None:
        assert cli_actions.explain(OSError("a\nb")) == "a b"
        assert cli_actions.explain(OSError()) == "OSError"
        assert "install the provider" in cli_actions.explain(ModuleNotFoundError("No module named 'x'"))


def test_a_table_does_not_obey_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    cli._print_table([{"a": "\x1b[2J\n", "b": None}, {"a": "ä", "b": True}], (), sys.stdout)
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()] == [["a", "b"], ["\\x1b[2J\\n", "-"], ["ä", "yes"]]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_the_encoding_of_stdout_lacks_is_escaped(
    ledger: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "Käufe \N{PARTY POPPER}"

    def printed(*words: str) -> str:
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        assert cli.main(["ledger", "init", "--source", source, *words]) == cli.OK
        return raw.getvalue().decode(encoding)

    assert json.loads(printed("--output", "json"))[0]["source"] == source
    escaped = source.encode(encoding, "backslashreplace").decode(encoding)
    assert escaped in printed().splitlines()[1]


def test_the_user_may_have_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    assert cli_actions._user() == "uid 4000000"
    monkeypatch.setenv("USER", "somebody")
    assert cli_actions._user() == "somebody"


class TestProcesses:
    """As a shell runs it: with connections that exist in Airflow's database only."""

    @pytest.fixture
    def stored(self, filled: Path, sandbox: SandboxServer, airflow_db: None) -> Iterator[dict[str, str]]:
        from airflow.models import Connection
        from airflow.utils.session import create_session

        stored = [
            Connection(conn_id="stored_ledger", conn_type="sqlite", host=str(filled)),
            Connection(
                conn_id="stored_popin",
                conn_type="popin",
                host=sandbox.url,
                login=SELLER_TOKEN,
                password=API_KEY,
            ),
        ]
        with create_session() as session:
            session.add_all(stored)
        environment = {name: value for name, value in os.environ.items() if name[:13] != "AIRFLOW_CONN_"}
        del environment["_AIRFLOW_PROCESS_CONTEXT"]
        names = ["stored_ledger", "stored_popin"]
        yield environment | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        with create_session() as session:
            session.query(Connection).filter(Connection.conn_id.in_(names)).delete()

    def test_python_m(self, stored: dict[str, str]) -> None:
        words = ["check", "--popin-conn-id", "stored_popin", "--ledger-conn-id", "stored_ledger"]
        done = run_process(
            [sys.executable, "-m", "airflow_provider_popin", *words, "--output", "json"], stored
        )
        assert [row["ok"] for row in json.loads(done.stdout)] == [True, True]
        assert done.returncode == cli.OK

    def test_what_airflow_logs_does_not_spoil_json(
        self, stored: dict[str, str], sandbox: SandboxServer
    ) -> None:
        """Airflow 3 takes the values of extras for secrets, and warns of all that are too short to be one."""
        short = {"conn_type": "popin", "host": sandbox.url, "login": SELLER_TOKEN, "password": API_KEY}
        short["extra"] = json.dumps({"default_region": "IN"})
        environment = stored | {"AIRFLOW_CONN_SHORT_POPIN": json.dumps(short)}
        words = ["check", "--popin-conn-id", "short_popin", "--ledger-conn-id", "stored_ledger"]
        done = run_process(
            [sys.executable, "-m", "airflow_provider_popin", *words, "--output", "json"], environment
        )
        assert [row["ok"] for row in json.loads(done.stdout)] == [True, True]

    @pytest.mark.skipif(not AIRFLOW_V_3_2_PLUS, reason="Airflow takes commands of providers from 3.2 on")
    def test_airflow_popin(self, stored: dict[str, str], tmp_path: Path) -> None:
        installed = tmp_path / "airflow_provider_popin-1.dist-info"
        if "popin" not in installed_providers():
            installed.mkdir()
            (installed / "METADATA").write_text(
                "Metadata-Version: 2.1\nName: airflow-provider-popin\nVersion: 1\n"
            )
            (installed / "entry_points.txt").write_text(
                "[apache_airflow_provider]\n"
                "provider_info=airflow_provider_popin.get_provider_info:get_provider_info\n"
            )
        environment = stored | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        words = ["popin", "in-doubt", "list", "--ledger-conn-id", "stored_ledger", "--output", "json"]
        done = run_process([str(Path(sys.executable).with_name("airflow")), *words], environment)
        assert len(json.loads(done.stdout)) == 1
        assert done.returncode == cli.OK

    def test_a_reader_that_stops_early_is_no_traceback(self, stored: dict[str, str]) -> None:
        words = ["ledger", "export", "--ledger-conn-id", "stored_ledger"]
        read_end, write_end = os.pipe()
        os.close(read_end)
        with open(write_end, "wb") as stdout:
            done = subprocess.run(
                [sys.executable, "-m", "airflow_provider_popin", *words],
                env=stored,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=120,
            )
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr
        assert done.returncode == cli.PROBLEM

    @pytest.mark.parametrize("closed", ["1>&-", "2>&-"])
    def test_closed_streams_are_nobody_who_reads(self, stored: dict[str, str], closed: str) -> None:
        words = ["ledger", "summary", "--ledger-conn-id", "stored_ledger", "--output", "json"]
        command = [sys.executable, "-m", "airflow_provider_popin", *words]
        done = run_process(["sh", "-c", f'exec "$@" {closed}', "sh", *command], stored)
        assert done.returncode == cli.OK
        assert "Traceback" not in done.stderr
        assert bool(done.stdout) is (closed == "2>&-")


def installed_providers() -> str:
    from importlib.metadata import entry_points

    return str(list(entry_points(group="apache_airflow_provider")))


def run_process(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.skipif(not AIRFLOW_V_3_2_PLUS, reason="Airflow takes commands of providers from 3.2 on")
def test_airflow_gets_the_same_commands(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    from airflow.cli.cli_parser import _add_command

    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for command in cli.get_popin_cli_commands():
        _add_command(subparsers, command)
    arguments = parser.parse_args(["popin", "ledger", "summary", "--output", "json"])
    with pytest.raises(SystemExit) as done:
        arguments.func(arguments)
    assert done.value.code == cli.OK
    assert json.loads(capsys.readouterr().out)


def test_importing_the_commands_imports_no_airflow() -> None:
    """Every `airflow` command imports them."""
    code = "import airflow_provider_popin.cli, sys; print([n for n in sys.modules if n == 'airflow'])"
    done = run_process([sys.executable, "-c", code], dict(os.environ) | {"PYTHONPATH": str(ROOT)})
    assert done.stdout == "[]\n", done.stderr
