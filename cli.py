"""The ``mrsr-bench`` command: one thin function per verb; what it does is in the packages, imported when it is done.

Help is plain text and completion is off because both would cost more than the rest of ``--help``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mrsr_bench import UserError, __version__
from mrsr_bench.benchmarks.commands import app as benchmarks_app
from mrsr_bench.benchmarks.options import (
    EXIT_INTERRUPTED,
    EXIT_OURS,
    EXIT_USER,
    Device,
    Fold,
    Json,
    Seed,
    Suffix,
    Weights,
)
from mrsr_bench.leaderboards.commands import app as leaderboards_app
from mrsr_bench.zoo.commands import app as zoo_app

app = typer.Typer(
    name="mrsr-bench",
    help="Benchmark suite and model zoo for MRI super-resolution.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mrsr-bench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error; may stand anywhere.")] = False,
) -> None:
    """Benchmark suite and model zoo for MRI super-resolution."""


@app.command()
def run(
    model: Annotated[list[str], typer.Option(help="Methods: comma-separated or repeated.")],
    dataset: Annotated[str, typer.Option(help="A dataset's name, or a file, folder or BIDS tree.")],
    protocol: Annotated[str | None, typer.Option(help="Default: the first that all methods can do.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all.")] = None,
    subjects: Annotated[int | None, typer.Option(help="Only the first N subjects in sorted order.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these subjects: comma-separated or repeated.")] = None,
    suffix: Suffix = None,
    weights: Weights = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train by the quick recipe where weights are missing.")
    ] = False,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help="Where runs are stored.")] = Path("runs"),
    seed: Seed = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute everything again.")] = False,
    figures: Annotated[bool, typer.Option(help="Draw a figure of each subject.")] = True,
    pictures: Annotated[
        Path | None, typer.Option(help="A folder for copies of the figures that are light enough for a page.")
    ] = None,
    fold: Fold = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="Metrics beside the protocol's: names, all or none; default: errors in and beyond LR's band, "
            "resolution, hfen, gmsd, and tissue_dice of the phantom, wherever SR is computed anyway."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Evaluate methods on a dataset under a protocol."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.evaluate import Request, evaluate

    if pictures is not None and (pictures.is_file() or not figures):
        raise UserError(f"--pictures {pictures}: expected a folder, and figures to copy (not --no-figures)")
    request = Request(
        model,
        dataset,
        protocol,
        split,
        subjects,
        suffix,
        weights,
        train,
        device,
        out,
        seed,
        fresh,
        figures,
        fold=fold,
        metrics=metrics or None,
        only=only or (),
    )
    with tables.stdout_kept_clean(), tables.progress() as notify:
        report = evaluate(request, notify)
    tables.emit(report.result, json, lambda: tables.run_report(report))
    tables.say(tables.run_places(report))
    if pictures is not None:
        from mrsr_bench.benchmarks.figures import light_copies

        copies = light_copies(report.figures, pictures, report.protocol.name)
        tables.say([f"picture: {copy}" for copy in copies])
    if report.failed:
        raise typer.Exit(EXIT_USER)


@app.command()
def train(
    model: Annotated[str, typer.Option(help="A network's name.")],
    dataset: Annotated[str, typer.Option(help="A dataset's name, or a file, folder or BIDS tree.")],
    recipe: Annotated[str, typer.Option(help="paper, quick or a YAML file.")] = "quick",
    protocol: Annotated[str | None, typer.Option(help="The task, or group of tasks, to train for.")] = None,
    suffix: Suffix = None,
    steps: Annotated[int | None, typer.Option(help="Fewer or more steps than the recipe's.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start again instead of resuming.")] = False,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Where checkpoints and logs go.")] = None,
    seed: Seed = 0,
    terms: Annotated[str | None, typer.Option(help="What the card says of the data's sources and terms.")] = None,
    perceptual_weights: Annotated[
        Path | None, typer.Option(help="Parameters of the perceptual loss's backbone (safetensors, timm's names).")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Begin with these weights, or what fits of another network's: a path, or hf:user/name@revision."
        ),
    ] = None,
    fold: Fold = None,
) -> None:
    """Train a network; a training that was stopped is resumed."""
    from mrsr_bench.benchmarks.datasets import open_dataset
    from mrsr_bench.zoo.training import train_method

    source = open_dataset(dataset, suffix=suffix)
    if fold is not None:
        from mrsr_bench.benchmarks.folds import training_fold

        source, protocol, out = training_fold(source, model, protocol, fold, out)
    train_method(
        model,
        source,
        recipe=recipe,
        task=protocol,
        steps=steps,
        fresh=fresh,
        device=device,
        out=out,
        seed=seed,
        terms=terms,
        perceptual_weights=perceptual_weights,
        weights=weights,
    )


@app.command()
def upscale(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An image or a 4D series.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The NIfTI file to write.")],
    model: Annotated[str, typer.Option(help="A method's name.")],
    factor: Annotated[str | None, typer.Option(help="R x A x S, as 2x2x1.")] = None,
    spacing: Annotated[str | None, typer.Option(help="Target spacing R x A x S in mm, as 1x1x1.")] = None,
    slice_thickness: Annotated[float | None, typer.Option(help="Thickness of the slices, mm.")] = None,
    profile: Annotated[str | None, typer.Option(help="Slice profile: box, gaussian or sample.")] = None,
    weights: Weights = None,
    device: Device = "auto",
    autocast: Annotated[bool, typer.Option("--autocast", help="bfloat16: faster, not for scores.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the network, as blend=parameters."),
    ] = None,
    json: Json = False,
) -> None:
    """Super-resolve an image of your own."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.zoo.upscale import parse_settings, upscale_file

    with tables.stdout_kept_clean():
        facts = upscale_file(
            source,
            target,
            model=model,
            factor=factor,
            spacing=spacing,
            slice_thickness=slice_thickness,
            profile=profile,
            weights=weights,
            device=device,
            autocast=autocast,
            settings=parse_settings(settings or []),
        )
    tables.emit(facts, json, lambda: tables.facts(facts))


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="models, datasets, degradations, metrics, protocols ...")],
    json: Json = False,
) -> None:
    """List what there is."""
    from mrsr_bench.benchmarks import catalogue, tables

    found = catalogue.listing(kind)
    tables.emit(found, json, lambda: tables.listing(found))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A method, dataset, metric, protocol ...")],
    json: Json = False,
) -> None:
    """Show all that is known about one of them."""
    from mrsr_bench.benchmarks import catalogue, tables

    found = catalogue.details(name)
    tables.emit(found, json, lambda: tables.facts(found))


@app.command()
def score(
    sr: Annotated[Path, typer.Argument(metavar="SR", help="The super-resolved image, or a folder of predictions.")],
    hr: Annotated[Path | None, typer.Argument(metavar="[HR]", help="The reference of an image.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Score on the region that this protocol scores.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Of a folder: where HR is; default: as the manifest of the LR files says.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a folder: train, val, test or all.")] = None,
    name: Annotated[str | None, typer.Option(help="Of a folder: what the method is called.")] = None,
    out: Annotated[Path, typer.Option(help="Of a folder: where the run is stored.")] = Path("runs"),
    suffix: Suffix = None,
    subject: Annotated[str | None, typer.Option(help="Whose random draws are used; default: HR's name.")] = None,
    convention: Annotated[
        str | None, typer.Option(help="all, psnr, ssim, nrmse or a convention's name: as the literature computes it.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides the random draws; default: the manifest's, else 0.")] = None,
    json: Json = False,
) -> None:
    """Score an image of your own against its reference, or a folder of predictions under a protocol."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.comparison import score_files

    of_a_folder = {"--dataset": dataset, "--split": split, "--name": name, "--suffix": suffix}
    refused = {"--convention": convention, "--subject": subject} if hr is None else of_a_folder
    if given := [option for option, value in refused.items() if value is not None]:
        takes = "a folder of predictions" if hr is None else "SR and HR"
        raise UserError(f"score with {takes} does not take {' and '.join(given)}; leave it out")
    if hr is None:
        from mrsr_bench.benchmarks.exchange import score_predictions

        if protocol is None:
            raise UserError("score takes SR and HR, or --protocol and a folder of predictions")
        with tables.stdout_kept_clean(), tables.progress() as notify:
            report = score_predictions(
                sr,
                protocol=protocol,
                dataset=dataset,
                split=split,
                suffix=suffix,
                seed=seed,
                out=out,
                name=name,
                notify=notify,
            )
        tables.emit(report.result, json, lambda: tables.run_report(report))
        tables.say(tables.run_places(report))
        return
    if convention is not None:
        from mrsr_bench.benchmarks import conventions

        if protocol is not None:
            raise UserError("--convention scores whole files as the literature does; leave --protocol out")
        if subject is not None or seed is not None:
            raise UserError("--convention draws nothing at random; leave --subject and --seed out")
        with tables.stdout_kept_clean():
            found = conventions.score_conventions_of_files(sr, hr, convention)
        tables.emit(found, json, lambda: conventions.table(found))
        return
    with tables.stdout_kept_clean():
        found = score_files(sr, hr, protocol=protocol, seed=seed or 0, subject=subject)
    tables.emit(found, json, lambda: tables.scores(found))


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    b: Annotated[Path, typer.Argument(metavar="RUN", help="Another run's folder.")],
    metrics: Annotated[list[str] | None, typer.Option(help="Metrics to compare beside the protocol's: names.")] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Compare two stored runs: the first minus the second."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.comparison import compare_runs

    found = compare_runs(a, b, seed=seed, metrics=metrics or ())
    tables.emit(found, json, lambda: tables.comparison(found))


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is installed, found and missing."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.doctor import examine

    with tables.stdout_kept_clean():
        found = examine()
    tables.emit(found, json, lambda: tables.facts(found))


for more in (benchmarks_app, zoo_app, leaderboards_app):
    app.add_typer(more)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0, 2 for what the user can put right, 1 for what we must, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        code: Any = app(args=words or ["--help"], prog_name="mrsr-bench", standalone_mode=False)
    except Exception as error:
        if debug:
            raise
        sys.exit(_explain(error))
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:
        print(
            "mrsr-bench: interrupted; what was finished is kept, and the same command goes on from there",
            file=sys.stderr,
        )
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Print one sentence for an error and return the exit code."""
    if isinstance(error, UserError):
        print(f"mrsr-bench: {error}", file=sys.stderr)
        return EXIT_USER
    if hasattr(error, "format_message"):
        sentence = " ".join(error.format_message().split())
        print(f"mrsr-bench: {sentence.rstrip('.')}; see mrsr-bench --help", file=sys.stderr)
        return EXIT_USER
    text = " ".join(str(error).split())
    print(f"mrsr-bench: a fault of ours: {type(error).__name__}: {text}; --debug shows where", file=sys.stderr)
    return EXIT_OURS


if __name__ == "__main__":
    main()
