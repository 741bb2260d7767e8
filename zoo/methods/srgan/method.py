"""SRGAN for prostate MRI: isotropic and anisotropic 2D super-resolution, and through the plane (Sood and Rusu 2019).

A re-implementation on Ledig et al. 2017 (arXiv 1609.04802): no code or weights of the prostate paper are public. The
kernel that made its LR images and the weights of its losses are not stated. ``srresnet2d_*`` is the generator before
the GAN stage, ``srgan_*`` the same after it. What a recipe changes further stands in the recipe and on the card.
"""

from __future__ import annotations

import math

from mrsr_bench.zoo.method import MethodSpec, Tiling

PAPER = "Sood and Rusu 2019, on Ledig et al. 2017, arXiv 1609.04802"
BUILD = "mrsr_bench.zoo.methods.srgan.network:SRResNet"
WIDTH, BLOCKS = 64, 16
RECIPES = {"paper": "recipes/paper.yaml", "quick": "recipes/quick.yaml", "tune": "recipes/tune.yaml"}
GAN_RECIPES = {"paper": "recipes/paper_gan.yaml", "quick": "recipes/quick_gan.yaml"}
THROUGH_PLANE_RECIPES = {
    "paper": "recipes/paper_through_plane.yaml",
    "quick": "recipes/quick_through_plane.yaml",
    "quick_thin": "recipes/quick_through_plane_thin.yaml",
    "tune": "recipes/tune_through_plane.yaml",
    "tune_thin": "recipes/tune_through_plane_thin.yaml",
}
DEVIATIONS = (
    "re-implementation: no official code or weights exist",
    "LR slices by antialiased bicubic downsampling; the paper does not state the kernel",
    "float32 intensities scaled by LR alone; the paper's images were 8-bit PNG",
)
LOSS_WEIGHTS = "loss weights of Ledig et al. 2017; the prostate paper does not state its own"
ANISO_4X = "LR slices of 56 x 224 for HR slices of 224 x 224; the paper gives the size for 8x alone, 28 x 224"
THROUGH_PLANE_DEVIATIONS = (
    DEVIATIONS[0],
    LOSS_WEIGHTS,
    "one network for slice distances of 2 to 6: it always quadruples the slices; what it gives is brought onto the "
    "target grid by cubic interpolation where the factor is not 4",
)


def parameter_count(scale: tuple[int, int], width: int = WIDTH, blocks: int = BLOCKS) -> int:
    """Trainable parameters of the generator for grey images, in closed form."""
    normalised = 9 * width * width + 2 * width
    stages = scale[0].bit_length() - 1
    wide = width * (2 if scale[1] == 1 else 4)
    stem = 81 * width + width + 1
    return stem + blocks * (2 * normalised + 1) + normalised + stages * (9 * width * wide + wide + 1) + 81 * width + 1


def receptive_radius(scale: tuple[int, int], blocks: int = BLOCKS) -> int:
    """LR pixels on every side that an output pixel depends on, along the axis where that is more, rounded up.

    A pixel of a later stage is smaller along the axes that are refined, so those see less far.
    """
    stages = scale[0].bit_length() - 1
    step = 0.5 if min(scale) > 1 else 1.0
    return 4 + 2 * blocks + 1 + math.ceil(sum(step**stage for stage in range(stages)) + 4 / min(scale))


def _spec(name: str, scale: tuple[int, int], tasks: tuple[str, ...], *, gan: bool) -> MethodSpec:
    where = "in the plane" if scale[1] > 1 else "along the height of a slice"
    deviations = (*DEVIATIONS, *([ANISO_4X] * (scale == (4, 1))), *([LOSS_WEIGHTS] * gan))
    start = "SRGAN: the MSE-trained SRResNet after adversarial training" if gan else "SRResNet trained by MSE"
    return MethodSpec(
        name=name,
        kind="network",
        summary=f"{start}, 2D, {scale[0]}x {where}",
        paper=PAPER,
        build=BUILD,
        arguments={"scale": scale, "width": WIDTH, "blocks": BLOCKS},
        dims=2,
        walk="slices",
        scale=scale,
        input="native",
        regrid="cubic",
        tasks=tasks,
        tiling=Tiling(window=256 if scale[0] <= 4 else 192, margin=receptive_radius(scale)),
        parameters=parameter_count(scale),
        generator=name.replace("srgan", "srresnet2d") if gan else None,
        recipes=GAN_RECIPES if gan else RECIPES,
        deviations=deviations,
        overridable=("global_skip",),
        folder="srgan",
    )


_PLANES: tuple[tuple[str, tuple[int, int], tuple[str, ...]], ...] = (
    ("4x", (4, 4), ("inplane-4x4x1", "prostate2019-iso-4x")),
    ("8x", (8, 8), ("inplane-8x8x1", "prostate2019-iso-8x")),
    ("aniso_4x", (4, 1), ("inplane-1x4x1", "prostate2019-aniso-4x")),
    ("aniso_8x", (8, 1), ("inplane-1x8x1", "prostate2019-aniso-8x")),
)
_GROUPS = {kind: tuple(f"{kind}-{s}" for s in range(2, 7)) for kind in ("thick", "thin")}

METHODS = (
    *(_spec(f"srresnet2d_{size}", scale, tasks, gan=False) for size, scale, tasks in _PLANES),
    *(_spec(f"srgan_{size}", scale, tasks, gan=True) for size, scale, tasks in _PLANES),
    MethodSpec(
        name="srgan_through_plane",
        kind="network",
        summary="SRGAN along the slice axis, on both stacks of slices that contain it, averaged",
        paper=PAPER,
        build=BUILD,
        arguments={"scale": (4, 1), "width": WIDTH, "blocks": BLOCKS},
        dims=2,
        walk="through_plane",
        scale=(4, 1),
        groups=_GROUPS,
        input="native",
        regrid="cubic",
        tasks=(*_GROUPS["thick"], *_GROUPS["thin"]),
        tiling=Tiling(window=256, margin=receptive_radius((4, 1))),
        parameters=parameter_count((4, 1)),
        recipes=THROUGH_PLANE_RECIPES,
        deviations=THROUGH_PLANE_DEVIATIONS,
        overridable=("global_skip",),
        folder="srgan",
    ),
)
