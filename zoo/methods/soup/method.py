"""SOUP-GAN: slices of any thickness to thin ones, 3D, factors 1 to 6 (Zhang et al. 2022, arXiv 2106.02599).

The generator is wired as the authors' released network (package KevinSR 0.1.20), read off its layers. Where we
deviate: LR is scaled by one constant of ours and not to 0..10000, interpolation is on world coordinates, averaged
(thick) and sampled (thin) slices have weights of their own, training and validation share no subject.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mrsr_bench.zoo.method import MethodSpec, Tiling

PAPER = "Zhang et al. 2022, arXiv 2106.02599"
SCALES = (2, 3, 4, 5, 6)
"""Factors that have modules of their own."""
FACTORS = (1.0, 6.0)
"""The factors a multi-scale network answers to."""
FEATURES, DEPTH = 32, 12
RRDB_FACTOR, RRDB_BLOCKS, RRDB_FEATURES, RRDB_GROWTH = 4, 3, 32, 32
RECIPES = {
    "paper": "recipes/paper.yaml",
    "quick": "recipes/quick.yaml",
    "long": "recipes/long.yaml",
    "tune": "recipes/tune.yaml",
    "thick": "recipes/thick.yaml",
    "tune_thick": "recipes/tune_thick.yaml",
}
SINGLE_RECIPES = RECIPES | {"tune": "recipes/tune_single.yaml", "tune_thick": "recipes/tune_single_thick.yaml"}
GAN_RECIPES = {"paper": "recipes/paper_gan.yaml", "quick": "recipes/quick_gan.yaml", "thick": "recipes/thick_gan.yaml"}
RRDB_RECIPES = {"paper": "recipes/paper_rrdb.yaml", "quick": "recipes/quick_rrdb.yaml"}
WIRING = "the wiring is that of the authors' released network; the paper leaves it open"
BEGINNING = (
    "He initialisation, in the backbone a fifth of it beside the identity (but not in the weights that ship for thin "
    "slices), first layers blind to constants, the last convolution of a module at a thousandth of it: "
    "training starts at the interpolation",
    "subject-wise split instead of shuffled patches, thick and thin slices have weights of their own",
)
MULTI_DEVIATIONS = (
    WIRING,
    "fractional factors blend the outputs of the neighbouring modules, as the release does; "
    "equation 3 (parameters) is the setting `blend=parameters`",
    *BEGINNING,
)
SINGLE_DEVIATIONS = (
    WIRING,
    "the same backbone as the multi-scale network's, with one pre- and one post-module; the paper does not say what "
    "its single-scale network is",
    *BEGINNING,
)
GAN_DEVIATIONS = (
    *MULTI_DEVIATIONS,
    "the discriminator is mDCSRN-GAN's, whose layer norm has one gain and offset per channel here; the paper describes "
    "neither",
)
_RRDB_VARIANT = re.compile(r"soup_rrdb_(?P<factor>[2356])")


def _weights_of(conv: tuple[int, int]) -> int:
    inputs, outputs = conv
    return 27 * inputs * outputs + outputs


def parameter_count(scales: int, features: int = FEATURES, depth: int = DEPTH) -> int:
    """Parameters of the generator with modules for so many scales, in closed form."""
    w = features
    module = ((1, w), (w, w), (w, 1), (w, w), (w, 1))
    return scales * sum(map(_weights_of, module)) + _weights_of((1, w)) + depth * _weights_of((w, w))


def receptive_radius(depth: int = DEPTH) -> int:
    """Voxels on every side that an output voxel depends on: one per convolution in a row."""
    return 3 + (1 + depth) + 2


def rrdb_parameter_count(
    factor: int, blocks: int = RRDB_BLOCKS, features: int = RRDB_FEATURES, growth: int = RRDB_GROWTH
) -> int:
    """Parameters of the RRDB generator, in closed form."""
    w, g = features, growth
    dense = sum(_weights_of((w + i * g, g)) for i in range(4)) + _weights_of((w + 4 * g, w))
    ends = ((1, w), (w, w), (w, w * factor), (w, w), (w, 1))
    return 3 * blocks * dense + sum(map(_weights_of, ends))


def rrdb_receptive_radius(blocks: int = RRDB_BLOCKS) -> int:
    """LR voxels on every side that an output voxel depends on."""
    return 1 + blocks * 3 * 5 + 1 + 1 + 2


def _groups(scales: tuple[int, ...], *criteria: str) -> dict[str, tuple[str, ...]]:
    return {criterion: tuple(f"{criterion}-{s}" for s in scales) for criterion in criteria}


def _all(groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(task for tasks in groups.values() for task in tasks)


def _generator(name: str, summary: str, scales: tuple[int, ...], *, gan: bool = False) -> MethodSpec:
    groups = _groups(scales, "thick", "thin")
    arguments: dict[str, Any] = {"scales": scales}
    several = len(scales) > 1
    return MethodSpec(
        name=name,
        kind="network",
        summary=summary,
        paper=PAPER,
        build="mrsr_bench.zoo.methods.soup.network:SoupGenerator",
        arguments=arguments,
        conditioned=several,
        groups=groups,
        regrid="cubic",
        tasks=_all(groups),
        # A head of 160 x 192 x 192 voxels is one tile, which takes 2.2 GB.
        tiling=Tiling(window=184, margin=receptive_radius()),
        parameters=parameter_count(len(scales)),
        generator="soup_multi" if gan else None,
        recipes=GAN_RECIPES if gan else RECIPES if several else SINGLE_RECIPES,
        deviations=GAN_DEVIATIONS if gan else MULTI_DEVIATIONS if several else SINGLE_DEVIATIONS,
        overridable=("blend",) if several else (),
        adjustable=("blend",) if several else (),
        folder="soup",
    )


def _rrdb(name: str, factor: int) -> MethodSpec:
    groups = _groups((factor,), "thick", "thin")
    return MethodSpec(
        name=name,
        kind="network",
        summary=f"3D RRDB network that upsamples its features by {factor} along the slices, "
        f"{RRDB_BLOCKS} blocks of {RRDB_FEATURES} features",
        paper=f"{PAPER}; Wang et al. 2018 (ESRGAN), arXiv 1809.00219",
        build="mrsr_bench.zoo.methods.soup.rrdb:SoupRRDB",
        arguments={"factor": factor, "blocks": RRDB_BLOCKS, "features": RRDB_FEATURES, "growth": RRDB_GROWTH},
        input="native",
        regrid="cubic",
        scale=(1, 1, factor),
        groups=groups,
        tasks=_all(groups),
        tiling=Tiling(window=128, margin=rrdb_receptive_radius()),
        parameters=rrdb_parameter_count(factor),
        recipes=RRDB_RECIPES,
        deviations=(
            "3 RRDB blocks of 32 features; the paper gives no size, and 8 blocks would be 10 million parameters",
            "each dense block's and each RRDB's residual is scaled by beta 0.2, as in ESRGAN; the paper does not say",
            "pixel shuffle along the slices only; the output is what the network gives plus its input with every "
            "slice repeated, its last convolution starting at a thousandth",
            "subject-wise split, thick and thin slices have weights of their own",
        ),
        folder="soup",
    )


_THIN = _groups(SCALES, "thin")
_OFFICIAL = MethodSpec(
    name="soup_gan_official",
    kind="network",
    summary="the SOUP-GAN authors' released weights for sampled slices, factors 1 to 6; the user imports them",
    paper=PAPER,
    build="mrsr_bench.zoo.methods.soup.network:OfficialSoupGenerator",
    conditioned=True,
    groups=_THIN,
    regrid="cubic",
    tasks=_all(_THIN),
    tiling=Tiling(window=136, margin=receptive_radius()),
    normalisation="LR minimum to maximum becomes 0 to 10000, as the release does",
    parameters=parameter_count(len(SCALES)),
    licence="BSD-3-Clause",
    deviations=(
        "LR is interpolated by the cubic spline on world coordinates instead of scipy.ndimage.zoom, "
        "which moves samples by up to half a slice",
        "minimum and maximum are taken after that interpolation, the release takes them before",
    ),
    folder="soup",
)

METHODS = (
    *(
        _generator(f"soup_single_{s}", f"single-scale SOUP network for slices {s} times too far apart", (s,))
        for s in SCALES
    ),
    _generator(
        "soup_multi", "multi-scale SOUP network, any factor from 1 to 6, modules per scale, one backbone", SCALES
    ),
    _generator("soup_gan", "SOUP-GAN: soup_multi trained on with a perceptual and a GAN loss", SCALES, gan=True),
    _OFFICIAL,
    _rrdb("soup_rrdb", RRDB_FACTOR),
)


def variant(name: str) -> MethodSpec | None:
    """``soup_rrdb_{2,3,5,6}``: the RRDB network for the other factors."""
    match = _RRDB_VARIANT.fullmatch(name)
    return None if match is None else _rrdb(name, int(match["factor"]))
