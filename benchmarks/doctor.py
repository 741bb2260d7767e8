"""`mrsr-bench doctor`: what is installed, what is found and where, and what is missing for which command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks import availability, provenance

if TYPE_CHECKING:
    from mrsr_bench.zoo.method import MethodSpec


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
    """Per network ``missing``, or per task whether its weights, run here, give their golden output."""
    from mrsr_bench.zoo.methods import methods
    from mrsr_bench.zoo.weights import describe

    found: dict[str, Any] = {}
    for spec in methods.all():
        if spec.kind != "network" or spec.alias_for:
            continue
        state = describe(spec)
        found[spec.name] = state if isinstance(state, str) else {task: _verified(spec, task) for task in state}
    return found


def _verified(spec: MethodSpec, task: str) -> str:
    """What the weights of ``spec`` in the folder of ``task`` do with their golden input: installed ones, then shipped.

    Whatever is wrong with them is told, so that it hides nothing else.
    """
    import importlib.resources

    try:
        from mrsr_bench.zoo.inference import build_network
        from mrsr_bench.zoo.weights import MODEL, find_weights, folder_name, home, load_into, verify_golden

        states = []
        shipped = importlib.resources.files(spec.package) if spec.package else None
        for root in (home() / "weights", Path(str(shipped)) / "weights" if shipped is not None else None):
            folder = root / folder_name(spec.name, task) if root is not None else None
            if folder is None or not (folder / MODEL).is_file():
                continue
            weights = find_weights(spec, None, folder)
            assert weights is not None
            network = build_network(spec, weights.config["network"])
            load_into(network, weights)
            states.append(f"verified, {verify_golden(network, weights):.1g} from the golden output")
        return "; ".join(states) or "not found again"
    except Exception as error:
        return f"not usable: {' '.join(str(error).split()) or type(error).__name__}"


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
