"""What stands around every page: who looks, which connection, and links that keep it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request

from airflow_provider_popin.plugins.page.access import Visitor, visitor
from airflow_provider_popin.plugins.page.formats import query
from airflow_provider_popin.plugins.page.ledgers import OpenLedger, ShownLedgers, TroubleError, connection_ids
from airflow_provider_popin.sync.ledger.ledger import Ledger

_FIRST_STEPS = (
    "Under Admin, Connections, create one of the type Popin: your seller token, your API key, and as "
    "Ledger connection the id of a SQLite or Postgres connection. Connections of a secrets backend are "
    "shown when the setting [popin] connections names them."
)
# What a query may ask a database for: SQLite takes no larger number, Postgres no text with a NUL.
RowId = Annotated[int, Query(ge=0, lt=2**62)]
Text = Annotated[str, Query(pattern=r"^[^\x00]*$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What stands around the content.

    :param visitor: who looks.
    :param root: path of the page's app.
    :param conn_ids: Popin connections to choose from.
    :param conn_id: the chosen one; None where there is none.
    """

    visitor: Visitor
    root: str
    conn_ids: list[str]
    conn_id: str | None

    def link(self, path: str = "", **parameters: object) -> str:
        """Return the URL of a page of ours, for the connection that is being looked at.

        :param path: below the root.
        :param parameters: of the query; empty ones are left out.
        """
        several = len(self.conn_ids) > 1
        return f"{self.root}/{path}{query(connection=self.conn_id if several else None, **parameters)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A request for a page about a ledger."""

    request: Request
    frame: Frame
    open: OpenLedger

    @property
    def ledger(self) -> Ledger:
        """The ledger that the page is about."""
        return self.open.ledger


def frame(
    request: Request, who: Annotated[Visitor, Depends(visitor)], connection: str | None = None
) -> Frame:
    """FastAPI dependency: the frame of a page; remembered, so that a message about trouble has it too.

    :param request: for its path.
    :param who: looks.
    :param connection: query parameter: which connection; by default the first.
    """
    conn_ids = connection_ids()
    chosen = connection if connection in conn_ids else next(iter(conn_ids), None)
    root = str(request.scope.get("root_path", ""))
    request.state.frame = Frame(visitor=who, root=root, conn_ids=conn_ids, conn_id=chosen)
    made: Frame = request.state.frame
    return made


def page(request: Request, around: Annotated[Frame, Depends(frame)], connection: str | None = None) -> Page:
    """FastAPI dependency: a page with its ledger open.

    :param request: for its app's ledgers.
    :param around: the frame.
    :param connection: query parameter, see :func:`frame`.
    :raises TroubleError: no such connection, or no ledger to read.
    """
    if around.conn_id is None:
        raise TroubleError("No Popin connection yet", _FIRST_STEPS, new=True)
    if connection is not None and connection != around.conn_id:
        # An old link must not end in an action on another account.
        raise TroubleError(f"There is no Popin connection {connection}", "Choose one of those above.")
    ledgers: ShownLedgers = request.app.state.ledgers
    opened = ledgers.open(around.conn_id)
    request.state.ledger_conn_id = opened.ledger_conn_id
    return Page(request=request, frame=around, open=opened)
