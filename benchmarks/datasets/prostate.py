"""Prostate T2: prostatex and prostate_diagnosis (DICOM, Imaging Data Commons) and msd_prostate (NIfTI, Decathlon).

Both DICOM collections are read as the Commons, TCIA and their clients lay them out: patient / study / series / files.
One series per patient and plane, chosen by its description; of repeats the last, which is the one that was kept
because an earlier one moved. Splits are by patient. Descriptions, licences and who lacks which plane are those of the
index of the Commons, version 25.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mrsr_bench.benchmarks.dataset import Case
from mrsr_bench.benchmarks.datasets.dicom import DicomCase, Series, find_series, is_dicom
from mrsr_bench.benchmarks.datasets.published import Expected, Found, Layout, PublishedDataset
from mrsr_bench.benchmarks.fetch import Archive, IdcCollection

MSD_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task05_Prostate.tar"
MSD_MD5 = "35138f08b1efaef89d7424d2bcc928db"


class DicomDataset(PublishedDataset):
    """One series of every patient: of the modality MR, its description matching ``description`` (any case)."""

    def __init__(
        self,
        name: str,
        summary: str,
        terms: str,
        *,
        collection: str,
        archive_name: str,
        description: str,
        expected: Expected,
        lacking: Sequence[str] = (),
    ) -> None:
        """``archive_name`` is what TCIA calls the collection; patients ``lacking`` have no such series."""
        super().__init__(
            name,
            summary,
            terms,
            folders=(collection, archive_name),
            layouts=(),
            expected=expected,
            sources=[IdcCollection(collection, description)],
            split_list=collection,
        )
        self.description = re.compile(description, re.IGNORECASE)
        self.lacking = frozenset(lacking)
        self._series: dict[Path, Series] = {}

    def images(self) -> list[Found]:
        chosen: dict[str, Series] = {}
        for series in self._all_series():
            before = chosen.get(series.patient)
            if before is None or series.number >= before.number:
                chosen[series.patient] = series
        self._series = {series.files[0]: series for series in chosen.values()}
        return [
            Found(series.files[0], patient, f"{patient}_{series.stem}") for patient, series in sorted(chosen.items())
        ]

    def known_subjects(self) -> list[str]:
        return [subject for subject in super().known_subjects() if subject not in self.lacking]

    def case(self, image: Found) -> Case:
        return DicomCase(self._series[image.path].files, image.subject, image.image)

    def _all_series(self) -> list[Series]:
        """By the first header of every folder: a collection has hundreds of thousands of files."""
        found = []
        for folder, folders, names in os.walk(self.place()):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            files = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
            files = [path for path in files if is_dicom(path)]
            for series in find_series(files[:1]):
                if series.modality == "MR" and series.patient and self.description.search(series.description):
                    found.append(replace(series, files=tuple(files)))
        return found


def _prostatex(name: str, plane: str, code: str, lacking: Sequence[str] = ()) -> DicomDataset:
    count = 346 - len(lacking)
    return DicomDataset(
        name,
        f"PROSTATEx, T2w TSE, {plane}, Siemens 3 T, about 0.5 x 0.5 x 3.6 mm",
        "CC BY 3.0 (per series: licences.json in the folder); cite doi 10.7937/K9TCIA.2017.MURS5CL",
        collection="prostatex",
        archive_name="PROSTATEx",
        description=rf"^t2_tse_{code}",
        expected=Expected(count, count, ((0.25, 0.8), (0.25, 0.8), (2.5, 5.0))),
        lacking=lacking,
    )


DATASETS = (
    _prostatex("prostatex", "axial", "tra"),
    _prostatex("prostatex_sag", "sagittal", "sag"),
    _prostatex("prostatex_cor", "coronal", "cor", lacking=("ProstateX-0298", "ProstateX-0299")),
    DicomDataset(
        "prostate_diagnosis",
        "Prostate-Diagnosis, T2w TSE, axial, Philips 1.5 T, about 0.4 x 0.4 x 3 mm",
        "CC BY 3.0 (per series: licences.json in the folder); cite doi 10.7937/K9/TCIA.2015.FOQEUJVT",
        collection="prostate_diagnosis",
        archive_name="PROSTATE-DIAGNOSIS",
        description=r"t2.*(?:ax|tra)|(?:ax|tra).*t2",
        expected=Expected(91, 91, ((0.2, 0.8), (0.2, 0.8), (2.5, 5.0))),
    ),
    PublishedDataset(
        "msd_prostate",
        "Medical Segmentation Decathlon, task 5: T2w (first of two channels), axial, about 0.6 x 0.6 x 3.6 mm",
        "CC BY-SA 4.0; cite Antonelli et al. 2022, doi 10.1038/s41467-022-30695-9",
        folders=("msd_prostate", "Task05_Prostate"),
        layouts=[
            Layout(
                "**/images??/prostate_*.nii.gz",
                r"(?:Task05_Prostate/){0,2}images(?:Tr|Ts)/(?P<subject>prostate_\d{2})\.nii\.gz",
            )
        ],
        expected=Expected(48, 48, ((0.2, 1.1), (0.2, 1.1), (2.5, 5.0))),
        sources=[Archive(MSD_URL, MSD_MD5, "Task05_Prostate", 2 * 2**30)],
        index=0,
    ),
)
