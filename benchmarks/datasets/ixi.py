"""ixi: about 580 healthy adults from three London hospitals: T1, T2 and PD.

Sites: Guys (Philips 1.5 T), HH (Hammersmith, Philips 3 T), IOP (GE 1.5 T). ``ixi_guys_t2`` is the subset of the 2019
GAN-CPCE / GAN-CIRCLE comparison; `data check` tells how much of its matrix was measured. Splits are by subject.
``ixi_guys_t2_slicewise_leaks`` splits slices, as that comparison seems to have done (8,000 and 955 slices): neighbours
of a test slice are in training, so its scores say nothing about new subjects. It exists to show by how much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import Case, Fault
from mrsr_bench.benchmarks.datasets.folder import FolderCase
from mrsr_bench.benchmarks.datasets.published import Expected, Layout, PublishedDataset
from mrsr_bench.benchmarks.datasets.split_lists import Splits, committed, scaled_sizes, seeded_split
from mrsr_bench.benchmarks.fetch import Archive

if TYPE_CHECKING:
    from mrsr_bench.volume import Volume

PAGE = "http://biomedic.doc.ic.ac.uk/brain-development/downloads/IXI"
MD5 = {
    "T1": "34901a0593b41dd19c1a1f746eac2d58",
    "T2": "e3140d78730ecdd32ba92da48c0a9aaa",
    "PD": "88ecd9d1fa33cb4a2278183b42ffd749",
}
COUNTS = {"T1": 581, "T2": 578, "PD": None}
SPACING = {
    "T1": ((0.9, 1.0), (0.9, 1.0), (1.1, 1.3)),
    "T2": ((0.85, 1.0), (0.85, 1.0), (1.15, 1.3)),
    "PD": ((0.85, 1.0), (0.85, 1.0), (1.15, 1.3)),
}
LACKING = 581 - 577
"""Subjects of a complete copy that have a T1 and no T2; so many may lack a contrast that others have."""
UNPACKED = 6 * 2**30
"""Bytes that an archive may unpack to: each is below 5 GB and holds compressed files."""


class IxiDataset(PublishedDataset):
    """One contrast, of all sites or of one."""

    def __init__(self, name: str, contrast: str, site: str | None, summary: str) -> None:
        place = site or "(?:Guys|HH|IOP)"
        pattern = rf"(?:(?:IXI-)?{contrast}/)?(?P<subject>IXI\d{{3}})-{place}-\d+-{contrast}\.nii\.gz"
        glob = f"**/IXI*-{site or '*'}-*-{contrast}.nii.gz"
        count = COUNTS[contrast] if site is None else None
        super().__init__(
            name,
            summary,
            "CC BY-SA 3.0; name brain-development.org and EPSRC GR/S21533/02",
            folders=("ixi", "IXI"),
            layouts=[Layout(glob, pattern)],
            expected=Expected(count, count, SPACING[contrast]),
            sources=[Archive(f"{PAGE}/IXI-{contrast}.tar", MD5[contrast], f"IXI-{contrast}", UNPACKED)],
            split_list="ixi",
        )
        self.contrast, self.site = contrast, site

    def faults(self) -> Sequence[Fault]:
        """A contrast that is not whole, over all sites, and the subjects that have another one and not this."""
        whole, found = COUNTS[self.contrast], []
        there = len(self._other(self.contrast, None).images())
        if self.site is not None and whole is not None and there != whole:
            sentence = f"{there} {self.contrast} images of all sites where a complete copy has {whole}"
            found.append(Fault("count", sentence))
        mine = {image.subject for image in self.images()}
        others = {image.subject for kind in COUNTS for image in self._other(kind, self.site).images()}
        absent = sorted(others - mine)
        if len(absent) > LACKING or (absent and whole is not None and there < whole):
            sentence = f"{len(absent)} subjects have another contrast here and no {self.contrast}"
            found.append(Fault("contrast", sentence, absent))
        return found

    def _other(self, contrast: str, site: str | None) -> PublishedDataset:
        return IxiDataset(self.name, contrast, site, self.summary).at(self.root)


class IxiSlice(FolderCase):
    """One slice of one subject's image, as a volume of one slice."""

    def __init__(self, path: Path, subject: str, image: str, position: int) -> None:
        super().__init__(path, subject, f"{image}_slice-{position:03d}")
        self.position = position

    @property
    def fingerprint(self) -> str:
        return f"{super().fingerprint}:{self.position}"

    def hr(self) -> Volume:
        volume = super().hr()
        x, y, _ = volume.data.shape
        return volume.cropped((0, 0, self.position), (x, y, self.position + 1))


class IxiSlices(IxiDataset):
    """The slice-wise split: the same subjects on both sides."""

    checked_as = "ixi_guys_t2"

    def __init__(self, name: str, contrast: str, site: str | None, summary: str) -> None:
        super().__init__(name, contrast, site, summary)
        self.split_list = "ixi_slicewise_leaks"

    def cases(self, split: str = "all", *, seed: int = 0) -> Sequence[Case]:
        if split not in (*self.split_names(), "all"):
            raise UserError(f"{self.name} has no split {split!r}; it has: {', '.join((*self.split_names(), 'all'))}")
        slices = self._slices(super().cases("all"))
        names = slices if split == "all" else self._split(slices)[split]
        return [slices[name] for name in names]

    def splits(self) -> Splits:
        """Split to slices: here they are what is split."""
        return self._split(self._slices([self.case(image) for image in self.images()]))

    def _slices(self, whole: Sequence[Case]) -> dict[str, IxiSlice]:
        slices = {}
        for case in whole:
            assert isinstance(case, FolderCase)
            for position in range(_slice_count(case.path)):
                one = IxiSlice(case.path, case.subject, case.image, position)
                slices[one.image] = one
        return slices

    def _split(self, slices: Mapping[str, IxiSlice]) -> Splits:
        content = committed(self.split_list)
        return seeded_split(slices, scaled_sizes(content["sizes"], len(slices)), content["seed"])


def _slice_count(path: Path) -> int:
    """By the header; 0 of a file that cannot be read, which `data check` names."""
    import nibabel

    try:
        return int(nibabel.load(path).shape[2])
    except Exception:  # a parser of foreign bytes fails in any way it likes
        return 0


DATASETS = (
    IxiDataset("ixi", "T1", None, "IXI, T1w, three sites, 1.5 and 3 T, about 0.94 x 0.94 x 1.2 mm"),
    IxiDataset("ixi_t2", "T2", None, "IXI, T2w, three sites, 1.5 and 3 T, about 0.94 x 0.94 x 1.25 mm"),
    IxiDataset("ixi_pd", "PD", None, "IXI, PD, three sites, 1.5 and 3 T, about 0.94 x 0.94 x 1.25 mm"),
    IxiDataset("ixi_guys_t2", "T2", "Guys", "IXI, T2w of Guy's Hospital (Philips 1.5 T), split by subject"),
    IxiSlices(
        "ixi_guys_t2_slicewise_leaks",
        "T2",
        "Guys",
        "IXI, T2w of Guy's Hospital, split by slice: training sees the test subjects",
    ),
)
