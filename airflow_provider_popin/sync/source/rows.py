"""Source rows to leads: a row that can be used becomes a :class:`LeadRow`, any other a :class:`BadRow`.

No row raises anything: whatever a cell holds, the outcome is one of the two, and no reason holds a value of
the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from functools import partial

from airflow_provider_popin.client import leads
from airflow_provider_popin.client.errors import PopinInputError
from airflow_provider_popin.client.models import Lead
from airflow_provider_popin.client.scalars import is_missing
from airflow_provider_popin.client.windows import check_order
from airflow_provider_popin.sync.source import cells
from airflow_provider_popin.sync.source.booking_wish import BookingWish
from airflow_provider_popin.sync.source.field_map import CAMPAIGN, FieldMap
from airflow_provider_popin.sync.source.fingerprints import Fingerprinter

# What makes a value of several columns usable. Of other targets, the first value that is not empty counts.
_CLEAN: Mapping[str, Callable[[object], object]] = {
    "email": leads.clean_email,
    "group": leads.clean_group,
    "agent": leads.clean_agent,
    "pincode": leads.clean_pincode,
    "native": leads.clean_native,
    "earliest": partial(cells.clean_instant, field="earliest"),
    "latest": partial(cells.clean_instant, field="latest"),
    "hours_from": partial(cells.clean_hour, field="hours_from"),
    "hours_to": partial(cells.clean_hour, field="hours_to"),
    "timezone": cells.clean_timezone,
    "priority": cells.clean_priority,
    "customer_id": cells.clean_customer_id,
}
_LEAD_OPTIONS = ("email", "country", "group", "agent", "pincode", "native")
_WISH_TARGETS = ("earliest", "latest", "hours_from", "hours_to", "timezone", "priority", "agent", "native")
_PHONE_FIELDS = ("mobile", "country")

_Values = Mapping[str, tuple[object, ...]]
_Hours = tuple[time, time] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadRow:
    """A row that can be used.

    :param lead_id: the lead's identity in its source, at most 255 characters
    :param generation: 1 or more
    :param lead: what to capture; None if the row brings a customer_id, or if nothing is captured in this sync
    :param customer_id: from the row, None if it brings none
    :param wish: when and with whom the call is wanted
    :param fingerprint: of the mapped values
    :param phone_column: the source column that the phone number was taken from
    """

    lead_id: str
    generation: int
    lead: Lead | None
    customer_id: str | None
    wish: BookingWish
    fingerprint: str
    phone_column: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that cannot be used.

    :param lead_id: None if the row has no usable identity
    :param generation: None if that is what is unusable, or if there is no lead_id
    :param reason: code, such as ``phone_letters``
    :param field: the target of the field map that is to blame
    :param fingerprint: of the mapped values
    """

    lead_id: str | None
    generation: int | None
    reason: str
    field: str | None
    fingerprint: str


class RowReader:
    """Reads the rows of one source.

    Limits of the operator and of a row hold together for instants: the later ``earliest``, the earlier
    ``latest``. Hours of a row replace those of the operator, because they are told in the lead's own day;
    without hours of its own, a row's timezone says where the operator's hours are told. A window that is
    empty only because of the operator's limits is no fault of the row: such a lead finds no slot, and is
    planned again by the next run.

    :param field_map: target to column or list of columns; None: columns of the same name as a target
    :param steps: of the sync; leads are read for ``capture`` only
    :param default_region: ISO alpha-2 region for numbers without a country
    :param drop_phone_extension: drop the extension of a phone number instead of refusing it
    :param fingerprint_key: secret key of the fingerprints
    :param earliest: the operator's first instant: aware datetime or ISO 8601 text with an offset
    :param latest: the operator's last instant, excluded
    :param hours: the operator's local times of day, from and to: ``("10:00", "18:30")`` or times
    :raises PopinInputError: the field map or a limit is unusable
    """

    def __init__(
        self,
        *,
        field_map: Mapping[str, str | Sequence[str]] | None,
        steps: Collection[str],
        default_region: str | None,
        drop_phone_extension: bool,
        fingerprint_key: bytes,
        earliest: datetime | str | None = None,
        latest: datetime | str | None = None,
        hours: tuple[time | str, time | str] | None = None,
    ) -> None:
        self._steps = tuple(steps)
        self._default_region = default_region
        self._drop_phone_extension = drop_phone_extension
        self._fingerprint_key = fingerprint_key
        self._earliest = cells.clean_instant(earliest, "earliest")
        self._latest = cells.clean_instant(latest, "latest")
        self._hours = _operator_hours(hours)
        self._no_wish = self._combined()
        self._map: FieldMap | None = None
        self._targets: tuple[tuple[str, tuple[str, ...]], ...] = ()
        self._campaign: tuple[str, ...] = ()
        self._lead_options: tuple[str, ...] = ()
        self._phone_columns: tuple[str, ...] = ()
        self._captures = self._wishes = False
        if field_map is not None:
            self._use(FieldMap.parse(field_map, steps=self._steps))

    def check_columns(self, columns: Iterable[str]) -> None:
        """Compare the field map with the columns of the source, before anything is sent.

        :param columns: all columns of the source
        :raises PopinInputError: ``column_missing``, with the names of all that are absent
        """
        if self._map is None:
            self._use(FieldMap.of_same_names(columns, steps=self._steps))
        else:
            self._map.check(columns)

    def read(self, row: Mapping[str, object]) -> LeadRow | BadRow:
        """Read one row. A column that this row lacks is an empty cell.

        Without a field map, the columns are those of :meth:`check_columns`, or else of the first row.

        :param row: column to cell
        :raises PopinInputError: as :meth:`check_columns`, where that was not called before
        """
        if self._map is None:
            self.check_columns(row)
        values = {
            target: tuple([cells.plain_cell(row.get(column)) for column in columns])
            for target, columns in self._targets
        }
        lead_id = generation = None
        try:
            lead_id = cells.clean_lead_id(values["lead_id"][0])
            generation = cells.clean_generation(_pick(values, "generation"))
            _refuse_long_text(values)
            return self._lead_row(values, lead_id, generation)
        except PopinInputError as error:
            return BadRow(
                lead_id=lead_id,
                generation=generation,
                reason=error.code,
                field=error.field,
                fingerprint=self._fingerprint(values, lead_id),
            )

    def _use(self, field_map: FieldMap) -> None:
        self._map = field_map
        self._targets = tuple(field_map.columns.items())
        self._campaign = tuple(target for target in field_map.columns if target.startswith(CAMPAIGN))
        self._lead_options = tuple(target for target in _LEAD_OPTIONS if target in field_map.columns)
        self._phone_columns = field_map.columns.get("mobile", ())
        self._captures = "capture" in self._steps and {"name", "mobile"} <= field_map.columns.keys()
        self._wishes = any(target in field_map.columns for target in _WISH_TARGETS)
        self._fingerprinter = Fingerprinter(
            key=self._fingerprint_key,
            settings=[
                [[target, len(columns)] for target, columns in self._targets],
                self._default_region,
                self._drop_phone_extension,
            ],
        )

    def _fingerprint(self, values: _Values, lead_id: str | None) -> str:
        own = [cell for target, offered in values.items() if target != "lead_id" for cell in offered]
        return self._fingerprinter.fingerprint((lead_id or values["lead_id"][0], *own))

    def _lead_row(self, values: _Values, lead_id: str, generation: int) -> LeadRow:
        customer_id = cells.clean_customer_id(_pick(values, "customer_id"))
        lead = phone_column = None
        if customer_id is None and self._captures:
            lead, phone_column = self._lead(values)
        elif customer_id is None and "capture" in self._steps:
            raise PopinInputError("is missing", code="customer_id_missing", field="customer_id")
        return LeadRow(
            lead_id=lead_id,
            generation=generation,
            lead=lead,
            customer_id=customer_id,
            wish=self._wish(values) if self._wishes else self._no_wish,
            fingerprint=self._fingerprint(values, lead_id),
            phone_column=phone_column,
        )

    def _lead(self, values: _Values) -> tuple[Lead, str]:
        """The lead and the column of its phone number: the first with a valid one."""
        make = partial(
            leads.make_lead,
            name=_joined(values["name"]),
            campaign={target[len(CAMPAIGN) :]: _pick(values, target) for target in self._campaign},
            default_region=self._default_region,
            drop_phone_extension=self._drop_phone_extension,
            **{target: _pick(values, target) for target in self._lead_options},
        )
        refused = PopinInputError("is missing", code="phone_missing", field="mobile")
        offered = zip(values["mobile"], self._phone_columns, strict=True)
        numbers = [(cell, column) for cell, column in offered if not is_missing(cell)]
        for index, (cell, column) in enumerate(numbers):
            try:
                return make(mobile=cell), column
            except PopinInputError as error:
                if error.field not in _PHONE_FIELDS:
                    raise
                if index == 0:
                    refused = error
        raise refused

    def _wish(self, values: _Values) -> BookingWish:
        earliest = cells.clean_instant(_pick(values, "earliest"), "earliest")
        latest = cells.clean_instant(_pick(values, "latest"), "latest")
        check_order(earliest, latest)
        return self._combined(
            earliest=earliest,
            latest=latest,
            hours=_pair(_pick(values, "hours_from"), _pick(values, "hours_to")),
            timezone=cells.clean_timezone(_pick(values, "timezone")),
            priority=cells.clean_priority(_pick(values, "priority")) or 0,
            agent=leads.clean_agent(_pick(values, "agent")),
            native=leads.clean_native(_pick(values, "native")),
        )

    def _combined(
        self,
        *,
        earliest: datetime | None = None,
        latest: datetime | None = None,
        hours: _Hours = None,
        timezone: str | None = None,
        priority: int = 0,
        agent: int | None = None,
        native: bool | None = None,
    ) -> BookingWish:
        """The wish of a row within the operator's limits."""
        hours_from, hours_to = hours or self._hours or (None, None)
        return BookingWish(
            earliest=max((limit for limit in (earliest, self._earliest) if limit is not None), default=None),
            latest=min((limit for limit in (latest, self._latest) if limit is not None), default=None),
            hours_from=hours_from,
            hours_to=hours_to,
            timezone=timezone,
            priority=priority,
            agent=agent,
            native=native,
        )


def _pick(values: _Values, target: str) -> object:
    """The cell of a target: of several, the first that is usable, or else the first that is not empty."""
    offered = values.get(target)
    if offered is None:
        return None
    if len(offered) == 1:
        return offered[0]
    present = [cell for cell in offered if not is_missing(cell)]
    clean = _CLEAN.get(target)
    usable = (cell for cell in present if clean is None or _accepts(clean, cell))
    return next(usable, present[0] if present else None)


def _accepts(clean: Callable[[object], object], cell: object) -> bool:
    try:
        clean(cell)
    except PopinInputError:
        return False
    return True


def _joined(offered: tuple[object, ...]) -> object:
    """The parts of a name as one; a part that is no text stands for the whole, and is refused as such."""
    if len(offered) == 1:
        return offered[0]
    parts = [cell for cell in offered if not is_missing(cell)]
    texts = [part.strip() for part in parts if isinstance(part, str)]
    if len(texts) < len(parts):
        return next(part for part in parts if not isinstance(part, str))
    return " ".join(texts)


def _pair(first: object, second: object) -> _Hours:
    hours_from, hours_to = cells.clean_hour(first, "hours_from"), cells.clean_hour(second, "hours_to")
    if hours_from is not None and hours_to is not None:
        return hours_from, hours_to
    if hours_from is None and hours_to is None:
        return None
    missing = "hours_from" if hours_from is None else "hours_to"
    raise PopinInputError("is missing beside the other", code="hours_incomplete", field=missing)


def _operator_hours(hours: object) -> _Hours:
    if hours is None:
        return None
    if not isinstance(hours, list | tuple) or len(hours) != 2:
        raise PopinInputError("must be two times of day", code="hours_invalid", field="hours")
    return _pair(*hours)


def _refuse_long_text(values: _Values) -> None:
    for target, offered in values.items():
        for cell in offered:
            if isinstance(cell, str) and len(cell) > cells.MAX_TEXT:
                raise PopinInputError(
                    f"is longer than {cells.MAX_TEXT} characters", code="text_too_long", field=target
                )
