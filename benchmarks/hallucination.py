"""The hallucination check: what does a method add that was not measured, and does it keep what was?

Two answers. *Bands*: the error of SR where LR was measured and where it was not (`metrics.fidelity`): above 1 outside
the band, more was invented than found. *Lesions*: synthetic lesions are added to HR before it is degraded, the same LR
is upscaled with and without them, and the difference of the two is compared with what was added: the contrast that is
recovered, and the change that appears where nothing was added. Interpolations show what the measurement itself allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.entrants import FIRST_PROTOCOL
from mrsr_bench.benchmarks.protocol import Protocol, get_protocol, subject_seed

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mrsr_bench.benchmarks.dataset import Case, Pair
    from mrsr_bench.benchmarks.degradation import Degradation
    from mrsr_bench.benchmarks.evaluate import Notify
    from mrsr_bench.benchmarks.lesions import Lesion
    from mrsr_bench.benchmarks.metrics.region import Reference
    from mrsr_bench.volume import FloatArray, Volume
    from mrsr_bench.zoo.inference import LoadedMethod

CONTEXT_VOXELS = 16
"""What a network sees of the image beyond the part around a lesion that is compared."""
REACH_LR_VOXELS = 2.0
"""How far from a lesion's rim its change is looked for."""
BANDS = ("in_band_error", "out_of_band_error", "data_consistency")


@dataclass(frozen=True)
class Request:
    """What ``mrsr-bench hallucinate`` was asked for; ``bands``: also upscale whole volumes and compare spectra."""

    models: Sequence[str]
    dataset: str
    protocol: str | None = None
    split: str | None = None
    subjects: int | None = 1
    suffix: str | None = None
    lesions: int = 6
    bands: bool = True
    device: str = "auto"
    seed: int = 0


def hallucination_check(request: Request, notify: Notify | None = None) -> dict[str, Any]:
    """Band errors and lesions of every method and subject, as a JSON-able object.

    Raises:
        UserError: a name is unknown, the protocol's LR is a real scan, a method cannot do the protocol, or no image
            has room for a lesion.
    """
    from mrsr_bench.benchmarks.datasets import open_dataset
    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.entrants import Admission
    from mrsr_bench.benchmarks.evaluate import by_subject, default_split, model_names
    from mrsr_bench.benchmarks.provenance import choose_device, exact_float32
    from mrsr_bench.zoo.methods import methods

    if not 1 <= request.lesions <= 100:
        raise UserError(f"--lesions is 1 to 100; got {request.lesions}")
    if request.subjects is not None and request.subjects < 1:
        raise UserError(f"--subjects must be at least 1; got {request.subjects}")
    protocol = get_protocol(request.protocol or FIRST_PROTOCOL)
    if not protocol.simulates_lr:
        raise UserError(
            f"the LR of {protocol.name} is a real scan, so no lesion can be put into it; "
            "choose a protocol whose LR is made from HR"
        )
    specs = {name: methods.get(name) for name in model_names(request.models)}
    dataset = open_dataset(request.dataset, suffix=request.suffix)
    split = request.split or default_split(dataset, protocol)
    subjects = by_subject(dataset.cases(split, seed=request.seed), request.subjects)
    if not subjects:
        raise UserError(f"{dataset.name} has no subject in the split {split}")
    degradation = degradations.get(protocol.degradation)
    admission = Admission(protocol, degradation, {}, dataset, request.seed, choose_device(request.device))
    loaded = {name: admission.load(name, spec, admission.device) for name, spec in specs.items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in loaded}
    done, total = 0, len(subjects) * len(loaded)
    with exact_float32():
        for subject, cases in subjects.items():
            study = _study(cases[0], degradation, protocol, request)
            for name, method in loaded.items():
                if notify is not None:
                    notify(f"{subject}: {name}", done, total)
                found[name][subject] = study.examine(method, bands=request.bands)
                done += 1
    return {
        "dataset": dataset.name,
        "split": split,
        "protocol": protocol.name,
        "protocol_hash": protocol.hash,
        "subjects": list(subjects),
        "seed": request.seed,
        "convention": "recovery: projection of (SR with - SR without lesion) on the lesion, 1 is all of its contrast; "
        f"spill: norm of that difference outside the lesion, within {REACH_LR_VOXELS:g} LR voxels of it, over the "
        "lesion's norm; bands as the metrics in_band_error and out_of_band_error",
        "methods": [_stated(name, method, found[name]) for name, method in loaded.items()],
    }


@dataclass(frozen=True, eq=False)
class Study:
    """One subject: its pair, the lesions, and LR with all of them in it."""

    pair: Pair
    reference: Reference
    degradation: Degradation
    lesions: Sequence[Lesion]
    with_lesions: Volume

    def examine(self, method: LoadedMethod, *, bands: bool) -> dict[str, Any]:
        """Lesions one by one and, with ``bands``, the scores of `BANDS`."""
        found: dict[str, Any] = {"lesions": [self._lesion(method, lesion) for lesion in self.lesions]}
        if bands:
            from mrsr_bench.benchmarks.metrics import score

            sr = method.upscale(self.pair.lr, self.pair.hr.grid).data
            scores = score(
                sr, self.reference, BANDS, lr=self.pair.lr, degradation=self.degradation, params=self.pair.params
            )
            found["bands"] = {s.metric: s.value for s in scores}
            found["reasons"] = {s.metric: s.reason for s in scores if s.reason}
        return found

    def _lesion(self, method: LoadedMethod, lesion: Lesion) -> dict[str, Any]:
        import numpy as np

        grid = self.pair.hr.grid
        reach = [REACH_LR_VOXELS * max(self.pair.lr.spacing)] * 3
        inner = lesion.box(grid, reach)
        outer = lesion.box(grid, [wide + CONTEXT_VOXELS * h for wide, h in zip(reach, grid.spacing, strict=True)])
        target = grid.cropped([s.start for s in outer], [s.stop for s in outer])
        kept = tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
        without, present = (method.upscale(lr, target).data[kept] for lr in (self.pair.lr, self.with_lesions))
        if not (np.isfinite(without).all() and np.isfinite(present).all()):
            raise UserError(f"{method.resolved} gave voxels that are NaN or infinite, which cannot be compared")
        added = lesion.field(grid, inner)
        place = grid.affine @ np.array([*lesion.centre, 1.0])
        return {
            "centre_mm": [round(float(v), 3) for v in place[:3]],
            "radius_mm": lesion.radius,
            "amplitude": lesion.amplitude,
            **measures(present - without, added),
        }


def measures(change: FloatArray, added: FloatArray) -> dict[str, float]:
    """``recovery`` and ``spill`` of SR's ``change`` for what was ``added`` to HR."""
    import numpy as np

    from mrsr_bench.benchmarks.lesions import recovery

    outside = change[added == 0].astype(np.float64)
    norm = math.sqrt(float(np.vdot(added.astype(np.float64), added)))
    return {"recovery": recovery(change, added), "spill": math.sqrt(float(np.vdot(outside, outside))) / norm}


def _study(case: Case, degradation: Degradation, protocol: Protocol, request: Request) -> Study:
    """LR with lesions is LR plus what the degradation makes of them, so that the phantom's LR stays its own.

    All is in the intensities that the protocol states: 8 bits round the lesions too.
    """
    from mrsr_bench.benchmarks.intensities import as_stated, unit_of
    from mrsr_bench.benchmarks.lesions import draw_lesions
    from mrsr_bench.benchmarks.metrics.region import reference_of

    hr = case.hr()
    acquired = case.acquire(degradation, protocol.settings, request.seed)
    pair, unit = as_stated(acquired, protocol), unit_of(acquired, protocol)
    reference = reference_of(pair.hr, pair.lr)
    lesions = draw_lesions(pair, reference, request.lesions, subject_seed(request.seed, f"{case.subject}:lesions"))
    start = degradation.geometry(hr.grid, pair.params).start
    whole = hr.data.copy()
    for lesion in lesions:
        box = lesion.box(pair.hr.grid, (2.0, 2.0, 2.0))
        whole[tuple(slice(s.start + first, s.stop + first) for s, first in zip(box, start, strict=True))] += (
            unit * lesion.field(pair.hr.grid, box)
        )
    changed = degradation.apply(hr.with_data(whole), pair.params).data - degradation.apply(hr, pair.params).data
    present = as_stated(replace(acquired, lr=acquired.lr.with_data(acquired.lr.data + changed)), protocol)
    return Study(pair, reference, degradation, lesions, present.lr)


def _stated(name: str, method: LoadedMethod, by_subject: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over subjects (lesions within a subject averaged first), by radius too, and everything one by one."""
    lesions = {subject: found["lesions"] for subject, found in by_subject.items()}
    radii = sorted({lesion["radius_mm"] for of_subject in lesions.values() for lesion in of_subject})
    stated: dict[str, Any] = {
        "model": name,
        "resolved": method.resolved,
        "weights_sha256": method.weights_sha256,
        "recovery": _mean_of(lesions, "recovery"),
        "recovery_by_radius_mm": {f"{radius:g}": _mean_of(lesions, "recovery", radius) for radius in radii},
        "spill": _mean_of(lesions, "spill"),
    }
    for key in BANDS:
        values = [found["bands"][key] for found in by_subject.values() if "bands" in found]
        known = [value for value in values if value is not None]
        if values:
            stated[key] = math.fsum(known) / len(known) if len(known) == len(values) else None
    return {**stated, "per_subject": dict(by_subject)}


def _mean_of(lesions: Mapping[str, Sequence[Mapping[str, Any]]], key: str, radius: float | None = None) -> float:
    means = []
    for of_subject in lesions.values():
        values = [lesion[key] for lesion in of_subject if radius in (None, lesion["radius_mm"])]
        if values:
            means.append(math.fsum(values) / len(values))
    return math.fsum(means) / len(means)


def table(found: Mapping[str, Any]) -> RenderableType:
    """Methods by what they keep and what they add."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    rows = found["methods"]
    radii = list(dict.fromkeys(radius for row in rows for radius in row["recovery_by_radius_mm"]))
    bands = [key for key in BANDS if any(key in row for row in rows)]
    count = len(found["subjects"])
    shown = Table(title=escape(f"{found['dataset']}, {found['protocol']}, {count} subject(s)"))
    shown.add_column("method")
    for header in [
        "recovery",
        *(f"{radius} mm" for radius in radii),
        "spill",
        *(key.replace("_", " ") for key in bands),
    ]:
        shown.add_column(header, justify="right")
    for row in rows:
        by_radius = [row["recovery_by_radius_mm"].get(radius) for radius in radii]
        values = [row["recovery"], *by_radius, row["spill"], *(row.get(key) for key in bands)]
        cells = ["–" if value is None else f"{value:.3f}" for value in values]
        shown.add_row(escape(row["model"]), *cells)
    return Group(shown, escape(found["convention"]))
