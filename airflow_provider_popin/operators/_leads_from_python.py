"""Leads that Python hands over: a sequence, the output of another task, or a function to call in the task."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, cast

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_popin.operators.templated import argument_error, is_reference
from airflow_provider_popin.sync.source.unreadable import Unreadable, UnreadableRow

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    Leads: TypeAlias = (
        Sequence[Mapping[str, object]] | XComArg | Callable[[Context], Iterable[Mapping[str, object]]]
    )


def check_leads(leads: Leads | None, *, watermark: bool) -> None:
    """Refuse, when the Dag is parsed, what can never be gone through as leads.

    :param leads: the operator's argument.
    :param watermark: whether a function is given the watermark.
    :raises PopinInputError: it is no sequence of rows, no output of a task and no function of the context.
    """
    if leads is None or is_reference(leads):
        return
    if callable(leads):
        _check_signature(leads, {"watermark": None} if watermark else {})
        return
    if isinstance(leads, (list, tuple)) and any(map(is_reference, leads)):
        raise argument_error(
            "leads", "must be the output of one task that returns rows, not a list of outputs"
        )
    if not _may_give_rows(leads):
        raise argument_error(
            "leads",
            "must be a sequence of mappings, the output of another task or a function, "
            f"not {type(leads).__name__}; a file is given as path, and text here is no template",
        )


def _check_signature(function: Callable[..., object], named: Mapping[str, object]) -> None:
    """A function that does not take the watermark would read everything, and nobody would notice."""
    try:
        inspect.signature(function).bind(None, **named)
    except TypeError:
        call = "with a watermark_column, as leads(context, watermark=...)" if named else "as leads(context)"
        raise argument_error("leads", f"is called {call}, which this function does not bear") from None
    except ValueError:
        return  # a built-in without a signature: the call will tell


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
    if not _may_give_rows(rows):
        raise AirflowFailException(
            f"leads must give mappings, one for each lead, not {type(rows).__name__}. "
            "For a DataFrame: its to_dict('records'), of polars its to_dicts(). "
            "For an XComArg: does the task before this one return a list, and is it upstream of this one?"
        )
    # Copied: rows are read in chunks, and a function may fill one dict again and again.
    return (
        dict(row) if isinstance(row, Mapping) else UnreadableRow(Unreadable.NOT_A_MAPPING) for row in rows
    )


def _read_later(
    leads: Leads, context: Context, read_from: Callable[[], object]
) -> Generator[Mapping[str, object]]:
    """Where to read from is known only when the ledger is open."""
    assert callable(leads)
    function: Callable[..., Iterable[Mapping[str, object]]] = leads
    yield from leads_from_python(lambda context: function(context, watermark=read_from()), context)


def _resolve(leads: Leads, context: Context) -> object:
    if is_reference(leads):
        rows: object = cast("XComArg", leads).resolve(context)
        return _fetched_singly(rows) if _is_lazy(rows) else rows
    return leads(context) if callable(leads) else leads


def _may_give_rows(value: object) -> TypeGuard[Iterable[object]]:
    """Whether this can be gone through row by row. A frame of pandas or polars gives its columns instead."""
    is_frame = hasattr(value, "columns") and hasattr(value, "to_dict")
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)) and not is_frame


def _is_lazy(rows: object) -> TypeGuard[Sequence[object]]:
    """Whether items are read from Airflow's database as they are asked for: the output of a mapped task."""
    return isinstance(rows, Sequence) and not isinstance(rows, (list, tuple, str, bytes))


def _fetched_singly(rows: Sequence[object]) -> Iterator[object]:
    """Go by index: an iterator of Airflow 2 keeps a transaction of its database open until the last lead."""
    for index in range(len(rows)):
        yield rows[index]
