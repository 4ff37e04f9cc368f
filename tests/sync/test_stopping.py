"""The switch that stops a run, and the thread that its loop lives in."""

from __future__ import annotations

import asyncio
import math
import threading
import time

import pytest

from airflow_provider_popin.sync import loop_thread
from airflow_provider_popin.sync.errors import SyncStoppedError
from airflow_provider_popin.sync.loop_thread import LoopThread, OverdueError
from airflow_provider_popin.sync.stop_switch import StopSwitch
from tests.waiting import PATIENCE_SECONDS


class TestSwitch:
    def test_the_first_cause_stays(self) -> None:
        switch = StopSwitch()
        assert (switch.stopped, switch.hurry, switch.failure) == (False, False, None)
        first = ValueError()
        switch.stop(None)
        switch.stop(first)
        switch.stop(KeyError(), hurry=True)
        assert switch.failure is first
        assert (switch.stopped, switch.hurry) == (True, True)

    def test_from_outside_there_is_no_time(self) -> None:
        switch = StopSwitch()
        assert switch.hurried_seconds() == 0.0
        switch.stop_from_outside("the task was killed")
        assert isinstance(switch.failure, SyncStoppedError)
        assert str(switch.failure) == "the task was killed"
        assert 0.0 <= switch.hurried_seconds() < 60.0

    def test_the_hurry_counts_from_its_beginning(self) -> None:
        switch = StopSwitch()
        switch.stop(None, hurry=True)
        began = switch.hurried_seconds()
        switch.stop(None, hurry=True)
        assert switch.hurried_seconds() >= began

    async def test_sleep_ends_with_a_stop(self) -> None:
        switch = StopSwitch()
        switch.attach()
        before = time.monotonic()
        await switch.sleep(0.01)
        sleeping = asyncio.create_task(switch.sleep(600))
        await asyncio.sleep(0)
        await asyncio.to_thread(switch.stop, None)
        await sleeping
        assert time.monotonic() - before < 60

    async def test_a_stop_before_the_loop_is_not_lost(self) -> None:
        switch = StopSwitch()
        switch.stop_from_outside("killed early")
        switch.attach()
        await switch.sleep(600)
        await switch.wait_hurry()

    async def test_a_stop_in_good_order_is_no_hurry(self) -> None:
        switch = StopSwitch()
        switch.attach()
        hurrying = asyncio.create_task(switch.wait_hurry())
        switch.stop(None)
        await switch.sleep(600)
        assert not hurrying.done()
        switch.stop(None, hurry=True)
        await hurrying

    async def test_what_is_not_worth_waiting_for_is_given_up(self) -> None:
        switch = StopSwitch()
        switch.attach()

        async def answer() -> int:
            return 7

        assert await switch.unless_hurried(answer()) == 7
        waiting = asyncio.create_task(switch.unless_hurried(asyncio.sleep(60)))
        await asyncio.sleep(0)
        switch.stop_from_outside("killed")
        with pytest.raises(SyncStoppedError):
            await waiting

    async def test_errors_of_what_is_waited_for_are_passed_on(self) -> None:
        switch = StopSwitch()
        switch.attach()

        async def fail() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await switch.unless_hurried(fail())

    async def test_nobody_waits_before_the_loop(self) -> None:
        for wait in (StopSwitch().sleep(1), StopSwitch().wait_hurry()):
            with pytest.raises(RuntimeError, match="attach"):
                await wait

    def test_a_stop_after_the_loop_is_remembered(self) -> None:
        switch = StopSwitch()

        async def attach() -> None:
            switch.attach()

        asyncio.run(attach())
        switch.stop(ValueError())
        assert isinstance(switch.failure, ValueError)


def no_tick() -> None:
    pass


def patient() -> float:
    return math.inf


class TestLoopThread:
    def test_a_coroutine_runs_in_another_thread(self) -> None:
        async def where() -> str:
            return threading.current_thread().name

        with LoopThread(no_tick, patient) as thread:
            assert thread.call(where()) == "popin-lead-sync"

    def test_errors_come_back(self) -> None:
        async def fail() -> None:
            raise ZeroDivisionError

        with LoopThread(no_tick, patient) as thread, pytest.raises(ZeroDivisionError):
            thread.call(fail())

    def test_a_timeout_of_the_coroutine_is_its_own(self) -> None:
        async def late() -> None:
            raise TimeoutError("the server's")

        with LoopThread(no_tick, patient) as thread, pytest.raises(TimeoutError, match="the server's"):
            thread.call(late())

    def test_it_ticks_while_it_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_thread, "_TICK_SECONDS", 0.01)
        ticks = threading.Semaphore(0)

        async def three_ticks() -> str:
            for _ in range(3):
                await asyncio.to_thread(ticks.acquire)
            return "done"

        with LoopThread(ticks.release, patient) as thread:
            assert thread.call(three_ticks()) == "done"

    def test_what_ends_just_as_the_wait_does_has_ended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The wait gives up, and by the time that is looked at, the result is there."""
        monkeypatch.setattr(loop_thread, "_TICK_SECONDS", 0.01)
        finish = threading.Event()
        done = threading.Event()

        async def work() -> str:
            await asyncio.to_thread(finish.wait)
            asyncio.get_running_loop().call_later(0.01, done.set)
            return "done"

        real = asyncio.run_coroutine_threadsafe

        def slow_to_look(work: object, loop: asyncio.AbstractEventLoop) -> object:
            future = real(work, loop)  # type: ignore[arg-type,var-annotated]
            look = future.done

            def wait_and_look() -> bool:
                finish.set()
                done.wait(PATIENCE_SECONDS)
                return look()

            future.done = wait_and_look  # type: ignore[method-assign]
            return future

        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", slow_to_look)
        with LoopThread(no_tick, patient) as thread:
            assert thread.call(work()) == "done"

    def test_when_patience_is_over_the_work_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop_thread, "_TICK_SECONDS", 0.01)
        left = [0.05]
        given_up, went_on = threading.Event(), threading.Event()

        async def work() -> None:
            await asyncio.to_thread(given_up.wait, 10)
            went_on.set()

        def tick() -> None:
            left[0] -= 0.02

        with LoopThread(tick, lambda: left[0]) as thread:
            with pytest.raises(OverdueError):
                thread.call(work())
            given_up.set()
            assert went_on.wait(PATIENCE_SECONDS)

    def test_what_is_left_in_the_loop_is_cancelled(self) -> None:
        cancelled = threading.Event()

        async def forever() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                cancelled.set()

        tasks: list[asyncio.Task[None]] = []

        async def start() -> None:
            tasks.append(asyncio.create_task(forever()))
            await asyncio.sleep(0)

        with LoopThread(no_tick, patient) as thread:
            thread.call(start())
        assert cancelled.is_set()

    def test_an_exception_of_the_waiting_thread_leaves_the_loop_in_order(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class KilledError(BaseException):
            pass

        def tick() -> None:
            raise KilledError

        killed, done = threading.Event(), threading.Event()

        async def work() -> None:
            await asyncio.to_thread(killed.wait, 10)
            done.set()

        monkeypatch.setattr(loop_thread, "_TICK_SECONDS", 0.01)
        with LoopThread(tick, patient) as thread:
            with pytest.raises(KilledError):
                thread.call(work())
            assert not done.is_set()
            killed.set()
            assert done.wait(PATIENCE_SECONDS)
