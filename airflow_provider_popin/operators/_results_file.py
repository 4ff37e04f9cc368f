"""The results of a run as JSON lines, complete or absent, on local disk or object storage."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from airflow_provider_popin.operators._object_storage import cannot_write, check_place
from airflow_provider_popin.operators.templated import optional_text

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

_LOCAL = ("", "file", "local")
_UNSAFE = re.compile(r"[^A-Za-z0-9._=-]")
_LONGEST_NAME = 120


def check_folder(value: object) -> str | None:
    """Refuse a folder that would depend on a task's working directory.

    :param value: ``results_path``, rendered.
    :return: the folder; None if there is none.
    :raises PopinInputError: see :func:`check_place`.
    """
    folder = optional_text(value, "results_path")
    if folder is not None:
        check_place(folder, field="results_path", example="s3://bucket/folder")
    return folder


class ResultsFile:
    """Writes ``<folder>/<run>/<try>.jsonl``.

    :param folder: where the results of all runs are.
    :param run: ``<dag_id>/<run_id>/<task_id>[/<map_index>]``; each part becomes one folder with a safe name.
    :param try_number: of the task.
    """

    def __init__(self, folder: ObjectStoragePath, *, run: str, try_number: int) -> None:
        self._path = folder.joinpath(*map(safe_name, run.split("/")), f"{try_number}.jsonl")

    def prepare(self) -> None:
        """Connect, and make the local folder: what cannot work must fail before any lead is sent.

        A bucket is not asked for, since a role may be allowed only to write; ``write`` tells a missing one.

        :raises AirflowException: the folder cannot be made, or nothing can be written there.
        """
        if self._is_local:
            folder = Path(self._path.path).parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
                # A folder that is there may still take no file.
                tempfile.TemporaryFile(dir=folder).close()
            except OSError as error:
                raise cannot_write("results_path", folder, error) from error
        else:
            _ = self._path.fs

    def write(self, lines: Iterable[Mapping[str, object]]) -> str:
        """Write all lines, or leave no file.

        :param lines: JSON values only; read once, never held together.
        :return: path or URL of the file.
        :raises AirflowException: it could not be written.
        """
        try:
            if self._is_local:
                self._write_local(Path(self._path.path), lines)
            else:
                self._upload(lines)
        except OSError as error:
            raise cannot_write("results_path", self._path, error) from error
        return str(self._path)

    @property
    def _is_local(self) -> bool:
        return self._path.protocol in _LOCAL

    @staticmethod
    def _write_local(path: Path, lines: Iterable[Mapping[str, object]]) -> None:
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with unfinished.open("x", encoding="utf-8") as file:
                _dump(lines, file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def _upload(self, lines: Iterable[Mapping[str, object]]) -> None:
        """Spool first: a remote file that is closed after an error would keep a part of the lines."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".jsonl") as spool:
            _dump(lines, spool)
            spool.flush()
            # It makes folders where a store has some. mkdir would also make a bucket that is missing.
            self._path.fs.put_file(spool.name, self._path.path)


def safe_name(part: str) -> str:
    """Turn an Airflow id into one folder name that every file system and URL takes.

    :param part: for example ``manual__2026-01-01T00:00:00+00:00``.
    :return: the same where it is safe already; otherwise with ``_`` for what is not, and a short hash, so
        that two ids never share a folder.
    """
    cleaned = _UNSAFE.sub("_", part)[:_LONGEST_NAME]
    if cleaned == part and part.strip("."):
        return part
    return f"{cleaned}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"


def _dump(lines: Iterable[Mapping[str, object]], file: IO[str]) -> None:
    for line in lines:
        file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
