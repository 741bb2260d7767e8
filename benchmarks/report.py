"""One report of stored runs: a self-contained page, PNG figures, LaTeX and Markdown tables, and an object for JSON."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.results import check_writable, file_name, plain, write_bytes, write_text

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.reports.content import Content, Section
    from mrsr_bench.benchmarks.reports.drawing import Plot
    from mrsr_bench.leaderboards.rank import Ranking

PAGE, TABLE_TEX, TABLE_MD = "index.html", "tables.tex", "table.md"


def write_report(
    runs: Sequence[str | Path],
    out: Path,
    *,
    markdown: Path | None = None,
    metrics: Sequence[str] = (),
    repeats: Sequence[str | Path] = (),
) -> dict[str, Any]:
    """Write the report of ``runs`` (run folders, or folders of them) to ``out``; returns the object of ``--json``.

    ``markdown`` is another place for the Markdown tables than ``out``; ``metrics`` join those of the protocol in the
    first tables, all others stand in a table of their own; ``repeats`` are runs of the same methods trained again with
    another seed, whose spread stands beside the gains. Nothing is written before all of it is made.

    Raises:
        UserError: there is no run, one cannot be read, runs of one table scored different images, or ``out`` cannot be
            written.
    """
    from mrsr_bench.benchmarks.reports.content import content_of
    from mrsr_bench.benchmarks.reports.markup import latex
    from mrsr_bench.benchmarks.reports.markup import markdown as markdown_of
    from mrsr_bench.benchmarks.reports.page import light_pngs, page
    from mrsr_bench.benchmarks.reports.plots import pictured

    if not runs:
        raise UserError("name at least one run: a folder as `mrsr-bench run` writes it, or a folder of them")
    content = content_of(runs, _command(runs, out, markdown, metrics, repeats), metrics, repeats)
    check_writable(out)
    plots = _plots(content)
    drawn = light_pngs(plots)
    texts = {out / PAGE: page(content, plots, drawn), out / TABLE_TEX: latex(content)}
    texts[markdown or out / TABLE_MD] = markdown_of(content)
    images = {out / f"{name}.png": png for name, png in drawn.items()}
    for section in content.sections:
        for subject, file in pictured(section)[0]:
            images[out / f"{section.slug}--{file_name(subject)}.png"] = file.read_bytes()
    for path, png in images.items():
        write_bytes(path, png)
    for path, text in texts.items():
        write_text(path, text)
    return dict(plain(_found(content, plots, [*texts, *images])))


def _command(
    runs: Sequence[str | Path],
    out: Path,
    markdown: Path | None,
    metrics: Sequence[str],
    repeats: Sequence[str | Path],
) -> str:
    words = ["mrsr-bench", "report", *map(_shown, runs), "--out", _shown(out)]
    words += ["--metrics", ",".join(metrics)] if metrics else []
    words += [word for run in repeats for word in ("--repeat", _shown(run))]
    return shlex.join([*words, *(["--markdown", _shown(markdown)] if markdown is not None else [])])


def _shown(path: str | Path) -> str:
    """A path as it would be typed in the working folder: nobody else has this machine's folders."""
    path = Path(path)
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)


def _plots(content: Content) -> dict[str, list[Plot]]:
    from mrsr_bench.benchmarks.reports.drawing import Styles
    from mrsr_bench.benchmarks.reports.plots import factor_plot, plots_of

    styles = Styles(content)
    plots = {section.slug: plots_of(section, styles) for section in content.sections}
    number = 0
    for task, found in content.series.items():
        plots[task] = []
        for series in found:
            number += 1
            plots[task].append(factor_plot(series, styles, number))
    return plots


def _found(content: Content, plots: dict[str, list[Plot]], files: Sequence[Path]) -> dict[str, Any]:
    return {
        "command": content.command,
        "files": [str(path) for path in files],
        "sections": [_as_json(section) for section in content.sections],
        "figures_missing": {plot.name: plot.missing for of in plots.values() for plot in of if plot.missing},
    }


def _ranking(ranking: Ranking) -> dict[str, Any]:
    ranks = [
        {"model": r.method, "mean": r.mean, "n": r.n, "rank": r.rank, "beaten_by": list(r.beaten_by)}
        for r in ranking.ranks
    ]
    return {"ranks": ranks, "groups": [list(group) for group in ranking.groups], "reason": ranking.reason}


def _as_json(section: Section) -> dict[str, Any]:
    from mrsr_bench.benchmarks.reports.content import BASELINES

    return {
        "protocol": section.protocol.name,
        "protocol_hash": section.protocol.hash,
        "dataset": section.dataset,
        "split": section.split,
        "seed": section.seed,
        "subjects": section.subjects,
        "scores": section.summaries,
        "ranks": {key: _ranking(ranking) for key, ranking in section.rankings.items()},
        "against": {
            name: {
                key: {label: {**asdict(c), "stars": c.stars} for label, c in section.against(name, key).items()}
                for key in section.rankings
            }
            for name in BASELINES
            if name in section.labels
        },
        "training": {
            entry.label: {**asdict(entry.training), "undertrained": entry.training.undertrained}
            for entry in section.entries
        },
        "missing": section.missing,
        "notes": section.notes,
    }
