"""Heads from other sources: kirby21, oasis1 and any dataset of OpenNeuro.

OpenNeuro removes datasets whose faces are not (its FAQ: it "does not accept datasets that have not been defaced",
except with explicit consent), so an open set with the whole, undefaced head cannot be relied upon to stay. The one
registered by name, ``openneuro_ds000011``, has skull, scalp and neck, only the face is gone, and is in the public
domain; ``openneuro_dsNNNNNN`` is any other one, T1w images, split by subject.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import Case
from mrsr_bench.benchmarks.datasets.folder import FolderCase
from mrsr_bench.benchmarks.datasets.published import Expected, Found, Layout, PublishedDataset
from mrsr_bench.benchmarks.datasets.subject_tables import read_rows
from mrsr_bench.benchmarks.fetch import Bucket, ByHand

if TYPE_CHECKING:
    from mrsr_bench.volume import Volume

SESSIONS_TABLE = "subjects.csv"
OASIS_TABLE = "oasis_cross-sectional.csv"


class Kirby21(PublishedDataset):
    """Two visits of each of 21 persons; which sessions are one person's is read from ``subjects.csv``."""

    def images(self) -> list[Found]:
        sessions = super().images()
        if not sessions:
            return []
        persons = self._persons()
        unknown = [image.subject for image in sessions if image.subject not in persons]
        if unknown:
            raise UserError(f"{self.place() / SESSIONS_TABLE}: has no row for {unknown[0]}; whose visit is that?")
        found = [replace(image, subject=persons[image.subject]) for image in sessions]
        return sorted(found, key=lambda image: (image.subject, image.image))

    def known_subjects(self) -> list[str]:
        """The persons of the table; none while it is not there."""
        return sorted(set(self._persons().values())) if (self.place() / SESSIONS_TABLE).is_file() else []

    def _persons(self) -> dict[str, str]:
        advice = (
            "which sessions are one person's must be known, since subjects are the unit; make this table "
            "(columns session,subject; a row for each KKI2009-NN) from the list on the NITRC page"
        )
        rows = read_rows(self.place() / SESSIONS_TABLE, ("session", "subject"), advice)
        if not all(row["session"] and row["subject"] for row in rows):
            raise UserError(f"{SESSIONS_TABLE}: a row lacks its session or its subject; {advice}")
        return {row["session"]: f"kirby-{row['subject']}" for row in rows}


class AnalyzeCase(FolderCase):
    """An Analyze 7.5 image: its header has no affine but the byte ``orient`` of the slices, here sagittal by default.

    The axes' directions are those of the Analyze 7.5 convention (unflipped: transverse L-A-S, coronal L-S-A, sagittal
    A-S-L). Left and right cannot be checked from such a file.
    """

    AXES: ClassVar = {0: ("L", "A", "S"), 1: ("L", "S", "A"), 2: ("A", "S", "L")}
    DIRECTIONS: ClassVar = {"L": (-1, 0, 0), "A": (0, 1, 0), "S": (0, 0, 1)}

    def hr(self) -> Volume:
        import nibabel
        import numpy as np

        volume = super().hr()
        code = bytes(nibabel.load(self.path).header["orient"].tobytes())[:1]
        axes = self.AXES.get(code[0] if code else 2) if code not in (b"", b"\0") else self.AXES[2]
        affine = np.eye(4)
        for axis, letter in enumerate(axes or self.AXES[2]):
            affine[:3, axis] = np.array(self.DIRECTIONS[letter]) * volume.spacing[axis]
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(volume.data.shape) - 1) / 2)
        return replace(volume, affine=affine)


class Oasis1(PublishedDataset):
    """The first raw MPRAGE of every subject's first visit; the dataset's own table says who should be there."""

    def known_subjects(self) -> list[str]:
        """The subjects of ``oasis_cross-sectional.csv`` (column ID), where it lies beside the discs."""
        table = self.place() / OASIS_TABLE
        if not table.is_file():
            return []
        visits = [row["ID"] for row in read_rows(table, ("ID",), "expected the table of OASIS-1, so download it again")]
        return sorted(visit.removesuffix("_MR1") for visit in visits if visit.endswith("_MR1"))

    def case(self, image: Found) -> Case:
        return AnalyzeCase(image.path, image.subject, image.image)


class OpenNeuroDataset(PublishedDataset):
    """The T1w images of one accession."""

    def __init__(self, accession: str, summary: str, terms: str, expected: Expected, split_list: str) -> None:
        subject = r"(?P<subject>sub-[0-9A-Za-z]+)"
        pattern = rf"{subject}/(?:ses-[0-9A-Za-z]+/)?anat/(?P=subject)_[0-9A-Za-z_-]*T1w\.nii(?:\.gz)?"
        globs = ("sub-*/anat/*_T1w.nii.gz", "sub-*/ses-*/anat/*_T1w.nii.gz")
        about = ("dataset_description.json", "participants.tsv", "README", "CHANGES")
        super().__init__(
            f"openneuro_{accession}",
            summary,
            terms,
            folders=(f"openneuro_{accession}", accession),
            layouts=[Layout(glob, pattern) for glob in globs],
            expected=expected,
            sources=[Bucket(f"s3://openneuro.org/{accession}", (*globs, *about), options={"anon": True})],
            split_list=split_list,
        )


def variant(name: str) -> OpenNeuroDataset | None:
    """``openneuro_dsNNNNNN``: any accession of OpenNeuro."""
    match = re.fullmatch(r"openneuro_(ds\d{6})", name)
    if match is None:
        return None
    return OpenNeuroDataset(
        match[1],
        f"OpenNeuro {match[1]}, T1w",
        f"as https://openneuro.org/datasets/{match[1]} says",
        Expected(),
        "by_share",
    )


_KIRBY_SESSION = r"(?P<subject>KKI2009-\d{2})-MPRAGE\.nii(?:\.gz)?"

_OASIS_RAW = r"(?:[^/]+/)*(?P<subject>OAS1_\d{4})_MR1/RAW/(?P=subject)_MR1_mpr-1_anon\.img"

DATASETS: Sequence[PublishedDataset] = (
    Kirby21(
        "kirby21",
        "Kirby21 (KKI2009), T1w MPRAGE, two visits of 21 persons, Philips 3 T, 1.0 x 1.0 x 1.2 mm",
        "as www.nitrc.org/projects/multimodal says; cite Landman et al. 2011, doi 10.1016/j.neuroimage.2010.11.047",
        folders=("kirby21", "KKI2009"),
        layouts=[Layout("**/KKI2009-*-MPRAGE.nii*", rf"(?:[^/]+/)*{_KIRBY_SESSION}")],
        expected=Expected(21, 42, ((0.95, 1.05), (0.95, 1.05), (1.15, 1.25))),
        sources=[
            ByHand(
                where="https://www.nitrc.org/projects/multimodal (Downloads)",
                accept="accept NITRC's terms of use",
                put=f"the unpacked folders KKI2009-01 to KKI2009-42 and a table {SESSIONS_TABLE} (session,subject)",
            )
        ],
        split_list="by_share",
    ),
    Oasis1(
        "oasis1",
        "OASIS-1, T1w MPRAGE as acquired, 416 adults, Siemens 1.5 T, 1.0 x 1.0 x 1.25 mm, sagittal",
        "OASIS data use agreement; cite Marcus et al. 2007, doi 10.1162/jocn.2007.19.9.1498",
        folders=("oasis1", "oasis_cross-sectional"),
        layouts=[Layout("**/RAW/OAS1_*_MR1_mpr-1_anon.img", _OASIS_RAW)],
        expected=Expected(416, 416, ((0.98, 1.02), (0.98, 1.02), (1.23, 1.27))),
        sources=[
            ByHand(
                where="https://sites.wustl.edu/oasisbrains (OASIS-1)",
                accept="sign the OASIS data use agreement",
                put="the folders disc1 to disc12, unpacked from oasis_cross-sectional_disc1.tar.gz to _disc12.tar.gz "
                f"(and the table {OASIS_TABLE}, so that check can name who is absent),",
            )
        ],
        split_list="by_share",
    ),
    OpenNeuroDataset(
        "ds000011",
        "OpenNeuro ds000011, T1w, 14 adults, 3 T, whole heads without faces, 1.0 x 1.33 x 1.33 mm",
        "Public Domain Dedication and License 1.0; cite Foerde, Knowlton and Poldrack 2006",
        Expected(14, 14, ((0.99, 1.01), (1.32, 1.35), (1.32, 1.35))),
        "openneuro_ds000011",
    ),
)
