"""The page "Popin" in Airflow's navigation (Airflow 3.1 and newer).

===============  =======================================================================
``app``          the FastAPI app: routes, who gets in, headers, errors told in a sentence
``frame``        what stands around every page: the visitor, the connection, links
``access``       who is asking, and what they may do
``forgery``      tokens and origins: an action must come from this very page
``ledgers``      which connections there are, and the ledger behind each
``overview``     what the first page shows
``lists``        the longer lists, page by page, and one lead's history
``actions``      resolve, dismiss, clear: shown, confirmed, done, recorded with the user's name
``formats``      how numbers, times and codes are written
``telling``      the ledger's codes as sentences
``rendering``    templates
``templates/``   Jinja2; every text is escaped
``static/``      one style sheet, two small scripts, and Chart.js as its authors publish it
===============  =======================================================================

The page works without scripts; they draw the charts, from the tables that stand beside them, and follow the
theme of Airflow's UI. Importing this package imports nothing: Airflow loads plugins in every process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

URL_PREFIX = "/popin/page"

# `href` is relative, for Airflow may live below a path of its own. `url_route` has it shown within Airflow's
# own frame, under /plugin/popin.
EXTERNAL_VIEWS: list[dict[str, str]] = [
    {
        "name": "Popin",
        "href": "popin/page/",
        "destination": "nav",
        "url_route": "popin",
    }
]


def create_page_app() -> FastAPI:
    """Return a new FastAPI app, to be mounted at :data:`URL_PREFIX`."""
    from airflow_provider_popin.plugins.page.app import create_app

    return create_app()
