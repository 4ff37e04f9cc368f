"""Templates. What they print is escaped, always."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from airflow_provider_popin import __version__
from airflow_provider_popin.plugins.page import formats, telling

_FILTERS = (
    formats.number,
    formats.percent,
    formats.instant,
    formats.iso,
    formats.ago,
    formats.duration,
    formats.words,
    formats.day,
    formats.short_day,
    formats.pretty,
    telling.story,
    telling.doubted_at,
    telling.alarm_note,
    telling.local,
    telling.zone,
    telling.reason,
)


def render(
    request: Request, template: str, context: Mapping[str, object], *, status: int = 200
) -> HTMLResponse:
    """Answer with a page.

    :param request: its ``state.frame``, if there is one, says what stands around the content (see ``frame``).
    :param template: file in ``templates/``.
    :param context: what the template names.
    :param status: HTTP status.
    """
    around = {
        "root": request.scope.get("root_path", ""),
        "frame": getattr(request.state, "frame", None),
        "version": __version__,
        "now": time.time(),
    }
    return HTMLResponse(_environment().get_template(template).render(around | dict(context)), status)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: function for function in _FILTERS})
    return environment
