"""GAN-CIRCLE: a 2D network trained with a cycle, on slices (network of You et al. 2019, arXiv 1808.04256).

Where we deviate: input and output share a grid, so the strided first layer and the transposed convolution of the CT
network are left out; slices lie in the degraded plane; dropout rate, tau and the batch size are not stated by the
paper; what a recipe changes further stands in the recipe and on the card of the weights it made.
"""

from __future__ import annotations

from mrsr_bench.zoo.method import MethodSpec, Tiling

BLOCKS = 12
NARROWEST = 16
WIDEST = {"gan_circle": 64, "gan_circle_official_code": 128}
"""Channels of the first feature block: as the paper has it, and as the authors' code has it."""


def feature_widths(
    widest: int, narrowest: int = NARROWEST, blocks: int = BLOCKS, gamma: float = 1.5
) -> tuple[int, ...]:
    """Channels of the feature blocks, falling as in DCSCN (Yamanaka et al. 2017): 64 gives 64, 54, 48, ..., 16."""
    falls = ((block / (blocks - 1)) ** (1 / gamma) for block in range(blocks))
    return tuple(int((widest - narrowest) * (1 - fall) + narrowest) for fall in falls)


def parameter_count(widths: tuple[int, ...]) -> int:
    """Trainable parameters in closed form: chain, branches A (24) and B (8, 8), merger (32), last convolution."""
    entries = (1, *widths[:-1])
    chain = sum(9 * entry * width + width for entry, width in zip(entries, widths, strict=True))
    branches = (sum(widths) + 1) * (24 + 8) + 9 * 8 * 8 + 8
    return chain + branches + 9 * 32 * 32 + 32 + 9 * 32 + 1


RADIUS = BLOCKS + 3
"""Samples on every side that an output sample depends on: one per 3x3 convolution on the longest path."""


def _spec(name: str) -> MethodSpec:
    widths = feature_widths(WIDEST[name])
    return MethodSpec(
        name=name,
        kind="network",
        summary=f"2D cycle-trained network, feature blocks of {widths[0]} to {widths[-1]} channels, slice by slice",
        paper="GAN-CIRCLE on IXI T2, after You et al. 2019 (arXiv 1808.04256)",
        build="mrsr_bench.zoo.methods.gan_circle.network:CircleGenerator",
        arguments={"widths": widths},
        dims=2,
        walk="slices",
        input="regridded",
        regrid="zero_fill",
        tasks=("kspace-2x2x1",),
        tiling=Tiling(window=256, margin=RADIUS),
        parameters=parameter_count(widths),
        recipes={"paper": "recipes/paper.yaml", "unpaired": "recipes/unpaired.yaml", "quick": "recipes/quick.yaml"},
        deviations=(
            "re-implementation; the MRI task keeps the grid, so there is no stride and no transposed convolution",
            "leaky ReLU 0.1 after every convolution but the last; dropout in the feature blocks (rate not stated) 0.2, "
            "or what the recipe says",
            "slices in the plane that is degraded; one file of weights for every slice",
            "the critics' 4x4 convolutions have stride 2, which the paper does not state",
            "tau 0.1 in the joint sparsifying loss (not stated); the sign of the paper's critic is a slip",
        ),
        overridable=("dropout", "zero_start"),
        folder="gan_circle",
    )


METHODS = (_spec("gan_circle"),)


def variant(name: str) -> MethodSpec | None:
    """``gan_circle_official_code``: the widths of the authors' code, 128 to 16 channels."""
    return _spec(name) if name in WIDEST else None
