"""Anyone's own images: a file, a folder (NIfTI or DICOM) or a BIDS tree.

Splits are declared by ``train/``, ``val/`` and ``test/`` subfolders, else by a column ``split`` in
``participants.tsv``; ``all`` is everything and the default for a comparison. Where none is declared, asking for one
draws it: seeded, by subject, from three subjects on; that is meant for training.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import SPLITS, Case, Dataset, Fault
from mrsr_bench.benchmarks.datasets.dicom import DicomCase, find_series, is_dicom

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.datasets.dicom import Series
    from mrsr_bench.volume import Volume

DECLARED_SPLITS = ("train", "val", "test")
MIN_SUBJECTS_TO_SPLIT = 3
HELD_OUT_SHARE = 0.15
"""Of the subjects, for ``val`` and again for ``test`` where the split is drawn; one subject at least."""

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mgz", ".mgh", ".img")
DERIVED_FOLDERS = ("derivatives", "sourcedata", "code", "stimuli")
LABEL_SUFFIXES = ("mask", "dseg", "probseg")
"""BIDS suffixes of images that hold labels, not intensities: read only when ``--suffix`` names them."""

NOBODY = ("", "anonymous", "anon", "anonymized", "unknown", "none", "0")
"""What stands for a PatientID where it was taken out: tells nothing about who is who."""

_SUBJECT = re.compile(r"sub-[0-9A-Za-z]+")
_MANY = 8
"""Names that an error lists before it counts the rest."""


@dataclass(frozen=True)
class _Image:
    """An image that was found: ``split`` is the subfolder it was declared in, or None; ``files`` of a DICOM series."""

    path: Path
    subject: str
    stem: str
    split: str | None
    files: tuple[Path, ...] = ()


class FolderCase(Case):
    """One 3D image, or volume ``index`` (from 0) of a 4D series."""

    def __init__(self, path: Path, subject: str, image: str, index: int | None = None) -> None:
        self.path = path
        self.subject = subject
        self.image = image
        self.index = index

    @property
    def fingerprint(self) -> str:
        content = file_fingerprint(self.path)
        return content if self.index is None else f"{content}:{self.index}"

    def hr(self) -> Volume:
        from mrsr_bench.volume import load

        return load(self.path, self.index)


class FolderDataset(Dataset):
    """The images under ``path``: an image file, a folder of them at any depth, a BIDS tree, or DICOM series.

    A subject is the BIDS entity ``sub-XXX`` of the file or of a folder it lies in, else the file's stem, or, where
    folders hold files of the same names, the folder. The volumes of a 4D series are several cases of one subject.
    Hidden files, files of other kinds, label maps and ``derivatives`` are passed over. DICOM files are read where there
    is no NIfTI: a series is an image named by its description; series with one PatientID are one subject, named by
    their folder, since a PatientID may be a person's name.

    ``suffix`` (``T1w``; ``acq-thick_T2w`` is more exact) picks among several images of a subject; what still matches
    more than once, sessions or runs, is several cases of that subject.
    """

    summary = "a file, a folder or a BIDS tree of your own"
    terms = "your own data; nothing of it leaves this machine"

    def __init__(self, path: str | Path, suffix: str | None = None) -> None:
        self.path = Path(path)
        self.suffix = suffix
        self._beside: int | None = None
        self.name = self.path.resolve().name or str(self.path)
        if not self.path.exists():
            raise UserError(f"{self.path}: no such file or folder")

    def cases(self, split: str = "all", *, seed: int = 0) -> Sequence[Case]:
        """The cases of a split, subjects in sorted order.

        Raises:
            UserError: there are no images, a subject has several and no suffix was given, a subject is in two splits,
                or the split is neither declared nor can be drawn.
        """
        if split not in SPLITS:
            raise UserError(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}")
        images = self._images()
        if split != "all":
            chosen = self._subjects_of(split, images, seed)
            images = [image for image in images if image.subject in chosen]
        return [case for image in images for case in _cases_of(image)]

    def faults(self) -> Sequence[Fault]:
        """The DICOM files that lie beside NIfTI files."""
        if self._beside is None:
            self._found()
        if not self._beside:
            return []
        sentence = f"{self._beside} DICOM files beside NIfTI files are passed over; move them to a folder of their own"
        return [Fault("passed over", sentence)]

    def _images(self) -> list[_Image]:
        found = self._found()
        _refuse_two_splits(found, self.path)
        if self.suffix is not None:
            found = _with_suffix(found, self.suffix, self.path)
        else:
            found = [i for i in found if _bids_suffix(i.stem) not in LABEL_SUFFIXES] or found
            _refuse_several(found, self.path)
        return sorted(found, key=lambda image: (image.subject, str(image.path)))

    def _found(self) -> list[_Image]:
        self._beside = 0
        if self.path.is_file():
            name = self.path.name
            stem = name[:-4] if name.lower().endswith(".hdr") else _stem(name)
            if stem is None:
                raise UserError(f"{name}: cannot read this format; convert it to NIfTI (.nii or .nii.gz) first")
            return [_Image(self.path, _bids_subject(name) or stem, stem, None)]
        found: list[_Image] = []
        declared = [name for name in DECLARED_SPLITS if (self.path / name).is_dir()]
        other_files: Counter[str] = Counter()
        passed_over = [self.path / name for name in declared]
        found += _read_tree(self.path, None, passed_over, other_files)
        for name in declared:
            found += _read_tree(self.path / name, name, [], other_files)
        if not found:
            raise UserError(_nothing_there(self.path, other_files))
        self._beside = other_files["DICOM beside NIfTI"]
        return found

    def _subjects_of(self, split: str, images: list[_Image], seed: int) -> set[str]:
        subjects = {image.subject for image in images}
        declared = {image.subject: image.split for image in images if image.split is not None}
        where = "its subfolders"
        if not declared and self.path.is_dir():
            declared = {s: name for s, name in _participants(self.path / "participants.tsv").items() if s in subjects}
            where = "participants.tsv"
        if declared:
            chosen = {subject for subject, name in declared.items() if name == split}
            if not chosen:
                there = ", ".join(name for name in DECLARED_SPLITS if name in declared.values())
                raise UserError(
                    f"{self.path}: {where} declare no {split} split, only {there}; choose one of these or all"
                )
            return chosen
        return _drawn_split(subjects, seed, self.path)[split]


def _drawn_split(subjects: set[str], seed: int, path: Path) -> dict[str, set[str]]:
    """Subjects in an order drawn from ``seed`` alone, so that one more subject moves no other across much."""
    from mrsr_bench.benchmarks.protocol import subject_seed

    if len(subjects) < MIN_SUBJECTS_TO_SPLIT:
        raise UserError(
            f"{path}: declares no splits, and drawing them takes {MIN_SUBJECTS_TO_SPLIT} subjects where there are "
            f"{len(subjects)}; use the split all, or make train/, val/ and test/ folders"
        )
    order = sorted(subjects, key=lambda subject: (subject_seed(seed, subject), subject))
    held_out = max(1, round(HELD_OUT_SHARE * len(order)))
    return {
        "test": set(order[:held_out]),
        "val": set(order[held_out : 2 * held_out]),
        "train": set(order[2 * held_out :]),
    }


def _read_tree(root: Path, split: str | None, passed_over: list[Path], other_files: Counter[str]) -> list[_Image]:
    """Image files under ``root``; counts in ``other_files`` why others are not among them."""
    paths, slices = [], []
    for path in _walk(root, passed_over, other_files):
        stem = _stem(path.name)
        if stem is not None:
            paths.append((path, stem))
        elif is_dicom(path):
            other_files["DICOM"] += 1
            slices.append(path)
    if slices and not paths:
        return _read_dicom(root, split, slices)
    other_files["DICOM beside NIfTI"] += len(slices)
    plain = [(path, stem) for path, stem in paths if _bids_subject(str(path.relative_to(root))) is None]
    folders_of: defaultdict[str, set[Path]] = defaultdict(set)
    for path, stem in plain:
        folders_of[stem].add(path.parent)
    by_folder = any(len(folders) > 1 for folders in folders_of.values())
    images = []
    for path, stem in paths:
        inside = path.relative_to(root)
        folder = "-".join(inside.parent.parts)
        subject = _bids_subject(str(inside)) or (by_folder and folder) or stem
        images.append(_Image(path, subject, stem, split))
    return images


def _read_dicom(root: Path, split: str | None, slices: list[Path]) -> list[_Image]:
    """One image per series; a subject is the BIDS entity, else the folder that holds all series of one PatientID."""
    patients: defaultdict[str, list[Series]] = defaultdict(list)
    for series in find_series(slices):
        inside = series.folder.relative_to(root)
        nobody = series.patient.lower() in NOBODY
        patients[_bids_subject(str(inside)) or (str(inside) if nobody else f"id:{series.patient}")].append(series)
    shared = {}
    for key, of_patient in patients.items():
        folder = Path(os.path.commonpath([series.folder for series in of_patient])).relative_to(root)
        shared[key] = "-".join(folder.parts) or root.resolve().name
    names = Counter(shared.values())
    images = []
    for key, of_patient in patients.items():
        subject = _bids_subject(key) or shared[key]
        if names[subject] > 1:
            subject = f"{subject}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        images += [_Image(series.folder, subject, series.stem, split, series.files) for series in of_patient]
    return images


def _walk(root: Path, passed_over: list[Path], other_files: Counter[str]) -> Iterator[Path]:
    """Files under ``root`` in sorted order, links followed, every folder entered once."""
    entered = {path.stat()[1:3] for path in (root, *passed_over)}
    for folder, folders, files in os.walk(root, followlinks=True):
        wanted = []
        for name in sorted(folders):
            if name.startswith("."):
                continue
            if name in DERIVED_FOLDERS:
                other_files[name] += 1
                continue
            try:
                identity = (Path(folder) / name).stat()[1:3]
            except OSError:
                continue
            if identity not in entered:
                entered.add(identity)
                wanted.append(name)
        folders[:] = wanted
        yield from (Path(folder) / name for name in sorted(files) if not name.startswith("."))


def _nothing_there(path: Path, other_files: Counter[str]) -> str:
    if other_files["DICOM"]:
        return f"{path}: holds DICOM files and no NIfTI, and none of them is an image; export the series again"
    derived = [name for name in DERIVED_FOLDERS if other_files[name]]
    if derived:
        return f"{path}: holds no images outside {', '.join(derived)}; name the folder inside that you mean"
    return f"{path}: holds no images; expected files that end in {', '.join(IMAGE_SUFFIXES)}"


def _stem(name: str) -> str | None:
    """The file's name without the ending of an image format; None if it has none."""
    lower = name.lower()
    for suffix in IMAGE_SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def _bids_suffix(stem: str) -> str:
    return stem.rsplit("_", 1)[-1]


def _bids_subject(inside: str) -> str | None:
    """The entity ``sub-XXX`` of the file's name, else of the nearest folder that begins with one."""
    for part in reversed(Path(inside).parts):
        match = _SUBJECT.match(part)
        if match:
            return match.group()
    return None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MANY])
    return shown if len(names) <= _MANY else f"{shown} and {len(names) - _MANY} more"


def _with_suffix(images: list[_Image], suffix: str, path: Path) -> list[_Image]:
    for fold in (str, str.lower):
        wanted = fold(suffix)
        matching = [i for i in images if fold(i.stem) == wanted or fold(i.stem).endswith(f"_{wanted}")]
        if matching:
            return matching
    there = sorted({_bids_suffix(image.stem) for image in images})
    raise UserError(f"{path}: no image has the suffix {suffix!r}; there are: {_listed(there)}")


def _refuse_several(images: list[_Image], path: Path) -> None:
    by_subject: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        by_subject[image.subject].append(image.path.name)
    several = sorted(subject for subject, names in by_subject.items() if len(names) > 1)
    if not several:
        return
    names = sorted(by_subject[several[0]])
    suffixes = sorted({_bids_suffix(image.stem) for image in images if image.subject in several})
    others = f", as have {len(several) - 1} other subjects" if len(several) > 1 else ""
    raise UserError(
        f"{path}: {several[0]} has {len(names)} images ({_listed(names)}){others}; choose with --suffix, one of: "
        f"{_listed(suffixes)}"
    )


def _refuse_two_splits(images: list[_Image], path: Path) -> None:
    split_of: dict[str, str | None] = {}
    for image in images:
        if split_of.setdefault(image.subject, image.split) != image.split:
            places = " and in ".join(name or "no split" for name in (split_of[image.subject], image.split))
            raise UserError(
                f"{path}: {image.subject} is in {places}; a subject belongs to one side, so move or rename its files"
            )


def _participants(path: Path) -> dict[str, str]:
    """Subject to split, from the column ``split`` of a BIDS participants file; empty without file or column."""
    if not path.is_file():
        return {}
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path}: not a readable table ({type(error).__name__}); save it as tab-separated UTF-8"
        ) from error
    found = {}
    for row in rows:
        subject, split = (row.get("participant_id") or "").strip(), (row.get("split") or "").strip().lower()
        if not subject or split in ("", "n/a"):
            continue
        if split not in DECLARED_SPLITS:
            raise UserError(f"{path}: {subject} has the split {split!r}; expected {', '.join(DECLARED_SPLITS)} or n/a")
        found[subject if subject.startswith("sub-") else f"sub-{subject}"] = split
    return found


def _cases_of(image: _Image) -> Sequence[Case]:
    from mrsr_bench.volume import count_volumes

    if image.files:
        return [DicomCase(image.files, image.subject, image.stem)]

    try:
        count = count_volumes(image.path)
    except UserError:
        count = 1  # the case says so itself when it is read, so that one bad file does not hide the others
    if count == 1:
        return [FolderCase(image.path, image.subject, image.stem)]
    return [FolderCase(image.path, image.subject, f"{image.stem}_vol-{n:03d}", n) for n in range(count)]


def file_fingerprint(path: Path) -> str:
    """SHA-256 of an image's bytes (of both files of an ``.hdr``/``.img`` pair); read once per size and time of change.

    Raises:
        UserError: the file is not there or cannot be read.
    """
    parts = [path]
    if path.suffix.lower() == ".img":
        parts += [header for header in (path.with_suffix(".hdr"), path.with_suffix(".HDR")) if header.exists()][:1]
    try:
        digests = [_digest(str(part.resolve()), part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or type(error).__name__})") from error
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


@lru_cache(maxsize=4096)
def _digest(path: str, size: int, changed_ns: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
