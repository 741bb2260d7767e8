"""Chromium (`tests/leaderboards/install_browser.sh` installs Debian's), driven by playwright; axe for accessibility."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needed = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; tests/leaderboards/install_browser.sh installs Debian's"
)

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


@contextmanager
def launched() -> Iterator:
    """A running browser, or a skip without playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@contextmanager
def watched(browser, allowed: Callable[[str], bool], *, may_abort: bool = False) -> Iterator:
    """A page that fails on an error in the console, a dialog, a bad answer, a failed request or one not ``allowed``.

    ``may_abort``: what was still under way when a test went on to the next page is aborted by the browser itself.
    """
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    page.set_default_timeout(60_000)
    faults: list[str] = []
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on(
        "requestfailed",
        lambda r: None if may_abort and "ABORTED" in r.failure else faults.append(f"{r.failure}: {r.url[:99]}"),
    )
    page.on("response", lambda answer: faults.append(f"{answer.status}: {answer.url}") if answer.status > 399 else None)
    page.on("request", lambda r: None if allowed(r.url) else faults.append(f"left: {r.url[:99]}"))
    yield page
    context.close()
    assert faults == []


def violations(page) -> list:
    """What axe finds on the page that is open; a skip where it is not installed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    return page.evaluate(
        "axe.run({preload: false}).then(r => r.violations.map(v => [v.id, v.nodes[0].failureSummary]))"
    )


def expect(found):
    """playwright's `expect`, which waits until what is said of a locator is so."""
    return pytest.importorskip("playwright.sync_api").expect(found)
