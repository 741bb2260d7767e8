"""Evaluation: every method on every subject of a dataset under one protocol, scored, stored and summarised.

For each image the LR-HR pair is acquired once and the region built once; every method sees the same LR volume (a copy,
without provenance) and the target grid, nothing else. What is finished is stored per method and subject, so a killed
run continues where it was, and nothing is computed twice (see `mrsr_bench.benchmarks.results`).
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.entrants import Admission, Entrant, first_common_protocol, upscaled
from mrsr_bench.benchmarks.intensities import as_stated
from mrsr_bench.benchmarks.protocol import Protocol, get_protocol, sha256_of
from mrsr_bench.benchmarks.results import PieceStore, Row, check_writable, file_name, piece_key, plain
from mrsr_bench.benchmarks.summary import Report, report_of
from mrsr_bench.benchmarks.supplement import STORED, Supplement, supplement_of
from mrsr_bench.registry import typed_names

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.dataset import Case, Dataset, Pair
    from mrsr_bench.benchmarks.degradation import Degradation
    from mrsr_bench.benchmarks.metric import MetricSpec
    from mrsr_bench.benchmarks.metrics.region import Reference
    from mrsr_bench.volume import FloatArray

NOISE_FREE = ("psnr", "ssim", "nrmse")
"""Also taken against the noise-free target where the object is known exactly, as ``<key>_noise_free``."""

EXTRA_METRICS = ("data_consistency",)
"""Reported under every protocol, beside the protocol's own."""


def in_family(key: str, protocol_metrics: Sequence[str], asked: Sequence[str] = ()) -> bool:
    """Whether a metric is tested and ranked: the protocol's, data consistency, and what was ``asked`` for by name.

    What a run holds beyond these is shown, but would make the family that p values are corrected for larger.
    """
    return key.removesuffix("_noise_free") in {*protocol_metrics, *EXTRA_METRICS, *asked}


Notify = Callable[[str, int, int], None]
"""Progress: what is being done, steps done, steps in all."""


@dataclass(frozen=True)
class Request:
    """What ``mrsr-bench run`` was asked for; ``subjects`` is how many, None for all; ``only`` names them, () for all.

    ``steps`` shortens a training that ``train`` starts; ``fold`` (from 0) is the part of a cross-validation to test on;
    ``metrics`` are asked for beside the protocol's (None: `mrsr_bench.benchmarks.supplement.USUAL`).
    """

    models: Sequence[str]
    dataset: str
    protocol: str | None = None
    split: str | None = None
    subjects: int | None = None
    suffix: str | None = None
    weights: Path | None = None
    train: bool = False
    device: str = "auto"
    out: Path = Path("runs")
    seed: int = 0
    fresh: bool = False
    figures: bool = True
    steps: int | None = None
    fold: int | None = None
    metrics: Sequence[str] | None = None
    only: Sequence[str] = ()


def model_names(typed: Iterable[str]) -> list[str]:
    """Names from repeated and comma-separated values, in order, each once.

    Raises:
        UserError: none is left.
    """
    names = typed_names(typed)
    if not names:
        raise UserError("--model: name at least one method; `mrsr-bench list models` shows them")
    return names


def by_subject(cases: Sequence[Case], limit: int | None) -> dict[str, list[Case]]:
    """Cases grouped by subject, in their order; the first ``limit`` subjects."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.subject, []).append(case)
    return dict(list(groups.items())[:limit])


def named_subjects(subjects: Mapping[str, list[Case]], typed: Sequence[str]) -> dict[str, list[Case]]:
    """Those of ``subjects`` that were ``typed``, in their own order; all where none was.

    Raises:
        UserError: one of them is not there.
    """
    names = typed_names(typed)
    for name in names:
        if subjects and name not in subjects:
            there = ", ".join(list(subjects)[:5])
            raise UserError(f"--only {name}: no such subject in the split; its first are {there}")
    return {name: cases for name, cases in subjects.items() if name in names or not names}


def default_split(dataset: Dataset, protocol: Protocol) -> str:
    """The split of a run that names none: the protocol's, but everything of one's own images."""
    from mrsr_bench.benchmarks.datasets.folder import FolderDataset

    return "all" if isinstance(dataset, FolderDataset) else str(protocol.content.get("split", "test"))


def evaluate(request: Request, notify: Notify | None = None) -> Report:
    """Run all methods on all subjects, store every score, and report.

    Raises:
        UserError: a name is unknown, the dataset cannot be read, the output cannot be written, ...; a method that
            cannot do the protocol is reported as an error of its own and the others run.
    """
    from mrsr_bench.benchmarks.availability import metric_ingredients
    from mrsr_bench.benchmarks.datasets import open_dataset
    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.folds import FoldDataset, fold_of, refuse_seen
    from mrsr_bench.benchmarks.metrics import metrics
    from mrsr_bench.benchmarks.provenance import choose_device, exact_float32
    from mrsr_bench.zoo.methods import methods

    if request.subjects is not None and request.subjects < 1:
        raise UserError(f"--subjects must be at least 1; got {request.subjects}")
    names = model_names(request.models)
    specs = [methods.get(name) for name in names]
    protocol = get_protocol(request.protocol or first_common_protocol(specs))
    networks = [spec for spec in specs if spec.kind == "network"]
    if request.weights is not None and len(networks) != 1:
        raise UserError(f"--weights belongs to one network; this run has {len(networks)}")
    dataset = open_dataset(request.dataset, suffix=request.suffix)
    if request.fold is not None:
        dataset = fold_of(dataset, protocol, request.fold)
    split = request.split or default_split(dataset, protocol)
    subjects = named_subjects(by_subject(dataset.cases(split, seed=request.seed), None), request.only)
    subjects = dict(list(subjects.items())[: request.subjects])
    if not subjects:
        raise UserError(f"{request.dataset}: the split {split!r} holds no subject")
    check_writable(request.out)
    with_torch = bool(networks) or request.device not in ("auto", "cpu")
    degradation = degradations.get(protocol.degradation)
    extra = [key for key in EXTRA_METRICS if key in metrics.names()] if protocol.simulates_lr else []
    keys = dict.fromkeys((*protocol.metrics, *extra))
    specs_of_metrics = {key: metrics.get(key) for key in keys}
    compared = [key for key, spec in specs_of_metrics.items() if spec.reference]
    if compared and not protocol.has_reference:
        raise UserError(
            f"the protocol {protocol.name} has no reference, so {', '.join(compared)} cannot be among its metrics"
        )
    supplement = supplement_of(request.metrics, protocol, keys)
    admission = Admission(
        protocol,
        degradation,
        metric_ingredients(list(specs_of_metrics.values())),
        dataset,
        request.seed,
        choose_device(request.device) if with_torch else "cpu",
        request.weights,
        request.train,
        request.steps,
    )
    entrants = [admission.enter(name, spec) for name, spec in zip(names, specs, strict=True)]
    if isinstance(dataset, FoldDataset):
        for entrant in entrants:
            if entrant.method is None:
                continue
            try:
                refuse_seen(entrant.typed, entrant.method, dataset, list(subjects))
            except UserError as error:
                entrant.error, entrant.method = str(error), None
    evaluation = Evaluation(request, protocol, degradation, specs_of_metrics, dataset.name, notify, supplement)
    with exact_float32() if with_torch else nullcontext():
        figures = evaluation.run(entrants, subjects)
    return report_of(
        entrants,
        list(subjects),
        figures,
        protocol=protocol,
        dataset=dataset.name,
        synthetic=dataset.synthetic,
        split=split,
        metrics=[*keys, *(supplement.specs if supplement.asked else ())],
        seed=request.seed,
        out=request.out,
        suffix=request.suffix,
    )


@dataclass
class Draft:
    """A piece in the making: one method on one subject; ``stored`` is what is there of it and lacks some metrics."""

    rows: list[Row] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak_memory_mb: float = 0.0
    stored: dict[str, Any] | None = None


class Evaluation:
    """The loop over subjects, images and methods."""

    def __init__(
        self,
        request: Request,
        protocol: Protocol,
        degradation: Degradation,
        metrics: Mapping[str, MetricSpec],
        dataset: str,
        notify: Notify | None,
        supplement: Supplement | None = None,
    ) -> None:
        self.supplement = supplement or Supplement()
        self.request, self.protocol, self.degradation, self.metrics = request, protocol, degradation, metrics
        self.dataset, self.store = dataset, PieceStore(request.out)
        self._notify, self._done, self._total = notify, 0, 0
        self._made: dict[str, Any] | None = None

    def run(self, entrants: Sequence[Entrant], subjects: Mapping[str, Sequence[Case]]) -> dict[str, Path]:
        """Complete ``pieces`` of every entrant that can; returns the figure of each subject."""
        figures: dict[str, Path] = {}
        for done, (subject, cases) in enumerate(subjects.items()):
            active = [e for e in entrants if e.error is None]
            if not active:
                break
            self._total, self._done = len(subjects) * len(active), done * len(active)
            images = [(case.image, case.fingerprint) for case in cases]
            for entrant in active:
                key = entrant.keys[subject] = piece_key(entrant.base, subject, images)
                stored = None if self.request.fresh else self.store.get(key)
                if stored is not None:
                    entrant.pieces[subject] = self.supplement.current(stored)
            figure = self._figure_path(subject, active)
            redraw = self.request.figures and (self.request.fresh or not figure.exists())
            self._run_subject(subject, cases, active, figure if redraw else None)
            if self.request.figures and figure.exists():
                figures[subject] = figure
        return figures

    def _figure_path(self, subject: str, active: Sequence[Entrant]) -> Path:
        key = sha256_of([[e.typed, e.keys[subject]] for e in active])[:8]
        folder = self.request.out / "figures" / f"{self.protocol.name}--{file_name(self.dataset)}"
        return folder / f"{file_name(subject)}--{key}.png"

    def _run_subject(self, subject: str, cases: Sequence[Case], active: Sequence[Entrant], figure: Path | None) -> None:
        """Score what is not stored; a figure (of the first image) needs the SR of every method once more."""
        drafts = {e.typed: Draft() for e in active if subject not in e.pieces}
        for e in active:
            if e.typed not in drafts and self.supplement.lacking(e.pieces[subject]):
                drafts[e.typed] = Draft(stored=e.pieces[subject])
        for index, case in enumerate(cases):
            pictured = figure is not None and index == 0
            running = [e for e in active if e.error is None and (pictured or e.typed in drafts)]
            if not running:
                continue
            pair = acquired(case, self.degradation, self.protocol, self.request.seed)
            reference = reference_under(self.protocol, pair)
            srs: dict[str, FloatArray] = {}
            for place, entrant in enumerate(running):
                self._tell(f"{subject}: {entrant.typed}", place if index == len(cases) - 1 else 0)
                try:
                    sr, seconds, memory = upscaled(entrant, pair)
                except UserError as error:
                    entrant.error = str(error)
                    continue
                if entrant.typed in drafts:
                    draft = drafts[entrant.typed]
                    wanted = self._keys(draft, pair)
                    scored, draft.curves[case.image] = self.scored(subject, case.image, sr, reference, pair, wanted)
                    draft.rows += scored
                    draft.images.append(image_facts(case, pair, reference))
                    draft.seconds.append(seconds)
                    draft.peak_memory_mb = max(draft.peak_memory_mb, memory)
                    if index == len(cases) - 1:
                        entrant.pieces[subject] = self._finish(subject, entrant, draft)
                if pictured:
                    srs[entrant.typed] = sr
            if figure is not None and srs:
                rows = {e.typed: self._rows_so_far(e, subject, drafts) for e in running if e.typed in srs}
                self._draw(figure, subject, reference, pair, srs, rows)

    def _keys(self, draft: Draft, pair: Pair) -> list[str]:
        """The metrics that an image of a draft is to be scored by."""
        lacking = None if draft.stored is None else self.supplement.lacking(draft.stored)
        further = self.supplement.keys_for(labels=pair.labels is not None, only=lacking)
        return further if draft.stored is not None else [*self.metrics, *further]

    def scored(
        self,
        subject: str,
        image: str,
        sr: FloatArray,
        reference: Reference,
        pair: Pair,
        keys: Sequence[str] | None = None,
    ) -> tuple[list[Row], dict[str, Any]]:
        """All scores of one SR volume, and the curves that scores were read from, by metric."""
        from mrsr_bench.benchmarks.metrics import score

        specs = {**self.metrics, **self.supplement.specs}
        if keys is None:
            keys = [*self.metrics, *self.supplement.keys_for(labels=pair.labels is not None)]
        degradation = None if self.protocol.of_real_pairs else self.degradation
        scores = score(sr, reference, keys, lr=pair.lr, degradation=degradation, params=pair.params, labels=pair.labels)
        rows, curves = [], {}
        for s in scores:
            convention, reason = specs[s.metric].convention, s.reason
            if pair.unaligned is not None and specs[s.metric].reference:
                reason = pair.unaligned
            rows.append(Row(subject, image, s.slice, s.metric, convention, s.value, reason, s.mark))
            if s.curve is not None:
                curves[s.metric] = dict(s.curve)
        if pair.noise_free is not None:
            clean = replace(reference, hr=pair.noise_free)
            for s in score(sr, clean, [key for key in NOISE_FREE if key in keys]):
                convention = f"{specs[s.metric].convention}; against the noise-free object"
                name = f"{s.metric}_noise_free"
                rows.append(Row(subject, image, s.slice, name, convention, s.value, s.reason, s.mark))
        return rows, curves

    def _finish(self, subject: str, entrant: Entrant, draft: Draft) -> dict[str, Any]:
        made = {
            key: self.supplement.ingredients[key]
            for key in {row.metric for row in draft.rows}
            if key in self.supplement.ingredients
        }
        piece: dict[str, Any]
        if draft.stored is not None:
            piece = dict(draft.stored)
            piece["rows"] = [*piece["rows"], *(asdict(row) for row in draft.rows)]
            before = piece.get("curves", {})
            piece["curves"] = {image: {**before.get(image, {}), **of} for image, of in draft.curves.items()}
            piece[STORED] = {**piece.get(STORED, {}), **made}
        else:
            piece = {
                **{name: value for name, value in asdict(draft).items() if name != "stored"},
                STORED: made,
                "environment": self._environment(entrant.device),
                "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            }
        piece = plain(piece)
        self.store.put(entrant.keys[subject], piece)
        return dict(piece)

    def _environment(self, device: str) -> dict[str, Any]:
        from mrsr_bench.benchmarks.provenance import git_commit, hardware, versions

        if self._made is None:
            self._made = {"versions": versions(), "git_commit": git_commit()}
        return {**self._made, "hardware": hardware(device), "device": device}

    @staticmethod
    def _rows_so_far(entrant: Entrant, subject: str, drafts: Mapping[str, Draft]) -> list[Row]:
        draft = drafts.get(entrant.typed)
        if draft is not None and draft.stored is None:
            return draft.rows
        return [Row(**row) for row in entrant.pieces[subject]["rows"]]

    def _draw(
        self,
        figure: Path,
        subject: str,
        reference: Reference,
        pair: Pair,
        srs: Mapping[str, FloatArray],
        rows: Mapping[str, Sequence[Row]],
    ) -> None:
        from mrsr_bench.benchmarks.figures import draw_subject

        scores = {
            typed: {row.metric: row.value for row in of_all if row.slice is None and row.image == of_all[0].image}
            for typed, of_all in rows.items()
        }
        self._tell(f"{subject}: figure", len(srs))
        figure.parent.mkdir(parents=True, exist_ok=True)
        partial = figure.with_name(f".{figure.stem}.{os.getpid()}.partial{figure.suffix}")
        title = f"{subject}, {self.protocol.name}, {self.dataset}"
        drawn = draw_subject(partial, title=title, reference=reference, lr=pair.lr, srs=srs, scores=scores)
        Path(drawn).replace(figure)

    def _tell(self, text: str, ahead: int) -> None:
        if self._notify is not None:
            self._notify(text, self._done + ahead, self._total)


def reference_under(protocol: Protocol, pair: Pair) -> Reference:
    """What SR is compared with: HR where the protocol has one and it lies where LR does."""
    from mrsr_bench.benchmarks.metrics.region import reference_of

    is_hr = protocol.has_reference and pair.unaligned is None
    if pair.overlap is None:
        return replace(reference_of(pair.hr, pair.lr), is_hr=is_hr)
    whole = reference_of(pair.hr)
    region = whole.region & pair.overlap
    return replace(whole, region=region, is_hr=is_hr) if region.any() else replace(whole, is_hr=False)


def acquired(case: Case, degradation: Degradation, protocol: Protocol, seed: int) -> Pair:
    """LR and reference of a case under a protocol, with the intensities that it states.

    Raises:
        UserError: the protocol compares real pairs and the case is none.
    """
    pair = case.acquire(degradation, protocol.settings, seed)
    if protocol.of_real_pairs and pair.params.get("pair") != "real":
        raise UserError(
            f"{protocol.name} compares with a real HR scan, and {case.image} has none; use a dataset of pairs "
            "(paired:FOLDER with lr/ and hr/), or the protocol real"
        )
    return as_stated(pair, protocol)


def image_facts(case: Case, pair: Pair, reference: Reference) -> dict[str, Any]:
    """What a stored run says about one image: how LR was made, and where and on what range it was scored."""
    return {
        "image": case.image,
        "fingerprint": case.fingerprint,
        "degradation_params": pair.params,
        "hr_shape": pair.hr.data.shape,
        "lr_shape": pair.lr.data.shape,
        "range": float(reference.range),
        "mask_sha256": reference.mask_sha256,
        "region_voxels": int(reference.region.sum()),
    }
