"""GAN-CPCE: a 2D conveying-path network with WGAN-GP and a perceptual loss, on slices (arXiv 1802.05656).

The network is the one of Shan et al. 2018, whose official code has no padding and no biases. Where we deviate: slices
lie in the degraded plane, whatever its anatomical name; the first map of the expanding path is taken after its ReLU;
the batch size is not stated; what a recipe changes further stands in the recipe and on the card of the weights it made.
"""

from __future__ import annotations

from mrsr_bench.zoo.method import MethodSpec, Tiling

RADIUS = 8
"""Samples on every side that an output sample depends on: one per 3x3 layer, four down and four up."""


def parameter_count(filters: int = 32) -> int:
    """Trainable parameters in closed form: first and last layer, six inner 3x3 ones, three 1x1 ones."""
    return 2 * 9 * filters + 6 * 9 * filters**2 + 3 * 2 * filters**2


METHODS = (
    MethodSpec(
        name="gan_cpce",
        kind="network",
        summary="2D conveying-path encoder-decoder, WGAN-GP with a perceptual loss, slice by slice",
        paper="GAN-CPCE on IXI T2, after Shan et al. 2018 (arXiv 1802.05656)",
        build="mrsr_bench.zoo.methods.gan_cpce.network:CPCE",
        arguments={"filters": 32},
        dims=2,
        walk="slices",
        input="regridded",
        regrid="zero_fill",
        tasks=("kspace-2x2x1",),
        tiling=Tiling(window=256, margin=RADIUS),
        parameters=parameter_count(),
        recipes={"paper": "recipes/paper.yaml", "quick": "recipes/quick.yaml"},
        deviations=(
            "re-implementation: generator and critic after the public description of the CPCE code",
            "no padding, as in the official code: four valid convolutions and four transposed ones keep the grid",
            "the expanding path begins with the last contracting map after its ReLU; those conveyed are taken before",
            "initialisation of He et al. 2015; the last layer starts positive, lest its ReLU be dead from the start",
            "slices in the plane that is degraded; one file of weights for every slice",
            "the paper's phi[G(I_HR)] and the sign of its adversarial loss are slips: phi(I_HR) and -E[D(G)] are used",
        ),
        overridable=("shortcut",),
        folder="gan_cpce",
    ),
)
