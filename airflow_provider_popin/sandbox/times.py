"""How the oracle spells instants."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(seconds: float) -> str:
    """
    An instant as the oracle tells it.

    :param seconds: since the epoch.
    :return: UTC ISO text.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat()
