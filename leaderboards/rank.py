"""Ranking without false precision: rank = 1 + the number of methods that are significantly better.

Significantly: two-sided Wilcoxon signed-rank over the subjects that both methods have, Holm-corrected over all pairs of
methods. Methods that share a rank form a tie group. Nothing is ranked below eight subjects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from mrsr_bench.benchmarks.statistics import ALPHA, MIN_SUBJECTS, holm, paired, silence


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

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "ranks": [
                {"model": r.method, "mean": r.mean, "n": r.n, "rank": r.rank, "beaten_by": list(r.beaten_by)}
                for r in self.ranks
            ],
            "groups": [list(group) for group in self.groups],
            "reason": self.reason,
        }


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
    comparisons = [paired(known[a], known[b]) for a, b in pairs]
    adjusted = holm([c.p if c.p is not None else 1.0 for c in comparisons])
    beaten_by: dict[str, list[str]] = {m: [] for m in known}
    for (a, b), comparison, p in zip(pairs, comparisons, adjusted, strict=True):
        if p <= alpha and comparison.effect:
            a_better = (comparison.effect > 0) == higher_is_better
            beaten_by[b if a_better else a].append(a if a_better else b)
    ranks = tuple(Rank(m, means[m], len(known[m]), 1 + len(beaten_by[m]), tuple(beaten_by[m])) for m in known)
    places = sorted({r.rank for r in ranks if r.rank is not None})
    groups = tuple(tuple(r.method for r in ranks if r.rank == place) for place in places)
    return Ranking(ranks, groups, _too_few_for(len(pairs), smallest, alpha))


def _too_few_for(pairs: int, n: int, alpha: float) -> str | None:
    """With few subjects and many methods not even a difference on every subject can survive Holm's correction."""
    least = pairs * 2.0 ** (1 - n)
    if pairs and least > alpha:
        return f"with {n} subjects and {pairs} comparisons no difference can be significant (p is at least {least:.2g})"
    return None
