"""A report's tables as Markdown (for a folder of documents) and as LaTeX (booktabs, for a paper)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mrsr_bench.benchmarks.reports.cells import Cell, Table, coverage_table, main_table, run_command, tables_of
from mrsr_bench.benchmarks.reports.content import Content

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "×": r"$\times$",
    "<": "$<$",
    ">": "$>$",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
}


def markdown(content: Content) -> str:
    """All tables as one Markdown document; the command that wrote it stands at its top."""
    return "\n".join(_markdown_lines(content)).rstrip() + "\n"


def _markdown_lines(content: Content) -> Iterator[str]:
    yield from ("Written by", "", "```", content.command, "```", "")
    if len(content.sections) > 1:
        yield from _markdown_table(coverage_table(content))
    for task, sections in content.tasks.items():
        yield from (f"## {_md(task)}", "")
        for section in sections:
            yield from (f"### {_md(section.title)}", "", f"{_md(section.protocol.summary)}; the runs:", "")
            yield from ("```", run_command(section), "```", "", f"Protocol SHA-256 `{section.protocol.hash[:16]}`.", "")
            for table in tables_of(section):
                yield from _markdown_table(table)
            yield from _list("Missing", section.missing)
            yield from _list("Left out", section.notes)


def _list(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield from (f"{title}:", "", *(f"- {_md(line)}" for line in lines), "")


def _markdown_table(table: Table) -> Iterator[str]:
    yield from (f"**{_md(table.caption)}**", "")
    yield "| " + " | ".join(_md(column) for column in table.columns) + " |"
    yield "|---" + "|--:" * (len(table.columns) - 1) + "|"
    for row in table.rows:
        yield "| " + " | ".join(_md_cell(cell) for cell in row) + " |"
    yield ""
    for note in table.notes:
        yield from (_md(note), "")


def _md_cell(cell: Cell) -> str:
    text = _md(cell.text)
    text = f"**{text}**" if cell.strong else text
    return f"{text} {_md(cell.quiet)}" if cell.quiet else text


_MARKS = re.compile(r"[\\`*|~]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|\](?=\()")
"""What Markdown would take for more than text; an underscore inside a word and a lone bracket are nothing to it."""


def _md(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _MARKS.sub(lambda found: "\\" + found.group(), text.replace("\n", " "))


def latex(content: Content) -> str:
    """The tables of methods by metrics in LaTeX, one ``table`` environment per section; needs booktabs."""
    lines = [r"% \usepackage{booktabs}", f"% {content.command}".replace("\n", " ")]
    for section in content.sections:
        table = main_table(section)
        lines += [
            "",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(table.caption)}. {' '.join(_tex(note) for note in table.notes)}}}",
            rf"\label{{tab:{section.slug.replace('_', '-')}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            " & ".join(_tex(column) for column in table.columns) + r" \\",
            r"\midrule",
        ]
        lines += [" & ".join(_tex_cell(cell) for cell in row) + r" \\" for row in table.rows]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        lines += [f"% missing: {' '.join(line.split())}" for line in section.missing]
    return "\n".join(lines) + "\n"


def _tex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _tex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{_tex(cell.text)}}}" if cell.strong else _tex(cell.text)
    return rf"{text} {{\scriptsize {_tex(cell.quiet)}}}" if cell.quiet else text
