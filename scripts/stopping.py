"""Being stopped: a program that starts servers ends them, whichever signal tells it to, and only once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Until the block ends, the first signal to stop is a ``KeyboardInterrupt`` and later ones are nothing.

    By themselves SIGTERM and SIGHUP would leave the servers running, and so would a second Ctrl-C while they
    are being stopped. What a shell starts in the background ignores SIGINT: here it does not.
    """
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
