"""A sandbox with a clock that stands still, shared by the module and reset for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_popin.sandbox.server import SandboxServer
from tests.sandbox.receiver import Receiver, tell
from tests.sandbox.talk import SETTINGS


@pytest.fixture(scope="module")
def running() -> Iterator[SandboxServer]:
    """The server of this module."""
    with SandboxServer(SETTINGS) as server:
        yield server


@pytest.fixture
def popin(running: SandboxServer) -> SandboxServer:
    """The server without a past."""
    running.reset()
    return running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks that answers 200."""
    with Receiver() as server:
        yield server


@pytest.fixture
def told(popin: SandboxServer, receiver: Receiver) -> SandboxServer:
    """A sandbox that tells the receiver of captures and bookings, and of calls nothing."""
    tell(popin, receiver)
    return popin
