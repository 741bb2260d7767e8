"""Weights from the Hugging Face Hub: fetched once, checked, kept, and then used without a network.

An address is ``hf:user/name`` or ``hf:user/name@revision``. What was pulled lies in the local store under
``hub/{user}--{name}/{commit}``, whole or not at all, with ``source.json`` (repository, commit, SHA-256 of every file);
``revisions.json`` beside it remembers which commit a branch or tag was, for when there is no network. Only the files of
a folder of weights are ever fetched. The access token is huggingface_hub's business: it is not read or kept here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mrsr_bench import UserError
from mrsr_bench.zoo.inspection import LARGEST, check_names, check_size, inspect, largest, read_config
from mrsr_bench.zoo.weights import CONFIG, MODEL, Weights, home, sha256_of_file

if TYPE_CHECKING:
    from mrsr_bench.zoo.inference import LoadedMethod
    from mrsr_bench.zoo.method import MethodSpec

SCHEME = "hf:"
SOURCE, REVISIONS = "source.json", "revisions.json"
DEFAULT_REVISION = "main"
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPO = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9][\w./+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Address:
    """A repository on the Hub, and a branch, tag or commit of it."""

    repo: str
    revision: str = DEFAULT_REVISION

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}" + ("" if self.revision == DEFAULT_REVISION else f"@{self.revision}")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, so that what it names can never change."""
        return _COMMIT.fullmatch(self.revision) is not None


def parse_address(text: str, revision: str | None = None) -> Address:
    """``[hf:]user/name[@revision]`` as an `Address`; ``revision`` may be given apart instead.

    Raises:
        UserError: it is none.
    """
    repo, _, named = text.removeprefix(SCHEME).partition("@")
    if _REPO.fullmatch(repo) is None or ".." in repo or "--" in repo:
        raise UserError(f"{text!r} is no address on the Hub; expected hf:user/name or hf:user/name@revision")
    if named and revision and named != revision:
        raise UserError(f"{text!r} names one revision and {revision!r} is another; name one")
    chosen = named or revision or DEFAULT_REVISION
    if _REVISION.fullmatch(chosen) is None or ".." in chosen:
        raise UserError(f"{chosen!r} is no revision; expected a branch, a tag or a commit of {repo}")
    return Address(repo, chosen)


def store_of(repo: str) -> Path:
    """Where everything that was pulled from a repository lies."""
    return home() / "weights" / "hub" / repo.replace("/", "--")


def pulled() -> list[Path]:
    """Every folder of weights that was pulled from the Hub."""
    return sorted(file.parent for file in (home() / "weights" / "hub").glob(f"*/*/{SOURCE}"))


def read_source(folder: Path) -> dict[str, Any]:
    """Where a pulled folder came from: ``repo``, ``revision`` (the commit) and ``sha256`` by file.

    Raises:
        UserError: the note is unreadable.
    """
    try:
        content = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
        return {"repo": str(content["repo"]), "revision": str(content["revision"]), "sha256": dict(content["sha256"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: its {SOURCE} is unreadable; remove it and pull the weights again") from error


def check_unchanged(folder: Path, names: tuple[str, ...] | None = None) -> None:
    """Compare pulled files (``names``, default all) with what was fetched.

    Raises:
        UserError: one was changed or is gone.
    """
    for name, digest in read_source(folder)["sha256"].items():
        if names is not None and name not in names:
            continue
        file = folder / name
        if not file.is_file() or sha256_of_file(file) != digest:
            raise UserError(f"{file}: is not what was pulled; remove {folder} and pull the weights again")


def pull(address: Address, *, sha256: str | None = None) -> Path:
    """The folder of the weights at ``address``: fetched and checked, or the one that was pulled before.

    A commit that is in the store costs no network. Without network (``HF_HUB_OFFLINE`` or ``MRSR_BENCH_OFFLINE``) a
    branch is the commit that it was when it was last pulled. ``sha256`` is what `model.safetensors` must have.

    Raises:
        UserError: there is no such repository or revision, it may not be read, there is no network, the transfer broke
            off, or what came is not what it should be. Nothing is left behind then.
    """
    from mrsr_bench.benchmarks.metrics.no_reference import offline_by

    offline = offline_by()
    listing: dict[str, _Remote] = {}
    if address.is_pinned and (store_of(address.repo) / address.revision / SOURCE).is_file():
        commit = address.revision
    elif offline:
        commit = _known_commit(address, offline)
    else:
        commit, listing = _listing(address)
    folder = store_of(address.repo) / commit
    if not (folder / SOURCE).is_file():
        _fetch(Address(address.repo, commit), listing, folder, sha256)
    check_unchanged(folder, (MODEL, CONFIG))
    if sha256 is not None and sha256_of_file(folder / MODEL) != sha256:
        raise UserError(_another_sha(address, sha256_of_file(folder / MODEL), sha256))
    if listing and not address.is_pinned:
        _remember(address, commit)
    return folder


def _another_sha(address: Address, got: str, wanted: str) -> str:
    return (
        f"{address}: {MODEL} has the SHA-256 {got[:16]}..., and {wanted[:16]}... was promised; it is not used; "
        "tell whoever publishes or pins these weights"
    )


@dataclass(frozen=True)
class _Remote:
    """What the Hub says of a file: its size, and its SHA-256 (large files) or its git blob id (small ones)."""

    size: int
    sha256: str | None
    blob_id: str | None

    def agrees(self, file: Path) -> bool:
        """Whether a file that was fetched is that file."""
        if file.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return sha256_of_file(file) == self.sha256
        content = file.read_bytes()
        # What git names a blob by: no protection against an attacker, who would have to own the Hub.
        digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        return digest == self.blob_id


def _listing(address: Address) -> tuple[str, dict[str, _Remote]]:
    """The commit that ``address`` is now, and those of its files that belong to a folder of weights."""
    from huggingface_hub import HfApi

    with hub_errors(address):
        info = HfApi().model_info(address.repo, revision=address.revision, files_metadata=True)
    siblings = info.siblings or []
    check_names([sibling.rfilename for sibling in siblings], str(address))
    if info.sha is None or _COMMIT.fullmatch(info.sha) is None:
        raise UserError(f"{address}: the Hub does not say which commit this is; nothing was fetched")
    found = {}
    for sibling in siblings:
        if largest(sibling.rfilename) is None:
            continue
        size = check_size(sibling.rfilename, sibling.size, str(address))
        digest = sibling.lfs.sha256 if sibling.lfs is not None else None
        if digest is None and sibling.blob_id is None:
            raise UserError(f"{address}: the Hub states no hash of {sibling.rfilename}; nothing was fetched")
        found[sibling.rfilename] = _Remote(size, digest, sibling.blob_id)
    return info.sha, found


def _fetch(address: Address, listing: Mapping[str, _Remote], folder: Path, sha256: str | None) -> None:
    """Fetch into a folder beside the place, check everything, then rename it there."""
    scratch = home() / "weights" / "hub" / f".{os.getpid()}.partial"
    partial = scratch / folder.parent.name
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        partial.mkdir(parents=True)
        # The configuration first: most of what is wrong shows there, before anything large is fetched.
        for name in sorted(listing or _cached(address), key=lambda name: (name != CONFIG, name)):
            _fetch_file(address, name, listing.get(name), partial)
            if name == CONFIG:
                read_config(partial / CONFIG, str(address))
        digests = {file.name: sha256_of_file(file) for file in sorted(partial.iterdir()) if file.is_file()}
        if sha256 is not None and digests[MODEL] != sha256:
            raise UserError(_another_sha(address, digests[MODEL], sha256))
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        inspect(partial, str(address))
        source = {"repo": address.repo, "revision": address.revision, "sha256": digests}
        (partial / SOURCE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.rename(folder)
        except OSError:
            if not (folder / SOURCE).is_file():  # another process may have been faster
                raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); set MRSR_BENCH_HOME elsewhere") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch_file(address: Address, name: str, remote: _Remote | None, partial: Path) -> None:
    """One file: from the Hub or, without a listing, from huggingface_hub's own cache."""
    from huggingface_hub import hf_hub_download

    if remote is None:
        shutil.copyfile(_cached(address)[name], partial / name)
        check_size(name, (partial / name).stat().st_size, str(address))
        return
    with hub_errors(address):
        hf_hub_download(address.repo, name, revision=address.revision, local_dir=partial)
    if not remote.agrees(partial / name):
        raise UserError(
            f"{address}: {name} arrived with another hash or size than the Hub states, so it was damaged or "
            "exchanged on the way; nothing was kept; pull again"
        )


def _cached(address: Address) -> dict[str, Path]:
    """Files of that commit in huggingface_hub's cache, by name."""
    from huggingface_hub import try_to_load_from_cache

    found = {name: try_to_load_from_cache(address.repo, name, revision=address.revision) for name in LARGEST}
    return {name: Path(path) for name, path in found.items() if isinstance(path, str)}


def _known_commit(address: Address, offline: str) -> str:
    """Which commit ``address`` was when it was last pulled, by us or by another user of huggingface_hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    commit = address.revision if address.is_pinned else _revisions(address.repo).get(address.revision)
    if commit is not None and (store_of(address.repo) / commit / SOURCE).is_file():
        return commit
    cached = try_to_load_from_cache(address.repo, CONFIG, revision=address.revision)
    if isinstance(cached, str) and _COMMIT.fullmatch(Path(cached).parent.name):
        commit = Path(cached).parent.name
        names = list(_cached(Address(address.repo, commit)))
        check_names(names, f"{address} in the cache of huggingface_hub")
        return commit
    raise UserError(
        f"{address} is not here and {offline} forbids downloads; run `mrsr-bench weights pull {address}` where there "
        "is a network, and bring MRSR_BENCH_HOME along"
    )


def _revisions(repo: str) -> dict[str, str]:
    try:
        content = json.loads((store_of(repo) / REVISIONS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = content.items() if isinstance(content, dict) else ()
    return {name: commit for name, commit in known if isinstance(commit, str) and _COMMIT.fullmatch(commit)}


def _remember(address: Address, commit: str) -> None:
    from mrsr_bench.benchmarks.results import write_text

    known = _revisions(address.repo)
    if known.get(address.revision) != commit:
        text = json.dumps({**known, address.revision: commit}, indent=2, sort_keys=True)
        write_text(store_of(address.repo) / REVISIONS, text + "\n")


@contextmanager
def hub_errors(address: Address) -> Iterator[None]:
    """Say in one sentence what huggingface_hub raises; its own texts, which may quote requests, are not repeated."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The bases of HfHubHTTPError are those of whichever HTTP client this version of huggingface_hub uses.
    kinds = (*HfHubHTTPError.__bases__, OSError, ValueError, KeyError, RuntimeError)
    try:
        yield
    except cast("tuple[type[Exception], ...]", kinds) as raised:
        error: BaseException = raised
        if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError):
            error = error.__cause__
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, LocalTokenNotFoundError):
            text = "needs an access token; set HF_TOKEN or run `hf auth login`"
        elif isinstance(error, GatedRepoError):
            text = "is gated; ask for access on its page, then set HF_TOKEN or run `hf auth login`"
        elif isinstance(error, RevisionNotFoundError):
            text = f"there is no revision {address.revision!r} of that repository; name a branch, a tag or a commit"
        elif isinstance(error, RepositoryNotFoundError):
            text = (
                "there is no such model repository, or it is private and the access token in use may not read it; "
                "check the name, and set HF_TOKEN or run `hf auth login`"
            )
        elif status in (401, 403):
            text = f"the Hub refused (HTTP {status}); the access token in use has no right to this; check HF_TOKEN"
        elif isinstance(error, HfHubHTTPError) and not isinstance(error, EntryNotFoundError):
            text = f"the Hub answered with an error (HTTP {status}); try again later"
        elif isinstance(error, OfflineModeIsEnabled):
            text = "HF_HUB_OFFLINE was set when huggingface_hub was loaded; unset it and start again"
        elif isinstance(error, LocalEntryNotFoundError):
            text = "the Hub cannot be reached; check the network, or set HF_HUB_OFFLINE=1 to use what was pulled"
        elif isinstance(error, EntryNotFoundError):
            text = "a file that it lists is not there; pull again"
        elif isinstance(error, HFValidationError):
            text = "is no valid name of a repository; expected user/name"
        elif isinstance(error, (ValueError, KeyError)):
            text = "the Hub gave an answer that huggingface_hub refuses; check HF_ENDPOINT, and the card's metadata"
        else:
            text = f"the transfer broke off ({type(error).__name__}); check the network and try again; nothing was kept"
        raise UserError(f"{address}: {text}") from raised


def weights_path(path: Path) -> Path:
    """A path that ``--weights`` names: itself, or the folder of a Hub address (``hf:user/name@revision``), pulled.

    Raises:
        UserError: as `pull`.
    """
    text = path.as_posix()
    return _pulled_once(text, home()) if text.startswith(SCHEME) else path


@lru_cache(maxsize=16)
def _pulled_once(address: str, _home: Path) -> Path:
    """A branch is asked for once in a process, so that all of a run has the same weights."""
    return pull(parse_address(address))


def pinned_weights(spec: MethodSpec, task: Mapping[str, Any] | None) -> Weights | None:
    """The weights of a method for a task from the Hub, at the revision that the zoo pins; None where it pins none.

    Without network, what was not pulled before counts as not there.

    Raises:
        UserError: they cannot be fetched, or are not what was pinned.
    """
    from mrsr_bench.benchmarks.metrics.no_reference import offline_by
    from mrsr_bench.zoo.pins import hub_pins
    from mrsr_bench.zoo.weights import find_weights

    for pin in hub_pins():
        address = Address(pin.repo, pin.revision)
        if pin.method != spec.name or not pin.serves(task):
            continue
        if offline_by() and not (store_of(pin.repo) / pin.revision / SOURCE).is_file():
            continue
        return find_weights(spec, task, pull(address, sha256=pin.sha256))
    return None


def load(name: str, *, revision: str | None = None, device: str = "auto", **settings: Any) -> LoadedMethod:
    """A method ready to work, from the Hub (``user/name``) or by its name in the zoo.

    Args:
        name: ``user/name`` or ``hf:user/name``, optionally with ``@revision``; or a method's name, as ``mdcsrn``.
        revision: a branch, tag or commit of the repository; default its main branch.
        device: ``auto``, ``cpu`` or ``cuda``.
        settings: of the network, where it has any (`MethodSpec.adjustable`).

    Raises:
        UserError: there is no such thing, or it is not fit to be used.
    """
    from mrsr_bench.zoo.inference import load_method

    if "/" not in name and not name.startswith(SCHEME):
        if revision is not None:
            raise UserError(f"{name} is a method of the zoo and has no revision; leave it out, or name user/name")
        return load_method(name, task=None, device=device, settings=settings)
    address = parse_address(name, revision)
    folder = pull(address)
    method = read_config(folder / CONFIG, str(address))["method"]
    return load_method(method, task=None, weights=folder, device=device, settings=settings)
