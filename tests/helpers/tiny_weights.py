"""Weights of the smallest mDCSRN, drawn from a seed, as a folder that `publish` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.zoo.cards import write_card
from mrsr_bench.zoo.inference import build_network
from mrsr_bench.zoo.methods import methods

METHOD, PROTOCOL = "mdcsrn_b1u1_k2", "kspace-2x2x1"


def tiny_config(**changes: Any) -> dict[str, Any]:
    config = {
        "method": METHOD,
        "method_version": 1,
        "protocol": PROTOCOL,
        "task": get_protocol(PROTOCOL).content["task"],
        "network": {},
        "regrid": "linear",
        "tiling": {"window": 24, "margin": 2, "batch_norm": "eval"},
        "trained": {"dataset": "phantom", "terms": "none: drawn, not trained"},
    }
    return {**config, **changes}


def tiny_weights(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """A folder of weights; ``changes`` to its configuration."""
    config = tiny_config(**changes)
    folder.mkdir(parents=True)
    spec = methods.get(METHOD)
    network = build_network(spec, seed=seed)
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_tensors(folder, tensors, config)
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    given = torch.rand(1, 1, 10, 10, 10, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        golden = {"input": given, "output": network.eval()(given).contiguous()}
    save_file(golden, folder / "golden.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    record = {"stage": "l1", "step": 0, "loss": 1.0, "seconds": 1.0, "seed": seed}
    (folder / "log.jsonl").write_text(json.dumps(record) + "\n")
    write_card(spec, config, folder)
    return folder


def save_tensors(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    metadata = {"mrsr_bench": json.dumps(config)}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", metadata=metadata)
