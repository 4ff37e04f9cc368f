"""Operators for one lead: capture it, and book a call for it. ``expand_kwargs`` maps them over many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from airflow_provider_popin.client.errors import PopinError, PopinOutcomeUnknownError
from airflow_provider_popin.hooks.masking import mask_in_logs
from airflow_provider_popin.hooks.popin import PopinHook
from airflow_provider_popin.links.popin import JOIN_URL_KEY, PopinJoinCallLink, is_web_url
from airflow_provider_popin.operators._text_templates import TextTemplates
from airflow_provider_popin.operators.booking import (
    Booked,
    LedgerLead,
    Wish,
    book_with_intent,
    book_with_ledger,
)
from airflow_provider_popin.operators.failures import task_error
from airflow_provider_popin.operators.personal import hide, reveal
from airflow_provider_popin.operators.templated import (
    argument_error,
    given,
    optional_mapping,
    optional_text,
    required_text,
    required_time,
)
from airflow_provider_popin.sync.source.source_name import check_source

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_provider_popin.client.models import Lead


# So that `capture.output["customer_id"]` works in a Dag file, beside the whole return value.
_KEYS_AS_OUTPUTS: Final[dict[str, Any]] = {"multiple_outputs": True}


class PopinCaptureOperator(TextTemplates, BaseOperator):
    """Register a lead with Popin; returns ``{"customer_id": ..., "url": ...}``, and shows a "Join call" link.

    Store the customer id: Popin has no way to read it back. A lost answer is followed by one more request,
    which may make a second customer; then the task fails without a retry.

    Rendered name, mobile, email and pincode show as ``***`` in Airflow's pages and are masked in logs (there,
    those of five characters or more). What a Dag file itself spells out can be read in the file.

    All arguments are templated; text does for each of them, and ``"None"`` or empty text for an absent one.
    Templates give text even in a Dag that renders native objects, except one that gives all of ``campaign``.

    :param name: full name.
    :param mobile: phone number in any usual notation.
    :param email: the lead's e-mail address. Airflow's own argument of this name, the address for alerts,
        still works in ``default_args`` and cannot be given here.
    :param country: ISO country (``IN``) or calling code (``91``, ``+91``); without one and without the
        connection's ``default_region`` a number must begin with ``+``.
    :param group: routing group of the Popin dashboard.
    :param agent: number of the agent who gets the call.
    :param pincode: postal code.
    :param native: False: the join URL is the one set in the dashboard. Popin's default is True.
    :param campaign: free keys for tracking, a mapping or a JSON object; not masked, so no place for personal
        data.
    :param popin_conn_id: id of a connection of type ``popin``.
    """

    template_fields: Sequence[str] = (
        "name",
        "mobile",
        "lead_email",
        "country",
        "group",
        "agent",
        "pincode",
        "native",
        "campaign",
        "popin_conn_id",
    )
    operator_extra_links = (PopinJoinCallLink(),)
    personal_fields: ClassVar[frozenset[str]] = frozenset({"name", "mobile", "lead_email", "pincode"})

    def __init__(
        self,
        *,
        name: str,
        mobile: str,
        country: str | None = None,
        group: str | None = None,
        agent: int | str | None = None,
        pincode: str | None = None,
        native: bool | str | None = None,
        campaign: Mapping[str, object] | str | None = None,
        popin_conn_id: str = PopinHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        # Taken from kwargs, for a named parameter would be filled from default_args["email"], and every lead
        # would be captured with the address of the data team; as self.email Airflow would send failure alerts
        # to the lead.
        self.lead_email = kwargs.pop("email", None)
        super().__init__(**_KEYS_AS_OUTPUTS | kwargs)
        self.name = name
        self.mobile = mobile
        self.country = country
        self.group = group
        self.agent = agent
        self.pincode = pincode
        self.native = native
        self.campaign = campaign
        self.popin_conn_id = popin_conn_id

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Return the mapped form of the operator, for ``expand`` and ``expand_kwargs``.

        :param kwargs: arguments that all mapped tasks share.
        """
        made: OperatorPartial = super().partial(**kwargs)
        if "email" not in kwargs:
            # Airflow 2 puts None here and all of them default_args["email"], which then could not be mapped.
            made.kwargs.pop("email", None)
        return made

    @property
    def hook(self) -> PopinHook:
        """A hook for the connection."""
        return PopinHook(popin_conn_id=self.popin_conn_id)

    def execute(self, context: Context) -> dict[str, str | None]:
        """Capture the lead.

        :param context: the task's context.
        :return: customer id and join URL; the URL is None if Popin's answer had none.
        """
        _push_join_url(context, "")
        try:
            with self.hook as hook:
                lead = self._lead(default_region=hook.config.default_region)
                # The forms that are sent differ from those in the fields, and Popin's error texts may echo
                # them.
                mask_in_logs(lead.personal_values())
                customer = hook.client.capture(lead)
        except PopinOutcomeUnknownError as error:
            hint = "Popin may hold this lead, once or twice; a clear of the task sends it again"
            raise task_error(error, conn_id=self.popin_conn_id, hint=hint) from error
        except PopinError as error:
            raise task_error(error, conn_id=self.popin_conn_id) from error
        if customer.url is None:
            self.log.warning("Popin's answer for customer %s has no join URL", customer.customer_id)
        _push_join_url(context, customer.url)
        self.log.info("Captured as customer %s", customer.customer_id)
        if customer.url is None and self.multiple_outputs and not AIRFLOW_V_3_1_PLUS:
            # Airflow 3.0 fails a task that pushes None under a key of its own; a retry would capture again.
            self.multiple_outputs = False
            context["ti"].xcom_push(key="customer_id", value=customer.customer_id)
        return {"customer_id": customer.customer_id, "url": customer.url}

    def _lead(self, *, default_region: str | None) -> Lead:
        from airflow_provider_popin.client.leads import make_lead

        return make_lead(
            name=given(reveal(self.name)),
            mobile=given(reveal(self.mobile)),
            email=given(reveal(self.lead_email)),
            country=given(self.country),
            group=given(self.group),
            agent=given(self.agent),
            pincode=given(reveal(self.pincode)),
            native=given(self.native),
            campaign=optional_mapping(self.campaign, "campaign"),
            default_region=default_region,
        )

    def renders_as_text(self, field: str) -> bool:
        """Whether the templates of this field give text: a whole mapping may come from one template.

        :param field: one of ``template_fields``
        """
        return field != "campaign" or not isinstance(self.campaign, str)

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], *args: Any, **kwargs: Any
    ) -> None:
        # The one place that Airflow goes through for plain and for mapped tasks, before it stores the
        # rendered fields.
        super()._do_render_template_fields(parent, template_fields, *args, **kwargs)
        if parent is self:
            for field in self.personal_fields:
                setattr(self, field, hide(getattr(self, field)))


class PopinScheduleOperator(TextTemplates, BaseOperator):
    """Book a call; returns ``{"time": ISO 8601, "timezone": IANA name, "slot": Popin's string}``.

    Popin's request for it has no key that would make a repetition harmless, and no booking can be looked up.
    So:

    - With a ledger, a lead is not booked twice by this operator or by ``PopinLeadSyncOperator``: not by a
      retry, a clear, another Dag run or a second Dag. ``source`` and ``lead_id`` say who the lead is.
    - Without one, only retries are covered. On Airflow 3.3 and newer a try that finds the intent of an
      earlier one fails and sends nothing; before 3.3 only a first try sends.

    When the answer gets lost the task fails without a retry, and says how to find out what happened.

    All arguments but ``source`` are templated; text does for each of them, and ``"None"`` or empty text for
    an absent one. Templates give text even in a Dag that renders native objects.

    :param customer_id: from ``PopinCaptureOperator``.
    :param time: Popin's own string (``Thu, 25 Sep 2025 03:15 PM``, as the sensor returns it), which is sent
        as it is; or an aware datetime or ISO 8601 text with an offset, which is converted to the seller's
        timezone.
    :param agent: number of the agent who gets the call.
    :param native: False: the customer gets ``url``, or the URL of the dashboard profile.
    :param url: join URL; only considered by Popin when ``native`` is False, and then the "Join call" link.
    :param ledger_conn_id: id of the connection that holds the ledger; default: the one that the Popin
        connection names, if it does.
    :param source: where the lead comes from, part of its identity, and as such a literal; required with a
        ledger, an error without one.
    :param lead_id: the lead's id there; required with a ledger, an error without one.
    :param popin_conn_id: id of a connection of type ``popin``.
    :raises PopinInputError: when the Dag is parsed: the source cannot be one.
    """

    template_fields: Sequence[str] = (
        "customer_id",
        "time",
        "agent",
        "native",
        "url",
        "ledger_conn_id",
        "lead_id",
        "popin_conn_id",
    )
    operator_extra_links = (PopinJoinCallLink(),)

    def __init__(
        self,
        *,
        customer_id: str,
        time: str | datetime,
        agent: int | str | None = None,
        native: bool | str | None = None,
        url: str | None = None,
        ledger_conn_id: str | None = None,
        source: str | None = None,
        lead_id: str | None = None,
        popin_conn_id: str = PopinHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**_KEYS_AS_OUTPUTS | kwargs)
        if source is not None:
            check_source(source)
        self.customer_id = customer_id
        self.time = time
        self.agent = agent
        self.native = native
        self.url = url
        self.ledger_conn_id = ledger_conn_id
        self.source = source
        self.lead_id = lead_id
        self.popin_conn_id = popin_conn_id

    @property
    def hook(self) -> PopinHook:
        """A hook for the connection."""
        return PopinHook(popin_conn_id=self.popin_conn_id)

    def execute(self, context: Context) -> dict[str, str]:
        """Book the call.

        :param context: the task's context.
        :return: the start in UTC, the seller's timezone, and Popin's string for the slot.
        """
        _push_join_url(context, "")
        lead: LedgerLead | None = None
        try:
            with self.hook as hook:
                lead = self._ledger_lead(hook)
                if lead is not None:
                    booked = book_with_ledger(hook, self._wish(), lead, context)
                else:
                    booked = book_with_intent(hook, self._wish(), context)
        except PopinOutcomeUnknownError as error:
            hint = f"The call of customer {self.customer_id!r} may be booked: look into Popin's dashboard"
            if lead is not None:
                hint += f", then say so with {lead.resolve_command}"
            raise task_error(error, conn_id=self.popin_conn_id, hint=hint) from error
        except PopinError as error:
            raise task_error(error, conn_id=self.popin_conn_id) from error
        self._check(booked)
        # Popin's answer has no join URL; it is known only where the Dag author gave it.
        _push_join_url(context, booked.wish.url if booked.wish.native is False else None)
        slot = booked.slot
        self.log.info("Booked customer %s at %s (%s)", booked.wish.customer_id, slot.time, booked.timezone)
        return {"time": slot.start.isoformat(), "timezone": booked.timezone, "slot": slot.time}

    def _ledger_lead(self, hook: PopinHook) -> LedgerLead | None:
        from airflow_provider_popin.sync.source.cells import clean_lead_id

        ledger_conn_id = optional_text(self.ledger_conn_id, "ledger_conn_id") or hook.ledger_conn_id
        source, lead_id = optional_text(self.source, "source"), given(self.lead_id)
        if ledger_conn_id is None:
            if source is not None or lead_id is not None:
                # Whoever says which lead it is counts on the ledger's promise.
                problem = "is missing, and the Popin connection names no ledger; source and lead_id need one"
                raise argument_error("ledger_conn_id", problem)
            return None
        if source is None or lead_id is None:
            missing = "source" if source is None else "lead_id"
            raise argument_error(missing, f"is missing; the ledger {ledger_conn_id!r} needs it")
        return LedgerLead(ledger_conn_id, source, clean_lead_id(lead_id))

    def _wish(self) -> Wish:
        from airflow_provider_popin.client.leads import clean_agent, clean_native
        from airflow_provider_popin.sync.source.cells import clean_customer_id

        customer_id = clean_customer_id(required_text(self.customer_id, "customer_id"))
        assert customer_id is not None
        return Wish(
            customer_id=customer_id,
            time=required_time(self.time, "time"),
            agent=clean_agent(given(self.agent)),
            native=clean_native(given(self.native)),
            url=optional_text(self.url, "url"),
        )

    def _check(self, booked: Booked) -> None:
        """Compare what Popin confirmed with what was asked for."""
        if booked.other_time is not None:
            raise AirflowFailException(
                f"connection {self.popin_conn_id!r}: the call of customer {booked.wish.customer_id!r} is"
                f" booked, but Popin confirmed {booked.other_time} where {booked.slot.time!r}"
                f" ({booked.timezone}) was asked for. Look into Popin's dashboard"
            )
        if booked.is_incomplete:
            self.log.warning("Popin's confirmation of the call lacks documented parts or a readable time")


def _push_join_url(context: Context, url: str | None) -> None:
    """Push the URL for the "Join call" link.

    :param url: None changes nothing; empty says that there is none, so far: Airflow 3 asks for it when a task
        ends, and logs a missing one as an error.
    """
    # Whoever calls `execute({})` in a test of his Dag wants no KeyError after the request.
    if "ti" in context and url is not None and (not url or is_web_url(url)):
        context["ti"].xcom_push(key=JOIN_URL_KEY, value=url)
