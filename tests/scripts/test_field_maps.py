"""Columns of somebody's file: guessed where their names tell, asked for where not."""

from __future__ import annotations

import pytest

from scripts.field_maps import FieldMapError, guess_field_map, read_field_map


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (
            ["Id", "First Name", "Last Name", "Phone 1", "Mobile", "E-Mail", "E-Mail 2"],
            {
                "lead_id": "Id",
                "name": ["First Name", "Last Name"],
                "mobile": ["Mobile", "Phone 1"],
                "email": ["E-Mail"],
            },
        ),
        (["uuid", "full_name", "tel"], {"lead_id": "uuid", "name": "full_name", "mobile": ["tel"]}),
        (["Name", "Lead ID", "cell"], {"lead_id": "Lead ID", "name": "Name", "mobile": ["cell"]}),
    ],
)
def test_columns_are_guessed_by_their_names(header: list[str], expected: dict[str, object]) -> None:
    assert guess_field_map(header, []) == expected


def test_an_id_whose_values_differ_is_preferred() -> None:
    header = ["Account Id", "Index", "Name", "Phone"]
    rows = [["a", "1", "A", ""], ["a", "2", "B", ""]]
    assert guess_field_map(header, rows)["lead_id"] == "Index"
    assert (
        guess_field_map(header[:1] + header[2:], [["a", "A", ""], ["a", "B", ""]])["lead_id"] == "Account Id"
    )


def test_what_cannot_be_guessed_is_asked_for_with_the_names_of_the_columns() -> None:
    with pytest.raises(FieldMapError) as error:
        guess_field_map(["Kunde", "Email", "Company"], [])
    assert "which name and which mobile" in str(error.value)
    assert "Kunde, Email, Company" in str(error.value)
    assert "FIELD_MAP=" in str(error.value)


def test_given_map_is_taken() -> None:
    given = read_field_map('{"lead_id": "A", "name": "A", "mobile": ["B", "C"]}', ["A", "B", "C"])
    assert given == {"lead_id": "A", "name": "A", "mobile": ["B", "C"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be a JSON object"),
        ("{}", "does not map lead_id, name, mobile; the file has the columns A, B"),
        ('{"lead_id": [], "name": "A", "mobile": "B"}', "does not map lead_id;"),
        ('{"lead_id": "Z", "name": "A", "mobile": ["A", 3]}', "names Z, 3; the file has the columns A, B"),
    ],
)
def test_unusable_map_is_refused(text: str, problem: str) -> None:
    with pytest.raises(FieldMapError, match=problem):
        read_field_map(text, ["A", "B"])
