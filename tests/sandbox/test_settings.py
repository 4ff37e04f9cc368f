"""Options: what is refused, and what a reset may change."""

from __future__ import annotations

from datetime import UTC, datetime, time

import pytest

from airflow_provider_popin.sandbox.loopback import is_loopback
from airflow_provider_popin.sandbox.settings import SandboxSettings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_allowed(host: str) -> None:
    assert is_loopback(host)
    assert SandboxSettings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "popin.example.com"])
def test_other_hosts_need_a_word(host: str) -> None:
    with pytest.raises(ValueError, match="allow-remote"):
        SandboxSettings(host=host)
    assert SandboxSettings(host=host, allow_remote=True).host == host


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"timezone": "Asia/Nowhere"}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"now": datetime(2025, 9, 24)}, "now"),  # noqa: DTZ001
        ({"refusal": "500"}, "refusal"),
        ({"opens": time(10), "closes": time(10)}, "closes"),
        ({"days": -1}, "days"),
        ({"slot_minutes": 0}, "slot_minutes"),
        ({"seats_per_slot": 0}, "seats_per_slot"),
        ({"latency_ms": -1.0}, "latency_ms"),
        ({"keep_requests": 0}, "keep_requests"),
        ({"slots": ("Wed, 25 Sep 2025 03:15 PM",)}, "weekday"),
        ({"faults": ("schedule:gremlins",)}, "unknown fault"),
        ({"host": "0.0.0.0"}, "unknown setting"),
        ({"port": 1}, "unknown setting"),
        ({"allow_remote": True}, "unknown setting"),
        ({"colour": "red"}, "unknown setting colour; known: api_key"),
        ({"days": "3"}, "days: int"),
        ({"days": True}, "days: int"),
        ({"latency_ms": True}, "latency_ms: float"),
        ({"slots": [1]}, "slots: a list"),
        ({"opens": "ten"}, "opens: "),
        ({"opens": "25:00"}, "opens: "),
        ({"closes": "22:00+05:30"}, "closes: "),
        ({"now": "soon"}, "now: "),
        ({"now": "9999-12-31T23:59:59+00:00"}, "now: "),
        ({"now": "0001-01-01T00:00:00+00:00"}, "now: "),
        ({"slots": ["tomorrow"]}, "slots: "),
        ({"slots": ["Fri, 31 Dec 9999 11:45 PM"]}, "slots: "),
    ],
)
def test_unusable_values_are_named(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        SandboxSettings().changed(changes)


def test_port_is_checked() -> None:
    with pytest.raises(ValueError, match="port"):
        SandboxSettings(port=70000)


def test_values_as_json_has_them() -> None:
    settings = SandboxSettings().changed(
        {
            "opens": "09:30",
            "closes": "00:00",
            "now": "2025-09-24T12:00:00+05:30",
            "slots": ["Thu, 25 Sep 2025 03:15 PM"],
            "faults": ["capture:500@1"],
            "latency_ms": 2,
            "same_mobile_same_customer": True,
            "refusal": "status0",
        }
    )
    assert settings == SandboxSettings(
        opens=time(9, 30),
        closes=time(0),
        now=datetime(2025, 9, 24, 6, 30, tzinfo=UTC),
        slots=("Thu, 25 Sep 2025 03:15 PM",),
        faults=("capture:500@1",),
        latency_ms=2.0,
        same_mobile_same_customer=True,
        refusal="status0",
    )
    assert settings.changed({"slots": None, "now": None, "opens": time(8)}).slots is None


def test_keys_are_not_shown() -> None:
    assert "secret-of-the-test" not in repr(
        SandboxSettings(api_key="secret-of-the-test", token="secret-of-the-test")
    )
