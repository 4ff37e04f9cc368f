"""The page in a real Chromium: charts, actions, keyboard, phone, dark mode, Airflow's own frame."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.page_ledger import add_sources
from tests.plugins.page_site import DOUBT, FUNNEL, Site, numbers_in
from tests.plugins.test_page_access import CLEAR, DISMISS, RESOLVE, form, fresh_token
from tests.sync.ledgers import SOURCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    Opener = Callable[..., Page]

ALL_PAGES = (
    "", "?days=90", "doubts", "alarms", "unmatched", "unmatched?strangers=1", "runs", "lead", "nothing",
    "lead?lead_id=L-alarm", f"lead?lead_id={DOUBT}", RESOLVE, CLEAR, DISMISS,
)  # fmt: skip


@pytest.fixture
def open_page(chromium: Browser, site: Site) -> Iterator[Opener]:
    """Return ``open_page(path, role=, **context options) -> Page``; what the browser complains of fails."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(
        path: str = "", *, role: str | None = "admin", name: str = "Ada Admin", **options: Any
    ) -> Page:
        context = chromium.new_context(**options)
        context.set_default_timeout(60_000)
        contexts.append(context)
        if role is not None:
            cookie: Any = {"name": "_token", "value": site.token(role, name), "url": site.airflow}
            context.add_cookies([cookie])
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None
        )
        page.goto(site.url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def charted(page: Page, table: str) -> dict[str, int]:
    """Return the sums that a chart draws, by series; of the chart beside a table."""
    found: dict[str, int] = page.evaluate(
        """(id) => {
            const canvas = document.getElementById(id).closest("figure").querySelector("canvas");
            const sums = {};
            for (const set of Chart.getChart(canvas).data.datasets)
                sums[set.label] = set.data.reduce((a, b) => a + b, 0);
            return sums;
        }""",
        table,
    )
    return found


def test_the_numbers_are_the_ledgers(open_page: Opener, site: Site) -> None:
    page = open_page()
    days = numbers_in(page.content(), "by-day")
    shown = {name: sum(day[name] for day in days) for name in days[0]}
    assert shown == {
        "Read": FUNNEL["read"],
        "Captured": FUNNEL["captured"],
        "Booked": FUNNEL["booked"],
        "Happened": FUNNEL["happened"],
        "Missed": FUNNEL["missed"],
        "Outcome open": FUNNEL["open"],
        "In doubt": FUNNEL["in_doubt"],
        "Waiting": FUNNEL["waiting"],
        "Rejected": FUNNEL["rejected"],
    }
    counted = site.rows("SELECT booking_state, count(*) FROM popin_leads GROUP BY booking_state")
    in_ledger = {str(state): count for state, count in counted}
    assert (shown["Booked"], shown["In doubt"]) == (in_ledger["booked"], in_ledger["in_doubt"])
    drawn = charted(page, "by-day")
    assert drawn == {name: shown[name] for name in drawn}
    assert sum(drawn.values()) == shown["Read"]
    assert charted(page, "slot-days") == {"Booked": 4, "In doubt": 1, "Planned": 0}
    assert page.locator(".steps .value").all_inner_texts() == ["9", "8", "4", "1", "1"]
    [of_source] = numbers_in(page.content(), "by-source")
    assert of_source["Read"] == FUNNEL["read"]
    assert [row["Leads"] for row in numbers_in(page.content(), "rejections")] == [1, 1]
    assert page.locator("canvas").first.bounding_box()["height"] > 100  # type: ignore[index]


def test_resolve_from_the_list_to_the_history(open_page: Opener, site: Site) -> None:
    page = open_page()
    page.get_by_role("link", name=f"Resolve lead {DOUBT}").click()
    page.get_by_label("exists: it is booked").check()
    page.get_by_label("How do you know?").fill("the call is in the calendar of Zacharias")
    page.get_by_role("button", name="Continue").click()
    assert site.state(DOUBT) == "in_doubt"
    assert "the call is in the calendar of ***" in page.inner_text("main")
    page.get_by_role("button", name="Yes, it is booked").click()
    assert page.get_by_role("status").inner_text() == "Recorded as booked. The lead is done."
    assert site.state(DOUBT) == "booked"
    assert site.history(DOUBT)[-1] == ("resolved_booked", "Ada Admin", "the call is in the calendar of ***")
    page.get_by_label("Row id in the source").fill(DOUBT)
    page.get_by_role("button", name="Find").click()
    line = page.locator("tr", has_text="Resolved: booked")
    assert "Ada Admin" in line.inner_text()
    assert "Zacharias" not in page.content()


def test_resolve_with_the_keyboard_alone(open_page: Opener, site: Site) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").startswith("Resolve"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Is the call of").wait_for()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type") == "radio":
            break
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.type("no such call in the calendar")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="as not booked?").wait_for()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "BUTTON":
            break
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    assert site.state(DOUBT) == "waiting"
    assert site.history(DOUBT)[-1] == ("resolved_not_booked", "Ada Admin", "no such call in the calendar")


def test_without_scripts(open_page: Opener, site: Site) -> None:
    page = open_page(java_script_enabled=False)
    assert not page.locator("canvas").first.is_visible()
    page.get_by_text("Figures by day").first.click()
    assert page.locator("#by-day").is_visible()
    page.get_by_label("Leads first read in").select_option("7")
    page.locator("#days ~ button, form:has(#days) button").first.click()
    assert "days=7" in page.url
    page.get_by_role("link", name=f"Resolve lead {DOUBT}").click()
    page.get_by_label("does not exist").check()
    page.get_by_label("How do you know?").fill("no such call")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Yes, it is not booked").click()
    assert site.state(DOUBT) == "waiting"


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_makes_a_page_scroll_sideways(open_page: Opener, site: Site, width: int) -> None:
    # As long as each of them can be.
    source = "z" * 255
    with site.ledger.write() as connection:
        add_sources(connection, source)
        for statement in (
            f"UPDATE popin_leads SET run = '{'x' * 120}'",
            f"UPDATE popin_leads SET source = '{source}', reason = 'no_booking: {'w' * 150}', "
            f"lead_id = '{'y' * 200}' WHERE lead_id = '{DOUBT}'",
            f"UPDATE popin_leads SET source = '{source}' WHERE lead_id = 'L-bad-phone'",
        ):
            connection.exec_driver_sql(statement)
    page = open_page(viewport={"width": width, "height": 844}, has_touch=True)
    for path in ALL_PAGES:
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.goto(site.url)
    box = page.get_by_role("link", name="Resolve").first.bounding_box()
    assert box is not None
    assert box["height"] >= 24
    assert box["x"] + box["width"] <= width, "one must scroll to act"


def lightness(page: Page, selector: str, what: str) -> float:
    """Return how light a colour is painted, from 0 to 1."""
    found: float = page.evaluate(
        """([selector, what]) => {
            const canvas = document.createElement("canvas").getContext("2d");
            canvas.fillStyle = getComputedStyle(document.querySelector(selector))[what];
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
            return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
        }""",
        [selector, what],
    )
    return found


@pytest.mark.parametrize("system", ["light", "dark"])
def test_dark_and_light(open_page: Opener, system: Any) -> None:
    page = open_page(color_scheme=system)

    def is_dark() -> bool:
        ground, text = lightness(page, "body", "backgroundColor"), lightness(page, "body", "color")
        muted = lightness(page, "thead th", "color")
        assert abs(ground - text) > 0.6
        assert abs(ground - muted) > 0.3
        return ground < 0.5

    assert is_dark() == (system == "dark")
    # Airflow's own switch wins over the system, in a page that is being loaded and in one that is open.
    for chosen in ("dark", "light"):
        page.evaluate("theme => localStorage.setItem('theme', theme)", chosen)
        page.reload()
        assert is_dark() == (chosen == "dark")
    other = page.context.new_page()
    other.goto(page.url)
    other.evaluate("localStorage.setItem('theme', 'dark')")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert is_dark()


def test_an_anonymous_visitor_gets_nothing(open_page: Opener, site: Site) -> None:
    page = open_page(role=None)
    assert page.inner_text("body") == "Log in to Airflow to see this page."
    assert DOUBT not in page.content()
    assert page.locator("script, link").count() == 0
    page.get_by_role("link", name="Log in to Airflow").click()
    page.wait_for_url(f"{site.airflow}/**")
    assert "/popin/page" not in page.url


def test_a_viewer_sees_no_action(open_page: Opener) -> None:
    page = open_page(role="viewer", name="Vera Viewer")
    assert "L-doubt" in page.inner_text("main")
    assert page.get_by_role("link", name="Resolve").count() == 0
    page.goto(page.url + RESOLVE)
    assert page.get_by_role("button").count() == 0


class _Evil(BaseHTTPRequestHandler):
    """Another site on the same host: the browser sends Airflow's cookie along with its forms."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("referrer", ["no-referrer", "unsafe-url"])
def test_a_form_on_another_site_changes_nothing(open_page: Opener, site: Site, referrer: str) -> None:
    # Even one that got hold of a token.
    fields = "".join(f"<input name='{n}' value='{v}'>" for n, v in form(fresh_token()).items())
    target = (site.url + RESOLVE).replace("&", "&amp;")
    _Evil.body = (
        f"<meta name=referrer content={referrer}><form method=post action='{target}'>{fields}"
        "<button>Win a ring</button></form>"
    ).encode()
    with HTTPServer(("127.0.0.1", 0), _Evil) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            page = open_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            with page.expect_request(lambda request: request.method == "POST") as sent:
                page.get_by_role("button").click()
            assert "_token=" in sent.value.all_headers()["cookie"]
            page.get_by_text("did not come from this page").wait_for()
        finally:
            server.shutdown()
            thread.join()
    assert site.state(DOUBT) == "in_doubt"


def test_inside_airflows_navigation(open_page: Opener, site: Site) -> None:
    page = open_page("static/icon.svg")
    page.goto(site.airflow + "/")
    page.get_by_role("link", name="Popin", exact=True).click()
    frame = page.frame_locator("iframe[title=Popin]")
    frame.get_by_role("link", name=f"Resolve lead {DOUBT}").click()
    frame.get_by_label("exists: it is booked").check()
    frame.get_by_label("How do you know?").fill("in the calendar")
    frame.get_by_role("button", name="Continue").click()
    frame.get_by_role("button", name="Yes, it is booked").click()
    frame.get_by_role("status").wait_for()
    assert site.state(DOUBT) == "booked"
    assert "/plugin/popin" in page.url


def test_source_and_period_are_chosen_by_selecting(open_page: Opener) -> None:
    page = open_page()
    page.get_by_label("Source", exact=True).select_option(SOURCE)
    page.wait_for_url("**source=crm.leads**")
    page.get_by_label("Leads first read in").select_option("90")
    page.wait_for_url("**days=90**")
    assert "source=crm.leads" in page.url
    assert len(numbers_in(page.content(), "by-day")) == 90
