"""A published dataset in the layout it is published in, under the data root.

The data root is ``--root``, else ``MRSR_BENCH_DATA``, else ``data`` in the package's home. A dataset is data: where
its files lie (`Layout`), what a complete copy holds (`Expected`), where it comes from (`sources`) and how it is split.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import Case, Dataset
from mrsr_bench.benchmarks.datasets.folder import FolderCase
from mrsr_bench.benchmarks.datasets.split_lists import (
    Splits,
    committed,
    scaled_sizes,
    seeded_split,
    share_split,
    splits_sha256,
)
from mrsr_bench.benchmarks.fetch import Source


@dataclass(frozen=True)
class Layout:
    """Where images lie: a glob inside the dataset's folder, and a pattern of the path with a group ``subject``."""

    glob: str
    pattern: str


@dataclass(frozen=True)
class Expected:
    """A complete copy: subjects, images, and the range of voxel sizes (mm) from the finest to the coarsest axis."""

    subjects: int | None = None
    images: int | None = None
    spacing: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None = None

    def allows(self, spacing: Sequence[float]) -> bool:
        """Whether a voxel size (mm, any order of axes) is one that the dataset has."""
        if self.spacing is None:
            return True
        return all(low <= size <= high for size, (low, high) in zip(sorted(spacing), self.spacing, strict=True))


def near(*sizes: float, tolerance: float = 0.01) -> tuple[tuple[float, float], ...]:
    """Ranges of voxel sizes around ``sizes`` (mm), relative tolerance."""
    return tuple((size * (1 - tolerance), size * (1 + tolerance)) for size in sorted(sizes))


@dataclass(frozen=True)
class Found:
    """An image that is there."""

    path: Path
    subject: str
    image: str


def data_root(root: Path | None = None) -> Path:
    """``root``, else ``MRSR_BENCH_DATA``, else ``data`` in the package's home."""
    if root is not None:
        return Path(root).expanduser()
    chosen = os.environ.get("MRSR_BENCH_DATA")
    if chosen:
        return Path(chosen).expanduser()
    from mrsr_bench.zoo.weights import home

    return home() / "data"


class PublishedDataset(Dataset):
    """Images of a dataset that others publish; nothing is looked up before `cases` is called.

    Args:
        name: of the dataset.
        summary, terms: for people.
        folders: names its folder may have under the data root; the first is where a fetch puts it.
        layouts: where its images lie.
        expected: what a complete copy holds.
        sources: where it comes from.
        split_list: name of the committed split; None: the same as ``name``.
        index: the volume to take of a 4D image.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        terms: str,
        *,
        folders: Sequence[str],
        layouts: Sequence[Layout],
        expected: Expected,
        sources: Sequence[Source],
        split_list: str | None = None,
        index: int | None = None,
    ) -> None:
        self.name, self.summary, self.terms = name, summary, terms
        self.folders, self.layouts, self.expected = tuple(folders), tuple(layouts), expected
        self.sources, self.split_list, self.index = tuple(sources), split_list or name, index
        self.root: Path | None = None

    def at(self, root: Path | None) -> PublishedDataset:
        """The same dataset under another data root."""
        moved = copy.copy(self)
        moved.root = root
        return moved

    def place(self) -> Path:
        """The dataset's folder: the first of its names that is there, else where it would be fetched to."""
        root = data_root(self.root)
        return next((root / name for name in self.folders if (root / name).is_dir()), root / self.folders[0])

    def cases(self, split: str = "all", *, seed: int = 0) -> Sequence[Case]:
        """The cases of a split, subjects in sorted order; which subjects are in it is fixed, whatever ``seed``.

        Raises:
            UserError: there is no such split, or none of the dataset's images is there.
        """
        names = (*self.split_names(), "all")
        if split not in names:
            raise UserError(f"{self.name} has no split {split!r}; it has: {', '.join(names)}")
        images = self.images()
        if not images:
            place = self.place()
            state = "holds none of its images" if place.is_dir() else "is not there"
            raise UserError(f"{self.name}: {place} {state}; run: mrsr-bench data fetch {self.name}")
        if split != "all":
            chosen = set(self.splits()[split])
            images = [image for image in images if image.subject in chosen]
        return [self.case(image) for image in images]

    def case(self, image: Found) -> Case:
        """What an image is read with."""
        return FolderCase(image.path, image.subject, image.image, self.index)

    def images(self) -> list[Found]:
        """The images that are there, subjects in sorted order."""
        place, found = self.place(), {}
        for layout in self.layouts:
            for path in place.glob(layout.glob):
                match = re.fullmatch(layout.pattern, path.relative_to(place).as_posix())
                if match is not None and not any(part.startswith(".") for part in path.relative_to(place).parts):
                    image = self.image_of(match, path)
                    found[image.path] = image
        return sorted(found.values(), key=lambda image: (image.subject, image.image, str(image.path)))

    def image_of(self, match: re.Match[str], path: Path) -> Found:
        """The image that a path names."""
        stem = re.sub(r"(\.nii(\.gz)?|\.img)$", "", path.name)
        return Found(path, match["subject"], stem)

    def split_names(self) -> tuple[str, ...]:
        """Names of the splits."""
        content = committed(self.split_list)
        return tuple(content.get("splits") or content.get("shares") or content["sizes"])

    def known_subjects(self) -> list[str]:
        """Subjects that should be there, as far as is known without their images: those of the committed list."""
        splits: Mapping[str, Sequence[str]] = committed(self.split_list).get("splits", {})
        return sorted(name for members in splits.values() for name in members)

    def splits(self) -> Splits:
        """Split to subjects: the committed list, else its rule applied to the subjects that are known or there."""
        content = committed(self.split_list)
        if "splits" in content:
            return {name: list(members) for name, members in content["splits"].items()}
        subjects = self.known_subjects() or sorted({image.subject for image in self.images()})
        if "shares" in content:
            return share_split(subjects, content["shares"], content["seed"])
        sizes = content["sizes"]
        if len(subjects) != sum(sizes.values()):
            sizes = scaled_sizes(sizes, len(subjects))
        return seeded_split(subjects, sizes, content["seed"], self.families())

    def families(self) -> dict[str, str] | None:
        """Subject to family where relatives must stay on one side and are known."""
        return None

    def split_facts(self) -> dict[str, Any]:
        """How the split came about, for reports: sizes, hash, and whether it is the one of a complete copy."""
        content = committed(self.split_list)
        splits = self.splits()
        sizes = {name: len(members) for name, members in splits.items()}
        whole = "splits" in content or "shares" in content or sizes == content["sizes"]
        return {
            "rule": content["rule"],
            "sizes": sizes,
            "sha256": splits_sha256(splits),
            "final": whole,
            **({} if whole else {"note": "not all subjects are known here, so another copy may be split otherwise"}),
        }
