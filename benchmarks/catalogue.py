"""What there is: methods, datasets, degradations, metrics and protocols as plain data, for `list` and `show`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.entrants import protocols_in_order
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.registry import unknown_name

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.fetch import Source
    from mrsr_bench.benchmarks.metric import MetricSpec
    from mrsr_bench.zoo.method import MethodSpec


def _model(spec: MethodSpec) -> dict[str, Any]:
    from mrsr_bench.zoo.weights import describe, undertrained

    tasks = protocols_in_order() if spec.kind == "interpolation" else list(spec.tasks)
    return {
        "name": spec.name,
        "kind": spec.kind,
        "tasks": tasks,
        "parameters": spec.parameters,
        "weights": describe(spec),
        "undertrained": undertrained(spec),
        "paper": spec.paper,
    }


def _models() -> list[dict[str, Any]]:
    from mrsr_bench.zoo.methods import methods

    return [_model(spec) for spec in sorted(methods.all(), key=lambda spec: spec.kind)]


def _datasets() -> list[dict[str, Any]]:
    from mrsr_bench.benchmarks.datasets import datasets

    return [{"name": d.name, "summary": d.summary, "terms": d.terms} for d in datasets.all()]


def _degradations() -> list[dict[str, Any]]:
    from mrsr_bench.benchmarks.degradations import degradations

    return [
        {"name": d.name, "version": d.version, "summary": d.summary, "defaults": dict(d.defaults)}
        for d in degradations.all()
    ]


def _metric(spec: MetricSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "version": spec.version,
        "direction": spec.direction,
        "units": spec.units,
        "ranked": spec.ranked,
        "reference": spec.reference,
        "needs_parameters": bool(spec.parameters),
        "source": spec.source,
        "convention": spec.convention,
        "summary": spec.summary,
    }


def _metrics() -> list[dict[str, Any]]:
    from mrsr_bench.benchmarks.metrics import metrics

    return [_metric(spec) for spec in metrics.all()]


def _protocols() -> list[dict[str, Any]]:
    found = []
    for name in protocols_in_order():
        protocol = get_protocol(name)
        factor = "x".join(f"{f:g}" for f in protocol.factor)
        facts = {"degradation": protocol.degradation, "factor": factor, "metrics": list(protocol.metrics)}
        found.append({"name": name, "summary": protocol.summary, **facts, "hash": protocol.hash})
    return found


def _conventions() -> list[dict[str, Any]]:
    from mrsr_bench.benchmarks.conventions import CONVENTIONS

    return [{"name": c.name, "metric": c.metric, "code": c.code, "summary": c.summary} for c in CONVENTIONS]


def _reproductions() -> list[dict[str, Any]]:
    from mrsr_bench.benchmarks.reproduce import get_reproduction, reproduction_names

    found = []
    for table in map(get_reproduction, reproduction_names()):
        protocols = [panel["protocol"] for panel in table["panels"]]
        found.append({"name": table["name"], "title": table["title"], "paper": table["paper"], "protocols": protocols})
    return found


KINDS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "models": _models,
    "datasets": _datasets,
    "degradations": _degradations,
    "metrics": _metrics,
    "protocols": _protocols,
    "conventions": _conventions,
    "reproductions": _reproductions,
}


def listing(kind: str) -> dict[str, list[dict[str, Any]]]:
    """Everything of one kind: ``{kind: [...]}``.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    return {kind: KINDS[kind]()}


def _details_of_model(name: str) -> dict[str, Any]:
    from mrsr_bench.zoo.methods import methods

    spec = methods.get(name)
    return {**asdict(spec), **_model(spec)}


def _details_of_dataset(name: str) -> dict[str, Any]:
    """A published dataset's source, layout, counts and split rule too; what is here of it is for `data check`."""
    from mrsr_bench.benchmarks.datasets import datasets
    from mrsr_bench.benchmarks.datasets.published import PublishedDataset
    from mrsr_bench.benchmarks.datasets.split_lists import committed

    dataset = datasets.get(name)
    found: dict[str, Any] = {"summary": dataset.summary, "terms": dataset.terms, "synthetic": dataset.synthetic}
    if dataset.made_of:
        found["made_of"] = list(dataset.made_of)
    if not isinstance(dataset, PublishedDataset):
        return found
    split = dict(committed(dataset.split_list))
    if "splits" in split:
        split["sizes"] = {side: len(members) for side, members in split.pop("splits").items()}
    return {
        **found,
        "sources": [_source(source) for source in dataset.sources],
        "folders": list(dataset.folders),
        "layouts": [layout.glob for layout in dataset.layouts],
        "complete": {"subjects": dataset.expected.subjects, "images": dataset.expected.images},
        "split": {"list": dataset.split_list, **split},
    }


def _source(source: Source) -> str:
    from mrsr_bench.benchmarks.fetch import Archive, Bucket, ByHand

    if isinstance(source, Archive):
        return f"{source.url} (MD5 {source.md5})"
    if isinstance(source, Bucket):
        return f"{source.url}: {', '.join(source.patterns)}"
    if isinstance(source, ByHand):
        return f"by hand from {source.where}: {source.accept}"
    return f"Imaging Data Commons, {source.collection}: MR series like {source.description}"


def _details_of_reproduction(name: str) -> dict[str, Any]:
    from mrsr_bench.benchmarks.reproduce import get_reproduction

    table = get_reproduction(name)
    return {**table, "claims": [claim["text"] for claim in table["claims"]], "published": len(table["published"])}


def _details_of_protocol(name: str) -> dict[str, Any]:
    protocol = get_protocol(name)
    return {**protocol.content, "hash": protocol.hash}


def _names() -> dict[str, list[str]]:
    from mrsr_bench.benchmarks.conventions import CONVENTIONS
    from mrsr_bench.benchmarks.datasets import datasets
    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.metrics import metrics
    from mrsr_bench.benchmarks.reproduce import reproduction_names
    from mrsr_bench.zoo.methods import methods

    return {
        "models": methods.names(),
        "datasets": datasets.names(),
        "degradations": degradations.names(),
        "metrics": metrics.names(),
        "protocols": protocols_in_order(),
        "reproductions": reproduction_names(),
        "conventions": [convention.name for convention in CONVENTIONS],
    }


def details(name: str) -> dict[str, Any]:
    """Everything known about one component of any kind; which kind is under ``component``.

    Raises:
        UserError: nothing bears that name; near names of every kind are suggested.
    """
    names = _names()
    kind = next((kind for kind, known in names.items() if name in known), "models")
    in_full = {
        "protocols": _details_of_protocol,
        "datasets": _details_of_dataset,
        "reproductions": _details_of_reproduction,
    }
    if kind in in_full:
        found = in_full[kind](name)
    elif kind != "models":
        found = next(item for item in KINDS[kind]() if item["name"] == name)
    else:
        try:
            found = _details_of_model(name)
        except UserError:
            every = [known for of_kind in names.values() for known in of_kind]
            raise unknown_name("component", name, every) from None
    return {"name": name, "component": kind.removesuffix("s"), **found}
