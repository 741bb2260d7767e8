"""residual3d as mrsr-bench sees it: EDSR (Lim et al. 2017, arXiv 1707.02921) made small and three-dimensional.

Where it deviates: 3D convolutions on the regridded volume instead of 2D ones with pixel shuffle, 24 features and four
blocks instead of 256 and 32.
"""

from __future__ import annotations

from mrsr_bench.zoo.method import MethodSpec, Tiling

FEATURES, BLOCKS = 24, 4


def parameter_count(features: int = FEATURES, blocks: int = BLOCKS) -> int:
    """Trainable parameters: 3x3x3 convolutions with biases, two to a block."""
    return (27 * features + features) + 2 * blocks * (27 * features**2 + features) + (27 * features + 1)


def receptive_radius(blocks: int = BLOCKS) -> int:
    """Voxels on every side that an output voxel depends on."""
    return 1 + 2 * blocks + 1


METHOD = MethodSpec(
    name="residual3d",
    kind="network",
    summary=f"small residual 3D network, {BLOCKS} blocks of {FEATURES} features",
    paper="after Lim et al. 2017, arXiv 1707.02921",
    build="mrsr_residual3d.network:Residual3D",
    arguments={"features": FEATURES, "blocks": BLOCKS},
    input="regridded",
    regrid="linear",
    tasks=("kspace-2x2x1", "thick-4"),
    tiling=Tiling(window=96, margin=receptive_radius()),
    parameters=parameter_count(),
    recipes={"quick": "recipes/quick.yaml", "smoke": "recipes/smoke.yaml"},
    deviations=(
        "3D convolutions on the regridded volume instead of 2D ones with pixel shuffle",
        "a small fraction of EDSR's size",
    ),
)
