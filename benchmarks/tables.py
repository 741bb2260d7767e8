"""What people see: rich tables on stdout, or one JSON object there; progress and places on stderr.

No value is left out in silence: a dash has a footnote with the reason, a marked value one with the caveat.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench.benchmarks.statistics import MIN_SUBJECTS, unreachable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from mrsr_bench.benchmarks.evaluate import Notify
    from mrsr_bench.benchmarks.summary import Report

PLAIN_WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""
MINUS = "\N{MINUS SIGN}"
UNLISTED = ("metrics", "defaults", "source", "reference", "needs_parameters")
"""What ``--json`` has of a component and the table of `list` has no room for."""
ARROWS = {"higher": "↑", "lower": "↓", "nearest zero": "→0"}
DECIMALS = {"psnr": 3, "ssim": 4, "nrmse": 4, "rmse": 4, "data_consistency": 5}
FOOTNOTES = "abcdefghijklmnopqrstuvwxyz"


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH)


def emit(found: Mapping[str, Any], as_json: bool, render: Callable[[], RenderableType]) -> None:
    """The object on stdout, as JSON without NaN, or as what ``render`` makes of it."""
    if as_json:
        from mrsr_bench.benchmarks.results import plain

        print(json.dumps(plain(found), ensure_ascii=False, allow_nan=False))
    else:
        _console().print(render())


def say(lines: Sequence[str]) -> None:
    """Lines for people, on stderr."""
    for line in lines:
        print(line, file=sys.stderr)


@contextlib.contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """What libraries print goes to stderr: stdout is for the result."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@contextlib.contextmanager
def progress() -> Iterator[Notify]:
    """A progress bar with the time left, on stderr; nothing where stderr is not a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=None)

        def notify(text: str, done: int, total: int) -> None:
            bar.update(task, description=text, completed=done, total=total)

        yield notify


class Footnotes:
    """Numbered by letters, each text once."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def mark(self, text: str) -> str:
        """The letter(s) of ``text``."""
        if text not in self._texts:
            self._texts.append(text)
        index = self._texts.index(text)
        letter = FOOTNOTES[index % len(FOOTNOTES)] * (1 + index // len(FOOTNOTES))
        return f"[dim]({letter})[/dim]"

    def lines(self) -> list[str]:
        """All notes, in order of appearance."""
        from rich.markup import escape

        return [f"{self.mark(text)} {escape(text)}" for text in self._texts]


def number(key: str, value: float | None, *, sign: bool = False) -> str:
    """A value with the decimals of its metric, or as a power of ten where they would show 0; a dash for None."""
    if value is None:
        return "–"
    stem = key.removesuffix("_noise_free").removesuffix("_slice")
    decimals = DECIMALS.get(stem, 3)
    tiny = 0 < abs(value) < 0.5 * 10**-decimals
    text = f"{value:{'+' if sign else ''}.{'1e' if tiny else f'{decimals}f'}}"
    return text.replace("-", MINUS)


def header(key: str) -> str:
    """A metric's name with an arrow that points to the better values."""
    from mrsr_bench.benchmarks.metrics import metrics

    stem = key.removesuffix("_noise_free")
    if stem not in metrics.names():
        return key
    return f"{key.replace('_', ' ')} {ARROWS[metrics.get(stem).direction]}"


def run_report(report: Report) -> RenderableType:
    """Methods by metrics; with fewer than eight subjects also subject by subject; conventions and notes below."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    runs = report.result["runs"]
    good = [run for run in runs if "error" not in run]
    notes = Footnotes()
    subjects = good[0]["subjects"] if good else []
    few = len(subjects) < MIN_SUBJECTS
    keys = list(dict.fromkeys(key for run in good for key in run["scores"] if key in report.shown))
    count = f"{len(subjects)} subject{'' if len(subjects) == 1 else 's'}"
    table = Table(title=escape(f"{report.result['dataset']}, {report.protocol.name}, {count}"), show_lines=not few)
    table.add_column("method", no_wrap=True)
    for key in keys:
        table.add_column(header(key), justify="right")
    table.add_column("s / volume", justify="right")
    table.add_column("peak MiB", justify="right")
    ranks = _ranks(good, keys, notes) if not few else {}
    for run in good:
        name = escape(run["model"])
        if run["resolved"] != run["model"]:
            name += f"\n[dim]= {escape(run['resolved'])}[/dim]"
        cells = [_cell(run, key, report.marks.get(run["model"], {}), ranks, notes) for key in keys]
        memory = run["peak_memory_mb"]
        seconds = run["seconds_per_volume"]
        cost = ["–" if seconds is None else f"{seconds:.2f}", "–" if memory is None else f"{memory:.0f}"]
        table.add_row(name, *cells, *cost, end_section=few and len(subjects) < 2)
        if few and len(subjects) > 1:
            for subject in subjects:
                values = [run["scores"][key].get("per_subject", {}).get(subject) for key in keys]
                row = [number(key, value) for key, value in zip(keys, values, strict=True)]
                table.add_row(f"  {escape(subject)}", *row, style="dim", end_section=subject == subjects[-1])
    lines = [f"[red]{escape(run['model'])}: {escape(run['error'] or '')}[/red]" for run in runs if "error" in run]
    return Group(*([table] if good else []), *lines, *notes.lines(), *_conventions(report, keys))


def _cell(
    run: Mapping[str, Any],
    key: str,
    marks: Mapping[str, Sequence[str]],
    ranks: Mapping[str, Mapping[str, int | None]],
    notes: Footnotes,
) -> str:
    score = run["scores"].get(key)
    if score is None:
        return "–" + notes.mark(f"{key} was not computed for {run['model']}")
    text = number(key, score["mean"])
    if "reason" in score and not (score["mean"] is not None and score["n"] == len(run["subjects"])):
        text += notes.mark(f"{key}: {score['reason']}")
    text += "".join(notes.mark(f"{key}: {mark}") for mark in marks.get(key, ()))
    if score["ci95"] is not None:
        low, high = score["ci95"]
        text += f"\n[dim]{number(key, low)} to {number(key, high)}[/dim]"
    place = ranks.get(key, {}).get(run["model"])
    return text if place is None else f"{text}\n[dim]rank {place}[/dim]"


def _ranks(
    runs: Sequence[Mapping[str, Any]], keys: Sequence[str], notes: Footnotes
) -> dict[str, dict[str, int | None]]:
    from mrsr_bench.benchmarks.metrics import metrics
    from mrsr_bench.leaderboards.rank import rank

    found: dict[str, dict[str, int | None]] = {}
    for key in keys:
        if len(runs) < 2 or key not in metrics.names() or not metrics.get(key).ranked:
            continue
        scores = {run["model"]: run["scores"][key].get("per_subject", {}) for run in runs}
        ranking = rank(scores, higher_is_better=metrics.get(key).direction == "higher")
        found[key] = {r.method: r.rank for r in ranking.ranks}
        if ranking.reason is not None:
            notes.mark(f"ranks by {key}: {ranking.reason}")
    return found


def _conventions(report: Report, keys: Sequence[str]) -> list[str]:
    from rich.markup import escape

    first = next((run for run in report.result["runs"] if "error" not in run), None)
    lines = [
        f"\nprotocol {escape(report.protocol.name)}, sha256 {report.protocol.hash[:16]}: {report.protocol.summary}"
    ]
    if first is not None:
        n = len(first["subjects"])
        lines.append(
            "mean over subjects; n below 8: no interval, no test, no rank, the subjects one by one"
            if n < MIN_SUBJECTS
            else "mean over subjects; below it the 95 % bootstrap interval of the mean; "
            "rank = 1 + methods significantly better (Wilcoxon, Holm)"
        )
    shared: dict[str, list[str]] = {}
    runs = [run for run in report.result["runs"] if "error" not in run]
    for key in keys:
        shown = any(run["scores"].get(key, {}).get("mean") is not None for run in runs)
        if shown and key in report.conventions:
            shared.setdefault(report.conventions[key], []).append(key)
    lines += [f"{', '.join(of)}: {escape(convention)}" for convention, of in shared.items()]
    if report.synthetic:
        lines.append("[bold]The phantom is synthetic: this run proves the machinery, not a method.[/bold]")
    return lines


def run_places(report: Report) -> list[str]:
    """Where runs and figures lie."""
    lines = [f"run: {folder}" for folder in report.folders]
    return lines + [f"figure: {figure}" for figure in report.figures]


def listing(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> RenderableType:
    """A table of what `list` found, one row per component."""
    from rich.table import Table

    (kind, items), *_ = found.items()
    table = Table(title=kind, title_justify="left")
    columns = [name for name in (items[0] if items else {}) if name not in UNLISTED]
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for item in items:
        table.add_row(*(_short(item[name], name) for name in columns))
    return table


def _short(value: Any, name: str = "") -> str:
    from rich.markup import escape

    if value is None:
        return "–"
    if name == "hash":
        return str(value)[:12]
    if name == "tasks":
        return escape(tasks(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)) and not any(isinstance(item, (Mapping, list, tuple)) for item in value):
        return escape(", ".join(str(item) for item in value)) or "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    if isinstance(value, (Mapping, list, tuple)):
        return escape(json.dumps(value, ensure_ascii=False, default=str))
    return escape(str(value))


def tasks(names: Sequence[str]) -> str:
    """Names of protocols for people: every one there is as "any", numbers in a row as ``thick-2..6``."""
    from mrsr_bench.benchmarks.protocol import protocol_names

    if set(names) >= set(protocol_names()):
        return "any"
    families: dict[str, list[int]] = {}
    for name in names:
        stem, _, last = name.rpartition("-")
        whole = stem and last.isascii() and last.isdecimal()
        families.setdefault(stem if whole else name, []).extend([int(last)] if whole else [])
    return ", ".join(
        f"{stem}-{numbers[0]}..{numbers[-1]}"
        if len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1))
        else ", ".join(f"{stem}-{number}" for number in numbers) or stem
        for stem, numbers in families.items()
    )


def facts(found: Mapping[str, Any]) -> RenderableType:
    """Nested facts as a list of names and values."""
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _flat(found):
        table.add_row(name, value)
    return table


def _flat(found: Mapping[str, Any], level: int = 0) -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        label = "  " * level + str(name).replace("_", " ") if level == 0 else "  " * level + str(name)
        if isinstance(value, Mapping) and value:
            yield label, ""
            yield from _flat(value, level + 1)
        else:
            yield label, _short(str(value) if isinstance(value, Path) else value)


def scores(found: Mapping[str, Any]) -> RenderableType:
    """The scores of one pair of files."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    notes = Footnotes()
    table = Table(
        title=escape(f"protocol {found['protocol']}" if found["protocol"] else "whole mask of HR, no protocol")
    )
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("convention", overflow="fold")
    for key, score in found["scores"].items():
        text = number(key, score["value"])
        text += "".join(notes.mark(f"{key}: {score[name]}") for name in ("reason", "mark") if score.get(name))
        table.add_row(header(key), text, escape(score["convention"]))
    return Group(table, *notes.lines())


def comparison(found: Mapping[str, Any]) -> RenderableType:
    """Paired differences of two runs: mean, interval, p and effect, and every subject below."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    notes = Footnotes()
    name_a, name_b = (escape(found[side]["model"]) for side in ("a", "b"))
    title = f"{name_a} {MINUS} {name_b}, {escape(found['dataset'])}, {escape(found['protocol'])}"
    table = Table(title=title)
    for column in ("metric", "n", "mean difference", "95 % interval", "p", "p (Holm)", "effect"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    shown = {key: d for key, d in found["differences"].items() if d["n"]}
    for key, d in found["differences"].items():
        mean = number(key, d["mean"], sign=True) + (notes.mark(f"{key}: {d['reason']}") if d.get("reason") else "")
        interval = "–" if d["ci95"] is None else " to ".join(number(key, v, sign=True) for v in d["ci95"])
        tests = ["–" if v is None else f"{v:.4f}" for v in (d["p"], d.get("p_holm"))]
        tests[1] += d.get("stars", "")
        effect = "–" if d["effect"] is None else f"{d['effect']:+.2f}".replace("-", MINUS)
        table.add_row(header(key), str(d["n"]), mean, interval, *tests, effect)
    each = Table(title="subject by subject")
    each.add_column("subject")
    for key in shown:
        each.add_column(header(key), justify="right")
    for subject in found["subjects"]:
        cells = [number(key, d["per_subject"].get(subject), sign=True) for key, d in shown.items()]
        each.add_row(escape(subject), *cells)
    lines = notes.lines()
    if found["further"]:
        lines.append(f"both runs hold {', '.join(found['further'])} too; --metrics adds them by name")
    if found["left_out"]:
        lines.append(f"in one run only, left out: {escape(', '.join(found['left_out']))}")
    lines.append("p: two-sided Wilcoxon signed-rank, Holm over the metrics; effect: rank-biserial correlation, −1 to 1")
    tested = [d for d in found["differences"].values() if d["p"] is not None]
    if tested:
        out_of_reach = unreachable(max(d["n"] for d in tested), len(tested))
        lines.append("* p (Holm) < 0.05, ** p (Holm) < 0.001" + (f"; {out_of_reach}" if out_of_reach else ""))
    return Group(table, each, *lines)
