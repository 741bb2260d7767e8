"""`mrsr-bench verify`: is a submission sound, can its scores be true, and do they come out again?

Whatever is wrong with the form of a file refuses it at once (`mrsr_bench.leaderboards.schema`). What its entries say
is then compared with this installation's protocols, metrics and methods, with arithmetic, and with the accepted
results. *Problems* refuse an entry; *doubts* are for a person to look at.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrsr_bench import UserError, __version__
from mrsr_bench.benchmarks.datasets import hidden_phantom
from mrsr_bench.benchmarks.protocol import get_protocol, protocol_names
from mrsr_bench.benchmarks.results import check_writable, write_text
from mrsr_bench.leaderboards.board import read_results, results_folder
from mrsr_bench.leaderboards.rerun import Limits, Outcome, rerun
from mrsr_bench.leaderboards.schema import (
    Score,
    Submission,
    Verification,
    as_text,
    file_name_of,
    read_submissions,
    why_not_fixed,
)
from mrsr_bench.leaderboards.submit import plain_text, why_not_maintained

POSSIBLE: dict[str, tuple[float, float]] = {
    "psnr": (-20.0, 70.0),
    "ssim": (-1.0, 0.99999),
    "nrmse": (1e-4, 1e3),
    "niqe": (0.0, 1e3),
    "piqe": (0.0, 100.0),
    "ma": (-10.0, 20.0),
    "pi": (-10.0, 1e3),
    "data_consistency": (0.0, 1e3),
}
"""Values that a degradation leaves possible: its loss and float32 forbid a perfect restoration. Those of ``psnr`` are
for ``psnr_slice`` and ``psnr_noise_free`` too, and so on; Ma regresses opinions from 0 to 10, and has room here."""
DYNAMIC_DB = (0.0, 40.0)
"""20 log10 of the range over the root mean square of HR: psnr + 20 log10(nrmse), whatever the method."""
LARGEST_GAIN_DB = 12.0
"""Over the best interpolation of the same subject; what papers report stays below 8 dB."""
SAME_DB = 0.01
"""Two implementations of one interpolation agree at least so far; so must the range of one HR."""
SEVERAL_DB = 1.0
"""The same for the mean over several images of one subject, whose PSNR a method may change by different amounts."""
ALIKE_DB = 0.002
"""Two networks that were trained apart differ by more than this on one of several subjects."""
NOISE_FREE = "_noise_free"
Notify = Callable[[str], None]


@dataclass
class Finding:
    """What is wrong with one submission (``problems``), and what should be looked at (``doubts``)."""

    submission: Submission
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    repeats: str | None = None
    """The file of an accepted result of the same baseline that this one agrees with, and need not join."""

    @property
    def badge(self) -> str:
        """What it may be called after this verification."""
        sound = not self.problems and self.outcome is not None and self.outcome.compared > 0
        return "re-run" if sound else "self-reported"

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        one, outcome = self.submission, self.outcome
        found: dict[str, Any] = {
            "method": one.method,
            "protocol": one.protocol,
            "dataset": one.dataset,
            "digest": one.digest,
            "state": "refused" if self.problems else "ok",
            "badge": self.badge,
            "problems": self.problems,
            "doubts": self.doubts,
        }
        if self.repeats is not None:
            found["repeats"] = self.repeats
        if outcome is not None:
            found["rerun"] = {
                "isolation": outcome.isolation,
                "datasets": outcome.datasets,
                "absent": outcome.absent,
                "compared": outcome.compared,
                "largest_psnr_db": outcome.largest_psnr_db,
            }
        return found


@dataclass(frozen=True)
class Rerun:
    """How to run again; see `mrsr_bench.leaderboards.rerun`."""

    weights: Path | None = None
    data: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)


def verify(
    path: Path,
    notify: Notify,
    *,
    results: Path | None = None,
    again: Rerun | None = None,
    accept: Path | None = None,
) -> dict[str, Any]:
    """Check every submission in a file; with ``again``, run each once more; with ``accept``, keep the sound ones there.

    Raises:
        UserError: the file is no submission, or a re-run was impossible; nothing is accepted then.
    """
    mine = read_submissions(path)
    folder = results or results_folder()
    others = [one for one in read_results(folder) if one.digest not in {own.digest for own in mine}]
    inside = path.resolve().parent == folder.resolve()
    findings = []
    for index, one in enumerate(mine):
        notify(f"checking {one.method} under {one.protocol}")
        finding = check(one, [*others, *mine[:index], *mine[index + 1 :]], accepted_before=inside)
        if again is not None and not finding.problems:
            notify(f"running {one.method} again")
            finding.outcome = rerun(one, weights=again.weights, data=again.data, limits=again.limits)
            finding.problems += finding.outcome.problems
            if not finding.outcome.compared and not finding.problems:
                finding.doubts.append(f"nothing could be compared: {'; '.join(finding.outcome.absent)}")
        for kind, lines in (("refused", finding.problems), ("doubt", finding.doubts)):
            for line in lines:
                notify(f"{kind}: {one.method}: {line}")
        findings.append(finding)
    found: dict[str, Any] = {"submissions": [finding.as_json() for finding in findings]}
    found["ok"] = not any(finding.problems for finding in findings)
    if accept is not None and found["ok"]:
        check_writable(accept, "--accept")
        found["accepted"] = [str(_accept(one, accept)) for one in findings if one.repeats is None]
    return found


def in_short(found: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What `verify` found as a table: counts where the lines were said already."""
    kept = ("method", "protocol", "dataset", "state", "badge")
    return {
        "submissions": [
            {key: one[key] for key in kept} | {key: len(one[key]) for key in ("problems", "doubts")}
            for one in found["submissions"]
        ]
    }


def _accept(finding: Finding, folder: Path) -> Path:
    """Write a sound submission with the badge that it earned."""
    content = finding.submission.model_dump(mode="json") | {"badge": finding.badge, "verification": None}
    outcome = finding.outcome
    if finding.badge == "re-run" and outcome is not None:
        content["verification"] = Verification(
            digest=finding.submission.digest,
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            mrsr_bench=__version__,
            datasets=outcome.datasets,
            compared=outcome.compared,
            largest_psnr_db=outcome.largest_psnr_db,
            isolation=outcome.isolation,
        ).model_dump(mode="json")
    kept = Submission.model_validate_json(json.dumps(content, allow_nan=False))
    path = folder / file_name_of(kept)
    write_text(path, as_text([kept]))
    return path


def check(one: Submission, others: Sequence[Submission], *, accepted_before: bool = False) -> Finding:
    """All checks that need no run; ``others`` are what it is compared with."""
    finding = Finding(one)
    same_place = [o for o in others if (o.protocol_hash, o.dataset) == (one.protocol_hash, one.dataset)]
    if one.badge == "re-run" and not accepted_before:
        finding.problems.append("it brings the badge re-run, which only verify --rerun gives; submit it without")
    finding.problems += _protocol(one)
    finding.problems += _scanned(one, same_place)
    finding.problems += _conventions(one)
    finding.problems += _method(one, finding.doubts)
    finding.problems += _possible(one)
    finding.problems += _against(finding, same_place)
    finding.problems += _leakage(one, finding.doubts)
    refusal = why_not_fixed(one) if one.track == "fixed" else None
    if refusal is not None:
        finding.problems.append(f"it is not of the fixed track: {refusal}")
    refusal = why_not_maintained(one)
    if refusal is not None:
        finding.problems.append(f"the maintainers are no contact for it: {refusal}")
    if one.weights is not None and one.weights.repository is None and not one.weights.shipped:
        finding.doubts.append("its weights are not on the Hub, so only who is given them can run it")
    if one.rehearsal is None:
        finding.doubts.append("it brings no scores on hidden heads, so it can be run again only where the data are")
    finding.doubts += _replaces(one, same_place)
    return finding


def _protocol(one: Submission) -> Iterator[str]:
    if one.protocol not in protocol_names():
        yield f"the protocol {one.protocol} is unknown here"
    elif get_protocol(one.protocol).hash != one.protocol_hash:
        yield f"its {one.protocol} has another hash than ours; it was run by another version"


def _scanned(one: Submission, others: Sequence[Submission]) -> Iterator[str]:
    """Scans and procedural heads never share a table or a standing, so nobody may call one the other."""
    from mrsr_bench.benchmarks.datasets import datasets

    known = {other.synthetic for other in others}
    if one.dataset in datasets.names():
        known = {datasets.get(one.dataset).synthetic}
    if known and one.synthetic not in known:
        yield f"it says that {one.dataset} holds {'procedural heads' if one.synthetic else 'scans'}, which it does not"


def _replaces(one: Submission, others: Sequence[Submission]) -> Iterator[str]:
    """The date decides which of a contact's entries counts; whether it is really theirs, a person must ask."""
    tomorrow = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).date()  # it may be there already
    if one.date > tomorrow.isoformat():
        yield f"it is dated {one.date}, which is yet to come"
    for other in others:
        same = (other.method, other.contact, other.split, other.seed) == (one.method, one.contact, one.split, one.seed)
        if same and (other.date, other.digest) < (one.date, one.digest):
            yield f"it replaces {file_name_of(other)} of the same contact; is it from the same people?"


def _conventions(one: Submission) -> Iterator[str]:
    from mrsr_bench.benchmarks.metrics import metrics

    known = set(metrics.names())
    for key, text in one.conventions.items():
        plain = key.removesuffix(NOISE_FREE)
        if plain not in known:
            yield f"the metric {key} is unknown here"
            continue
        ours = metrics.get(plain).convention
        if plain != key:
            ours += "; against the noise-free object"
        if text != plain_text(ours):
            yield f"{key} is taken by another convention than ours"
    for key in one.scores:
        if key.removesuffix(NOISE_FREE) not in known:
            yield f"the metric {key} is unknown here"


def _method(one: Submission, doubts: list[str]) -> Iterator[str]:
    from mrsr_bench.zoo.methods import methods

    try:
        spec = methods.get(one.method)
    except UserError:
        doubts.append(f"{one.method} is not installed here ({one.source.package}); install it to run it again")
        return
    facts: dict[str, tuple[object, object]] = {"kind": (one.kind, spec.kind), "version": (one.version, spec.version)}
    facts["count of parameters"] = (one.parameters, spec.parameters)
    for name, (stated, ours) in facts.items():
        if stated != ours:
            yield f"it states the {name} {stated} for {one.method}, which has {ours}"
    if one.weights is not None and one.weights.shipped:
        from mrsr_bench.zoo.pins import shipped_digests

        if one.weights.sha256 not in shipped_digests():
            yield "it says that its weights ship with the package, and none of that SHA-256 does"


def _values(one: Submission, key: str) -> dict[str, float]:
    score: Score | None = one.scores.get(key)
    return {} if score is None else {s: v for s, v in score.per_subject.items() if v is not None}


def _dynamic_db(one: Submission) -> dict[str, float]:
    """20 log10(range / root mean square of HR) of each subject, from PSNR and NRMSE; the same for every method.

    Of several images it is a mean only nearly: mean logarithms are not logarithms of means.
    """
    psnr, nrmse = _values(one, "psnr"), _values(one, "nrmse")
    return {s: psnr[s] + 20 * math.log10(nrmse[s]) for s in psnr.keys() & nrmse.keys() if nrmse[s] > 0}


def _possible(one: Submission) -> Iterator[str]:
    for scores, where in ((one.scores, one.dataset), (one.rehearsal.scores if one.rehearsal else {}, "hidden heads")):
        for key, score in scores.items():
            low, high = POSSIBLE.get(key) or POSSIBLE.get(key.partition("_")[0], (-math.inf, math.inf))
            for subject, value in score.per_subject.items():
                if value is not None and not low <= value <= high:
                    yield f"{key} of {subject} ({where}) is {value:g}, which no degradation allows"
    for subject, level in _dynamic_db(one).items():
        if not DYNAMIC_DB[0] <= level <= DYNAMIC_DB[1]:
            yield f"psnr and nrmse of {subject} cannot be of one image: its range would be {level:.1f} dB over its mean"
    for key, score in one.scores.items():
        values = [value for value in score.per_subject.values() if value is not None]
        if key in POSSIBLE and len(values) > 2 and len(set(values)) == 1 and values[0] != 0:
            yield f"{key} is {values[0]:g} for every subject"


def _against(finding: Finding, others: Sequence[Submission]) -> Iterator[str]:
    """What accepted results on the same subjects under the same protocol make impossible."""
    one = finding.submission
    mine, level = _values(one, "psnr"), _dynamic_db(one)
    best: dict[str, float] = {}
    for other in others:
        theirs = _values(other, "psnr")
        shared = mine.keys() & theirs.keys()
        if one.weights is not None and other.weights is not None and one.weights.sha256 == other.weights.sha256:
            if set(one.subjects) <= set(other.subjects) and one.split == other.split:
                yield f"its weights are on the board already, as {other.method} ({file_name_of(other)})"
        elif one.kind == other.kind == "interpolation" and one.method == other.method:
            apart = max((abs(mine[s] - theirs[s]) for s in shared), default=0.0)
            if apart > SAME_DB:
                yield f"{one.method} is a baseline, and its psnr is up to {apart:.3f} dB beside ours"
            elif shared and set(one.subjects) <= set(other.subjects):
                finding.repeats = file_name_of(other)
        elif len(shared) > 1 and all(mine[s] == theirs[s] for s in shared):
            yield f"its psnr is that of {other.method} ({file_name_of(other)}) on every subject"
        elif len(shared) > 1 and all(abs(mine[s] - theirs[s]) <= ALIKE_DB for s in shared):
            finding.doubts.append(
                f"its psnr is within {ALIKE_DB} dB of that of {other.method} ({file_name_of(other)}) on every subject; "
                "is it the same network?"
            )
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


def _leakage(one: Submission, doubts: list[str]) -> Iterator[str]:
    training = one.training
    if training is None:
        return
    learnt = {*training.train_subjects, *training.val_subjects}
    both = sorted(learnt & set(one.subjects))
    if training.dataset.startswith(hidden_phantom.PREFIX):
        yield "it was trained on hidden heads, which are for re-runs only"
    if both and training.dataset == one.dataset:
        yield f"it was trained on subjects that it is scored on: {', '.join(both[:5])}"
    elif both:
        doubts.append(f"subjects of {training.dataset} and {one.dataset} have the same names: {', '.join(both[:5])}")
    if training.other_data is not None and one.dataset in training.other_data:
        doubts.append(f"it learnt from {one.dataset} at second hand too: {training.other_data}; which subjects?")
    if not learnt:
        doubts.append("it does not say which subjects it was trained on")
