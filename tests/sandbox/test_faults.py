"""Fault specifications: syntax, choice, combination."""

from __future__ import annotations

import pytest

from airflow_provider_popin.sandbox.fault_kinds import ALIASES, KINDS, Stage
from airflow_provider_popin.sandbox.fault_replies import ANSWERS, CHANGES
from airflow_provider_popin.sandbox.faults import FaultError, FaultPlan, parse_fault

KNOWN_BY_NAME = [
    "refuse",
    "reset_before_commit",
    "reset_after_commit",
    "500_before_commit",
    "500_after_commit",
    "503",
    "cut_body",
    "slow_body",
    "slow",
    "html",
    "redirect",
    "status0",
    "status_true",
    "status_text",
    "422",
    "400",
    "409",
    "422_html",
    "401",
    "403",
    "404",
    "408",
    "425",
    "429",
    "not_json",
    "wrong_time",
    "missing_parts",
    "echo",
    "malformed_slots",
    "empty_availability",
    "timezone_change",
]


def struck(plan: FaultPlan, endpoint: str, requests: int) -> list[int]:
    return [n for n in range(1, requests + 1) if plan.pick(endpoint)]


@pytest.mark.parametrize("name", KNOWN_BY_NAME)
def test_every_fault_of_the_design_is_known(name: str) -> None:
    assert ALIASES.get(name, name) in KINDS


def test_every_answer_fault_has_an_answer() -> None:
    bases = {
        name.removesuffix("_before_commit").removesuffix("_after_commit")
        for name, kind in KINDS.items()
        if kind.stage in (Stage.INSTEAD, Stage.AFTER)
    }
    assert bases == {*ANSWERS, *CHANGES, "reset"}


@pytest.mark.parametrize(
    ("spec", "requests"),
    [
        ("schedule:500", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("schedule:500@3,7", [3, 7]),
        ("schedule:500@2-4", [2, 3, 4]),
        ("schedule:500@6-", [6, 7, 8]),
        ("schedule:500@1,4-5,8", [1, 4, 5, 8]),
        ("schedule:500=0", []),
        ("schedule:500=1", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("*:500@2", [2]),
        ("capture:500", []),
    ],
)
def test_which_requests_are_struck(spec: str, requests: list[int]) -> None:
    assert struck(FaultPlan(specs=[spec], seed=0), "schedule", 8) == requests


def test_requests_are_counted_per_endpoint() -> None:
    plan = FaultPlan(specs=["*:500@2"], seed=0)
    assert struck(plan, "capture", 1) == []
    assert struck(plan, "schedule", 3) == [2]
    assert struck(plan, "capture", 1) == [1]


def test_probability_follows_the_seed_alone() -> None:
    specs = ["schedule:500=0.3", "capture:500=0.3"]
    first = struck(FaultPlan(specs=specs, seed=7), "schedule", 1000)
    assert 240 < len(first) < 360
    assert struck(FaultPlan(specs=specs, seed=7), "schedule", 1000) == first
    assert struck(FaultPlan(specs=specs, seed=8), "schedule", 1000) != first
    more = FaultPlan(specs=[*specs, "schedule:slow=0.5"], seed=7)
    same = [n for n in range(1, 1001) if Stage.INSTEAD in more.pick("schedule")]
    assert same == first


def test_stages_combine_and_the_first_of_a_stage_wins() -> None:
    plan = FaultPlan(
        specs=[
            "schedule:slow(0.1)",
            "schedule:500_after_commit",
            "schedule:html_after_commit",
            "schedule:cut_body",
        ],
        seed=0,
    )
    chosen = {stage: fault.kind.name for stage, fault in plan.pick("schedule").items()}
    assert chosen == {
        Stage.DELAY_BEFORE: "slow_before_commit",
        Stage.AFTER: "500_after_commit",
        Stage.DELIVERY: "cut_body",
    }


def test_an_answer_instead_leaves_none_for_after() -> None:
    plan = FaultPlan(specs=["schedule:500_after_commit", "schedule:429", "schedule:slow_body"], seed=0)
    assert set(plan.pick("schedule")) == {Stage.INSTEAD, Stage.DELIVERY}


def test_a_refused_connection_leaves_no_room() -> None:
    plan = FaultPlan(specs=["schedule:slow", "schedule:500", "schedule:refuse"], seed=0)
    assert set(plan.pick("schedule")) == {Stage.CONNECTION}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("schedule:gremlins", "known: .*429.*echo.*refuse"),
        ("schedule", "is not ENDPOINT:NAME"),
        ("calendar:500", "is not ENDPOINT:NAME"),
        ("schedule:500=0.1@3", "is not ENDPOINT:NAME"),
        ("schedule:500=1.5", "from 0 to 1"),
        ("schedule:500=.", "from 0 to 1"),
        ("schedule:500@0", "numbered from 1"),
        ("schedule:500@1,,2", "numbered from 1"),
        ("schedule:500@-3", "numbered from 1"),
        ("schedule:500@5-3", "ends after"),
        ("schedule:500(x)", "VALUE must be absent"),
        ("schedule:slow(soon)", "VALUE must be"),
        ("schedule:echo(302)", "VALUE must be"),
        ("capture:wrong_time", "for schedule only"),
        ("slots:echo", "for capture, schedule only"),
        ("slots:timezone_change(Mars/Base)", "no IANA timezone"),
        ("schedule:429(date:soon)", "VALUE must be"),
        ("schedule:429(date:99999999999999)", "VALUE must be"),
        ("schedule:wrong_time(999999999999)", "VALUE must be"),
        (f"schedule:slow({'9' * 400})", "VALUE must be"),
        (f"schedule:500@{'9' * 5000}", "numbered from 1"),
    ],
)
def test_unusable_specifications_are_refused(spec: str, why: str) -> None:
    with pytest.raises(FaultError, match=why):
        parse_fault(spec)


@pytest.mark.parametrize(
    "spec", ["schedule:slow(0.2)", "*:429(date:5)@1", "slots:timezone_change(Asia/Dubai)"]
)
def test_values_are_read(spec: str) -> None:
    assert parse_fault(spec).value == spec.partition("(")[2].partition(")")[0]


def test_star_strikes_only_where_the_fault_makes_sense() -> None:
    plan = FaultPlan(specs=["*:echo"], seed=0)
    assert struck(plan, "slots", 2) == []
    assert struck(plan, "capture", 2) == [1, 2]
