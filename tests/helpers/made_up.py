"""Submissions that were made up, for tests of the board and its pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.leaderboards.schema import Submission, as_text, file_name_of, make

HOSTILE = "<script>alert(1)</script>"


def content(
    method: str = "mynet",
    *,
    protocol: str = "kspace-2x2x1",
    dataset: str = "brain_t1",
    subjects: int = 12,
    gain: float = 0.0,
    noise: float = 0.2,
    network: bool = True,
    seed: int = 0,
    first: int = 0,
    **changes: Any,
) -> dict[str, Any]:
    rng = np.random.default_rng([seed, sum(map(ord, method + protocol)), int(1000 * gain) % 10007])
    names = [f"sub-{i:02d}" for i in range(first, first + subjects)]
    factor = float(np.prod(get_protocol(protocol).factor))
    psnr = {s: 32 - factor + 0.3 * i + gain + noise * float(rng.standard_normal()) for i, s in enumerate(names)}
    values = {
        "psnr": psnr,
        "ssim": {s: 0.7 + 0.008 * (v - 20) for s, v in psnr.items()},
        "nrmse": {s: 10 ** (-v / 20) for s, v in psnr.items()},
        "pi": {s: 4 + 0.1 * (v - 25) for s, v in psnr.items()},
    }
    scores = {
        key: {"mean": float(np.mean(list(per.values()))), "ci95": None, "n": subjects, "per_subject": per}
        for key, per in values.items()
    }
    scores["niqe"] = {"mean": None, "ci95": None, "n": 0, "reason": "the parameters are not here"}
    training = {"dataset": dataset, "terms": "CC0", "train_subjects": ["sub-90"], "val_subjects": [], "hours": 2.0}
    weights = {"sha256": f"{seed:064x}", "repository": f"someone/{method}", "revision": "a" * 40}
    made = {
        "method": method,
        "kind": "network" if network else "interpolation",
        "version": 1,
        "description": "a network that was made up",
        "paper": "nobody 2026",
        "parameters": 500_000 + 1000 * seed if network else None,
        "track": "open",
        "protocol": protocol,
        "protocol_hash": get_protocol(protocol).hash,
        "dataset": dataset,
        "split": "test",
        "seed": 0,
        "synthetic": False,
        "conventions": dict.fromkeys(values, "as the protocol says"),
        "subjects": names,
        "scores": scores,
        "seconds_per_volume": 3.0 + seed % 50,
        "peak_memory_mb": 900.0,
        "hardware": {"cpu": "a processor", "cores": 2},
        "versions": {"mrsr-bench": "0.1.0"},
        "weights": weights if network else None,
        "source": {"package": method if network else "mrsr-bench", "package_version": "1.0"},
        "training": training if network else None,
        "licence": "MIT",
        "contact": "someone@example.org",
        "date": "2026-11-01",
        "run_key": f"{seed:064x}",
    }
    return {**made, **changes}


def submission(method: str = "mynet", **settings: Any) -> Submission:
    return make(content(method, **settings), "made up")


def store(folder: Path, submissions: list[Submission]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for one in submissions:
        (folder / file_name_of(one)).write_text(as_text([one]), encoding="utf-8")
    return folder


def bypassing(one: Submission, **changes: Any) -> Submission:
    """The submission with entries that no schema has looked at: what a page must survive all the same."""
    return one.model_copy(update=changes)


def few() -> list[Submission]:
    """A clear order, a tie, an incomplete entry, factors, a small table and a table of procedural heads."""
    made = [
        submission("cubic", network=False, gain=-2.0, noise=0.02),
        submission("good", gain=1.0, noise=0.05, seed=1),
        submission("same", gain=1.0, noise=0.05, seed=2),
        submission("partial", gain=3.0, subjects=5, seed=3),
        submission("small", dataset="prostate_t2", subjects=3),
        submission("phantomnet", dataset="phantom_2mm", synthetic=True),
    ]
    made += [submission("steady", protocol=f"thick-{f}", gain=0.1 * f, dataset="brain_t1") for f in (2, 4, 6)]
    return made
