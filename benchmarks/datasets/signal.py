"""Tissue parameters and sequence equations: from T1, T2, T2* and proton density to a magnitude signal.

Sources:
    Tissue parameters at 1.5 T of CSF, grey and white matter, fat and muscle: BrainWeb's table
    ``tissue_mr_parameters.txt`` (brainweb.bic.mni.mcgill.ca; its phantom: Collins et al., IEEE TMI 17, 463, 1998, its
    simulator: Kwan, Evans and Pike, IEEE TMI 18, 1085, 1999), but T2* of muscle, which is 30 ms there and 40 here. The
    rest (deep nuclei, skin, marrow, blood, dura, eye) are round values of our own, chosen to lie where clinical images
    show them: the pallidum is short in T2 from its iron, bone has almost no visible protons, blood is washed out of a
    spin echo (flow void) and unsaturated in a gradient echo.
    Sequences: spoiled gradient echo (Ernst and Anderson, Rev. Sci. Instrum. 37, 93, 1966), spin echo and inversion
    recovery as in Haacke et al., Magnetic Resonance Imaging (1999); MPRAGE is taken as inversion recovery with a
    gradient echo at the inversion time (Mugler and Brookeman, MRM 15, 152, 1990), its echo train neglected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

Contrast = Literal["T1w", "T2w", "PD", "FLAIR"]
CONTRASTS: tuple[Contrast, ...] = get_args(Contrast)


@dataclass(frozen=True)
class Tissue:
    """T1, T2, T2* in ms; proton density relative to water; ``flow``: moving blood, whose signal is a flow effect."""

    t1: float
    t2: float
    t2_star: float
    density: float
    flow: bool = False


TISSUES: dict[str, Tissue] = {
    "csf": Tissue(2569, 329, 58, 1.0),
    "grey": Tissue(833, 83, 69, 0.86),
    "white": Tissue(500, 70, 61, 0.77),
    "caudate": Tissue(810, 78, 60, 0.85),
    "putamen": Tissue(770, 75, 55, 0.84),
    "pallidum": Tissue(605, 60, 40, 0.79),
    "thalamus": Tissue(680, 76, 60, 0.82),
    "nigra": Tissue(640, 55, 35, 0.79),
    "brainstem": Tissue(565, 74, 60, 0.79),
    "cerebellar_grey": Tissue(800, 84, 68, 0.86),
    "fat": Tissue(350, 70, 58, 1.0),
    "muscle": Tissue(900, 47, 40, 1.0),
    "skin": Tissue(780, 52, 40, 0.9),
    "marrow": Tissue(400, 64, 40, 0.72),
    "bone": Tissue(900, 12, 4, 0.12),
    "dura": Tissue(820, 42, 25, 0.72),
    "vitreous": Tissue(2900, 320, 60, 1.0),
    "lens": Tissue(900, 40, 30, 0.75),
    "mucosa": Tissue(1000, 75, 45, 0.95),
    "artery": Tissue(1350, 180, 60, 0.9, flow=True),
    "vein": Tissue(1350, 110, 40, 0.85, flow=True),
}


@dataclass(frozen=True)
class Sequence:
    """A pulse sequence: times in ms, flip angle in degrees. ``ti`` makes it an inversion recovery."""

    kind: Literal["spin_echo", "gradient_echo"]
    tr: float
    te: float
    ti: float | None = None
    flip: float = 90.0


def spoiled_gradient_echo(tissue: Tissue, tr: float, te: float, flip: float) -> float:
    """Steady-state signal of a spoiled gradient echo (the Ernst equation); ``flip`` in degrees, times in ms."""
    angle, recovery = math.radians(flip), math.exp(-tr / tissue.t1)
    steady = math.sin(angle) * (1 - recovery) / (1 - math.cos(angle) * recovery)
    return tissue.density * steady * math.exp(-te / tissue.t2_star)


def spin_echo(tissue: Tissue, tr: float, te: float) -> float:
    """Signal of a 90-180 spin echo, times in ms."""
    recovered = 1 - 2 * math.exp(-(tr - te / 2) / tissue.t1) + math.exp(-tr / tissue.t1)
    return tissue.density * recovered * math.exp(-te / tissue.t2)


def inversion_recovery(tissue: Tissue, tr: float, te: float, ti: float, t2: float) -> float:
    """Magnitude after an inversion ``ti`` ms before the excitation, every ``tr`` ms; ``t2``: decay until ``te``."""
    magnetisation = 1 - 2 * math.exp(-ti / tissue.t1) / (1 + math.exp(-tr / tissue.t1))
    return tissue.density * abs(magnetisation) * math.exp(-te / t2)


def signal_of(tissue: Tissue, sequence: Sequence) -> float:
    """Signal of one tissue, in units of the equilibrium magnetisation of water."""
    if tissue.flow and sequence.kind == "spin_echo":
        return 0.05 * tissue.density
    if sequence.ti is not None:
        if tissue.flow:
            return 0.42 * tissue.density
        t2 = tissue.t2 if sequence.kind == "spin_echo" else tissue.t2_star
        return inversion_recovery(tissue, sequence.tr, sequence.te, sequence.ti, t2)
    if sequence.kind == "spin_echo":
        return spin_echo(tissue, sequence.tr, sequence.te)
    return spoiled_gradient_echo(tissue, sequence.tr, sequence.te, sequence.flip)


def csf_null_time(tr: float, t1: float = TISSUES["csf"].t1) -> float:
    """Inversion time (ms) at which a tissue of ``t1`` gives no signal: T1 ln(2 / (1 + exp(-TR/T1)))."""
    return t1 * math.log(2 / (1 + math.exp(-tr / t1)))


def draw_sequence(contrast: Contrast, rng: np.random.Generator) -> Sequence:
    """A sequence of ``contrast`` with its times varied as between protocols of different sites."""
    if contrast == "T1w":
        return Sequence(
            "gradient_echo", tr=rng.uniform(2000, 2400), te=rng.uniform(2.5, 4.5), ti=rng.uniform(1000, 1100)
        )
    if contrast == "T2w":
        return Sequence("spin_echo", tr=rng.uniform(3500, 5500), te=rng.uniform(85, 105))
    if contrast == "PD":
        return Sequence("spin_echo", tr=rng.uniform(2800, 3400), te=rng.uniform(17, 27))
    tr = rng.uniform(8500, 10000)
    return Sequence("spin_echo", tr=tr, te=rng.uniform(115, 140), ti=csf_null_time(tr) * rng.uniform(0.985, 1.015))


def draw_tissues(rng: np.random.Generator, spread: float = 0.025) -> dict[str, Tissue]:
    """The tissue table of one subject: relaxation times and densities vary by ``spread`` (relative, one sigma)."""
    drawn = {}
    for name, tissue in TISSUES.items():
        t1, t2, density = 1 + spread * np.clip(rng.standard_normal(3), -2, 2)
        if name == "csf":
            t1 = 1.0
        drawn[name] = replace(
            tissue,
            t1=float(tissue.t1 * t1),
            t2=float(tissue.t2 * t2),
            t2_star=float(tissue.t2_star * t2),
            density=float(tissue.density * (1 + 0.4 * (density - 1))),
        )
    return drawn


def tissue_signals(contrast: Contrast, tissues: dict[str, Tissue], rng: np.random.Generator) -> dict[str, float]:
    """Signal of every tissue under a drawn sequence; white matter is scaled to 1000 in T1w, cortex otherwise."""
    sequence = draw_sequence(contrast, rng)
    raw = {name: signal_of(tissue, sequence) for name, tissue in tissues.items()}
    scale = 1000 / raw["white" if contrast == "T1w" else "grey"]
    return {name: value * scale for name, value in raw.items()}
