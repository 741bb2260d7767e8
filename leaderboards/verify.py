"""`mrsr-bench verify`: is a submission sound, can its scores be true, and do they come out again?

Whatever is wrong with the form of a file refuses it at once (`mrsr_bench.leaderboards.schema`). What its entries say
is then compared with this installation's protocols, metrics and methods, with arithmetic, and with the accepted
results. *Problems* refuse an entry; *doubts* are for a person to look at.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrsr_bench import UserError, __version__
from mrsr_bench.benchmarks.datasets import hidden_phantom
from mrsr_bench.benchmarks.protocol import get_protocol, protocol_names
from mrsr_bench.benchmarks.results import check_writable, write_text
from mrsr_bench.leaderboards import plausible
from mrsr_bench.leaderboards.board import read_results, results_folder
from mrsr_bench.leaderboards.rerun import Limits, Outcome, rerun
from mrsr_bench.leaderboards.schema import (
    Submission,
    Verification,
    as_text,
    file_name_of,
    read_submissions,
    why_not_fixed,
)
from mrsr_bench.leaderboards.submit import OURS, plain_text, why_not_maintained

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
            finding.doubts += finding.outcome.absent
            if not finding.outcome.compared and not finding.problems:
                finding.doubts.append("nothing could be compared")
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
    place = (one.protocol_hash, one.dataset.casefold())
    same_place = [other for other in others if (other.protocol_hash, other.dataset.casefold()) == place]
    if one.badge == "re-run" and not accepted_before:
        finding.problems.append("it brings the badge re-run, which only verify --rerun gives; submit it without")
    finding.problems += _protocol(one)
    finding.problems += _scanned(one, same_place)
    finding.problems += _conventions(one)
    finding.problems += _method(one, finding.doubts)
    finding.problems += plausible.complete(one)
    finding.problems += plausible.possible(one)
    finding.problems += plausible.costs(one, finding.doubts)
    finding.problems += plausible.against(one, same_place, finding.doubts)
    finding.doubts += plausible.alone(one, same_place)
    finding.repeats = plausible.repeated(one, same_place)
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
    with contextlib.suppress(UserError):  # a folder of somebody's, of which the others tell
        known = {datasets.get(one.dataset.casefold()).synthetic}
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
        plain = key.removesuffix(plausible.NOISE_FREE)
        if plain not in known:
            yield f"the metric {key} is unknown here"
            continue
        ours = metrics.get(plain).convention
        if plain != key:
            ours += "; against the noise-free object"
        if text != plain_text(ours):
            yield f"{key} is taken by another convention than ours"
    for key in one.scores:
        if key.removesuffix(plausible.NOISE_FREE) not in known:
            yield f"the metric {key} is unknown here"


def _method(one: Submission, doubts: list[str]) -> Iterator[str]:
    from mrsr_bench.zoo.methods import methods

    try:
        spec = methods.get(one.method)
    except UserError:
        yield from _foreign(one)
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


def _foreign(one: Submission) -> Iterator[str]:
    """What a method that is not installed here may not say of itself."""
    from mrsr_bench.zoo.methods import methods

    if re.sub(r"[-_.]+", "-", one.source.package).lower() == OURS:
        yield f"it says that {OURS} brings {one.method}, which it does not"
    if one.kind == "interpolation":
        known = ", ".join(spec.name for spec in methods.all() if spec.kind == "interpolation")
        yield f"it says that {one.method} is an interpolation, and those known here are {known}"


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
