"""Tiny trainings: stages, volumes of noise, and trainers of little networks in 3D and 2D."""

import numpy as np

from mrsr_bench.zoo.inference import build_network
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.patches import Prepared
from mrsr_bench.zoo.recipe import parse_recipe
from mrsr_bench.zoo.trainer import Trainer

SUPERVISED = {
    "name": "l1",
    "kind": "supervised",
    "steps": 12,
    "batch": 2,
    "patch": [8, 8, 8],
    "generator": {"lr": 1e-3, "schedule": "cosine", "warmup": 2, "clip": 1.0},
    "ema": 0.9,
    "validate_every": 4,
}
ADVERSARIAL = {
    "name": "gan",
    "kind": "wgan_gp",
    "steps": 4,
    "batch": 2,
    "patch": [8, 8, 8],
    "losses": {"l1": 1.0, "adversarial": 0.1},
    "generator": {"lr": 1e-4},
    "discriminator": {"lr": 1e-4},
    "discriminator_width": 2,
    "game": {"warmup": 3, "d_per_g": 2, "extra_every": 2, "extra_d": 1},
    "validate_every": 2,
    "select": "em_distance",
}


def recipe(*stages, **more):
    return parse_recipe(
        {
            "name": "test",
            "summary": "tiny",
            "regrid": "linear",
            "augment": ["flip", "swap", "scale"],
            "validation_patches": 2,
            "stages": [dict(stage) for stage in stages],
            **more,
        },
        "test",
    )


def volumes(count=2, size=20, bad=False):
    found = []
    for index in range(count):
        rng = np.random.default_rng(index)
        hr = rng.random((size, size, size)).astype(np.float32)
        lr = (hr + np.roll(hr, 1, 0) + np.roll(hr, 1, 1)) / 3
        if bad:
            hr[...] = np.nan
        found.append(Prepared(f"s{index}", lr, hr, np.arange(size**3, dtype=np.int32), 1.0))
    return found


CYCLE = {
    "name": "cycle",
    "kind": "cycle",
    "steps": 4,
    "batch": 2,
    "patch": [32, 32, 1],
    "losses": {"adversarial": 1.0, "cycle": 1.0, "identity": 0.5, "joint_sparsifying": 0.001, "l1": 1.0},
    "generator": {"lr": 1e-4},
    "discriminator": {"lr": 1e-4},
    "discriminator_net": "circle",
    "discriminator_width": 2,
    "game": {"warmup": 2, "d_per_g": 1, "extra_every": 9, "extra_d": 0},
    "validate_every": 2,
}


def trainer_2d(folder, stages, name="gan_circle", size=32):
    spec = methods.get(name)
    chosen = recipe(*stages)
    identity = {"recipe": chosen.model_dump(mode="json")}
    network = build_network(spec, {"shortcut": True} if "shortcut" in spec.overridable else {})
    data = volumes(size=size)
    return Trainer(network, chosen, data, data[:1], folder, identity=identity, spec=spec, checkpoint_seconds=0)


def trainer(folder, stages, *, seed=0, bad=False, **more):
    network = build_network(methods.get("mdcsrn_b1u2_k2"), {"global_skip": True}, seed=seed)
    chosen = recipe(*stages)
    identity = {"recipe": chosen.model_dump(mode="json"), "seed": seed}
    data = volumes(bad=bad)
    return Trainer(network, chosen, data, volumes(1), folder, identity=identity, seed=seed, **more)
