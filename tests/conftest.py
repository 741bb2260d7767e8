"""A bench of fakes: tiny subjects, a three-metric protocol and methods that record what they were shown."""

from __future__ import annotations

import copy
import hashlib
import os
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks import evaluate as evaluation
from mrsr_bench.benchmarks import protocol as protocols
from mrsr_bench.benchmarks.dataset import Case, Dataset, Pair
from mrsr_bench.benchmarks.evaluate import Request, evaluate
from mrsr_bench.volume import Volume
from mrsr_bench.zoo.method import MethodSpec, Tiling
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.regrid import regrid

SHAPE = (20, 18, 12)


def head(seed: int) -> Volume:
    """An ellipsoid with texture, away from the border."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    inside = (x**2 + y**2 + z**2 < 0.75).astype(np.float32)
    texture = 100 + 20 * np.sin(7 * x + seed) * np.cos(6 * y) + rng.normal(0, 3, SHAPE)
    affine = np.diag([1.0, 1.1, 1.3, 1.0])
    return Volume((inside * texture).astype(np.float32), affine, provenance={"source": "secret/path.nii"})


class FakeModule(types.ModuleType):
    """Stands in for a module of ours that needs torch or draws."""


@dataclass
class FakeCase(Case):
    subject: str
    image: str
    seed: int
    log: list[str]
    revision: str = "r1"
    noise_free: bool = False

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.seed}{self.revision}".encode()).hexdigest()

    def hr(self) -> Volume:
        return head(self.seed)

    def acquire(self, degradation, settings, seed):
        self.log.append(f"{self.subject}/{self.image}")
        pair = super().acquire(degradation, settings, seed)
        if not self.noise_free:
            return pair
        return Pair(pair.lr, pair.hr, pair.params, noise_free=pair.hr.with_data(pair.hr.data * 0.98))


class FakeDataset(Dataset):
    name, summary, terms = "tiny", "fakes", "none"

    def __init__(self, cases: list[FakeCase]) -> None:
        self.all_cases = cases
        self.asked: list[str] = []

    def cases(self, split: str, *, seed: int = 0):
        self.asked.append(split)
        return self.all_cases


@dataclass
class FakeMethod:
    """What `load_method` answers; ``behaviour`` turns an honest linear interpolation into something else."""

    spec: MethodSpec
    behaviour: str
    weights_sha256: str | None
    tiling: Tiling | None
    seen: list[tuple[str, Volume]]
    resolved: str = ""
    weights: None = None

    def upscale(self, lr, target):
        self.seen.append((self.spec.name, Volume(lr.data.copy(), lr.affine, provenance=dict(lr.provenance))))
        if self.behaviour == "refuses":
            raise UserError("refuses: cannot do this volume")
        if self.behaviour == "killed" and len([s for s in self.seen if s[0] == self.spec.name]) == 3:
            raise KeyboardInterrupt
        if self.behaviour == "spoils":
            lr.data[:] = 0
        sr = regrid(lr, target, "nearest" if self.behaviour == "nearest" else "linear")
        return sr.with_data(np.full_like(sr.data, np.nan)) if self.behaviour == "nan" else sr


@dataclass
class Bench:
    """The fakes, and `run` to evaluate on them; attributes may be changed between runs."""

    out: Path
    dataset: FakeDataset
    acquired: list[str]
    seen: list[tuple[str, Volume]] = field(default_factory=list)
    drawn: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    trained: list[tuple[str, str, str]] = field(default_factory=list)
    weights: dict[str, str] = field(default_factory=lambda: {"net": "w1"})
    behaviours: dict[str, str] = field(default_factory=dict)

    def run(self, *models: str, **options: Any):
        options = {"out": self.out, "protocol": "tiny-protocol", "device": "cpu", **options}
        return evaluate(Request(models or ("linear",), "tiny", **options))

    def load_method(self, name, *, task, weights=None, device="cpu", tiling=None, autocast=False):
        spec = methods.get(name)
        if spec.kind == "network" and name not in self.weights:
            raise UserError(f"{name}: no weights for {task}; train them with `mrsr-bench train`")
        network = spec.kind == "network"
        return FakeMethod(
            spec,
            self.behaviours.get(name, name),
            self.weights[name] if network else None,
            (tiling or spec.tiling) if network else None,
            self.seen,
            "net_large" if name == "net" else name,
        )

    def describe(self, spec):
        if spec.kind == "interpolation":
            return "none needed"
        return ["kspace-2x2x1"] if spec.name in self.weights else "missing"

    def undertrained(self, spec):
        return True if spec.name in self.weights else None

    def home(self):
        return Path(os.environ["MRSR_BENCH_HOME"])

    def train_method(self, model, dataset, *, task, device, seed):
        self.trained.append((model, dataset.name, task))
        self.weights[model] = "fresh"

    def draw_subject(self, path, *, title, reference, lr, srs, scores):
        assert set(scores) == set(srs)
        self.drawn.append((title.split(",")[0], tuple(srs)))
        path.write_bytes(b"a picture")
        return path


def specs() -> dict[str, MethodSpec]:
    interpolations = ("linear", "nearest", "refuses", "nan", "spoils", "killed")
    found = {
        name: MethodSpec(name=name, kind="interpolation", summary="", paper="-", build="", parameters=0)
        for name in interpolations
    }
    for name in ("net", "untrained"):
        found[name] = MethodSpec(
            name=name, kind="network", summary="", paper="-", build="", tasks=("tiny-protocol", "kspace-2x2x1")
        )
    found["elsewhere"] = MethodSpec(
        name="elsewhere", kind="network", summary="", paper="-", build="", tasks=("thick-4",)
    )
    return found


@pytest.fixture
def tiny_head():
    """Makes the volume of a seed."""
    return head


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Bench:
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    acquired: list[str] = []
    cases = [FakeCase(f"sub-{i:02d}", "T1w", i, acquired) for i in range(1, 4)]
    fakes = Bench(tmp_path / "runs", FakeDataset(cases), acquired)
    content = copy.deepcopy(protocols.get_protocol("kspace-2x2x1").content)
    content.update(name="tiny-protocol", metrics=["psnr", "ssim", "nrmse"])
    tiny = protocols.Protocol(content)
    real = protocols.get_protocol
    monkeypatch.setattr(evaluation, "get_protocol", lambda name: tiny if name == tiny.name else real(name))
    monkeypatch.setattr(methods, "_components", specs())
    monkeypatch.setattr(methods, "_variants", [])
    real_open = __import__("mrsr_bench.benchmarks.datasets", fromlist=["open_dataset"]).open_dataset
    monkeypatch.setattr(
        "mrsr_bench.benchmarks.datasets.open_dataset",
        lambda name, suffix=None: fakes.dataset if name == "tiny" else real_open(name, suffix=suffix),
    )
    for module, attribute in (
        ("zoo.inference", "load_method"),
        ("zoo.weights", "describe"),
        ("zoo.weights", "undertrained"),
        ("zoo.weights", "home"),
        ("zoo.training", "train_method"),
        ("benchmarks.figures", "draw_subject"),
    ):
        name = f"mrsr_bench.{module}"
        if not isinstance(sys.modules.get(name), FakeModule):
            monkeypatch.setitem(sys.modules, name, FakeModule(name))
        setattr(sys.modules[name], attribute, getattr(fakes, attribute))
    return fakes


@pytest.fixture(scope="module")
def browser():
    """A running Chromium."""
    with chromium.launched() as running:
        yield running
