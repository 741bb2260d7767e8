"""FSRCNN-3D: FSRCNN (Dong et al. 2016) in three dimensions, as a baseline of Chen et al. 2020 (arXiv 2003.01217).

A re-implementation: d = 56, s = 12, m = 4, kernels 5, 1, 3, 1, 9 cubed; the deconvolution is a convolution of the same
size. Where we deviate: the mDCSRN paper does not say how its baselines were trained in particular, so they are trained
like its own networks; initialisation is FSRCNN's own.
"""

from __future__ import annotations

from mrsr_bench.zoo.method import MethodSpec, Tiling

PAPER = "Dong et al. 2016, arXiv 1608.00367; in 3D: Chen et al. 2020, arXiv 2003.01217"
TASKS = ("kspace-2x2x1", "mdcsrn2020")
FEATURES, SHRUNK, MAPPINGS = 56, 12, 4
FIRST_KERNEL, MAPPING_KERNEL, LAST_KERNEL = 5, 3, 9


def parameter_count(features: int = FEATURES, shrunk: int = SHRUNK, mappings: int = MAPPINGS) -> int:
    """Trainable parameters in closed form: convolutions with biases, one PReLU slope per channel."""
    first = FIRST_KERNEL**3 * features + 2 * features
    shrink = features * shrunk + 2 * shrunk
    mapping = MAPPING_KERNEL**3 * shrunk**2 + 2 * shrunk
    expand = shrunk * features + 2 * features
    last = LAST_KERNEL**3 * features + 1
    return first + shrink + mappings * mapping + expand + last


def receptive_radius(mappings: int = MAPPINGS) -> int:
    """Voxels on every side that an output voxel depends on."""
    return FIRST_KERNEL // 2 + mappings * (MAPPING_KERNEL // 2) + LAST_KERNEL // 2


METHODS = (
    MethodSpec(
        name="fsrcnn3d",
        kind="network",
        summary=f"FSRCNN in 3D on the regridded volume, d = {FEATURES}, s = {SHRUNK}, m = {MAPPINGS}",
        paper=PAPER,
        build="mrsr_bench.zoo.methods.fsrcnn3d.network:FSRCNN3D",
        arguments={"features": FEATURES, "shrunk": SHRUNK, "mappings": MAPPINGS},
        input="regridded",
        regrid="linear",
        tasks=TASKS,
        tiling=Tiling(window=136, margin=receptive_radius()),
        parameters=parameter_count(),
        recipes={"paper": "recipes/paper.yaml", "quick": "recipes/quick.yaml"},
        deviations=(
            "re-implementation: no official 3D code or weights exist",
            "a 9x9x9 convolution of the same size in place of the deconvolution, as in the mDCSRN paper",
            "initialised as in FSRCNN (He for the PReLU layers, a Gaussian of 0.001 for the last), the first layer "
            "blind to constants; the paper does not say",
        ),
        overridable=("global_skip",),
        folder="fsrcnn3d",
    ),
)
