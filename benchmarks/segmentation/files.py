"""What `mrsr-bench segment` does: labels of an image, and how far they agree with those of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mrsr_bench import UserError


def segment_files(
    image: Path,
    reference: Path | None = None,
    *,
    out: Path | None = None,
    parameters: Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Segment ``image``; write its labels to ``out``; with ``reference``, overlap of the two, and each structure's.

    Raises:
        UserError: a file cannot be read or written, the images lie on different grids, or the parameters or SimpleITK
            are missing.
    """
    import numpy as np

    from mrsr_bench.benchmarks.comparison import SAME_GRID_VOXELS
    from mrsr_bench.benchmarks.segmentation.segment import segment
    from mrsr_bench.volume import Volume, check_output, load, save

    if out is not None:
        check_output(out)
    volume = load(image)
    other = None if reference is None else load(reference)
    if other is not None and not volume.grid.same_as(other.grid, SAME_GRID_VOXELS):
        raise UserError(
            f"{image.name}: does not lie on the grid of {reference and reference.name}; "
            "upscale onto the reference's grid first"
        )
    labels, grid = segment(volume, parameters, device=device)
    found: dict[str, Any] = {
        "image": image.name,
        "structures_found": int(np.unique(labels[labels > 0]).size),
        "brain_mm3": round(float((labels > 0).sum()) * float(np.prod(grid.spacing))),
    }
    if out is not None:
        save(Volume(labels.astype(np.float32), grid.affine, provenance=volume.provenance), out)
        found["labels"] = str(out)
    if other is not None:
        from mrsr_bench.benchmarks.metrics.segmentation import parcellation_overlap

        truth, _ = segment(other, parameters, device=device)
        keys = ("parcellation_dice", "parcellation_jaccard", "parcellation_volume_bias")
        scores = parcellation_overlap(labels, truth, keys)
        found["reference"] = reference.name if reference is not None else None
        found["structures"] = {}
        for score in scores:
            if score.structure is None:
                found[score.metric] = score.value
                found.update({"note": score.mark} if score.mark else {})
                found.update({"reason": score.reason} if score.reason else {})
            else:
                found["structures"].setdefault(score.structure, {})[score.metric] = score.value
    return found
