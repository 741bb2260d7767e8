"""What may be said of n subjects, and that the intervals and tests are the textbook's."""

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from mrsr_bench.benchmarks.claims import Measured
from mrsr_bench.benchmarks.reports.plots import _stars
from mrsr_bench.benchmarks.reproduce import _draw_stars
from mrsr_bench.benchmarks.statistics import (
    MIN_SUBJECTS,
    against_baseline,
    bootstrap_interval,
    bootstrap_means,
    corrected,
    holm,
    paired,
    rank_biserial,
    signed_ranks,
    silence_of,
    smallest_p,
    stars,
    summarise,
    unreachable,
    wilcoxon,
)


def scores(n: int, seed: int = 3) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    return {f"sub-{i:02d}": float(v) for i, v in enumerate(rng.normal(30, 2, n))}


@pytest.mark.parametrize("n", [1, 2, 7])
def test_below_eight_subjects_there_is_a_mean_but_no_interval_and_a_reason(n):
    summary = summarise(scores(n))
    assert summary["mean"] == pytest.approx(np.mean(list(scores(n).values())))
    assert summary["ci95"] is None
    assert summary["n"] == n
    assert summary["reason"]


def test_from_eight_subjects_on_there_is_an_interval_around_the_mean_and_no_reason():
    summary = summarise(scores(MIN_SUBJECTS))
    low, high = summary["ci95"]
    assert low < summary["mean"] < high
    assert "reason" not in summary


def test_no_value_at_all_is_exactly_the_null_object():
    assert summarise({"sub-01": None}, missing="no parameters") == {
        "mean": None,
        "ci95": None,
        "n": 0,
        "reason": "no parameters",
    }


def test_missing_and_infinite_values_are_null_and_named_and_never_enter_the_mean():
    summary = summarise({"sub-01": 1.0, "sub-02": math.inf, "sub-03": None, "sub-04": 3.0})
    assert summary["mean"] == 2.0
    assert summary["n"] == 2
    assert summary["per_subject"] == {"sub-01": 1.0, "sub-02": None, "sub-03": None, "sub-04": 3.0}
    assert "sub-02" in summary["reason"]
    assert "sub-03" in summary["reason"]
    json.dumps(summary, allow_nan=False)


def test_bootstrap_interval_agrees_with_scipy():
    values = list(scores(30).values())
    mine = bootstrap_interval(values, seed=0)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=1).confidence_interval
    spread = theirs.high - theirs.low
    assert mine[0] == pytest.approx(theirs.low, abs=0.04 * spread)
    assert mine[1] == pytest.approx(theirs.high, abs=0.04 * spread)


def test_bootstrap_spread_is_the_standard_error_in_closed_form():
    values = np.array(list(scores(40).values()))
    means = bootstrap_means(values, seed=5)
    assert means.std() == pytest.approx(values.std() / math.sqrt(len(values)), rel=0.03)
    assert means.mean() == pytest.approx(values.mean(), abs=0.02 * values.std())


def test_bootstrap_is_a_function_of_the_seed():
    values = list(scores(9).values())
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_methods_are_resampled_with_the_same_subjects_so_differences_are_paired():
    a, b = np.array(list(scores(9, 1).values())), np.array(list(scores(9, 2).values()))
    np.testing.assert_allclose(bootstrap_means(a, 7) - bootstrap_means(b, 7), bootstrap_means(a - b, 7), atol=1e-12)


def test_wilcoxon_by_hand():
    # Eight differences, ranks 1..8; only the smallest is negative: W- = 1. Of 2^8 sign patterns, those with a sum of
    # at most 1 are {} and {1}: p = 2 * 2 / 256.
    assert wilcoxon([-0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]) == pytest.approx(4 / 256)


def test_wilcoxon_of_no_difference_is_one_and_zeros_are_dropped():
    assert wilcoxon([0.0] * 9) == 1.0
    assert wilcoxon([0.0, *(0.1 * i for i in range(1, 9))]) == pytest.approx(2 / 256)


def test_rank_biserial_by_hand():
    assert rank_biserial([-0.1, 0.2, 0.3, 0.4]) == pytest.approx((2 + 3 + 4 - 1) / 10)
    assert rank_biserial([0.0, 0.0]) == 0.0


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.2 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.2, made to rise.
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_paired_comparison_uses_only_subjects_that_both_have():
    a = {**scores(9), "sub-99": 50.0}
    b = {s: v - 1.5 for s, v in scores(9).items()} | {"sub-98": 0.0}
    result = paired(a, b)
    assert result.n == 9
    assert result.mean == pytest.approx(1.5)
    assert result.ci95 == pytest.approx((1.5, 1.5))
    assert result.p == pytest.approx(2 / 512)
    assert result.effect == 1.0


def test_paired_comparison_of_seven_subjects_gives_differences_but_no_test():
    result = paired(scores(7), dict.fromkeys(scores(7), 30.0))
    assert len(result.differences) == 7
    assert (result.ci95, result.p, result.effect) == (None, None, None)
    assert result.reason


@pytest.mark.parametrize(("n", "seed"), [(8, 0), (9, 1), (23, 2), (50, 3)])
def test_wilcoxon_without_ties_is_scipys_exact_test(n, seed):
    differences = np.random.default_rng(seed).normal(0.3, 1, n)
    assert wilcoxon(differences.tolist()) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def test_wilcoxon_of_many_subjects_is_scipys_normal_approximation():
    differences = np.random.default_rng(4).normal(0.2, 1, 80)
    assert wilcoxon(differences.tolist()) == pytest.approx(stats.wilcoxon(differences, method="asymptotic").pvalue)


@pytest.mark.parametrize("n", [8, 13, 50, 60])
def test_many_comparisons_at_once_are_what_scipy_says_of_each(n):
    differences = np.random.default_rng(n).normal(0.3, 1, (7, n))
    p, effect = signed_ranks(differences)
    np.testing.assert_allclose(p, [stats.wilcoxon(row).pvalue for row in differences], rtol=1e-9)
    ranks = [stats.rankdata(np.abs(row)) * np.sign(row) for row in differences]
    np.testing.assert_allclose(effect, [2 * row.sum() / n / (n + 1) for row in ranks], rtol=1e-12)


def test_many_subjects_with_zeros_and_ties_are_scipys_normal_approximation():
    differences = np.random.default_rng(6).integers(-3, 5, (4, 90)).astype(float)
    expected = [stats.wilcoxon(row, method="asymptotic").pvalue for row in differences]
    np.testing.assert_allclose(signed_ranks(differences)[0], expected, rtol=1e-9)


@pytest.mark.parametrize(
    "differences",
    [[1, 1, -1, 2, 2, 2, -3, 3, 4], [1, 1, 2, 2, -3, 4, 5, 6, 7], [0, 1, 2, 3, -4, 5, 6, 7, 8], [0, 0, -1, 1, 1, 2]],
)
def test_wilcoxon_with_zeros_and_ties_counts_all_sign_patterns(differences):
    alone = wilcoxon(differences)
    beside_others = signed_ranks(np.array([np.arange(1.0, len(differences) + 1), differences]))[0]
    assert beside_others.tolist() == [smallest_p(len(differences)), alone]
    differences = [d for d in differences if d]
    ranks = stats.rankdata(np.abs(differences))
    observed = min(ranks[np.array(differences) > 0].sum(), ranks[np.array(differences) < 0].sum())
    patterns = list(itertools.product([False, True], repeat=len(ranks)))
    extreme = sum(ranks[list(pattern)].sum() <= observed for pattern in patterns)
    assert alone == pytest.approx(min(1.0, 2 * extreme / len(patterns)))


@pytest.mark.parametrize("n", [8, 9, 11, 14])
def test_the_smallest_p_is_that_of_a_difference_on_every_subject(n):
    assert wilcoxon([0.1 * i for i in range(1, n + 1)]) == pytest.approx(smallest_p(n))
    assert smallest_p(n) == pytest.approx(stats.wilcoxon(np.arange(1.0, n + 1)).pvalue)


def test_stars_stand_at_a_twentieth_and_a_thousandth():
    assert [stars(p) for p in (None, 1.0, 0.05, 0.049, 0.001, 0.0009)] == ["", "", "", "*", "*", "**"]


@pytest.mark.parametrize(
    ("n", "tests", "lost"), [(7, 1, "below 8"), (8, 1, "**"), (10, 1, "**"), (11, 1, None), (11, 2, "**"), (8, 7, "* ")]
)
def test_stars_that_so_few_subjects_cannot_reach_are_named(n, tests, lost):
    found = unreachable(n, tests)
    assert found is None if lost is None else lost in found
    everywhere = {i: paired(dict.fromkeys(map(str, range(n)), 1.0), scores_of_zero(n)) for i in range(tests)}
    drawn = {comparison.stars for comparison in corrected(everywhere).values()}
    assert drawn == {"**" if lost is None else "*" if lost == "**" else ""}


def scores_of_zero(n: int) -> dict[str, float]:
    return dict.fromkeys(map(str, range(n)), 0.0)


def test_correction_is_over_the_comparisons_that_could_be_tested():
    a, b = scores(9, 1), scores(9, 2)
    few = {subject: a[subject] for subject in list(a)[:5]}
    found = corrected({"whole": paired(a, b), "few": paired(few, b), "same": paired(a, a)})
    assert found["few"].p_holm is None
    assert found["same"].p_holm == 1.0
    assert found["whole"].p_holm == pytest.approx(min(1.0, 2 * found["whole"].p))
    assert found["whole"].family == 2


def test_a_metric_is_one_family_over_methods_and_places_and_needs_the_baseline_there():
    values = {(m, place): scores(9, i) for i, m in enumerate(("cubic", "a", "b")) for place in (2, 3)}
    values["a", 4] = scores(9, 5)
    found = against_baseline(values, "cubic")
    assert set(found) == {("a", 2), ("b", 2), ("a", 3), ("b", 3)}
    assert {comparison.family for comparison in found.values()} == {4}
    assert [c.p_holm for c in found.values()] == holm([c.p for c in found.values()])
    assert "4 comparisons" in silence_of(found)
    assert (against_baseline(values, "linear"), silence_of({})) == ({}, None)


def test_the_same_runs_get_the_same_stars_in_a_report_and_in_a_reproduction():
    """Four methods at two factors, all better in all nine subjects: 8 * 2 / 2**9 < 0.05, over two metrics it is not."""
    labels, metrics, factors = ("cubic", "a", "b", "c", "d"), ("psnr", "ssim"), (2, 3)
    subjects = [f"s{i}" for i in range(9)]
    of = {label: {s: rank + 0.01 * i for i, s in enumerate(subjects)} for rank, label in enumerate(labels)}
    section = SimpleNamespace(labels=labels, values=lambda label, key: of[label])
    drawn, _ = _stars(SimpleNamespace(sections=(section, section), factors=factors), metrics, "cubic")
    panels = [
        {"protocol": f"thick-{f}", "rows": [{"label": label, "ours": {m: {} for m in metrics}} for label in labels]}
        for f in factors
    ]
    measured = Measured({(f"thick-{f}", m, k): of[m] for f in factors for m in labels for k in metrics})
    _draw_stars({"stars_against": "cubic", "metrics": metrics}, panels, measured, 0)
    reproduced = {
        metric: {
            (row["label"], place): row["ours"][metric]["stars"]
            for place, panel in enumerate(panels)
            for row in panel["rows"]
            if row["label"] != "cubic"
        }
        for metric in metrics
    }
    assert reproduced == drawn
    assert {star for stars_of in drawn.values() for star in stars_of.values()} == {"*"}


@pytest.mark.slow
@pytest.mark.parametrize("n", [9, 20])
def test_when_methods_do_not_differ_a_star_is_drawn_in_at_most_one_family_of_twenty(n):
    rng = np.random.default_rng(2026)
    subjects = [str(i) for i in range(n)]
    rounds, wrong = 1500, 0
    for _ in range(rounds):
        methods = [dict(zip(subjects, values, strict=True)) for values in rng.normal(size=(4, n))]
        family = {i: paired(methods[i], methods[0]) for i in (1, 2, 3)}
        wrong += any(comparison.stars for comparison in corrected(family).values())
    rate, error = wrong / rounds, math.sqrt(0.05 * 0.95 / rounds)
    assert rate <= 0.05 + 3 * error
    assert rate > 0.005, "a test that never rejects would pass too"
