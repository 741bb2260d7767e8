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


KINDS: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "models": _models,
    "datasets": _datasets,
    "degradations": _degradations,
    "metrics": _metrics,
    "protocols": _protocols,
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


def _details_of_protocol(name: str) -> dict[str, Any]:
    protocol = get_protocol(name)
    return {**protocol.content, "hash": protocol.hash}


def _names() -> dict[str, list[str]]:
    from mrsr_bench.benchmarks.datasets import datasets
    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.metrics import metrics
    from mrsr_bench.zoo.methods import methods

    return {
        "models": methods.names(),
        "datasets": datasets.names(),
        "degradations": degradations.names(),
        "metrics": metrics.names(),
        "protocols": protocols_in_order(),
    }


def details(name: str) -> dict[str, Any]:
    """Everything known about one component of any kind; which kind is under ``component``.

    Raises:
        UserError: nothing bears that name; near names of every kind are suggested.
    """
    names = _names()
    kind = next((kind for kind, known in names.items() if name in known), "models")
    if kind == "protocols":
        found = _details_of_protocol(name)
    elif kind != "models":
        found = next(item for item in KINDS[kind]() if item["name"] == name)
    else:
        try:
            found = _details_of_model(name)
        except UserError:
            every = [known for of_kind in names.values() for known in of_kind]
            raise unknown_name("component", name, every) from None
    return {"name": name, "component": kind.removesuffix("s"), **found}
