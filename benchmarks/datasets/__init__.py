"""One file per dataset: where it comes from, its terms, its subjects and splits; each declares ``DATASETS``."""

from __future__ import annotations

import os
from pathlib import Path

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import Dataset
from mrsr_bench.registry import Registry

datasets: Registry[Dataset] = Registry(
    "dataset", "mrsr_bench.benchmarks.datasets", "DATASETS", entry_points="mrsr_bench.datasets"
)


def open_dataset(name_or_path: str | Path, *, suffix: str | None = None) -> Dataset:
    """The dataset of a registered name, else the images at a path; ``suffix`` picks one image per subject of a path.

    Raises:
        UserError: it is neither, or a suffix was given for a registered dataset.
    """
    from mrsr_bench.benchmarks.datasets.folder import IMAGE_SUFFIXES, FolderDataset

    name = str(name_or_path)
    if name.startswith(("paired:", "orthogonal:")):
        return datasets.get(name)
    if name in datasets.names():
        if suffix is not None:
            raise UserError(
                f"--suffix picks among the files of a folder; {name} is a dataset by itself, so leave it out"
            )
        return datasets.get(name)
    if os.path.lexists(name):
        return FolderDataset(name, suffix)
    if os.sep in name or name.lower().endswith(IMAGE_SUFFIXES):
        raise UserError(f"{name}: no such file or folder")
    try:
        return datasets.get(name)
    except UserError as error:
        raise UserError(f"{error}, or a path to a file or folder") from error
