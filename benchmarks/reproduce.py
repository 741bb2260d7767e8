"""What a paper's table or figure ran, run again: ours beside the paper's, and each claim of its text checked.

The tables are plain data in ``benchmarks/reproductions``. A table runs its methods under its protocols through
`mrsr_bench.benchmarks.evaluate`, on its own dataset if that is here, else on one that the user names, and then says so.
A method whose weights are missing stays in the table with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.claims import LOWER_IS_BETTER, PARAMETERS, SECONDS, Measured, judge_claims
from mrsr_bench.benchmarks.protocol import get_protocol, sha256_of
from mrsr_bench.registry import unknown_name

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.evaluate import Notify
    from mrsr_bench.benchmarks.protocol import Protocol
    from mrsr_bench.benchmarks.summary import Report

HR = "hr"
"""Stands in a table for HR itself, scored by the metrics that need no reference."""
FOLDER = "reproductions"
LEFT_OUT = "left out by --without"


@dataclass(frozen=True)
class Request:
    """What ``mrsr-bench reproduce`` was asked for; ``steps`` are those of a training that ``train`` starts.

    ``page`` is another folder for the page and its figure. The models of ``without`` do not run; their rows say so.
    """

    name: str
    dataset: str | None = None
    subjects: int | None = None
    split: str | None = None
    suffix: str | None = None
    train: bool = False
    steps: int | None = None
    device: str = "auto"
    out: Path = Path("runs")
    seed: int = 0
    fresh: bool = False
    page: Path | None = None
    without: Sequence[str] = ()


@lru_cache(maxsize=1)
def _load_all() -> dict[str, dict[str, Any]]:
    import yaml

    folder = files("mrsr_bench.benchmarks.reproductions")
    found = (yaml.safe_load(f.read_text(encoding="utf-8")) for f in folder.iterdir() if f.name.endswith(".yaml"))
    return {table["name"]: table for table in sorted(found, key=lambda table: str(table["name"]))}


def reproduction_names() -> list[str]:
    """Names of the tables and figures that can be run again."""
    return list(_load_all())


def get_reproduction(name: str) -> dict[str, Any]:
    """The content of a table's file.

    Raises:
        UserError: there is none of that name; near names are suggested.
    """
    found = _load_all()
    if name not in found:
        raise unknown_name("table or figure", name, found)
    return found[name]


def reproduce(request: Request, notify: Notify | None = None) -> dict[str, Any]:
    """Run a table and put ours beside the paper's; written to ``out/reproductions`` as JSON, Markdown and PNG.

    A PNG is drawn of what the paper has as a figure.

    Raises:
        UserError: there is no such table, its dataset is not here and none was named, or as `evaluate`.
    """
    from mrsr_bench.benchmarks.matrix import write_json
    from mrsr_bench.benchmarks.reproduction_figure import figure_png, is_figure
    from mrsr_bench.benchmarks.results import check_writable, file_name, plain, write_bytes, write_text

    table = get_reproduction(request.name)
    _check_without(table, request.without)
    own = _own_datasets(table)
    dataset = request.dataset or _present(table, own, request.split)
    if request.page is not None:
        check_writable(request.page)
    measured = Measured()
    panels = [_panel(table, panel, dataset, request, measured, notify) for panel in table["panels"]]
    labels = {panel["protocol"]: list(panel["methods"]) for panel in table["panels"]}
    claims = judge_claims(
        table["claims"],
        measured,
        labels,
        higher=_higher(table),
        margins=table.get("margins"),
        seed=request.seed,
    )
    _draw_stars(table, panels, measured, request.seed)
    found: dict[str, Any] = plain(
        {
            **{key: table[key] for key in ("name", "title", "paper", "convention", "reading", "unpublished")},
            "definition": sha256_of(table),
            "command": _command(request, panels[0]["dataset"]),
            "dataset": panels[0]["dataset"],
            "dataset_of_the_paper": own,
            "other_dataset": dataset not in own,
            "synthetic": any(panel["synthetic"] for panel in panels),
            "trained_here": request.train,
            "steps": request.steps,
            "seed": request.seed,
            "metrics": table["metrics"],
            "stars_against": table.get("stars_against"),
            "transfer_from": table.get("transfer_from"),
            "panels": panels,
            "claims": claims,
        }
    )
    from mrsr_bench.benchmarks.reproduction_tables import markdown

    stem = f"{request.name}--{file_name(found['dataset'])}"
    png = None
    if is_figure(table):
        png = figure_png(found, [max(get_protocol(panel["protocol"]).factor) for panel in table["panels"]])
    text = markdown(found, None if png is None else f"{stem}.png")
    files = []
    for folder in (request.out / FOLDER, *([request.page] if request.page is not None else [])):
        write_text(folder / f"{stem}.md", text)
        files.append(folder / f"{stem}.md")
        if png is not None:
            write_bytes(folder / f"{stem}.png", png)
            files.append(folder / f"{stem}.png")
    files.append(write_json(found, request.out / FOLDER / f"{stem}.json"))
    return {**found, "files": [str(file) for file in files]}


def _command(request: Request, dataset: str) -> str:
    """The command again; a dataset that is a path by its name alone, since nobody else has this machine's folders."""
    import shlex

    from mrsr_bench.benchmarks.datasets import datasets

    words = ["mrsr-bench", "reproduce", request.name]
    if request.dataset is not None:
        words += ["--dataset", request.dataset if dataset in datasets.names() else f"PATH/{dataset}"]
    given = {"split": request.split, "subjects": request.subjects, "suffix": request.suffix, "steps": request.steps}
    for name, value in given.items():
        words += [] if value is None else [f"--{name}", str(value)]
    words += [word for model in request.without for word in ("--without", model)]
    words += ["--train"] if request.train else []
    words += ["--seed", str(request.seed)] if request.seed else []
    return shlex.join(words)


def _check_without(table: Mapping[str, Any], without: Sequence[str]) -> None:
    """Raise `UserError` for a model to leave out that no row of the table has, or where none would be left."""
    models = {model: None for panel in table["panels"] for model in panel["methods"].values()}
    for model in without:
        if model not in models:
            raise unknown_name(f"method of {table['name']}", model, models)
    if set(models) - {HR} <= set(without):
        raise UserError(f"--without leaves nothing of {table['name']} to run")


def _own_datasets(table: Mapping[str, Any]) -> list[str]:
    own = table["dataset"] or []
    return [own] if isinstance(own, str) else list(own)


def _present(table: Mapping[str, Any], own: Sequence[str], split: str | None) -> str:
    """The first of the table's own datasets that is here.

    Raises:
        UserError: none is, or the paper's data is not public.
    """
    from mrsr_bench.benchmarks.datasets import open_dataset

    reasons = ["its data is not public"] if not own else []
    for name in own:
        try:
            if open_dataset(name).cases(split or "test"):
                return name
            reasons.append(f"{name} holds no subject of that split")
        except UserError as error:
            reasons.append(str(error))
    raise UserError(
        f"{table['name']} cannot be run on the paper's data ({'; '.join(reasons)}); "
        "name other data with --dataset, and the result will say that it is other data"
    )


def _higher(table: Mapping[str, Any]) -> frozenset[str]:
    from mrsr_bench.benchmarks.metrics import metrics

    keys = [key for key in table["metrics"] if key not in LOWER_IS_BETTER]
    return frozenset(key for key in keys if metrics.get(key).direction == "higher")


def _panel(
    table: Mapping[str, Any],
    panel: Mapping[str, Any],
    dataset: str,
    request: Request,
    measured: Measured,
    notify: Notify | None,
) -> dict[str, Any]:
    """One protocol of a table: run it, fill ``measured``, and state its rows."""
    from mrsr_bench.benchmarks.evaluate import Request as RunRequest
    from mrsr_bench.benchmarks.evaluate import evaluate
    from mrsr_bench.zoo.methods import methods
    from mrsr_bench.zoo.weights import undertrained

    name, labelled = panel["protocol"], panel["methods"]
    known: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for model in labelled.values():
        try:
            if model != HR:
                known[model] = methods.get(model)
        except UserError as error:
            errors[model] = str(error)
    errors.update(dict.fromkeys(request.without, LEFT_OUT))
    wanted = [model for model in known if model not in request.without]
    report = evaluate(
        RunRequest(
            wanted,
            dataset,
            name,
            request.split,
            request.subjects,
            request.suffix,
            train=request.train,
            steps=request.steps,
            device=request.device,
            out=request.out,
            seed=request.seed,
            fresh=request.fresh,
            figures=False,
        ),
        notify,
    )
    runs = {run["model"]: run for run in report.result["runs"]}
    errors.update({model: run["error"] for model, run in runs.items() if "error" in run})
    costs = _costs(report)
    if HR in labelled.values() and HR not in request.without:
        runs[HR] = {"model": HR, "resolved": HR, "scores": hr_scores(report.protocol, dataset, request)}
    rows = []
    for label, model in labelled.items():
        place = (name, label)
        paper = _paper_values(table, *place)
        row: dict[str, Any] = {"label": label, "model": model, "paper": paper, "ours": {}}
        rows.append(row)
        spec = known.get(model)
        if spec is not None and spec.parameters is not None:
            row["ours"][PARAMETERS] = {"mean": spec.parameters, "n": None}
            measured.parameters[place] = spec.parameters
        if model in errors:
            measured.missing[place] = row["error"] = errors[model]
            continue
        run = runs[model]
        row.update({key: run.get(key) for key in ("resolved", "weights_sha256")})
        if table.get("transfer_from") and run.get("weights_sha256"):
            row["transfer"] = _transfer(report.trained.get(model, {}), report.result["dataset"], table["transfer_from"])
            if row["transfer"]["why_not"]:
                measured.no_transfer[place] = row["transfer"]["why_not"]
        row["undertrained"] = run.get("weights_sha256") is not None and undertrained(methods.get(run["resolved"]))
        for metric in table["metrics"]:
            if metric in LOWER_IS_BETTER:
                continue
            score = run["scores"].get(metric, {"mean": None, "n": 0, "reason": f"{metric} is no metric of {name}"})
            row["ours"][metric] = score
            measured.values[(*place, metric)] = score.get("per_subject", {})
            if score.get("reason"):
                measured.reasons[(*place, metric)] = score["reason"]
        if SECONDS in table["metrics"] and model in costs:
            seconds, measured.machines[place] = costs[model]
            measured.values[(*place, SECONDS)] = seconds
            row["ours"][SECONDS] = {"mean": run["seconds_per_volume"], "n": len(seconds), "per_subject": seconds}
    subjects: list[str] = next((run["subjects"] for run in runs.values() if "subjects" in run), [])
    return {
        "protocol": name,
        "protocol_hash": report.result["protocol_hash"],
        "dataset": report.result["dataset"],
        "synthetic": report.synthetic,
        "subjects": subjects,
        "conventions": {key: text for key, text in report.conventions.items() if key in table["metrics"]},
        "deviations": report.protocol.content.get("deviations", []),
        "rows": rows,
    }


def _transfer(trained: Mapping[str, Any], dataset: str, source: str) -> dict[str, Any]:
    """What the weights saw beside the contrast ``source`` that the paper's saw, and why they show no transfer if so."""
    from mrsr_bench.benchmarks.contrasts import contrasts_of, told, why_no_transfer

    origin = str(trained.get("dataset", ""))
    return {
        "trained_on": origin or None,
        "also_saw": told(contrasts_of(origin) - {source}) or None,
        "why_not": why_no_transfer(trained, dataset),
    }


def _paper_values(table: Mapping[str, Any], protocol: str, label: str) -> dict[str, float | None]:
    """The paper's value of every metric; None where it is not public."""
    for known in table["published"]:
        if (known["protocol"], known["method"]) == (protocol, label):
            return {metric: known.get(metric) for metric in table["metrics"]}
    return dict.fromkeys(table["metrics"])


def _costs(report: Report) -> dict[str, tuple[dict[str, float], frozenset[str]]]:
    """Mean seconds of inference by subject, and the machines they were measured on, of every method that ran."""
    from mrsr_bench.benchmarks.results import read_run

    found = {}
    for folder in report.folders:
        run = read_run(folder)
        seconds = {subject: sum(p["seconds"]) / len(p["seconds"]) for subject, p in run["pieces"].items()}
        machines = frozenset(json.dumps([e["hardware"], e["device"]], sort_keys=True) for e in run["environments"])
        found[run["model"]] = (seconds, machines)
    return found


def hr_scores(protocol: Protocol, dataset: str, request: Request) -> dict[str, dict[str, Any]]:
    """HR's own scores by the protocol's metrics without reference, summarised over subjects; stored like any piece."""
    from mrsr_bench.benchmarks.availability import metric_ingredients
    from mrsr_bench.benchmarks.datasets import open_dataset
    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.evaluate import by_subject, default_split
    from mrsr_bench.benchmarks.intensities import as_stated
    from mrsr_bench.benchmarks.metrics import metrics, score
    from mrsr_bench.benchmarks.metrics.region import reference_of
    from mrsr_bench.benchmarks.results import PieceStore, piece_key
    from mrsr_bench.benchmarks.statistics import summarise

    specs = [metrics.get(key) for key in protocol.metrics if not metrics.get(key).reference]
    degradation = degradations.get(protocol.degradation)
    store = PieceStore(request.out)
    base = {
        "format": "hr-1",
        "protocol_hash": protocol.hash,
        "degradation": {"name": degradation.name, "version": degradation.version},
        "metrics": metric_ingredients(specs),
        "seed": request.seed,
    }
    opened = open_dataset(dataset, suffix=request.suffix)
    split = request.split or default_split(opened, protocol)
    values: dict[str, dict[str, float | None]] = {spec.name: {} for spec in specs}
    reasons: dict[str, str] = {}
    for subject, cases in by_subject(opened.cases(split, seed=request.seed), request.subjects).items():
        key = piece_key(base, subject, [(case.image, case.fingerprint) for case in cases])
        piece = None if request.fresh else store.get(key)
        if piece is None:
            images = []
            for case in cases:
                pair = as_stated(case.acquire(degradation, protocol.settings, request.seed), protocol)
                scores = score(pair.hr.data, reference_of(pair.hr, pair.lr), [spec.name for spec in specs])
                images.append({s.metric: [s.value, s.reason] for s in scores if s.slice is None})
            piece = {"images": images}
            store.put(key, piece)
        for spec in specs:
            numbers = [image[spec.name][0] for image in piece["images"]]
            whole = all(number is not None for number in numbers)
            values[spec.name][subject] = sum(numbers) / len(numbers) if whole else None
            if not whole:
                reasons[spec.name] = next(r for v, r in (i[spec.name] for i in piece["images"]) if v is None)
    found = {name: summarise(of, seed=request.seed, missing=reasons.get(name)) for name, of in values.items()}
    compared = {"mean": None, "ci95": None, "n": 0, "reason": "HR is the reference itself"}
    return {**found, **{key: dict(compared) for key in protocol.metrics if key not in found}}


def _draw_stars(table: Mapping[str, Any], panels: Sequence[Mapping[str, Any]], measured: Measured, seed: int) -> None:
    """Stars of every method against the table's baseline into the rows; a metric is a family (`against_baseline`)."""
    from mrsr_bench.benchmarks.statistics import Paired, against_baseline, unreachable

    baseline = table.get("stars_against")
    if baseline is None:
        return
    drawn: dict[tuple[str, str, str], Paired] = {}
    for metric in table["metrics"]:
        places = [(row["label"], panel["protocol"]) for panel in panels for row in panel["rows"]]
        values = {
            (label, protocol): measured.values[protocol, label, metric]
            for label, protocol in places
            if measured.why_not((protocol, label), metric) is None
        }
        family = against_baseline(values, baseline, seed=seed)
        drawn |= {(protocol, label, metric): test for (label, protocol), test in family.items()}
    for panel in panels:
        for row in panel["rows"]:
            for metric, score in row["ours"].items():
                test = drawn.get((panel["protocol"], row["label"], metric))
                if test is not None:
                    silent = test.reason or unreachable(test.n, test.family)
                    score.update({"stars": test.stars, "p_holm": test.p_holm, "stars_reason": silent})
