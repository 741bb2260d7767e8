"""The board as CSV and JSON: all of it, for those who would rather compute than read."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from mrsr_bench.leaderboards.board import Board, Entry, Table
from mrsr_bench.leaderboards.rank import Standing

_FORMULA = "=+-@|%"
"""What makes a spreadsheet take a cell for a formula or a command."""


def clean(text: str) -> str:
    """``text`` with control, direction and invisible characters made visible as U+FFFD."""
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)


def cell(value: object) -> str:
    """A CSV cell that no spreadsheet runs: numbers as they are, text that looks like a formula behind an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return repr(value)
    text = clean(str(value))
    first = unicodedata.normalize("NFKC", text.lstrip()[:1])[:1]  # full-width signs count, too, in some spreadsheets
    return f"'{text}" if first in tuple(_FORMULA) else text


def as_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Comma-separated text (RFC 4180) with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([cell(name) for name in header])
    writer.writerows([cell(value) for value in row] for row in rows)
    return out.getvalue()


def results_csv(tables: Sequence[Table]) -> str:
    """One row per submission and metric."""
    header = [
        *("protocol", "protocol_hash", "dataset", "split", "seed", "contrast", "factor", "method", "contact", "digest"),
        *("metric", "convention", "mean", "ci95_low", "ci95_high", "n", "rank", "unranked", "reason"),
        *("parameters", "seconds_per_volume", "track", "badge", "training_data", "date", "licence"),
    ]
    return as_csv(header, (row for table in tables for entry in table.entries for row in _rows(table, entry)))


def _rows(table: Table, entry: Entry) -> Iterable[Sequence[object]]:
    one = entry.submission
    for metric, score in one.scores.items():
        low, high = entry.intervals.get(metric, (None, None))
        yield (
            *(table.protocol, one.protocol_hash, table.dataset, table.split, table.seed, table.contrast),
            *(table.factor_text, one.method, one.contact, one.digest, metric, one.conventions.get(metric)),
            *(score.mean, low, high, score.n, entry.ranks.get(metric), entry.unranked, score.reason),
            *(one.parameters, one.seconds_per_volume, one.track, one.badge, training_data(entry), one.date),
            one.licence,
        )


def subjects_csv(table: Table) -> str:
    """One row per submission and subject, one column per metric."""
    metrics = list(dict.fromkeys(m for entry in table.entries for m, s in entry.submission.scores.items() if s.n))
    rows = (
        (
            entry.submission.method,
            entry.id,
            subject,
            *(s.per_subject.get(subject) if (s := entry.submission.scores.get(m)) else None for m in metrics),
        )
        for entry in table.entries
        for subject in entry.submission.subjects
    )
    return as_csv(["method", "digest", "subject", *metrics], rows)


def standings_csv(board: Board) -> str:
    """One row per method on scans and on procedural heads: rank, score, tables without a rank."""
    return as_csv(
        ["on", "rank", "method", "score", "tables_ranked", "tables_missing", "missing"],
        (
            (kind, s.rank, board.methods[s.method].label, s.score, len(s.shares), len(s.missing), " ".join(s.missing))
            for kind, standings in board.standings.items()
            for s in standings
        ),
    )


def training_data(entry: Entry) -> str:
    """What a method learnt from, in a word or two."""
    training = entry.submission.training
    if training is None:
        return "none"
    return training.dataset if training.other_data is None else f"{training.dataset} and more"


def table_json(table: Table) -> dict[str, Any]:
    """A table as plain data: what it compares, every submission whole, intervals and ranks."""
    return {
        "id": table.id,
        "protocol": table.protocol,
        "protocol_hash": table.key[1],
        "dataset": table.dataset,
        "split": table.split,
        "seed": table.seed,
        "contrast": table.contrast,
        "factor": table.factor,
        "synthetic": table.synthetic,
        "subjects": list(table.subjects),
        "conventions": {spec.name: spec.convention for spec in table.columns},
        "rankings": {metric: {"reason": ranking.reason} for metric, ranking in table.rankings.items()},
        "entries": [
            {
                "page": entry.method,
                "ranks": entry.ranks,
                "unranked": entry.unranked,
                "intervals": entry.intervals,
                "submission": entry.submission.model_dump(mode="json"),
            }
            for entry in table.entries
        ],
    }


def standing_json(standing: Standing) -> dict[str, Any]:
    """A standing as plain data."""
    return {
        "page": standing.method,
        "rank": standing.rank,
        "score": standing.score,
        "shares": dict(standing.shares),
        "missing": list(standing.missing),
    }


def as_json(value: object) -> str:
    """Strict JSON text."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
