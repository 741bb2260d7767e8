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

EXIT_OURS, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="mrsr-bench",
    help="Benchmark suite and model zoo for MRI super-resolution.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

weights_app = typer.Typer(help="Weights: list, pull, verify, import.", rich_markup_mode=None)
app.add_typer(weights_app, name="weights")

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of everything that is random.")]
Suffix = Annotated[str | None, typer.Option(help="Which image of a subject, by BIDS suffix: T1w, T2w, ...")]
Weights = Annotated[
    Path | None, typer.Option(help="Weights of the network: a safetensors file, a folder, or hf:user/name@revision.")
]


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
    json: Json = False,
) -> None:
    """Evaluate methods on a dataset under a protocol."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.evaluate import Request, evaluate

    request = Request(
        model, dataset, protocol, split, subjects, suffix, weights, train, device, out, seed, fresh, figures
    )
    with tables.stdout_kept_clean(), tables.progress() as notify:
        report = evaluate(request, notify)
    tables.emit(report.result, json, lambda: tables.run_report(report))
    tables.say(tables.run_places(report))
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
) -> None:
    """Train a network; a training that was stopped is resumed."""
    from mrsr_bench.benchmarks.datasets import open_dataset
    from mrsr_bench.zoo.training import train_method

    train_method(
        model,
        open_dataset(dataset, suffix=suffix),
        recipe=recipe,
        task=protocol,
        steps=steps,
        fresh=fresh,
        device=device,
        out=out,
        seed=seed,
        terms=terms,
        perceptual_weights=perceptual_weights,
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
    json: Json = False,
) -> None:
    """Super-resolve an image of your own."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.zoo.upscale import upscale_file

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
        )
    tables.emit(facts, json, lambda: tables.facts(facts))


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="models, datasets, degradations, metrics or protocols.")],
    json: Json = False,
) -> None:
    """List what there is."""
    from mrsr_bench.benchmarks import catalogue, tables

    found = catalogue.listing(kind)
    tables.emit(found, json, lambda: tables.listing(found))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A method, dataset, degradation, metric or protocol.")],
    json: Json = False,
) -> None:
    """Show all that is known about one of them."""
    from mrsr_bench.benchmarks import catalogue, tables

    found = catalogue.details(name)
    tables.emit(found, json, lambda: tables.facts(found))


@app.command()
def score(
    sr: Annotated[Path, typer.Argument(metavar="SR", help="The super-resolved image, on HR's grid.")],
    hr: Annotated[Path, typer.Argument(metavar="HR", help="The reference.")],
    protocol: Annotated[str | None, typer.Option(help="Score on the region that this protocol scores.")] = None,
    subject: Annotated[str | None, typer.Option(help="Whose random draws are used; default: HR's name.")] = None,
    convention: Annotated[
        str | None, typer.Option(help="all, psnr, ssim, nrmse or a convention's name: as the literature computes it.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Score an image of your own against its reference."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.comparison import score_files

    if convention is not None:
        from mrsr_bench.benchmarks import conventions

        if protocol is not None:
            raise UserError("--convention scores whole files as the literature does; leave --protocol out")
        with tables.stdout_kept_clean():
            found = conventions.score_conventions_of_files(sr, hr, convention)
        tables.emit(found, json, lambda: conventions.table(found))
        return
    with tables.stdout_kept_clean():
        found = score_files(sr, hr, protocol=protocol, seed=seed, subject=subject)
    tables.emit(found, json, lambda: tables.scores(found))


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    b: Annotated[Path, typer.Argument(metavar="RUN", help="Another run's folder.")],
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Compare two stored runs: the first minus the second."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.comparison import compare_runs

    found = compare_runs(a, b, seed=seed)
    tables.emit(found, json, lambda: tables.comparison(found))


@weights_app.command("list")
def weights_list(json: Json = False) -> None:
    """List the weights on this machine, and those on the Hub that the zoo vouches for."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.zoo.store import list_weights

    found = {"weights": list_weights()}
    tables.emit(found, json, lambda: tables.listing(found))


@weights_app.command("pull")
def weights_pull(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="user/name, user/name@revision or a method.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the zoo vouches for on the Hub.")] = False,
    json: Json = False,
) -> None:
    """Fetch weights from the Hub, check them and keep them for use without a network."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.zoo.store import pull_weights

    with tables.stdout_kept_clean():
        found = pull_weights(names or [], everything=everything, notify=lambda line: tables.say([line]))
    tables.emit(found, json, lambda: tables.listing(found))


@weights_app.command("verify")
def weights_verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Methods, addresses or folders; default: all.")
    ] = None,
    json: Json = False,
) -> None:
    """Check weights against their SHA-256 and their golden output."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.zoo.store import verify_weights

    with tables.stdout_kept_clean():
        found = {"verified": verify_weights(names or [], lambda line: tables.say([line]))}
    tables.emit(found, json, lambda: tables.listing(found))
    if any(item["state"] != "ok" for item in found["verified"]):
        raise typer.Exit(EXIT_USER)


@weights_app.command("import")
def weights_import(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="soup_gan.")],
    source: Annotated[
        Path | None, typer.Option("--from", help="The official package's archive or folder; default: where installed.")
    ] = None,
    json: Json = False,
) -> None:
    """Install weights that a paper's authors released."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.zoo.store import import_weights

    with tables.stdout_kept_clean():
        found = import_weights(method, source)
    tables.emit(found, json, lambda: tables.facts(found))


@app.command()
def publish(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_CHECKPOINT", help="A run, or a folder of weights.")],
    repo: Annotated[str, typer.Option(help="The repository on the Hub, as user/name.")],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only write the folder that would be published.")] = False,
    out: Annotated[Path, typer.Option(help="Where that folder is put together.")] = Path("publish"),
    json: Json = False,
) -> None:
    """Publish weights with their card on the Hugging Face Hub."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.zoo.publish import publish as publish_weights

    with tables.stdout_kept_clean():
        found = publish_weights(source, repo, private=private, dry_run=dry_run, out=out)
    tables.emit(found, json, lambda: tables.facts(found))


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

    request = Request(model, dataset, split, subjects, suffix, crop or None, baseline, device, seed)
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

    request = Request(model, dataset, protocol, split, subjects, suffix, lesions, bands, device, seed)
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


@app.command()
def doctor(json: Json = False) -> None:
    """Say what is installed, found and missing."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.benchmarks.doctor import examine

    with tables.stdout_kept_clean():
        found = examine()
    tables.emit(found, json, lambda: tables.facts(found))


data_app = typer.Typer(help="Fetch and check datasets.", rich_markup_mode=None, no_args_is_help=True)
app.add_typer(data_app, name="data")
Root = Annotated[Path | None, typer.Option(help="Where datasets lie; default: MRSR_BENCH_DATA.")]


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
