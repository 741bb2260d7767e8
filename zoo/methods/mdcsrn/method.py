"""mDCSRN and mDCSRN-GAN: multi-level densely connected 3D networks (Chen et al. 2020, arXiv 2003.01217).

A re-implementation: the authors' repository holds no code. Where we deviate: convolutions carry no bias except stem
and reconstruction; a unit's bottleneck has its own BN -> ELU; gradient penalty weight 10 and the critic's learning rate
are not stated by the paper; what a recipe changes further stands in the recipe and on the card of the weights it made.
"""

from __future__ import annotations

import re
from typing import Any

from mrsr_bench.zoo.method import MethodSpec, Tiling

PAPER = "Chen et al. 2020, arXiv 2003.01217"
TASKS = ("kspace-2x2x1", "mdcsrn2020")
GROWTH = 12
BOTTLENECK_WIDTH = 4
RECIPES = {"paper": "recipes/paper.yaml", "quick": "recipes/quick.yaml", "tune": "recipes/tune.yaml"}
GAN_RECIPES = {"paper": "recipes/paper_gan.yaml", "quick": "recipes/quick_gan.yaml"}
DEVIATIONS = (
    "re-implementation: no official code or weights exist",
    "convolutions have a bias in the stem and the reconstruction only; the paper does not say",
    "the first block reads the stem itself; 1x1x1 compressors stand before the others",
    "the L1-trained weights are chosen by the mean PSNR of validation patches, where the paper goes by their MSE",
)
GAN_DEVIATIONS = (
    *DEVIATIONS,
    "gradient penalty weight 10; the paper does not state the critic's learning rate",
    "the critic's layer norm is over channels and space, with one gain and offset per channel; the paper does not say",
)
_VARIANT = re.compile(
    r"(?P<gan>mdcsrn_gan|mdcsrn)_b(?P<blocks>[1-9]\d?)u(?P<units>[1-9]\d?)(?:_k(?P<growth>[1-9]\d?))?(?P<r>_r)?"
)


def parameter_count(blocks: int, units: int, growth: int = GROWTH, head: str = "direct") -> int:
    """Trainable parameters of the generator, in closed form: what the network must have."""
    stem = 2 * growth
    squeezed = BOTTLENECK_WIDTH * growth
    total = 27 * stem + stem
    for unit in range(units):
        width = stem + unit * growth
        block = 0
        if width > squeezed:
            block += 2 * width + width * squeezed
            width = squeezed
        block += 2 * width + 27 * width * growth
        total += blocks * block
    level = stem + units * growth
    total += sum((stem + i * level) * stem for i in range(1, blocks))
    everything = stem + blocks * level
    if head == "direct":
        return total + everything + 1
    wide = 8 * growth
    return total + everything * wide + 2 * wide + 27 * wide + 1


def receptive_radius(blocks: int, units: int, head: str = "direct") -> int:
    """Voxels on every side that an output voxel depends on: one per 3x3x3 convolution on the longest path."""
    return 1 + blocks * units + (head == "reconstruction")


def _spec(
    name: str, blocks: int, units: int, *, growth: int = GROWTH, head: str = "direct", gan: bool = False
) -> MethodSpec:
    arguments: dict[str, Any] = {"blocks": blocks, "units": units, "growth": growth, "head": head}
    twin = name.replace("mdcsrn_gan", "mdcsrn")
    start = "WGAN-GP on top of the L1-trained dense" if gan else "dense"
    return MethodSpec(
        name=name,
        kind="network",
        summary=f"{start} 3D network, {blocks} blocks of {units} units, k = {growth}",
        paper=PAPER,
        build="mrsr_bench.zoo.methods.mdcsrn.network:MDCSRN",
        arguments=arguments,
        input="regridded",
        regrid="linear",
        tasks=TASKS,
        tiling=Tiling(window=136, margin=receptive_radius(blocks, units, head)),
        parameters=parameter_count(blocks, units, growth, head),
        generator=twin if gan else None,
        recipes=GAN_RECIPES if gan else RECIPES,
        deviations=GAN_DEVIATIONS if gan else DEVIATIONS,
        overridable=("global_skip",),
        folder="mdcsrn",
    )


def _alias(name: str, targets: tuple[str, ...], summary: str) -> MethodSpec:
    return MethodSpec(
        name=name,
        kind="network",
        summary=summary,
        paper=PAPER,
        build="mrsr_bench.zoo.methods.mdcsrn.network:MDCSRN",
        tasks=TASKS,
        alias_for=targets,
        folder="mdcsrn",
    )


METHODS = (
    _alias(
        "mdcsrn", ("mdcsrn_b8u4", "mdcsrn_b6u4", "mdcsrn_b4u4"), "the largest L1-trained mDCSRN whose weights are here"
    ),
    _spec("mdcsrn_b8u4", 8, 4),
    _spec("mdcsrn_b6u4", 6, 4),
    _spec("mdcsrn_b4u4", 4, 4),
    _spec("mdcsrn_b4u4_r", 4, 4, head="reconstruction"),
    _spec("densenet_b1u12_r", 1, 12, head="reconstruction"),
    _spec("densenet_b1u16_r", 1, 16, head="reconstruction"),
    _alias("mdcsrn_gan", ("mdcsrn_gan_b8u4", "mdcsrn_gan_b4u4"), "the largest mDCSRN-GAN whose weights are here"),
    _spec("mdcsrn_gan_b8u4", 8, 4, gan=True),
    _spec("mdcsrn_gan_b4u4", 4, 4, gan=True),
)


def variant(name: str) -> MethodSpec | None:
    """``mdcsrn_b{B}u{U}``, optionally ``_k{K}``, ``_r``, and with ``mdcsrn_gan``: any member of the family."""
    match = _VARIANT.fullmatch(name)
    if match is None:
        return None
    return _spec(
        name,
        int(match["blocks"]),
        int(match["units"]),
        growth=int(match["growth"] or GROWTH),
        head="reconstruction" if match["r"] else "direct",
        gan=match["gan"] == "mdcsrn_gan",
    )
