"""SRResNet-3D: SRResNet (Ledig et al. 2017) in three dimensions, a baseline of Chen et al. 2020 (arXiv 2003.01217).

A re-implementation: 64 filters, 16 residual blocks, the upsampling replaced by one 3x3x3 convolution of the same size.
Where we deviate: stem and last kernels are SRResNet's 9, cubed, and convolutions before a batch norm carry no bias;
the mDCSRN paper says neither.
"""

from __future__ import annotations

from mrsr_bench.zoo.method import MethodSpec, Tiling

PAPER = "Ledig et al. 2017, arXiv 1609.04802; in 3D: Chen et al. 2020, arXiv 2003.01217"
TASKS = ("kspace-2x2x1", "mdcsrn2020")
FILTERS, BLOCKS = 64, 16
OUTER_KERNEL = 9


def parameter_count(filters: int = FILTERS, blocks: int = BLOCKS) -> int:
    """Trainable parameters in closed form: a PReLU has one slope per channel, a batch norm two numbers."""
    conv = 27 * filters**2
    stem = OUTER_KERNEL**3 * filters + 2 * filters
    block = 2 * (conv + 2 * filters) + filters
    return stem + blocks * block + (conv + 2 * filters) + (conv + 2 * filters) + OUTER_KERNEL**3 * filters + 1


def receptive_radius(blocks: int = BLOCKS) -> int:
    """Voxels on every side that an output voxel depends on."""
    return OUTER_KERNEL // 2 + 2 * blocks + 1 + 1 + OUTER_KERNEL // 2


METHODS = (
    MethodSpec(
        name="srresnet3d",
        kind="network",
        summary=f"SRResNet in 3D on the regridded volume, {FILTERS} filters, {BLOCKS} residual blocks",
        paper=PAPER,
        build="mrsr_bench.zoo.methods.srresnet3d.network:SRResNet3D",
        arguments={"filters": FILTERS, "blocks": BLOCKS},
        input="regridded",
        regrid="linear",
        tasks=TASKS,
        # The whole radius, so that tiles equal the volume; the window holds 160 x 192 x 192 voxels in one tile (7 GB).
        tiling=Tiling(window=184, margin=receptive_radius()),
        parameters=parameter_count(),
        recipes={"paper": "recipes/paper.yaml", "quick": "recipes/quick.yaml"},
        deviations=(
            "re-implementation: no official 3D code or weights exist",
            "the two upsampling stages are one 3x3x3 convolution of the same size with PReLU; "
            "the paper says same-size convolutions, not how many",
            "stem and last kernels 9x9x9, a PReLU slope per channel, no bias before batch norm; the paper does not say",
        ),
        overridable=("global_skip",),
        folder="srresnet3d",
    ),
)
