"""Publish weights on the Hugging Face Hub: one repository per method and task, in one commit, checked on both ends.

What is published is a folder of weights, or the weights that a stored run was made with; a run puts its scores and the
picture of its worst subject on the card. The folder is put together under ``publish/{user}--{name}``, which is all
that a dry run does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.zoo.hub import Address, hub_errors, parse_address, pulled
from mrsr_bench.zoo.inspection import inspect, is_picture, largest, method_of
from mrsr_bench.zoo.skeleton import refuse_unfilled
from mrsr_bench.zoo.weights import CONFIG, CURVE, GOLDEN, LOG, MODEL, Weights, home, sha256_of_file

if TYPE_CHECKING:
    from huggingface_hub import HfApi

KEPT = (MODEL, CONFIG, GOLDEN, LOG, CURVE)
NOT_OURS = (".gitattributes",)
"""Files that the Hub itself puts into a repository."""
_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{30,}")


def publish(
    source: Path, repo: str, *, private: bool = False, dry_run: bool = False, out: Path = Path("publish")
) -> dict[str, Any]:
    """Publish a folder of weights, or those of a run, as ``repo``; returns what was done (JSON-able).

    Raises:
        UserError: the source holds no sound weights, their method is a skeleton still, the repository holds something
            else or may not be written, there is no network, or what arrived differs from what was sent.
    """
    address = parse_address(repo)
    if "@" in repo:
        raise UserError(f"{repo!r} names a revision; weights are published on the main branch of user/name")
    folder = assemble(source, address.repo, out, finished=not dry_run)
    weights = inspect(folder)
    facts: dict[str, Any] = {
        "repository": address.repo,
        "folder": str(folder),
        "method": weights.config["method"],
        "protocol": weights.config["protocol"],
        "sha256": weights.sha256,
        "files": sorted(path.name for path in folder.iterdir()),
        "published": not dry_run,
    }
    if not dry_run:
        facts["revision"] = _send(folder, address, private=private, config=weights.config)
        facts["load"] = f'mrsr_bench.load("{address.repo}", revision="{facts["revision"]}")'
    return facts


def assemble(source: Path, repo: str, out: Path, *, finished: bool = False) -> Path:
    """Put together what a repository is to hold; returns the folder, which appears whole or not at all.

    Raises:
        UserError: the source is nothing to publish, a file of it holds an access token, or the method must be
            ``finished`` and still says what the skeleton says.
    """
    from mrsr_bench.benchmarks.results import check_writable, read_run
    from mrsr_bench.zoo.cards import add_picture, picture_name, score_entry, write_card

    run_folder = _run_folder(source)
    run = None if run_folder is None else read_run(run_folder)
    weights = _weights_folder(source) if run is None else _weights_of(run, source)
    sound = inspect(weights)
    if finished:
        refuse_unfilled(method_of(sound.config, str(source)))
    target = out / repo.replace("/", "--")
    scratch = out / f".{os.getpid()}.partial"
    partial = scratch / target.name
    check_writable(out)
    try:
        partial.mkdir(parents=True)
        for name in KEPT:
            if (weights / name).is_file():
                shutil.copyfile(weights / name, partial / name)
        for picture in weights.iterdir():
            if is_picture(picture.name):
                shutil.copyfile(picture, partial / picture.name)
        config = json.loads((partial / CONFIG).read_text(encoding="utf-8"))
        if run is not None and run_folder is not None:
            entry = score_entry(run, sha256_of_file(partial / MODEL), source)
            scores = config.get("scores", ())
            for old in scores:
                if _same_place(old, entry) and (picture_of_old := picture_name(old)):
                    (partial / picture_of_old).unlink(missing_ok=True)
            config["scores"] = [*(old for old in scores if not _same_place(old, entry)), entry]
            add_picture(partial, run_folder, entry)
        (partial / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        write_card(method_of(config, str(source)), config, partial, repo=repo)
        _refuse_tokens(partial)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror}); choose another folder with --out") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _same_place(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether scores are of the same data under the same protocol, so that the newer ones stand for both."""
    return all(old.get(key, new[key]) == new[key] for key in ("dataset", "protocol_hash", "split"))


def _run_folder(source: Path) -> Path | None:
    """The folder of a stored run, where ``source`` is one (its path, its ``run.json``, or a name in ``./runs``)."""
    from mrsr_bench.benchmarks.results import RUN_FILE

    for folder in (source, source.parent if source.name == RUN_FILE else source, Path("runs") / source):
        if (folder / RUN_FILE).is_file():
            return folder
    return None


def _weights_folder(source: Path) -> Path:
    """The folder of weights that a path names: itself, or the one that the training in it installed.

    Raises:
        UserError: it is none, or a training that is not finished.
    """
    folder = source.parent if source.suffix in (".pt", ".safetensors") else source
    if (folder / LOG).is_file() and not (folder / MODEL).is_file():
        log = (folder / LOG).read_bytes()
        for file in (home() / "weights").glob(f"*/{LOG}"):
            if file.read_bytes() == log:
                return file.parent
    if (folder / MODEL).is_file() and (folder / CONFIG).is_file() and (folder / GOLDEN).is_file():
        return folder
    if not source.exists():
        raise UserError(f"{source}: no such run or folder of weights")
    if source.suffix == ".pt" or any(source.glob("*.pt")) or any(source.glob("checkpoint-*")):
        raise UserError(
            f"{source}: is the state of a training, which is not published; finish it with "
            f"`mrsr-bench train`, which installs weights under {home() / 'weights'}, and publish those"
        )
    raise UserError(
        f"{source}: is neither a run nor a folder of weights; expected {MODEL}, {CONFIG} and {GOLDEN}, or a run.json"
    )


def _weights_of(run: Mapping[str, Any], source: Path) -> Path:
    """The folder of the weights that a run was made with, wherever they are on this machine."""
    digest = run.get("weights_sha256")
    if digest is None:
        raise UserError(f"{source}: is a run of {run.get('resolved')}, which has no weights to publish")
    for folder in every_folder():
        if sha256_of_file(folder / MODEL) == digest:
            return folder
    raise UserError(
        f"{source}: was made with the weights of SHA-256 {digest[:16]}, which are not here any more; name their folder "
        f"instead, or bring it back under {home() / 'weights'}"
    )


def every_folder() -> Iterator[Path]:
    """Every folder of weights on this machine: trained here, shipped, pulled."""
    from mrsr_bench.zoo.pins import shipped_folders

    yield from sorted(file.parent for file in (home() / "weights").glob(f"[!.]*--*/{MODEL}"))
    yield from shipped_folders().values()
    yield from pulled()


def lineage(config: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], str | None]:
    """The configuration of some weights and of those they began from; the SHA-256 of the first that is unknown.

    Weights that are not on this machine any more are known from what those that began from them tell (`ancestors_of`).
    """
    found: list[Mapping[str, Any]] = [config]
    told: dict[str, Mapping[str, Any]] = {}
    seen: set[str] = set()
    while (parent := (found[-1].get("trained") or {}).get("parent_sha256")) is not None and parent not in seen:
        seen.add(parent)
        told |= {one["sha256"]: one for one in _told(found[-1])}
        folder = next((f for f in every_folder() if sha256_of_file(f / MODEL) == parent), None)
        if folder is not None:
            found.append(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        elif parent in told:
            found.append(told[parent])
        else:
            return found, str(parent)
    return found, None


def _told(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of ``ancestors`` that can be what they should be; a configuration may come from anywhere."""
    entries = config.get("ancestors")
    return [
        one
        for one in (entries if isinstance(entries, list) else ())
        if isinstance(one, Mapping) and isinstance(one.get("sha256"), str) and isinstance(one.get("trained"), Mapping)
    ]


def parents_of(config: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The SHA-256 of the weights that weights began from, and of those before, and what is known of their training."""
    configs, _ = lineage(config)
    for one, before in zip(configs, [*configs[1:], {}], strict=True):
        if parent := (one.get("trained") or {}).get("parent_sha256"):
            yield str(parent), before


def ancestors_of(parent: Weights) -> list[dict[str, Any]]:
    """What weights that begin from ``parent`` are to tell of it and of those before it, the nearest first.

    They may well outlive those: method, recipe and training of each, with the SHA-256 by which it was known.
    """
    beside = parent.folder / CONFIG
    told = json.loads(beside.read_text(encoding="utf-8")).get("ancestors", []) if beside.is_file() else []
    config = {"ancestors": told, **parent.config}
    return [
        {"sha256": digest, **{key: one[key] for key in ("method", "recipe", "trained") if key in one}}
        for digest, one in ((parent.sha256, config), *parents_of(config))
        if one
    ]


def _refuse_tokens(folder: Path) -> None:
    from huggingface_hub import get_token

    token = (get_token() or "").encode()
    for file in folder.iterdir():
        content = file.read_bytes()
        if _TOKEN.search(content) or (token and token in content):
            raise UserError(f"{file.name}: holds an access token of the Hub; take it out before you publish")


def _send(folder: Path, address: Address, *, private: bool, config: Mapping[str, Any]) -> str:
    """Create the repository and commit the folder; returns the commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    from mrsr_bench.benchmarks.metrics.no_reference import offline_by

    offline = offline_by()
    if offline:
        raise UserError(f"{offline} forbids to publish; unset it, or look at the folder of a --dry-run")
    api = HfApi()
    with hub_errors(address):
        api.create_repo(address.repo, private=private, exist_ok=True)
        info = api.model_info(address.repo)
    if private and not info.private:
        raise UserError(f"{address.repo} exists and is public, and --private was asked for; make it private on the Hub")
    there = {sibling.rfilename for sibling in info.siblings or ()} - set(NOT_OURS)
    foreign = sorted(name for name in there if largest(name) is None)
    if foreign:
        raise UserError(
            f"{address.repo} holds {foreign[0]}, which mrsr-bench did not publish; "
            "weights need a repository of their own"
        )
    _refuse_another_task(api, address, there, config)
    files = sorted(folder.iterdir())
    operations: list[Any] = [CommitOperationAdd(path.name, path) for path in files]
    operations += [CommitOperationDelete(name) for name in sorted(there - {path.name for path in files})]
    message = f"{config['method']} for {config['protocol']}"
    with hub_errors(address):
        commit = str(api.create_commit(address.repo, operations, commit_message=message).oid)
        sent = api.model_info(address.repo, revision=commit, files_metadata=True)
    arrived = {sibling.rfilename: sibling for sibling in sent.siblings or ()}
    model = arrived.get(MODEL)
    digest = model.lfs.sha256 if model is not None and model.lfs is not None else None
    if any(path.name not in arrived for path in files) or digest not in (None, sha256_of_file(folder / MODEL)):
        raise UserError(f"{address.repo}: what the Hub holds at {commit} is not what was sent; publish again")
    return commit


def _refuse_another_task(api: HfApi, address: Address, there: set[str], config: Mapping[str, Any]) -> None:
    """One repository per method and task: what holds another's weights is left alone."""
    if CONFIG not in there:
        return
    with hub_errors(address):
        path = Path(api.hf_hub_download(address.repo, CONFIG))
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        before = (held["method"], held["protocol"])
    except (ValueError, KeyError, TypeError):
        before = ("something else", "")
    if before != (config["method"], config["protocol"]):
        raise UserError(
            f"{address.repo} holds {' for '.join(filter(None, before))}; weights of {config['method']} for "
            f"{config['protocol']} need a repository of their own"
        )
