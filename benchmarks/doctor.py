"""`mrsr-bench doctor`: what is installed, what is found and where, and what is missing for which command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks import availability, provenance


def _devices() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"hardware": provenance.hardware("cpu"), "gpus": gpus, "auto": "cuda" if gpus else "cpu"}


def _places() -> dict[str, Any]:
    from mrsr_bench.benchmarks.metrics.no_reference import offline_by
    from mrsr_bench.zoo.weights import home

    data = os.environ.get("MRSR_BENCH_DATA")
    places = {"MRSR_BENCH_HOME": home(), "MRSR_BENCH_DATA": Path(data).expanduser() if data else home() / "data"}
    return {
        **{name: {"path": str(path), "exists": path.is_dir()} for name, path in places.items()},
        "runs": {"path": str(Path("runs").resolve()), "exists": Path("runs").is_dir()},
        "offline": offline_by() is not None,
    }


def _weights() -> dict[str, Any]:
    from mrsr_bench.zoo.methods import methods
    from mrsr_bench.zoo.weights import describe

    return {spec.name: describe(spec) for spec in methods.all() if spec.kind == "network"}


def _datasets() -> dict[str, Any]:
    from mrsr_bench.benchmarks.datasets import datasets

    found = {}
    for dataset in datasets.all():
        try:
            found[dataset.name] = f"{len({case.subject for case in dataset.cases('all')})} subjects"
        except UserError as error:
            found[dataset.name] = f"not there: {error}"
    return found


SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "versions": provenance.versions,
    "devices": _devices,
    "places": _places,
    "weights": _weights,
    "metrics": availability.states,
    "datasets": _datasets,
}


def examine() -> dict[str, Any]:
    """Every section of `SECTIONS`; one that fails says how and leaves the others standing."""
    found: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        try:
            found[name] = section()
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    return found
