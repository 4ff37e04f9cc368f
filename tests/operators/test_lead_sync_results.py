from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException, ObjectStoragePath

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.operators._object_storage import object_path
from airflow_provider_popin.operators._results_file import ResultsFile, check_folder, safe_name
from tests import airflow_runs

RUN = "a_dag/manual__2026-01-01T00:00:00+00:00/sync/3"
LINES: list[dict[str, object]] = [{"row": 1, "lead_id": "ä\n1"}, {"row": 2, "reason": None}]


def breaks_off() -> Iterator[Mapping[str, object]]:
    yield LINES[0]
    raise RuntimeError("the ledger went away")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


class TestLocal:
    @pytest.fixture(params=["{}", "file://{}"])
    def results(self, request: pytest.FixtureRequest, tmp_path: Path) -> ResultsFile:
        folder = ObjectStoragePath(request.param.format(tmp_path / "out"))
        return ResultsFile(folder, run=RUN, try_number=2)

    def test_lines_are_json_under_run_and_try(self, results: ResultsFile, tmp_path: Path) -> None:
        results.prepare()
        path = results.write(iter(LINES))
        (file,) = files(tmp_path)
        assert path.removeprefix("file://") == str(file)
        assert file.relative_to(tmp_path).parts[:2] == ("out", "a_dag")
        assert file.relative_to(tmp_path).parts[3:] == ("sync", "3", "2.jsonl")
        assert [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] == LINES

    def test_a_file_is_complete_or_absent(self, results: ResultsFile, tmp_path: Path) -> None:
        results.prepare()
        with pytest.raises(RuntimeError):
            results.write(breaks_off())
        assert files(tmp_path) == []

    def test_the_same_try_again_replaces_the_file(self, results: ResultsFile, tmp_path: Path) -> None:
        results.prepare()
        results.write(LINES)
        with pytest.raises(RuntimeError):
            results.write(breaks_off())
        (file,) = files(tmp_path)
        assert len(file.read_text().splitlines()) == 2
        results.write(LINES[:1])
        assert len(file.read_text().splitlines()) == 1

    def test_a_folder_that_cannot_be_made_is_found_out_before_the_run(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        results = ResultsFile(ObjectStoragePath(str(tmp_path / "file" / "out")), run=RUN, try_number=1)
        with pytest.raises(
            AirflowException, match=r"results_path: .*file/out/.* cannot be written: Not a dir"
        ):
            results.prepare()

    def test_a_folder_that_must_not_be_written_is_found_out_before_the_run(
        self, results: ResultsFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Permissions do not stop the superuser, who may run this.
        def refuse(**_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
        with pytest.raises(AirflowException, match=r"results_path: .* cannot be written: Permission denied"):
            results.prepare()

    @pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs a folder that takes no file")
    def test_a_folder_that_takes_no_file_is_found_out_before_the_run(self) -> None:
        results = ResultsFile(ObjectStoragePath("/proc"), run="self/task", try_number=1)
        with pytest.raises(AirflowException, match="results_path: /proc/self/task cannot be written"):
            results.prepare()

    def test_a_file_that_cannot_be_written_after_the_run_is_named(
        self, results: ResultsFile, tmp_path: Path
    ) -> None:
        results.prepare()
        (folder,) = (path for path in tmp_path.rglob("*") if path.is_dir() and not list(path.iterdir()))
        (folder / "2.jsonl").mkdir()
        with pytest.raises(AirflowException, match=r"results_path: .*/2\.jsonl cannot be written: Is a dir"):
            results.write(LINES)


class TestObjectStorage:
    @pytest.fixture
    def memory(self) -> Iterator[Any]:
        """An object store in memory, attached the way Airflow attaches a real one."""
        store = import_module("fsspec.implementations.memory").MemoryFileSystem()
        airflow_io = import_module("airflow.sdk.io" if airflow_runs.IS_AIRFLOW_3 else "airflow.io.store")
        airflow_io.attach("memory", fs=store)
        yield store
        store.rm("/", recursive=True)

    def test_lines_are_uploaded(self, memory: Any) -> None:
        results = ResultsFile(ObjectStoragePath("memory://bucket/out"), run=RUN, try_number=1)
        results.prepare()
        path = results.write(LINES)
        assert path.startswith("memory://")
        (name,) = memory.find("/")
        assert name.endswith("/sync/3/1.jsonl")
        assert [json.loads(line) for line in memory.cat_file(name).splitlines()] == LINES

    def test_nothing_is_uploaded_when_the_lines_break_off(self, memory: Any) -> None:
        results = ResultsFile(ObjectStoragePath("memory://bucket/out"), run=RUN, try_number=1)
        with pytest.raises(RuntimeError):
            results.write(breaks_off())
        assert memory.find("/") == []

    def test_a_missing_bucket_is_told_and_not_made(
        self, memory: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stores of S3, Google and Azure make it on mkdir; a name that is mistyped is no wish for one."""

        def put_file(local: str, path: str, **options: Any) -> None:
            bucket = path.strip("/").partition("/")[0]
            if not memory.isdir(f"/{bucket}"):
                raise FileNotFoundError("The specified bucket does not exist")  # as s3fs has it
            type(memory).put_file(memory, local, path, **options)

        monkeypatch.setattr(memory, "put_file", put_file)
        results = ResultsFile(ObjectStoragePath("memory://bukcet/out"), run=RUN, try_number=1)
        results.prepare()
        with pytest.raises(AirflowException, match=r"bukcet/.* cannot be written: The specified bucket"):
            results.write(LINES)
        assert memory.ls("/") == []
        memory.mkdir("/bucket")
        ResultsFile(ObjectStoragePath("memory://bucket/out"), run=RUN, try_number=1).write(LINES)
        assert len(memory.find("/bucket")) == 1

    def test_a_store_without_its_provider_is_found_out_before_the_run(self) -> None:
        with pytest.raises(AirflowFailException, match=r"results_path: .* cannot open nostore://\. Install"):
            object_path("nostore://bucket/out", None, field="results_path")


class TestNames:
    @pytest.mark.parametrize("part", ["a_dag", "sync", "3", "scheduled__2026-01-01", "a.b=c"])
    def test_safe_ids_stay(self, part: str) -> None:
        assert safe_name(part) == part

    @pytest.mark.parametrize("part", [".", "..", "a b", "ä", "x:y", "a\\b", "%2e", "", "x" * 250])
    def test_others_become_one_safe_folder_name(self, part: str) -> None:
        name = safe_name(part)
        assert name.isascii()
        assert name.strip(".")
        assert not set(name) & set("/\\:% ")
        assert len(name) < 140

    def test_different_ids_never_share_a_folder(self) -> None:
        assert len({safe_name(part) for part in ("a:b", "a+b", "a_b", "a b", "x" * 200, "x" * 201)}) == 6

    def test_a_relative_folder_is_refused(self) -> None:
        with pytest.raises(PopinInputError, match=r"results_path: must be absolute or a URL .* not 'out'"):
            check_folder("out")

    @pytest.mark.parametrize("folder", ["file://out", "/data\0/out", "/data/\ud800"])
    def test_a_folder_that_is_none_is_refused(self, folder: str) -> None:
        with pytest.raises(PopinInputError, match="results_path: must be"):
            check_folder(folder)

    @pytest.mark.parametrize("folder", ["/data/out", "s3://bucket/out", " /data/out\n"])
    def test_a_folder(self, folder: str) -> None:
        assert check_folder(folder) == folder.strip()

    @pytest.mark.parametrize("folder", [None, "", "None"])
    def test_no_folder(self, folder: str | None) -> None:
        assert check_folder(folder) is None
