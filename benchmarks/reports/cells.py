"""The tables of a report as cells of text, the same for the page, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

from mrsr_bench.benchmarks.datasets import datasets
from mrsr_bench.benchmarks.reports.content import BASELINES, FIRST_METRICS, Content, Entry, Section, higher_is_better
from mrsr_bench.benchmarks.statistics import MIN_SUBJECTS, RESAMPLES
from mrsr_bench.benchmarks.tables import MINUS, header, number

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """A value; ``quiet`` stands smaller beside it, ``strong`` marks the best group."""

    text: str
    quiet: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under ``columns``; the first column names the row. ``notes`` belong below it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


def interval(key: str, ends: Sequence[float] | None, *, sign: bool = False) -> str:
    """A 95 % interval in brackets, or nothing."""
    return "" if ends is None else "[" + ", ".join(number(key, end, sign=sign) for end in ends) + "]"


def duration(seconds: float | None) -> str:
    """A training's time for people."""
    if seconds is None:
        return DASH
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def main_table(section: Section) -> Table:
    """Methods by metrics: mean over subjects, interval, rank; then what a volume costs."""
    rows = []
    for entry in section.entries:
        cells = [Cell(entry.label + (" †" if entry.training.undertrained else ""))]
        for key in section.table_keys:
            summary = section.summaries[entry.label][key]
            place = section.rankings[key].of(entry.label) if key in section.rankings else None
            beaten = any(r.rank not in (None, 1) for r in section.rankings[key].ranks) if place else False
            quiet = " ".join(filter(None, (interval(key, summary["ci95"]), f"rank {place}" if beaten else "")))
            text = number(key, summary["mean"])
            if summary["mean"] is not None and summary["n"] < len(section.subjects):
                quiet = f"{quiet} n = {summary['n']}".strip()
            cells.append(Cell(text, quiet, strong=beaten and place == 1))
        cells.append(Cell(DASH if entry.seconds is None else f"{entry.seconds:.2f}"))
        cells.append(Cell(_count(entry.training.parameters, entry)))
        rows.append(tuple(cells))
    columns = ("method", *(header(key) for key in section.table_keys), "s / volume", "parameters")
    n = len(section.subjects)
    caption = f"{section.title}: mean over {n} subject{'' if n == 1 else 's'}"
    return Table(caption, columns, tuple(rows), tuple(_main_notes(section)))


def _main_notes(section: Section) -> list[str]:
    lines = []
    if section.few:
        n = len(section.subjects)
        lines.append(f"n = {n} is below {MIN_SUBJECTS}: no interval, no test and no rank; see the subjects one by one.")
    else:
        lines.append(
            f"In brackets: 95 % bootstrap interval of the mean ({RESAMPLES:,} resamples of subjects, the same for all "
            "methods). Rank: 1 + the number of methods significantly better (two-sided Wilcoxon signed-rank over "
            "subjects, Holm over all pairs, p < 0.05); bold: rank 1."
        )
    unranked: dict[str, list[str]] = {}
    for key, ranking in section.rankings.items():
        if ranking.reason is not None:
            unranked.setdefault(ranking.reason, []).append(key)
        elif ranking.groups:
            groups = " > ".join("{" + ", ".join(group) + "}" for group in ranking.groups)
            lines.append(f"Groups by {key}, best first: {groups}.")
    lines += [f"No ranks by {', '.join(keys)}: {reason}." for reason, keys in unranked.items()]
    outside: dict[str, list[str]] = {}
    for key, ranking in section.rankings.items():
        ranked = {r.method for r in ranking.ranks}
        if left := ", ".join(label for label in section.labels if label not in ranked):
            outside.setdefault(left, []).append(key)
    lines += [
        f"Not among those ranked by {', '.join(keys)}, since not all subjects have a value: {labels}."
        for labels, keys in outside.items()
    ]
    if any(entry.training.undertrained for entry in section.entries):
        lines.append("† undertrained: not by the paper's recipe; these scores are a lower bound.")
    if section.synthetic:
        lines.append("The data are synthetic: this proves the machinery, not a method.")
    return lines


def _count(parameters: int | None, entry: Entry) -> str:
    if entry.training.none_needed:
        return "0"
    return DASH if parameters is None else f"{parameters:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def against_table(section: Section, baseline: str) -> Table | None:
    """Every method minus a baseline by the metrics that rank; None where the baseline did not run."""
    keys = [key for key in section.table_keys if higher_is_better(key) is not None]
    if baseline not in section.labels or len(section.entries) < 2 or not keys:
        return None
    by_key = {key: section.against(baseline, key) for key in keys}
    rows = []
    for label in (label for label in section.labels if label != baseline):
        cells = [Cell(label)]
        for key in keys:
            c = by_key[key][label]
            text = number(key, c.mean, sign=True) + c.stars
            p = "" if c.p_holm is None else f"p = {c.p_holm:.2g}"
            effect = "" if c.effect is None else f"r = {c.effect:+.2f}".replace("-", MINUS)
            cells.append(Cell(text, "; ".join(filter(None, (interval(key, c.ci95, sign=True), p, effect)))))
        rows.append(tuple(cells))
    spreads = [_spread_row(section, label, keys) for label in section.labels]
    rows += [row for row in spreads if row]
    notes = ["Mean paired difference over subjects."]
    if any(spreads):
        notes.append(
            "±: standard deviation of a method's mean over trainings that differ by their seed alone. A difference of "
            "that size between methods that were trained once is no evidence for either."
        )
    if not section.few:
        notes[0] += (
            " In brackets its 95 % bootstrap interval; p: two-sided Wilcoxon, Holm over the methods of a column; "
            "r: rank-biserial correlation; * p < 0.05, ** p < 0.001."
        )
    shared: dict[str, list[str]] = {}
    for key in keys:
        if reason := section.silent_stars(baseline, key):
            shared.setdefault(reason, []).append(key)
    notes += [f"{', '.join(of)}: {reason}." for reason, of in shared.items()]
    columns = ("method", *(header(key) for key in keys))
    return Table(f"{section.title}: each method minus {baseline}", columns, tuple(rows), tuple(notes))


def _spread_row(section: Section, label: str, keys: Sequence[str]) -> tuple[Cell, ...]:
    """What the seed of its training changes in a method's means; empty where it was trained once."""
    means = {key: section.repeated(label, key) for key in keys}
    count = max((len(of) for of, _ in means.values()), default=0)
    subjects = max((n for _, n in means.values()), default=0)
    if not count:
        return ()
    cells = (Cell(f"± {number(key, stdev(of))}" if of else DASH) for key, (of, _) in means.items())
    few = f" on {subjects} subjects" if subjects < len(section.subjects) else ""
    return (Cell(f"{label}, {count} trainings{few}"), *cells)


def subject_table(section: Section, key: str) -> Table:
    """Subjects by methods, beside each value its differences from the baselines; trainings below."""
    references = {name: section.values(name, key) for name in BASELINES if name in section.labels}
    each = {label: section.values(label, key) for label in section.labels}
    rows = []
    for subject in section.subjects:
        cells = [Cell(subject)]
        for label in section.labels:
            value = each[label][subject]
            cells.append(Cell(number(key, value), _differences(key, value, label, references, subject)))
        rows.append(tuple(cells))
    means = [section.summaries[label][key]["mean"] for label in section.labels]
    rows.append((Cell("mean", strong=True), *(Cell(number(key, mean), strong=True) for mean in means)))
    rows += _training_rows(section)
    notes = []
    if references:
        notes.append(f"Beside a value: the difference from {' / '.join(references)}.")
    return Table(
        f"{section.title}: {header(key)} subject by subject", ("subject", *section.labels), tuple(rows), tuple(notes)
    )


def _differences(
    key: str,
    value: float | None,
    label: str,
    references: Mapping[str, Mapping[str, float | None]],
    subject: str,
) -> str:
    if value is None or label in references:
        return ""
    others = [theirs[subject] for theirs in references.values()]
    return " / ".join(DASH if o is None else number(key, value - o, sign=True) for o in others)


def _training_rows(section: Section) -> list[tuple[Cell, ...]]:
    found = [entry.training for entry in section.entries]
    lines: dict[str, list[str]] = {
        "training steps": [_steps(entry) for entry in section.entries],
        "training time": [duration(t.seconds) for t in found],
        "parameters": [_count(t.parameters, entry) for t, entry in zip(found, section.entries, strict=True)],
        "undertrained": ["yes" if t.undertrained else "no" if t.recipe else DASH for t in found],
    }
    return [(Cell(name), *(Cell(text) for text in texts)) for name, texts in lines.items()]


def _steps(entry: Entry) -> str:
    training = entry.training
    if training.steps is None:
        return "none" if training.none_needed else DASH
    return f"{training.steps:,}".replace(",", "\N{NARROW NO-BREAK SPACE}") + (" ‡" if training.parent else "")


def training_table(section: Section) -> Table:
    """How each method's weights came to be, and where it was timed."""
    rows = []
    notes = {f"{e.label}: {e.training.reason}." for e in section.entries if e.training.reason}
    for entry in section.entries:
        t = entry.training
        recipe = DASH if t.recipe is None else t.recipe + (" †" if t.undertrained else "")
        cells = (_steps(entry), duration(t.seconds), _count(t.parameters, entry), t.hardware or DASH, entry.hardware)
        rows.append((Cell(entry.label), Cell(recipe), *(Cell(text) for text in cells)))
    lines = sorted(notes)
    if any(entry.training.undertrained for entry in section.entries):
        lines.append("† undertrained: not by the paper's recipe; these scores are a lower bound.")
    for entry in section.entries:
        if entry.training.parent:
            lines.append(
                f"‡ {entry.label}: after the training of the weights {entry.training.parent[:16]}, whose steps and "
                "time come on top."
            )
    columns = ("method", "recipe", "training steps", "training time", "parameters", "trained on", "scored on")
    return Table(f"{section.title}: trainings and hardware", columns, tuple(rows), tuple(lines))


def shown_by_subject(section: Section) -> list[str]:
    """The metrics that stand subject by subject: the first ones, or without reference whatever there is."""
    return [key for key in FIRST_METRICS if key in section.keys] or section.keys[:3]


def further_table(section: Section) -> Table | None:
    """The metrics beside the protocol's: means and intervals, no ranks; None where no run holds any."""
    keys = [key for key in section.keys if key not in section.table_keys]
    if not keys:
        return None
    rows = []
    for entry in section.entries:
        cells = [Cell(entry.label)]
        for key in keys:
            summary = section.summaries[entry.label][key]
            few = summary["mean"] is not None and summary["n"] < len(section.subjects)
            told = (interval(key, summary["ci95"]), f"n = {summary['n']}" if few else "")
            cells.append(Cell(number(key, summary["mean"]), " ".join(filter(None, told))))
        rows.append(tuple(cells))
    notes = ("Beside the metrics of the protocol; they rank nobody here.",)
    return Table(f"{section.title}: further metrics", ("method", *map(header, keys)), tuple(rows), notes)


def tables_of(section: Section) -> list[Table]:
    """All tables of a section in their order."""
    further = further_table(section)
    compared = [table for name in BASELINES if (table := against_table(section, name)) is not None]
    subjects = [subject_table(section, key) for key in shown_by_subject(section)]
    return [
        main_table(section),
        *compared,
        *subjects,
        *([further] if further is not None else []),
        training_table(section),
    ]


def coverage_table(content: Content) -> Table:
    """Which method ran in which table: what is missing is seen."""
    rows = []
    for label in content.labels:
        cells = []
        for section in content.sections:
            entry = next((entry for entry in section.entries if entry.label == label), None)
            count = 0 if entry is None else len(entry.run["subjects"])
            cells.append(Cell(DASH if entry is None else f"{count} subject{'s' * (count != 1)}"))
        rows.append((Cell(label), *cells))
    return Table(
        "What ran",
        ("method", *(section.title for section in content.sections)),
        tuple(rows),
        (f"{DASH}: no run of this method was given.",),
    )


def run_command(section: Section) -> str:
    """The command that made the runs of a section, with the dataset's place left open."""
    models = ",".join(dict.fromkeys(str(entry.run["resolved"]) for entry in section.entries))
    named = section.dataset in datasets.names()
    split = f" --split {section.split}" if section.split else ""
    suffix = next((f" --suffix {entry.run['suffix']}" for entry in section.entries if entry.run.get("suffix")), "")
    return (
        f"mrsr-bench run --model {models} --dataset {'' if named else 'PATH/'}{section.dataset}{suffix} "
        f"--protocol {section.protocol.name}{split} --subjects {len(section.subjects)} --seed {section.seed}"
    )
