"""Who is asking: Airflow's own users, by Airflow's own rules.

Reading needs a login, nothing more. Acting needs the permission to create asset events (``POST`` on assets;
the roles Op and Admin of Airflow's simple auth manager), since what became of a call is told as asset events.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.configuration import conf
from fastapi import Depends, Request

from airflow_provider_popin.plugins.page import forgery

# A form of ours holds a few ids and a sentence.
MAX_FORM_BYTES = 16 * 1024
_FORM_TYPE = "application/x-www-form-urlencoded"
# Where the deployment has no key, forms work as long as this process lives.
_FALLBACK_KEY = os.urandom(32)


class RefusedError(Exception):
    """An action is refused; the text is for the user.

    :param reason: one sentence, and what to do.
    :param status: HTTP status.
    """

    def __init__(self, reason: str, status: int = 403) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


@dataclass(frozen=True, slots=True)
class Visitor:
    """An Airflow user who looks at the page.

    :param name: as it is recorded with what they do.
    :param may_act: whether they may resolve, dismiss and clear.
    :param token: for the forms they are shown.
    """

    name: str
    may_act: bool
    token: str


@dataclass(frozen=True, slots=True)
class Action:
    """A form sent by somebody who may act, from a page of ours.

    :param visitor: who sent it.
    :param form: its fields; of repeated ones the last.
    """

    visitor: Visitor
    form: dict[str, str]


def visitor(user: Annotated[BaseUser, Depends(get_user)]) -> Visitor:
    """FastAPI dependency: the Airflow user of a request. Anybody else is answered with 401.

    :param user: from Airflow, by session cookie or bearer token.
    """
    return Visitor(
        name=user.get_name() or str(user.get_id()),
        may_act=bool(get_auth_manager().is_authorized_asset(method="POST", user=user)),
        token=forgery.make_token(_key(), user=str(user.get_id()), now=time.time()),
    )


async def _read_form(request: Request, _: Annotated[BaseUser, Depends(get_user)]) -> dict[str, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
        raise RefusedError("This page takes its own forms only.", 415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise RefusedError("The form is too long: shorten the text.", 413)
    return dict(parse_qsl(body.decode("utf-8", "replace")))


def action(
    request: Request,
    user: Annotated[BaseUser, Depends(get_user)],
    who: Annotated[Visitor, Depends(visitor)],
    form: Annotated[dict[str, str], Depends(_read_form)],
) -> Action:
    """FastAPI dependency: a form that may be acted upon.

    :param request: the POST.
    :param user: from Airflow.
    :param who: the same, for us.
    :param form: the body.
    :raises RefusedError: forged, out of date, or the user may only look.
    """
    if not forgery.is_from_own_page(request.headers, _own_origins(request)):
        raise RefusedError(
            "The request did not come from this page. If Airflow is behind a proxy, set [api] base_url to "
            "the address that users see."
        )
    if not forgery.is_token_valid(form.get("token", ""), _key(), user=str(user.get_id()), now=time.time()):
        raise RefusedError("This form is out of date, or was not made for you: open it again.")
    if not who.may_act:
        raise RefusedError("You may look, but not act: that takes the permission to create asset events.")
    return Action(who, form)


def _own_origins(request: Request) -> set[str]:
    urls = (str(request.base_url), conf.get("api", "base_url", fallback="") or "")
    return {origin for origin in map(forgery.origin_of, urls) if origin}


def _key() -> bytes:
    # What Airflow's own API signs with: the same on every API server of the deployment.
    return (conf.get("api", "secret_key", fallback="") or "").encode() or _FALLBACK_KEY
