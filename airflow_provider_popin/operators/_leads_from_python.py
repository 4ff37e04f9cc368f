"""Leads that Python hands over: a sequence, the output of another task, or a function to call in the task."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from airflow.providers.common.compat.sdk import AirflowFailException, XComArg

from airflow_provider_popin.sync.source.unreadable import Unreadable, UnreadableRow

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    Leads: TypeAlias = (
        Sequence[Mapping[str, object]] | XComArg | Callable[[Context], Iterable[Mapping[str, object]]]
    )


def leads_from_python(
    leads: Leads, context: Context, read_from: Callable[[], object] | None = None
) -> Generator[Mapping[str, object]]:
    """Yield the rows; what is no mapping becomes an :class:`UnreadableRow`.

    :param leads: the operator's argument. An XComArg is resolved now; of a mapped task's output, which may be
        large, one item is fetched at a time.
    :param context: of the running task.
    :param read_from: gives the ``watermark`` of a function when the first row is asked for.
    :raises AirflowFailException: there are no rows to go through; the message names types, never values.
    """
    if read_from is not None:
        return _read_later(leads, context, read_from)
    rows = _resolve(leads, context)
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable) or _is_frame(rows):
        raise AirflowFailException(
            f"leads must give mappings, one for each lead, not {type(rows).__name__}. "
            "For a DataFrame: its to_dict('records'), of polars its to_dicts(). "
            "For an XComArg: does the task before this one return a list, and is it upstream of this one?"
        )
    return (row if isinstance(row, Mapping) else UnreadableRow(Unreadable.NOT_A_MAPPING) for row in rows)


def _read_later(
    leads: Leads, context: Context, read_from: Callable[[], object]
) -> Generator[Mapping[str, object]]:
    """Where to read from is known only when the ledger is open."""
    assert callable(leads)
    function: Callable[..., Iterable[Mapping[str, object]]] = leads
    yield from leads_from_python(lambda context: function(context, watermark=read_from()), context)


def _resolve(leads: Leads, context: Context) -> object:
    if isinstance(leads, XComArg):
        rows: object = leads.resolve(context)
        return _fetched_singly(rows) if _is_lazy(rows) else rows
    return leads(context) if callable(leads) else leads


def _is_frame(rows: object) -> bool:
    """Whether this is a table of pandas or polars, which gives its columns and not its rows."""
    return hasattr(rows, "columns") and hasattr(rows, "to_dict")


def _is_lazy(rows: object) -> TypeGuard[Sequence[object]]:
    """Whether items are read from Airflow's database as they are asked for: the output of a mapped task."""
    return isinstance(rows, Sequence) and not isinstance(rows, (list, tuple, str, bytes))


def _fetched_singly(rows: Sequence[object]) -> Iterator[object]:
    """Go by index: an iterator of Airflow 2 keeps a transaction of its database open until the last lead."""
    for index in range(len(rows)):
        yield rows[index]
