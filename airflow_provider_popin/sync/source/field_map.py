"""Which columns of a source give which field of a lead.

A target is one of :data:`TARGETS` or ``campaign.<key>``. It takes one column or a list of columns: ``name``
joins them, every other target takes the first usable value. ``lead_id`` and ``generation`` take one column
only, because a lead that changed its identity when a column is filled in later would be booked again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_popin.client.errors import PopinInputError

TARGETS = (
    "lead_id",
    "name",
    "mobile",
    "email",
    "country",
    "group",
    "agent",
    "pincode",
    "native",
    "earliest",
    "latest",
    "hours_from",
    "hours_to",
    "timezone",
    "priority",
    "generation",
    "customer_id",
)
CAMPAIGN = "campaign."
_ONE_COLUMN = ("lead_id", "generation")


@dataclass(frozen=True, slots=True)
class FieldMap:
    """A checked field map.

    :param columns: per target, in the order of :data:`TARGETS` and then of the campaign keys, its columns
    """

    columns: Mapping[str, tuple[str, ...]]

    @staticmethod
    def parse(setting: Mapping[str, str | Sequence[str]], *, steps: Collection[str]) -> FieldMap:
        """Check a field map as a Dag author writes it.

        :param setting: target to column, or to a list of columns
        :param steps: the steps of the sync; with ``capture``, ``name`` and ``mobile`` must be mapped unless
            ``customer_id`` is
        :raises PopinInputError: ``field_map_target`` (no such target), ``field_map_column`` (neither a column
            nor a list of columns), ``field_map_list`` (this target takes no list), ``field_map_missing`` (a
            target must be mapped)
        """
        if not isinstance(setting, Mapping):
            raise _error("must map targets to columns", "field_map_column")
        columns = {target: _columns(target, setting[target]) for target in _ordered(setting)}
        missing = _required(columns, steps) - columns.keys()
        if missing:
            raise _error(f"must map {_listing(missing)}", "field_map_missing")
        return FieldMap(columns)

    @staticmethod
    def of_same_names(names: Iterable[str], *, steps: Collection[str]) -> FieldMap:
        """The default: every column that has the name of a target gives that target.

        :param names: the columns of the source
        :param steps: as in :meth:`parse`
        :raises PopinInputError: ``column_missing``, with the names of all that must be there and are not
        """
        known = [name for name in names if _is_target(name)]
        columns = {target: (target,) for target in _ordered(known)}
        missing = _required(columns, steps) - columns.keys()
        if missing:
            raise _error(f"the source has no column {_listing(missing)}", "column_missing")
        return FieldMap(columns)

    def check(self, names: Iterable[str]) -> None:
        """Compare with the columns of a source.

        :param names: the columns of the source
        :raises PopinInputError: ``column_missing``, with the names of all mapped columns that are absent
        """
        absent = {column for columns in self.columns.values() for column in columns} - set(names)
        if absent:
            raise _error(f"the source has no column {_listing(absent)}", "column_missing")


def _error(reason: str, code: str) -> PopinInputError:
    return PopinInputError(reason, code=code, field="field_map")


def _is_target(name: object) -> bool:
    if not isinstance(name, str):
        return False
    return name in TARGETS or (name.startswith(CAMPAIGN) and bool(name[len(CAMPAIGN) :].strip()))


def _ordered(targets: Iterable[str]) -> list[str]:
    """The targets in a fixed order, since a fingerprint must not depend on how a Dag spells its map."""
    given = list(targets)
    unknown = [repr(target) for target in given if not _is_target(target)]
    if unknown:
        raise _error(
            f"has no target {', '.join(unknown)}; there are {', '.join(TARGETS)}, campaign.<key>",
            "field_map_target",
        )
    campaign = sorted(target for target in given if target.startswith(CAMPAIGN))
    return [target for target in TARGETS if target in given] + campaign


def _columns(target: str, given: object) -> tuple[str, ...]:
    columns = (given,) if isinstance(given, str) else given
    if not isinstance(columns, list | tuple) or not columns:
        raise _error(f"{target!r} takes a column or a list of columns", "field_map_column")
    if not all(isinstance(column, str) and column for column in columns):
        raise _error(f"{target!r} takes names of columns", "field_map_column")
    if len(columns) > 1 and target in _ONE_COLUMN:
        raise _error(f"{target!r} takes one column: it is the lead's identity", "field_map_list")
    return tuple(columns)


def _required(mapped: Collection[str], steps: Collection[str]) -> set[str]:
    if "capture" in steps and "customer_id" not in mapped:
        return {"lead_id", "name", "mobile"}
    return {"lead_id"}


def _listing(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
