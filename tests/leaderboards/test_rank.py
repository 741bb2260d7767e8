"""Ranks count the methods that are significantly better; where nothing can be told apart, methods share a rank."""

import numpy as np

from mrsr_bench.leaderboards.rank import rank


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


def test_plain_data_holds_every_method():
    plain = rank({"a": base(9), "b": around(base(9), 1)}, higher_is_better=True).as_json()
    assert [r["model"] for r in plain["ranks"]] == ["a", "b"]
    assert plain["groups"] == [["b"], ["a"]]


def test_one_method_alone_is_first():
    assert rank({"a": base(9)}, higher_is_better=True).of("a") == 1
