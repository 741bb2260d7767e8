"""The report's page in a real browser, as `tests/leaderboards/test_browser.py` opens the leaderboard's."""

from __future__ import annotations

import runpy
from pathlib import Path

import chromium
import pytest
from chromium import DESKTOP, PHONE

from mrsr_bench.benchmarks.report import write_report

pytestmark = chromium.needed


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with a table, a series of factors, a hostile name and one long word."""
    stored = runpy.run_path(str(Path(__file__).with_name("test_report.py")))["stored"]
    root = tmp_path_factory.mktemp("stored")
    for factor in (2, 4):
        for method, gain in (("cubic", 0.0), ("linear", -1.0)):
            stored(root, method, gain, protocol=f"thick-{factor}", n=14)
    for method in ("cubic", "<script>alert(1)</script>|_&%", "n" * 90):
        stored(root, method, protocol="kspace-2x2x1")
    out = tmp_path_factory.mktemp("report")
    write_report([root], out)
    return (out / "index.html").as_uri()


@pytest.fixture
def page(browser, written):
    """A page that fails its test on an error in the console or a request for anything but itself."""
    with chromium.watched(browser, lambda url: url == written or url.startswith("data:")) as opened:
        yield opened


def test_it_opens_without_an_error_or_a_request_and_shows_its_figures(page, written):
    page.goto(written)
    assert page.get_by_role("heading", level=1).count() == 1
    assert "<script>alert(1)</script>|_&%" in page.locator("body").inner_text()
    shown = page.eval_on_selector_all(
        "img", "images => Promise.all(images.map(i => i.decode().then(() => i.naturalWidth)))"
    )
    assert shown
    assert min(shown) > 100


def test_it_is_dark_where_a_dark_page_is_wanted(page, written):
    colours, figures = [], []
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.goto(written)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        figures.append(page.eval_on_selector_all("img", "images => images.map(i => i.currentSrc)"))
    assert colours[0] != colours[1]
    assert all(light != dark for light, dark in zip(*figures, strict=True))


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_nothing_is_wider_than_the_screen(page, written, size):
    page.set_viewport_size(size)
    page.goto(written)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page, written, theme):
    page.emulate_media(color_scheme=theme)
    page.goto(written)
    assert chromium.violations(page) == []
