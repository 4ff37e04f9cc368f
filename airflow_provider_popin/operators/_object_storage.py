"""Paths on local disk or object storage, and errors that say which argument names one that cannot be used."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_provider_popin.operators.templated import argument_error

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

# What comes before the path in a URL of a local file: the scheme, and the connection if it names one.
_LOCAL_URL = re.compile(r"(?:file|local)://(?:[^/@]*@)?")


def path_text(path: str | os.PathLike[str] | None) -> str | None:
    """Return a ``pathlib.Path`` as text, which is what templates and checks work on; all else as it is.

    :param path: the argument.
    """
    return os.fspath(path) if isinstance(path, os.PathLike) else path


def check_place(path: str, *, field: str, example: str) -> None:
    """Refuse a path that would depend on a task's working directory, or that no file can have.

    :param path: the argument, rendered.
    :param field: its name, for the message.
    :param example: of a URL, for the message.
    :raises PopinInputError: neither absolute nor a URL, or it has a character that no path has.
    """
    local = _LOCAL_URL.sub("", path, count=1)
    if "://" not in local and not local.startswith("/"):
        raise argument_error(field, f"must be absolute or a URL such as {example}, not {path!r}")
    if "\0" in path or any("\ud800" <= char <= "\udfff" for char in path):
        raise argument_error(field, f"must be text that can be a path, not {path!r}")


def object_path(path: str, conn_id: str | None, *, field: str) -> ObjectStoragePath:
    """Return a path that Airflow can open; whether something is there is another matter.

    :param path: absolute, or a URL.
    :param conn_id: its connection; None where it needs none, or names it itself (``s3://conn_id@bucket/...``).
    :param field: the argument, for the message.
    :raises AirflowFailException: no installed provider knows the scheme.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        found = ObjectStoragePath(path, conn_id=conn_id) if conn_id else ObjectStoragePath(path)
        _ = found.fs  # looked for on access
    except (ValueError, ImportError) as error:
        scheme = path.partition("://")[0]
        raise AirflowFailException(
            f"{field}: this Airflow cannot open {scheme}://. Install the provider that can, with its file"
            " system (for s3: apache-airflow-providers-amazon[s3fs])"
        ) from error
    return found


def cannot_write(field: str, path: object, error: OSError) -> AirflowException:
    """Return the exception for a folder or file that cannot be made or written to.

    :param field: the argument that names it.
    :param path: the folder or file.
    :param error: what the file system said.
    """
    # Stores give their words without a number, and so without strerror.
    problem = error.strerror or str(error) or type(error).__name__
    return AirflowException(f"{field}: {path} cannot be written: {problem}")
