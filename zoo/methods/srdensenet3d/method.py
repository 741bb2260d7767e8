"""SRDenseNet-3D: SRDenseNet (Tong et al. 2017) in three dimensions, a baseline of Chen et al. 2020 (arXiv 2003.01217).

A re-implementation: 8 blocks of 4 units, k = 12, ELU; blocks are chained and a block's output excludes its input; the
deconvolutions are left out, so the head is a 1x1x1 bottleneck to 8k, BN + ELU, and a 3x3x3 convolution. Where we
deviate: stem of 2k channels as in mDCSRN (which gives the paper's size, about 346k), convolution then ELU as in
SRDenseNet, batch norm in the head only.
"""

from __future__ import annotations

from mrsr_bench.zoo.method import MethodSpec, Tiling

PAPER = "Tong et al. 2017, ICCV; in 3D: Chen et al. 2020, arXiv 2003.01217"
TASKS = ("kspace-2x2x1", "mdcsrn2020")
BLOCKS, UNITS, GROWTH = 8, 4, 12


def parameter_count(blocks: int = BLOCKS, units: int = UNITS, growth: int = GROWTH) -> int:
    """Trainable parameters in closed form; every convolution has a bias but the one before the batch norm."""
    stem, level, wide = 2 * growth, units * growth, 8 * growth
    total = 27 * stem + stem
    inside = sum(27 * unit * growth * growth for unit in range(1, units)) + units * growth
    total += blocks * inside + 27 * growth * (stem + (blocks - 1) * level)
    total += (stem + blocks * level) * wide + 2 * wide
    return total + 27 * wide + 1


def receptive_radius(blocks: int = BLOCKS, units: int = UNITS) -> int:
    """Voxels on every side that an output voxel depends on: one per 3x3x3 convolution on the longest path."""
    return 1 + blocks * units + 1


METHODS = (
    MethodSpec(
        name="srdensenet3d",
        kind="network",
        summary=f"SRDenseNet in 3D on the regridded volume, {BLOCKS} chained blocks of {UNITS} units, k = {GROWTH}",
        paper=PAPER,
        build="mrsr_bench.zoo.methods.srdensenet3d.network:SRDenseNet3D",
        arguments={"blocks": BLOCKS, "units": UNITS, "growth": GROWTH},
        input="regridded",
        regrid="linear",
        tasks=TASKS,
        tiling=Tiling(window=184, margin=receptive_radius()),
        parameters=parameter_count(),
        recipes={"paper": "recipes/paper.yaml", "quick": "recipes/quick.yaml"},
        deviations=(
            "re-implementation: no official 3D code or weights exist",
            "the deconvolutions are left out; the 3x3x3 reconstruction follows the bottleneck, as in the mDCSRN paper",
            "a stem of 2k channels, ELU after every convolution, batch norm in the head only; the paper does not say",
            "He initialisation, the stem blind to constants at the start",
        ),
        overridable=("global_skip",),
        folder="srdensenet3d",
    ),
)
