"""The "Join call" link of the operators."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

JOIN_URL_KEY = "popin_join_url"
"""XCom key under which an operator pushes the join URL, as soon as it knows it."""


class PopinJoinCallLink(BaseOperatorLink):
    """Button on a task instance that opens the customer's join page of the call.

    Airflow 2 asks :meth:`get_link` in the web server; Airflow 3 asks it in the worker when the task ends and
    keeps the answer under :attr:`xcom_key`. Both work for mapped tasks, each instance has its own link.
    """

    name = "Join call"

    @property
    def xcom_key(self) -> str:
        """The XCom key that holds the link; the operators push to the same one."""
        return JOIN_URL_KEY

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the join URL that the task instance pushed.

        :param operator: the operator; not used, all that counts is in the XCom.
        :param ti_key: which task instance, with its map index.
        :return: the URL, or an empty text as long as there is none.
        """
        url = XCom.get_value(ti_key=ti_key, key=JOIN_URL_KEY)
        return url if isinstance(url, str) and is_web_url(url) else ""


def is_web_url(url: str) -> bool:
    """Tell whether a URL may become a link in Airflow's pages: ``javascript:`` and the like may not.

    :param url: the URL as Popin or a Dag author gave it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)
