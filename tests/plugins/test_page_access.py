"""Who gets in, and what an action must come with."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import requests
from airflow.configuration import conf

from airflow_provider_popin.plugins.page import forgery
from airflow_provider_popin.sync.ledger.events import Answer, Evidence
from airflow_provider_popin.sync.ledger.ledger import Ledger
from airflow_provider_popin.webhooks import queries
from tests.plugins.page_site import DOUBT, Site, hidden_in
from tests.sync.ledgers import (
    SLOT,
    SOURCE,
    apply,
    booking_intent,
    claim,
    not_booked,
    planned,
    record,
    settled,
)

PAGES = ("", "doubts", "alarms", "unmatched", "runs", "lead?lead_id=L-open", "dismiss?event=1")
FILES = ("static/page.css", "static/page.js", "static/theme.js", "static/icon.svg", "static/vendor/chart.js")
RESOLVE = f"resolve?source={SOURCE}&lead_id={DOUBT}&generation=1"
CLEAR = f"clear?source={SOURCE}&lead_id=L-alarm&generation=1"
DISMISS = "dismiss?event=1"
DAY = 86_400


def form(token: str, **fields: str) -> dict[str, str]:
    return {
        "token": token,
        "outcome": "booked",
        "why": "the call is in the calendar",
        "confirmed": "yes",
        **fields,
    }


def fresh_token(user: str = "Ada Admin", age: float = 0.0) -> str:
    key = conf.get("api", "secret_key").encode()
    return forgery.make_token(key, user=user, now=time.time() - age)


@pytest.mark.parametrize("cookie", [None, "", "nonsense", "e30.e30.e30"])
def test_nobody_gets_in_without_a_login(site: Site, cookie: str | None) -> None:
    with requests.Session() as anybody:
        if cookie is not None:
            anybody.cookies.set("_token", cookie)
        for path in (*PAGES, *FILES, "static/nothing", "nothing"):
            answer = anybody.get(site.url + path, allow_redirects=False)
            assert answer.status_code in (401, 403, 404), path
            assert (answer.status_code == 404) == (path == "nothing"), path
            assert "L-" not in answer.text
            assert len(answer.content) < 1000
        for path in (RESOLVE, CLEAR, DISMISS):
            answer = anybody.post(site.url + path, data=form(fresh_token()), headers={"Origin": site.airflow})
            assert answer.status_code in (401, 403), path
    assert site.state(DOUBT) == "in_doubt"


def test_every_user_may_look(site: Site) -> None:
    with site.session("viewer", "Vera Viewer") as vera:
        for path in (*PAGES, *FILES):
            assert vera.get(site.url + path).status_code == 200, path
        assert "You may look, but not act" in vera.get(site.url).text
        for path in (RESOLVE, CLEAR, DISMISS):
            page = vera.get(site.url + path)
            assert page.status_code == 200
            assert '<form method="post"' not in page.text


def test_a_viewer_may_not_act(site: Site) -> None:
    before = site.rows("SELECT * FROM popin_leads ORDER BY id") + site.rows("SELECT * FROM popin_events")
    with site.session("viewer", "Vera Viewer") as vera:
        for path in (RESOLVE, CLEAR, DISMISS):
            answer = vera.post(site.url + path, data=form(fresh_token("Vera Viewer")))
            assert answer.status_code == 403
            assert "You may look, but not act" in answer.text
    after = site.rows("SELECT * FROM popin_leads ORDER BY id") + site.rows("SELECT * FROM popin_events")
    assert after == before


@pytest.mark.parametrize(
    ("headers", "age", "user", "told"),
    [
        ({"Origin": "https://evil.example.com"}, 0.0, "Ada Admin", "did not come from this page"),
        ({"Origin": "null"}, 0.0, "Ada Admin", "did not come from this page"),
        ({"Origin": ""}, 0.0, "Ada Admin", "did not come from this page"),
        ({"Sec-Fetch-Site": "cross-site"}, 0.0, "Ada Admin", "did not come from this page"),
        ({"Sec-Fetch-Site": "same-site"}, 0.0, "Ada Admin", "did not come from this page"),
        ({}, 0.0, "Bob", "out of date, or was not made for you"),
        ({}, 13 * 3600.0, "Ada Admin", "out of date, or was not made for you"),
        ({}, -600.0, "Ada Admin", "out of date, or was not made for you"),
    ],
)
def test_a_forged_request_is_refused(
    site: Site, headers: dict[str, str], age: float, user: str, told: str
) -> None:
    with site.session() as ada:
        for path in (RESOLVE, CLEAR, DISMISS):
            answer = ada.post(site.url + path, data=form(fresh_token(user, age)), headers=headers)
            assert (answer.status_code, told in answer.text) == (403, True)
    assert site.state(DOUBT) == "in_doubt"
    assert site.rows("SELECT count(*) FROM popin_leads WHERE alarm") == [(1,)]
    assert site.rows("SELECT status FROM popin_events") == [("unmatched",)]


@pytest.mark.parametrize(
    ("age", "valid"), [(-61, False), (-60, True), (0, True), (12 * 3600, True), (12 * 3600 + 1, False)]
)
def test_a_token_lives_for_half_a_day_on_clocks_that_differ_by_a_minute(age: int, valid: bool) -> None:
    token = forgery.make_token(b"key", user="Ada Admin", now=1e9)
    assert forgery.is_token_valid(token, b"key", user="Ada Admin", now=1e9 + age) is valid
    _, _, signature = token.partition(".")
    assert not forgery.is_token_valid(f"{10**9 + age - 1}.{signature}", b"key", user="Ada Admin", now=1e9)


@pytest.mark.parametrize("token", ["", ".", "1.2", "x.y", "NOW.", "\N{SNOWMAN}.\N{SNOWMAN}"])
def test_a_wrong_token_is_refused(site: Site, token: str) -> None:
    # Here, for all processes of one run must collect the same tests.
    token = token.replace("NOW", str(int(time.time())))
    with site.session() as ada:
        assert ada.post(site.url + RESOLVE, data=form(token)).status_code == 403
        fields = form("")
        del fields["token"]
        assert ada.post(site.url + RESOLVE, data=fields).status_code == 403
    assert site.state(DOUBT) == "in_doubt"


def test_forms_are_small_and_of_one_type(site: Site) -> None:
    with site.session() as ada:
        long = form(fresh_token(), why="x" * 20_000)
        assert ada.post(site.url + RESOLVE, data=long).status_code == 413
        assert ada.post(site.url + RESOLVE, json=form(fresh_token())).status_code == 415
        assert ada.get(site.url + RESOLVE + "&confirmed=yes&outcome=booked&why=so").status_code == 200
    assert site.state(DOUBT) == "in_doubt"


def test_headers(site: Site) -> None:
    with site.session() as ada:
        answers = [ada.get(site.url + path) for path in ("", "nothing", "static/page.css")]
        answers.append(requests.get(site.url))
        answers.append(ada.post(site.url + RESOLVE, data=form("")))
    for answer in answers:
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        static = answer.url.endswith(".css")
        assert answer.headers["Cache-Control"] == ("private, max-age=86400" if static else "no-store")


def test_static_files_are_those_of_the_page(site: Site) -> None:
    with site.session() as ada:
        for path in (
            "static/../app.py",
            "static/%2e%2e/app.py",
            "static/vendor/chart.js.LICENSE.md",
            "static/",
        ):
            request = requests.Request("GET", site.url, cookies=ada.cookies).prepare()
            request.url = site.url + path
            assert ada.send(request).status_code == 404, path


def test_without_a_secret_of_the_deployment_forms_are_signed_nevertheless(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__SECRET_KEY", "")
    with site.session() as ada:
        forged = forgery.make_token(b"", user="Ada Admin", now=time.time())
        assert ada.post(site.url + DISMISS, data=form(forged)).status_code == 403
        hidden = hidden_in(ada.get(site.url + DISMISS).text)
        assert "The event is dismissed" in ada.post(site.url + DISMISS, data=form(**hidden)).text


def test_behind_a_proxy_the_origin_is_the_one_of_the_configuration(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Origin": "https://airflow.example.com"}
    with site.session() as ada:
        hidden = hidden_in(ada.get(site.url + DISMISS).text)
        refused = ada.post(site.url + DISMISS, data=form(**hidden), headers=headers)
        assert refused.status_code == 403
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.com/tools")
        done = ada.post(site.url + DISMISS, data=form(**hidden), headers=headers, allow_redirects=False)
        assert done.status_code == 303


def test_a_logged_in_bearer_token_reads_too(site: Site) -> None:
    headers = {"Authorization": f"Bearer {site.token('viewer', 'Vera Viewer')}"}
    assert requests.get(site.url, headers=headers).status_code == 200


def test_resolve_shows_what_would_follow_first(site: Site) -> None:
    with site.session() as ada:
        hidden = hidden_in(ada.get(site.url + RESOLVE).text)
        asked = ada.post(site.url + RESOLVE, data=form(**hidden, confirmed="", outcome="not-booked"))
        assert asked.status_code == 200
        assert "this customer gets two" in asked.text
        assert "<dd>the call is in the calendar</dd>" in asked.text
        named = ada.post(site.url + RESOLVE, data=form(**hidden, confirmed="", why="Zelrath  saw the call"))
        assert "<dd>*** saw the call</dd>" in named.text
        assert site.state(DOUBT) == "in_doubt"
        for fields in ({"outcome": ""}, {"outcome": "perhaps"}, {"why": " "}):
            again = ada.post(site.url + RESOLVE, data=form(**hidden, **fields))
            assert again.status_code == 422
            assert 'role="alert"' in again.text
        done = ada.post(site.url + RESOLVE, data=hidden_in(asked.text))
        assert "Recorded as not booked" in done.text
        assert site.state(DOUBT) == "waiting"
        late = ada.post(site.url + RESOLVE, data=form(**hidden))
        assert (late.status_code, "was faster" in late.text) == (409, True)
    assert site.history(DOUBT)[-1][:2] == ("resolved_not_booked", "Ada Admin")


def test_only_a_doubt_is_resolved(site: Site) -> None:
    path = f"resolve?source={SOURCE}&lead_id=L-open&generation=1"
    [lead] = queries.lead_history(site.ledger, SOURCE, "L-open")
    with site.session() as ada:
        for confirmed in ("", "yes"):
            fields = form(fresh_token(), seen=lead.version, confirmed=confirmed)
            assert ada.post(site.url + path, data=fields).status_code == 409
    assert site.state("L-open") == "booked"


def test_alarms_are_cleared_and_events_dismissed(site: Site) -> None:
    with site.session("op", "Olga Op") as olga:
        hidden = hidden_in(olga.get(site.url + CLEAR).text)
        for path in (CLEAR, DISMISS):
            assert olga.post(site.url + path, data=form(**hidden, why="")).status_code == 422
        assert "The alarm is cleared" in olga.post(site.url + CLEAR, data=form(**hidden)).text
        assert "The event is dismissed" in olga.post(site.url + DISMISS, data=form(**hidden)).text
        assert olga.post(site.url + CLEAR, data=form(**hidden)).status_code == 409
        assert olga.post(site.url + DISMISS, data=form(**hidden)).status_code == 404
        assert "There is no alarm any more" in olga.get(site.url + CLEAR).text
    assert site.rows("SELECT count(*) FROM popin_leads WHERE alarm") == [(0,)]
    assert site.rows("SELECT status, closed_by FROM popin_events") == [("dismissed", "Olga Op")]
    assert "Olga Op" in [who for _, who, _ in site.history("L-alarm")]


def test_somebody_is_faster_between_a_look_and_the_action(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two people confirm at once: what the second one's request has read is out of date when it acts.
    before = {
        lead.lead_id: [lead]
        for lead in (queries.lead_history(site.ledger, SOURCE, name)[0] for name in (DOUBT, "L-alarm"))
    }
    events = queries.unmatched(site.ledger)
    monkeypatch.setattr(queries, "lead_history", lambda _, __, lead_id: before[lead_id])
    monkeypatch.setattr(queries, "unmatched", lambda *_, **__: events)
    with site.session() as ada:
        for path in (RESOLVE, CLEAR, DISMISS):
            hidden = hidden_in(ada.get(site.url + path).text)
            assert ada.post(site.url + path, data=form(**hidden)).status_code == 200
            second = ada.post(site.url + path, data=form(**hidden, outcome="not-booked"))
            assert (second.status_code, "was faster" in second.text) == (409, True)
    assert site.state(DOUBT) == "booked"


def doubt_another_call(ledger: Ledger, key: int) -> None:
    """Somebody resolves a doubt, and the answer to the next run's request for another time is lost too."""
    attempt, slot = record(ledger, key).attempt, record(ledger, key).slot_start or 0
    apply(ledger, not_booked(key), claim(key, attempt))
    apply(ledger, planned(key, attempt, slot=slot + DAY), booking_intent(key, attempt))
    apply(ledger, settled(key, Answer.UNKNOWN, attempt + 1))
    assert (record(ledger, key).booking_state, record(ledger, key).slot_start) == ("in_doubt", slot + DAY)


def tell_of_a_call(ledger: Ledger, key: int) -> None:
    """A webhook raises an alarm: it names a call that the ledger did not book."""
    apply(ledger, Evidence(key, SLOT + DAY, "Mon, 18 Mar 2030 11:30 PM", "Asia/Kolkata", "event 7"))
    assert record(ledger, key).alarm


@pytest.mark.parametrize("change", [doubt_another_call, tell_of_a_call])
def test_a_doubt_ends_only_as_it_was_shown(site: Site, change: Callable[[Ledger, int], None]) -> None:
    [[key]] = site.rows(f"SELECT id FROM popin_leads WHERE lead_id = '{DOUBT}'")
    assert isinstance(key, int)
    with site.session() as ada:
        hidden = hidden_in(ada.get(site.url + RESOLVE).text)
        asked = ada.post(site.url + RESOLVE, data=form(**hidden, confirmed="", outcome="not-booked"))
        change(site.ledger, key)
        for fields in (hidden_in(asked.text), form(**hidden, confirmed=""), form(**hidden, why="")):
            late = ada.post(site.url + RESOLVE, data=fields)
            assert (late.status_code, "was faster" in late.text) == (409, True)
        assert site.state(DOUBT) == "in_doubt"
        # Who looks again may decide.
        hidden = hidden_in(ada.get(site.url + RESOLVE).text)
        assert "Recorded as booked" in ada.post(site.url + RESOLVE, data=form(**hidden)).text


def test_an_alarm_is_cleared_only_as_it_was_shown(site: Site) -> None:
    [[key]] = site.rows("SELECT id FROM popin_leads WHERE lead_id = 'L-alarm'")
    assert isinstance(key, int)
    with site.session() as ada:
        hidden = hidden_in(ada.get(site.url + CLEAR).text)
        tell_of_a_call(site.ledger, key)
        late = ada.post(site.url + CLEAR, data=form(**hidden))
        assert (late.status_code, "was faster" in late.text) == (409, True)
        assert record(site.ledger, key).alarm
        hidden = hidden_in(ada.get(site.url + CLEAR).text)
        assert "The alarm is cleared" in ada.post(site.url + CLEAR, data=form(**hidden)).text


@pytest.mark.parametrize(("path", "lead_id"), [(RESOLVE, DOUBT), (CLEAR, "L-alarm")])
def test_a_lead_that_changes_while_a_form_is_being_read_is_left_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch, path: str, lead_id: str
) -> None:
    before = queries.lead_history(site.ledger, SOURCE, lead_id)
    monkeypatch.setattr(queries, "lead_history", lambda *_: before)
    with site.session() as ada:
        hidden = hidden_in(ada.get(site.url + path).text)
        tell_of_a_call(site.ledger, before[0].id)
        late = ada.post(site.url + path, data=form(**hidden))
    assert (late.status_code, "was faster" in late.text) == (409, True)
    assert record(site.ledger, before[0].id).alarm
    assert site.state(lead_id) == before[0].booking


def test_a_form_that_does_not_say_what_was_shown_decides_nothing(site: Site) -> None:
    with site.session() as ada:
        for path in (RESOLVE, CLEAR):
            for seen in ({}, {"seen": ""}, {"seen": "nan"}):
                assert ada.post(site.url + path, data=form(fresh_token(), **seen)).status_code == 409
    assert site.state(DOUBT) == "in_doubt"
    assert site.rows("SELECT count(*) FROM popin_leads WHERE alarm") == [(1,)]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Airflow.Example.com/path?x", "https://airflow.example.com:443"),
        ("http://a:80", "http://a:80"),
        ("http://a:x", None),
        ("ftp://a", None),
        ("http://", None),
        ("null", None),
        ("", None),
    ],
)
def test_origins_are_compared_in_one_spelling(url: str, origin: str | None) -> None:
    assert forgery.origin_of(url) == origin


def test_what_is_not_there(site: Site) -> None:
    with site.session() as ada:
        for path in (
            "nothing",
            "resolve?source=x&lead_id=L-doubt&generation=1",
            "dismiss?event=99",
            "lead?lead_id=X",
        ):
            assert ada.get(site.url + path).status_code == 404, path


@pytest.mark.parametrize(
    "path",
    [
        "resolve",
        f"resolve?source={SOURCE}&lead_id={DOUBT}&generation=one",
        "?days=many",
        "doubts?limit=0",
        "dismiss?event=",
        # More than a database can compare with.
        f"dismiss?event={2**63 - 1}",
        f"unmatched?before={10**30}",
        f"unmatched?before=-{10**30}",
        # Postgres takes no such text.
        f"clear?source={SOURCE}&lead_id=L%00&generation=1",
        "lead?lead_id=L%00",
        "runs?source=%00",
    ],
)
def test_an_address_that_cannot_be_read_gets_a_page(site: Site, path: str) -> None:
    with site.session() as ada:
        answer = ada.get(site.url + path)
    assert answer.status_code == 422
    assert "This address is not complete" in answer.text
    assert "Back to the overview" in answer.text
    assert requests.get(site.url + path, timeout=10).status_code == 401
