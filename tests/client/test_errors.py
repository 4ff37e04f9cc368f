"""Errors carry data, survive pickling, and say where to look."""

from __future__ import annotations

import copy
import pickle
import sys
import time

import pytest

from airflow_provider_popin.client import errors
from airflow_provider_popin.client.clock import boot_seconds


@pytest.mark.parametrize(
    "error",
    [
        errors.PopinNotSentError("connect_failed", method="POST", path="/external/schedule"),
        errors.PopinRateLimitError("http_429", status=429, retry_after=7.0),
        errors.PopinRejectedError("time: taken", status=422, field_errors={"time": ("taken",)}),
        errors.PopinConfigError("is missing", conn_id="popin_default", field="api_key"),
        errors.PopinInputError("has letters", code="phone_letters", field="mobile"),
    ],
)
def test_errors_survive_processes(error: errors.PopinError) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_texts() -> None:
    assert str(errors.PopinNotSentError("connect_failed")) == "connect_failed"
    assert (
        str(errors.PopinRejectedError("taken", status=422, method="POST", path="/external/schedule"))
        == "POST /external/schedule: taken (HTTP 422)"
    )
    config_error = errors.PopinConfigError("is missing", conn_id="popin_default", field="api_key")
    assert str(config_error) == "connection 'popin_default', field 'api_key': is missing"
    assert str(errors.PopinConfigError("is missing")) == "is missing"
    input_error = errors.PopinInputError("has letters", code="phone_letters", field="mobile")
    assert str(input_error) == "mobile: has letters (phone_letters)"
    assert str(errors.PopinInputError("no")) == "no (invalid)"


def test_a_query_may_hold_anybody_and_is_kept_nowhere() -> None:
    error = errors.PopinNotSentError(
        "dns_failed", method="GET", path="/x?mobile=2025550143&email=a@example.com"
    )
    assert (error.path, str(error)) == ("/x", "GET /x: dns_failed")


def test_an_argument_is_told_apart_from_the_connection() -> None:
    error = errors.PopinInputError("is no name", code="timezone_unknown", field="timezone")
    error.name_connection("shop")
    error.name_connection("other")
    assert str(error) == "connection 'shop', argument 'timezone': is no name (timezone_unknown)"
    assert error.reason == "is no name"
    without_field = errors.PopinInputError("no")
    without_field.name_connection("shop")
    assert str(without_field) == "connection 'shop': no (invalid)"


def test_tree() -> None:
    kinds = [
        errors.PopinConfigError,
        errors.PopinInputError,
        errors.PopinNotSentError,
        errors.PopinRateLimitError,
        errors.PopinAccessError,
        errors.PopinRejectedError,
        errors.PopinReplyError,
        errors.PopinOutcomeUnknownError,
    ]
    assert all(issubclass(kind, errors.PopinError) for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
    assert issubclass(errors.PopinInputError, ValueError)


def test_clock_runs_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    first = boot_seconds()
    if sys.platform == "linux":
        # The one that counts while the machine sleeps, and that nobody sets.
        assert first <= time.clock_gettime(time.CLOCK_BOOTTIME) <= boot_seconds()
    assert boot_seconds() >= first
    monkeypatch.setattr("airflow_provider_popin.client.clock._BOOTTIME", None)
    assert boot_seconds() >= 0
