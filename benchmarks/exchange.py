"""LR files out, SR files in: a protocol for methods that live elsewhere, in MATLAB, TensorFlow or anything else.

`export_lr` writes what a method may see and nothing of HR: ``lr/IMAGE.nii.gz``, the grid that SR is wanted on as an
empty NIfTI ``targets/IMAGE.nii.gz`` (its header is to be copied), ``manifest.json``, and ``SHA256SUMS`` for
``sha256sum --check``. `score_predictions` takes a folder of ``IMAGE.nii.gz`` (or ``.nii``) on those grids, makes the
same LR and reference again, refuses if they are not the same, and stores a run like any other.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.benchmarks.results import file_name

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.dataset import Case, Dataset, Pair
    from mrsr_bench.benchmarks.evaluate import Notify
    from mrsr_bench.benchmarks.protocol import Protocol
    from mrsr_bench.benchmarks.summary import Report
    from mrsr_bench.volume import Volume

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
LR_FOLDER, TARGET_FOLDER = "lr", "targets"
FORMAT = 1
SUFFIXES = (".nii.gz", ".nii")
SAME_GRID_VOXELS = 0.01


@dataclass(frozen=True)
class Request:
    """What is exported or scored; ``name`` is what the method is called in the stored run."""

    protocol: str
    dataset: str
    split: str | None = None
    subjects: int | None = None
    suffix: str | None = None
    seed: int = 0
    out: Path = Path("runs")
    name: str | None = None


def _opened(request: Request) -> tuple[Protocol, Dataset, str, dict[str, list[Case]]]:
    from mrsr_bench.benchmarks.datasets import open_dataset
    from mrsr_bench.benchmarks.evaluate import by_subject, default_split

    if request.subjects is not None and request.subjects < 1:
        raise UserError(f"--subjects must be at least 1; got {request.subjects}")
    protocol = get_protocol(request.protocol)
    dataset = open_dataset(request.dataset, suffix=request.suffix)
    split = request.split or default_split(dataset, protocol)
    subjects = by_subject(dataset.cases(split, seed=request.seed), request.subjects)
    if not subjects:
        raise UserError(f"{request.dataset}: the split {split!r} holds no subject")
    names = [file_name(case.image) for cases in subjects.values() for case in cases]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(
            f"{request.dataset}: two images are called {twice}, so files cannot tell them apart; rename one"
        )
    return protocol, dataset, split, subjects


def lr_digest(lr: Volume) -> str:
    """SHA-256 of LR's shape, its affine to a thousandth of a mm, and its float32 voxels in C order."""
    import numpy as np

    digest = hashlib.sha256(repr(lr.data.shape).encode())
    digest.update(np.round(lr.affine * 1000).astype(np.int64).tobytes())
    digest.update(np.ascontiguousarray(lr.data, dtype="<f4").tobytes())
    return digest.hexdigest()


def export_lr(request: Request, notify: Notify | None = None) -> dict[str, Any]:
    """Write the LR volumes of a protocol on a dataset to ``request.out``; what is there and unchanged is left alone.

    Returns:
        The manifest, which is also written.

    Raises:
        UserError: a name is unknown, an image cannot be read, or the folder cannot be written.
    """
    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.evaluate import acquired
    from mrsr_bench.benchmarks.results import check_writable, plain, write_text

    protocol, dataset, split, subjects = _opened(request)
    degradation = degradations.get(protocol.degradation)
    for folder in (request.out, request.out / LR_FOLDER, request.out / TARGET_FOLDER):
        check_writable(folder)
    made = {"protocol_hash": protocol.hash, "degradation_version": degradation.version, "seed": request.seed}
    before = _known(request.out, made)
    images: list[dict[str, Any]] = []
    cases = [case for of_subject in subjects.values() for case in of_subject]
    for done, case in enumerate(cases):
        if notify is not None:
            notify(f"{case.subject}: {case.image}", done, len(cases))
        known = before.get(case.image)
        if known is not None and known["fingerprint"] == case.fingerprint and _unchanged(request.out, known):
            images.append(known)
            continue
        images.append(_exported(case, acquired(case, degradation, protocol, request.seed), request.out))
    manifest = plain(
        {
            "format": FORMAT,
            "protocol": protocol.name,
            **made,
            "factor": protocol.factor,
            "dataset": dataset.name,
            "dataset_asked_for": request.dataset,
            "suffix": request.suffix,
            "split": split,
            "subjects": request.subjects,
            "images": images,
        }
    )
    files = [(image[part], image[f"{part}_sha256"]) for image in images for part in ("lr", "target")]
    write_text(request.out / SUMS, "".join(f"{digest}  {name}\n" for name, digest in files))
    write_text(request.out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return dict(manifest)


def _known(out: Path, made: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Images of an earlier export that was made the same way, by name."""
    try:
        manifest = read_manifest(out / MANIFEST)
    except UserError:
        return {}
    if any(manifest.get(key) != value for key, value in made.items()):
        return {}
    return {image["image"]: image for image in manifest["images"]}


def _unchanged(out: Path, image: Mapping[str, Any]) -> bool:
    from mrsr_bench.benchmarks.datasets.split_lists import file_sha256

    try:
        return all(file_sha256(out / image[part]) == image[f"{part}_sha256"] for part in ("lr", "target"))
    except OSError:
        return False


def _exported(case: Case, pair: Pair, out: Path) -> dict[str, Any]:
    from dataclasses import replace

    import numpy as np

    from mrsr_bench.benchmarks.datasets.split_lists import file_sha256
    from mrsr_bench.volume import Volume, save

    name = file_name(case.image)
    lr = replace(pair.lr, provenance={"descrip": "LR, mrsr-bench"})
    grid = pair.target or pair.hr.grid
    target = Volume(np.zeros(grid.shape, dtype=np.float32), grid.affine)
    places = {"lr": f"{LR_FOLDER}/{name}.nii.gz", "target": f"{TARGET_FOLDER}/{name}.nii.gz"}
    for part, volume in (("lr", lr), ("target", target)):
        save(volume, out / places[part])
    return {
        "subject": case.subject,
        "image": case.image,
        "fingerprint": case.fingerprint,
        **places,
        **{f"{part}_sha256": file_sha256(out / place) for part, place in places.items()},
        "lr_voxels_sha256": lr_digest(pair.lr),
        "lr_shape": list(pair.lr.data.shape),
        "lr_spacing": list(pair.lr.spacing),
        "lr_acquisition": [{"kind": a.kind, "width": a.width, "gap": a.gap} for a in pair.lr.acquisition],
        "target_shape": list(grid.shape),
        "target_affine": grid.affine.tolist(),
    }


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest that `export_lr` wrote.

    Raises:
        UserError: it is missing, unreadable or of another version.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `mrsr-bench data lr` writes it") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable manifest; export the LR files again") from error
    kinds = {"protocol": str, "dataset_asked_for": str, "images": list, "seed": int}
    if (
        not isinstance(found, dict)
        or found.get("format") != FORMAT
        or not all(isinstance(found.get(key), kind) for key, kind in kinds.items())
        or not all(
            isinstance(image, dict) and {"image", "fingerprint", "lr"} <= set(image) for image in found["images"]
        )
    ):
        raise UserError(f"{path}: not a manifest of this version; export the LR files again")
    return found


def manifest_of(predictions: Path) -> dict[str, Any] | None:
    """The manifest in the folder of predictions or beside it, where the LR files came from; None if there is none."""
    for folder in (predictions, predictions.resolve().parent):
        if (folder / MANIFEST).is_file():
            return read_manifest(folder / MANIFEST)
    return None


def score_predictions(
    predictions: Path,
    *,
    protocol: str,
    dataset: str | None = None,
    split: str | None = None,
    subjects: int | None = None,
    suffix: str | None = None,
    seed: int | None = None,
    out: Path = Path("runs"),
    name: str | None = None,
    notify: Notify | None = None,
) -> Report:
    """Score a folder of SR files brought from elsewhere, and store the run.

    Without ``dataset`` the export's manifest, in that folder or beside it, says which images were exported; suffix and
    seed are the manifest's in any case. A subject whose file is missing or unusable has no scores, and the reason is
    given.

    Raises:
        UserError: there is no such folder, nothing says what it belongs to, LR made now is not the LR that was
            exported, or no prediction can be scored.
    """
    if not predictions.is_dir():
        raise UserError(f"{predictions}: no such folder of predictions")
    manifest = manifest_of(predictions)
    if manifest is None and dataset is None:
        raise UserError(
            f"{predictions}: no {MANIFEST} of exported LR files is in it or beside it, so nothing says which images "
            "these are; name the dataset with --dataset"
        )
    if manifest is not None and manifest["protocol"] != protocol:
        raise UserError(
            f"the LR files were exported under {manifest['protocol']}, not {protocol}; score under the protocol they "
            "are of"
        )
    if manifest is not None and seed not in (None, manifest["seed"]):
        raise UserError(f"the LR files were exported with the seed {manifest['seed']}, not {seed}; leave --seed out")
    if manifest is not None:
        suffix, seed = suffix or manifest.get("suffix"), manifest["seed"]
    if manifest is not None and dataset is None:
        dataset = manifest["dataset_asked_for"]
        split, subjects = split or manifest.get("split"), subjects or manifest.get("subjects")
    assert dataset is not None
    chosen = name or predictions.resolve().name
    return _scored(
        predictions, Request(protocol, dataset, split, subjects, suffix, seed or 0, out, chosen), manifest, notify
    )


@dataclass(frozen=True)
class _Brought:
    """Stands for the method that made the predictions: what a report asks of one."""

    resolved: str
    weights_sha256: str | None = None
    weights: None = None


def _scored(predictions: Path, request: Request, manifest: Mapping[str, Any] | None, notify: Notify | None) -> Report:
    from mrsr_bench.benchmarks.availability import metric_ingredients
    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.entrants import DTYPE, Entrant
    from mrsr_bench.benchmarks.evaluate import Evaluation, acquired, image_facts, reference_under
    from mrsr_bench.benchmarks.evaluate import Request as RunRequest
    from mrsr_bench.benchmarks.metrics import metrics
    from mrsr_bench.benchmarks.results import Row, check_writable, ingredients, piece_key, plain
    from mrsr_bench.benchmarks.summary import report_of
    from mrsr_bench.benchmarks.supplement import STORED, supplement_of

    protocol, dataset, split, subjects = _opened(request)
    files = _predictions(predictions, [case for cases in subjects.values() for case in cases])
    check_writable(request.out)
    degradation = degradations.get(protocol.degradation)
    specs = {key: metrics.get(key) for key in protocol.metrics}
    name = str(request.name)
    base = ingredients(
        method={"name": name, "version": 0, "arguments": {}, "brought": True},
        weights_sha256=None,
        protocol_hash=protocol.hash,
        degradation={"name": degradation.name, "version": degradation.version},
        metrics=metric_ingredients(list(specs.values())),
        seed=request.seed,
        dtype=DTYPE,
        tiling=None,
        batch_norm=None,
        device="elsewhere",
    )
    entrant = Entrant(name, method=_Brought(name), base=base)  # type: ignore[arg-type]
    run = RunRequest([name], request.dataset, protocol.name, split, out=request.out, seed=request.seed, figures=False)
    supplement = supplement_of(None, protocol, specs)
    evaluation = Evaluation(run, protocol, degradation, specs, dataset.name, notify, supplement)
    exported = {image["image"]: image for image in (manifest or {}).get("images", ())}
    usable = 0
    for done, (subject, cases) in enumerate(subjects.items()):
        rows: list[Row] = []
        images: list[dict[str, Any]] = []
        curves: dict[str, Any] = {}
        digests = []
        for case in cases:
            if notify is not None:
                notify(f"{subject}: {case.image}", done, len(subjects))
            pair = acquired(case, degradation, protocol, request.seed)
            _check_lr(case, pair, exported.get(case.image))
            reference = reference_under(protocol, pair)
            images.append(image_facts(case, pair, reference))
            try:
                sr, digest = _prediction(files.get(case.image), case, pair)
            except UserError as error:
                conventions = {key: spec.convention for key, spec in specs.items()}
                rows += [Row(subject, case.image, None, key, conventions[key], None, str(error)) for key in specs]
                continue
            found, curves[case.image] = evaluation.scored(subject, case.image, sr, reference, pair)
            rows += found
            digests.append((case.image, digest))
            usable += 1
        entrant.keys[subject] = piece_key(base, subject, digests)
        entrant.pieces[subject] = dict(
            plain(
                {
                    "rows": [vars(row) for row in rows],
                    "curves": curves,
                    STORED: dict(supplement.ingredients),
                    "images": [{**facts, "prediction_sha256": dict(digests).get(facts["image"])} for facts in images],
                    "seconds": [],
                    "peak_memory_mb": None,
                    "environment": {"hardware": None, "device": "elsewhere"},
                    "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                }
            )
        )
    if not usable:
        reason = next(row["reason"] for piece in entrant.pieces.values() for row in piece["rows"])
        raise UserError(f"{predictions}: none of the predictions can be scored ({reason})")
    return report_of(
        [entrant],
        list(subjects),
        {},
        protocol=protocol,
        dataset=dataset.name,
        synthetic=dataset.synthetic,
        split=split,
        metrics=list(specs),
        seed=request.seed,
        out=request.out,
    )


def _predictions(folder: Path, cases: Sequence[Case]) -> dict[str, Path]:
    """The prediction of each image: a file of its name."""
    found = {}
    for case in cases:
        there = [folder / f"{file_name(case.image)}{suffix}" for suffix in SUFFIXES]
        there = [path for path in there if path.is_file()]
        if len(there) > 1:
            raise UserError(f"{folder}: both {there[0].name} and {there[1].name} are there; leave one")
        if there:
            found[case.image] = there[0]
    if not found:
        wanted = file_name(cases[0].image)
        raise UserError(f"{folder}: holds no prediction; expected files named as the LR files, such as {wanted}.nii.gz")
    return found


def _check_lr(case: Case, pair: Pair, exported: Mapping[str, Any] | None) -> None:
    if exported is not None and exported.get("lr_voxels_sha256") != lr_digest(pair.lr):
        raise UserError(
            f"{case.image}: the LR volume made now is not the one that was exported (its HR image or this version of "
            "mrsr-bench changed); export the LR files again and upscale those"
        )


def _prediction(path: Path | None, case: Case, pair: Pair) -> tuple[Any, str]:
    """SR's voxels on the target grid, and the SHA-256 of its file."""
    from mrsr_bench.benchmarks.datasets.split_lists import file_sha256
    from mrsr_bench.volume import load

    if path is None:
        raise UserError(f"{file_name(case.image)}.nii.gz is missing among the predictions")
    sr = load(path)
    grid = pair.target or pair.hr.grid
    if not sr.grid.same_as(grid, SAME_GRID_VOXELS):
        raise UserError(
            f"{path.name}: lies on another grid than was asked for (shape {sr.data.shape}, expected "
            f"{grid.shape}, and the affine of {TARGET_FOLDER}/{file_name(case.image)}.nii.gz)"
        )
    return (sr.data if pair.view is None else pair.view(sr.data)), file_sha256(path)
