"""Fingerprints stand in ledgers, so they must be the same in every version."""

from __future__ import annotations

import hashlib
import hmac
import json

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_popin.sync.source.fingerprints import RULES_VERSION, Fingerprinter

SETTINGS: list[object] = [[["lead_id", 1], ["name", 2]], "US", False]


def as_told(key: bytes, values: list[str | bool | None]) -> str:
    """The definition, in one piece."""
    cells = [None if isinstance(value, str) and not value.strip() else value for value in values]
    text = json.dumps([RULES_VERSION, *SETTINGS]) + "\n" + json.dumps(cells, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def test_a_fingerprint_of_an_earlier_version() -> None:
    made = Fingerprinter(key=b"secret", settings=SETTINGS)
    values = ("lead-1", "Ann Example", "Änn", None, 7, True, "  ", 1.5)
    assert made.fingerprint(values) == "deada6797f7e102e4be5743fba5cef7067bfeec87a5dd5b78a1a07a540f6e9af"
    assert made.fingerprint(values) == made.fingerprint(list(values))


@given(st.binary(max_size=80), st.lists(st.none() | st.booleans() | st.text(), max_size=8))
def test_the_definition(key: bytes, values: list[str | bool | None]) -> None:
    made = Fingerprinter(key=key, settings=SETTINGS)
    assert made.fingerprint(["another row"]) != made.fingerprint(values) or values == ["another row"]
    assert made.fingerprint(values) == as_told(key, values)
