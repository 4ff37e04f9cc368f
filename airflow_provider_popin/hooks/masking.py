"""Values that must not stand in a log, registered with Airflow's masker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from airflow.providers.common.compat.sdk import conf, mask_secret

# Airflow's own default; a shorter value would be "***" inside every other word of a log.
_MIN_LENGTH: Final = 5


def mask_in_logs(texts: Iterable[str]) -> None:
    """Register texts with Airflow's log masker, except those that are too short to be masked.

    :param texts: secrets, or personal values in the form in which a log line could hold them.
    """
    shortest = conf.getint("logging", "min_length_masked_secret", fallback=_MIN_LENGTH)
    for text in texts:
        # The check keeps Airflow from warning about each short one; before 3.x it would mask even those.
        if len(text) >= shortest:
            mask_secret(text)
