"""Which metrics can be computed here, and with which parameters: part of what decides a stored score."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.metric import MetricSpec

COMPONENTS: Mapping[str, tuple[str, ...]] = {"pi": ("ma", "niqe")}
"""Metrics that are made of others."""


def _uses_pyiqa(spec: MetricSpec) -> bool:
    from mrsr_bench.benchmarks.metrics import no_reference

    return spec.compute.startswith(f"{no_reference.__name__}:")


def parameters_of(key: str) -> tuple[dict[str, str], str | None]:
    """SHA-256 of each parameter file of a perceptual metric, and why it cannot be computed here (None if it can).

    Files that are nowhere are fetched, unless downloads are off.
    """
    from mrsr_bench.benchmarks.metrics.no_reference import PARAMETER_FILES, Unavailable, parameter_file

    if importlib.util.find_spec("pyiqa") is None:
        return {}, "pyiqa is not installed; pip install 'mrsr-bench[perceptual]'"
    digests: dict[str, str] = {}
    reasons: list[str] = []
    for part in COMPONENTS.get(key, (key,)):
        if part not in PARAMETER_FILES:
            continue
        try:
            file = parameter_file(part)
            digests[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
        except (Unavailable, OSError) as error:
            reasons.append(str(error))
    return digests, "; ".join(dict.fromkeys(reasons)) or None


def metric_ingredients(specs: Sequence[MetricSpec]) -> dict[str, Any]:
    """Per metric what its value depends on besides the images: version, and for perceptual ones pyiqa and parameters.

    A metric without its parameters has another ingredient than with them, so a stored null never outlives its reason.
    """
    found: dict[str, Any] = {}
    for spec in specs:
        found[spec.name] = {"version": spec.version}
        if _uses_pyiqa(spec):
            digests, reason = parameters_of(spec.name)
            try:
                version = metadata.version("pyiqa")
            except metadata.PackageNotFoundError:
                version = None
            found[spec.name].update(pyiqa=version, parameters=digests, available=reason is None)
        elif spec.parameters:
            digests, reason = _stated_parameters(spec)
            found[spec.name].update(parameters=digests, available=reason is None)
    return found


def _stated_parameters(spec: MetricSpec) -> tuple[dict[str, str], str | None]:
    """What the function that the metric names says of its parameter files."""
    module, _, name = spec.parameters.partition(":")
    found: tuple[dict[str, str], str | None] = getattr(importlib.import_module(module), name)(spec.name)
    return found


@contextmanager
def no_downloads() -> Iterator[None]:
    """Nothing is fetched inside."""
    before = os.environ.get("MRSR_BENCH_OFFLINE")
    os.environ["MRSR_BENCH_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["MRSR_BENCH_OFFLINE"]
        else:
            os.environ["MRSR_BENCH_OFFLINE"] = before


def states() -> dict[str, str]:
    """For each metric ``ready``, or why it gives null here; nothing is fetched."""
    from mrsr_bench.benchmarks.metrics import metrics

    found = {}
    with no_downloads():
        for spec in metrics.all():
            reason = parameters_of(spec.name)[1] if _uses_pyiqa(spec) else None
            if spec.parameters:
                reason = _stated_parameters(spec)[1]
            found[spec.name] = reason or "ready"
    return found
