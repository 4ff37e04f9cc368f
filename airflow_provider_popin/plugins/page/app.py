"""The FastAPI app of the page: who gets in, what is answered, and with which headers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_popin.plugins.page import URL_PREFIX, actions, lists, overview
from airflow_provider_popin.plugins.page.access import RefusedError, visitor
from airflow_provider_popin.plugins.page.ledgers import ShownLedgers, TroubleError, unreadable
from airflow_provider_popin.plugins.page.rendering import render
from airflow_provider_popin.sync.errors import LedgerError

STATIC = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Found once: a path of a request never reaches the file system.
_FILES = {path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.suffix in _TYPES}
_HEADERS = {
    # Nothing from elsewhere, nothing inline. Airflow's own frame may hold the page, nobody else's.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    # Not "no-referrer": browsers would then send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app() -> FastAPI:
    """Return a new app with ledgers of its own, which it closes when the server stops."""
    ledgers = ShownLedgers()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        ledgers.close()

    app = FastAPI(
        title="Popin",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.ledgers = ledgers
    for routes in (overview, lists, actions):
        app.include_router(routes.router)
    app.add_api_route("/static/{name:path}", _static, methods=["GET"], dependencies=[Depends(visitor)])
    app.add_exception_handler(StarletteHTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_unreadable_address)
    app.add_exception_handler(TroubleError, _on_trouble)
    app.add_exception_handler(LedgerError, _on_ledger_error)
    app.add_exception_handler(RefusedError, _on_refused)
    app.add_middleware(_StrictHeaders)
    return app


def _static(name: str) -> Response:
    path = _FILES.get(name)
    if path is None:
        raise HTTPException(404)
    # Pages ask for `?v=<version>`, so what is kept is never out of date.
    headers = {"Cache-Control": "private, max-age=86400"}
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=headers)


def _on_http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, StarletteHTTPException) else 500
    if status == 401:
        airflow = str(request.scope.get("root_path", "")).removesuffix(URL_PREFIX)
        return render(request, "login.html", {"airflow": airflow}, status=401)
    titles = {403: "Not allowed", 404: "There is no such page", 405: "There is no such page"}
    return render(request, "message.html", {"title": titles.get(status, "That did not work")}, status=status)


def _on_unreadable_address(request: Request, _: Exception) -> Response:
    # FastAPI's own answer is JSON, and repeats what came.
    context = {"title": "This address is not complete", "text": "A part of it is missing, or cannot be read."}
    return render(request, "message.html", context, status=422)


def _on_trouble(request: Request, error: Exception) -> Response:
    assert isinstance(error, TroubleError)
    return render(request, "trouble.html", {"trouble": error}, status=200 if error.new else 503)


def _on_ledger_error(request: Request, error: Exception) -> Response:
    return _on_trouble(request, unreadable(getattr(request.state, "ledger_conn_id", ""), error))


def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    context = {"title": "Nothing was changed", "text": error.reason}
    return render(request, "message.html", context, status=error.status)


class _StrictHeaders:
    """Adds our headers to every answer that has none of its own under that name."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
