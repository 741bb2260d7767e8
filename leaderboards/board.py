"""The board: every accepted submission in its table, ranked with those it may be compared with; torch-free.

A *table* holds what may be compared: one protocol (by hash), dataset, split and seed. Its subjects are those that most
entries have. An entry that misses a value of one of them, or that a later one of the same method and contact replaces,
stands in the table without a rank and with the reason; nothing is left out. Nor is anybody ranked where no difference
could be significant, or who has nobody to be compared with. A *method* is a name and a contact.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.metric import MetricSpec
from mrsr_bench.benchmarks.statistics import MIN_SUBJECTS, Interval
from mrsr_bench.leaderboards.rank import Ranking, Standing, intervals, overall, rank
from mrsr_bench.leaderboards.schema import Submission, read_submissions

PRIMARY = "psnr"
"""The metric whose ranks order a table and make its tie groups."""

LONGEST_REASON = 120
"""Characters of a reason below a table."""

_CONTRASTS = {
    word: name
    for name, words in {
        "T1w": ("t1", "t1w"),
        "T2w": ("t2", "t2w"),
        "PDw": ("pd", "pdw"),
        "FLAIR": ("flair",),
        "DWI": ("dwi",),
        "CT": ("ct",),
    }.items()
    for word in words
}

TableKey = tuple[str, str, str, str, int]
"""Protocol, its hash, dataset, split, seed."""


@dataclass
class Entry:
    """One submission on the board; ``ranks`` by metric, ``unranked`` why it has none.

    ``missing`` counts the table's subjects without a value of the metric that orders it: means over other subjects
    are not comparable, so such an entry stands below those that have all, and in no plot.
    """

    submission: Submission
    method: str
    intervals: dict[str, Interval] = field(default_factory=dict)
    ranks: dict[str, int | None] = field(default_factory=dict)
    unranked: str | None = None
    superseded: bool = False
    missing: int = 0

    @property
    def id(self) -> str:
        """Digest of the submission."""
        return self.submission.digest

    def mean(self, metric: str) -> float | None:
        """Mean of ``metric`` over the subjects that have a value."""
        score = self.submission.scores.get(metric)
        return None if score is None else score.mean

    def n(self, metric: str) -> int:
        """Subjects with a value of ``metric``."""
        score = self.submission.scores.get(metric)
        return 0 if score is None else score.n

    def reason(self, metric: str) -> str | None:
        """Why ``metric`` has no value."""
        score = self.submission.scores.get(metric)
        return "not in the submission" if score is None else score.reason


@dataclass
class Table:
    """What may be compared; ``factor`` is None where the protocol is not ours.

    ``columns`` are the metrics shown, ``without`` those that the protocol names and no entry has, with the reason.
    """

    key: TableKey
    id: str
    protocol: str
    dataset: str
    split: str
    seed: int
    contrast: str
    synthetic: bool
    degradation: str
    factor: tuple[float, float, float] | None
    summary: str
    entries: list[Entry]
    subjects: tuple[str, ...] = ()
    columns: tuple[MetricSpec, ...] = ()
    rankings: dict[str, Ranking] = field(default_factory=dict)
    unknown_metrics: tuple[str, ...] = ()
    without: tuple[tuple[str, str], ...] = ()

    @property
    def factor_text(self) -> str:
        """As 2x2x1."""
        return "unknown" if self.factor is None else "x".join(f"{f:g}" for f in self.factor)

    @property
    def ranked_by(self) -> MetricSpec | None:
        """The metric that orders the table: `PRIMARY`, else the first that ranks."""
        ranked = [spec for spec in self.columns if spec.ranked]
        return next((spec for spec in ranked if spec.name == PRIMARY), ranked[0] if ranked else None)

    def ties(self, entry: Entry) -> int:
        """How many entries share the rank of ``entry``, itself among them; 0 without a rank."""
        spec = self.ranked_by
        if spec is None or entry.ranks.get(spec.name) is None:
            return 0
        return sum(other.ranks.get(spec.name) == entry.ranks[spec.name] for other in self.entries)

    def lacking(self, entry: Entry, metric: str) -> int:
        """How many of the table's subjects have no value of ``metric`` in ``entry``."""
        known = known_values(entry, metric)
        return sum(subject not in known for subject in self.subjects)


@dataclass
class Method:
    """A name and a contact, with all that was submitted under them; ``slug`` never changes."""

    slug: str
    name: str
    contact: str
    label: str
    entries: list[tuple[Table, Entry]] = field(default_factory=list)


@dataclass
class Board:
    """All tables, all methods, and where methods stand over the tables: on scans, and on procedural heads."""

    tables: list[Table]
    methods: dict[str, Method]
    standings: dict[str, list[Standing]]

    @property
    def entries(self) -> list[tuple[Table, Entry]]:
        """Every submission with its table."""
        return [(table, entry) for table in self.tables for entry in table.entries]


def slug_of(method: str, contact: str) -> str:
    """The file name of a method's page: safe on every file system, and the same whoever else submits."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", method)[:60] or "_"
    identity = hashlib.sha256("\0".join((method, contact)).encode()).hexdigest()
    return f"{safe}-{identity[:8]}"


def results_folder() -> Path:
    """``leaderboards/results`` of this package."""
    return Path(str(files("mrsr_bench.leaderboards"))) / "results"


def read_results(folder: Path) -> list[Submission]:
    """The submissions in the JSON files of ``folder``, in the order of the files' names.

    Raises:
        UserError: there is no such folder, a file is no submission, or one stands twice.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with the JSON files of accepted submissions")
    found: dict[str, Submission] = {}
    for path in sorted(folder.glob("*.json")):
        for submission in read_submissions(path):
            if submission.digest in found:
                raise UserError(f"{path.name}: stands in {folder} already under another name; remove one of the two")
            found[submission.digest] = submission
    return list(found.values())


def contrast_of(dataset: str) -> str:
    """The contrast that a dataset's name tells, as a BIDS suffix."""
    from mrsr_bench.benchmarks.datasets import datasets

    if dataset in datasets.names():
        settings = getattr(datasets.get(dataset), "settings", None)
        contrast = getattr(settings, "contrast", None)
        if contrast is not None:
            return str(contrast)
    words = re.split(r"[^a-z0-9]+", dataset.lower())
    return next((_CONTRASTS[word] for word in words if word in _CONTRASTS), "not stated")


def make_board(submissions: Iterable[Submission]) -> Board:
    """Put submissions into tables and rank them."""
    grouped: dict[TableKey, list[Submission]] = {}
    for one in submissions:
        grouped.setdefault((one.protocol, one.protocol_hash, one.dataset, one.split, one.seed), []).append(one)
    order = _protocol_order()
    keys = sorted(grouped, key=lambda k: (order.get(k[0], len(order)), *k))
    tables = [_table(key, grouped[key]) for key in keys]
    methods: dict[str, Method] = {}
    for table in tables:
        for entry in table.entries:
            made = methods.setdefault(
                entry.method, Method(entry.method, entry.submission.method, entry.submission.contact, "")
            )
            made.entries.append((table, entry))
    names = Counter(method.name for method in methods.values())
    for method in methods.values():
        method.label = method.name if names[method.name] == 1 else f"{method.name} ({method.contact})"
    methods = dict(sorted(methods.items(), key=lambda item: (item[1].name.casefold(), item[0])))
    return Board(tables, methods, {kind: _standings(tables, kind) for kind in ("scans", "phantom")})


def _standings(tables: Sequence[Table], kind: str) -> list[Standing]:
    chosen = [table for table in tables if table.synthetic == (kind == "phantom")]
    methods = dict.fromkeys(entry.method for table in chosen for entry in table.entries)
    rankings = {}
    for table in chosen:
        spec = table.ranked_by
        if spec is not None:
            rankings[table.id] = table.rankings[spec.name]
    return overall(rankings, list(methods))


def _protocol_order() -> dict[str, int]:
    from mrsr_bench.benchmarks.entrants import protocols_in_order

    return {name: place for place, name in enumerate(protocols_in_order())}


def _table(key: TableKey, submissions: Sequence[Submission]) -> Table:
    from mrsr_bench.benchmarks.protocol import get_protocol

    protocol, protocol_hash, dataset, split, seed = key
    ours = get_protocol(protocol) if protocol in _protocol_order() else None
    known = ours is not None and ours.hash == protocol_hash
    suffix = hashlib.sha256("\0".join(map(str, key)).encode()).hexdigest()[:8]
    table = Table(
        key=key,
        id=re.sub(r"[^A-Za-z0-9_-]", "_", f"{protocol}--{dataset}--{split}")[:80] + f"-{suffix}",
        protocol=protocol,
        dataset=dataset,
        split=split,
        seed=seed,
        contrast=contrast_of(dataset),
        synthetic=any(one.synthetic for one in submissions),
        degradation=ours.degradation if ours is not None and known else "unknown",
        factor=ours.factor if ours is not None and known else None,
        summary=ours.summary if ours is not None and known else "a protocol that this version does not have",
        entries=[Entry(one, slug_of(one.method, one.contact)) for one in submissions],
    )
    _mark_superseded(table.entries)
    specs = _metric_specs()
    present = dict.fromkeys(name for one in submissions for name, score in one.scores.items() if score.n)
    wanted = [*(ours.metrics if ours is not None else ()), *specs]
    table.columns = tuple(specs[name] for name in dict.fromkeys(wanted) if name in present and name in specs)
    table.unknown_metrics = tuple(name for name in present if name not in specs)
    named = ours.metrics if ours is not None and known else ()
    table.without = tuple((name, _why_none(table.entries, name)) for name in named if name not in present)
    table.subjects = _common_subjects(table.entries)
    _fill_intervals(table)
    _rank(table)
    spec = table.ranked_by
    table.entries.sort(key=lambda entry: _place(entry, spec))
    return table


def _place(entry: Entry, spec: MetricSpec | None) -> tuple[float, bool, float, str, str]:
    """Sort key: ranks first, then those with all subjects, then the better mean, then the name."""
    name = entry.submission.method.casefold()
    if spec is None:
        return float("inf"), False, 0.0, name, entry.id
    found, mean = entry.ranks.get(spec.name), entry.mean(spec.name)
    worth = float("inf") if mean is None else (-mean if spec.direction == "higher" else mean)
    return float("inf") if found is None else found, entry.missing > 0, worth, name, entry.id


def _metric_specs() -> Mapping[str, MetricSpec]:
    from mrsr_bench.benchmarks.metrics import metrics

    return {spec.name: spec for spec in metrics.all()}


def _why_none(entries: Sequence[Entry], metric: str) -> str:
    """What most entries say of their missing ``metric``."""
    reasons = Counter(essential(entry.reason(metric) or "no reason is given") for entry in entries)
    return min(reasons, key=lambda reason: (-reasons[reason], reason))


def essential(reason: str) -> str:
    """A reason without what to do about it, which is for whoever runs the method."""
    first = re.split(r"; | and MRSR_BENCH_| and their download |: the parameters ", reason)[0]
    return first if len(first) <= LONGEST_REASON else f"{first[:LONGEST_REASON]}..."


def _mark_superseded(entries: Sequence[Entry]) -> None:
    """Of several entries of one method, the latest counts (by date, then by digest, so that the choice is fixed)."""
    latest: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda e: (e.submission.date, e.id)):
        older = latest.get(entry.method)
        if older is not None:
            older.superseded = True
            older.unranked = f"replaced by {entry.id[:8]} of {entry.submission.date}"
        latest[entry.method] = entry


def _common_subjects(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The set of subjects that most entries have; of equally many, the larger, then the first in order."""
    sets = Counter(frozenset(entry.submission.subjects) for entry in entries if not entry.superseded)
    best = max(sets, key=lambda found: (sets[found], len(found), sorted(found)))
    return tuple(sorted(best))


def known_values(entry: Entry, metric: str) -> dict[str, float]:
    """The value of ``metric`` for every subject that has one."""
    score = entry.submission.scores.get(metric)
    return {} if score is None else {s: v for s, v in score.per_subject.items() if v is not None}


def _fill_intervals(table: Table) -> None:
    """Intervals, from our own bootstrap and not from the submission, where eight subjects or more have a value."""
    import numpy as np

    for spec in table.columns:
        by_count: dict[int, list[Entry]] = {}
        for entry in table.entries:
            by_count.setdefault(entry.n(spec.name), []).append(entry)
        for n, entries in by_count.items():
            if n < MIN_SUBJECTS:
                continue
            per_entry = [known_values(entry, spec.name) for entry in entries]
            values = np.array([[per[subject] for subject in sorted(per)] for per in per_entry])
            for entry, interval in zip(entries, intervals(values), strict=True):
                entry.intervals[spec.name] = interval


def _rank(table: Table) -> None:
    """Rank, by every metric that may rank, the entries that have a value of every subject of the table."""
    for spec in table.columns:
        if not spec.ranked:
            continue
        complete: dict[str, Mapping[str, float | None]] = {}
        orders = spec == table.ranked_by
        for entry in table.entries:
            known = known_values(entry, spec.name)
            missing = [subject for subject in table.subjects if subject not in known]
            if orders:
                entry.missing = len(missing)
            if missing and orders and entry.unranked is None:
                entry.unranked = f"no {spec.name} for {len(missing)} of {len(table.subjects)} subjects"
            if not missing and not entry.superseded:
                complete[entry.id] = {subject: known[subject] for subject in table.subjects}
        ranking = _ranking(complete, spec, table)
        places = {found.method: found.rank for found in ranking.ranks}
        for entry in table.entries:
            entry.ranks[spec.name] = places.get(entry.id)
        if orders and not ranking.groups:
            for entry in table.entries:
                entry.unranked = entry.unranked or ranking.reason
        by_method = {entry.id: entry.method for entry in table.entries}
        table.rankings[spec.name] = _renamed(ranking, by_method)


def _ranking(complete: Mapping[str, Mapping[str, float | None]], spec: MetricSpec, table: Table) -> Ranking:
    """Ranks of the complete entries; none, and a reason, where nobody could be told from anybody else."""
    if not complete:
        return Ranking((), (), f"no entry has {spec.name} of all {len(table.subjects)} subjects")
    found = rank(complete, higher_is_better=spec.direction == "higher")
    reason = found.reason
    if reason is None and len(complete) == 1:
        alone = len({entry.method for entry in table.entries}) == 1
        others = f"no other method has {spec.name} of all {len(table.subjects)} subjects"
        reason = "alone in its table" if alone else others
    if reason is None:
        return found
    return Ranking(tuple(replace(r, rank=None) for r in found.ranks), (), reason)


def _renamed(ranking: Ranking, names: Mapping[str, str]) -> Ranking:
    """The ranking with methods in the place of digests: unique, since only one entry of a method is ranked."""

    ranks = tuple(
        replace(r, method=names[r.method], beaten_by=tuple(names[m] for m in r.beaten_by)) for r in ranking.ranks
    )
    return Ranking(ranks, tuple(tuple(names[m] for m in group) for group in ranking.groups), ranking.reason)


def facts_of(name: str) -> dict[str, Any] | None:
    """What the zoo says of a method called ``name``, None if it has none."""
    from mrsr_bench.zoo.methods import methods

    try:
        spec = methods.get(name)
    except UserError:
        return None
    return {"paper": spec.paper, "summary": spec.summary, "licence": spec.licence, "deviations": spec.deviations}
