"""Options of the webhooks: what is refused, what a reset may change, and how the command line says it."""

from __future__ import annotations

import math

import pytest

from airflow_provider_popin.sandbox.__main__ import main
from airflow_provider_popin.sandbox.arguments import make_parser, settings_from
from airflow_provider_popin.sandbox.settings import SandboxSettings
from airflow_provider_popin.sandbox.webhook_settings import WebhookSettings

URL = "http://127.0.0.1:8080/popin/webhooks/popin_default"


@pytest.mark.parametrize("url", [URL, "https://localhost/x", "http://[::1]:1/", "http://127.9.9.9"])
def test_this_machine_is_allowed(url: str) -> None:
    assert WebhookSettings(url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/x",
        "http://192.0.2.7/",
        "http://0.0.0.0/",
        "http://localhost.example.com/",
        "http://127.0.0.1@hooks.example.com/",
    ],
)
def test_other_machines_need_a_word(url: str) -> None:
    with pytest.raises(ValueError, match="--webhook-allow-remote"):
        WebhookSettings(url=url)
    assert WebhookSettings(url=url, allow_remote=True).url == url


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"url": "ftp://127.0.0.1/"}, "webhook url"),
        ({"url": "127.0.0.1:8080"}, "webhook url"),
        ({"url": "http://127.0.0.1:99999/"}, "webhook url"),
        ({"url": "http://[::1/"}, "webhook url"),
        ({"key": "two\r\nlines"}, "webhook key"),
        ({"key": "schlüssel"}, "webhook key"),
        ({"envelope": "oldest"}, "documented, newer, older"),
        ({"timestamps": "unix"}, "iso, epoch"),
        ({"missed": 1.1}, "webhook missed"),
        ({"drop": math.nan}, "webhook drop"),
        ({"successful": 0.6, "missed": 0.5}, "together more than 1"),
        ({"missed": 1.0}, "together more than 1"),
        ({"outcome_after": -1}, "webhook outcome_after"),
        ({"time_factor": 0}, "webhook time_factor"),
        ({"connections": 0}, "webhook connections"),
        ({"max_waiting": 0}, "webhook max_waiting"),
        ({"allow_remote": True}, "unknown webhook setting allow_remote"),
        ({"colour": "red"}, "unknown webhook setting colour; known: abandoned"),
        ({"missed": "0.5"}, "webhook missed: a number"),
        ({"missed": True}, "webhook missed: a number"),
        ({"connections": 1.5}, "webhook connections: a whole number"),
        ({"plus": 1}, "webhook plus: true or false"),
        ({"key": None}, "webhook key: text"),
    ],
)
def test_unusable_values_are_named(changes: dict[str, object], why: str) -> None:
    settings = SandboxSettings(webhooks=WebhookSettings(url=URL))
    with pytest.raises(ValueError, match=why):
        settings.changed({"webhooks": changes})


def test_a_reset_changes_what_it_names() -> None:
    settings = SandboxSettings(webhooks=WebhookSettings(url=URL, key="a-key", allow_remote=True))
    changed = settings.changed({"webhooks": {"missed": 0.3, "outcome_after": 20, "plus": True}})
    assert changed.webhooks == WebhookSettings(
        url=URL, key="a-key", allow_remote=True, missed=0.3, outcome_after=20, plus=True
    )
    assert changed.changed({"webhooks": {"outcome_after": None}}).webhooks == WebhookSettings(
        url=URL, key="a-key", allow_remote=True, missed=0.3, plus=True
    )
    assert changed.changed({"webhooks": None}).webhooks is None
    assert changed.changed({"days": 3}).webhooks == changed.webhooks
    assert SandboxSettings().changed({"webhooks": WebhookSettings(url=URL)}).webhooks is not None


def test_a_reset_may_begin_with_them_but_needs_a_url() -> None:
    assert SandboxSettings().changed({"webhooks": {"url": URL}}).webhooks == WebhookSettings(url=URL)
    with pytest.raises(ValueError, match="webhook url: needed"):
        SandboxSettings().changed({"webhooks": {"missed": 0.3}})
    with pytest.raises(ValueError, match="an object"):
        SandboxSettings().changed({"webhooks": URL})


def test_the_key_is_not_shown() -> None:
    assert "secret-of-the-test" not in repr(
        SandboxSettings(webhooks=WebhookSettings(url=URL, key="secret-of-the-test"))
    )


def parse(*argv: str) -> SandboxSettings:
    return settings_from(make_parser().parse_args(argv))


def test_command_line() -> None:
    assert parse("--webhook-url", URL).webhooks == WebhookSettings(url=URL)
    assert parse(
        *("--webhook-url", "https://hooks.example.com", "--webhook-allow-remote", "--webhook-key", "k"),
        *("--webhook-envelope", "older", "--webhook-timestamps", "epoch", "--outcome-after", "20"),
        *("--time-factor", "60", "--webhook", "missed=0.2", "--webhook", "delay_seconds=1.5"),
    ).webhooks == WebhookSettings(
        url="https://hooks.example.com",
        allow_remote=True,
        key="k",
        envelope="older",
        timestamps="epoch",
        outcome_after=20,
        time_factor=60,
        missed=0.2,
        delay_seconds=1.5,
    )


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["--webhook-url", "http://192.0.2.7/"], "--webhook-allow-remote"),
        (["--outcome-after", "20"], "--outcome-after: needs --webhook-url"),
        (["--webhook", "missed=0.2"], "--webhook: needs --webhook-url"),
        (["--webhook-url", URL, "--webhook", "missed=2"], "webhook missed"),
    ],
)
def test_unusable_arguments_end_with_2(argv: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*argv, "--port", "0"]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["colour=1", "missed=often", "missed"])
def test_unreadable_arguments_are_usage_errors(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--webhook-url", URL, "--webhook", argument])
    assert ended.value.code == 2
    assert "--webhook" in capsys.readouterr().err
