"""Overlap of segmentations: does SR give the structures that HR, or the object itself, has?

Two segmentations are compared structure by structure. *Parcellation*: HighRes3DNet on SR and on HR, 159 structures
(needs its parameters and SimpleITK; T1-weighted whole heads). *Tissue*: where the exact labels of the object are known
(the phantom), SR is cut into CSF, grey and white matter by intensity alone, and compared with the truth. The cuts lie
halfway between the medians of the three tissues in HR, inside the exact outline of the brain; so the rule is the same
for every method and for HR, whose own overlap is stated beside the value, and nothing is learnt that could favour one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mrsr_bench import UserError
from mrsr_bench.benchmarks.metric import Comparison, Direction, MetricSpec, Score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.benchmarks.metrics.region import Reference
    from mrsr_bench.volume import FloatArray

    Labels = npt.NDArray[np.int16]

TISSUES: dict[str, tuple[str, ...]] = {
    "csf": ("csf", "ventricle"),
    "grey_matter": ("cortex", "cerebellar_cortex", "caudate", "putamen", "thalamus", "hippocampus"),
    "white_matter": ("white_matter", "cerebellar_white_matter"),
}
"""Tissues that intensity can tell apart, of the phantom's structures; the pallidum and the brainstem lie between."""
STRUCTURES = 159
MIN_VOXELS = 8
"""Voxels of 1 mm³ (parcellation): a structure with fewer in HR is noise, and is left out."""

Overlap = tuple[float, float, float]
"""Dice, Jaccard, and signed volume bias: (volume in SR - volume in HR) / volume in HR."""


def overlaps(found: Labels, truth: Labels, classes: Sequence[int]) -> dict[int, Overlap | None]:
    """`Overlap` of every class; None where ``truth`` has none of it."""
    import numpy as np

    size = int(max(found.max(initial=0), truth.max(initial=0), max(classes))) + 1
    of_found, of_truth = (np.bincount(labels.ravel(), minlength=size) for labels in (found, truth))
    both = np.bincount(truth[found == truth].ravel(), minlength=size)
    result: dict[int, Overlap | None] = {}
    for label in classes:
        a, b, ab = (int(count[label]) for count in (of_found, of_truth, both))
        result[label] = (2 * ab / (a + b), ab / (a + b - ab), (a - b) / b) if b else None
    return result


# ------------------------------------------------------------------------------------------------------- tissue


def tissue_truth(labels: Labels) -> Labels:
    """The exact labels of the phantom as 1, 2, 3 (the `TISSUES`), 0 elsewhere."""
    import numpy as np

    from mrsr_bench.benchmarks.datasets.head_rendering import LABELS

    table = np.zeros(max(LABELS.values()) + 1, dtype=np.int16)
    for value, members in enumerate(TISSUES.values(), start=1):
        table[[LABELS[member] for member in members]] = value
    return table[labels]


def tissue_segmentation(image: FloatArray, hr: FloatArray, truth: Labels) -> Labels:
    """``image`` cut into the tissues of ``truth`` at the intensities halfway between their medians in ``hr``."""
    import numpy as np

    values = [value for value in range(1, len(TISSUES) + 1) if (truth == value).any()]
    medians = [float(np.median(hr[truth == value])) for value in values]
    order = np.argsort(medians)
    ordered = np.asarray(medians)[order]
    found = np.asarray(values, dtype=np.int16)[order][np.digitize(image, (ordered[1:] + ordered[:-1]) / 2)]
    return np.where(truth > 0, found, 0).astype(np.int16)


def tissue_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """dice, jaccard and volume_bias of the tissues against the exact labels, averaged and one by one."""
    import numpy as np

    from mrsr_bench.benchmarks.datasets.head_rendering import LABELS

    labels, reference = comparison.labels, comparison.reference
    if labels is None:
        return [Score(key, None, reason="the exact labels of the tissues are not known") for key in keys]
    if labels.min() < 0 or labels.max() > max(LABELS.values()):
        return [Score(key, None, reason="the labels are not those of the phantom") for key in keys]
    truth = np.where(reference.region, tissue_truth(labels), 0).astype(np.int16)
    classes = range(1, len(TISSUES) + 1)
    if any(not (truth == value).any() for value in classes):
        return [Score(key, None, reason="the region does not hold all of CSF, grey and white matter") for key in keys]
    hr = reference.hr.data
    names = dict(zip(classes, TISSUES, strict=True))
    own = overlaps(tissue_segmentation(hr, hr, truth), truth, classes)
    return _scores(keys, overlaps(tissue_segmentation(comparison.sr, hr, truth), truth, classes), names, own)


# ------------------------------------------------------------------------------------------------- parcellation

_of_reference: WeakKeyDictionary[Reference, Labels] = WeakKeyDictionary()
"""The parcellation of HR, kept as long as its reference is: every method is compared with it."""


def parcellation_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """parcellation_dice, _jaccard and _volume_bias of HighRes3DNet's structures, averaged and one by one."""
    from dataclasses import replace

    from mrsr_bench.benchmarks.segmentation.segment import segment

    reference = comparison.reference
    parameters = next((comparison.parameters[key] for key in keys if key in comparison.parameters), None)
    try:
        if reference not in _of_reference:
            _of_reference[reference] = segment(reference.hr, parameters)[0]
        found, _ = segment(replace(reference.hr, data=comparison.sr), parameters)
    except UserError as error:
        return [Score(key, None, reason=str(error)) for key in keys]
    return parcellation_overlap(found, _of_reference[reference], keys)


def parcellation_overlap(found: Labels, truth: Labels, keys: Sequence[str]) -> list[Score]:
    """The scores of two parcellations on one grid; structures under `MIN_VOXELS` in ``truth`` are left out."""
    import numpy as np

    counts = np.bincount(truth.ravel(), minlength=STRUCTURES + 1)
    classes = [label for label in range(1, STRUCTURES + 1) if counts[label] >= MIN_VOXELS]
    if not classes:
        return [Score(key, None, reason="HighRes3DNet finds no structure in HR") for key in keys]
    names = {label: structure_name(label) for label in classes}
    mark = None if len(classes) == STRUCTURES else f"{len(classes)} of {STRUCTURES} structures are in HR"
    return _scores(keys, overlaps(found, truth, classes), names, None, mark)


def structure_name(label: int) -> str:
    """How a structure of the parcellation is called in scores: its number in the GIF protocol."""
    return f"gif-{label:03d}"


def parameters_of(key: str) -> tuple[dict[str, str], str | None]:
    """SHA-256 of the parameters of HighRes3DNet, and why the parcellation cannot be had here (None if it can)."""
    import hashlib
    import importlib.util

    from mrsr_bench.benchmarks.segmentation.parameters import parameter_file

    if importlib.util.find_spec("SimpleITK") is None:
        return {}, "N4 needs SimpleITK; pip install 'mrsr-bench[segmentation]'"
    try:
        file = parameter_file()
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}, None
    except (UserError, OSError) as error:
        return {}, str(error)


# ------------------------------------------------------------------------------------------------------- scores

_PLACE = {"dice": 0, "jaccard": 1, "volume_bias": 2}


def _scores(
    keys: Sequence[str],
    found: Mapping[int, Overlap | None],
    names: Mapping[int, str],
    own: Mapping[int, Overlap | None] | None = None,
    mark: str | None = None,
) -> list[Score]:
    """The mean over the structures that the truth has, and each of them; ``own``: the overlaps of HR itself."""
    scores = []
    for key in keys:
        place = _PLACE[next(kind for kind in _PLACE if key.endswith(kind))]
        values = {label: overlap[place] for label, overlap in found.items() if overlap is not None}
        note = mark
        if own is not None:
            note = f"HR itself: {_mean([overlap[place] for overlap in own.values() if overlap is not None]):.4f}"
        scores.append(Score(key, _mean(list(values.values())), mark=note))
        scores += [Score(key, value, structure=names[label]) for label, value in values.items()]
    return scores


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


_WHAT: dict[str, tuple[Direction, str, str]] = {
    "dice": ("higher", "Dice overlap", "2 |A and B| / (|A| + |B|); Dice 1945, Ecology 26:297"),
    "jaccard": ("higher", "Jaccard overlap", "|A and B| / |A or B|; Jaccard 1912, New Phytologist 11:37"),
    "volume_bias": ("nearest zero", "signed error of volume", "(|A| - |B|) / |B|, B the truth"),
}
_TISSUE = (
    "CSF, grey and white matter inside the exact outline of the brain, cut at the intensities halfway between their "
    "medians in HR; mean over the three; truth: exact labels"
)
_PARCELLATION = (
    "HighRes3DNet (GIF) of SR against that of HR: N4, RAS at 1 mm, standard histogram, whitened; mean over the "
    "structures with at least 8 voxels in HR"
)


def _specs() -> list[MetricSpec]:
    specs = []
    for prefix, function, of, convention, parameters in (
        ("tissue_", "tissue_scores", "of the tissues with the exact labels", _TISSUE, ""),
        (
            "parcellation_",
            "parcellation_scores",
            "of 159 structures, SR against HR",
            _PARCELLATION,
            f"{__name__}:parameters_of",
        ),
    ):
        for kind, (direction, summary, source) in _WHAT.items():
            specs.append(
                MetricSpec(
                    name=prefix + kind,
                    version=1,
                    direction=direction,
                    units="1",
                    summary=f"{summary} {of}",
                    source=source,
                    convention=convention,
                    ranked=kind == "dice",
                    reference=True,
                    compute=f"{__name__}:{function}",
                    parameters=parameters,
                )
            )
    return specs


METRICS: tuple[MetricSpec, ...] = tuple(_specs())
