"""Waiting for what is going to happen, for as long as the slowest machine may need."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 60.0


def wait_until(question: Callable[[], object], told: Callable[[], object] | None = None) -> None:
    """Wait until a question is answered with yes.

    :param question: asked again and again
    :param told: shown if the answer stays no
    :raises AssertionError: it stayed no for :data:`PATIENCE_SECONDS`
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not question():
        assert time.monotonic() < deadline, told() if told is not None else "it did not happen"
        time.sleep(0.005)
