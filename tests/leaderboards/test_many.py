"""Two thousand submissions, half of them in one table: none is lost, and the test says how long it took."""

from __future__ import annotations

import csv
import importlib.util
import time
from pathlib import Path

import pytest

from mrsr_bench.leaderboards import site

spec = importlib.util.spec_from_file_location("made_up", Path(__file__).parent / "made_up.py")
made_up = importlib.util.module_from_spec(spec)
spec.loader.exec_module(made_up)

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


@pytest.mark.slow
def test_a_board_of_two_thousand_is_built_and_loses_none(tmp_path, capsys):
    made = list(synthetic(2000))
    results = made_up.store(tmp_path / "results", made)
    wall, cpu = time.perf_counter(), time.process_time()
    found = site.build(tmp_path / "site", results=results, pictures=())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    with capsys.disabled():
        print(f"\n2,000 submissions: {wall:.1f} s, {cpu:.1f} s of one processor, {found['pages']} pages")
    assert found["submissions"] == 2000
    with (tmp_path / "site/data/results.csv").open(encoding="utf-8", newline="") as file:
        assert {row["digest"] for row in csv.DictReader(file)} == {one.digest for one in made}
    page = (tmp_path / "site/results.html").read_text(encoding="utf-8")
    assert [one.digest for one in made if f"#{one.digest[:8]}" not in page] == []
