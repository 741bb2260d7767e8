"""Verbs of comparison beyond a run: reports, papers' tables, checks of methods, data. Thin, as in `mrsr_bench.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrsr_bench.benchmarks.options import EXIT_USER, Device, Json, Seed, Suffix

app = typer.Typer(rich_markup_mode=None)
data_app = typer.Typer(help="Fetch and check datasets.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(data_app, name="data")

Root = Annotated[Path | None, typer.Option(help="Where datasets lie; default: MRSR_BENCH_DATA.")]


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs' folders, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Where the page, figures and tables go.")] = Path("report"),
    markdown: Annotated[Path | None, typer.Option(help="Another place for the Markdown tables.")] = None,
    metrics: Annotated[
        list[str] | None, typer.Option(help="Metrics for the first tables beside the protocol's: names.")
    ] = None,
    repeat: Annotated[
        list[Path] | None,
        typer.Option(help="A run of one of the methods trained with another seed: its spread stands beside the gains."),
    ] = None,
    json: Json = False,
) -> None:
    """Report stored runs: one page, figures, LaTeX and Markdown tables."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.report import write_report

    with tables.stdout_kept_clean():
        found = write_report(runs, out, markdown=markdown, metrics=metrics or (), repeats=repeat or ())
    tables.emit(found, json, lambda: "\n".join(found["files"]))


@app.command()
def reproduce(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="mdcsrn-table1, soup-fig2, prostate-table1, ixi-table1...")
    ],
    dataset: Annotated[
        str | None, typer.Option(help="Other data than the paper's: a dataset's name or a path.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all.")] = None,
    subjects: Annotated[int | None, typer.Option(help="Only the first N subjects in sorted order.")] = None,
    suffix: Suffix = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train by the quick recipe where weights are missing.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Fewer or more steps than the quick recipe's.")] = None,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help="Where runs and the table are stored.")] = Path("runs"),
    seed: Seed = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute everything again.")] = False,
    page: Annotated[Path | None, typer.Option(help="Another folder for the page and its figure.")] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Do not run these methods: comma-separated or repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Run what a paper's table or figure ran, ours beside the paper's, and check its claims."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.reproduce import Request, reproduce
    from mrsr_bench.benchmarks.reproduction_tables import rendered
    from mrsr_bench.registry import typed_names

    left_out = typed_names(without or ())
    request = Request(name, dataset, subjects, split, suffix, train, steps, device, out, seed, fresh, page, left_out)
    with tables.stdout_kept_clean(), tables.progress() as notify:
        found = reproduce(request, notify)
    tables.emit(found, json, lambda: rendered(found))
    tables.say([f"table: {file}" for file in found["files"]])


@app.command()
def matrix(
    model: Annotated[list[str], typer.Option(help="Networks: comma-separated or repeated.")],
    dataset: Annotated[str, typer.Option(help="A dataset's name, or a file, folder or BIDS tree.")],
    split: Annotated[str | None, typer.Option(help="train, val, test or all.")] = None,
    subjects: Annotated[int, typer.Option(help="Only the first N subjects in sorted order.")] = 1,
    suffix: Suffix = None,
    crop: Annotated[int, typer.Option(help="Side of the central box that is scored, voxels; 0 for the whole.")] = 96,
    baseline: Annotated[str, typer.Option(help="The interpolation that gains are taken over.")] = "cubic",
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="A JSON file to write too.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Score a method trained for one degradation on all the others."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.matrix import Request, degradation_matrix, table, write_json
    from mrsr_bench.benchmarks.results import check_writable

    request = Request(model, dataset, split, subjects, suffix, crop or None, baseline, device, seed)
    if out is not None:
        check_writable(out.parent)
    with tables.stdout_kept_clean(), tables.progress() as notify:
        found = degradation_matrix(request, notify)
    if out is not None:
        write_json(found, out)
    tables.emit(found, json, lambda: table(found))


@app.command()
def hallucinate(
    model: Annotated[list[str], typer.Option(help="Methods: comma-separated or repeated.")],
    dataset: Annotated[str, typer.Option(help="A dataset's name, or a file, folder or BIDS tree.")],
    protocol: Annotated[str | None, typer.Option(help="Default: the common one.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all.")] = None,
    subjects: Annotated[int, typer.Option(help="Only the first N subjects in sorted order.")] = 1,
    suffix: Suffix = None,
    lesions: Annotated[int, typer.Option(help="Synthetic lesions per subject.")] = 6,
    bands: Annotated[bool, typer.Option(help="Also upscale whole volumes and compare spectra.")] = True,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="A JSON file to write too.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Check what methods invent outside the measured band, and whether synthetic lesions survive."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.hallucination import Request, hallucination_check, table
    from mrsr_bench.benchmarks.matrix import write_json
    from mrsr_bench.benchmarks.results import check_writable

    request = Request(model, dataset, protocol, split, subjects, suffix, lesions, bands, device, seed)
    if out is not None:
        check_writable(out.parent)
    with tables.stdout_kept_clean(), tables.progress() as notify:
        found = hallucination_check(request, notify)
    if out is not None:
        write_json(found, out)
    tables.emit(found, json, lambda: table(found))


@app.command()
def segment(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A T1-weighted head.")],
    reference: Annotated[Path | None, typer.Option(help="Another image of this head: overlap with its labels.")] = None,
    out: Annotated[Path | None, typer.Option(help="A NIfTI file for the labels, on a 1 mm grid.")] = None,
    segmentation_weights: Annotated[
        Path | None, typer.Option(help="Parameters of HighRes3DNet (safetensors); default: the store, else fetched.")
    ] = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Parcellate a head by HighRes3DNet; with a reference, say how far the two agree."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.segmentation.files import segment_files

    with tables.stdout_kept_clean():
        found = segment_files(image, reference, out=out, parameters=segmentation_weights, device=device)
    tables.emit(found, json, lambda: tables.facts({k: v for k, v in found.items() if k != "structures"}))


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A dataset's name.")],
    root: Root = None,
    json: Json = False,
) -> None:
    """Download a dataset, or say how to get it; resumes what was interrupted."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.fetch import fetch

    with tables.stdout_kept_clean(), tables.progress() as notify:
        found = fetch(name, root=root, notify=notify)
    tables.emit(found, json, lambda: tables.facts(found))


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(metavar="NAME_OR_PATH", help="A dataset's name, or a file or folder.")],
    root: Root = None,
    suffix: Suffix = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
    json: Json = False,
) -> None:
    """Count, read and measure every image; exit code 2 if something is wrong."""
    from mrsr_bench.benchmarks import check, tables

    with tables.stdout_kept_clean(), tables.progress() as notify:
        found = check.check(name, root=root, suffix=suffix, jobs=jobs, notify=notify)
    tables.emit(found, json, lambda: check.table(found))
    if not found["ok"]:
        raise typer.Exit(EXIT_USER)


@data_app.command("split")
def data_split(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A dataset's name.")],
    root: Root = None,
    json: Json = False,
) -> None:
    """Print which subject is in which split, and the hashes by which two sites see whether they split alike."""
    from mrsr_bench.benchmarks import split, tables

    found = split.split(name, root)
    tables.emit(found, json, lambda: split.table(found))


@data_app.command("lr")
def data_lr(
    protocol: Annotated[str, typer.Option(help="The protocol whose LR is made.")],
    dataset: Annotated[str, typer.Option(help="A dataset's name, or a file, folder or BIDS tree.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    split: Annotated[str | None, typer.Option(help="train, val, test or all.")] = None,
    subjects: Annotated[int | None, typer.Option(help="Only the first N subjects in sorted order.")] = None,
    suffix: Suffix = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write LR as NIfTI with checksums, for methods that live elsewhere; `score` takes what they make of it."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.exchange import Request, export_lr

    with tables.stdout_kept_clean(), tables.progress() as notify:
        found = export_lr(Request(protocol, dataset, split, subjects, suffix, seed, out), notify)
    facts = {
        "images": len(found["images"]),
        "folder": str(out),
        **{k: found[k] for k in ("protocol", "dataset", "split")},
    }
    tables.emit(found, json, lambda: tables.facts(facts))
