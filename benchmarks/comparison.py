"""Two stored runs against each other, and one pair of files scored: what `mrsr-bench compare` and `score` do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.evaluate import in_family
from mrsr_bench.benchmarks.intensities import as_stated
from mrsr_bench.benchmarks.metrics import known_metrics
from mrsr_bench.benchmarks.protocol import get_protocol, subject_seed
from mrsr_bench.benchmarks.results import plain, read_run
from mrsr_bench.benchmarks.statistics import corrected, paired

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mrsr_bench.benchmarks.protocol import Protocol
    from mrsr_bench.volume import Volume

SAME_GRID_VOXELS = 0.01
"""How far SR's voxels may lie from HR's, in voxels, and still be scored."""


def compare_runs(
    first: str | Path, second: str | Path, *, seed: int = 0, metrics: Sequence[str] = ()
) -> dict[str, Any]:
    """Paired differences (first minus second) per metric over the subjects that both runs have; Holm over the metrics.

    These are the protocol's and data consistency; ``metrics`` that the runs hold too join them. ``further`` in what is
    returned are those that could.

    Raises:
        UserError: a run cannot be read, they are of different protocols or datasets, or share no subject; a metric is
            unknown.
    """
    asked = known_metrics(metrics)
    a, b = read_run(first), read_run(second)
    if a["protocol_hash"] != b["protocol_hash"]:
        raise UserError(
            f"the runs are not comparable: {a['protocol']} ({a['protocol_hash'][:8]}) and {b['protocol']} "
            f"({b['protocol_hash'][:8]}) are different protocols; run one of them again under the other's"
        )
    for key, what in (("dataset", "datasets"), ("seed", "seeds")):
        if a.get(key) != b.get(key):
            raise UserError(f"the runs are not comparable: different {what} ({a.get(key)} and {b.get(key)})")
    common = [subject for subject in a["subjects"] if subject in b["subjects"]]
    if not common:
        raise UserError("the runs have no subject in common, so nothing can be paired")
    _same_images(a, b, common)
    found: dict[str, dict[str, Any]] = {}
    pairs = {}
    further = []
    for key in dict.fromkeys((*a["scores"], *asked)):
        score, theirs = (run["scores"].get(key, {}) for run in (a, b))
        if not in_family(key, a["protocol_content"]["metrics"], asked):
            further += [key] if score.get("per_subject") and theirs.get("per_subject") else []
            continue
        if not score.get("per_subject") or not theirs.get("per_subject"):
            reason = score.get("reason") or theirs.get("reason") or f"{key} is not in both runs"
            found[key] = {"n": 0, "mean": None, "ci95": None, "p": None, "effect": None, "reason": reason}
            continue
        pairs[key] = paired(score["per_subject"], theirs["per_subject"], seed=seed)
        found[key] = {}
    for key, pair in corrected(pairs).items():
        found[key] = {
            "n": pair.n,
            "mean": pair.mean,
            "ci95": pair.ci95,
            "p": pair.p,
            "effect": pair.effect,
            "per_subject": pair.differences,
            **({"reason": pair.reason} if pair.reason else {}),
            **({} if pair.p_holm is None else {"p_holm": pair.p_holm, "stars": pair.stars}),
        }
    return dict(
        plain(
            {
                "protocol": a["protocol"],
                "protocol_hash": a["protocol_hash"],
                "dataset": a["dataset"],
                "a": _name(a),
                "b": _name(b),
                "subjects": common,
                "left_out": sorted(set(a["subjects"]) ^ set(b["subjects"])),
                "differences": found,
                "further": further,
            }
        )
    )


def _name(run: dict[str, Any]) -> dict[str, Any]:
    return {key: run.get(key) for key in ("model", "resolved", "weights_sha256", "key")}


def _same_images(a: dict[str, Any], b: dict[str, Any], subjects: list[str]) -> None:
    """A subject's name is not enough: both runs must have scored the same images."""
    for subject in subjects:
        prints = [
            [(image["image"], image["fingerprint"]) for image in run["pieces"][subject]["images"]] for run in (a, b)
        ]
        if prints[0] != prints[1]:
            raise UserError(
                f"the runs are not comparable: the images of {subject} differ between them; run both on the same data"
            )


def score_files(
    sr_path: Path, hr_path: Path, *, protocol: str | None = None, seed: int = 0, subject: str | None = None
) -> dict[str, Any]:
    """Score one SR file against its HR file; with ``protocol``, on the region that its degradation leaves.

    Without a protocol the region is HR's mask and the metrics are those of the table. SR may lie on all of the HR grid
    or on the part of it that LR covers. What is random in a degradation is drawn from ``seed`` and ``subject`` as in a
    run; by default the subject is what a run on the HR file alone would call it.

    Raises:
        UserError: a file cannot be read, SR does not lie on the HR grid, or the protocol has no reference.
    """
    from mrsr_bench.volume import load

    chosen = None if protocol is None else get_protocol(protocol)
    if chosen is not None and (chosen.of_real_pairs or not chosen.has_reference):
        what = (
            "compares real pairs" if chosen.of_real_pairs else "has no reference, so there is nothing to score against"
        )
        raise UserError(f"{chosen.name} {what}; use `mrsr-bench run`")
    sr, hr = load(sr_path), load(hr_path)
    if chosen is None:
        return _scored(_on_grid(sr, hr, sr_path), hr, None, None, seed)
    import numpy as np

    from mrsr_bench.benchmarks.dataset import Pair
    from mrsr_bench.benchmarks.datasets.folder import FolderDataset
    from mrsr_bench.benchmarks.degradations import degradations

    subject = subject or FolderDataset(hr_path).cases()[0].subject
    degradation = degradations.get(chosen.degradation)
    params = degradation.sample(np.random.default_rng(subject_seed(seed, subject)), hr, chosen.settings)
    place = degradation.geometry(hr.grid, params)
    reference_hr = degradation.reference(hr, params)
    if sr.grid.same_as(hr.grid, SAME_GRID_VOXELS):
        sr = sr.cropped(place.start, place.stop)
    sr = _on_grid(sr, reference_hr, sr_path)
    pair = as_stated(Pair(degradation.apply(hr, params), reference_hr, params), chosen)
    return _scored(sr, pair.hr, chosen, (pair.lr, degradation, params), seed) | {"subject": subject}


def _on_grid(sr: Volume, hr: Volume, path: Path) -> Volume:
    if not sr.grid.same_as(hr.grid, SAME_GRID_VOXELS):
        raise UserError(
            f"{path.name}: does not lie on the HR grid (shape {sr.data.shape}, expected {hr.data.shape}, and the same "
            "affine); nothing is resampled for scoring, so upscale onto the HR grid first"
        )
    return sr


def _scored(
    sr: Volume, hr: Volume, protocol: Protocol | None, made: tuple[Any, Any, Any] | None, seed: int
) -> dict[str, Any]:
    from mrsr_bench.benchmarks.metrics import metrics, score
    from mrsr_bench.benchmarks.metrics.region import reference_of
    from mrsr_bench.benchmarks.statistics import finite
    from mrsr_bench.benchmarks.summary import TABLE_METRICS

    keys = TABLE_METRICS if protocol is None else protocol.metrics
    lr, degradation, params = made or (None, None, None)
    reference = reference_of(hr, lr)
    scores: dict[str, dict[str, Any]] = {}
    for found in score(sr.data, reference, keys, lr=lr, degradation=degradation, params=params):
        if found.slice is not None:
            continue
        value = finite(found.value)
        entry = {"value": value, "convention": metrics.get(found.metric).convention}
        if value is None:
            entry["reason"] = found.reason or "the value is not finite"
        if found.mark:
            entry["mark"] = found.mark
        scores[found.metric] = entry
    return dict(
        plain(
            {
                "protocol": None if protocol is None else protocol.name,
                "protocol_hash": None if protocol is None else protocol.hash,
                "degradation_params": params,
                "seed": seed,
                "range": reference.range,
                "mask_sha256": reference.mask_sha256,
                "region_voxels": int(reference.region.sum()),
                "scores": scores,
            }
        )
    )
