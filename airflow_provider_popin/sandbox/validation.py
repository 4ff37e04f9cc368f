"""Which requests the sandbox accepts, field by field.

The types are those of Popin's samples (D). That Popin is as strict is I; strictness is what finds a
careless client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

Errors = dict[str, list[str]]


class Rule(NamedTuple):
    """
    What one field must be.

    :param field: its name.
    :param required: whether it must be there; null and empty text count as absent.
    :param accepts: whether a value that is there will do.
    :param message: the refusal.
    """

    field: str
    required: bool
    accepts: Callable[[object], bool]
    message: str


def find_errors(fields: Mapping[str, object], rules: tuple[Rule, ...]) -> Errors:
    """
    Check a request; fields without a rule are ignored.

    :param fields: the JSON object of the request.
    :param rules: the endpoint's rules.
    :return: messages by field, as the `errors` map of a 422 has them (P, by analogy); empty when all is well.
    """
    errors: Errors = {}
    for rule in rules:
        value = fields.get(rule.field)
        if value is None or value == "":
            if rule.required:
                errors[rule.field] = [f"The {rule.field.replace('_', ' ')} field is required."]
        elif not rule.accepts(value):
            errors[rule.field] = [rule.message]
    return errors


def _matching(pattern: str) -> Callable[[object], bool]:
    compiled = re.compile(pattern)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not value.isspace()


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_boolean(value: object) -> bool:
    return isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


AGENT = Rule("agent", False, _is_integer, "The agent must be an integer.")
NATIVE = Rule("native", False, _is_boolean, "The native field must be true or false.")
CAPTURE_RULES = (
    Rule("name", True, _is_text, "The name must be a string."),
    Rule("mobile", True, _matching(r"[0-9]{4,15}"), "Invalid phone number"),
    Rule("email", False, _matching(r"[^@\s]+@[^@\s]+"), "The email must be a valid email address."),
    Rule("group", False, _is_text, "The group must be a string."),
    Rule("pincode", False, _is_text, "The pincode must be a string."),
    Rule("pin_code", False, _is_text, "The pin code must be a string."),
    Rule("country", False, _matching(r"[1-9][0-9]{0,2}"), "The country must be a calling code."),
    AGENT,
    NATIVE,
    Rule("campaign", False, _is_object, "The campaign must be an object."),
)
SCHEDULE_RULES = (
    Rule("customer_id", True, _is_text, "The customer id must be a string."),
    Rule("time", True, _is_text, "The time must be a string."),
    AGENT,
    NATIVE,
    Rule("url", False, _matching(r"https?://\S+"), "The url format is invalid."),
)
