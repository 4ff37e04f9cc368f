"""The first signal to stop is a KeyboardInterrupt, later ones are nothing, afterwards all is as before."""

from __future__ import annotations

import os
import signal

import pytest

from scripts.stopping import STOP_SIGNALS, interrupted_once


# Named here, so that none of them can be lost from the code: who ends a terminal sends SIGHUP.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_only_the_first_signal_is_an_interrupt(number: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in STOP_SIGNALS]
    ended = []

    def servers() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            for again in STOP_SIGNALS:
                os.kill(os.getpid(), again)
                ended.append(again)

    with pytest.raises(KeyboardInterrupt), interrupted_once():
        servers()
    assert ended == [*STOP_SIGNALS]
    assert [signal.getsignal(one) for one in STOP_SIGNALS] == before


def test_who_ignores_ctrl_c_is_interrupted_all_the_same() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), interrupted_once():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
