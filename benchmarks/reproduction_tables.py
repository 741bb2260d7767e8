"""A reproduced table for people: on the terminal and as Markdown, from the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mrsr_bench.benchmarks.claims import FAILS, HOLDS, PARAMETERS, SECONDS

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {HOLDS: "green", FAILS: "red"}


def _number(metric: str, value: float | None) -> str:
    from mrsr_bench.benchmarks.tables import number

    if value is None:
        return "–"
    return f"{value:,.0f}" if metric == PARAMETERS else number(metric.removesuffix("_volume"), value)


def header_of(metric: str) -> str:
    """A metric's name with the arrow of its direction; times and counts without."""
    from mrsr_bench.benchmarks.metrics import metrics
    from mrsr_bench.benchmarks.tables import ARROWS

    if metric in (PARAMETERS, SECONDS):
        return metric
    return f"{metric.replace('_', ' ')} {ARROWS[metrics.get(metric).direction]}"


def _cells(row: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """``ours | paper`` of every metric."""
    cells = []
    for key in keys:
        ours = row["ours"].get(key, {})
        text = _number(key, ours.get("mean")) + str(ours.get("stars") or "")
        cells.append(f"{text} | {_number(key, row['paper'][key])}")
    return cells


def _title(found: Mapping[str, Any], panel: Mapping[str, Any]) -> str:
    n = len(panel["subjects"])
    return f"{panel['protocol']}, {panel['dataset']}, n = {n}: ours | paper"


def warnings_of(found: Mapping[str, Any]) -> list[str]:
    """What must not be overlooked: other data, synthetic data, short trainings."""
    lines = []
    if found["other_dataset"]:
        own = " or ".join(found["dataset_of_the_paper"]) or "not public"
        lines.append(
            f"ANOTHER DATASET: ours is {found['dataset']}, the paper's is {own}; "
            "the two columns are of different images and cannot be compared"
        )
    if found["synthetic"]:
        lines.append("The phantom is synthetic: this run proves the machinery, not a method")
    if found["trained_here"]:
        steps = "the quick recipe" if found["steps"] is None else f"the quick recipe cut to {found['steps']} steps"
        lines.append(f"Missing weights were trained here, by {steps}: not the paper's training")
    rows = [row for panel in found["panels"] for row in panel["rows"] if row.get("undertrained") and "error" not in row]
    if rows:
        short = ", ".join(dict.fromkeys(row["label"] for row in rows))
        lines.append(f"Weights of {short} were not trained by the paper's recipe: a lower bound of the method")
    return lines + _seen_too(found)


def _seen_too(found: Mapping[str, Any]) -> list[str]:
    """Weights whose training saw more contrasts than the paper's did."""
    seen: dict[tuple[str, str], dict[str, None]] = {}
    for row in (row for panel in found["panels"] for row in panel["rows"]):
        facts = row.get("transfer") or {}
        if facts.get("also_saw"):
            seen.setdefault((facts["also_saw"], facts["trained_on"]), {})[row["label"]] = None
    return [
        f"Weights of {', '.join(labels)} saw {contrasts} in training too ({dataset}), the paper's "
        f"{found['transfer_from']} only: no transfer to {contrasts} can be shown with them"
        for (contrasts, dataset), labels in seen.items()
    ]


def _notes(found: Mapping[str, Any]) -> list[str]:
    """Conventions, readings, and every reason for a dash, each once."""
    notes = [f"the paper's convention: {found['convention']}", f"reading: {found['reading'].strip()}"]
    conventions: dict[str, list[str]] = {}
    reasons: dict[str, None] = {}
    for panel in found["panels"]:
        for metric, text in panel["conventions"].items():
            if metric not in conventions.setdefault(text, []):
                conventions[text].append(metric)
        for row in panel["rows"]:
            for metric, score in row["ours"].items():
                if score.get("mean") is None or score.get("stars_reason"):
                    why = score.get("stars_reason") or score.get("reason")
                    reasons[f"{metric}: {why}" if score.get("mean") is None else f"stars: {why}"] = None
            if any(value is None for value in row["paper"].values()):
                reasons[f"the paper's value: {found['unpublished']}"] = None
        for text in panel["deviations"]:
            reasons[f"deviation: {text}"] = None
    notes += [f"our convention of {', '.join(of)}: {text}" for text, of in conventions.items()]
    if "psnr_volume" in found["metrics"] and "rmse" in found["metrics"]:
        notes.append(
            "rmse is not over the region of psnr volume and ssim volume: it is over mask and hull, these are over "
            "whole volumes, so neither follows from the other"
        )
    if found["stars_against"]:
        notes.append(
            f"* p < 0.05, ** p < 0.001 against {found['stars_against']} "
            "(paired Wilcoxon, Holm over all methods and factors of a metric)"
        )
    if SECONDS in found["metrics"]:
        notes.append("seconds: median per volume on the machine that run.json names")
    used = {
        f"{row['resolved']} {row['weights_sha256'][:16]}": None
        for panel in found["panels"]
        for row in panel["rows"]
        if row.get("weights_sha256")
    }
    notes += [f"weights (SHA-256): {', '.join(used)}"] if used else []
    return notes + list(reasons)


def markdown(found: Mapping[str, Any], figure: str | None = None) -> str:
    """The whole result as a Markdown page; ``figure`` is the file beside it that shows it."""

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace(" | ", " / ").replace("|", "\\|") for cell in cells) + " |"

    keys = found["metrics"]
    lines = [f"# {found['name']}: {found['title']}", "", f"{found['paper']}.", ""]
    lines += ["Written by", "", "```", found["command"], "```", ""]
    lines += [f"> **{line}.**\n" for line in warnings_of(found)]
    lines += [f"![{found['title']}, ours]({figure})", ""] if figure else []
    for panel in found["panels"]:
        lines += [f"## {_title(found, panel).replace(' | ', ' / ')}", ""]
        lines += [row(["method", *(header_of(key) for key in keys)]), row(["---"] * (1 + len(keys)))]
        for one in panel["rows"]:
            resolved = one.get("resolved")
            name = one["label"] + (f" (= {resolved})" if resolved not in (None, one["label"]) else "")
            lines.append(row([name, *_cells(one, keys)]))
        lines += [""] + [f"- {one['label']} missing: {one['error']}" for one in panel["rows"] if "error" in one] + [""]
    lines += ["## Claims of the paper's text", ""]
    for claim in found["claims"]:
        lines.append(f"- **{claim['verdict']}**: {claim['text']}")
        lines += [f"  - {check['verdict']}: {check['because']}" for check in claim["checks"]]
    lines += ["", "## Notes", ""] + [f"- {note}" for note in _notes(found)]
    return "\n".join(lines) + "\n"


def rendered(found: Mapping[str, Any]) -> RenderableType:
    """The whole result for the terminal."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    keys = found["metrics"]
    parts: list[RenderableType] = [
        f"[bold]{escape(found['name'])}: {escape(found['title'])}[/bold]",
        escape(found["paper"]),
    ]
    parts += [f"[bold red]{escape(line)}[/bold red]" for line in warnings_of(found)]
    for panel in found["panels"]:
        shown = Table(title=escape(_title(found, panel)))
        shown.add_column("method")
        for key in keys:
            shown.add_column(header_of(key), justify="right")
        for one in panel["rows"]:
            shown.add_row(escape(one["label"]), *_cells(one, keys))
        missing = [
            f"[red]{escape(one['label'])}: {escape(one['error'])}[/red]" for one in panel["rows"] if "error" in one
        ]
        parts += [shown, *missing]
    parts.append("\n[bold]claims of the paper's text[/bold]")
    for claim in found["claims"]:
        style = STYLES.get(claim["verdict"], "yellow")
        parts.append(f"[{style}]{claim['verdict']}[/{style}]: {escape(claim['text'])}")
        parts += [f"[dim]  {check['verdict']}: {escape(check['because'])}[/dim]" for check in claim["checks"]]
    return Group(*parts, "", *(escape(note) for note in _notes(found)))
