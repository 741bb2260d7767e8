"""Can the numbers of a submission be true: by arithmetic, and beside what was accepted on the same subjects?

Every function gives problems as sentences; doubts, which are for a person to look at, it adds to a list.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from mrsr_bench.benchmarks.protocol import get_protocol, protocol_names
from mrsr_bench.leaderboards.schema import Score, Submission, file_name_of

NOISE_FREE = "_noise_free"
_PSNR, _SSIM, _NRMSE, _NIQE, _OVERLAP = (-20.0, 70.0), (-1.0, 0.99999), (1e-4, 1e3), (0.0, 1e3), (0.0, 0.99999)
_PERIOD_MM = (0.02, 1e3)
POSSIBLE: dict[str, tuple[float, float]] = {
    "psnr": _PSNR,
    "psnr_slice": _PSNR,
    "psnr_volume": _PSNR,
    "ssim": _SSIM,
    "ssim_slice": _SSIM,
    "ssim_volume": _SSIM,
    "nrmse": _NRMSE,
    "nrmse_slice": _NRMSE,
    "nrmse_volume": _NRMSE,
    "rmse": (0.0, 1e12),
    "hfen": (1e-4, 1e3),
    "gmsd": (1e-5, 0.5),
    "in_band_error": (0.0, 1e3),
    "out_of_band_error": (1e-4, 1e3),
    "resolution": _PERIOD_MM,
    "resolution_r": _PERIOD_MM,
    "resolution_a": _PERIOD_MM,
    "resolution_s": _PERIOD_MM,
    "data_consistency": (0.0, 1e3),
    "niqe": _NIQE,
    "niqe_matlab": _NIQE,
    "piqe": (0.0, 100.0),
    "ma": (-10.0, 20.0),
    "pi": (-10.0, 1e3),
    "lpips": (1e-6, 10.0),
    "dists": (1e-6, 2.0),
    "tissue_dice": _OVERLAP,
    "tissue_jaccard": _OVERLAP,
    "tissue_volume_bias": (-1.0, 1e3),
    "parcellation_dice": _OVERLAP,
    "parcellation_jaccard": _OVERLAP,
    "parcellation_volume_bias": (-1.0, 1e3),
}
"""Values that a degradation leaves possible: its loss and float32 forbid a perfect restoration. Those of ``psnr`` are
for ``psnr_noise_free`` too, and so on; Ma regresses opinions from 0 to 10, and has room here."""
REQUIRED = ("psnr", "ssim", "nrmse")
"""What an entry must bring, as far as its protocol takes it."""
CONTINUOUS = ("psnr", "ssim", "nrmse", "hfen", "gmsd", "out_of_band_error", "niqe", "pi")
"""Metrics that are the same to the last digit only where the images are."""
WITHIN = {"psnr": 0.01, "ssim": 1e-3}
"""How far a value that is computed again may be off, in its units: dB for PSNR."""
WITHIN_SHARE = {"nrmse": 2e-3, "niqe": 1e-2}
"""How far, as a share of the stated value."""
OTHERWISE = (1e-3, 0.05)
"""How far a value of any other metric may be off, and the share of the stated value that comes on top."""
DYNAMIC_DB = (0.0, 40.0)
"""20 log10 of the range over the root mean square of HR: psnr + 20 log10(nrmse), whatever the method."""
LARGEST_GAIN_DB = 12.0
"""Over the best interpolation of the same subject; what papers report stays below 8 dB."""
SAME_DB = 0.01
"""The range of one HR agrees so far, whatever computed it."""
SEVERAL_DB = 1.0
"""The same for the mean over several images of one subject, whose PSNR a method may change by different amounts."""
ALIKE_DB = 0.002
"""Two networks that were trained apart differ by more than this on one of several subjects."""
COSTS = {"seconds_per_volume": (1e-4, 1e6), "peak_memory_mb": (1.0, 1e8)}
"""What no method goes below or above: a tenth of a millisecond and twelve days, 1 MiB and 100 TiB."""
USUAL_PARAMETERS = (100, 10**11)
USUAL_HOURS = (0.01, 1e6)


def required_metrics(protocol: str) -> tuple[str, ...]:
    """Those of `REQUIRED` that a protocol takes; none of one that is unknown, which is a problem of its own."""
    return tuple(key for key in REQUIRED if protocol in protocol_names() and key in get_protocol(protocol).metrics)


def agrees(key: str, value: float, wanted: float) -> bool:
    """Whether a value of a metric, computed again, is the one that was stated."""
    kind = key.removesuffix(NOISE_FREE).removesuffix("_slice").removesuffix("_volume").removesuffix("_matlab")
    least, share = OTHERWISE
    if kind in WITHIN or kind in WITHIN_SHARE:
        least, share = WITHIN.get(kind, 0.0), WITHIN_SHARE.get(kind, 0.0)
    return abs(value - wanted) <= least + share * abs(wanted)


def values_of(one: Submission, key: str) -> dict[str, float]:
    """The value of each subject that has one."""
    score: Score | None = one.scores.get(key)
    return {} if score is None else _known(score)


def _known(score: Score) -> dict[str, float]:
    return {subject: value for subject, value in score.per_subject.items() if value is not None}


def _dynamic_db(one: Submission) -> dict[str, float]:
    """20 log10(range / root mean square of HR) of each subject, from PSNR and NRMSE; the same for every method.

    Of several images it is a mean only nearly: mean logarithms are not logarithms of means.
    """
    psnr, nrmse = values_of(one, "psnr"), values_of(one, "nrmse")
    return {s: psnr[s] + 20 * math.log10(nrmse[s]) for s in psnr.keys() & nrmse.keys() if nrmse[s] > 0}


def complete(one: Submission) -> Iterator[str]:
    """The metrics that its protocol is about, of the same subjects; on hidden heads, too."""
    if not any(score.n for score in one.scores.values()):
        yield "it has no value of any metric"
        return
    required = required_metrics(one.protocol)
    scored: list[tuple[Mapping[str, Score], str]] = [(one.scores, one.dataset)]
    if one.rehearsal is not None:
        scored.append((one.rehearsal.scores, "hidden heads"))
    for scores, where in scored:
        known = {key: _known(scores[key]).keys() if key in scores else set() for key in required}
        for key in required:
            lacking = set().union(*known.values()) - known[key]
            if not known[key]:
                yield f"it has no {key} ({where}), which {one.protocol} takes"
            elif lacking:
                yield f"it has no {key} of {min(lacking)} ({where}), which has other scores"


def possible(one: Submission) -> Iterator[str]:
    """Values within the bounds of their metrics, and of one image where two metrics tell."""
    for scores, where in ((one.scores, one.dataset), (one.rehearsal.scores if one.rehearsal else {}, "hidden heads")):
        for key, score in scores.items():
            low, high = POSSIBLE.get(key.removesuffix(NOISE_FREE), (-math.inf, math.inf))
            for subject, value in _known(score).items():
                if not low <= value <= high:
                    yield f"{key} of {subject} ({where}) is {value:g}, which no degradation allows"
    for subject, level in _dynamic_db(one).items():
        if not DYNAMIC_DB[0] <= level <= DYNAMIC_DB[1]:
            yield f"psnr and nrmse of {subject} cannot be of one image: its range would be {level:.1f} dB over its mean"
    for key in CONTINUOUS:
        values = list(values_of(one, key).values())
        if len(values) > 2 and len(set(values)) == 1:
            yield f"{key} is {values[0]:g} for every subject"


def costs(one: Submission, doubts: list[str]) -> Iterator[str]:
    """Time, memory, parameters and hours that something real may have."""
    for name, (low, high) in COSTS.items():
        value = getattr(one, name)
        if value is not None and not low <= value <= high:
            yield f"{name} is {value:g}, which no method can have"
    if one.hardware.cores == 0 or one.hardware.memory_mb == 0:
        yield "its hardware has no core or no memory"
    if one.kind == "network":
        if one.parameters == 0:
            yield "it is a network without parameters"
        elif one.parameters is not None and not USUAL_PARAMETERS[0] <= one.parameters <= USUAL_PARAMETERS[1]:
            doubts.append(f"it states {one.parameters} parameters; is that so?")
    hours = None if one.training is None else one.training.hours
    if hours is not None and not USUAL_HOURS[0] <= hours <= USUAL_HOURS[1]:
        doubts.append(f"it states {hours:.2g} h of training; is that so?")


def against(one: Submission, others: Sequence[Submission], doubts: list[str]) -> Iterator[str]:
    """What accepted results on the same subjects under the same protocol make impossible."""
    mine, level = values_of(one, "psnr"), _dynamic_db(one)
    best: dict[str, float] = {}
    for other in others:
        theirs = values_of(other, "psnr")
        shared = mine.keys() & theirs.keys()
        if one.weights is not None and other.weights is not None and one.weights.sha256 == other.weights.sha256:
            if set(one.subjects) <= set(other.subjects) and one.split == other.split:
                yield f"its weights are on the board already, as {other.method} ({file_name_of(other)})"
        elif _same_baseline(one, other):
            yield from _beside_ours(one, other)
        else:
            yield from _copied(one, other, doubts)
        if other.kind == "interpolation":
            best |= {s: max(theirs[s], best.get(s, -math.inf)) for s in shared}
        theirs_level = _dynamic_db(other)
        counted = [s for s in set(one.subjects) & set(other.subjects) if one.images.get(s) != other.images.get(s)]
        if counted:
            yield f"it was scored on another number of images of {min(counted)} than {other.method}"
        off = [
            s
            for s in level.keys() & theirs_level.keys()
            if abs(level[s] - theirs_level[s]) > (SAME_DB if one.images.get(s, 1) == 1 else SEVERAL_DB)
        ]
        if off:
            yield f"psnr and nrmse of {min(off)} belong to another HR than that of {other.method}"
    for subject, value in sorted(best.items()):
        if mine[subject] - value > LARGEST_GAIN_DB:
            yield f"psnr of {subject} is {mine[subject] - value:.1f} dB above the best interpolation"


def alone(one: Submission, others: Sequence[Submission]) -> Iterator[str]:
    """Whether nothing accepted shares a subject, so that no comparison could say anything (a doubt)."""
    for other in others:
        if other.dataset != one.dataset:
            yield f"{one.dataset} differs from {other.dataset} of accepted results by the case of its letters alone"
            break
    if not any(other.seed == one.seed and set(one.subjects) & set(other.subjects) for other in others):
        table = f"{one.protocol}, {one.dataset}, {one.split}, seed {one.seed}"
        yield f"nothing here to compare it with: no accepted result shares a subject with it ({table})"


def repeated(one: Submission, others: Sequence[Submission]) -> str | None:
    """The file of an accepted result of the same baseline in the same table with all its subjects."""
    for other in others:
        table = (one.dataset, one.split, one.seed) == (other.dataset, other.split, other.seed)
        if table and _same_baseline(one, other) and set(one.subjects) <= set(other.subjects):
            return file_name_of(other)
    return None


def _same_baseline(one: Submission, other: Submission) -> bool:
    return one.kind == other.kind == "interpolation" and one.method == other.method


def _beside_ours(one: Submission, other: Submission) -> Iterator[str]:
    """A baseline has no secrets: whoever computes it gets our values, of the same noise, in every metric."""
    if one.seed != other.seed:
        return
    for key in one.scores:
        mine, theirs = values_of(one, key), values_of(other, key)
        off = sorted(s for s in mine.keys() & theirs.keys() if not agrees(key, mine[s], theirs[s]))
        if off:
            stated = f"{mine[off[0]]:.4f} and not {theirs[off[0]]:.4f}"
            yield f"{one.method} is a baseline, and its {key} of {off[0]} is {stated}"


def _copied(one: Submission, other: Submission, doubts: list[str]) -> Iterator[str]:
    """Values to the last digit those of another: of several subjects or in several metrics, that is no chance."""
    equal: list[str] = []
    count = 0
    for key in CONTINUOUS:
        mine, theirs = values_of(one, key), values_of(other, key)
        shared = mine.keys() & theirs.keys()
        if shared and all(mine[s] == theirs[s] for s in shared):
            equal.append(key)
            count += len(shared)
    who = f"{other.method} ({file_name_of(other)})"
    if count > 1:
        yield f"its {', '.join(equal)} is to the last digit that of {who} on every subject"
        return
    mine, theirs = values_of(one, "psnr"), values_of(other, "psnr")
    apart = [abs(mine[s] - theirs[s]) for s in mine.keys() & theirs.keys()]
    if equal:
        doubts.append(f"its {equal[0]} is to the last digit that of {who}; is it the same network?")
    elif apart and max(apart) <= ALIKE_DB:
        doubts.append(f"its psnr is within {ALIKE_DB} dB of that of {who} on every subject; is it the same network?")
