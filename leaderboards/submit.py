"""`mrsr-bench submit`: from stored runs to a submission, with everything that lets a stranger check it."""

from __future__ import annotations

import datetime
import json
import re
import tempfile
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError, __version__
from mrsr_bench.benchmarks.datasets.hidden_phantom import hidden_name
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.benchmarks.results import check_writable, file_name, read_run, write_text
from mrsr_bench.leaderboards.schema import MAINTAINERS, Content, Submission, as_text, file_name_of, make, why_not_fixed

if TYPE_CHECKING:
    from mrsr_bench.zoo.method import MethodSpec

Notify = Callable[[str], None]
LONGEST_TEXT = 1000
OURS = "mrsr-bench"
"""The package that brings the zoo's own methods."""
_COMMIT = re.compile(r"[0-9a-f]{40}\+?")
_RUN_ENTRIES = ("resolved", "conventions", "environments", "split", "key", "synthetic")


@dataclass(frozen=True)
class Declaration:
    """What only the submitter knows. ``weights``: a folder or address where those of the runs are, if not found here.

    ``source`` and ``commit`` are of the method's code, ``licence`` of it too; None takes what the package says.
    ``rehearse`` runs the method on procedural heads too, without which nobody can give the badge re-run for it.
    """

    contact: str
    track: str = "open"
    licence: str | None = None
    source: str | None = None
    commit: str | None = None
    weights: Path | None = None
    other_data: str | None = None
    rehearse: bool = True


def submit(runs: Sequence[Path], out: Path, declared: Declaration, notify: Notify) -> dict[str, Any]:
    """Write the submission of ``runs``: one file, or one for each in an existing folder ``out``; says what was written.

    Raises:
        UserError: a run is unusable, its weights are not here, or something declared is not allowed.
    """
    if not runs:
        raise UserError("name at least one run, as `mrsr-bench run` writes them")
    if not out.is_dir():
        check_writable(out.parent)
    made: list[Submission] = []
    for path in runs:
        notify(f"reading {path}")
        submission = submission_of(path, declared, notify)
        if any(other.digest == submission.digest or _same_run(other, submission) for other in made):
            raise UserError(f"{path}: is the same run as one named before; name each once")
        made.append(submission)
    if out.is_dir():
        files = [out / file_name_of(submission) for submission in made]
        for file, submission in zip(files, made, strict=True):
            write_text(file, as_text([submission]))
    else:
        files = [out]
        write_text(out, as_text(made))
    entries = [
        {
            "method": one.method,
            "protocol": one.protocol,
            "dataset": one.dataset,
            "subjects": len(one.subjects),
            "digest": one.digest,
            "can be re-run": one.rehearsal is not None,
        }
        for one in made
    ]
    return {"files": [str(file) for file in files], "submissions": entries}


def _same_run(one: Submission, other: Submission) -> bool:
    return one.run_key == other.run_key


def submission_of(path: Path, declared: Declaration, notify: Notify) -> Submission:
    """The submission of one stored run.

    Raises:
        UserError: as `submit`.
    """
    from mrsr_bench.zoo.methods import methods
    from mrsr_bench.zoo.skeleton import refuse_unfilled

    run = read_run(path)
    absent = [key for key in _RUN_ENTRIES if key not in run]
    if absent or not run["environments"]:
        raise UserError(f"{path}: does not say its {(absent or ['environments'])[0]}; run it again with --fresh")
    protocol = get_protocol(run["protocol"])
    if run["protocol_hash"] != protocol.hash:
        raise UserError(f"{path}: was made under another {protocol.name} than this version has; run it again")
    spec = methods.get(run["resolved"])
    refuse_unfilled(spec)
    environment = run["environments"][-1]
    folder = None if run["weights_sha256"] is None else _weights_folder(run, path, declared.weights)
    content: dict[str, Any] = {
        "method": spec.name,
        "kind": spec.kind,
        "version": spec.version,
        "description": plain_text(spec.summary),
        "paper": plain_text(spec.paper),
        "parameters": spec.parameters,
        "track": declared.track,
        "protocol": protocol.name,
        "protocol_hash": protocol.hash,
        "dataset": run["dataset"],
        "split": run["split"],
        "seed": run["seed"],
        "synthetic": run["synthetic"],
        "conventions": {key: plain_text(text) for key, text in run["conventions"].items()},
        "subjects": run["subjects"],
        "images": {subject: n for subject, n in _images(run).items() if n > 1},
        "scores": _scores(run["scores"]),
        "seconds_per_volume": run.get("seconds_per_volume"),
        "peak_memory_mb": run.get("peak_memory_mb"),
        "hardware": _hardware(environment),
        "versions": environment["versions"],
        "weights": None if folder is None else _weights(run["weights_sha256"], folder),
        "source": _source(spec, declared, environment),
        "training": None if folder is None else _training(spec, folder, declared),
        "licence": declared.licence or spec.licence,
        "contact": declared.contact,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "run_key": run["key"],
    }
    checked = make(content, str(path))  # before anything is computed
    refusal = why_not_fixed(checked) if declared.track == "fixed" else None
    if refusal is not None:
        raise UserError(f"{path}: is not of the fixed track: {refusal}; submit it with --track open")
    refusal = why_not_maintained(checked)
    if refusal is not None:
        raise UserError(f"{path}: the maintainers are no contact for it: {refusal}; name yourself with --contact")
    if not declared.rehearse:
        return checked
    return make({**content, "rehearsal": _rehearsal(checked, folder, notify)}, str(path))


def why_not_maintained(content: Content) -> str | None:
    """Why the maintainers cannot answer for a submission that names them as its contact; None if they can.

    They answer for the methods that come with this package, with the weights that come with it or with none.
    """
    from mrsr_bench.zoo.methods import methods
    from mrsr_bench.zoo.pins import shipped_digests

    if content.contact != MAINTAINERS:
        return None
    try:
        methods.get(content.method)
        ours = content.source.package == OURS and _entry_point(content.method) is None
    except UserError:
        ours = False
    if not ours:
        return f"{content.method} is no method of this package"
    if content.weights is not None and content.weights.sha256 not in shipped_digests():
        return f"no weights of SHA-256 {content.weights.sha256[:16]} ship with this package"
    return None


def plain_text(text: str) -> str:
    """Our own text as a submission may hold it: no markup or invisible characters, no formula's beginning, cut."""
    kept = "".join(
        " " if c in "<>&`" or unicodedata.category(c)[0] in "CZ" else c for c in unicodedata.normalize("NFC", text)
    )
    kept = " ".join(kept.split()).lstrip("=+-@ ")
    return kept[:LONGEST_TEXT].strip() or "none"


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The scores of a run, with reasons as text that a submission may hold."""
    return {
        key: {**score, **({"reason": plain_text(score["reason"])} if score.get("reason") else {})}
        for key, score in scores.items()
    }


def _images(run: Mapping[str, Any]) -> dict[str, int]:
    """How many images of each subject were scored."""
    return {subject: len(piece.get("images") or ()) for subject, piece in run.get("pieces", {}).items()}


def _hardware(environment: Mapping[str, Any]) -> dict[str, Any]:
    facts = environment["hardware"]
    return {
        "cpu": plain_text(facts["cpu"]),
        "cores": facts.get("cores"),
        "memory_mb": facts.get("memory_mb"),
        "gpu": None if facts.get("gpu") is None else plain_text(facts["gpu"]),
        "device": environment["device"].partition(":")[0],
    }


def _weights_folder(run: Mapping[str, Any], path: Path, named: Path | None) -> Path:
    """Where the weights of a run are.

    Raises:
        UserError: nowhere, or those that are named are others.
    """
    from mrsr_bench.zoo.hub import weights_path
    from mrsr_bench.zoo.publish import every_folder
    from mrsr_bench.zoo.weights import MODEL, sha256_of_file

    digest = run["weights_sha256"]
    if named is not None:
        found = weights_path(named)
        file = found / MODEL if found.is_dir() else found
        if not file.is_file():
            raise UserError(f"{named}: holds no {MODEL}; name the folder or the address of the weights of {path}")
        if sha256_of_file(file) != digest:
            raise UserError(f"{named}: are not the weights that {path} was made with (SHA-256 {digest[:16]})")
        return file.parent
    # What was pulled from the Hub comes last there, and is what others can have: so from the end.
    for folder in reversed(list(every_folder())):
        if sha256_of_file(folder / MODEL) == digest:
            return folder
    raise UserError(f"{path}: its weights (SHA-256 {digest[:16]}) are not here; say where with --weights")


def _weights(digest: str, folder: Path) -> dict[str, Any]:
    from mrsr_bench.zoo.hub import SOURCE, read_source
    from mrsr_bench.zoo.pins import shipped_digests

    facts: dict[str, Any] = {"sha256": digest, "shipped": digest in shipped_digests()}
    if (folder / SOURCE).is_file():
        source = read_source(folder)
        facts |= {"repository": source["repo"], "revision": source["revision"]}
    return facts


def _training(spec: MethodSpec, folder: Path, declared: Declaration) -> dict[str, Any]:
    """What the configuration of the weights says of their training, which their SHA-256 covers.

    Weights that began from others learnt what those had learnt, and took their hours too. A network that judged the
    training (a perceptual loss) brings what it learnt from.
    """
    from mrsr_bench.zoo.cards import terms_of
    from mrsr_bench.zoo.publish import lineage
    from mrsr_bench.zoo.weights import CONFIG, find_weights

    weights = find_weights(spec, None, folder)
    config = {} if weights is None else weights.config
    beside = json.loads((folder / CONFIG).read_text(encoding="utf-8")) if (folder / CONFIG).is_file() else {}
    terms = terms_of({**config, "further_terms": beside.get("further_terms", "")})
    recipe = config.get("recipe") or {}
    configs, lost = lineage(config)
    trainings = [one.get("trained") or {} for one in configs]
    trained = trainings[0]
    dataset = str(trained.get("dataset", "unknown"))
    other = [declared.other_data] if declared.other_data is not None else []
    for one in trainings:
        other += [str(one["dataset"])] if one.get("dataset", dataset) != dataset else []
        for loss in (one.get("perceptual") or {}).values():
            if loss.get("origin") != "random":
                other.append(f"what the {loss.get('backbone', 'network')} of its perceptual loss learnt from")
    other += [f"what the weights of SHA-256 {lost[:16]}, which it began from, learnt from"] if lost else []
    seconds = [found for one in trainings if (found := one.get("seconds")) is not None]
    whole = lost is None and len(seconds) == len(trainings)
    own = [one for one in trainings if one.get("dataset", dataset) == dataset]
    return {
        "dataset": file_name(dataset).replace("--", "-").lstrip("_") or "unknown",
        "terms": plain_text(terms),
        "train_subjects": list(dict.fromkeys(name for one in own for name in one.get("train_subjects", ()))),
        "val_subjects": list(dict.fromkeys(name for one in own for name in one.get("val_subjects", ()))),
        "recipe": plain_text(f"{recipe['name']}: {recipe.get('summary', '')}") if "name" in recipe else None,
        "other_data": plain_text("; ".join(dict.fromkeys(other))) if other else None,
        "hours": sum(seconds) / 3600 if whole else None,
        "hardware": plain_text(str(trained["hardware"])) if trained.get("hardware") else None,
    }


def _source(spec: MethodSpec, declared: Declaration, environment: Mapping[str, Any]) -> dict[str, Any]:
    """Which package brings the method, and from which commit; what is declared goes before what is found."""
    facts: dict[str, Any] = {"package": OURS, "package_version": __version__}
    commit = environment.get("git_commit")
    point = _entry_point(spec.name)
    if point is not None and point.dist is not None:
        facts = {"package": point.dist.name, "package_version": point.dist.version}
        origin = json.loads(point.dist.read_text("direct_url.json") or "{}")
        commit = origin.get("vcs_info", {}).get("commit_id")
        if str(origin.get("url", "")).startswith("https://"):
            facts["repository"] = origin["url"]
    if declared.source is not None:
        facts["repository"] = declared.source
    if declared.commit is not None or (commit is not None and _COMMIT.fullmatch(commit)):
        facts["commit"] = declared.commit or commit
    return facts


def _entry_point(method: str) -> metadata.EntryPoint | None:
    """The entry point of another package that brings ``method``, None for those of this package."""
    return next((point for point in metadata.entry_points(group="mrsr_bench.methods") if point.name == method), None)


def _rehearsal(submission: Submission, folder: Path | None, notify: Notify) -> dict[str, Any] | None:
    """Scores on the heads that follow from the weights; None, and a word about it, where the task cannot be had."""
    from mrsr_bench.benchmarks.evaluate import Request, evaluate

    sha256 = None if submission.weights is None else submission.weights.sha256
    name = hidden_name(submission.method, sha256, submission.protocol_hash)
    notify(f"running {submission.method} on {name}")
    with tempfile.TemporaryDirectory() as scratch:
        request = Request(
            [submission.method],
            name,
            submission.protocol,
            "test",
            weights=folder,
            device="cpu",
            out=Path(scratch),
            seed=submission.seed,
            figures=False,
        )
        try:
            (run,) = evaluate(request).result["runs"]
        except UserError as error:
            run = {"error": str(error)}
    if "error" in run:
        notify(f"cannot be run on procedural heads, so nobody can re-run it without the data: {run['error']}")
        return None
    return {"dataset": name, "scores": _scores(run["scores"])}
