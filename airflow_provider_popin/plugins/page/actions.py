"""What a person may do here: resolve a doubt, dismiss an event, clear an alarm. Each names who and why.

A GET shows what it is about and the form, which carries what was seen: nobody decides about a lead that has
changed since. To resolve takes two steps: the form, then what would follow, to be confirmed; nothing of it
needs a script. Only the last POST changes anything.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from airflow_provider_popin.client.redaction import redact_text
from airflow_provider_popin.plugins.page.access import Action, RefusedError, action
from airflow_provider_popin.plugins.page.frame import Page, RowId, Text, page
from airflow_provider_popin.plugins.page.rendering import render
from airflow_provider_popin.sync import admin as leads
from airflow_provider_popin.webhooks import admin as events
from airflow_provider_popin.webhooks import queries
from airflow_provider_popin.webhooks.views import EventView, LeadView

_GONE = "Somebody else, or a webhook, was faster: it is no longer open. Look at the overview."
_WHY_LENGTH = 200

router = APIRouter()

Shown = Annotated[Page, Depends(page)]
Sent = Annotated[Action, Depends(action)]


@router.get("/resolve")
def show_doubt(shown: Shown, source: Text, lead_id: Text, generation: int) -> HTMLResponse:
    """One booking in doubt, its evidence, and the form.

    :param shown: the ledger.
    :param source: of the lead.
    :param lead_id: of the lead.
    :param generation: of the lead.
    """
    lead = _lead(shown, source, lead_id, generation)
    return render(shown.request, "resolve.html", {"lead": lead, "outcome": None, "why": "", "problem": None})


@router.post("/resolve")
def resolve(shown: Shown, sent: Sent, source: Text, lead_id: Text, generation: int) -> Response:
    """Say whether a call in doubt exists. Without ``confirmed=yes`` it only shows what would follow.

    :param shown: the ledger.
    :param sent: ``seen``, ``outcome``, ``why``, ``confirmed``.
    :param source: of the lead.
    :param lead_id: of the lead.
    :param generation: of the lead.
    """
    lead = _lead(shown, source, lead_id, generation)
    outcome, why = sent.form.get("outcome", ""), _why(sent)
    context: dict[str, object] = {"lead": lead, "outcome": outcome, "why": why, "problem": None}
    # Also where it is in doubt anew: about another call, which the form did not show.
    if lead.booking != "in_doubt" or lead.version != _seen(sent):
        raise RefusedError(_GONE, 409)
    if outcome not in leads.OUTCOMES or not why:
        context["problem"] = "Say whether the call exists, and how you know."
        return render(shown.request, "resolve.html", context, status=422)
    if sent.form.get("confirmed") != "yes":
        # What will be kept, so that nobody is surprised later.
        context["kept"] = redact_text(why)
        return render(shown.request, "resolve_confirm.html", context)
    try:
        leads.resolve(
            shown.ledger,
            source=source,
            lead_id=lead_id,
            generation=generation,
            outcome=outcome,
            who=sent.visitor.name,
            why=why,
            account=lead.account,
            seen=_seen(sent),
        )
    except leads.NoSuchLeadError:
        raise RefusedError(_GONE, 409) from None
    return _done(shown, outcome)


@router.get("/dismiss")
def show_event(shown: Shown, event: RowId) -> HTMLResponse:
    """One unmatched event, and the form.

    :param shown: the ledger.
    :param event: its id.
    """
    context = {"event": _event(shown, event), "problem": None}
    return render(shown.request, "dismiss.html", context)


@router.post("/dismiss")
def dismiss(shown: Shown, sent: Sent, event: RowId) -> Response:
    """Take an unmatched event off the list.

    :param shown: the ledger.
    :param sent: ``why``.
    :param event: its id.
    """
    found, why = _event(shown, event), _why(sent)
    if not why:
        context = {"event": found, "problem": "Say why it may be dismissed."}
        return render(shown.request, "dismiss.html", context, status=422)
    try:
        events.dismiss_event(shown.ledger, event, sent.visitor.name, why)
    except events.NoSuchEventError:
        raise RefusedError(_GONE, 409) from None
    return _done(shown, "dismissed")


@router.get("/clear")
def show_alarm(shown: Shown, source: Text, lead_id: Text, generation: int) -> HTMLResponse:
    """One alarm, and the form.

    :param shown: the ledger.
    :param source: of the lead.
    :param lead_id: of the lead.
    :param generation: of the lead.
    """
    context = {"lead": _lead(shown, source, lead_id, generation), "problem": None}
    return render(shown.request, "clear.html", context)


@router.post("/clear")
def clear(shown: Shown, sent: Sent, source: Text, lead_id: Text, generation: int) -> Response:
    """Say that an alarm was dealt with.

    :param shown: the ledger.
    :param sent: ``seen``, ``why``.
    :param source: of the lead.
    :param lead_id: of the lead.
    :param generation: of the lead.
    """
    lead, why = _lead(shown, source, lead_id, generation), _why(sent)
    if not why:
        context = {"lead": lead, "problem": "Say what you did about it."}
        return render(shown.request, "clear.html", context, status=422)
    try:
        events.clear_alarm(
            shown.ledger,
            source,
            lead_id,
            generation,
            sent.visitor.name,
            why,
            account=lead.account,
            seen=_seen(sent),
        )
    except leads.NoSuchLeadError:
        raise RefusedError(_GONE, 409) from None
    return _done(shown, "cleared")


def _lead(shown: Page, source: Text, lead_id: Text, generation: int) -> LeadView:
    for lead in queries.lead_history(shown.ledger, source, lead_id):
        if lead.generation == generation:
            return lead
    raise HTTPException(404)


def _event(shown: Page, event_id: int) -> EventView:
    for strangers in (False, True):
        found = queries.unmatched(shown.ledger, strangers=strangers, limit=1, before=event_id + 1)
        if found and found[0].id == event_id:
            return found[0]
    raise HTTPException(404)


def _seen(sent: Action) -> str:
    return sent.form.get("seen", "")


def _why(sent: Action) -> str:
    return " ".join(sent.form.get("why", "").split())[:_WHY_LENGTH]


def _done(shown: Page, what: str) -> Response:
    # 303: the browser asks for the overview anew, and "back" or "reload" sends nothing twice.
    return RedirectResponse(shown.frame.link(done=what), status_code=303)
