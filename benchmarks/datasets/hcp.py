"""hcp: Human Connectome Project, young adults, S1200: T1w and T2w at 0.7 mm, 3 T, of 1,113 subjects.

``hcp`` is the unprocessed MPRAGE, as the mDCSRN paper used it; ``hcp_preprocessed`` was rigidly resampled to AC-PC, so
it has been interpolated once. The split has the paper's sizes, 780 / 111 / 111 / 111, by a seeded rule over the sorted
IDs. The list of IDs is taken from the table ``unrestricted*.csv`` of ConnectomeDB (column ``T1_Count``) where it lies
in the dataset's folder, else from the subjects that are there. Twins and siblings are a third of HCP: with the
restricted table (``RESTRICTED*.csv``, in the folder) families stay on one side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.datasets.published import Expected, Layout, PublishedDataset, near
from mrsr_bench.benchmarks.datasets.split_lists import families_of, file_sha256
from mrsr_bench.benchmarks.datasets.subject_tables import read_rows
from mrsr_bench.benchmarks.fetch import Bucket, ByHand

SUBJECTS = 1113
TERMS = "WU-Minn HCP Open Access Data Use Terms; what is derived from it only under the same terms"
AGREEMENT = ByHand(
    where="https://db.humanconnectome.org (a free account)",
    accept="accept the WU-Minn HCP Open Access Data Use Terms, let it create your AWS keys, and name them in "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or in ~/.aws/credentials",
    put="nothing by hand but run the fetch again (extra mrsr-bench[data]), or copy the subject folders (100206, ...)",
)


class HcpDataset(PublishedDataset):
    """One image of every subject: ``template`` is its path in the subject's folder, ``{id}`` the subject."""

    def __init__(self, name: str, template: str, summary: str, subjects: int | None = SUBJECTS) -> None:
        glob = "*/" + template.replace("{id}", "*")
        pattern = r"(?P<subject>\d{6})/" + template.replace(".", r"\.").replace("{id}", "(?P=subject)")
        bucket = Bucket("s3://hcp-openaccess/HCP_1200", (glob,), AGREEMENT, {"anon": False})
        super().__init__(
            name,
            summary,
            TERMS,
            folders=("hcp", "HCP_1200"),
            layouts=[Layout(glob, pattern)],
            expected=Expected(subjects, subjects, near(0.7, 0.7, 0.7)),  # type: ignore[arg-type]
            sources=[bucket],
            split_list="hcp",
        )

    def image_of(self, match: Any, path: Path) -> Any:
        image = super().image_of(match, path)
        subject = image.subject
        stem = image.image if image.image.startswith(subject) else f"{subject}_{image.image}"
        return type(image)(path, subject, stem)

    def known_subjects(self) -> list[str]:
        """Subjects with a T1w image by the unrestricted table, else those whose folder is there."""
        place = self.place()
        tables = sorted(place.glob("unrestricted*.csv"))
        if not tables:
            return sorted(path.name for path in place.glob("[0-9]" * 6) if path.is_dir())
        advice = "expected HCP's unrestricted table, so download it again"
        rows = read_rows(tables[-1], ("Subject", "T1_Count"), advice)
        try:
            return sorted(row["Subject"] for row in rows if int(row["T1_Count"] or 0) > 0)
        except ValueError as error:
            raise UserError(f"{tables[-1].name}: {error} in the column T1_Count; {advice}") from error

    def restricted_table(self) -> Path | None:
        """The table with the family structure, if the user has it."""
        return next(iter(sorted(self.place().glob("RESTRICTED*.csv"), reverse=True)), None)

    def families(self) -> dict[str, str] | None:
        table = self.restricted_table()
        return None if table is None else families_of(table)

    def split_facts(self) -> dict[str, Any]:
        facts, table = super().split_facts(), self.restricted_table()
        if table is None:
            return {
                **facts,
                "families": "unknown, so relatives may be on two sides; RESTRICTED*.csv would tell",
            }
        return {**facts, "families": "kept together", "restricted_table_sha256": file_sha256(table)}


DATASETS = (
    HcpDataset(
        "hcp", "unprocessed/3T/T1w_MPR1/{id}_3T_T1w_MPR1.nii.gz", "HCP S1200, T1w MPRAGE as acquired, 0.7 mm, 3 T"
    ),
    HcpDataset(
        "hcp_t2w",
        "unprocessed/3T/T2w_SPC1/{id}_3T_T2w_SPC1.nii.gz",
        "HCP S1200, T2w SPACE as acquired, 0.7 mm, 3 T",
        subjects=None,
    ),
    HcpDataset(
        "hcp_preprocessed",
        "T1w/T1w_acpc_dc_restore.nii.gz",
        "HCP S1200, T1w after HCP's preprocessing (interpolated once)",
    ),
    HcpDataset(
        "hcp_preprocessed_brain",
        "T1w/T1w_acpc_dc_restore_brain.nii.gz",
        "HCP S1200, T1w after HCP's preprocessing, brain only",
    ),
    HcpDataset(
        "hcp_preprocessed_t2w",
        "T1w/T2w_acpc_dc_restore.nii.gz",
        "HCP S1200, T2w after HCP's preprocessing (interpolated twice)",
        subjects=None,
    ),
)
