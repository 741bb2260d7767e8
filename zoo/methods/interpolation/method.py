"""The interpolations every comparison starts with: no weights, no parameters, any protocol.

All work in world coordinates, sample centres to sample centres (see `mrsr_bench.zoo.regrid`).
"""

from mrsr_bench.zoo.method import MethodSpec

_SUMMARIES = {
    "nearest": ("nearest neighbour", "-"),
    "linear": ("trilinear", "-"),
    "cubic": ("cubic B-spline, edge replicated", "Unser 1999, IEEE Signal Process. Mag. 16(6):22-38"),
    "lanczos": ("windowed sinc, three lobes", "Duchon 1979, J. Appl. Meteor. 18:1016-1022"),
    "zero_fill": ("zero-filled Fourier interpolation", "Bernstein et al. 2001, J. Magn. Reson. Imaging 14:270-280"),
}

METHODS = tuple(
    MethodSpec(
        name=name,
        kind="interpolation",
        summary=summary,
        paper=paper,
        build="mrsr_bench.zoo.methods.interpolation.upscaler:build",
        arguments={"interpolation": name},
        input="native",
        regrid=name,
        normalisation="none: linear in the voxels",
        parameters=0,
    )
    for name, (summary, paper) in _SUMMARIES.items()
)
