"""Verbs of the leaderboard: submissions, their check, and the pages. Thin, as in `mrsr_bench.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrsr_bench.benchmarks.options import EXIT_USER, Json, Weights

app = typer.Typer(rich_markup_mode=None)
leaderboard_app = typer.Typer(help="Build the leaderboard's pages, or look at them.", rich_markup_mode=None)
app.add_typer(leaderboard_app, name="leaderboard")


@app.command()
def submit(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of stored runs.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, or a folder for one file each.")],
    contact: Annotated[str, typer.Option(help="Whom to ask: mail or https:// address; maintainers for our own.")],
    track: Annotated[str, typer.Option(help="open or fixed.")] = "open",
    licence: Annotated[str | None, typer.Option(help="Of the method's code; default: what the method says.")] = None,
    source: Annotated[str | None, typer.Option(help="Where the method's code is, https://...")] = None,
    commit: Annotated[str | None, typer.Option(help="The commit of that code, 40 digits.")] = None,
    weights: Weights = None,
    other_data: Annotated[
        str | None, typer.Option(help="Training data beyond what the configuration of the weights names.")
    ] = None,
    rehearse: Annotated[bool, typer.Option(help="Also run on procedural heads, which a re-run repeats.")] = True,
    json: Json = False,
) -> None:
    """Write a submission for the leaderboard from stored runs."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.leaderboards import submit as submission

    declared = submission.Declaration(contact, track, licence, source, commit, weights, other_data, rehearse)
    with tables.stdout_kept_clean():
        found = submission.submit(runs, out, declared, lambda line: tables.say([line]))
    tables.emit(found, json, lambda: tables.facts(found))


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="SUBMISSION", help="What mrsr-bench submit wrote.")],
    rerun: Annotated[bool, typer.Option("--rerun", help="Run the method again, without network, and compare.")] = False,
    weights: Weights = None,
    dataset: Annotated[
        list[Path] | None, typer.Option(help="A folder with the submission's dataset; may be repeated.")
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, help="Wall time of a re-run, at most.")] = 3600,
    memory: Annotated[int, typer.Option(min=1, help="Memory of a re-run, at most, MiB.")] = 16384,
    results: Annotated[Path | None, typer.Option(help="Accepted results to compare with; default: ours.")] = None,
    accept: Annotated[Path | None, typer.Option(help="A folder to keep the sound ones in, with their badges.")] = None,
    json: Json = False,
) -> None:
    """Check a submission; exit code 2 if it is refused."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.leaderboards import verify as verification
    from mrsr_bench.leaderboards.rerun import Limits

    places = tuple(str(path) for path in dataset or ())
    again = verification.Rerun(weights, places, Limits(seconds, memory)) if rerun else None
    with tables.stdout_kept_clean():
        found = verification.verify(file, lambda line: tables.say([line]), results=results, again=again, accept=accept)
    tables.emit(found, json, lambda: tables.listing(verification.in_short(found)))
    if not found["ok"]:
        raise typer.Exit(EXIT_USER)


@leaderboard_app.command("build")
def leaderboard_build(
    out: Annotated[Path, typer.Option(help="The folder to write, replacing an older site.")] = Path("site"),
    results: Annotated[
        Path | None, typer.Option(help="The folder with accepted submissions; default: this package's.")
    ] = None,
    matrix: Annotated[Path | None, typer.Option(help="What `mrsr-bench matrix --out` wrote; default: ours.")] = None,
    pictures: Annotated[
        str | None, typer.Option(help="Methods in the slice viewer, comma-separated; none: without pictures.")
    ] = None,
    json: Json = False,
) -> None:
    """Render the leaderboard as a static site."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.leaderboards import site

    with tables.stdout_kept_clean():
        found = site.build(out, results=results, matrix=matrix, pictures=site.picture_names(pictures))
    tables.emit(found, json, lambda: tables.facts(found))


@leaderboard_app.command("serve")
def leaderboard_serve(
    site: Annotated[Path, typer.Argument(metavar="SITE", help="A built site.")] = Path("site"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port on this machine.")] = 8000,
) -> None:
    """Show a built site on this machine until interrupted."""
    from mrsr_bench.leaderboards.site import serve

    serve(site, port)
