"""Who takes part in a run: a method's name resolved, its weights loaded (or trained), and its inference measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import Protocol, get_protocol, protocol_names
from mrsr_bench.benchmarks.results import ingredients

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.dataset import Dataset, Pair
    from mrsr_bench.benchmarks.degradation import Degradation
    from mrsr_bench.volume import FloatArray, Volume
    from mrsr_bench.zoo.inference import LoadedMethod
    from mrsr_bench.zoo.method import MethodSpec, Tiling

FIRST_PROTOCOL = "kspace-2x2x1"
DTYPE = "float32"


@dataclass
class Entrant:
    """A method in the run: loaded, or out of it with an error; ``pieces`` and ``keys`` are per subject."""

    typed: str
    method: LoadedMethod | None = None
    error: str | None = None
    device: str = "cpu"
    base: dict[str, Any] = field(default_factory=dict)
    pieces: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


def protocols_in_order() -> list[str]:
    """Protocol names: the first common one, the other common ones, the papers', then those of real LR scans."""

    def place(name: str) -> tuple[bool, bool, bool, str]:
        protocol = get_protocol(name)
        real = protocol.of_real_pairs or not protocol.has_reference
        return real, protocol.of_a_paper, name != FIRST_PROTOCOL, name

    return sorted(protocol_names(), key=place)


def task_served(spec: MethodSpec, protocol: Protocol) -> str | None:
    """The task of a network whose weights do ``protocol``: the protocol itself, or one of the same degradation.

    Papers' protocols share their degradation with a common one, and what is trained for one may enter the other.
    """
    if protocol.weights_of is None and protocol.name in spec.tasks:
        return protocol.name
    known = set(protocol_names())
    wanted = protocol if protocol.weights_of is None else get_protocol(protocol.weights_of)
    same = (
        task for task in spec.tasks if task in known and get_protocol(task).content["task"] == wanted.content["task"]
    )
    return next(same, None)


def can_do(spec: MethodSpec, protocol: Protocol) -> bool:
    """Whether a method takes part in a protocol: interpolations in any, networks in those of their tasks."""
    return spec.kind == "interpolation" or task_served(spec, protocol) is not None


def first_common_protocol(specs: Sequence[MethodSpec]) -> str:
    """The first protocol that every method can do.

    Raises:
        UserError: there is none.
    """
    for name in protocols_in_order():
        if all(can_do(spec, get_protocol(name)) for spec in specs):
            return name
    tasks = "; ".join(f"{s.name}: {', '.join(s.tasks) or 'none'}" for s in specs if s.kind != "interpolation")
    raise UserError(f"the methods have no protocol in common ({tasks}); run them apart, or choose one with --protocol")


@dataclass(frozen=True)
class Admission:
    """What decides how methods are loaded for a run, and what their scores depend on besides the method itself."""

    protocol: Protocol
    degradation: Degradation
    metrics: Mapping[str, Any]
    dataset: Dataset
    seed: int
    device: str
    weights: Path | None = None
    train: bool = False
    steps: int | None = None

    def enter(self, name: str, spec: MethodSpec) -> Entrant:
        """Load a method; one that cannot take part becomes an entrant with an error."""
        entrant = Entrant(name, device="cpu" if spec.kind == "interpolation" else self.device)
        try:
            method = self.load(name, spec, entrant.device)
        except UserError as error:
            entrant.error = str(error)
            return entrant
        entrant.method = method
        entrant.base = ingredients(
            method={"name": method.resolved, "version": method.spec.version, "arguments": method.spec.arguments},
            weights_sha256=method.weights_sha256,
            protocol_hash=self.protocol.hash,
            degradation={"name": self.degradation.name, "version": self.degradation.version},
            metrics=self.metrics,
            seed=self.seed,
            dtype=DTYPE,
            tiling=None if method.tiling is None else {"window": method.tiling.window, "margin": method.tiling.margin},
            batch_norm=None if method.tiling is None else method.tiling.batch_norm,
            device=entrant.device.split(":")[0],
        )
        return entrant

    def load(self, name: str, spec: MethodSpec, device: str) -> LoadedMethod:
        """A method with the weights of the protocol's task and the tile layout that the protocol prescribes.

        Raises:
            UserError: the method does not do the protocol, or its weights are not here.
        """
        from mrsr_bench.zoo.inference import load_method

        if spec.kind == "interpolation":
            return load_method(name, task=self.protocol.name)
        task = task_served(spec, self.protocol)
        if task is None:
            if self.weights is None:
                tasks = ", ".join(spec.tasks) or "nothing yet"
                raise UserError(f"{name} does not do {self.protocol.name}; it does: {tasks}")
            task = self.protocol.name
        tiling = protocol_tiling(self.protocol)
        try:
            return load_method(name, task=task, weights=self.weights, device=device, tiling=tiling)
        except UserError:
            if not self.train or self.weights is not None or not self._weights_missing(spec, task):
                raise
        self._train(name, task)
        return load_method(name, task=task, device=device, tiling=tiling)

    def _weights_missing(self, spec: MethodSpec, task: str) -> bool:
        """Whether no weights exist for the task (which several protocols may share)."""
        from mrsr_bench.zoo.weights import describe

        state = describe(spec)
        wanted = self.protocol if task == self.protocol.name else get_protocol(task)
        stored = [] if isinstance(state, str) else [task for name in state for task in spec.groups.get(name, (name,))]
        trained = [get_protocol(name) for name in protocol_names() if name in stored]
        return all(protocol.content["task"] != wanted.content["task"] for protocol in trained)

    def _train(self, name: str, task: str) -> None:
        from mrsr_bench.benchmarks.folds import FoldDataset
        from mrsr_bench.zoo.training import train_method

        changed: dict[str, Any] = {} if self.steps is None else {"steps": self.steps}
        if isinstance(self.dataset, FoldDataset):
            changed["out"] = Path("checkpoints") / self.dataset.folder
        train_method(name, self.dataset, task=task, device=self.device, seed=self.seed, **changed)


def protocol_tiling(protocol: Protocol) -> Tiling | None:
    """The tile layout that a protocol prescribes; None where it leaves that to the method."""
    from mrsr_bench.zoo.method import Tiling

    layout = protocol.inference.get("tiling", "method")
    return None if layout == "method" else Tiling(**layout)


def upscaled(entrant: Entrant, pair: Pair) -> tuple[FloatArray, float, float]:
    """SR of one pair, seconds of inference, and peak memory in MiB; the method sees a copy of LR and the target grid.

    SR is as it is compared: on HR's grid, where need be seen from there.

    Raises:
        UserError: the method cannot do it, or gave something else than finite voxels on the target grid.
    """
    import numpy as np

    from mrsr_bench.benchmarks.provenance import measured

    assert entrant.method is not None
    lr: Volume = replace(pair.lr, data=pair.lr.data.copy(), provenance={})
    target = pair.target or pair.hr.grid
    with measured(entrant.device) as cost:
        sr = entrant.method.upscale(lr, target)
    if sr.data.shape != target.shape:
        raise UserError(f"{entrant.typed} gave a volume of shape {sr.data.shape}; expected {target.shape}")
    if not np.isfinite(sr.data).all():
        raise UserError(f"{entrant.typed} gave voxels that are NaN or infinite, which cannot be scored")
    seen = sr.data if pair.view is None else pair.view(sr.data)
    return seen, cost.seconds, cost.peak_memory_mb
