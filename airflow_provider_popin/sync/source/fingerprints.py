"""A fingerprint of what a rejected row said, so that it is tried again when, and only when, it was corrected.

Rows with the same fingerprint meet the same fate. The reverse need not hold: a value that comes as another
type (``12`` from the database, ``"12"`` from a file) gives another fingerprint, and costs one more look at
the row. Only the lead_id counts as what it stands for, and whole numbers count alike whether int, float or
Decimal, because data frames change the type of a column from one chunk to the next.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

from airflow_provider_popin.client.scalars import is_missing, whole_number

# Raise it when a rule changes so that a row that was rejected before may now be accepted.
RULES_VERSION = 2

# Made once: json.dumps would make one for every row.
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_MAX_DEPTH = 6
_EXACT_TYPES = (datetime, date, time, timedelta, UUID, Decimal, float)


class Fingerprinter:
    """Makes fingerprints with one key and one set of settings.

    :param key: secret; without it a fingerprint tells nothing about the few numbers that a phone number can
        be
    :param settings: JSON values that the fate of a row depends on besides the row
    """

    def __init__(self, *, key: bytes, settings: Iterable[object]) -> None:
        self._begun = hmac.new(key, json.dumps([RULES_VERSION, *settings]).encode() + b"\n", "sha256")

    def fingerprint(self, values: Iterable[object]) -> str:
        """The HMAC-SHA256 of values, as hexadecimal text; the same in every process.

        :param values: any cells
        """
        text = _ENCODER.encode([_canonical(value, 0) for value in values])
        digest = self._begun.copy()
        digest.update(text.encode())
        return digest.hexdigest()


def _canonical(value: object, depth: int) -> object:
    """JSON that two values share only if no rule can tell them apart."""
    if isinstance(value, str):
        return value if value.strip() else None
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return value
    number = whole_number(value)
    if number is not None:
        return ["number", hex(number)]
    if isinstance(value, _EXACT_TYPES):
        # Instants of different timezones may be equal, but repr and str of one value are always the same.
        return [type(value).__name__, str(value)]
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return [
            "mapping",
            *([_canonical(key, depth + 1), _canonical(item, depth + 1)] for key, item in value.items()),
        ]
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return ["list", *(_canonical(item, depth + 1) for item in value)]
    # Whatever else a cell holds is refused for its type, and its content is nobody's business.
    return ["type", type(value).__qualname__]
