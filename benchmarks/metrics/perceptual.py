"""Perceptual distances of SR to HR by networks trained on photographs: LPIPS and DISTS, through pyiqa.

Their parameters are fetched from their publishers at first use; where they are not and cannot be had the metrics give
None with the reason. Both were trained on colour photographs: they rank nothing here.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench.benchmarks.metric import Comparison, MetricSpec, Score
from mrsr_bench.benchmarks.metrics.region import foreground_slices, slice_axis

if TYPE_CHECKING:
    from mrsr_bench.volume import FloatArray

    Measure = Callable[[FloatArray, FloatArray], float]

NEEDED: dict[str, tuple[tuple[str, str], ...]] = {
    "lpips": (
        ("checkpoints", "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"),
        ("pyiqa", "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/LPIPS_v0.1_alex-df73285e.pth"),
    ),
    "dists": (
        ("checkpoints", "https://download.pytorch.org/models/vgg16-397923af.pth"),
        ("pyiqa", "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/DISTS_weights-f5e65c96.pth"),
    ),
}
"""Files under torch hub's folder, and their homes. A name ends with the first digits of the file's SHA-256."""
MIN_SIZE = 64
"""Pixels: smaller slices vanish in the networks' pooling."""
TIMEOUT = 20.0
"""Seconds without an answer before a download is given up."""

_failed: dict[str, str] = {}


class Unavailable(Exception):  # noqa: N818 - not a failure: the metric gives null with this as the reason
    """The metric cannot be had here; the text is the reason that the table shows."""


def parameter_files(key: str) -> list[Path]:
    """The files of the metric ``key`` under torch hub's folder, fetched if they are not there, checked by their hash.

    Raises:
        Unavailable: pyiqa is not installed, or a file is not there and cannot be had, or is another one.
    """
    import torch.hub

    from mrsr_bench.benchmarks.metrics.no_reference import offline_by

    if importlib.util.find_spec("pyiqa") is None:
        raise Unavailable("pyiqa is not installed; pip install 'mrsr-bench[perceptual]'")
    files = []
    for folder, url in NEEDED[key]:
        name = url.rpartition("/")[2]
        file = Path(torch.hub.get_dir()) / folder / name
        where = f"put {url} into {file.parent}"
        if not file.is_file():
            if offline := offline_by():
                raise Unavailable(f"the parameters {name} are not here and {offline} forbids downloads; {where}")
            if name not in _failed:
                try:
                    _download(url, file)
                except Exception as error:  # pooch passes on whatever its transport raises
                    _failed[name] = type(error).__name__
            if not file.is_file():
                failed = _failed.get(name, "it left no file")
                raise Unavailable(f"the parameters {name} are not here and their download failed ({failed}); {where}")
        if not _sha256(file, file.stat().st_mtime_ns).startswith(file.stem.rpartition("-")[2]):
            raise Unavailable(f"{file} is damaged or another file; delete it, then {where}")
        files.append(file)
    return files


@lru_cache(maxsize=8)
def _sha256(file: Path, _changed_ns: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _download(url: str, file: Path) -> None:
    import pooch

    downloader = pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=False)
    pooch.retrieve(url, known_hash=None, fname=file.name, path=file.parent, downloader=downloader)


def parameters_of(key: str) -> tuple[dict[str, str], str | None]:
    """SHA-256 of each parameter file, and why the metric cannot be computed here (None if it can)."""
    try:
        return {file.name: _sha256(file, file.stat().st_mtime_ns) for file in parameter_files(key)}, None
    except (Unavailable, OSError) as error:
        return {}, str(error)


@lru_cache(maxsize=2)
def network(key: str) -> Any:
    """pyiqa's network of the metric ``key`` with its published parameters, in eval mode.

    Raises:
        Unavailable: as `parameter_files`, or a file cannot be loaded.
    """
    files = parameter_files(key)
    with contextlib.redirect_stdout(sys.stderr):
        try:
            if key == "lpips":
                from pyiqa.archs.lpips_arch import LPIPS

                return LPIPS(net="alex", version="0.1", pretrained_model_path=str(files[1])).eval()
            from pyiqa.archs.dists_arch import DISTS

            return DISTS(pretrained_model_path=str(files[1])).eval()
        except Exception as error:  # pyiqa and torch raise many kinds for a damaged file
            raise Unavailable(f"pyiqa cannot load {key} ({' '.join(str(error).split())[:120]})") from error


def measure_of(model: Any) -> Measure:
    """Distance of two slices (height, width; values 0 to 1), shown to ``model`` as three equal channels."""
    import numpy as np
    import torch

    def measure(sr: FloatArray, hr: FloatArray) -> float:
        images = [torch.from_numpy(np.ascontiguousarray(i)).float()[None, None].repeat(1, 3, 1, 1) for i in (sr, hr)]
        with torch.inference_mode():
            return float(model(*images).reshape(-1)[0])

    return measure


def perceptual_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """lpips and dists of every slice with enough foreground, and their means."""
    import numpy as np

    reference = comparison.reference
    axis = slice_axis(reference.mask.shape, reference.degraded_axes, whole_plane=False)
    indices = foreground_slices(reference.mask, axis)
    volumes = [
        np.clip(np.moveaxis(data, axis, 0) / np.float32(reference.range), 0, 1)
        for data in (comparison.sr, reference.hr.data)
    ]
    size = volumes[0].shape[1:]
    scores = []
    for key in keys:
        if not indices:
            scores.append(Score(key, None, reason="no slice has more than 25 % foreground"))
        elif min(size) < MIN_SIZE:
            scores.append(Score(key, None, reason=f"slices of {size[0]}x{size[1]} are under {MIN_SIZE} pixels"))
        else:
            try:
                measure = measure_of(network(key))
            except Unavailable as error:
                scores.append(Score(key, None, reason=str(error)))
                continue
            values = [measure(volumes[0][i], volumes[1][i]) for i in indices]
            scores.append(Score(key, math.fsum(values) / len(values)))
            scores += [Score(key, value, index) for index, value in zip(indices, values, strict=True)]
    return scores


def _spec(name: str, summary: str, source: str) -> MetricSpec:
    return MetricSpec(
        name=name,
        version=1,
        direction="lower",
        units="1",
        summary=summary,
        source=source,
        convention="per slice of the largest plane with a degraded axis, foreground above 25 %, clip(volume / q, 0, 1) "
        "as three equal channels; q = 99.9th percentile of the HR voxels above the HR mean; mean over slices",
        ranked=False,
        reference=True,
        compute=f"{__name__}:perceptual_scores",
        parameters=f"{__name__}:parameters_of",
    )


METRICS: tuple[MetricSpec, ...] = (
    _spec("lpips", "learned perceptual distance, AlexNet, v0.1", "Zhang et al. 2018, CVPR, through pyiqa"),
    _spec("dists", "structure and texture distance, VGG16", "Ding et al. 2022, IEEE TPAMI 44:2567, through pyiqa"),
)
