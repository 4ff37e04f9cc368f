"""Who was captured."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field

DEFAULT_COUNTRY = "91"  # D


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """
    A captured lead.

    :param customer_id: base64 of the decimal number (I).
    :param lead: its test_lead, None without one.
    :param url: join link of the capture reply.
    :param live_url: the customer's default join link.
    :param name: full name.
    :param phone: plus sign, country, mobile, as the schedule reply has it (D).
    :param raw: the body of the capture request; a tenth of the memory of the object it describes.
    """

    customer_id: str
    lead: str | None
    url: str
    live_url: str
    name: str = field(repr=False)
    phone: str = field(repr=False)
    raw: bytes = field(repr=False)

    def fields(self) -> dict[str, object]:
        """The capture request as received."""
        fields = json.loads(self.raw)
        assert isinstance(fields, dict)
        return fields

    @property
    def number(self) -> int:
        """The decimal number behind the customer_id (I)."""
        return int(base64.b64decode(self.customer_id))
