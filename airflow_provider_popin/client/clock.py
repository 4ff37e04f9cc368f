"""The clock that send deadlines are told in."""

from __future__ import annotations

import time

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def boot_seconds() -> float:
    """Seconds on a clock that never steps and that, on Linux, keeps counting while the machine sleeps.

    A laptop that was suspended between planning and sending must notice; CLOCK_MONOTONIC would not.

    :return: seconds since an arbitrary point, the same for every process until the next boot
    """
    if _BOOTTIME is None:
        return time.monotonic()
    return time.clock_gettime(_BOOTTIME)
