"""The pages in a real browser: they sort, filter, open and slide, make no error and ask no other server.

`tests/helpers/chromium.py` says which.
"""

from __future__ import annotations

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import chromium
import made_up
import pytest
from chromium import DESKTOP, PHONE

from mrsr_bench.leaderboards import site

pytestmark = chromium.needed

ROWS = "table.sortable tbody tr"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    many = [made_up.submission(f"net{i:03d}", seed=i, gain=0.01 * i, dataset="knee_pd") for i in range(120)]
    results = made_up.store(folder / "results", [*made_up.few(), *many])
    site.build(folder / "site", results=results, pictures=("nearest", "cubic"))
    return folder / "site"


@pytest.fixture(scope="module")
def address(built: Path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(built)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser, address):
    """A page that fails its test on an error in the console or a request to anyone else."""
    with chromium.watched(browser, lambda url: url.startswith((address, "file:")), may_abort=True) as opened:
        yield opened


def pages_of(built: Path) -> list[str]:
    """Every kind of page, once."""
    task = next(path for path in sorted(built.glob("tasks/*.html")) if "brain_t1" in path.name)
    method = next(path for path in sorted(built.glob("methods/*.html")) if path.name.startswith("cubic"))
    return [*(path.name for path in sorted(built.glob("*.html"))), f"tasks/{task.name}", f"methods/{method.name}"]


def shown(page) -> list[str]:
    return page.eval_on_selector_all(ROWS, "rows => rows.map(r => r.querySelector('th').innerText)")


def test_a_click_on_a_heading_sorts_and_another_turns_it_around(page, address, built):
    page.goto(address + "results.html")
    head = page.get_by_role("button", name="psnr (dB)")
    column = head.evaluate("button => button.parentElement.cellIndex")
    values = f"rows => rows.map(r => Number(r.cells[{column}].dataset.v))"
    head.click()
    first = page.eval_on_selector_all(ROWS, values)
    assert first == sorted(first, reverse=True)
    assert len(set(first)) > 10
    head.click()
    second = page.eval_on_selector_all(ROWS, values)
    assert second == sorted(second)
    assert head.evaluate("button => button.parentElement.getAttribute('aria-sort')") == "ascending"


def test_filters_keep_what_fits_and_stand_in_the_address(page, address):
    page.goto(address + "results.html")
    assert len(shown(page)) == 100
    page.locator("[name=contrast]").select_option("T2w")
    page.locator("[role=status]", has_text="1 of 129").wait_for()
    assert shown(page) == ["small"]
    assert "contrast=T2w" in page.url
    linked = page.url
    page.get_by_role("button", name="Clear").click()
    page.locator("[role=status]", has_text="129 match").wait_for()
    page.get_by_role("button", name=re.compile("Show all")).click()
    assert len(shown(page)) == 129
    page.goto(address + "about.html")
    page.goto(linked)
    assert shown(page) == ["small"]


def test_a_method_opens_by_keyboard(page, address):
    page.goto(address + "results.html#q=good")
    assert shown(page) == ["good"]
    page.get_by_role("link", name="good", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("methods/good"))
    assert page.get_by_role("heading", level=1).inner_text() == "good"


def test_the_slider_and_the_choice_of_methods_change_the_pictures(page, address):
    page.goto(address + "viewer.html")
    viewer = page.locator("section.viewer").first
    image = viewer.locator("figure[data-side=right] img")
    before = image.get_attribute("src")
    viewer.locator("[name=slice]").focus()
    page.keyboard.press("ArrowRight")
    after = image.get_attribute("src")
    assert after != before
    assert image.evaluate("i => i.decode().then(() => i.naturalWidth)") > 100
    difference = viewer.locator("figure[data-side=difference] img")
    assert difference.get_attribute("src") == after.replace(".png", "-difference.png")
    assert "cubic" in after
    viewer.locator("[name=right]").select_option("nearest")
    assert "nearest" in image.get_attribute("src")
    left = viewer.locator("figure[data-side=left] img")
    assert "HR" in left.get_attribute("src")
    viewer.get_by_role("button", name=re.compile("Flip")).click()
    assert left.get_attribute("src") == image.get_attribute("src")


def test_the_theme_can_be_chosen_and_is_kept(page, address):
    page.goto(address + "index.html")
    dark = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(dark)
    button = page.get_by_role("button", name=re.compile("Theme"))
    button.click()
    button.click()
    assert page.evaluate(dark) != light
    page.goto(address + "about.html")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_every_page_works_from_a_file_system(page, built):
    for name in pages_of(built):
        page.goto((built / name).as_uri())
        assert page.get_by_role("heading", level=1).count() == 1, name
        assert page.evaluate("getComputedStyle(document.querySelector('header')).display") == "flex", name
    page.goto((built / "results.html").as_uri())
    assert len(shown(page)) == 100


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(page, address, built, theme):
    page.emulate_media(color_scheme=theme)
    for name in pages_of(built):
        page.goto(address + name)
        assert chromium.violations(page) == [], f"{name} ({theme})"


def test_no_word_however_long_makes_a_page_wider_than_the_screen(page, tmp_path):
    word = "w" * 990
    long = made_up.submission("n" * 90, description=word, paper=word, dataset="d" * 90)
    training = {**made_up.content()["training"], "terms": word, "other_data": word}
    odd = made_up.submission("odd", description=word, training=training, hardware={"cpu": word})
    results = made_up.store(tmp_path / "results", [long, odd, made_up.submission("small", subjects=3)])
    site.build(tmp_path / "site", results=results, pictures=())
    for size in (PHONE, DESKTOP):
        page.set_viewport_size(size)
        for path in sorted((tmp_path / "site").rglob("*.html")):
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], path.name


def test_bars_of_tie_groups_stand_only_in_order_of_rank(page, address, built):
    page.goto(address + next(f"tasks/{path.name}" for path in built.glob("tasks/kspace-2x2x1--brain_t1*.html")))
    bar = "getComputedStyle(document.querySelector('tr.group-odd > :first-child')).boxShadow"
    assert page.evaluate(bar) != "none"
    page.get_by_role("button", name="nrmse").click()
    assert page.evaluate(bar) == "none"
    page.get_by_role("button", name="Rank").click()
    assert page.evaluate(bar) != "none"
    page.locator("form.filters input[name=q]").fill("good")
    page.locator("[role=status]", has_text="1 of ").first.wait_for()
    assert page.evaluate(bar) == "none"


def test_nothing_is_wider_than_a_phone(page, address, built):
    page.set_viewport_size(PHONE)
    for name in pages_of(built):
        page.goto(address + name)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], name
