"""Ranks count the methods that are significantly better; where nothing can be told apart, methods share a rank."""

import numpy as np
import pytest

from mrsr_bench.benchmarks.statistics import bootstrap_interval
from mrsr_bench.leaderboards.rank import intervals, overall, rank


def around(base: dict[str, float], gain: float, noise: float = 0.0, seed: int = 0) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    return {subject: value + gain + noise * float(rng.standard_normal()) for subject, value in base.items()}


def base(n: int) -> dict[str, float]:
    return {f"sub-{i:02d}": 25 + 0.37 * i for i in range(n)}


def test_clear_differences_give_distinct_ranks():
    ranking = rank(
        {"c": around(base(12), 0), "a": around(base(12), 2), "b": around(base(12), 1)}, higher_is_better=True
    )
    assert {r.method: r.rank for r in ranking.ranks} == {"a": 1, "b": 2, "c": 3}
    assert ranking.groups == (("a",), ("b",), ("c",))
    assert ranking.ranks[0].beaten_by == ("a", "b")
    assert ranking.reason is None


def test_direction_turns_the_order_around():
    scores = {"low": around(base(12), 0), "high": around(base(12), 1)}
    assert rank(scores, higher_is_better=True).of("high") == 1
    assert rank(scores, higher_is_better=False).of("high") == 2


def test_methods_that_cannot_be_told_apart_share_a_rank_and_the_next_skips():
    scores = {
        "a": around(base(12), 2, noise=0.3, seed=1),
        "b": around(base(12), 2, noise=0.3, seed=2),
        "c": around(base(12), 0),
    }
    ranking = rank(scores, higher_is_better=True)
    assert [r.rank for r in ranking.ranks] == [1, 1, 3]
    assert ranking.groups == (("a", "b"), ("c",))


def test_identical_methods_tie():
    ranking = rank({"a": base(9), "b": base(9)}, higher_is_better=True)
    assert [r.rank for r in ranking.ranks] == [1, 1]


def test_below_eight_subjects_nothing_is_ranked():
    ranking = rank({"a": around(base(7), 5), "b": base(7)}, higher_is_better=True)
    assert [r.rank for r in ranking.ranks] == [None, None]
    assert ranking.groups == ()
    assert "8" in ranking.reason


def test_a_method_with_too_few_values_leaves_all_unranked_but_listed():
    short = {**dict.fromkeys(base(9)), "sub-00": 3.0}
    ranking = rank({"a": base(9), "b": around(base(9), 1), "short": short}, higher_is_better=True)
    assert [r.method for r in ranking.ranks] == ["a", "b", "short"]
    assert {r.rank for r in ranking.ranks} == {None}


def test_says_so_when_no_difference_could_be_significant():
    # Nine subjects: the smallest two-sided p is 2/512; seven methods make 21 pairs, and 21 * 2/512 > 0.05.
    scores = {f"m{i}": around(base(9), i) for i in range(7)}
    ranking = rank(scores, higher_is_better=True)
    assert {r.rank for r in ranking.ranks} == {1}
    assert "21 comparisons" in ranking.reason


def test_one_method_alone_is_first():
    assert rank({"a": base(9)}, higher_is_better=True).of("a") == 1


def test_ranks_do_not_depend_on_whether_methods_share_all_their_subjects():
    scores = {m: around(base(12), i, noise=0.5, seed=i) for i, m in enumerate("abcd")}
    one_more = {**scores, "d": {**scores["d"], "sub-99": 40.0}}
    together, pair_by_pair = (rank(s, higher_is_better=True) for s in (scores, one_more))
    assert together.groups == pair_by_pair.groups
    assert len(together.groups) > 1


def test_a_table_without_a_rank_counts_as_the_worst_and_is_named():
    first = rank({"a": base(12), "b": around(base(12), 1)}, higher_is_better=True)
    second = rank({"a": around(base(12), 1), "c": base(12)}, higher_is_better=True)
    standings = {s.method: s for s in overall({"first": first, "second": second}, ["a", "b", "c"], least=2)}
    assert standings["a"].score == pytest.approx(0.25)
    assert standings["b"].score == pytest.approx(0.5)
    assert standings["b"].missing == ("second",)
    assert standings["c"].missing == ("first",)
    assert [standings[m].rank for m in "abc"] == [1, 2, 3]


def test_a_method_without_any_rank_still_stands_last():
    ranking = rank({"a": base(12), "b": around(base(12), 1)}, higher_is_better=True)
    last = overall({"t": ranking}, ["a", "b", "absent"], least=2)[-1]
    assert (last.method, last.score, last.missing) == ("absent", 1.0, ("t",))


def test_tables_that_rank_nobody_are_no_ones_loss():
    ranked = rank({"a": base(12), "b": around(base(12), 1)}, higher_is_better=True)
    silent = rank({"a": base(3)}, higher_is_better=True)
    assert all(s.missing == () for s in overall({"t": ranked, "u": silent}, ["a", "b"], least=2))
    assert overall({"u": silent}, ["a"]) == []


def test_a_table_too_small_to_tell_its_methods_apart_does_not_count_overall():
    ranked = rank({m: around(base(12), i) for i, m in enumerate("abc")}, higher_is_better=True)
    too_small = rank({f"m{i}": around(base(9), i) for i in range(7)}, higher_is_better=True)
    assert too_small.groups
    assert overall({"small": too_small}, ["m0", "m6"]) == []
    assert all(s.missing == () for s in overall({"t": ranked, "small": too_small}, ["a", "b", "c"]))


def test_intervals_of_many_methods_are_those_of_each():
    values = np.random.default_rng(5).normal(30, 2, (3, 11))
    np.testing.assert_allclose(intervals(values), [bootstrap_interval(row.tolist(), 0) for row in values], rtol=1e-12)


def test_nobody_gains_by_being_alone_in_a_table():
    contested = rank({m: around(base(12), i) for i, m in enumerate("abc")}, higher_is_better=True)
    alone = rank({"a": base(12)}, higher_is_better=True)
    standings = overall({"contested": contested, "alone": alone}, ["a", "b", "c"])
    assert [(s.method, s.rank, s.missing) for s in standings] == [("c", 1, ()), ("b", 2, ()), ("a", 3, ())]
