"""The contenders of the speed suite: each prepares its input, then does the same work as often as it is asked.

`mrsr_bench.benchmarks.speed` says what is compared and measures. A contender is a function of `Settings` that returns
a warm-up and the work; the work returns what it made (values by metric, or a volume) and facts about it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mrsr_bench.benchmarks.metrics.region import Reference
    from mrsr_bench.volume import FloatArray
    from mrsr_bench.zoo.method import Tiling

Shape = tuple[int, int, int]
Windows = Literal["tile", "cube", "usual"]
Work = Callable[[], tuple[Any, dict[str, Any]]]
Prepared = tuple[Callable[[], Any], Work]

FULL: Shape = (256, 256, 170)
USUAL_WINDOW, USUAL_OVERLAP = 64, 0.25
_MARGIN_WEIGHT = 1e-6
_CORNER = (slice(0, 24),) * 3


class CannotRunError(Exception):
    """A contender cannot run here; the text says why."""


@dataclass(frozen=True)
class Settings:
    """What is measured: shapes in voxels, the method, and how often."""

    metric_shape: Shape = FULL
    metric_repetitions: int = 5
    inference_shape: Shape = (128, 128, 96)
    inference_repetitions: int = 1
    model: str = "mdcsrn_b4u4"
    window: int | None = 96
    training_steps: int = 10
    patch: Shape | None = None
    threads: int = 1

    def tiling(self) -> Tiling:
        """The method's tiling, with another window where one is set, which cuts a small volume too."""
        from mrsr_bench.zoo.methods import methods

        tiling = methods.get(self.model).tiling
        return tiling if self.window is None else replace(tiling, window=self.window)


QUICK = Settings(
    metric_shape=(40, 36, 32),
    metric_repetitions=2,
    inference_shape=(32, 24, 20),
    model="mdcsrn_b1u2",
    window=20,
    training_steps=2,
    patch=(12, 12, 12),
)
"""Seconds instead of minutes: shows that the suite works, and no figure of it means anything."""


# ------------------------------------------------------------------------------------------------------- inputs


def synthetic_head(shape: Shape) -> tuple[FloatArray, FloatArray]:
    """HR and an SR a few percent off, of ``shape``: a textured ellipsoid in air, with noise, the same every time."""
    import numpy as np

    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    radius = axes[0] ** 2 + axes[1] ** 2 + axes[2] ** 2
    hr = 600 + 250 * np.sin(23 * axes[0] + 3 * axes[2]) * np.cos(19 * axes[1]) * np.sin(17 * axes[2])
    hr = np.where(radius < 0.8, hr, 0).astype(np.float32)
    hr += np.abs(rng.normal(0, 12, shape)).astype(np.float32)
    sr = (hr + np.roll(hr, 1, 0) + np.roll(hr, 1, 1)) / 3 + rng.normal(0, 8, shape).astype(np.float32)
    return hr, sr.astype(np.float32)


def _compared(shape: Shape) -> tuple[FloatArray, Reference]:
    import numpy as np

    from mrsr_bench.benchmarks.metrics.region import reference_of
    from mrsr_bench.volume import Volume

    hr, sr = synthetic_head(shape)
    return sr, reference_of(Volume(hr, np.eye(4)))


# ------------------------------------------------------------------------------------------------------ metrics


def prepare_metrics(settings: Settings, *, ours: bool, slicewise: bool) -> Prepared:
    """Warm-up and work: psnr, ssim and nrmse in the region, or psnr and ssim of every foreground slice, averaged."""
    sr, reference = _compared(settings.metric_shape)
    if ours:
        work: Work = partial(_our_metrics, sr, reference, slicewise)
    else:
        work = partial(_skimage_slices if slicewise else _skimage_volume, sr, reference)
    return work, work


def _our_metrics(
    sr: FloatArray, reference: Reference, slicewise: bool
) -> tuple[dict[str, float | None], dict[str, Any]]:
    from mrsr_bench.benchmarks.metrics import score

    keys = ["psnr_slice", "ssim_slice"] if slicewise else ["psnr", "ssim", "nrmse"]
    return {s.metric: s.value for s in score(sr, reference, keys) if s.slice is None}, {}


def _skimage_volume(sr: FloatArray, reference: Reference) -> tuple[dict[str, float], dict[str, Any]]:
    from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

    hr, region, q = reference.hr.data, reference.region, reference.range
    _, ssim_map = structural_similarity(
        hr, sr, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=q, full=True
    )
    found = {
        "psnr": float(peak_signal_noise_ratio(hr[region], sr[region], data_range=q)),
        "ssim": float(ssim_map[region].mean(dtype="float64")),
        "nrmse": float(normalized_root_mse(hr[region], sr[region], normalization="euclidean")),
    }
    return found, {}


def _skimage_slices(sr: FloatArray, reference: Reference) -> tuple[dict[str, float], dict[str, Any]]:
    import numpy as np
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    from mrsr_bench.benchmarks.metrics.region import foreground_slices, slice_axis

    axis = slice_axis(reference.mask.shape, reference.degraded_axes, whole_plane=True)
    q, psnr, ssim = reference.range, [], []
    for index in foreground_slices(reference.mask, axis):
        y, x = reference.hr.data.take(index, axis), sr.take(index, axis)
        psnr.append(peak_signal_noise_ratio(y, x, data_range=q))
        ssim.append(
            structural_similarity(y, x, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=q)
        )
    return {"psnr_slice": float(np.mean(psnr)), "ssim_slice": float(np.mean(ssim))}, {}


# ---------------------------------------------------------------------------------------------------- inference


def _network(settings: Settings, *, lean: bool) -> nn.Module:
    import torch

    from mrsr_bench.zoo.inference import build_network
    from mrsr_bench.zoo.methods import methods

    network = build_network(methods.get(settings.model)).eval().to(memory_format=torch.channels_last_3d)
    # The flag of the outermost module alone: its normalisations stay in eval mode, and the lean path steps aside.
    network.training = not lean
    return network


def _image(shape: Shape) -> FloatArray:
    import numpy as np

    from mrsr_bench.benchmarks.metrics.region import intensity_range

    hr, _ = synthetic_head(shape)
    return hr / np.float32(intensity_range(hr))


class _Counted:
    """A network that counts the voxels that go through it."""

    def __init__(self, network: nn.Module) -> None:
        self.voxels = 0
        network.register_forward_pre_hook(self._count)

    def _count(self, _network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.voxels += inputs[0].numel()


def prepare_tiled(settings: Settings, *, autocast: bool) -> Prepared:
    """Warm-up on a corner of the image, and `run_tiled` over all of it."""
    from mrsr_bench.zoo.inference import run_tiled, tile_shape

    network, image, tiling = _network(settings, lean=True), _image(settings.inference_shape), settings.tiling()
    counted = _Counted(network)

    def work() -> tuple[FloatArray, dict[str, Any]]:
        counted.voxels = 0
        out = run_tiled(network, image, tiling, autocast=autocast)
        return out, {"computed": counted.voxels / image.size, "window": tile_shape(image.shape, tiling)}

    return lambda: run_tiled(network, image[_CORNER], tiling, autocast=autocast), work


def prepare_monai(settings: Settings, *, lean: bool, autocast: bool, windows: Windows) -> Prepared:
    """MONAI's windows: the ``tile`` shape of ours or a ``cube`` (equal valid voxels), or the ``usual`` 64 and 0.25."""
    import torch

    from mrsr_bench.zoo.inference import tile_shape

    try:
        from monai.inferers import sliding_window_inference
    except ImportError as error:
        raise CannotRunError("MONAI is not installed; pip install 'mrsr-bench[speed]'") from error

    network, tiling, shape = _network(settings, lean=lean), settings.tiling(), settings.inference_shape
    image = torch.from_numpy(_image(shape))[None, None]
    counted = _Counted(network)
    edge = USUAL_WINDOW if windows == "usual" else tiling.window
    window = tile_shape(shape, tiling) if windows == "tile" else tuple(min(edge, n) for n in shape)
    options: dict[str, Any] = {"roi_size": window, "sw_batch_size": 1, "overlap": USUAL_OVERLAP, "mode": "constant"}
    if windows != "usual":
        # A hair less, so that no rounding of MONAI's interval makes it a voxel shorter than it need be.
        options["overlap"] = [
            max(0.0, 2 * tiling.margin / size - 1e-6) if size < n else 0.0
            for size, n in zip(window, shape, strict=True)
        ]
        options["roi_weight_map"] = _margin_weights(window, shape, tiling.margin)

    def predict(given: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out: Tensor = network(given)
        return out.float()

    def work() -> tuple[FloatArray, dict[str, Any]]:
        counted.voxels = 0
        with torch.inference_mode():
            out = sliding_window_inference(image, predictor=predict, **options)
        return out[0, 0].numpy(), {"computed": counted.voxels / image.numel(), "window": window}

    def warm_up() -> None:
        with torch.inference_mode():
            predict(image[(..., *_CORNER)])

    return warm_up, work


def _margin_weights(window: Sequence[int], shape: Shape, margin: int) -> Tensor:
    """Weight 1, and nearly nothing in the margins along the axes that are cut."""
    import torch

    weights = torch.ones(*window)
    for axis, (size, whole) in enumerate(zip(window, shape, strict=True)):
        if size < whole:
            along = torch.full((size,), _MARGIN_WEIGHT)
            along[margin : size - margin] = 1
            weights *= along.view([-1 if a == axis else 1 for a in range(3)])
    return weights


# ----------------------------------------------------------------------------------------------------- training


def prepare_training(settings: Settings) -> Prepared:
    """No warm-up, and a training by the quick recipe whose first step is not counted."""
    import numpy as np

    from mrsr_bench.zoo.inference import build_network
    from mrsr_bench.zoo.methods import methods
    from mrsr_bench.zoo.patches import Prepared as PreparedVolume
    from mrsr_bench.zoo.trainer import Trainer
    from mrsr_bench.zoo.training import resolve_recipe

    spec = methods.get(settings.model)
    recipe = resolve_recipe(spec, "quick").scaled(settings.training_steps + 2)
    stage = recipe.stages[-1].model_copy(update={"patch": settings.patch} if settings.patch else {})
    recipe = recipe.model_copy(update={"stages": (stage,), "validation_patches": 1})
    hr, lr = (data / np.float32(1000) for data in synthetic_head((64, 64, 64)))
    volume = PreparedVolume("synthetic", lr, hr, np.flatnonzero(hr > 0.2).astype(np.int32), 1.0)
    network = build_network(spec, recipe.network)
    stamps: list[tuple[float, float]] = []

    def stamp(module: nn.Module, _inputs: Any) -> None:
        if module.training:
            stamps.append((time.perf_counter(), time.process_time()))

    network.register_forward_pre_hook(stamp)

    def work() -> tuple[None, dict[str, Any]]:
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(network, recipe, [volume], [volume], Path(folder), identity={}, checkpoint_seconds=1e9)
            trainer.run()
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(stamps[1:])]
        return None, {"steps": steps, "patches": stage.batch, "voxels": stage.batch * int(np.prod(stage.patch))}

    return lambda: None, work


CONTENDERS: dict[str, Callable[..., Prepared]] = {
    "metrics": prepare_metrics,
    "tiled": prepare_tiled,
    "monai": prepare_monai,
    "training": prepare_training,
}
