"""Airflow's API server in this process: the real app with all its middlewares, on a port of loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def running_api_server() -> Iterator[str]:
    """Serve Airflow's core app, as ``airflow api-server`` does; yield its URL.

    Airflow's database must exist.
    """
    import uvicorn
    from airflow.api_fastapi.app import create_app

    with pytest.MonkeyPatch.context() as patched, socket.socket() as listener:
        # What `airflow.api_fastapi.main` does for its process: connections of the database may be read.
        patched.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
        # One that PyJWT does not warn of; Airflow's own generated one is too short for it.
        patched.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "for tests only " * 5)
        listener.bind(("127.0.0.1", 0))
        config: Any = uvicorn.Config(create_app(apps="core"), log_config=None, access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the API server did not start"
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "the API server does not end"
