"""The speed suite: ``python -m mrsr_bench.benchmarks.speed`` prints ratios, each measured in one run on one machine.

- Metrics of a volume by `mrsr_bench.benchmarks.metrics` against scikit-image, in the region and slice by slice.
- Tiled inference by `run_tiled` against MONAI's ``sliding_window_inference`` with the same network, weights and image.
- Training steps of the ``quick`` recipe, through the trainer itself.

Every row runs in a process of its own, which prepares its input, warms up once and then takes turns with the other rows
of its group, so that all of them see the same machine. Peak memory is how far the process grew from its prepared input.
The wall clock counts; the ratio of CPU seconds beside it is the one to trust where the machine is shared.

Equal valid voxels: a voxel nearer to a cut than the receptive field is wrong, and `run_tiled` throws it away. MONAI
keeps every voxel; with an overlap of two margins and a weight of nearly nothing in the margins its result is valid
wherever it is a margin away from the volume's faces, and that is where the two are compared. It gets that once with the
tile shape that ours chose (what remains is bookkeeping) and once with cubes of the method's window, its last one moved
back; ``computed`` says how many voxels go through the network per voxel of the result. And it gets the network as it
is, with its lean forward on a CPU, and plain: same weights and layout, every concatenation made. MONAI at window 64 and
overlap 0.25 is what people run; it has seams and is listed for information.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench.benchmarks.contenders import (
    CONTENDERS,
    FULL,
    QUICK,
    USUAL_OVERLAP,
    USUAL_WINDOW,
    CannotRunError,
    Settings,
)
from mrsr_bench.benchmarks.provenance import MIB, hardware, versions

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

METRIC_TOLERANCE = 1e-5
INFERENCE_TOLERANCE = 1e-4
"""Of outputs whose input is scaled to about 1: what `run_tiled` promises against the whole volume."""
METRIC_GOAL, INFERENCE_GOAL = 5.0, 1.3
PARTS = ("metrics", "inference", "training")
_PRELOAD = ("torch", "skimage.metrics", "mrsr_bench.benchmarks.metrics.reference", "mrsr_bench.zoo.inference")


@dataclass
class Row:
    """One contender. ``contender`` names the function that prepares it; the rest is filled in by `measure`."""

    group: str
    name: str
    contender: str
    arguments: dict[str, Any] = field(default_factory=dict)
    goal: float | None = None
    tolerance: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    all_seconds: list[float] = field(default_factory=list)
    peak_memory_mb: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    output: Any = None


# ---------------------------------------------------------------------------------------------------- measuring


def _memory(key: str) -> float | None:
    """MiB of this process: ``VmRSS`` now or ``VmHWM`` at its highest; None where the system does not say."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # then the peak counts from the start of the process
        return


def _contend(pipe: Connection, row: Row, settings: Settings) -> None:
    """Body of a row's process: prepare, warm up, then work whenever asked to."""
    import torch

    torch.set_num_threads(settings.threads)
    try:
        warm_up, work = CONTENDERS[row.contender](settings, **row.arguments)
    except CannotRunError as error:
        pipe.send(str(error))
        return
    _forget_peak()
    before = _memory("VmRSS")
    warm_up()
    pipe.send(None)
    while pipe.recv():
        start, cpu_start = time.perf_counter(), time.process_time()
        output = work()
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        peak = _memory("VmHWM")
        grown = None if before is None or peak is None else max(0.0, peak - before)
        pipe.send((seconds, cpu_seconds, grown, output))


def measure(rows: Sequence[Row], settings: Settings, repetitions: int) -> None:
    """Fill in ``rows``, which take turns ``repetitions`` times, each in a process of its own.

    Raises:
        RuntimeError: a process ended before its work was done; its trace is on stderr.
    """
    context = _context()
    running = []
    for row in rows:
        here, there = context.Pipe()
        process = context.Process(target=_contend, args=(there, row, settings), daemon=True)
        process.start()
        there.close()
        running.append((row, here, process))
        row.reason = _answer(row, here)
    times: dict[int, list[float]] = {id(row): [] for row in rows}
    for turn in range(repetitions):
        for row, pipe, _ in running:
            if row.reason is not None:
                continue
            print(f"{row.group}: {row.name}, {turn + 1}/{repetitions}", file=sys.stderr, flush=True)
            pipe.send(True)
            seconds, cpu_seconds, row.peak_memory_mb, (row.output, row.facts) = _answer(row, pipe)
            row.all_seconds.append(seconds)
            print(f"  {seconds:.2f} s, of the processor {cpu_seconds:.2f} s", file=sys.stderr, flush=True)
            times[id(row)].append(cpu_seconds)
    for row, pipe, process in running:
        if row.reason is None:
            pipe.send(False)
            row.seconds, row.cpu_seconds = statistics.median(row.all_seconds), statistics.median(times[id(row)])
        process.join()


def _answer(row: Row, pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except EOFError as error:
        raise RuntimeError(f"{row.group}: {row.name}: the process ended before its work was done") from error


def _context() -> Any:
    """Processes forked from a server that has imported what is slow to import; where there is no fork, fresh ones."""
    import multiprocessing

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOAD))
    return context


# ---------------------------------------------------------------------------------------------------- the suite


def metric_rows(slicewise: bool) -> list[Row]:
    """Ours first, then scikit-image."""
    group = "metrics, psnr + ssim of every slice" if slicewise else "metrics, psnr + ssim + nrmse in the region"
    name = "scikit-image, loop over slices" if slicewise else "scikit-image"
    return [
        Row(group, "mrsr-bench", "metrics", {"ours": True, "slicewise": slicewise}),
        Row(
            group,
            name,
            "metrics",
            {"ours": False, "slicewise": slicewise},
            goal=METRIC_GOAL,
            tolerance=METRIC_TOLERANCE,
        ),
    ]


def inference_rows(autocast: bool) -> list[Row]:
    """Ours first, then MONAI: as many valid voxels by two shapes of window and two networks, then as people run it."""
    group = f"inference, {'bfloat16 autocast' if autocast else 'float32'}"
    goal, tolerance = (None, None) if autocast else (INFERENCE_GOAL, INFERENCE_TOLERANCE)

    def monai(windows: str, what: str, *, lean: bool) -> Row:
        how = {"lean": lean, "autocast": autocast, "windows": windows}
        name = f"MONAI, {what}, {'lean' if lean else 'plain'} network"
        return Row(group, name, "monai", how) if windows == "usual" else Row(group, name, "monai", how, goal, tolerance)

    equal = (("tile", "tile shape of ours"), ("cube", "cubes"))
    rows = [Row(group, "mrsr-bench", "tiled", {"autocast": autocast})]
    rows += [monai(windows, what, lean=lean) for windows, what in equal for lean in (True, False)]
    if not autocast:
        rows.append(monai("usual", f"{USUAL_WINDOW}³, overlap {USUAL_OVERLAP} (seams)", lean=False))
    return rows


def difference(ours: Row, other: Row, settings: Settings) -> float:
    """The largest absolute difference of what two rows made; of volumes, a margin away from the faces that are cut."""
    import numpy as np

    if isinstance(ours.output, dict):
        return max(abs(float(ours.output[key]) - float(other.output[key])) for key in ours.output)
    margin = settings.tiling().margin
    window, shape = other.facts["window"], ours.output.shape
    inner = tuple(slice(margin, -margin) if w < n else slice(None) for w, n in zip(window, shape, strict=True))
    return float(np.abs(ours.output[inner] - other.output[inner]).max())


def ratios(rows: Sequence[Row], settings: Settings) -> list[dict[str, Any]]:
    """How many times the seconds, CPU seconds and peak memory of the first row every other row took."""
    ours, *others = rows
    found: list[dict[str, Any]] = []
    for other in others:
        if ours.seconds is None or other.seconds is None:
            found.append(
                {"group": other.group, "against": other.name, "ratio": None, "reason": other.reason, "goal": other.goal}
            )
            continue
        largest = difference(ours, other, settings)
        found.append(
            {
                "group": other.group,
                "against": other.name,
                "ratio": other.seconds / ours.seconds,
                "cpu_ratio": _quotient(other.cpu_seconds, ours.cpu_seconds),
                "memory_ratio": _quotient(other.peak_memory_mb, ours.peak_memory_mb),
                "goal": other.goal,
                "largest_difference": largest,
                "tolerance": other.tolerance,
                "agrees": None if other.tolerance is None else largest <= other.tolerance,
            }
        )
    return found


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def run_suite(settings: Settings, parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """Measure ``parts``; the result is what ``--json`` prints."""
    settings = replace(settings, window=settings.tiling().window)
    report: dict[str, Any] = {
        "machine": {**hardware("cpu"), "threads": settings.threads},
        "versions": {**versions(), "monai": _version("monai")},
        "settings": vars(settings),
        "rows": [],
        "ratios": [],
    }
    groups: list[tuple[list[Row], int]] = []
    if "metrics" in parts:
        groups += [(metric_rows(slicewise), settings.metric_repetitions) for slicewise in (False, True)]
    if "inference" in parts:
        groups += [(inference_rows(autocast), settings.inference_repetitions) for autocast in (False, True)]
    if "training" in parts:
        groups.append(([Row("training, one step, bfloat16 autocast", "mrsr-bench", "training")], 1))
    for rows, repetitions in groups:
        measure(rows, settings, repetitions)
        report["rows"] += [_record(row, settings) for row in rows]
        report["ratios"] += ratios(rows, settings)
    return report


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _record(row: Row, settings: Settings) -> dict[str, Any]:
    record: dict[str, Any] = {
        "group": row.group,
        "name": row.name,
        "seconds": row.seconds,
        "cpu_seconds": row.cpu_seconds,
        "all_seconds": row.all_seconds,
        "peak_memory_mb": row.peak_memory_mb,
        "reason": row.reason,
    }
    if row.seconds is None:
        return record
    if isinstance(row.output, dict):
        record["values"] = row.output
    elif row.contender == "training":
        _add_steps(record, row.facts)
    else:
        record.update(row.facts)
        record["voxels_per_second"] = math.prod(settings.inference_shape) / row.seconds
    return record


def _add_steps(record: dict[str, Any], facts: dict[str, Any]) -> None:
    """A training's seconds are those of its steps."""
    wall, cpu = ([step[i] for step in facts["steps"]] for i in range(2))
    seconds = statistics.median(wall)
    record.update(seconds=seconds, cpu_seconds=statistics.median(cpu), all_seconds=wall)
    record.update(patches_per_second=facts["patches"] / seconds, voxels_per_second=facts["voxels"] / seconds)


# -------------------------------------------------------------------------------------------------- the command


def print_report(report: dict[str, Any]) -> None:
    """The rows and the ratios as tables on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 150)
    machine, settings = report["machine"], report["settings"]
    rows = Table(title="Seconds (median) and growth of the process at its peak")
    for column in ("", "s", "CPU s", "n", "MiB", "computed", "voxels/s", "patches/s"):
        rows.add_column(column, justify="left" if not column else "right")
    group = None
    for row in report["rows"]:
        if row["group"] != group:
            group = row["group"]
            rows.add_section()
            rows.add_row(f"[bold]{group}[/bold]")
        if row["reason"]:
            rows.add_row(f"  {row['name']}: {row['reason']}".replace("[", "\\["))
            continue
        cells = [_cell(row.get(key), form) for key, form in _ROW_CELLS]
        rows.add_row(f"  {row['name']}", *cells[:2], str(len(row["all_seconds"])), *cells[2:])
    console.print(rows)
    if report["ratios"]:
        table = Table(title="How many times what mrsr-bench takes")
        for column in ("against", "time", "CPU time", "memory", "goal", "largest difference", "agrees"):
            table.add_column(column, justify="left" if column == "against" else "right")
        for ratio in report["ratios"]:
            agrees = {True: "yes", False: "NO", None: "-"}[ratio.get("agrees")]
            if ratio.get("tolerance"):
                agrees += f" (to {ratio['tolerance']:.0e})"
            cells = [_cell(ratio.get(key), form) for key, form in _RATIO_CELLS]
            table.add_row(f"{ratio['group']}: {ratio['against']}", *cells, agrees)
        console.print(table)
    found = ", ".join(f"{name} {version}" for name, version in report["versions"].items() if version)
    console.print(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, {machine['memory_mb']} MiB",
        found,
        f"metrics of {_shape(settings['metric_shape'])}, inference of {_shape(settings['inference_shape'])} by "
        f"{settings['model']} in windows of {settings['window']}; computed: voxels through the network per voxel of it",
        sep="\n",
        highlight=False,
    )


_ROW_CELLS = (
    ("seconds", ".3f"),
    ("cpu_seconds", ".3f"),
    ("peak_memory_mb", ".0f"),
    ("computed", ".2f"),
    ("voxels_per_second", ",.0f"),
    ("patches_per_second", ".2f"),
)
_RATIO_CELLS = (
    ("ratio", ".2f"),
    ("cpu_ratio", ".2f"),
    ("memory_ratio", ".2f"),
    ("goal", ".1f"),
    ("largest_difference", ".1e"),
)


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def _volume_shape(text: str) -> tuple[int, int, int]:
    parts = text.split("x")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"expected a shape such as 128x128x96, got {text!r}")
    x, y, z = map(_positive, parts)
    return x, y, z


def settings_from(arguments: argparse.Namespace) -> Settings:
    """The settings that the options ask for."""
    settings = replace(QUICK if arguments.quick else Settings(), threads=arguments.threads or hardware("cpu")["cores"])
    shape = FULL if arguments.full else arguments.size
    if shape:
        settings = replace(settings, inference_shape=shape, window=None)
    if arguments.window:
        settings = replace(settings, window=arguments.window)
    if arguments.repetitions:
        k = arguments.repetitions
        settings = replace(settings, metric_repetitions=k, inference_repetitions=k, training_steps=k)
    return settings


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 1 where values do not agree."""
    parser = argparse.ArgumentParser(prog="python -m mrsr_bench.benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one object on stdout instead of tables")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again")
    parser.add_argument("--threads", type=_positive, help="threads of torch (all usable cores)")
    parser.add_argument(
        "--repetitions", type=_positive, metavar="K", help="the median of K (metrics 5, inference 1, steps 10)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="tiny sizes, in seconds: the figures mean nothing")
    size.add_argument("--full", action="store_true", help="inference of a 256x256x170 volume, for an hour")
    size.add_argument("--size", type=_volume_shape, metavar="XxYxZ", help="inference of this size (128x128x96)")
    parser.add_argument("--window", type=_positive, help="window in voxels (the method's; 96 for 128x128x96)")
    arguments = parser.parse_args(argv)
    report = run_suite(settings_from(arguments), arguments.only or PARTS)
    if arguments.json:
        print(json.dumps(report, indent=1, allow_nan=False))
    else:
        print_report(report)
    return int(any(ratio.get("agrees") is False for ratio in report["ratios"]))


if __name__ == "__main__":
    sys.exit(main())
