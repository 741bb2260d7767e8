"""Stored runs put in order for a report: by task and table, compared, with trainings, and with what is missing and why.

Means, intervals and tests are computed anew from the subjects' scores by `benchmarks.statistics`. A *section* is one
table: the runs of one protocol on one dataset, split and seed, checked to have scored the same images. Sections with
the same degradation at several factors make a *series*.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.evaluate import in_family
from mrsr_bench.benchmarks.metrics import known_metrics
from mrsr_bench.benchmarks.protocol import Protocol
from mrsr_bench.benchmarks.reports.training import Training, training_of
from mrsr_bench.benchmarks.results import CURVES_FILE, FIGURES_FOLDER, RUN_FILE, file_name, read_run
from mrsr_bench.benchmarks.statistics import MIN_SUBJECTS, Paired, against_baseline, silence_of, summarise
from mrsr_bench.leaderboards.rank import Ranking, rank

BASELINES = ("cubic", "zero_fill")
FIRST_METRICS = ("psnr", "ssim", "nrmse")
NOT_IN_RUN = "not in this run"
NOT_COMPUTED = "not computed in this run"
_NEEDED = {"resolved": str, "protocol_content": dict, "pieces": dict, "scores": dict, "ingredients": dict}


@dataclass(frozen=True, eq=False)
class Entry:
    """One run in a table under its ``label``, and how its weights were trained."""

    label: str
    run: Mapping[str, Any]
    folder: Path
    training: Training

    @property
    def seconds(self) -> float | None:
        """Median seconds of inference per volume."""
        value = self.run.get("seconds_per_volume")
        return float(value) if isinstance(value, (int, float)) else None

    @cached_property
    def hardware(self) -> str:
        """Where inference was timed; several environments one after the other."""
        texts = []
        for environment in self.run.get("environments", ()):
            facts = environment.get("hardware", {})
            text = facts.get("gpu") if environment.get("device") != "cpu" else None
            texts.append(text or f"{facts.get('cpu', 'unknown CPU')}, {facts.get('threads', '?')} threads")
        return "; ".join(dict.fromkeys(texts)) or "not recorded"

    def figures(self) -> list[Path]:
        """The stored pictures of subjects."""
        return sorted((self.folder / FIGURES_FOLDER).glob("*.png"))

    @cached_property
    def curves(self) -> dict[str, Any]:
        """The stored curves by subject, image and metric; none where the run holds none.

        Raises:
            UserError: the file of curves is not what a run writes.
        """
        file = self.folder / CURVES_FILE
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            for image in (image for of_subject in found.values() for image in of_subject.values()):
                if not all(_is_curve(curve) for curve in image.values()):
                    raise ValueError("not a curve")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
            raise UserError(f"{file}: not readable curves; run it again with --fresh") from error
        return dict(found)


def _is_curve(curve: Mapping[str, Any]) -> bool:
    numbers = [*curve["frequency"], *curve["correlation"], curve["nyquist"]]
    whole = all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers)
    return whole and len(curve["frequency"]) == len(curve["correlation"]) > 0 and curve["nyquist"] > 0


@dataclass(eq=False)
class Section:
    """One table. Values of a subject that a run does not hold are None; ``asked`` are metrics for its first table.

    ``repeats`` are runs of other trainings of its methods, which rank nowhere: they show what a seed changes.
    """

    protocol: Protocol
    dataset: str
    split: str
    seed: int
    synthetic: bool
    entries: list[Entry]
    notes: list[str] = field(default_factory=list)
    asked: tuple[str, ...] = ()
    repeats: tuple[Mapping[str, Any], ...] = ()

    @property
    def title(self) -> str:
        """Protocol and dataset, and split and seed where they are not the usual ones."""
        text = f"{self.protocol.name} on {self.dataset}"
        text += "" if self.split == "test" else f", {self.split}"
        return text if self.seed == 0 else f"{text}, seed {self.seed}"

    @property
    def slug(self) -> str:
        """The title as a file name."""
        name = f"{self.protocol.name}--{self.dataset}--{self.split}" + (f"--{self.seed}" if self.seed else "")
        return file_name(name)

    @cached_property
    def subjects(self) -> list[str]:
        """All subjects of all runs."""
        return sorted({subject for entry in self.entries for subject in entry.run["subjects"]})

    @cached_property
    def summaries(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By label and metric: what `statistics.summarise` gives."""
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for entry in self.entries:
            absent = [s for s in self.subjects if s not in entry.run["subjects"]]
            found[entry.label] = {}
            for key in self.all_keys:
                score = entry.run["scores"].get(key)
                if score is None:
                    found[entry.label][key] = summarise({}, missing=NOT_COMPUTED)
                    continue
                values = score.get("per_subject", {})
                reason = score.get("reason") if not values or any(v is None for v in values.values()) else None
                whole = {s: values.get(s) for s in self.subjects} if values else {}
                missing = "; ".join(filter(None, (f"{', '.join(absent)} {NOT_IN_RUN}" if absent else None, reason)))
                found[entry.label][key] = summarise(whole, seed=self.seed, missing=missing or None)
        return found

    @cached_property
    def all_keys(self) -> list[str]:
        """Every metric of every run, the first metrics first."""
        present = {key: None for entry in self.entries for key in entry.run["scores"]}
        return [*(k for k in FIRST_METRICS if k in present), *(k for k in present if k not in FIRST_METRICS)]

    @cached_property
    def keys(self) -> list[str]:
        """Metrics for which some run has a value."""
        return [k for k in self.all_keys if any(self.summaries[e.label][k]["mean"] is not None for e in self.entries)]

    @cached_property
    def table_keys(self) -> list[str]:
        """Those of the first table: the protocol's, data consistency, and what was asked for."""
        return [key for key in self.keys if in_family(key, self.protocol.metrics, self.asked)]

    @cached_property
    def missing(self) -> list[str]:
        """What no run has, and what some do not have, with the reasons."""
        lines: dict[str, None] = {}
        shared: dict[str, list[str]] = {}
        for key in self.all_keys:
            if key not in self.keys:
                reasons = list(dict.fromkeys(self.summaries[e.label][key]["reason"] for e in self.entries))
                told = [r for r in reasons if not any(r != other and r in other for other in reasons)]
                shared.setdefault("; ".join(told), []).append(key)
        for reason, keys in shared.items():
            lines[f"{', '.join(keys)}: no value in any run ({reason})"] = None
        told_of: dict[str, list[str]] = {}
        for entry in self.entries:
            gaps: dict[str, list[str]] = {}
            for key in self.keys:
                summary = self.summaries[entry.label][key]
                if summary["n"] < len(self.subjects):
                    gaps.setdefault(summary["reason"], []).append(key)
            for reason, keys in gaps.items():
                which = "every metric" if len(keys) == len(self.keys) else ", ".join(keys)
                told_of.setdefault(f"{which}: {reason}", []).append(entry.label)
        lines |= {f"{', '.join(labels)}; {what}": None for what, labels in told_of.items()}
        for name in BASELINES:
            if name not in self.labels:
                lines[f"{name}: no run of this baseline under {self.title} was given"] = None
        return list(lines)

    @property
    def labels(self) -> list[str]:
        """The methods of the table."""
        return [entry.label for entry in self.entries]

    def values(self, label: str, key: str) -> dict[str, float | None]:
        """One metric of one method by subject."""
        per_subject = self.summaries[label][key].get("per_subject", {})
        return {subject: per_subject.get(subject) for subject in self.subjects}

    def complete(self, key: str) -> list[str]:
        """The methods with a value of every subject by one metric."""
        return [label for label in self.labels if None not in self.values(label, key).values()]

    @cached_property
    def rankings(self) -> dict[str, Ranking]:
        """Ranks and groups by metric, for the metrics that may rank, of the methods that have all subjects.

        A method that lacks some stands in the table without a rank; where fewer than two are complete, every pair is
        compared over the subjects that both have.
        """
        found: dict[str, Ranking] = {}
        for key in self.table_keys:
            if higher_is_better(key) is not None and len(self.entries) > 1:
                complete = self.complete(key)
                ranked = complete if len(complete) > 1 else self.labels
                scores = {label: self.values(label, key) for label in ranked}
                found[key] = rank(scores, higher_is_better=bool(higher_is_better(key)))
        return found

    def against(self, baseline: str, key: str) -> dict[str, Paired]:
        """Every other method minus ``baseline`` by one metric; Holm over these comparisons."""
        values = {(label, self.slug): self.values(label, key) for label in self.labels}
        found = against_baseline(values, baseline, seed=self.seed)
        return {label: comparison for (label, _), comparison in found.items()}

    def repeated(self, label: str, key: str) -> tuple[list[float], int]:
        """Means of every training of a method over the subjects that all its runs scored, and their number.

        Empty if the method was trained but once.
        """
        entry = next(entry for entry in self.entries if entry.label == label)
        runs = [entry.run, *(run for run in self.repeats if run["resolved"] == entry.run["resolved"])]
        values = [run["scores"].get(key, {}).get("per_subject", {}) for run in runs]
        common = [s for s in self.subjects if all(v.get(s) is not None for v in values)]
        if not common or len(runs) < 2:
            return [], 0
        return [math.fsum(v[s] for s in common) / len(common) for v in values], len(common)

    def silent_stars(self, baseline: str, key: str) -> str | None:
        """Why stars cannot appear in `against`, if so."""
        return silence_of(self.against(baseline, key))

    @property
    def few(self) -> bool:
        """Whether there are too few subjects for any claim."""
        return len(self.subjects) < MIN_SUBJECTS


@dataclass(frozen=True, eq=False)
class Series:
    """Sections that differ in the factor alone, by rising factor."""

    title: str
    sections: tuple[Section, ...]
    factors: tuple[float, ...]

    @property
    def labels(self) -> list[str]:
        """All methods of all its sections."""
        return list(dict.fromkeys(label for section in self.sections for label in section.labels))


@dataclass(frozen=True, eq=False)
class Content:
    """All that a report shows: sections by task."""

    tasks: dict[str, list[Section]]
    series: dict[str, list[Series]]
    command: str

    @property
    def sections(self) -> list[Section]:
        """All tables, task by task."""
        return [section for of_task in self.tasks.values() for section in of_task]

    @cached_property
    def labels(self) -> list[str]:
        """All methods of all tables, in the order of their colours."""
        return list(dict.fromkeys(label for section in self.sections for label in section.labels))


def higher_is_better(key: str) -> bool | None:
    """The direction of a metric; None if it may not rank or is not known here."""
    from mrsr_bench.benchmarks.metrics import metrics

    stem = key.removesuffix("_noise_free")
    if stem not in metrics.names() or not metrics.get(stem).ranked:
        return None
    return metrics.get(stem).direction == "higher"


def content_of(
    paths: Sequence[str | Path], command: str, metrics: Sequence[str] = (), repeats: Sequence[str | Path] = ()
) -> Content:
    """Read runs (or folders of runs) and put them in order; ``metrics`` are wanted in the first tables too.

    ``repeats`` are runs of the same methods trained again with another seed.

    Raises:
        UserError: a run cannot be read, two runs of one table scored different images, a metric is unknown, or a
            repeat repeats none of the runs.
    """
    asked = known_metrics(metrics)
    tables = _by_table(paths)
    again = _by_table(repeats)
    for key, found in again.items():
        for folder, run in found:
            _check_repeat(folder, run, [r for _, r in tables.get(key, ())])
    sections = [_section(found, asked, again.get(key, ())) for key, found in tables.items()]
    tasks: dict[str, list[Section]] = {}
    for section in sorted(sections, key=lambda s: (_task(s.protocol), s.dataset, s.protocol.factor, s.protocol.name)):
        tasks.setdefault(_task(section.protocol), []).append(section)
    return Content(tasks, {task: _series(found) for task, found in tasks.items()}, command)


def _by_table(paths: Sequence[str | Path]) -> dict[tuple[Any, ...], list[tuple[Path, dict[str, Any]]]]:
    """Runs by what they must share to stand in one table."""
    tables: dict[tuple[Any, ...], list[tuple[Path, dict[str, Any]]]] = {}
    for folder in dict.fromkeys(folder for path in paths for folder in _folders(Path(path))):
        run = _checked(read_run(folder), folder)
        key = (run["protocol_hash"], run["dataset"], run.get("split", ""), run["seed"])
        tables.setdefault(key, []).append((folder, run))
    return tables


def _check_repeat(folder: Path, run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> None:
    same = [r for r in runs if r["resolved"] == run["resolved"]]
    if not same:
        raise UserError(
            f"{folder.name}: repeats none of the runs; name the run of {run['resolved']} on the same data too"
        )
    if any(r.get("weights_sha256") == run.get("weights_sha256") for r in same):
        raise UserError(f"{folder.name}: has the weights of the run it repeats; a repeat is of another training")


def _folders(path: Path) -> list[Path]:
    if not path.exists() and (Path("runs") / path).exists():
        path = Path("runs") / path
    if path.is_dir() and not (path / RUN_FILE).is_file():
        inside = sorted(file.parent for file in path.glob(f"*/{RUN_FILE}") if not file.parent.name.startswith("."))
        if inside:
            return inside
    return [path.parent if path.name == RUN_FILE else path]


def _checked(run: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What `read_run` let pass, down to the numbers."""

    def numbers(score: object) -> bool:
        if not isinstance(score, dict) or not isinstance(score.get("per_subject", {}), dict):
            return False
        values = score.get("per_subject", {}).values()
        return all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in values)

    def images(piece: object) -> bool:
        stored = piece.get("images") if isinstance(piece, dict) else None
        return isinstance(stored, list) and all(
            isinstance(i, dict) and {"image", "fingerprint"} <= set(i) for i in stored
        )

    whole = all(isinstance(run.get(key), kind) for key, kind in _NEEDED.items())
    whole = whole and all(isinstance(subject, str) for subject in run["subjects"])
    whole = whole and all(numbers(score) for score in run["scores"].values())
    whole = whole and all(images(run["pieces"].get(subject)) for subject in run["subjects"])
    if not whole:
        raise UserError(f"{folder / RUN_FILE}: not a run of this version; run it again with --fresh")
    return run


def _section(
    found: Sequence[tuple[Path, dict[str, Any]]],
    asked: tuple[str, ...],
    again: Sequence[tuple[Path, dict[str, Any]]],
) -> Section:
    first = found[0][1]
    _check_images([*found, *again])
    kept, notes = _folded(found)
    try:
        protocol = Protocol(first["protocol_content"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{found[0][0] / RUN_FILE}: its protocol is not readable; run it again with --fresh") from error
    entries = [Entry(label, run, folder, training_of(run)) for label, folder, run in _labelled(kept)]
    entries.sort(key=lambda entry: not entry.training.none_needed)
    synthetic = any(bool(run.get("synthetic")) for _, run in found)
    place = (protocol, first["dataset"], first.get("split", ""), first["seed"])
    return Section(*place, synthetic, entries, notes, asked, tuple(run for _, run in again))


def _check_images(found: Sequence[tuple[Path, dict[str, Any]]]) -> None:
    """A subject's name is not enough: all runs of a table must have scored the same images."""
    seen: dict[str, tuple[Path, list[Any]]] = {}
    for folder, run in found:
        for subject in run["subjects"]:
            prints = [[image["image"], image["fingerprint"]] for image in run["pieces"][subject]["images"]]
            other, theirs = seen.setdefault(subject, (folder, prints))
            if theirs != prints:
                raise UserError(
                    f"{other.name} and {folder.name} do not belong in one table: the images of {subject} differ "
                    "between them; run both on the same data, or report them apart"
                )


def _folded(
    found: Sequence[tuple[Path, dict[str, Any]]],
) -> tuple[list[tuple[Path, dict[str, Any]]], list[str]]:
    """Leave out runs that are a part of another: the same ingredients on fewer of its subjects. A note names them."""
    notes: list[str] = []
    kept: list[tuple[Path, dict[str, Any]]] = []
    for folder, run in sorted(found, key=lambda pair: -len(pair[1]["subjects"])):
        whole = next((k for k, r in kept if _is_part(run, r)), None)
        if whole is None:
            kept.append((folder, run))
        else:
            notes.append(f"{folder.name} is a part of {whole.name} ({len(run['subjects'])} of its subjects)")
    order = [folder for folder, _ in found]
    return sorted(kept, key=lambda pair: order.index(pair[0])), notes


def _is_part(run: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    same = json.dumps(run["ingredients"], sort_keys=True) == json.dumps(whole["ingredients"], sort_keys=True)
    return same and set(run["subjects"]) <= set(whole["subjects"])


def _labelled(found: Sequence[tuple[Path, dict[str, Any]]]) -> list[tuple[str, Path, dict[str, Any]]]:
    """Methods under their names; where one is there twice, with the beginning of its weights' SHA-256 or run's key.

    The first run of a method without weights keeps the plain name, so that it can be a baseline.
    """
    names = [run["resolved"] for _, run in found]
    labelled = []
    for folder, run in found:
        name = run["resolved"]
        same = [r for _, r in found if r["resolved"] == name]
        if names.count(name) > 1 and (run is not same[0] or run.get("weights_sha256")):
            differ = len({str(r.get("weights_sha256")) for r in same}) == len(same)
            name += f" ({str(run.get('weights_sha256') if differ else run.get('key'))[:8]})"
        labelled.append((name, folder, run))
    return labelled


def _axes(protocol: Protocol) -> str:
    return " and ".join(name for name, factor in zip(("R", "A", "S"), protocol.factor, strict=True) if factor != 1)


def _task(protocol: Protocol) -> str:
    """What LR is, whatever the factor."""
    text = protocol.degradation.replace("_", " ")
    axes = _axes(protocol)
    return f"{text} along {axes}" if axes else text


def _series(sections: Sequence[Section]) -> list[Series]:
    groups: dict[str, list[Section]] = {}
    for section in sections:
        content = section.protocol.content
        settings = {k: v for k, v in section.protocol.settings.items() if k != "factor"}
        key = [settings, content.get("paper"), content.get("reference"), section.dataset, section.split, section.seed]
        groups.setdefault(json.dumps(key, sort_keys=True, default=str), []).append(section)
    found = []
    for group in groups.values():
        by_factor = {max(section.protocol.factor): section for section in group}
        if len(by_factor) > 1 and len(by_factor) == len(group):
            first = group[0]
            paper = " (as its paper)" if first.protocol.of_a_paper else ""
            title = f"{_task(first.protocol)}{paper} on {first.dataset}"
            factors = tuple(sorted(by_factor))
            found.append(Series(title, tuple(by_factor[f] for f in factors), factors))
    return found
