"""Where a number was made: versions, commit, hardware, and what one inference cost in time and memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from mrsr_bench import UserError, __version__

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "nibabel", "pyarrow", "timm", "pyiqa")
MIB = 1024 * 1024
_SAMPLE_EVERY_S = 0.005


def versions() -> dict[str, str | None]:
    """Versions of this package, Python and what computes; None for what is not installed."""
    found: dict[str, str | None] = {"mrsr-bench": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def git_commit() -> str | None:
    """The commit this package is at, with ``+`` where files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    return done.stdout.strip()


def cpu_model() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def hardware(device: str) -> dict[str, Any]:
    """Processor, cores, memory (MiB) and, where ``device`` is one, the GPU."""
    import psutil

    try:
        usable = len(os.sched_getaffinity(0))
    except AttributeError:
        usable = os.cpu_count() or 1
    facts = {
        "cpu": cpu_model(),
        "cores": usable,
        "memory_mb": round(psutil.virtual_memory().total / MIB),
        "platform": platform.platform(),
        "gpu": None,
    }
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
    if "torch" in sys.modules:
        facts["threads"] = sys.modules["torch"].get_num_threads()
    return facts


def choose_device(name: str) -> str:
    """``auto``, ``cpu`` or ``cuda`` (also ``cuda:1``), as a torch device name.

    Raises:
        UserError: the name is another one, or there is no such GPU.
    """
    if name == "cpu":
        return name
    if name != "auto" and name.split(":")[0] != "cuda":
        raise UserError(f"--device is auto, cpu or cuda; got {name!r}")
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    index = name.partition(":")[2] or "0"
    if not index.isdigit() or int(index) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: there is no such GPU here; use --device cpu or auto")
    return name


@contextmanager
def exact_float32() -> Iterator[None]:
    """float32 that means it: TF32 off, deterministic algorithms where there are any; restored afterwards."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    deterministic = torch.are_deterministic_algorithms_enabled()
    filling: Any = torch.utils.deterministic
    fill = filling.fill_uninitialized_memory
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = False
        cudnn.deterministic = True
        torch.use_deterministic_algorithms(True, warn_only=True)
        filling.fill_uninitialized_memory = False  # every buffer is written before it is read
        yield
    finally:
        filling.fill_uninitialized_memory = fill
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


@dataclass
class Cost:
    """What a block of code cost: seconds, and the peak in MiB of the process (RSS) or of CUDA's allocator."""

    seconds: float = 0.0
    peak_memory_mb: float = 0.0


@contextmanager
def measured(device: str) -> Iterator[Cost]:
    """Time the block and watch its memory; the result is complete when the block ends."""
    cost = Cost()
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        yield cost
        torch.cuda.synchronize(device)
        cost.seconds = time.perf_counter() - start
        cost.peak_memory_mb = torch.cuda.max_memory_allocated(device) / MIB
        return
    import psutil

    process, done = psutil.Process(), threading.Event()
    peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(_SAMPLE_EVERY_S):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    try:
        yield cost
    finally:
        cost.seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    cost.peak_memory_mb = max(peak, process.memory_info().rss) / MIB
