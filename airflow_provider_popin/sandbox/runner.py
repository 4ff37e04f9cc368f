"""uvicorn around the sandbox's application: quick to start and stop, able to close its port for a while."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

import uvicorn

from airflow_provider_popin.sandbox.app import SandboxApp
from airflow_provider_popin.sandbox.settings import SandboxSettings
from airflow_provider_popin.sandbox.transport import Connections, protocol_for

try:
    import uvloop
except ImportError:  # pragma: no cover - uvloop is optional
    LOOP_FACTORY: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    LOOP_FACTORY = uvloop.new_event_loop

BACKLOG = 2048
TICK_SECONDS = 0.1
REBIND_SECONDS = 2.0


class Runner:
    """
    One server process or thread.

    :param settings: how the sandbox behaves.
    :param access_log: whether requests are logged.
    """

    def __init__(self, settings: SandboxSettings, *, access_log: bool = False) -> None:
        self.settings = settings
        self.started_event = threading.Event()
        self.loop: asyncio.AbstractEventLoop
        self.server: QuickServer
        connections = Connections()
        self.app = SandboxApp(
            settings=settings,
            connections=connections,
            outage=lambda seconds: self.server.outage(seconds),
            access_log=access_log,
        )
        self._connections = connections
        self._socket: socket.socket | None = None

    def bind(self) -> int:
        """
        Take the port.

        :return: its number.
        :raises OSError: it is taken, or for root only.
        """
        self._socket = bind(self.settings.host, self.settings.port)
        return int(self._socket.getsockname()[1])

    def run(self) -> None:
        """Serve on the port taken by `bind` until `stop`; in a main thread also until SIGINT or SIGTERM."""
        assert self._socket is not None
        config = uvicorn.Config(
            self.app,
            http=protocol_for(self._connections),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=60,
        )
        with asyncio.Runner(loop_factory=LOOP_FACTORY) as runner:
            self.loop = runner.get_loop()
            self.server = QuickServer(config, connections=self._connections, started_event=self.started_event)
            runner.run(self._serve(self._socket))

    async def _serve(self, listener: socket.socket) -> None:
        try:
            await self.server.serve(sockets=[listener])
        finally:
            await self.app.close()

    def stop(self) -> None:
        """End `run`; may be called from any thread."""
        self.loop.call_soon_threadsafe(self.server.leave)


class QuickServer(uvicorn.Server):
    """
    uvicorn's server without its waiting: the stock one polls, and takes 0.3 s to stop.

    :param config: uvicorn's.
    :param connections: registry of the connections.
    :param started_event: set when the port is open.
    """

    def __init__(
        self, config: uvicorn.Config, *, connections: Connections, started_event: threading.Event
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._started_event = started_event
        self.listening = False
        self._leaving = asyncio.Event()
        self._address = ("", 0)
        self._outages: set[asyncio.Task[None]] = set()

    def leave(self) -> None:
        """End serving; call it in the loop."""
        self.should_exit = True
        self._leaving.set()

    def outage(self, seconds: float) -> None:
        """
        Close the port for a while; call it in the loop.

        :param seconds: how long.
        """
        self.listening = False
        task = asyncio.get_running_loop().create_task(self._outage(seconds))
        self._outages.add(task)
        task.add_done_callback(self._outages.discard)

    async def stop_listening(self) -> None:
        """Close the port and reset every connection. Handlers go on, and commit what they were going to."""
        self.listening = False
        for server in self.servers:
            server.close()
        self._connections.reset_all()
        # uvloop closes the socket in a later turn of the loop; until then connections would still be
        # accepted.
        await asyncio.sleep(0.01)

    async def start_listening(self) -> None:
        """
        Open the same port again.

        :raises OSError: another program took it.
        """
        deadline = asyncio.get_running_loop().time() + REBIND_SECONDS
        while True:
            try:
                listener = bind(*self._address)
            except OSError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.01)
            else:
                break
        await self.startup(sockets=[listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """
        Start accepting.

        :param sockets: the one bound socket.
        """
        assert sockets is not None
        self._address = sockets[0].getsockname()[:2]
        await super().startup(sockets=sockets)
        self.listening = True
        self._started_event.set()

    async def main_loop(self) -> None:
        """Wait for the end, with uvicorn's tick for its date header."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """
        Stop at once: connections are reset, handlers cancelled.

        :param sockets: not used.
        """
        tasks = [*self._outages, *self.server_state.tasks]
        for task in tasks:
            task.cancel()
        await self.stop_listening()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _outage(self, seconds: float) -> None:
        await self.stop_listening()
        await asyncio.sleep(seconds)
        await self.start_listening()


def bind(host: str, port: int) -> socket.socket:
    """
    Open a TCP port.

    :param host: address or `localhost`.
    :param port: number, 0 for any free one.
    :return: a listening socket.
    :raises OSError: the port is taken or the address is not ours.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # from here on connections wait in line, also before the loop runs
    except OSError:
        listener.close()
        raise
    return listener
