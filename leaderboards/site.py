"""The leaderboard as a static site: pages, data files and pictures that work from a disk and from any static host.

Whatever came from a submission is text: templates escape everything, links are https or not links, commands are quoted
for the shell, and a policy in every page lets nothing run or load that is not a file of the site.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError, __version__
from mrsr_bench.benchmarks.metric import MetricSpec
from mrsr_bench.benchmarks.statistics import ALPHA, MIN_SUBJECTS
from mrsr_bench.leaderboards import exports, plots
from mrsr_bench.leaderboards.board import (
    Board,
    Entry,
    Method,
    Table,
    facts_of,
    make_board,
    read_results,
    results_folder,
)
from mrsr_bench.leaderboards.rank import LEAST_RANKED
from mrsr_bench.leaderboards.schema import FIXED_HOURS, MAINTAINERS, Submission
from mrsr_bench.leaderboards.slices import DIFFERENCE_RANGE, MODELS, Picture, Stack, render_stacks
from mrsr_bench.leaderboards.submit import OURS

if TYPE_CHECKING:
    from jinja2 import Environment

MARKER = ".mrsr-bench-site"
"""A file in every folder that `build` wrote, without which it replaces none."""
FOLDER = Path(__file__).parent / "site"
MATRIX = Path(__file__).parent / "matrix.json"
"""Our own degradation matrix, which a site shows unless it is given another."""
DATASETS = Path(__file__).parent / "datasets.json"
"""What datasets without a name in the registry are, by name; of others the site says nothing."""
BY_SUBJECT = ("psnr", "ssim", "nrmse")
MOST_CELLS = 3000
"""Of a table by subject in a page; a larger one is in the data alone."""
_DECIMALS = {"psnr": 2, "psnr_slice": 2, "psnr_volume": 2, "niqe": 2, "ma": 2, "pi": 2, "piqe": 1}


def build(
    out: Path, *, results: Path | None = None, matrix: Path | None = None, pictures: Sequence[str] = MODELS
) -> dict[str, Any]:
    """Build the site in ``out``, whole or not at all, and say what is in it.

    ``results`` holds the submissions (default: those of this package), ``matrix`` is what `mrsr-bench matrix` wrote
    (default: that of this package),
    ``pictures`` names the methods in the slice viewer (none: no viewer's pictures).

    Raises:
        UserError: something cannot be read, or ``out`` is a folder with other things in it.
    """
    if out.exists() and not (out.is_dir() and ((out / MARKER).is_file() or not any(out.iterdir()))):
        raise UserError(f"{out}: is there and is no site that this command built; choose another place with --out")
    board = make_board(read_results(results or results_folder()))
    if matrix is None and MATRIX.is_file():
        matrix = MATRIX
    shown_matrix = read_matrix(matrix) if matrix is not None else None
    partial, old = (out.parent / f".{out.name}.{os.getpid()}.{kind}" for kind in ("partial", "old"))
    try:
        partial.mkdir(parents=True)
        stacks = render_stacks(partial / "slices", pictures) if pictures else []
        pages = _write_pages(partial, board, stacks, shown_matrix)
        _write_data(partial / "data", board)
        shutil.copytree(FOLDER / "assets", partial / "assets")
        (partial / ".nojekyll").touch()
        (partial / MARKER).touch()
        _swap(partial, out, old)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another place with --out") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return {
        "site": str(out),
        "submissions": len(board.entries),
        "methods": len(board.methods),
        "tables": len(board.tables),
        "pages": pages,
        "pictures": [stack.task for stack in stacks],
    }


def picture_names(text: str | None) -> tuple[str, ...]:
    """The methods named by ``--pictures``: all of `MODELS` for None, nothing for ``none``."""
    if text is None:
        return MODELS
    return () if text == "none" else tuple(name.strip() for name in text.split(",") if name.strip())


def _swap(new: Path, place: Path, old: Path) -> None:
    """Put ``new`` in its place; if that fails, what was there is there again."""
    if place.exists():
        place.rename(old)
    try:
        new.rename(place)
    except OSError:
        if old.exists():
            old.rename(place)
        raise


def read_matrix(path: Path) -> dict[str, Any]:
    """The degradation matrix in a file.

    Raises:
        UserError: it is missing or is not what ``mrsr-bench matrix --out`` writes.
    """
    refusal = f"{path}: is not what `mrsr-bench matrix ... --out FILE` writes; make it again"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; write it by `mrsr-bench matrix ... --out {path}`") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(refusal) from error
    words = ("dataset", "baseline", "convention")
    if not isinstance(found, dict) or not all(isinstance(found.get(word), str) for word in words):
        raise UserError(refusal)
    rows, subjects = found.get("rows"), found.get("subjects")
    if not isinstance(rows, list) or not isinstance(subjects, list) or not all(_is_row(row) for row in rows):
        raise UserError(refusal)
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["cells"]))
    return {**found, "kinds": kinds, "n": len(subjects), "crop": found.get("crop"), "split": found.get("split")}


def _is_row(row: object) -> bool:
    words = ("model", "resolved", "task", "trained_for")
    if not isinstance(row, dict) or not all(isinstance(row.get(word), str) for word in words):
        return False
    cells, factor = row.get("cells"), row.get("factor")
    numbers = (int, float)
    return (
        isinstance(factor, list)
        and all(isinstance(f, numbers) for f in factor)
        and isinstance(cells, dict)
        and all(
            isinstance(cell, dict)
            and "psnr" in cell
            and (cell["psnr"] is None or all(isinstance(cell.get(k), numbers) for k in ("psnr", "gain")))
            and isinstance(cell.get("loss"), (*numbers, type(None)))
            for cell in cells.values()
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    def finalize(value: object) -> object:
        return exports.clean(value) if type(value) is str else value

    env = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    env.filters.update(number=number, link=safe_link, training=exports.training_data, count=count, duration=duration)
    env.filters["checkout"] = checkout
    env.globals.update(
        version=__version__,
        alpha=ALPHA,
        least=MIN_SUBJECTS,
        least_ranked=LEAST_RANKED,
        fixed_hours=f"{FIXED_HOURS:g}",
        maintainers=MAINTAINERS,
        saturated=round(100 * DIFFERENCE_RANGE),
        interval=interval_text,
        run_line=run_line,
        by_subject=by_subject,
        most_nameless=plots.MOST_NAMELESS,
        about_datasets=json.loads(DATASETS.read_text(encoding="utf-8")),
    )
    return env


def number(value: float | None, spec: MetricSpec) -> str:
    """A value of a metric with the digits that it deserves."""
    if value is None:
        return "–"
    return f"{value:.{_DECIMALS[spec.name]}f}" if spec.name in _DECIMALS else f"{value:.4f}"


def count(value: float | None) -> str:
    """A number of parameters or days, short."""
    if value is None:
        return "–"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def duration(seconds: float | None) -> str:
    """A time in the unit that reads best."""
    if seconds is None:
        return "–"
    for unit, size, most in (("s", 1, 99.5), ("min", 60, 99.5), ("h", 3600, 47.5)):
        if seconds < most * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{count(seconds / 86400)} days"


def checkout(commit: str) -> str:
    """A commit as a reader knows it, and whether files differed from it."""
    return f"{commit[:12]}{' with local changes' if commit.endswith('+') else ''}"


def by_subject(table: Table) -> tuple[MetricSpec, ...]:
    """The metrics that a table's page shows subject by subject; none where that would be too much for a page."""
    shown = tuple(spec for spec in table.columns if spec.name in BY_SUBJECT)
    return shown if len(shown) * len(table.entries) * len(table.subjects) <= MOST_CELLS else ()


def interval_text(entry: Entry, spec: MetricSpec) -> str:
    """The 95 % interval of the mean, empty where there is none."""
    found = entry.intervals.get(spec.name)
    return f"{number(found[0], spec)} to {number(found[1], spec)}" if found else ""


def safe_link(address: str | None) -> str | None:
    """The address if it may stand in a link: https and nothing else."""
    return address if address is not None and address.startswith("https://") else None


def run_line(table: Table, entry: Entry) -> str | None:
    """The command that runs a method as it was submitted; None if its weights cannot be had."""
    from mrsr_bench.benchmarks.datasets import datasets

    one = entry.submission
    place = table.dataset if table.dataset in datasets.names() else f"PATH/{table.dataset}"
    words = ["mrsr-bench", "run", "--model", one.method, "--dataset", place, "--protocol", table.protocol]
    words += ["--split", table.split]
    weights = one.weights
    if weights is not None and weights.repository is not None:
        words += ["--weights", f"hf:{weights.repository}@{weights.revision}"]
    elif weights is not None and not weights.shipped:
        return None
    return shlex.join(words)


def _filters(board: Board, tables: Sequence[Table]) -> dict[str, list[str]]:
    """The values that the filters of a page offer."""
    entries = [entry for table in tables for entry in table.entries]
    return {
        "contrast": sorted({table.contrast for table in tables}),
        "factor": sorted({table.factor_text for table in tables}),
        "training": sorted({exports.training_data(entry) for entry in entries}),
        "badge": sorted({entry.submission.badge for entry in entries}),
        "track": sorted({entry.submission.track for entry in entries}),
    }


def _write_pages(out: Path, board: Board, stacks: Sequence[Stack], matrix: Mapping[str, Any] | None) -> int:
    env = _environment()
    written = 0
    env.globals.update(board=board, stacks=stacks)

    def write(path: str, template: str, **values: Any) -> None:
        nonlocal written
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        root = "../" * path.count("/")
        target.write_text(env.get_template(template).render(root=root, page=path, **values), encoding="utf-8")
        written += 1

    shown = list(dict.fromkeys(spec.name for table in board.tables for spec in table.columns if spec.ranked))
    specs = {spec.name: spec for table in board.tables for spec in table.columns}
    common = [specs[name] for name in shown[:3]]
    write("index.html", "index.html")
    write("results.html", "results.html", filters=_filters(board, board.tables), columns=common)
    for table in board.tables:
        drawn = [plots.perception_distortion(table), *(plots.quality_cost(table, c) for c in ("parameters", "seconds"))]
        write(
            f"tasks/{table.id}.html",
            "task.html",
            table=table,
            plots=[plot for plot in drawn if plot is not None],
            filters=_filters(board, [table]),
        )
    for method in board.methods.values():
        write(f"methods/{method.slug}.html", "method.html", **_method_page(method, board, stacks))
    write("factors.html", "factors.html", plots=plots.over_factors(board.tables))
    write("viewer.html", "viewer.html", stacks_json=[asdict(stack) for stack in stacks])
    write("matrix.html", "matrix.html", matrix=matrix)
    write("submit.html", "submit.html")
    write("about.html", "about.html", specs=list(specs.values()))
    return written


def _method_page(method: Method, board: Board, stacks: Sequence[Stack]) -> dict[str, Any]:
    latest = max((entry for _, entry in method.entries), key=lambda e: (e.submission.date, e.id)).submission
    standings = [
        (kind, standing, len(found))
        for kind, found in board.standings.items()
        for standing in found
        if standing.method == method.slug
    ]
    return {
        "method": method,
        "latest": latest,
        "zoo": facts_of(method.name) if latest.source.package == OURS else None,
        "pictures": _pictures_of(method.name, latest, stacks),
        "why_no_pictures": _why_no_pictures(method.name, latest, stacks),
        "standings": standings,
    }


def _pictures_of(name: str, latest: Submission, stacks: Sequence[Stack]) -> list[tuple[Stack, Picture, Picture]]:
    """The stacks that show this very method, with HR: the zoo's own, with the weights that ship or with none."""
    if latest.source.package != OURS or (latest.weights is not None and not latest.weights.shipped):
        return []
    return [
        (stack, stack.pictures[0], picture) for stack in stacks for picture in stack.pictures if picture.method == name
    ]


def _why_no_pictures(name: str, latest: Submission, stacks: Sequence[Stack]) -> str:
    """Why the page of a method shows none, where it does not."""
    if not stacks:
        return "this site was built without pictures"
    if latest.source.package != OURS:
        return "its code is not in this package, and what comes from elsewhere is not run to build a page"
    if latest.weights is not None and not latest.weights.shipped:
        return "its weights do not ship with the package"
    reasons = [stack.missing[name] for stack in stacks if name in stack.missing]
    drawn = ", ".join(stack.task for stack in stacks)
    return reasons[0] if reasons else f"so that a site is soon built, it draws {drawn} alone, and not every method"


def _write_data(folder: Path, board: Board) -> None:
    folder.mkdir()

    def write(name: str, text: str) -> None:
        (folder / name).write_text(text, encoding="utf-8", newline="")

    write("results.csv", exports.results_csv(board.tables))
    write("standings.csv", exports.standings_csv(board))
    for table in board.tables:
        write(f"{table.id}.csv", exports.results_csv([table]))
        write(f"{table.id}.subjects.csv", exports.subjects_csv(table))
        write(f"{table.id}.json", exports.as_json(exports.table_json(table)))
    everything = {
        "mrsr_bench": __version__,
        "tables": [exports.table_json(table) for table in board.tables],
        "standings": {kind: [exports.standing_json(s) for s in found] for kind, found in board.standings.items()},
    }
    write("results.json", exports.as_json(everything))


def serve(folder: Path, port: int = 8000) -> None:
    """Serve a built site on loopback until interrupted.

    Raises:
        UserError: there is no site in ``folder``, or the port is taken.
    """
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    if not (folder / MARKER).is_file():
        raise UserError(f"{folder}: holds no built site; build it by `mrsr-bench leaderboard build --out {folder}`")
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    except OSError as error:
        raise UserError(f"port {port} cannot be used ({error.strerror}); choose another with --port") from error
    with server:
        print(f"http://127.0.0.1:{server.server_port}/ shows {folder}; Ctrl-C ends it", flush=True)
        server.serve_forever()
