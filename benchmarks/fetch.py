"""`mrsr-bench data fetch`: bring a dataset under the data root, or say exactly how a person does.

Downloads resume, are checked against the published checksum and appear whole or not at all. Archives are
unpacked as if they were hostile: plain files and folders only, nothing outside the target, within stated sizes.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.datasets.published import PublishedDataset

Notify = Callable[[str, int, int], None]

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 60.0
ATTEMPTS = 5
"""Without a single new byte; a transfer that advances is resumed as often as it breaks."""
CHUNK = 1 << 16
"""What a broken connection loses at most."""
MAX_MEMBERS = 100_000
MIB = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A tar to download: ``md5`` as published, ``into`` the folder (inside the dataset's) that it is unpacked in.

    ``unpacked`` limits the bytes of all its files together.
    """

    url: str
    md5: str
    into: str
    unpacked: int

    @property
    def name(self) -> str:
        """The file's name."""
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class ByHand:
    """What a person must do: ``where`` to go, what to ``accept``, and what to ``put`` into the dataset's folder."""

    where: str
    accept: str
    put: str

    def sentence(self, name: str, place: Path) -> str:
        """The whole of it, with the command that checks the result."""
        return (
            f"{name} cannot be fetched without you: go to {self.where}, {self.accept}, put {self.put} into {place}, "
            f"then run: {check_command(name, place)}"
        )


@dataclass(frozen=True)
class Bucket:
    """Files of an object store (any fsspec URL) that match one of ``patterns`` under ``url``.

    ``agreement`` says how to get access where the store is not open to all; ``options`` go to the file system.
    """

    url: str
    patterns: tuple[str, ...]
    agreement: ByHand | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class IdcCollection:
    """MR series of one collection of the Imaging Data Commons whose description matches a regular expression."""

    collection: str
    description: str


Source = Archive | Bucket | ByHand | IdcCollection


def check_command(name: str, place: Path) -> str:
    """The command that checks the dataset in ``place``, a folder of the data root."""
    import shlex

    from mrsr_bench.benchmarks.datasets.published import data_root

    root = place.parent
    return f"mrsr-bench data check {name}" + ("" if root == data_root() else f" --root {shlex.quote(str(root))}")


def fetch(name: str, *, root: Path | None = None, notify: Notify | None = None) -> dict[str, Any]:
    """Fetch a registered dataset; what is already there is not fetched again.

    Returns what was done: ``place``, the number of files and bytes that came, and the command that checks it.

    Raises:
        UserError: no such dataset, it needs no fetching, a person must act, offline mode, no room, no permission,
            the server fails or its file is another one.
    """
    from mrsr_bench.benchmarks.datasets import datasets
    from mrsr_bench.benchmarks.datasets.published import PublishedDataset
    from mrsr_bench.benchmarks.metrics.no_reference import offline_by

    dataset = datasets.get(name)
    if dataset.made_of:
        raise UserError(f"{name} is made of {' and '.join(dataset.made_of)}; fetch each of them")
    if not isinstance(dataset, PublishedDataset):
        raise UserError(f"{name} needs no fetching: it is {dataset.summary}")
    dataset = dataset.at(root)
    place = dataset.place()
    by_hand = next((source for source in dataset.sources if isinstance(source, ByHand)), None)
    if by_hand is not None:
        raise UserError(by_hand.sentence(name, place))
    if offline := offline_by():
        raise UserError(f"{name}: {offline} forbids downloads; unset it, or copy the files to {place}")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{place}: cannot be made ({error.strerror}); choose another place with --root") from error
    files, received = 0, 0
    for source in dataset.sources:
        count, size = _fetch_one(source, dataset, place, notify or (lambda text, done, total: None))
        files, received = files + count, received + size
    return {
        "dataset": name,
        "place": str(place),
        "new_files": files,
        "new_bytes": received,
        "terms": dataset.terms,
        "next": check_command(name, place),
    }


def _fetch_one(source: Source, dataset: PublishedDataset, place: Path, notify: Notify) -> tuple[int, int]:
    assert not isinstance(source, ByHand)
    if isinstance(source, Archive):
        return fetch_archive(source, place, notify)
    if isinstance(source, Bucket):
        return fetch_bucket(source, dataset.name, place, notify)
    return fetch_idc(source, dataset.name, place, notify)


class ResumingDownload:
    """A downloader for pooch that goes on where an earlier one stopped (HTTP ranges), however that one ended."""

    def __init__(self, partial: Path, notify: Notify, *, timeout: tuple[float, float], attempts: int) -> None:
        self.partial, self.notify, self.timeout, self.attempts = partial, notify, timeout, attempts

    def __call__(self, url: str, output_file: str, pooch: object = None, check_only: bool = False) -> None:
        """Download ``url``; ``output_file`` appears when every byte is there."""
        import fcntl

        import requests

        broken = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
        failures = 0
        with self.partial.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(f"{self.partial}: another process is downloading this file; wait for it") from error
            while True:
                before = file.tell()
                try:
                    if self._transfer(url, file):
                        break
                    reason = "the server closed the connection"
                except broken as error:
                    reason = type(error).__name__
                failures = 0 if file.tell() > before else failures + 1
                if failures >= self.attempts:
                    raise UserError(
                        f"{url}: the download stopped at {file.tell() // MIB} MiB ({reason}); "
                        "run the same command again and it goes on from there"
                    )
                time.sleep(min(0.1 * 2**failures, 10.0))
        self.partial.replace(output_file)

    def _transfer(self, url: str, file: Any) -> bool:
        """Append what the server sends; True when the file is complete."""
        import requests

        have = file.tell()
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
        with requests.get(url, stream=True, timeout=self.timeout, headers=headers) as answer:
            if answer.status_code == 416:
                if answer.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                    return True
                file.truncate(0)
                file.seek(0)
                return False
            if answer.status_code >= 500 or answer.status_code == 429:
                return False
            if answer.status_code >= 400:
                raise UserError(
                    f"{url}: the server answered {answer.status_code} {answer.reason}; the file may have moved, "
                    "so look at the dataset's page or put the file there by hand"
                )
            if have and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                file.truncate(0)
                file.seek(0)
                have = 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length and length.isdigit() else 0
            _require_room(self.partial.parent, total - have)
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                file.flush()
                self.notify(f"{self.partial.name} (MiB)", file.tell() // MIB, max(1, total // MIB))
        return not total or file.tell() == total


def _require_room(folder: Path, needed: int) -> None:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"{folder}: {needed / 2**30:.1f} GiB are needed and {free / 2**30:.1f} GiB are free; "
            "make room or choose another place with --root"
        )


def download(
    url: str,
    target: Path,
    *,
    md5: str,
    notify: Notify | None = None,
    timeout: tuple[float, float] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
    attempts: int = ATTEMPTS,
) -> Path:
    """Download ``url`` to ``target``, which appears only with the checksum ``md5``.

    Raises:
        UserError: the server fails, the file is not there or has another checksum, or there is no room.
    """
    import logging

    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    partial = target.with_name(f".{target.name}.partial")
    downloader = ResumingDownload(partial, notify or (lambda *_: None), timeout=timeout, attempts=attempts)
    try:
        pooch.retrieve(url, f"md5:{md5}", fname=target.name, path=target.parent, downloader=downloader)
    except ValueError as error:
        raise UserError(
            f"{url}: the file that came has another MD5 than the published {md5} and was deleted; run the command "
            "again, and if that does not help the source has changed its file"
        ) from error
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or type(error).__name__})") from error
    return target


def fetch_archive(source: Archive, place: Path, notify: Notify) -> tuple[int, int]:
    """Download and unpack, unless its folder is there; the archive itself is removed. (files, bytes) that are new."""
    target = place / source.into
    if target.is_dir():
        return 0, 0
    archive = download(source.url, place / source.name, md5=source.md5, notify=notify)
    size = archive.stat().st_size
    files = unpack(archive, target, max_bytes=source.unpacked, notify=notify)
    archive.unlink()
    return files, size


def unpack(
    archive: Path, target: Path, *, max_bytes: int, max_members: int = MAX_MEMBERS, notify: Notify | None = None
) -> int:
    """Unpack a tar into the new folder ``target``, which appears only when all of it is there; the number of files.

    Raises:
        UserError: the archive is damaged, or one of its members would leave the folder, is a link, a device or a pipe,
            comes twice, or is too much.
    """
    import os

    partial = target.with_name(f".{target.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    seen: set[str] = set()
    files = size = 0
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                _refuse_unsafe(member, seen, archive.name)
                size += member.size
                files += member.isreg()
                if size > max_bytes or len(seen) > max_members:
                    raise UserError(
                        f"{archive.name}: holds more than the {max_bytes / 2**30:.3g} GiB or {max_members} members "
                        "that this dataset has; nothing was unpacked"
                    )
                _require_room(partial, member.size)
                tar.extract(member, partial, filter="data")
                if notify is not None:
                    notify(f"unpacking {archive.name}", files, 0)
        partial.replace(target)
    except (tarfile.TarError, EOFError, OSError) as error:
        text = " ".join(str(error).split())[:120]
        raise UserError(f"{archive.name}: cannot be unpacked ({text}); delete it and fetch it again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return files


def _refuse_unsafe(member: tarfile.TarInfo, seen: set[str], archive: str) -> None:
    parts = PurePosixPath(member.name).parts
    normal = "/".join(part for part in parts if part != ".")
    shown = repr(member.name[:80])
    if not (member.isreg() or member.isdir()):
        raise UserError(f"{archive}: {shown} is a link, device or pipe; only files and folders are unpacked")
    if member.name.startswith(("/", "\\")) or ".." in parts or "\\" in member.name or ":" in parts[0:1]:
        raise UserError(f"{archive}: {shown} would be written outside its folder; nothing was unpacked")
    if not member.name.isprintable():
        raise UserError(f"{archive}: {shown} is no name for a file; nothing was unpacked")
    if member.isreg() and normal.lower() in seen:
        raise UserError(f"{archive}: {shown} is in it twice; nothing was unpacked")
    seen.add(normal.lower())


def fetch_bucket(source: Bucket, name: str, place: Path, notify: Notify) -> tuple[int, int]:
    """Copy what matches, file by file; a file that is there with the right size is not copied again."""
    try:
        import fsspec

        system, base = fsspec.core.url_to_fs(source.url, **source.options)
        found: dict[str, Any] = {}
        for pattern in source.patterns:
            found.update(_matching(system, base.rstrip("/"), pattern))
    except ImportError as error:
        raise UserError(f"{name}: needs s3fs; pip install 'mrsr-bench[data]', then run the command again") from error
    except Exception as error:  # every file system has errors of its own
        raise UserError(_refused(source, name, place, error)) from error
    if not found:
        raise UserError(f"{name}: {source.url} shows no file like {', '.join(source.patterns)}; is it readable?")
    wanted = []
    for index, (remote, facts) in enumerate(sorted(found.items())):
        inside = PurePosixPath(remote[len(base.rstrip("/")) + 1 :])
        if inside.is_absolute() or ".." in inside.parts:
            raise UserError(f"{name}: {remote!r} would be written outside {place}; nothing was copied")
        local, size = place / inside, int(facts.get("size") or 0)
        if not (local.is_file() and local.stat().st_size == size):
            wanted.append((index, remote, local, size, facts))
    _require_room(place, sum(size for _, _, _, size, _ in wanted))
    done = received = 0
    for index, remote, local, size, facts in wanted:
        notify(f"{name} (files)", index, len(found))
        local.parent.mkdir(parents=True, exist_ok=True)
        partial = local.with_name(f".{local.name}.partial-{os.getpid()}")
        try:
            system.get_file(remote, str(partial))
            _verify(partial, size, str(facts.get("ETag", "")).strip('"'), remote)
            partial.replace(local)
        except UserError:
            raise
        except Exception as error:
            raise UserError(_refused(source, name, place, error)) from error
        finally:
            partial.unlink(missing_ok=True)
        done, received = done + 1, received + size
    return done, received


def _matching(system: Any, base: str, pattern: str) -> dict[str, Any]:
    """Files under ``base`` that match; only folders in which a wildcard stands are listed.

    The file system's own glob lists every folder down to the depth of the pattern: a hundred for each subject of HCP.
    """

    def listed(folder: str, part: str) -> list[tuple[str, Any]]:
        try:
            entries = system.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        named = [(entry["name"].rstrip("/"), entry) for entry in entries]
        return [(n, e) for n, e in named if n.startswith(f"{folder}/") and fnmatchcase(n[len(folder) + 1 :], part)]

    *folders, last = pattern.split("/")
    places = [base]
    for part in folders:
        if any(mark in part for mark in "*?["):
            places = [n for place in places for n, entry in listed(place, part) if entry["type"] == "directory"]
        else:
            places = [f"{place}/{part}" for place in places]
    return {n: entry for place in places for n, entry in listed(place, last) if entry["type"] != "directory"}


def _refused(source: Bucket, name: str, place: Path, error: Exception) -> str:
    text = " ".join(str(error).split())[:120] or type(error).__name__
    if isinstance(error, OSError) and str(error.filename or "").startswith(f"{place}{os.sep}"):
        return f"{name}: {error.filename} cannot be written ({error.strerror}); choose another place with --root"
    if source.agreement is not None and _is_of_access(error):
        return f"{source.url} did not let us in ({text}); {source.agreement.sentence(name, place)}"
    return f"{name}: {source.url} cannot be read ({text}); check the network and run the command again"


def _is_of_access(error: Exception) -> bool:
    """Whether a store wants other credentials or none would do: by the class, which is its library's, or the code."""
    named = re.search("Credential|Unauthori[sz]ed|Forbidden|AccessDenied|Token", type(error).__name__)
    told = re.search(r"\b40[13]\b|AccessDenied|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch", str(error))
    return isinstance(error, PermissionError) or bool(named or told)


def _verify(path: Path, size: int, etag: str, remote: str) -> None:
    import hashlib

    if path.stat().st_size != size:
        raise UserError(f"{remote}: {path.stat().st_size} of {size} bytes came; run the command again")
    if re.fullmatch(r"[0-9a-f]{32}", etag):  # of an object stored in one part: its MD5
        with path.open("rb") as file:
            if hashlib.file_digest(file, "md5").hexdigest() != etag:
                raise UserError(f"{remote}: came with another MD5 than the store's {etag}; run the command again")


def fetch_idc(source: IdcCollection, name: str, place: Path, notify: Notify) -> tuple[int, int]:
    """Download the series through ``idc-index``, which synchronises, so that a second call goes on."""
    import json

    from mrsr_bench.benchmarks.results import write_text

    try:
        from idc_index import IDCClient
    except ImportError as error:
        raise UserError(f"{name}: needs idc-index; pip install 'mrsr-bench[data]', then run it again") from error
    client = IDCClient.client()
    index = client.index
    wanted = index[(index["collection_id"] == source.collection) & (index["Modality"] == "MR")]
    wanted = wanted[wanted["SeriesDescription"].fillna("").str.contains(source.description, case=False, regex=True)]
    if not len(wanted):
        raise UserError(f"{name}: this version of idc-index knows no such series of {source.collection}; upgrade it")
    size = int(float(wanted["series_size_MB"].sum()) * 10**6)
    _require_room(place, size)
    notify(f"{name}: {len(wanted)} series, {size / 10**9:.1f} GB", 0, len(wanted))
    before = set(place.rglob("*.dcm"))
    try:
        client.download_from_selection(
            downloadDir=str(place),
            seriesInstanceUID=list(wanted["SeriesInstanceUID"]),
            dirTemplate="%PatientID/%StudyInstanceUID/%Modality_%SeriesInstanceUID",
            use_s5cmd_sync=True,
        )
    except Exception as error:
        text = " ".join(str(error).split())[:120]
        raise UserError(f"{name}: idc-index could not fetch it ({text}); run the same command again") from error
    there = set(place.rglob("*.dcm"))
    pairs = zip(wanted["SeriesInstanceUID"], wanted["license_short_name"], strict=True)
    licences = {**_licences(place), **{str(uid): str(text) for uid, text in pairs}}
    write_text(place / "licences.json", json.dumps(licences, indent=1, sort_keys=True))
    # The client logs what its downloader could not get and returns as if all were well.
    come = Counter(path.parent.name for path in there)
    counts = zip(wanted["SeriesInstanceUID"], wanted["instanceCount"], strict=True)
    short = [uid for uid, count in counts if come[f"MR_{uid}"] < int(count)]
    if short:
        raise UserError(
            f"{name}: {len(short)} of {len(wanted)} series did not come whole (first: {short[0]}); check the network "
            "and run the same command again, it goes on from there"
        )
    return len(there - before), sum(path.stat().st_size for path in there - before)


def _licences(place: Path) -> dict[str, str]:
    """Licences of the series that were fetched into this folder before: several datasets share a collection."""
    import json

    try:
        found: dict[str, str] = json.loads((place / "licences.json").read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError):
        return {}
