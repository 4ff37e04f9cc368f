"""Synthetic leads: the same ones for every subject, and never a real person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

# Of these area codes the numbers 555-0100 to 555-0199 are kept free for fiction and documentation.
_AREA_CODES = (202, 206, 212, 213, 214, 215, 216, 303, 305, 312, 313, 314, 404, 408, 410, 412, 415, 503)
_NUMBERS_PER_AREA = 100


class Person(TypedDict):
    """One row of the source, as a cursor with named columns gives it."""

    id: str
    name: str
    phone: str
    email: str


# What the lead sync is told about these columns. The mark lets the sandbox count per lead.
FIELD_MAP = {
    "lead_id": "id",
    "name": "name",
    "mobile": "phone",
    "email": "email",
    "campaign.test_lead": "id",
}
REGION = "US"


def people(count: int, *, start: int = 0) -> Iterator[Person]:
    """Yield people, one by one.

    :param count: how many
    :param start: number of the first one
    """
    for number in range(start, start + count):
        area, line = divmod(number % (len(_AREA_CODES) * _NUMBERS_PER_AREA), _NUMBERS_PER_AREA)
        yield {
            "id": f"lead-{number:06}",
            "name": f"Customer Number {number}",
            "phone": f"{_AREA_CODES[area]}55501{line:02}",
            "email": f"customer{number}@example.com",
        }


def capture_fields(person: Person) -> dict[str, object]:
    """The fields that a capture of this person sends.

    :param person: from :func:`people`
    """
    return {
        "name": person["name"],
        "mobile": person["phone"],
        "country": "1",
        "email": person["email"],
        "campaign": {"test_lead": person["id"]},
    }
