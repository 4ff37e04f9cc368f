"""The outcome table, cell by cell, for each endpoint."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.client import errors
from airflow_provider_popin.client.exchange import Endpoint, Exchange, Failure, Reply, Request
from airflow_provider_popin.client.models import Calendar, Customer, ScheduledCall
from airflow_provider_popin.client.outcomes import Outcome, Verdict, classify, error_for, parse_retry_after
from tests.client.support import CAPTURE_BODY, NOW, SCHEDULE_BODY, SLOTS_BODY, a_lead

ENDPOINTS = list(Endpoint)
POSTS = [Endpoint.CAPTURE, Endpoint.SCHEDULE]
DOCUMENTED = {Endpoint.CAPTURE: CAPTURE_BODY, Endpoint.SLOTS: SLOTS_BODY, Endpoint.SCHEDULE: SCHEDULE_BODY}
VALIDATION = b'{"message":"Validation failed","errors":{"mobile":["Invalid phone number"]}}'


def outcome_of(endpoint: Endpoint, exchange: Exchange) -> Outcome:
    return classify(endpoint, exchange, now=NOW, personal=a_lead().personal_values())


def reply(status: int, body: bytes | object = b"", **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def with_status(endpoint: Endpoint, literal: str) -> bytes:
    """The documented reply, its ``status`` replaced by a JSON literal."""
    payload = json.loads(DOCUMENTED[endpoint])
    payload.pop("status", None)
    rest = json.dumps(payload)[1:]
    return f'{{"status":{literal},{rest}'.encode()


def verdict(endpoint: Endpoint, exchange: Exchange) -> Verdict:
    return outcome_of(endpoint, exchange).verdict


@pytest.mark.parametrize("endpoint", ENDPOINTS)
class TestEveryEndpoint:
    """Rows of the table that do not tell the endpoints apart."""

    @pytest.mark.parametrize(
        "reason", ["dns_failed", "connect_failed", "connect_timeout", "tls_failed", "too_late"]
    )
    def test_not_sent(self, endpoint: Endpoint, reason: str) -> None:
        outcome = outcome_of(endpoint, Failure(sent=False, reason=reason))
        assert outcome == Outcome(Verdict.NOT_SENT, reason=reason)

    @pytest.mark.parametrize("reason", ["read_timeout", "connection_lost", "body_too_large", "bad_reply"])
    def test_sent_and_lost(self, endpoint: Endpoint, reason: str) -> None:
        assert outcome_of(endpoint, Failure(sent=True, reason=reason)) == Outcome(
            Verdict.UNKNOWN, reason=reason
        )

    def test_429(self, endpoint: Endpoint) -> None:
        outcome = outcome_of(endpoint, reply(429, {"message": "Too Many Attempts."}, retry_after="17"))
        assert (outcome.verdict, outcome.status, outcome.retry_after) == (Verdict.RATE_LIMITED, 429, 17.0)
        assert outcome_of(endpoint, reply(429, b"<html>")).retry_after is None
        assert verdict(endpoint, reply(429, DOCUMENTED[endpoint])) is Verdict.RATE_LIMITED

    @pytest.mark.parametrize(
        "status", [401, 403, 402, 404, 405, 406, 410, 411, 413, 415, 418, 426, 428, 431, 451, 499]
    )
    @pytest.mark.parametrize("body", [b"", b"<html>", b"{}", VALIDATION, b'{"status":1}'])
    def test_stop(self, endpoint: Endpoint, status: int, body: bytes) -> None:
        outcome = outcome_of(endpoint, reply(status, body))
        assert outcome == Outcome(Verdict.STOP, status=status, reason=f"http_{status}")

    @pytest.mark.parametrize("status", [400, 409, 422])
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>no</html>",
            b"[]",
            b'"no"',
            b"1",
            b"null",
            b"{",
            b'{"a":NaN}',
            b"\xff{}",
            b"{}{}",
            b"[" * 9999,
        ],
    )
    def test_validation_status_without_a_json_object_stops(
        self, endpoint: Endpoint, status: int, body: bytes
    ) -> None:
        assert outcome_of(endpoint, reply(status, body)) == Outcome(
            Verdict.STOP, status=status, reason=f"http_{status}"
        )

    @pytest.mark.parametrize("status", [400, 409, 422])
    @pytest.mark.parametrize(
        "body", [b"{}", VALIDATION, b'{"status":1}', b'\xef\xbb\xbf {"message":null}', b'{"a":1,"a":2}']
    )
    def test_validation_status_with_a_json_object_is_a_rejection(
        self, endpoint: Endpoint, status: int, body: bytes
    ) -> None:
        outcome = outcome_of(endpoint, reply(status, body))
        assert (outcome.verdict, outcome.status, outcome.value) == (Verdict.REJECTED, status, None)

    @pytest.mark.parametrize(
        "literal", ["0", "2", "-1", "0.0", "1.5", "1e9", "1E400", "-0.0", "12345678901234567890"]
    )
    @pytest.mark.parametrize("status", [200, 201, 202, 299])
    def test_success_whose_status_is_another_number_is_a_rejection(
        self, endpoint: Endpoint, status: int, literal: str
    ) -> None:
        outcome = outcome_of(endpoint, reply(status, with_status(endpoint, literal)))
        assert (outcome.verdict, outcome.value) == (Verdict.REJECTED, None)

    @pytest.mark.parametrize("status", [200, 201, 202, 203, 206])
    def test_documented(self, endpoint: Endpoint, status: int) -> None:
        outcome = outcome_of(endpoint, reply(status, DOCUMENTED[endpoint]))
        assert (outcome.verdict, outcome.status, outcome.reason) == (Verdict.OK, status, "")
        assert outcome.value is not None

    @pytest.mark.parametrize(
        "literal", ["true", "false", '"1"', '"0"', '""', "null", "[1]", "[]", "{}", '{"a":1}']
    )
    def test_status_of_another_type(self, endpoint: Endpoint, literal: str) -> None:
        outcome = outcome_of(endpoint, reply(200, with_status(endpoint, literal)))
        assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "status_of_another_type")

    def test_status_given_twice(self, endpoint: Endpoint) -> None:
        for literal in ('0,"status":1', '1,"status":0', '1,"status":1'):
            outcome = outcome_of(endpoint, reply(200, with_status(endpoint, literal)))
            assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "status_of_another_type")

    @pytest.mark.parametrize(
        "literal",
        ["NaN", "Infinity", "-Infinity", "1" * 5000, "01", "+1", "'1'", "1.", ".5", "0x1", "True", ""],
    )
    def test_status_that_is_no_json(self, endpoint: Endpoint, literal: str) -> None:
        outcome = outcome_of(endpoint, reply(200, with_status(endpoint, literal)))
        assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "not_a_json_object")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"<html>ok</html>",
            b"null",
            b"1",
            b"[1]",
            b'"status"',
            b"\xff\xfe{}",
            b'{"status":1}'.decode().encode("utf-16"),
            b'{"name":"\xe9"}',
            b"[" * 100_000,
            b'{"a":' * 100_000,
        ],
    )
    @pytest.mark.parametrize("status", [200, 204])
    def test_success_without_a_json_object(self, endpoint: Endpoint, status: int, body: bytes) -> None:
        outcome = outcome_of(endpoint, reply(status, body))
        assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "not_a_json_object")

    def test_cut_success(self, endpoint: Endpoint) -> None:
        body = DOCUMENTED[endpoint]
        for end in range(len(body)):
            assert verdict(endpoint, reply(200, body[:end])) is Verdict.UNKNOWN

    @pytest.mark.parametrize("status", [408, 425, 500, 501, 502, 503, 504, 520, 599])
    @pytest.mark.parametrize("body", [b"", b"<html>", VALIDATION, b'{"status":1}'])
    def test_lost(self, endpoint: Endpoint, status: int, body: bytes) -> None:
        outcome = outcome_of(endpoint, reply(status, body))
        assert outcome == Outcome(Verdict.UNKNOWN, status=status, reason=f"http_{status}")

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
    def test_redirect(self, endpoint: Endpoint, status: int) -> None:
        outcome = outcome_of(endpoint, reply(status, DOCUMENTED[endpoint], location="https://example.com"))
        assert outcome == Outcome(Verdict.UNKNOWN, status=status, reason=f"redirect_{status}")

    @pytest.mark.parametrize("status", [100, 101, 199, 600, 999, 0])
    def test_status_beyond_http(self, endpoint: Endpoint, status: int) -> None:
        assert verdict(endpoint, reply(status, DOCUMENTED[endpoint])) is Verdict.UNKNOWN

    def test_503_may_say_when(self, endpoint: Endpoint) -> None:
        assert outcome_of(endpoint, reply(503, b"", retry_after="60")).retry_after == 60
        assert outcome_of(endpoint, reply(500, b"", retry_after="60")).retry_after is None

    @given(body=st.binary(), status=st.integers(0, 999))
    def test_any_bytes(self, endpoint: Endpoint, body: bytes, status: int) -> None:
        outcome = outcome_of(endpoint, reply(status, body))
        assert (outcome.verdict is Verdict.OK) is (outcome.value is not None)
        assert len(outcome.reason) <= 200


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.sampled_from(ENDPOINTS),
    st.sampled_from([200, 201, 400, 409, 422, 429, 500]),
    st.dictionaries(
        st.sampled_from(
            [
                "status",
                "errors",
                "message",
                "customer_id",
                "url",
                "schedule",
                "data",
                "availability",
                "timezone",
            ]
        ),
        json_values | st.just(1),
    ),
)
def test_any_json_object(endpoint: Endpoint, status: int, payload: dict[str, object]) -> None:
    outcome = outcome_of(endpoint, reply(status, payload))
    assert (outcome.verdict is Verdict.OK) is (outcome.value is not None)
    assert len(outcome.reason) <= 200
    if outcome.verdict is Verdict.OK and endpoint is Endpoint.SCHEDULE:
        assert payload["status"] == 1
        assert type(payload["status"]) is int


class TestSlots:
    """What only the slots endpoint does."""

    def test_no_status_is_needed_and_1_is_fine(self) -> None:
        assert isinstance(outcome_of(Endpoint.SLOTS, reply(200, SLOTS_BODY)).value, Calendar)
        for literal in ("1", "1.0"):
            assert verdict(Endpoint.SLOTS, reply(200, with_status(Endpoint.SLOTS, literal))) is Verdict.OK

    def test_no_slot_is_ok(self) -> None:
        calendar = outcome_of(
            Endpoint.SLOTS, reply(200, {"availability": [], "timezone": "Asia/Kolkata"})
        ).value
        assert isinstance(calendar, Calendar)
        assert calendar.slots == ()

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            ({}, "availability_not_a_list"),
            ({"message": "hello"}, "availability_not_a_list"),
            ({"availability": []}, "timezone_unknown"),
            (
                {"availability": [{"date": "x", "slots": ["y"]}], "timezone": "Asia/Kolkata"},
                "no_slot_well_formed",
            ),
        ],
    )
    def test_not_as_documented(self, payload: object, reason: str) -> None:
        outcome = outcome_of(Endpoint.SLOTS, reply(200, payload))
        assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, reason)


class TestCapture:
    """What only capture does."""

    def test_value(self) -> None:
        customer = outcome_of(Endpoint.CAPTURE, reply(200, CAPTURE_BODY)).value
        assert customer == Customer("MzE1", "https://live.popin.to/8131-a157", incomplete=False)

    def test_status_1_as_a_float_is_1(self) -> None:
        assert verdict(Endpoint.CAPTURE, reply(200, with_status(Endpoint.CAPTURE, "1.0"))) is Verdict.OK

    def test_status_is_needed(self) -> None:
        outcome = outcome_of(Endpoint.CAPTURE, reply(200, {"customer_id": "MzE1"}))
        assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "status_missing")

    @pytest.mark.parametrize(
        "customer_id", [None, "", "  ", 315, 3.15, True, ["MzE1"], {}, "a\nb", "a\0", "\ud800", "x" * 256]
    )
    def test_unusable_customer_id(self, customer_id: object) -> None:
        outcome = outcome_of(Endpoint.CAPTURE, reply(200, {"status": 1, "customer_id": customer_id}))
        assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "customer_id_missing")

    def test_customer_id_is_opaque(self) -> None:
        for customer_id in ("MzE1==", "x" * 255, " 3 ", "é", "315"):
            customer = outcome_of(
                Endpoint.CAPTURE, reply(200, {"status": 1, "customer_id": customer_id})
            ).value
            assert isinstance(customer, Customer)
            assert customer.customer_id == customer_id

    def test_customer_id_given_twice(self) -> None:
        body = b'{"status":1,"customer_id":"MzE1","customer_id":"MzE2"}'
        assert verdict(Endpoint.CAPTURE, reply(200, body)) is Verdict.UNKNOWN

    @pytest.mark.parametrize(
        "url",
        [
            None,
            "",
            5,
            [],
            "javascript:alert(1)",
            "live.popin.to/a",
            "https://a b",
            "https://a\n",
            "data:x",
            "https://",
        ],
    )
    def test_unusable_url_is_left_out(self, url: object) -> None:
        payload = {"status": 1, "customer_id": "MzE1", "url": url, "message": "ok"}
        assert outcome_of(Endpoint.CAPTURE, reply(200, payload)).value == Customer(
            "MzE1", None, incomplete=True
        )

    def test_missing_parts_are_noted(self) -> None:
        for name in ("url", "message"):
            payload = json.loads(CAPTURE_BODY)
            del payload[name]
            customer = outcome_of(Endpoint.CAPTURE, reply(200, payload)).value
            assert isinstance(customer, Customer)
            assert customer.incomplete


class TestSchedule:
    """What only schedule does: nothing but the integer 1 books."""

    def test_value(self) -> None:
        call = outcome_of(Endpoint.SCHEDULE, reply(200, SCHEDULE_BODY)).value
        assert call == ScheduledCall("Thu, Sep 25 | 03:15 PM", "Asia/Kolkata", incomplete=False)

    @pytest.mark.parametrize("literal", ["1.0", "1e0", "1.00"])
    def test_a_float_does_not_book(self, literal: str) -> None:
        outcome = outcome_of(Endpoint.SCHEDULE, reply(200, with_status(Endpoint.SCHEDULE, literal)))
        assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "status_of_another_type")

    def test_status_is_needed(self) -> None:
        outcome = outcome_of(Endpoint.SCHEDULE, reply(200, {"schedule": {}}))
        assert (outcome.verdict, outcome.reason) == (Verdict.UNKNOWN, "status_missing")

    @pytest.mark.parametrize(
        "rest",
        [
            {},
            {"schedule": None, "data": None},
            {"schedule": {"data": []}},
            {"schedule": {"data": {"time": 5, "timezone": None, "name": []}}, "data": 5},
            {"schedule": {"data": {"time": "\ud800", "timezone": "x" * 101, "name": "A"}}, "data": "+91"},
        ],
    )
    def test_booked_and_incomplete(self, rest: dict[str, object]) -> None:
        outcome = outcome_of(Endpoint.SCHEDULE, reply(200, {"status": 1, **rest}))
        assert (outcome.verdict, outcome.value) == (Verdict.OK, ScheduledCall(None, None, incomplete=True))

    @pytest.mark.parametrize(
        "path",
        [
            ("data",),
            ("schedule", "data", "name"),
            ("schedule", "data", "time"),
            ("schedule", "data", "timezone"),
            ("schedule", "data"),
            ("schedule",),
        ],
    )
    def test_missing_parts_are_noted(self, path: tuple[str, ...]) -> None:
        payload = json.loads(SCHEDULE_BODY)
        part = payload
        for name in path[:-1]:
            part = part[name]
        del part[path[-1]]
        call = outcome_of(Endpoint.SCHEDULE, reply(200, payload)).value
        assert isinstance(call, ScheduledCall)
        assert call.incomplete

    def test_nothing_personal_is_kept(self) -> None:
        outcome = outcome_of(Endpoint.SCHEDULE, reply(200, SCHEDULE_BODY))
        assert "Asha" not in repr(outcome)
        assert "98765" not in repr(outcome)


class TestRejections:
    """Reasons: field names and redacted text."""

    def test_by_field(self) -> None:
        outcome = outcome_of(Endpoint.CAPTURE, reply(422, VALIDATION))
        assert outcome.reason == "mobile: Invalid phone number"
        assert outcome.field_errors == {"mobile": ("Invalid phone number",)}
        assert not outcome.no_field_named
        assert not outcome.slot_blamed

    def test_slot_blamed(self) -> None:
        outcome = outcome_of(
            Endpoint.SCHEDULE, reply(422, {"errors": {"time": ["The slot is already booked."]}})
        )
        assert outcome.slot_blamed
        assert not outcome.no_field_named
        assert outcome.reason == "time: The slot is already booked."

    def test_both_blamed(self) -> None:
        outcome = outcome_of(
            Endpoint.SCHEDULE, reply(200, {"status": 0, "errors": {"time": "taken", "agent": ["busy"]}})
        )
        assert outcome.slot_blamed
        assert outcome.field_errors == {"time": ("taken",), "agent": ("busy",)}

    @pytest.mark.parametrize("errors_", [None, {}, [], ["Slot taken"], "Slot taken", 5])
    def test_no_field_named(self, errors_: object) -> None:
        outcome = outcome_of(
            Endpoint.SCHEDULE, reply(200, {"status": 0, "message": "Slot taken", "errors": errors_})
        )
        assert outcome.no_field_named
        assert not outcome.slot_blamed
        assert outcome.reason == "Slot taken"

    @pytest.mark.parametrize("message", [None, "", "  ", 5, ["x"]])
    def test_no_reason(self, message: object) -> None:
        assert outcome_of(Endpoint.CAPTURE, reply(422, {"message": message})).reason == "no_reason_given"

    def test_hidden_fields_are_one_and_only_the_first_are_told(self) -> None:
        errors = {"Asha": "required", "Ravi": ["invalid"]} | {f"line {n}": "missing" for n in range(40)}
        outcome = outcome_of(Endpoint.CAPTURE, reply(422, {"errors": errors}))
        assert outcome.field_errors["***"][:2] == ("required", "invalid")
        assert sum(map(len, outcome.field_errors.values())) == 20
        texts = outcome_of(Endpoint.CAPTURE, reply(422, {"errors": {"name": ["too long"] * 40}}))
        assert len(texts.field_errors["name"]) == 20

    def test_echoed_people_are_hidden(self) -> None:
        body = {
            "message": "Asha Example asha@example.com +91 98765-00001 is blocked",
            "errors": {
                "mobile": ["The number 9876500001 of Asha is already registered", 5, None],
                "asha@example.com": ["x"],
                "Asha": "Ravi Kumar",
                "": [],
                "campaign.utm_source": [["deep"]],
            },
        }
        outcome = outcome_of(Endpoint.CAPTURE, reply(422, body))
        shown = repr(outcome) + str(error_for(outcome, Request(Endpoint.CAPTURE, "POST", "/x")))
        for personal in ("Asha", "asha", "example.com", "98765", "00001", "Ravi", "Kumar", "utm"):
            assert personal not in shown
        assert outcome.field_errors["mobile"] == ("The number *** of *** is already registered",)

    def test_much_text_stays_short(self) -> None:
        many = {f"field{number}": ["required " * 50] * 50 for number in range(500)}
        outcome = outcome_of(Endpoint.CAPTURE, reply(422, {"errors": {**many, "time": []}}))
        assert len(outcome.reason) <= 200
        assert len(outcome.field_errors) <= 20
        assert outcome.slot_blamed


class TestRetryAfter:
    """Both forms, and what is neither."""

    def test_seconds(self) -> None:
        for text, seconds in (("0", 0.0), (" 17 ", 17.0), ("1.5", 1.5), ("9" * 5000, 1e9)):
            assert parse_retry_after(text, NOW) == seconds

    def test_date(self) -> None:
        assert parse_retry_after(format_datetime(NOW + timedelta(seconds=90), usegmt=True), NOW) == 90
        assert parse_retry_after(format_datetime(NOW - timedelta(seconds=90), usegmt=True), NOW) == 0
        assert parse_retry_after("Wed, 17 Sep 2025 06:01:00 -0000", NOW) == 60
        assert parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT", NOW) == 1e9

    @pytest.mark.parametrize(
        "text",
        [
            None,
            "",
            "soon",
            "-5",
            "1e3",
            "٣",
            "²",
            ".",
            "1.2.3",
            "Wed, 99 Sep 2025 06:00:00 GMT",
            "0x10",
            "nan",
        ],
    )
    def test_neither(self, text: str | None) -> None:
        assert parse_retry_after(text, NOW) is None

    @given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [+-]?\w*"))
    def test_any_text(self, text: str) -> None:
        seconds = parse_retry_after(text, datetime(2025, 9, 17, tzinfo=UTC))
        assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("verdict_", "method", "kind"),
    [
        (Verdict.NOT_SENT, "POST", errors.PopinNotSentError),
        (Verdict.RATE_LIMITED, "GET", errors.PopinRateLimitError),
        (Verdict.STOP, "GET", errors.PopinAccessError),
        (Verdict.REJECTED, "POST", errors.PopinRejectedError),
        (Verdict.REJECTED, "GET", errors.PopinRejectedError),
        (Verdict.UNKNOWN, "GET", errors.PopinReplyError),
        (Verdict.UNKNOWN, "POST", errors.PopinOutcomeUnknownError),
    ],
)
def test_errors_carry_the_outcome(verdict_: Verdict, method: str, kind: type[errors.PopinError]) -> None:
    outcome = Outcome(verdict_, status=422, reason="why", field_errors={"time": ("taken",)}, retry_after=7.0)
    error = error_for(outcome, Request(Endpoint.SCHEDULE, method, "/external/schedule", b"personal"))
    assert type(error) is kind
    assert (error.reason, error.status, error.retry_after) == ("why", 422, 7.0)
    assert (error.method, error.path) == (method, "/external/schedule")
    assert error.field_errors == {"time": ("taken",)}
    assert str(error) == f"{method} /external/schedule: why (HTTP 422)"


def test_no_error_for_what_is_ok() -> None:
    with pytest.raises(ValueError, match="OK"):
        error_for(Outcome(Verdict.OK), Request(Endpoint.SLOTS, "GET", "/x"))
