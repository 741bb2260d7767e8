"""The report as one self-contained HTML page: everything inline, nothing fetched, readable in light and dark."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from mrsr_bench.benchmarks.reports.cells import coverage_table, run_command, shown_by_subject, subject_table, tables_of
from mrsr_bench.benchmarks.reports.content import Content, Section
from mrsr_bench.benchmarks.reports.drawing import DARK, DPI, LIGHT, Plot
from mrsr_bench.benchmarks.reports.plots import pictured

SCREEN_DPI = 96


def page(content: Content, plots: Mapping[str, Sequence[Plot]], drawn: Mapping[str, bytes]) -> str:
    """The page. ``plots``: by task and by section's slug; ``drawn``: the light PNG of each plot that has one."""
    from jinja2 import Environment, StrictUndefined

    text = files("mrsr_bench.benchmarks.reports").joinpath("templates/report.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(text)
    tasks = [
        {
            "title": task,
            "plots": [_plot(plot, drawn) for plot in plots[task]],
            "sections": [_section(section, plots[section.slug], drawn) for section in sections],
        }
        for task, sections in content.tasks.items()
    ]
    methods, tables = len(content.labels), len(content.sections)
    lead = (
        f"{methods} method{'' if methods == 1 else 's'} in {tables} table{'' if tables == 1 else 's'}. "
        "The unit is the subject; what too few subjects cannot support is not claimed."
    )
    return template.render(
        title=f"MRI super-resolution: {', '.join(dict.fromkeys(s.title for s in content.sections))}",
        lead=lead,
        command=content.command,
        coverage=coverage_table(content) if tables > 1 else None,
        tasks=tasks,
    )


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _plot(plot: Plot, drawn: Mapping[str, bytes]) -> dict[str, Any]:
    shown: dict[str, Any] = {"title": plot.title, "missing": plot.missing, "alt": plot.alt, "note": plot.note}
    if plot.draw is not None:
        light = drawn[plot.name]
        wide = int.from_bytes(light[16:20], "big")  # the width in a PNG's header
        shown |= {"light": _data(light), "dark": _data(plot.png(DARK)), "width": round(wide * SCREEN_DPI / DPI)}
    return shown


def _section(section: Section, plots: Sequence[Plot], drawn: Mapping[str, bytes]) -> dict[str, Any]:
    pictures, rule = pictured(section)
    tables = tables_of(section)
    by_subject = shown_by_subject(section)
    first_detail = subject_table(section, by_subject[0]).caption if by_subject else tables[-1].caption
    methods = ", ".join(section.labels)
    return {
        "id": section.slug,
        "title": section.title,
        "summary": section.protocol.summary[:1].upper() + section.protocol.summary[1:],
        "hash": section.protocol.hash[:16],
        "tables": tables,
        "open": next(i for i, table in enumerate(tables) if table.caption == first_detail),
        "missing": section.missing,
        "plots": [_plot(plot, drawn) for plot in plots],
        "pictures": [
            {
                "subject": subject,
                "data": _data(file.read_bytes()),
                "alt": f"{subject}: one slice, a zoom, error maps and power spectra of {methods}",
            }
            for subject, file in pictures
        ],
        "rule": rule,
        "command": run_command(section),
        "conventions": _conventions(section),
        "notes": section.notes,
    }


def _conventions(section: Section) -> list[str]:
    shared: dict[str, list[str]] = {}
    for entry in section.entries:
        for key, convention in (entry.run.get("conventions") or {}).items():
            keys = shared.setdefault(str(convention), [])
            if key in section.keys and key not in keys:
                keys.append(key)
    return [f"{', '.join(keys)}: {convention}" for convention, keys in shared.items() if keys]


def light_pngs(plots: Mapping[str, Sequence[Plot]]) -> dict[str, bytes]:
    """Every plot that can be drawn, in light colours, by name."""
    return {plot.name: plot.png(LIGHT) for of in plots.values() for plot in of if plot.draw is not None}
