"""A submission in which nothing is wrong, for tests that spoil one thing of it."""

import math

from mrsr_bench.benchmarks.metrics import metrics
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.leaderboards.schema import make
from mrsr_bench.leaderboards.submit import plain_text

PROTOCOL = "kspace-2x2x1"
SUBJECTS = ("sub-01", "sub-02", "sub-03")
LEVEL_DB = 10.0


def score(values):
    known = list(values.values())
    return {"mean": math.fsum(known) / len(known), "ci95": None, "n": len(known), "per_subject": values}


def scores(psnr):
    """Consistent PSNR, SSIM and NRMSE of images whose range is ``LEVEL_DB`` over their root mean square."""
    nrmse = {s: 10 ** ((LEVEL_DB - v) / 20) for s, v in psnr.items()}
    ssim = {s: 0.6 + 0.008 * (v - 20) for s, v in psnr.items()}
    return {"psnr": score(psnr), "ssim": score(ssim), "nrmse": score(nrmse)}


def content(method="cubic", start=27.0, **changes):
    psnr = {s: start + 0.3 * i for i, s in enumerate(SUBJECTS)}
    network = method == "mdcsrn_b4u4"
    training = {"dataset": "elsewhere", "terms": "none", "train_subjects": ["p1"], "val_subjects": ["p2"], "hours": 1.0}
    conventions = {key: plain_text(metrics.get(key).convention) for key in ("psnr", "ssim", "nrmse")}
    return {
        "method": method,
        "kind": "network" if network else "interpolation",
        "version": 1,
        "description": "a method",
        "paper": "none",
        "parameters": 228_505 if network else 0,
        "track": "open",
        "protocol": PROTOCOL,
        "protocol_hash": get_protocol(PROTOCOL).hash,
        "dataset": "heads",
        "split": "test",
        "seed": 0,
        "synthetic": False,
        "conventions": conventions,
        "subjects": list(SUBJECTS),
        "scores": scores(psnr),
        "seconds_per_volume": 1.0,
        "peak_memory_mb": 100.0,
        "hardware": {"cpu": "a processor"},
        "versions": {"torch": "2.6"},
        "weights": {"sha256": "1" * 64} if network else None,
        "source": {"package": "mrsr-bench", "package_version": "0.1.0"},
        "training": training if network else None,
        "licence": "Apache-2.0",
        "contact": "lab@example.org",
        "date": "2026-11-22",
        "run_key": "2" * 64,
        **changes,
    }


def sound(**changes):
    return make(content(**changes), "test")


def foreign(**changes):
    """A network of a package that is not installed here."""
    source = {"package": "my-own", "package_version": "1.0"}
    return make({**content("mdcsrn_b4u4", start=29.0), "method": "my_own", "source": source, **changes}, "test")


def plain(**changes):
    return sound(**changes).model_dump(mode="json")
