"""The longer lists, and everything about one lead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse

from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.plugins.page.frame import Page, RowId, Text, page
from airflow_provider_popin.plugins.page.rendering import render
from airflow_provider_popin.sync.source.cells import clean_lead_id
from airflow_provider_popin.webhooks import figures, queries

STEP = 25
_MOST = 500

router = APIRouter()

Shown = Annotated[Page, Depends(page)]
Limit = Annotated[int, Query(ge=1, le=_MOST)]


@router.get("/doubts")
def doubts(shown: Shown, source: Text | None = None, limit: Limit = STEP) -> HTMLResponse:
    """Bookings in doubt, the oldest first.

    :param shown: the ledger.
    :param source: only this source.
    :param limit: how many.
    """
    found = queries.in_doubt(shown.ledger, source=source, limit=limit + 1)
    return _list(shown, "doubts.html", found, limit, source=source)


@router.get("/alarms")
def alarms(shown: Shown, source: Text | None = None, limit: Limit = STEP) -> HTMLResponse:
    """Leads that may have a call too many, the oldest first.

    :param shown: the ledger.
    :param source: only this source.
    :param limit: how many.
    """
    found = queries.alarms(shown.ledger, source=source, limit=limit + 1)
    return _list(shown, "alarms.html", found, limit, source=source)


@router.get("/runs")
def runs(shown: Shown, source: Text | None = None, limit: Limit = STEP) -> HTMLResponse:
    """Runs of the lead sync, the newest first.

    :param shown: the ledger.
    :param source: only this source.
    :param limit: how many.
    """
    found = figures.runs(shown.ledger, source=source, limit=limit + 1)
    return _list(shown, "runs.html", found, limit, source=source)


@router.get("/unmatched")
def unmatched(shown: Shown, strangers: bool = False, before: RowId | None = None) -> HTMLResponse:
    """Events that match no one booking, the newest first.

    :param shown: the ledger.
    :param strangers: those of customers that no lead has.
    :param before: the next page: only lower ids.
    """
    found = queries.unmatched(shown.ledger, strangers=strangers, limit=STEP + 1, before=before)
    events = found[:STEP]
    context = {
        "events": events,
        "strangers": strangers,
        "attention": queries.attention(shown.ledger),
        "more": shown.frame.link("unmatched", strangers=strangers or None, before=events[-1].id)
        if len(found) > STEP
        else None,
    }
    return render(shown.request, "unmatched.html", context)


@router.get("/lead")
def lead(shown: Shown, source: Text | None = None, lead_id: Text | None = None) -> HTMLResponse:
    """A form to find a lead by its id in the source, and everything about it.

    :param shown: the ledger.
    :param source: where it is from; without it, all sources are looked at.
    :param lead_id: its id there.
    """
    sources = figures.sources(shown.ledger)
    asked = (lead_id or "").strip()
    looked_at = [source] if source in sources else sources
    found = [
        view
        for wanted in _identities(asked)
        for name in looked_at
        for view in queries.lead_history(shown.ledger, name, wanted)
    ]
    context = {"sources": sources, "source": source, "lead_id": asked, "leads": found}
    return render(shown.request, "lead.html", context, status=404 if asked and not found else 200)


def _identities(asked: str) -> list[str]:
    """The id as the ledger holds it; none where no lead can have it, as of an empty form."""
    try:
        return [clean_lead_id(asked)]
    except PopinInputError:
        return []


def _list(
    shown: Page, template: str, found: Sequence[object], limit: int, *, source: str | None
) -> HTMLResponse:
    more = template.removesuffix(".html")
    context = {
        "items": found[:limit],
        "source": source,
        "more": shown.frame.link(more, source=source, limit=min(limit + 100, _MOST))
        if len(found) > limit and limit < _MOST
        else None,
    }
    return render(shown.request, template, context)
