"""Ranking without false precision: rank = 1 + the number of methods that are significantly better.

Significantly: two-sided Wilcoxon signed-rank over the subjects that both methods have, Holm-corrected over all pairs of
methods. Methods that share a rank form a tie group. Nothing is ranked below eight subjects. Over several tables a
method stands by the mean share of a table's methods that beat it; a table in which it has no rank counts as the worst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from mrsr_bench.benchmarks.statistics import (
    ALPHA,
    MIN_SUBJECTS,
    RESAMPLES,
    Interval,
    bootstrap_interval,
    holm,
    signed_ranks,
    silence,
    smallest_p,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

COUNTED_UP_TO = 400
"""Subjects up to which one table of how often each was drawn is kept for all methods."""
METHODS_AT_ONCE = 200
LEAST_RANKED = 3
"""Methods that a table must rank to count overall: nobody gains by being alone in a table of one's own."""


@dataclass(frozen=True)
class Rank:
    """One method's place: ``rank`` from 1 (None where nothing may be ranked), and who is significantly better."""

    method: str
    mean: float | None
    n: int
    rank: int | None
    beaten_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """The ranks in the order the methods were given, tie groups best first, and why there is none or only one."""

    ranks: tuple[Rank, ...]
    groups: tuple[tuple[str, ...], ...]
    reason: str | None = None

    def of(self, method: str) -> int | None:
        """The rank of ``method``, None if it has none."""
        return next((r.rank for r in self.ranks if r.method == method), None)


def rank(scores: Mapping[str, Mapping[str, float | None]], *, higher_is_better: bool, alpha: float = ALPHA) -> Ranking:
    """Rank methods by one metric; ``scores`` maps a method to its value per subject.

    A method without any value, or a pair with fewer than eight common subjects, leaves everything unranked: a rank
    among some of the methods would read as a rank among all.
    """
    known = {m: {s: v for s, v in per.items() if v is not None} for m, per in scores.items()}
    means = {m: sum(per.values()) / len(per) if per else None for m, per in known.items()}
    pairs = list(combinations(known, 2))
    smallest = min([len(per) for per in known.values()] + [len(known[a].keys() & known[b].keys()) for a, b in pairs])
    if smallest < MIN_SUBJECTS:
        unranked = tuple(Rank(m, means[m], len(known[m]), None) for m in known)
        return Ranking(unranked, (), silence(smallest))
    reason = _too_few_for(len(pairs), smallest, alpha)
    beaten_by: dict[str, list[str]] = {m: [] for m in known}
    for better, worse in [] if reason else _differences(known, pairs, higher_is_better, alpha):
        beaten_by[worse].append(better)
    ranks = tuple(Rank(m, means[m], len(known[m]), 1 + len(beaten_by[m]), tuple(beaten_by[m])) for m in known)
    places = sorted({r.rank for r in ranks if r.rank is not None})
    groups = tuple(tuple(r.method for r in ranks if r.rank == place) for place in places)
    return Ranking(ranks, groups, reason)


def _too_few_for(pairs: int, n: int, alpha: float) -> str | None:
    """With few subjects and many methods not even a difference on every subject can survive Holm's correction."""
    least = pairs * smallest_p(n)
    if pairs and least >= alpha:
        return f"with {n} subjects and {pairs} comparisons no difference can be significant (p is at least {least:.2g})"
    return None


def _differences(
    known: Mapping[str, Mapping[str, float]], pairs: Sequence[tuple[str, str]], higher_is_better: bool, alpha: float
) -> list[tuple[str, str]]:
    """The (better, worse) pairs that differ significantly after Holm's correction over all ``pairs``."""
    import numpy as np

    methods = list(known)
    subjects = known[methods[0]].keys()
    p, effect = np.empty(len(pairs)), np.empty(len(pairs))
    if all(per.keys() == subjects for per in known.values()):
        values = np.array([[per[subject] for subject in subjects] for per in known.values()])
        start = 0
        for index in range(len(methods) - 1):
            stop = start + len(methods) - 1 - index
            p[start:stop], effect[start:stop] = signed_ranks(values[index] - values[index + 1 :])
            start = stop
    else:
        for index, (a, b) in enumerate(pairs):
            differences = [known[a][s] - known[b][s] for s in known[a] if s in known[b]]
            (p[index],), (effect[index],) = signed_ranks(np.array([differences]))
    different: list[int] = np.flatnonzero((np.array(holm(p)) < alpha) & (effect != 0)).tolist()
    return [pairs[i] if (effect[i] > 0) == higher_is_better else (pairs[i][1], pairs[i][0]) for i in different]


@dataclass(frozen=True)
class Standing:
    """One method over several tables.

    ``score``: mean over all tables of the share of ranked methods that are significantly better, 0 if never beaten;
    a table without a rank of this method counts as 1. ``missing`` names those tables. ``rank``: 1 + methods of lower
    score; no test stands behind it.
    """

    method: str
    rank: int
    score: float
    shares: Mapping[str, float]
    missing: tuple[str, ...]


def overall(rankings: Mapping[str, Ranking], methods: Sequence[str], *, least: int = LEAST_RANKED) -> list[Standing]:
    """Where each of ``methods`` stands over the ``rankings`` (by table) that rank ``least`` methods, best first.

    A table in which no difference could be significant tells nobody apart, and is left out.
    """
    counted = {table: r for table, r in rankings.items() if r.reason is None and sum(map(len, r.groups)) >= least}
    shares: dict[str, dict[str, float]] = {method: {} for method in methods}
    for table, ranking in counted.items():
        ranked = [r for r in ranking.ranks if r.rank is not None]
        for r in ranked:
            if r.rank is not None and r.method in shares:
                shares[r.method][table] = (r.rank - 1) / len(ranked)
    if not counted:
        return []
    scores = {m: (sum(per.values()) + len(counted) - len(per)) / len(counted) for m, per in shares.items()}
    ordered = sorted(scores.values())
    first = {score: 1 + place for place, score in reversed(list(enumerate(ordered)))}
    standings = [
        Standing(m, first[scores[m]], scores[m], shares[m], tuple(t for t in counted if t not in shares[m]))
        for m in methods
    ]
    return sorted(standings, key=lambda s: (s.rank, len(s.missing), s.method))


def intervals(values: Floats, *, seed: int = 0) -> list[Interval]:
    """Bootstrap 95 % interval of the mean of each row of ``values``, shape (methods, subjects).

    The intervals of `statistics.bootstrap_interval`, which resamples every method with the same subjects: here how
    often each subject was drawn is counted once for all methods.
    """
    import numpy as np

    n = values.shape[1]
    if n > COUNTED_UP_TO:
        return [bootstrap_interval(row.tolist(), seed) for row in values]
    drawn = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    counts = np.zeros((RESAMPLES, n))
    np.add.at(counts, (np.arange(RESAMPLES)[:, None], drawn), 1 / n)
    found: list[Interval] = []
    for start in range(0, len(values), METHODS_AT_ONCE):
        means = counts @ values[start : start + METHODS_AT_ONCE].T
        low, high = np.percentile(means, [2.5, 97.5], axis=0)
        found += [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    return found
