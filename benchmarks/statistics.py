"""What may be claimed from a handful of subjects: means, intervals, paired tests, and when to keep silent.

The unit is the subject. Below two subjects there is no spread; below eight no interval, no group and no test, and a
reason says so. From eight on: a seeded percentile bootstrap of the mean over subjects (every method is resampled with
the same subjects, so differences are paired), the two-sided Wilcoxon signed-rank test (Wilcoxon 1945) with Holm's
correction (Holm 1979), and the matched-pairs rank-biserial correlation (Kerby 2014) as the size of the effect.
Stars are drawn at 0.05 and 0.001 on corrected p values. A family of m tests on n subjects cannot go below m * 2^(1-n),
so where even that is above a threshold its stars cannot appear, and `unreachable` says so.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

MIN_SUBJECTS = 8
RESAMPLES = 10_000
ALPHA = 0.05
STARS = ((0.001, "**"), (ALPHA, "*"))
"""Thresholds of corrected p values and what is drawn beside them, strictest first."""
EXACT_UP_TO = 50
"""Differences that are not zero, up to which the null distribution of the signed ranks is counted out."""
_ROWS = 20_000
"""Comparisons tested at once: bounds the memory of many."""
_BLOCK = 4_000_000
"""Resampled values held at once: bounds the memory of a bootstrap over many subjects."""

Interval = tuple[float, float]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Paired:
    """Method ``a`` minus method ``b`` over the subjects they share. ``ci95``, ``p`` and ``effect`` need eight subjects.

    ``effect`` is the matched-pairs rank-biserial correlation, -1 (b higher everywhere) to 1 (a higher everywhere).
    ``p_holm`` is p corrected for the family that `corrected` was given, ``family`` the number of tests in it.
    """

    n: int
    differences: dict[str, float]
    mean: float | None
    ci95: Interval | None
    p: float | None
    effect: float | None
    reason: str | None
    p_holm: float | None = None
    family: int = 0

    @property
    def stars(self) -> str:
        """``**`` below 0.001, ``*`` below 0.05 (corrected), else nothing."""
        return stars(self.p_holm)


def finite(value: float | None) -> float | None:
    """``value`` if it is a finite number, else None."""
    return float(value) if value is not None and math.isfinite(value) else None


def silence(n: int) -> str | None:
    """Why ``n`` subjects allow no interval and no test; None if they do."""
    if n < 2:
        return "one subject: no spread" if n == 1 else "no subject has a value"
    if n < MIN_SUBJECTS:
        return f"n = {n} is below {MIN_SUBJECTS}: no interval and no test, see the subjects one by one"
    return None


def bootstrap_means(values: npt.NDArray[np.float64], seed: int, resamples: int = RESAMPLES) -> npt.NDArray[np.float64]:
    """Means of ``resamples`` samples with replacement; which subjects are drawn depends on seed and n alone."""
    import numpy as np

    n = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, _BLOCK // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        means[start : start + count] = values[rng.integers(n, size=(count, n))].mean(axis=1)
    return means


def bootstrap_interval(values: Sequence[float], seed: int, resamples: int = RESAMPLES) -> Interval:
    """Percentile bootstrap 95 % interval of the mean of at least one value."""
    import numpy as np

    low, high = np.percentile(bootstrap_means(np.asarray(values, dtype=np.float64), seed, resamples), [2.5, 97.5])
    return float(low), float(high)


def summarise(per_subject: Mapping[str, float | None], *, seed: int = 0, missing: str | None = None) -> dict[str, Any]:
    """One metric of one method: ``mean``, ``ci95``, ``n``, ``per_subject`` and, where something is null, ``reason``.

    ``missing`` says why subjects have no value. Never holds NaN or infinity.
    """
    values = {subject: finite(value) for subject, value in per_subject.items()}
    known = [value for value in values.values() if value is not None]
    if not known:
        return {"mean": None, "ci95": None, "n": 0, "reason": missing or "no subject has a value"}
    reasons = [silence(len(known))]
    if len(known) < len(values):
        absent = ", ".join(subject for subject, value in values.items() if value is None)
        reasons.append(f"no value for {absent}: {missing or 'not finite'}")
    summary: dict[str, Any] = {
        "mean": math.fsum(known) / len(known),
        "ci95": list(bootstrap_interval(known, seed)) if len(known) >= MIN_SUBJECTS else None,
        "n": len(known),
        "per_subject": values,
    }
    reason = "; ".join(r for r in reasons if r)
    if reason:
        summary["reason"] = reason
    return summary


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p of the signed-rank test (see `signed_ranks`)."""
    import numpy as np

    return float(signed_ranks(np.array([differences], dtype=np.float64))[0][0])


def rank_biserial(differences: Sequence[float]) -> float:
    """(sum of ranks in favour - sum against) / their total; 0 if nothing differs."""
    import numpy as np

    return float(signed_ranks(np.array([differences], dtype=np.float64))[1][0])


def signed_ranks(differences: Floats) -> tuple[Floats, Floats]:
    """Two-sided signed-rank p and rank-biserial effect of each row of ``differences``, shape (comparisons, subjects).

    Zero differences are dropped; if all are zero p is 1 and the effect 0. Up to fifty differences p is exact also where
    some are equal in size (they share the mean of their ranks): all sign patterns are equally likely under the null,
    and those at least as extreme are counted. Above, the normal approximation with correction for ties.
    """
    import numpy as np

    p, effect = np.empty(len(differences)), np.empty(len(differences))
    for start in range(0, len(differences), _ROWS):
        rows = slice(start, start + _ROWS)
        p[rows], effect[rows] = _signed_ranks(np.asarray(differences[rows], dtype=np.float64))
    return p, effect


def _signed_ranks(differences: Floats) -> tuple[Floats, Floats]:
    import numpy as np
    from scipy.special import ndtr
    from scipy.stats import rankdata

    size = np.abs(differences)
    dropped = (size == 0).sum(axis=1, keepdims=True)  # they are the smallest, so the other ranks move down by them
    doubled = np.rint(2 * (rankdata(size, axis=1) - dropped)).astype(np.int64)  # mean ranks are multiples of one half
    doubled[size == 0] = 0
    plus = np.where(differences > 0, doubled, 0).sum(axis=1)
    total = doubled.sum(axis=1)
    lower = np.minimum(plus, total - plus)
    with np.errstate(invalid="ignore"):
        effect = np.where(total > 0, (2 * plus - total) / total, 0.0)
        # Doubled ranks of random signs: mean total / 2, variance sum of squares / 4, with or without ties.
        spread = np.sqrt((doubled.astype(np.float64) ** 2).sum(axis=1) / 4)
        p = np.where(total > 0, 2 * ndtr((lower - total / 2) / spread), 1.0)
    n = differences.shape[1]
    untied = (np.sort(doubled, axis=1) == 2 * np.arange(1, n + 1)).all(axis=1)
    if n <= EXACT_UP_TO and untied.any():
        p[untied] = 2 * _null_cdf(tuple(range(2, 2 * n + 1, 2)))[lower[untied]]
    for row in np.flatnonzero(~untied & (n - dropped[:, 0] <= EXACT_UP_TO)):
        ranks = np.sort(doubled[row][doubled[row] > 0])
        p[row] = 2 * _null_cdf(tuple(ranks.tolist()))[lower[row]]
    return np.minimum(1.0, p), effect


@lru_cache(maxsize=256)
def _null_cdf(ranks: tuple[int, ...]) -> Floats:
    """P(sum of those of ``ranks`` with a positive sign <= w), w = 0 ... their sum, for random signs: by convolution."""
    import numpy as np

    patterns = np.zeros(sum(ranks) + 1)
    patterns[0] = 1.0
    for rank in ranks:
        patterns[rank:] += patterns[:-rank].copy()
    return np.asarray(np.cumsum(patterns) / 2.0 ** len(ranks))


def smallest_p(n: int) -> float:
    """The smallest two-sided p that the signed-rank test can give on ``n`` subjects: all differ in one direction."""
    return min(1.0, 2.0 ** (1 - n))


def stars(p: float | None) -> str:
    """What is drawn for a corrected p value."""
    return "" if p is None else next((drawn for threshold, drawn in STARS if p < threshold), "")


def unreachable(n: int, tests: int = 1) -> str | None:
    """Which stars ``tests`` comparisons on ``n`` subjects could never get, in words; None if all are possible.

    The Holm correction multiplies the smallest of ``tests`` p values by their number.
    """
    if n < MIN_SUBJECTS:
        return silence(n)
    least = min(1.0, tests * smallest_p(n))
    lost = [f"{drawn} (p < {threshold:g})" for threshold, drawn in STARS if least >= threshold]
    if not lost:
        return None
    compared = "one comparison" if tests == 1 else f"{tests} comparisons"
    return f"with {n} subjects and {compared} p is at least {least:.2g}, so {' and '.join(lost)} cannot be reached"


def holm(p_values: Sequence[float] | Floats) -> list[float]:
    """Holm's step-down adjusted p values, in the order given."""
    import numpy as np

    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order]))
    found: list[float] = adjusted.tolist()
    return found


def paired(a: Mapping[str, float | None], b: Mapping[str, float | None], *, seed: int = 0) -> Paired:
    """Compare two methods on the subjects for which both have a value; ``p`` is not corrected (see `corrected`)."""
    differences: dict[str, float] = {}
    for subject, value in a.items():
        mine, other = finite(value), finite(b.get(subject))
        if mine is not None and other is not None:
            differences[subject] = mine - other
    values = list(differences.values())
    n = len(values)
    mean = math.fsum(values) / n if n else None
    if n < MIN_SUBJECTS:
        return Paired(n, differences, mean, None, None, None, silence(n))
    return Paired(n, differences, mean, bootstrap_interval(values, seed), wilcoxon(values), rank_biserial(values), None)


def corrected(comparisons: Mapping[Key, Paired]) -> dict[Key, Paired]:
    """The same comparisons with Holm's correction over all of them that could be tested."""
    tested = [key for key, comparison in comparisons.items() if comparison.p is not None]
    adjusted = dict(zip(tested, holm([p for c in comparisons.values() if (p := c.p) is not None]), strict=True))
    return {
        key: replace(comparison, p_holm=adjusted.get(key), family=len(tested))
        for key, comparison in comparisons.items()
    }


def against_baseline(
    values: Mapping[tuple[str, Key], Mapping[str, float | None]], baseline: str, *, seed: int = 0
) -> dict[tuple[str, Key], Paired]:
    """Every other method minus ``baseline`` wherever both are; ``values`` are one metric's, by (method, place).

    A place is a factor, or the protocol that has it. This is the one family of the stars: all methods at all places of
    one metric. Each metric is a family of its own, as ranks are by one metric.
    """
    return corrected(
        {
            (method, place): paired(of, values[baseline, place], seed=seed)
            for (method, place), of in values.items()
            if method != baseline and (baseline, place) in values
        }
    )


def silence_of(family: Mapping[Key, Paired]) -> str | None:
    """Why stars cannot appear in a family that was `corrected`, if so."""
    if not family:
        return None
    tested = [comparison for comparison in family.values() if comparison.p is not None]
    return unreachable(max(c.n for c in tested or family.values()), max(1, len(tested)))
