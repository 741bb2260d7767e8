"""From stored scores to a report: one value per subject, what `statistics` allows to be said, and the run folders."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench.benchmarks.protocol import Protocol, sha256_of
from mrsr_bench.benchmarks.results import Row, file_name, plain, write_run
from mrsr_bench.benchmarks.statistics import finite, summarise
from mrsr_bench.benchmarks.supplement import STORED

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.entrants import Entrant

TABLE_METRICS = ("psnr", "ssim", "nrmse", "niqe", "ma", "pi", "piqe")
"""The keys that every result has, null with a reason where there is no value."""


def subject_values(
    rows: Sequence[Row], subjects: Sequence[str], metric: str
) -> tuple[dict[str, float | None], list[str]]:
    """One value per subject, the mean over its images, and why values are missing.

    A subject of whose images one has no value has none: a mean over the rest would be another quantity.
    """
    values: dict[str, float | None] = {}
    reasons: dict[str, None] = {}
    for subject in subjects:
        of_images = [row for row in rows if row.subject == subject and row.metric == metric and row.slice is None]
        numbers = [number for row in of_images if (number := finite(row.value)) is not None]
        whole = bool(of_images) and len(numbers) == len(of_images)
        values[subject] = math.fsum(numbers) / len(numbers) if whole else None
        if not of_images and any(row.metric == metric for row in rows):
            reasons[f"{subject} was scored without it before; `run --metrics {metric}` adds it"] = None
        for row in of_images:
            if finite(row.value) is None:
                reasons[row.reason or "the value is not finite"] = None
    return values, list(reasons)


def scores_of(
    rows: Sequence[Row], subjects: Sequence[str], metrics: Sequence[str], protocol: Protocol, seed: int
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Summary per metric, the table's metrics always among them, and the marks (caveats) of each metric."""
    present = list(dict.fromkeys(row.metric for row in rows if row.slice is None))
    keys = list(dict.fromkeys((*TABLE_METRICS, *metrics, *present)))
    scores: dict[str, dict[str, Any]] = {}
    marks: dict[str, list[str]] = {}
    for key in keys:
        if key not in present:
            why = "gave no score" if key in metrics else f"is not a metric of {protocol.name}"
            scores[key] = summarise({}, missing=f"{key} {why}")
            continue
        values, reasons = subject_values(rows, subjects, key)
        scores[key] = summarise(values, seed=seed, missing="; ".join(reasons) or None)
        found = list(dict.fromkeys(row.mark for row in rows if row.metric == key and row.mark))
        if found:
            marks[key] = found
    return scores, marks


def seconds_and_memory(pieces: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """Median seconds of inference per volume and peak memory (MiB) over the pieces of a run."""
    seconds = [value for piece in pieces for value in piece["seconds"]]
    memory = [value for piece in pieces if (value := piece["peak_memory_mb"]) is not None]
    return (statistics.median(seconds) if seconds else None), (max(memory) if memory else None)


@dataclass(frozen=True)
class Report:
    """A finished evaluation: ``result`` is the object of ``--json``, the rest is for people.

    ``metrics`` are the protocol's and those asked for; ``trained`` is what the weights of a model declare about their
    training.
    """

    result: dict[str, Any]
    protocol: Protocol
    folders: tuple[Path, ...]
    figures: tuple[Path, ...]
    marks: dict[str, dict[str, list[str]]]
    conventions: dict[str, str]
    synthetic: bool
    metrics: tuple[str, ...]
    trained: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def shown(self) -> frozenset[str]:
        """The metrics of the table for people: the protocol's and those asked for; ``result`` holds all."""
        keys = (*TABLE_METRICS, *self.metrics)
        return frozenset((*keys, *(f"{key}_noise_free" for key in keys)))

    @property
    def failed(self) -> bool:
        """True if a method could not take part."""
        return any("error" in run for run in self.result["runs"])


def report_of(
    entrants: Sequence[Entrant],
    subjects: Sequence[str],
    figures: Mapping[str, Path],
    *,
    protocol: Protocol,
    dataset: str,
    synthetic: bool,
    split: str,
    metrics: Sequence[str],
    seed: int,
    out: Path,
    suffix: str | None = None,
) -> Report:
    """Summarise every entrant, write its run folder, and put the object of ``--json`` together.

    ``suffix`` is the BIDS suffix that was asked for, without which the run might not be repeated.

    Raises:
        UserError: a run folder cannot be written.
    """
    runs: list[dict[str, Any]] = []
    marks: dict[str, dict[str, list[str]]] = {}
    conventions: dict[str, str] = {}
    folders: list[Path] = []
    trained: dict[str, Mapping[str, Any]] = {}
    for entrant in entrants:
        if entrant.error is not None or entrant.method is None:
            runs.append({"model": entrant.typed, "error": entrant.error})
            continue
        if entrant.method.weights is not None:
            trained[entrant.typed] = entrant.method.weights.config.get("trained") or {}
        pieces = {subject: entrant.pieces[subject] for subject in subjects}
        rows = [Row(**row) for piece in pieces.values() for row in piece["rows"]]
        scores, marks[entrant.typed] = scores_of(rows, subjects, metrics, protocol, seed)
        conventions.update({row.metric: row.convention for row in rows})
        seconds, memory = seconds_and_memory(list(pieces.values()))
        run = plain(
            {
                "model": entrant.typed,
                "resolved": entrant.method.resolved,
                "weights_sha256": entrant.method.weights_sha256,
                "subjects": subjects,
                "scores": scores,
                "seconds_per_volume": seconds,
                "peak_memory_mb": memory,
            }
        )
        runs.append(run)
        facts = {"dataset": dataset, "split": split, "seed": seed, "synthetic": synthetic}
        facts |= {} if suffix is None else {"suffix": suffix}
        content = {**run, **_run_content(entrant, pieces, protocol), **facts}
        content["conventions"] = {row.metric: row.convention for row in rows}
        name = "--".join(file_name(part) for part in (protocol.name, dataset, entrant.method.resolved))
        pictures = {figure.name: figure for figure in figures.values()}
        curves = {
            s: of for s, piece in pieces.items() if (of := {i: c for i, c in piece.get("curves", {}).items() if c})
        }
        folders.append(write_run(out, f"{name}--{content['key'][:8]}", content, rows, pictures, curves))
    result = {"protocol": protocol.name, "protocol_hash": protocol.hash, "dataset": dataset, "runs": runs}
    drawn = tuple(figures.values())
    return Report(result, protocol, tuple(folders), drawn, marks, conventions, synthetic, tuple(metrics), trained)


def _run_content(entrant: Entrant, pieces: Mapping[str, Mapping[str, Any]], protocol: Protocol) -> dict[str, Any]:
    """The part of ``run.json`` that says how the scores were made; equal environments are listed once."""
    environments: list[Any] = []
    for piece in pieces.values():
        if piece["environment"] not in environments:
            environments.append(piece["environment"])
    kept = ("created", "seconds", "peak_memory_mb", "images")
    return {
        "key": sha256_of({"base": entrant.base, "pieces": {subject: entrant.keys[subject] for subject in pieces}}),
        "protocol": protocol.name,
        "protocol_hash": protocol.hash,
        "protocol_content": protocol.content,
        "ingredients": entrant.base,
        "environments": environments,
        "pieces": {
            subject: {
                "key": entrant.keys[subject],
                "environment": environments.index(piece["environment"]),
                **{name: piece[name] for name in kept},
                STORED: piece.get(STORED, {}),
            }
            for subject, piece in pieces.items()
        },
    }
