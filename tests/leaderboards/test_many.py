"""Many submissions, half in one table: none is lost, no page swells, a browser sorts them.

Two hundred in every run, two thousand among the slow ones; there -s says how long they take, which nothing asserts.
"""

from __future__ import annotations

import csv
import time

import chromium
import made_up
import pytest

from mrsr_bench.leaderboards import site
from mrsr_bench.leaderboards.board import slug_of

PROTOCOLS = ("kspace-2x2x1", "thick-2", "thick-3", "thick-4", "thick-6", "thin-2", "thin-4", "thin-6")
DATASETS = ("brain_t1", "brain_t2", "knee_pd")


def synthetic(count: int):
    for i in range(count):
        crowded = i < count // 2
        yield made_up.submission(
            f"net{i:04d}" if crowded else f"family{(i - count // 2) // 24:03d}",
            protocol=PROTOCOLS[0 if crowded else i % 8],
            dataset=DATASETS[0 if crowded else i % 3],
            subjects=20 if i % 5 else 24,
            gain=(i % 97) / 20,
            noise=0.3,
            seed=i,
            date=f"2026-{1 + i % 12:02d}-{1 + i % 28:02d}",
        )


FIRST_BYTES, BYTES_A_ROW = 50_000, 2_000
"""What a page may weigh without rows, and for each submission on the board."""


@pytest.fixture(scope="module", params=[200, pytest.param(2000, marks=pytest.mark.slow)])
def built(request, tmp_path_factory):
    """The folder of the site, the submissions in it, and what `site.build` said of itself."""
    folder = tmp_path_factory.mktemp("many")
    made = list(synthetic(request.param))
    results = made_up.store(folder / "results", made)
    wall, cpu = time.perf_counter(), time.process_time()
    found = site.build(folder / "site", results=results, pictures=())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"\n{len(made)} submissions: {wall:.1f} s, {cpu:.1f} s of one processor, {found['pages']} pages")
    return folder / "site", made, found


def test_a_board_of_many_is_built_and_loses_none(built):
    folder, made, found = built
    assert found["submissions"] == len(made)
    with (folder / "data/results.csv").open(encoding="utf-8", newline="") as file:
        assert {row["digest"] for row in csv.DictReader(file)} == {one.digest for one in made}
    page = (folder / "results.html").read_text(encoding="utf-8")
    assert [one.digest for one in made if f"#{one.digest[:8]}" not in page] == []
    methods = {file.stem: file.read_text(encoding="utf-8") for file in (folder / "methods").glob("*.html")}
    assert len(methods) == len({(one.method, one.contact) for one in made})
    for one in made:
        assert f'id="{one.digest[:8]}"' in methods[slug_of(one.method, one.contact)]


def test_a_page_of_a_board_of_many_stays_in_proportion(built):
    folder, made, _ = built
    most = FIRST_BYTES + BYTES_A_ROW * len(made)
    sizes = {str(page.relative_to(folder)): page.stat().st_size for page in folder.rglob("*.html")}
    assert {name: size for name, size in sizes.items() if size > most} == {}


@chromium.needed
def test_a_board_of_many_sorts_and_filters_in_a_browser(built):
    drawn = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    timed = (
        "async act => {{ const start = performance.now(); {}; await " + drawn + "; return performance.now() - start }}"
    )
    count = len(built[1])
    with chromium.launched() as browser:
        page = browser.new_page(viewport=chromium.DESKTOP)
        page.goto((built[0] / "results.html").as_uri())
        load = page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart")
        rows = page.locator("table.sortable tbody tr")
        status = page.locator("[role=status]").first
        assert rows.count() == 100
        assert status.text_content() == f"100 of {count} rows shown, {count} match"
        before = rows.first.text_content()
        sort = page.evaluate(timed.format("document.querySelectorAll('table.sortable button.sort')[0].click()"))
        assert rows.first.text_content() != before
        page.locator("form.filters input[name=q]").fill("net0042")
        chromium.expect(rows).to_have_count(1)
        assert "net0042" in rows.text_content()
        page.locator("form.filters button[type=reset]").click()
        chromium.expect(rows).to_have_count(100)
        page.locator("button.more").click()
        assert rows.count() == count
    print(f"\n{count} rows in a browser: open {load:.0f} ms, sort {sort:.0f} ms")
