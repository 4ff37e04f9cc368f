"""A real Chromium for tests, Debian's or another one that is installed; Playwright drives it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MISSING = "NOT TESTED in a browser: no Chromium. Install the package chromium, or set POPIN_TEST_CHROMIUM"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium; skip loudly where there is none, and fail instead in CI.

    ``POPIN_TEST_CHROMIUM`` names the program, where it is not on the PATH.
    """
    program = os.environ.get("POPIN_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        if os.environ.get("CI"):
            pytest.fail(_MISSING)
        pytest.skip(_MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its own sandbox needs rights that containers seldom have; it opens nothing but our page.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()
