"""Popin's requests, built once for both senders. Pure functions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from airflow_provider_popin import __version__
from airflow_provider_popin.client.config import POSTAL_CODE_FIELDS, ClientConfig
from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.exchange import Endpoint, Request
from airflow_provider_popin.client.models import Lead
from airflow_provider_popin.client.scalars import is_agent, is_customer_id, is_join_url
from airflow_provider_popin.client.slots import is_popin_time

API_PATH = "/api/v1"
CAPTURE_PATH = "/external/capture"
SLOTS_PATH = "/external/slots"
SCHEDULE_PATH = "/external/schedule"

# Made once: json.dumps would make one for every request.
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_METHOD = re.compile(r"[A-Z]{1,16}")
_PATH = re.compile(r"/[!-~]*")


def build_capture(lead: Lead, *, postal_code_field: str = "pincode") -> Request:
    """The request that registers a lead (fields: grade D).

    The country always goes along: Popin would take a number without one for an Indian one.

    :param lead: who
    :param postal_code_field: ``pincode`` (grade D) or ``pin_code`` (grade P)
    :raises PopinInputError: the postal code field is unknown
    """
    if postal_code_field not in POSTAL_CODE_FIELDS:
        raise PopinInputError(
            "is not a field of Popin's", code="postal_code_field", field="postal_code_field"
        )
    fields: dict[str, object] = {
        "name": lead.name,
        "mobile": lead.mobile,
        "country": lead.country,
        "email": lead.email,
        "group": lead.group,
        "agent": lead.agent,
        postal_code_field: lead.pincode,
        "native": lead.native,
        "campaign": dict(lead.campaign) if lead.campaign else None,
    }
    return Request(Endpoint.CAPTURE, "POST", CAPTURE_PATH, _json_body(fields))


def build_slots() -> Request:
    """The request for the free slots (grade D)."""
    return Request(Endpoint.SLOTS, "GET", SLOTS_PATH, None)


def build_schedule(
    customer_id: str,
    time: str,
    *,
    agent: int | None = None,
    native: bool | None = None,
    url: str | None = None,
) -> Request:
    """The request that books a call (fields: grade D).

    :param customer_id: from capture, sent as it is
    :param time: Popin's slot string, ``Thu, 25 Sep 2025 03:15 PM``, in the seller's timezone
    :param agent: number of the agent, from 1
    :param native: see ``popin-api.md``: False makes the join link ``url`` or the one of the dashboard
    :param url: custom join link, http or https; Popin ignores it unless ``native`` is False
    :raises PopinInputError: an argument has another type or shape
    """
    if not is_customer_id(customer_id):
        raise PopinInputError(
            "is missing or not a customer_id", code="customer_id_invalid", field="customer_id"
        )
    if not is_popin_time(time):
        raise PopinInputError("is not a slot string of Popin's", code="time_malformed", field="time")
    if agent is not None and not is_agent(agent):
        raise PopinInputError("is not the number of an agent", code="agent_invalid", field="agent")
    if native is not None and type(native) is not bool:
        raise PopinInputError("is neither true nor false", code="native_invalid", field="native")
    if url is not None and not is_join_url(url):
        raise PopinInputError("is not an http or https URL", code="url_invalid", field="url")
    fields = {"customer_id": customer_id, "time": time, "agent": agent, "native": native, "url": url}
    return Request(Endpoint.SCHEDULE, "POST", SCHEDULE_PATH, _json_body(fields))


def build_free(method: str, path: str, json_body: object = None) -> Request:
    """A request that Popin documents elsewhere or not at all.

    :param method: HTTP method
    :param path: what follows ``/api/v1``, with its leading slash; may have a query
    :param json_body: a JSON value, None for no body
    :raises PopinInputError: the method or path is unusable, or the body is no JSON value
    """
    if not _is_text(method) or not _METHOD.fullmatch(method.upper()):
        raise PopinInputError("is not an HTTP method", code="method_invalid", field="method")
    if not _is_text(path) or not _PATH.fullmatch(path):
        raise PopinInputError(
            "must begin with a slash and be ASCII without spaces", code="path_invalid", field="path"
        )
    body = None
    if json_body is not None:
        try:
            body = json.dumps(json_body, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise PopinInputError("is not a JSON value", code="json_invalid", field="json") from None
    return Request(None, method.upper(), path, body)


def headers(config: ClientConfig) -> dict[str, str]:
    """The headers of every request (the first three: grade D).

    :param config: whose keys
    """
    return {
        "X-API-KEY": config.api_key,
        "X-TOKEN": config.seller_token,
        "Accept": "application/json",
        # A small reply gains nothing by compression, and a hostile one cannot grow on the way.
        "Accept-Encoding": "identity",
        "User-Agent": f"airflow-provider-popin/{__version__}",
    }


def url(config: ClientConfig, request: Request) -> str:
    """The full URL of a request.

    :param config: whose host
    :param request: what is asked
    """
    return api_url(config) + request.path


def api_url(config: ClientConfig) -> str:
    """What all URLs begin with, without a slash at its end.

    :param config: whose host
    """
    base = config.base_url
    return base if base.endswith(API_PATH) else base + API_PATH


def _is_text(value: object) -> bool:
    """Arguments of a Dag may be anything, whatever the annotations promise."""
    return isinstance(value, str) and bool(value.strip())


def _json_body(fields: Mapping[str, object]) -> bytes:
    """The fields that are set, as compact ASCII JSON."""
    present = {name: value for name, value in fields.items() if value is not None}
    return _ENCODER.encode(present).encode("ascii")
