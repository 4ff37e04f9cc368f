"""An event loop in a thread of its own, called from the thread that waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")

_TICK_SECONDS = 1.0


class LoopThread:
    """Runs coroutines in another thread and waits for them here, so that a signal handler, a task timeout or
    any exception of the waiting thread does not end them half done.

    Use as a context manager.

    :param tick: called about once a second while waiting
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="popin-lead-sync", daemon=True)

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[object, object, T], timeout_seconds: float | None = None) -> T:
        """Run a coroutine in the loop and wait for it.

        :param work: runs to its end there even if waiting for it is interrupted
        :param timeout_seconds: how long to wait; None waits for good
        :raises TimeoutError: it is not done yet; it goes on
        """
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        waited = 0.0
        while True:
            step = _TICK_SECONDS if timeout_seconds is None else min(_TICK_SECONDS, timeout_seconds - waited)
            try:
                return future.result(max(step, 0.0))
            except TimeoutError:
                # The same class tells "not yet" and "the coroutine timed out"; and it may be done by now.
                if future.done():
                    return future.result()
                waited += step
                if timeout_seconds is not None and waited >= timeout_seconds:
                    raise
                self._tick()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
