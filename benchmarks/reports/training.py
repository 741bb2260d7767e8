"""How the weights of a run were trained: from the configuration and log of the file with the run's SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError

if TYPE_CHECKING:
    from mrsr_bench.zoo.method import MethodSpec
    from mrsr_bench.zoo.weights import Weights


@dataclass(frozen=True)
class Training:
    """Generator updates over all stages, seconds, hardware; None where not known, with the ``reason``.

    ``parent``: SHA-256 of the weights it started from, whose own steps and time are not counted here.
    """

    none_needed: bool = False
    parameters: int | None = None
    steps: int | None = None
    seconds: float | None = None
    hardware: str | None = None
    recipe: str | None = None
    parent: str | None = None
    reason: str | None = None

    @property
    def undertrained(self) -> bool:
        """As on the card: by another recipe than the paper's."""
        return self.recipe is not None and self.recipe != "paper"


def training_of(run: Mapping[str, Any]) -> Training:
    """The training behind a run; never raises, what cannot be had is None and has a reason."""
    from mrsr_bench.zoo.methods import methods

    name, sha256 = run["resolved"], run.get("weights_sha256")
    if name not in methods.names():
        return Training(reason=f"{name} is no method of this installation")
    spec = methods.get(name)
    if spec.kind == "interpolation":
        return Training(none_needed=True)
    try:
        weights = _weights_with(spec, run["protocol_content"].get("task"), sha256)
    except UserError as error:
        return Training(parameters=spec.parameters, reason=str(error))
    if weights is None:
        reason = f"the weights with SHA-256 {str(sha256)[:16]} that made this run are not on this machine"
        return Training(parameters=spec.parameters, reason=reason)
    return _of_weights(spec, weights)


def _weights_with(spec: MethodSpec, task: Mapping[str, Any] | None, sha256: str | None) -> Weights | None:
    from mrsr_bench.zoo.weights import find_weights

    for wanted in (task, None):
        weights = find_weights(spec, wanted)
        if weights is not None and weights.sha256 == sha256:
            return weights
    return None


def _of_weights(spec: MethodSpec, weights: Weights) -> Training:
    from mrsr_bench.zoo.curves import read_log, training_seconds
    from mrsr_bench.zoo.weights import LOG

    config = weights.config
    parameters = config.get("parameters") or spec.parameters
    recipe, trained = config.get("recipe") or {}, config.get("trained") or {}
    if not recipe:
        return Training(parameters=parameters, reason="trained elsewhere: these weights do not say how")
    log = weights.folder / LOG
    return Training(
        parameters=parameters,
        steps=sum(int(stage["steps"]) for stage in recipe["stages"]),
        seconds=training_seconds(read_log(log)) if log.is_file() else None,
        hardware=trained.get("hardware"),
        recipe=recipe.get("name"),
        parent=trained.get("parent_sha256"),
        reason=None if log.is_file() else "the log of the training is not beside the weights",
    )
