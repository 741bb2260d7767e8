"""Claims of a paper's text against our scores: each holds, does not hold, or cannot be said, and why.

A claim is a list of checks, a check expands to single comparisons of two methods, and all significance tests of one
table are one family (paired Wilcoxon, Holm; `mrsr_bench.benchmarks.statistics`). A claim of being *better* holds where
every comparison is significant in that direction; without significance it does not hold, unless that many subjects
could not have reached it. A claim of being *similar* holds where the 95 % interval of the mean difference lies within
a stated margin, and fails where it lies outside. Under eight subjects nothing is claimed. Counts of parameters are
exact and need no test. A claim of *transfer* to another contrast cannot be said of weights that saw that contrast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from mrsr_bench.benchmarks.statistics import (
    ALPHA,
    Paired,
    bootstrap_interval,
    corrected,
    finite,
    paired,
    silence,
    smallest_p,
)

Verdict = Literal["holds", "does not hold", "cannot be said"]
HOLDS: Verdict = "holds"
FAILS: Verdict = "does not hold"
UNKNOWN: Verdict = "cannot be said"

SECONDS, PARAMETERS = "seconds", "parameters"
LOWER_IS_BETTER = (SECONDS, PARAMETERS)
SAME_SIZE = 0.1
"""Relative difference in parameters up to which two networks are of one size."""
ABOUT = 1.5
"""A ratio of times is about r within r / 1.5 and 1.5 r."""

Place = tuple[str, str]
"""A protocol and a method's label in the table."""
Values = Mapping[str, float | None]


@dataclass
class Measured:
    """What was measured: values by subject, or the reason that there are none, of each place and metric."""

    values: dict[tuple[str, str, str], Values] = field(default_factory=dict)
    reasons: dict[tuple[str, str, str], str] = field(default_factory=dict)
    missing: dict[Place, str] = field(default_factory=dict)
    parameters: dict[Place, int] = field(default_factory=dict)
    machines: dict[Place, frozenset[str]] = field(default_factory=dict)
    no_transfer: dict[Place, str] = field(default_factory=dict)
    """Why scores of a place show no transfer to another contrast."""

    def why_not(self, place: Place, metric: str) -> str | None:
        """Why a place has no values of a metric; None if it has."""
        if place in self.missing:
            return f"{place[1]} is missing: {self.missing[place]}"
        key = (*place, metric)
        if any(finite(value) is not None for value in self.values.get(key, {}).values()):
            return None
        return f"{metric} of {place[1]}: {self.reasons.get(key, 'was not computed')}"


@dataclass(frozen=True)
class Item:
    """One comparison: ``a`` against ``b`` in ``metric``; with ``to``, their distances to that place's values."""

    a: Place
    b: Place
    metric: str
    to: Place | None = None

    def why_not(self, measured: Measured) -> str | None:
        """Why it cannot be made; None if it can."""
        for place in (self.a, self.b, *((self.to,) if self.to else ())):
            reason = measured.why_not(place, self.metric)
            if reason is not None:
                return reason
        if self.metric == SECONDS:
            machines = measured.machines.get(self.a, frozenset()) | measured.machines.get(self.b, frozenset())
            if len(machines) > 1:
                return f"{self.a[1]} and {self.b[1]} were timed on different machines; run both again with --fresh"
        return None

    def values(self, measured: Measured) -> tuple[Values, Values]:
        """Both sides, by subject."""
        a, b = (measured.values[(*place, self.metric)] for place in (self.a, self.b))
        if self.to is None:
            return a, b
        aim = measured.values[(*self.to, self.metric)]
        return _distances(a, aim), _distances(b, aim)


def _distances(values: Values, aim: Values) -> Values:
    found: dict[str, float | None] = {}
    for subject, value in values.items():
        mine, other = finite(value), finite(aim.get(subject))
        found[subject] = None if mine is None or other is None else abs(mine - other)
    return found


@dataclass(frozen=True)
class Judge:
    """Decides comparisons: ``higher`` are the metrics whose higher value is better, ``margins`` those of similarity."""

    measured: Measured
    higher: frozenset[str]
    margins: Mapping[str, float]
    tests: Mapping[Item, Paired]
    seed: int

    def better(self, item: Item) -> tuple[Verdict, str]:
        """Whether ``a`` is significantly better than ``b``."""
        what = f"{item.a[1]} against {item.b[1]} in {item.metric}"
        reason = item.why_not(self.measured)
        if reason is not None:
            return UNKNOWN, reason
        test = self.tests[item]
        if test.p_holm is None or test.mean is None:
            return UNKNOWN, f"{what}: {test.reason}"
        told = (
            f"{what}: mean difference {test.mean:+.4g}, p = {test.p_holm:.2g} (Holm over {test.family}), n = {test.n}"
        )
        if test.p_holm >= ALPHA:
            if test.family * smallest_p(test.n) >= ALPHA:
                return UNKNOWN, f"{told}: {test.n} subjects and {test.family} tests cannot reach p < {ALPHA:g}"
            return FAILS, f"{told}: no significant difference"
        favoured = (test.mean > 0) == (item.to is None and item.metric in self.higher)
        return (HOLDS, told) if favoured else (FAILS, f"{told}: the other way round")

    def similar(self, item: Item, *, about: float | None = None) -> tuple[Verdict, str]:
        """Whether the two lie within the margin; of times, whether ``b`` takes ``about`` times as long as ``a``."""
        what = f"{item.a[1]} and {item.b[1]} in {item.metric}"
        reason = item.why_not(self.measured)
        if reason is not None:
            return UNKNOWN, reason
        a, b = item.values(self.measured)
        if about is None:
            margin, differences = self.margins[item.metric], list(paired(a, b).differences.values())
        else:
            margin = math.log(ABOUT)
            logs = [{s: math.log(v) for s, v in side.items() if v is not None and v > 0} for side in (b, a)]
            differences = [d - math.log(about) for d in paired(*logs).differences.values()]
        quiet = silence(len(differences))
        if quiet is not None:
            return UNKNOWN, f"{what}: {quiet}"
        low, high = bootstrap_interval(differences, self.seed)
        if about is None:
            told = f"{what}: 95 % interval of the difference {low:+.4g} to {high:+.4g}, margin {margin:g} (ours)"
        else:
            told = (
                f"{what}: {about * math.exp(low):.3g} to {about * math.exp(high):.3g} times (95 %); "
                f"about {about:g} is {about / ABOUT:.3g} to {about * ABOUT:.3g} (ours)"
            )
        if -margin <= low and high <= margin:
            return HOLDS, told
        return (FAILS, told) if low > margin or high < -margin else (UNKNOWN, f"{told}: it reaches beyond the margin")

    def size(self, check: Mapping[str, Any], a: Place, b: Place) -> tuple[Verdict, str]:
        """Whether ``a`` has fewer parameters than ``b`` (by a percentage, where one is claimed), or about as many."""
        counts = [self.measured.parameters.get(place) for place in (a, b)]
        if counts[0] is None or counts[1] is None:
            return UNKNOWN, f"the parameters of {(a if counts[0] is None else b)[1]} are not stated"
        ratio = counts[0] / counts[1]
        told = f"{a[1]} has {counts[0]:,} parameters, {b[1]} {counts[1]:,} ({100 * (ratio - 1):+.1f} %)"
        if check["is"] == "same_size":
            return (HOLDS if abs(ratio - 1) <= SAME_SIZE else FAILS), told
        fits = ratio < 1 and abs(100 * (1 - ratio) - check.get("percent", 0)) <= check.get("tolerance", math.inf)
        return (HOLDS if fits else FAILS), told

    def ranks_like(self, metric: str, items: Sequence[Item]) -> tuple[Verdict, str]:
        """Whether no pair that ``metric`` and another metric both tell apart is ordered differently by them."""
        reasons, agreed, against = [], 0, []
        for item in items:
            pair = [self.better(Item(item.a, item.b, key)) for key in (metric, item.metric)]
            reasons += [why for verdict, why in pair if verdict == UNKNOWN]
            signs = [self._sign(Item(item.a, item.b, key)) for key in (metric, item.metric)]
            if 0 not in signs:
                agreed += signs[0] == signs[1]
                against += [f"{item.a[1]} and {item.b[1]} by {item.metric}"] if signs[0] != signs[1] else []
        if against:
            return FAILS, f"{metric} orders otherwise {', '.join(against)}"
        if not agreed:
            return UNKNOWN, reasons[0] if reasons else f"no pair is told apart by {metric} and another metric"
        left = f"; not all could be compared: {reasons[0]}" if reasons else ""
        return (UNKNOWN if reasons else HOLDS), f"{agreed} pairs that both tell apart are ordered alike{left}"

    def _sign(self, item: Item) -> int:
        verdict, why = self.better(item)
        return 1 if verdict == HOLDS else -1 if verdict == FAILS and why.endswith("round") else 0


def _expanded(check: Mapping[str, Any], labels: Mapping[str, Sequence[str]]) -> Iterator[Item]:
    """The comparisons of a check; ``labels`` are the methods of each protocol, in the table's order."""
    kind = check["is"]
    for protocol in check.get("protocols") or labels:
        if kind == "ranks_like":
            for (a, b), metric in ((p, m) for p in combinations(check["methods"], 2) for m in check["metrics"]):
                yield Item((protocol, a), (protocol, b), metric)
            continue
        other = check.get("against", protocol)
        than = check["than"]
        rivals = [label for label in labels[other] if label != check["method"]] if than == "others" else than
        metrics = (
            [SECONDS] if kind == "times" else [PARAMETERS] if kind in ("smaller", "same_size") else check["metrics"]
        )
        to = (protocol, check["to"]) if "to" in check else None
        for rival in rivals:
            for metric in metrics:
                yield Item((protocol, check["method"]), (other, rival), metric, to)


def _tested(check: Mapping[str, Any], items: Sequence[Item]) -> list[Item]:
    """The comparisons that need a significance test."""
    if check["is"] in ("better", "closer"):
        return list(items)
    if check["is"] == "ranks_like":
        return [Item(item.a, item.b, key) for item in items for key in (check["metric"], item.metric)]
    return []


def judge_claims(
    claims: Sequence[Mapping[str, Any]],
    measured: Measured,
    labels: Mapping[str, Sequence[str]],
    *,
    higher: frozenset[str],
    margins: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """``text``, ``verdict`` and ``checks`` (each comparison's verdict and reason) of every claim, in order."""
    expanded = [[list(_expanded(check, labels)) for check in claim["checks"]] for claim in claims]
    tests: dict[Item, Paired] = {}
    for claim, lists in zip(claims, expanded, strict=True):
        for check, items in zip(claim["checks"], lists, strict=True):
            for item in _tested(check, items):
                if item.why_not(measured) is None:
                    tests[item] = paired(*item.values(measured), seed=seed)
    judge = Judge(measured, higher, margins or {}, corrected(tests), seed)
    found = []
    for claim, lists in zip(claims, expanded, strict=True):
        results = []
        for check, items in zip(claim["checks"], lists, strict=True):
            barred = [item for item in items if claim.get("transfer") and item.a in measured.no_transfer]
            told_of = {item.a: f"{item.a[1]}: {measured.no_transfer[item.a]}" for item in barred}
            results += [(UNKNOWN, why) for why in told_of.values()]
            results += _judged(judge, check, [item for item in items if item.a not in told_of])
        verdicts = [verdict for verdict, _ in results]
        verdict = FAILS if FAILS in verdicts else UNKNOWN if UNKNOWN in verdicts else HOLDS
        told = [{"verdict": one, "because": why} for one, why in dict.fromkeys(results)]
        found.append({"text": claim["text"], "verdict": verdict, "checks": told})
    return found


def _judged(judge: Judge, check: Mapping[str, Any], items: Sequence[Item]) -> list[tuple[Verdict, str]]:
    kind = check["is"]
    if kind == "ranks_like":
        return [judge.ranks_like(check["metric"], items)]
    if kind in ("smaller", "same_size"):
        return [judge.size(check, item.a, item.b) for item in items]
    if kind == "times":
        return [judge.similar(item, about=check["about"]) for item in items]
    if kind == "similar":
        return [judge.similar(item) for item in items]
    return [judge.better(item) for item in items]
