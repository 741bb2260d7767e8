"""What every network costs: ``python -m mrsr_bench.benchmarks.throughput`` prints voxels and patches per second.

- Inference: HR voxels per second of `NetworkUpscaler.upscale`, regridding and tiles included, float32, on a noise
  volume degraded by the method's first task. Untrained weights cost as much as trained ones.
- Training: patches per second of the network's own updates in the first stage of its ``quick`` recipe.
- Adversarial training: patches per second in that recipe's stage with a critic, where it has one. A turn is one
  update of the network and as many of the critic as the recipe plays, each on a batch. Random features of the
  perceptual backbone cost as much as trained ones, so nothing is downloaded.

Each figure is the median of the repetitions after one that is not counted. CPU seconds stand beside the wall clock's:
where they differ, the machine was shared.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError

if TYPE_CHECKING:
    from mrsr_bench.volume import Volume
    from mrsr_bench.zoo.method import MethodSpec
    from mrsr_bench.zoo.patches import Batch, Prepared
    from mrsr_bench.zoo.recipe import Recipe, Stage

SHAPE = (96, 96, 96)
REPETITIONS = 3


def networks(names: Sequence[str] = ()) -> list[MethodSpec]:
    """The networks of these names, or every registered one that has a recipe.

    Raises:
        UserError: a name is unknown or no network with a recipe.
    """
    from mrsr_bench.zoo.methods import methods

    if not names:
        return [s for s in methods.all() if s.kind == "network" and s.recipes and not s.alias_for]
    found = [methods.get(name) for name in names]
    for spec in found:
        if spec.kind != "network" or not spec.recipes or spec.alias_for:
            raise UserError(f"{spec.name} has no recipe to measure; name a network that can be trained")
    return found


def noise_head(shape: Sequence[int], seed: int = 0) -> Volume:
    """A smooth random volume with a margin of background, 1 mm."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    from mrsr_bench.volume import Volume

    rng = np.random.default_rng(seed)
    data = gaussian_filter(rng.random(tuple(shape)), 1.0)
    data[:2] = data[-2:] = data.min()
    return Volume(((data - data.min()) * 1000).astype(np.float32), np.eye(4))


def measured(work: Callable[[], Any], repetitions: int) -> dict[str, float]:
    """Median wall and CPU seconds of ``work``, after one run that is not counted."""
    work()
    walls, processors = [], []
    for _ in range(repetitions):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return {"seconds": statistics.median(walls), "cpu_seconds": statistics.median(processors)}


def inference(spec: MethodSpec, shape: Sequence[int], repetitions: int, device: str = "cpu") -> dict[str, Any]:
    """Seconds and HR voxels per second of one volume of ``shape`` under the method's first task."""
    import numpy as np

    from mrsr_bench.benchmarks.degradations import degradations
    from mrsr_bench.benchmarks.protocol import get_protocol
    from mrsr_bench.zoo.inference import NetworkUpscaler, build_network

    protocol = get_protocol(spec.tasks[0])
    degradation = degradations.get(protocol.degradation)
    hr = noise_head(shape)
    params = degradation.sample(np.random.default_rng(0), hr, protocol.settings)
    lr, target = degradation.apply(hr, params), degradation.reference(hr, params).grid
    recipe = _recipe(spec)
    network = build_network(spec, recipe.network)
    tasks = (protocol.content["task"],)
    upscaler = NetworkUpscaler(network, recipe.regrid, spec.tiling, device, False, spec=spec, tasks=tasks)
    cost = measured(lambda: upscaler.upscale(lr, target), repetitions)
    voxels = math.prod(target.shape)
    return {"task": protocol.name, "voxels": voxels, **cost, "voxels_per_second": voxels / cost["seconds"]}


def training(spec: MethodSpec, repetitions: int, device: str = "cpu") -> dict[str, Any]:
    """Seconds of one update and patches per second in the first stage of the quick recipe."""
    return _turns(spec, _recipe(spec).stages[0], 0, repetitions, device)


def adversarial(spec: MethodSpec, repetitions: int, device: str = "cpu") -> dict[str, Any] | None:
    """Seconds of one turn of all players and patches per second in the quick recipe's stage with a critic, if any."""
    for stage in reversed(_recipe(spec).stages):
        if stage.game is not None:
            return _turns(spec, stage, stage.game.d_per_g, repetitions, device)
    return None


def _turns(spec: MethodSpec, stage: Stage, critics: int, repetitions: int, device: str) -> dict[str, Any]:
    """One update of the network of a stage, after ``critics`` of its critic."""
    import copy

    import torch

    from mrsr_bench.zoo.inference import build_network
    from mrsr_bench.zoo.patches import PatchSampler
    from mrsr_bench.zoo.perceptual import build_perceptual
    from mrsr_bench.zoo.players import Table, players_for

    layout = torch.channels_last_3d if spec.dims == 3 else torch.channels_last
    network = build_network(spec, _recipe(spec).network).train().to(device).to(memory_format=layout)
    perceptual = None if stage.perceptual is None else build_perceptual(stage.perceptual).to(device)
    table = Table(
        stage,
        network,
        torch.device(device),
        0,
        lambda _: None,
        conditioned=spec.conditioned,
        perceptual=perceptual,
        untrained=copy.deepcopy(network),
        memory_format=layout,
    )
    players = players_for(table)
    sampler = PatchSampler([_prepared(spec, stage.patch)], stage.patch, stage.batch, 0, dims=spec.dims)
    batch: Batch = sampler.get(0).to(torch.device(device))
    sampler.close()

    settled = 0 if stage.game is None else stage.game.warmup

    def update() -> None:
        for turn in range(critics):
            players.move_critic(batch, settled + turn)
        players.move_network(batch, stage.generator.warmup)
        if device != "cpu":
            torch.cuda.synchronize()

    cost = measured(update, repetitions)
    return {
        "patch": list(stage.patch),
        "batch": stage.batch,
        "precision": stage.precision,
        "kind": stage.kind,
        "critic_updates": critics,
        **cost,
        "patches_per_second": stage.batch * (1 + critics) / cost["seconds"],
    }


def _recipe(spec: MethodSpec) -> Recipe:
    from mrsr_bench.zoo.training import resolve_recipe

    return resolve_recipe(spec, "quick" if "quick" in spec.recipes else next(iter(spec.recipes)))


def _prepared(spec: MethodSpec, patch: Sequence[int]) -> Prepared:
    import numpy as np

    from mrsr_bench.zoo.patches import Prepared, steps_of

    step = steps_of(spec)
    shape = tuple(max(n, 8 * s) for n, s in zip(patch, step, strict=True))
    hr = noise_head(shape).data / np.float32(1000)
    lr = np.ascontiguousarray(hr[:: step[0], :: step[1], :: step[2]])
    return Prepared("noise", lr, hr, np.arange(hr.size, dtype=np.int32), 1.0, step, max(2.0, float(max(step))))


def run(specs: Sequence[MethodSpec], shape: Sequence[int], repetitions: int, device: str) -> dict[str, Any]:
    """All rows, and on what they were measured."""
    import torch

    from mrsr_bench.benchmarks.provenance import hardware

    rows = []
    for spec in specs:
        print(f"{spec.name} ...", file=sys.stderr, flush=True)
        rows.append(
            {
                "name": spec.name,
                "parameters": spec.parameters,
                "inference": inference(spec, shape, repetitions, device),
                "training": training(spec, repetitions, device),
                "adversarial": adversarial(spec, repetitions, device),
            }
        )
    return {"hardware": hardware(device), "threads": torch.get_num_threads(), "shape": list(shape), "rows": rows}


def as_markdown(report: dict[str, Any]) -> str:
    """The report as a Markdown table."""
    lines = [
        "| network | parameters | inference, voxels/s | CPU s / s | training, patches/s | patch, batch "
        "| with a critic, patches/s | patch, batch, updates |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        given, taught, played = row["inference"], row["training"], row["adversarial"]
        lines.append(
            f"| `{row['name']}` | {row['parameters']:,} | {given['voxels_per_second']:,.0f} ({given['task']}) "
            f"| {given['cpu_seconds'] / given['seconds']:.2f} | {taught['patches_per_second']:.2f} | {_batch(taught)} "
            + (
                f"| {played['patches_per_second']:.2f} | {_batch(played)}, 1 + {played['critic_updates']} |"
                if played
                else "| – | – |"
            )
        )
    return "\n".join(lines)


def _batch(measured: dict[str, Any]) -> str:
    return f"{' x '.join(map(str, measured['patch']))}, {measured['batch']}, {measured['precision']}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m mrsr_bench.benchmarks.throughput", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", action="append", default=[], help="this network; may be given again (all)")
    parser.add_argument("--edge", type=int, default=SHAPE[0], help="edge of the cube that is upscaled, voxels")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="the median of so many")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="also write all figures there")
    arguments = parser.parse_args(argv)
    if arguments.edge < 32 or arguments.repetitions < 1:
        parser.error("--edge is at least 32 and --repetitions at least 1")
    try:
        report = run(networks(arguments.model), (arguments.edge,) * 3, arguments.repetitions, arguments.device)
    except UserError as error:
        parser.error(str(error))
    print(as_markdown(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    os.environ["MRSR_BENCH_OFFLINE"] = "1"
    sys.exit(main())
