"""Test leads: each marked for the sandbox's oracle, with values that a search for personal data finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

LETTERS = "abcdefghijklmnopqrstuvwxyz"

Row = Mapping[str, object]


def mark_of(lead_id: str, generation: int = 1) -> str:
    """The oracle's name for one generation of one lead."""
    return f"{lead_id}#{generation}"


def lead_row(number: int, **changes: object) -> dict[str, object]:
    """One row of a source.

    :param number: makes lead id, name, phone and e-mail unique; below 100,000
    :param changes: other columns
    """
    lead_id = str(changes.get("lead_id", f"L{number:03}"))
    generation = changes.get("generation", 1)
    assert isinstance(generation, int)
    return {
        "lead_id": lead_id,
        "name": f"Qu{_word(number)}vex Zo{_word(number)}rath",
        "mobile": f"+9195445{number:05}",
        "email": f"{_word(number)}.qvz@example.com",
        "campaign.test_lead": mark_of(lead_id, generation),
        **changes,
    }


def lead_rows(count: int, **changes: object) -> list[dict[str, object]]:
    """Rows 1 to ``count``."""
    return [lead_row(number, **changes) for number in range(1, count + 1)]


def values_of(rows: Iterable[Row]) -> set[str]:
    """Every personal value of some rows; phones with and without their calling code."""
    found: set[str] = set()
    for row in rows:
        found.update(str(row[name]) for name in ("name", "email", "mobile") if row.get(name))
        mobile = str(row.get("mobile") or "")
        if mobile.startswith("+91"):
            found.add(mobile.removeprefix("+91"))
    return found


def _word(number: int) -> str:
    letters = ""
    for _ in range(4):
        number, index = divmod(number, len(LETTERS))
        letters += LETTERS[index]
    return letters
