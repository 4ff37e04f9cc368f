"""Bytes of a delivery become a :class:`.events.CallEvent`. Pure; nothing personal leaves this module."""

from __future__ import annotations

from airflow_provider_popin.webhooks.events import CallEvent


class WebhookBodyError(ValueError):
    """The body is no webhook of Popin's: not JSON, no object, or without a text ``event``.

    :param reason: ``not_utf8``, ``not_json``, ``too_deep``, ``not_an_object`` or ``no_event``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse_event(body: bytes) -> CallEvent:
    """Read one delivery; unknown events and fields are no error.

    :param body: as received; any bytes may come.
    :raises WebhookBodyError: it cannot be one; the message holds nothing of the body.
    """
    raise NotImplementedError
