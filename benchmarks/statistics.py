"""What may be claimed from a handful of subjects: means, intervals, paired tests, and when to keep silent.

The unit is the subject. Below two subjects there is no spread; below eight no interval, no group and no test, and a
reason says so. From eight on: a seeded percentile bootstrap of the mean over subjects (every method is resampled with
the same subjects, so differences are paired), the two-sided Wilcoxon signed-rank test (Wilcoxon 1945) with Holm's
correction (Holm 1979), and the matched-pairs rank-biserial correlation (Kerby 2014) as the size of the effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MIN_SUBJECTS = 8
RESAMPLES = 10_000
ALPHA = 0.05
_BLOCK = 4_000_000
"""Resampled values held at once: bounds the memory of a bootstrap over many subjects."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Paired:
    """Method ``a`` minus method ``b`` over the subjects they share. ``ci95``, ``p`` and ``effect`` need eight subjects.

    ``effect`` is the matched-pairs rank-biserial correlation, -1 (b higher everywhere) to 1 (a higher everywhere).
    """

    n: int
    differences: dict[str, float]
    mean: float | None
    ci95: Interval | None
    p: float | None
    effect: float | None
    reason: str | None


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
    """Two-sided p of the signed-rank test; zero differences are dropped, and if all are zero p is 1."""
    from scipy.stats import wilcoxon as signed_rank

    moved = [d for d in differences if d != 0]
    return float(signed_rank(moved, alternative="two-sided").pvalue) if moved else 1.0


def rank_biserial(differences: Sequence[float]) -> float:
    """(sum of ranks in favour - sum against) / their total; 0 if nothing differs."""
    import numpy as np
    from scipy.stats import rankdata

    moved = np.array([d for d in differences if d != 0], dtype=np.float64)
    if not len(moved):
        return 0.0
    ranks = rankdata(np.abs(moved))
    return float((ranks * np.sign(moved)).sum() / ranks.sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def paired(a: Mapping[str, float | None], b: Mapping[str, float | None], *, seed: int = 0) -> Paired:
    """Compare two methods on the subjects for which both have a value; ``p`` is not corrected yet (see `holm`)."""
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
