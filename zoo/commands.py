"""Verbs of the zoo: weights at hand and on the Hub, and a new method's files. Thin, as in `mrsr_bench.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrsr_bench.benchmarks.options import EXIT_USER, Json

app = typer.Typer(rich_markup_mode=None)
weights_app = typer.Typer(help="Weights: list, pull, verify, import.", rich_markup_mode=None)
app.add_typer(weights_app, name="weights")


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


@app.command("new-method")
def new_method(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the method is to be called: a-z, 0-9 and _.")],
    package: Annotated[
        Path | None, typer.Option(help="Write a package of its own into this folder, not a folder of the zoo.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the skeleton of a new method: network, facts, recipe, test, card."""
    from mrsr_bench.benchmarks import tables
    from mrsr_bench.zoo import skeleton

    found = skeleton.new_method(name, package=package)
    tables.emit(found, json, lambda: tables.facts(found))
