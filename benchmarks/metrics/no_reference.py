"""Metrics that look at SR alone: NIQE, Ma, PI, PIQE, through pyiqa's arithmetic. Informational, never ranked.

Per slice of the largest plane with a degraded axis, where the foreground covers more than 25 %, of
clip(volume / q, 0, 1) x 255 as float; mean over slices. One slice at a time (in each thread): larger batches are no
faster on a CPU, and so the batch can change nothing. pyiqa's inner functions are called instead of its modules, because
the modules

- round to 8 bits on the way (here only PIQE does, whose definition it is);
- forget the factor 255 on one-channel input (`nrqm`, `pi`), and in `pi` lift the background to 16 (YCbCr);
- pad to other sizes than multiples of 16 (`piqe`): slices are padded symmetrically before, as MATLAB's does;
- see noise in flat grey (`niqe`: its kernel is float32), so the most frequent flat level is subtracted first, which
  changes nothing else in NIQE and makes a constant background exactly zero;
- download their parameters without asking and without a timeout: here `parameter_file` finds or fetches them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.metric import Comparison, MetricSpec, Score
from mrsr_bench.benchmarks.metrics.region import foreground_slices, slice_axis
from mrsr_bench.benchmarks.metrics.threads import in_threads
from mrsr_bench.benchmarks.results import write_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Image = npt.NDArray[np.float64]
    Measure = Callable[[Image], float]

NIQE_BLOCK = 96
PIQE_BLOCK = 16
FEW_BLOCKS = "fewer than 4x4 NIQE blocks"
PARAMETER_FILES: dict[str, str] = {
    "niqe": "niqe_modelparameters.mat",
    "niqe_matlab": "niqe_matlab_params.mat",
    "ma": "NRQM_model.mat",
}
PARAMETER_SHA256: dict[str, str] = {
    "niqe_modelparameters.mat": "fa2aa4d12dd9595c3fb6bf8b4e1a15c79d5d1469238d0901c88dead195be578d",
}
"""Of the published files, where it is known; any other file is held to what it was at its first use (`LOCK`)."""
LOCK = "sha256.json"
"""In `store`: the SHA-256 of each parameter file without a published one, as it was when it was first used here."""
PARAMETER_URL = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights/resolve/main/{name}"
DOWNLOAD_TIMEOUT = 10.0
"""Seconds without an answer before a download is given up."""

_failed_downloads: dict[str, str] = {}


class Unavailable(Exception):  # noqa: N818 - not a failure: the metric gives null with this as the reason
    """A metric cannot be had here; the text is the reason that the table shows."""


# --------------------------------------------------------------------------------------------------- parameters


def parameter_file(key: str, path: str | Path | None = None) -> Path:
    """The parameters of the metric ``key``: ``path``, else in torch hub's pyiqa folder or our store, else downloaded.

    A file that was not named is the published one, or at least the one that was used here before.

    Raises:
        Unavailable: they are nowhere, and downloads are off (``HF_HUB_OFFLINE``, ``MRSR_BENCH_OFFLINE``) or failed, or
            the file is another one.
    """
    import torch.hub

    name = PARAMETER_FILES[key]
    if path is not None:
        if not Path(path).is_file():
            raise Unavailable(f"{path}: no such parameter file")
        return Path(path)
    for folder in (Path(torch.hub.get_dir()) / "pyiqa", store()):
        if (folder / name).is_file():
            return _pinned(folder / name)
    url = PARAMETER_URL.format(name=name)
    where = f"put {url} into $MRSR_BENCH_HOME/pyiqa"
    if offline := offline_by():
        raise Unavailable(f"the parameters {name} are not here and {offline} forbids downloads; {where}")
    if name not in _failed_downloads:
        try:
            return _pinned(_download(url, name))
        except Unavailable:
            raise
        except Exception as error:  # pooch passes on whatever its transport raises
            _failed_downloads[name] = type(error).__name__
    raise Unavailable(
        f"the parameters {name} are not here and their download failed ({_failed_downloads[name]}); {where}"
    )


def store() -> Path:
    """Our folder of metric parameters: ``$MRSR_BENCH_HOME/pyiqa``, by default in the user's cache."""
    import platformdirs

    home = os.environ.get("MRSR_BENCH_HOME") or platformdirs.user_cache_dir("mrsr-bench")
    return Path(home) / "pyiqa"


def offline_by() -> str | None:
    """The environment variable that forbids downloads, with its value; None if none does."""
    for variable in ("HF_HUB_OFFLINE", "MRSR_BENCH_OFFLINE"):
        if os.environ.get(variable, "").strip().lower() in {"1", "on", "yes", "true"}:
            return f"{variable}={os.environ[variable]}"
    return None


def _download(url: str, name: str) -> Path:
    import pooch

    fetched = pooch.retrieve(
        url,
        known_hash=f"sha256:{PARAMETER_SHA256[name]}" if name in PARAMETER_SHA256 else None,
        fname=name,
        path=store(),
        downloader=pooch.HTTPDownloader(timeout=DOWNLOAD_TIMEOUT, progressbar=False),
    )
    return Path(fetched)


def _pinned(file: Path) -> Path:
    """``file``, if it is the published one or, where that is not known, the one of its first use here."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    published = PARAMETER_SHA256.get(file.name)
    if published is not None and digest != published:
        raise Unavailable(
            f"{file} is not the published file (sha256 {digest[:16]}, expected {published[:16]}); delete it, or name "
            "your own file explicitly"
        )
    if published is None:
        _hold_to_first_use(file, digest)
    return file


def _hold_to_first_use(file: Path, digest: str) -> None:
    lock = store() / LOCK
    try:
        known = json.loads(lock.read_text(encoding="utf-8")) if lock.is_file() else {}
        first = known.get(file.name)
    except (OSError, ValueError, AttributeError) as error:
        raise Unavailable(f"{lock} is not readable ({type(error).__name__}); delete it") from error
    if first is None:
        with contextlib.suppress(UserError):  # a store that cannot be written; every run records the digest besides
            write_text(lock, json.dumps({**known, file.name: digest}, indent=2, sort_keys=True) + "\n")
    elif first != digest:
        raise Unavailable(
            f"{file} has changed since its first use here (sha256 {digest[:16]}, then {str(first)[:16]}); put the old "
            f"file back, or take its line out of {lock} if the new one is meant"
        )


def _load_mat(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(file)
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise Unavailable(f"{file} is not a readable parameter file ({type(error).__name__}); delete it") from error
    return content


# ------------------------------------------------------------------------------------------------------ measures


def niqe_measure(file: Path) -> Measure:
    """NIQE of one slice (values 0 to 255) with the pristine model in ``file``.

    Raises:
        Unavailable: the file is damaged or holds no NIQE model.
    """
    import numpy as np
    import torch
    from pyiqa.archs.niqe_arch import niqe

    content = _load_mat(file)
    if not {"mu_prisparam", "cov_prisparam"} <= set(content):
        raise Unavailable(f"{file} holds no NIQE model; delete it")
    mean = torch.from_numpy(np.asarray(content["mu_prisparam"], dtype=np.float64).reshape(1, -1))
    covariance = torch.from_numpy(np.asarray(content["cov_prisparam"], dtype=np.float64))[None]

    def measure(image: Image) -> float:
        flat = without_flat_level(image)
        return float(niqe(torch.from_numpy(flat)[None, None], mean, covariance))

    return measure


def without_flat_level(image: Image) -> Image:
    """``image`` minus its most frequent flat level, so that this level is exactly zero; the same if nothing is flat."""
    import numpy as np

    levels, counts = np.unique(image[:, 1:][image[:, 1:] == image[:, :-1]], return_counts=True)
    return image - levels[counts.argmax()] if levels.size else image


def ma_measure(file: Path) -> Measure:
    """The score of Ma et al. (0 to 10, higher is better) of one slice (values 0 to 255) with the forests in ``file``.

    Raises:
        Unavailable: the file is damaged or holds no such model.
    """
    import torch
    from pyiqa.archs.nrqm_arch import NRQM, nrqm

    content = _load_mat(file)
    if "model" not in content:
        raise Unavailable(f"{file} holds no model of Ma et al.; delete it")
    model = NRQM(pretrained_model_path=str(file))

    def measure(image: Image) -> float:
        return float(nrqm(torch.from_numpy(image)[None, None], model.linear_param, model.rf_params_list))

    return measure


def piqe_measure() -> Measure:
    """PIQE (0 to 100, lower is better) of one slice, padded symmetrically to multiples of 16."""
    import numpy as np
    import torch
    from pyiqa.archs.piqe_arch import piqe

    def measure(image: Image) -> float:
        padded = np.pad(image, [(0, -size % PIQE_BLOCK) for size in image.shape], mode="symmetric")
        return float(piqe(torch.from_numpy(padded)[None, None])[0])

    return measure


# -------------------------------------------------------------------------------------------------------- scores


def no_reference_scores(comparison: Comparison, keys: Sequence[str]) -> list[Score]:
    """niqe, niqe_matlab, ma, pi, piqe: a score of every slice with enough foreground, and their mean.

    A metric that cannot be had (no pyiqa, no parameters, slices too small) gives None with the reason.
    """
    import numpy as np

    reference = comparison.reference
    axis = slice_axis(reference.mask.shape, reference.degraded_axes, whole_plane=False)
    indices = foreground_slices(reference.mask, axis)
    if not indices:
        return [Score(key, None, reason="no slice has more than 25 % foreground") for key in keys]
    volume = np.moveaxis(comparison.sr, axis, 0)
    slices = [np.clip(volume[index].astype(np.float64) / reference.range, 0, 1) * 255 for index in indices]
    values: dict[str, list[float | str]] = {}

    def value_of(key: str) -> list[float | str]:
        if key not in values:
            try:
                values[key] = measured_slices(key, slices, comparison.parameters)
            except Unavailable as error:
                values[key] = [str(error)] * len(slices)
        return values[key]

    for key in keys:
        if key == "pi":
            ma = value_of("ma")
            niqe = value_of("niqe") if any(isinstance(value, float) for value in ma) else ma
            values[key] = [_perceptual_index(*parts) for parts in zip(ma, niqe, strict=True)]
        else:
            value_of(key)
    shape = slices[0].shape
    return [result for key in keys for result in _scores(key, indices, values[key], shape)]


def measured_slices(
    key: str, slices: Sequence[Image], parameters: Mapping[str, Path] = MappingProxyType({})
) -> list[float | str]:
    """The value of every slice (0 to 255, of one shape), or the reason why it has none.

    Raises:
        Unavailable: no slice can have one.
    """
    import torch

    if importlib.util.find_spec("pyiqa") is None:
        raise Unavailable("pyiqa is not installed; pip install 'mrsr-bench[perceptual]'")
    if not slices:
        raise Unavailable("there is no slice to look at")
    blocks = [size // NIQE_BLOCK for size in slices[0].shape]
    if key.startswith("niqe") and min(blocks) < 2:
        size = "x".join(map(str, slices[0].shape))
        raise Unavailable(f"slices of {size} voxels hold fewer than 2x2 NIQE blocks of {NIQE_BLOCK} pixels")
    file = parameter_file(key, parameters.get(key)) if key in PARAMETER_FILES else None
    with _quiet_stdout(), torch.inference_mode():
        try:
            measure = _measure(key, file)
        except ImportError as error:
            raise Unavailable(f"pyiqa cannot be imported ({error}); reinstall 'mrsr-bench[perceptual]'") from error
        return _values(measure, slices)


def _values(measure: Measure, slices: Sequence[Image]) -> list[float | str]:
    """The value of every slice, one slice per thread: a large stack has hundreds, at a fifth of a second each."""
    return in_threads(partial(_value, measure), slices)


def _measure(key: str, file: Path | None) -> Measure:
    if file is None:
        return piqe_measure()
    return ma_measure(file) if key == "ma" else niqe_measure(file)


def _value(measure: Measure, image: Image) -> float | str:
    try:
        value = measure(image)
    except (RuntimeError, ValueError, IndexError) as error:
        return f"pyiqa cannot measure it: {' '.join(str(error).split())[:120] or type(error).__name__}"
    return value if math.isfinite(value) else "the slice is flat"


def _perceptual_index(ma: float | str, niqe: float | str) -> float | str:
    """PI = ((10 - Ma) + NIQE) / 2 (PIRM 2018), here without its shaving of 4 pixels."""
    if isinstance(ma, str):
        return f"needs ma: {ma}"
    if isinstance(niqe, str):
        return f"needs niqe: {niqe}"
    return 0.5 * ((10 - ma) + niqe)


def _scores(key: str, indices: Sequence[int], values: Sequence[float | str], shape: tuple[int, ...]) -> Iterator[Score]:
    known = [value for value in values if isinstance(value, float)]
    reasons = [value for value in values if isinstance(value, str)]
    if not known:
        yield Score(key, None, reason=reasons[0])
        return
    marks = []
    if key.startswith(("niqe", "pi")) and key != "piqe" and min(size // NIQE_BLOCK for size in shape) < 4:
        marks.append(FEW_BLOCKS)
    if reasons:
        marks.append(f"{len(reasons)} of {len(values)} slices gave no value: {reasons[0]}")
    yield Score(key, math.fsum(known) / len(known), mark="; ".join(marks) or None)
    for index, value in zip(indices, values, strict=True):
        if isinstance(value, float):
            yield Score(key, value, index)
        else:
            yield Score(key, None, index, reason=value)


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """What pyiqa prints goes to stderr: stdout belongs to the command's own answer."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


_SLICES = (
    "per slice of the largest plane with a degraded axis, foreground above 25 %, clip(volume / q, 0, 1) x 255 as "
    "float; q = 99.9th percentile of the HR voxels above the HR mean; mean over slices"
)
_NIQE = "not rounded to 8 bits; flat background shifted to zero; at least 2x2 blocks of 96 pixels, marked below 4x4"


def _spec(name: str, units: str, summary: str, source: str, convention: str, *, higher: bool = False) -> MetricSpec:
    return MetricSpec(
        name=name,
        version=1,
        direction="higher" if higher else "lower",
        units=units,
        summary=summary,
        source=source,
        convention=f"{_SLICES}; {convention}",
        ranked=False,
        reference=False,
        compute=f"{__name__}:no_reference_scores",
    )


METRICS: tuple[MetricSpec, ...] = (
    _spec("niqe", "1", "natural image quality, LIVE's model", "Mittal et al. 2013, IEEE SPL 20:209", _NIQE),
    _spec("niqe_matlab", "1", "natural image quality, MATLAB's model", "MATLAB niqe, Mittal et al. 2013", _NIQE),
    _spec(
        "ma",
        "1",
        "learned quality of super-resolved images",
        "Ma et al. 2017, CVIU 158:1",
        "grey slice, not rounded, not shaved",
        higher=True,
    ),
    _spec(
        "pi",
        "1",
        "perceptual index",
        "Blau et al. 2018, PIRM challenge",
        "((10 - ma) + niqe) / 2 per slice, both as under their own keys, not shaved",
    ),
    _spec(
        "piqe",
        "1",
        "perception-based image quality",
        "Venkatanath et al. 2015, NCC",
        "padded symmetrically to multiples of 16; scaled by the slice's maximum and rounded, as PIQE itself does",
    ),
)
