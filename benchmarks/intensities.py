"""Pairs in 8 bits, as papers had them that read their images from PNG files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mrsr_bench import UserError

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.dataset import Pair
    from mrsr_bench.benchmarks.protocol import Protocol
    from mrsr_bench.volume import Volume

LEVELS = 255


def as_stated(pair: Pair, protocol: Protocol) -> Pair:
    """``pair`` with the intensities that the protocol states, and without any truth where it has no reference.

    Raises:
        UserError: 8 bits are asked for and HR is constant.
    """
    if not protocol.has_reference:
        pair = replace(pair, noise_free=None, labels=None)
    return in_eight_bits(pair) if protocol.eight_bits else pair


def unit_of(pair: Pair, protocol: Protocol) -> float:
    """How much intensity of ``pair`` one unit of `as_stated` is.

    Raises:
        UserError: 8 bits are asked for and HR is constant.
    """
    if not protocol.eight_bits:
        return 1.0
    low, high = _range_of(pair)
    return (high - low) / LEVELS


def _range_of(pair: Pair) -> tuple[float, float]:
    low, high = float(pair.hr.data.min()), float(pair.hr.data.max())
    if not high > low:
        raise UserError(
            f"HR is constant ({low:g} everywhere), so it has no 8-bit scale; expected an image with contrast"
        )
    return low, high


def in_eight_bits(pair: Pair) -> Pair:
    """HR and LR mapped by one line, HR's minimum to 0 and its maximum to 255, rounded and clipped to whole numbers.

    One line for the volume, so that slices keep their brightness. The noise-free object is mapped and not rounded.

    Raises:
        UserError: HR is constant.
    """
    import numpy as np

    low, high = _range_of(pair)

    def mapped(volume: Volume) -> Volume:
        return volume.with_data((volume.data.astype(np.float64) - low) * (LEVELS / (high - low)))

    def rounded(volume: Volume) -> Volume:
        scaled = mapped(volume)
        return scaled.with_data(np.clip(np.round(scaled.data), 0, LEVELS))

    clean = None if pair.noise_free is None else mapped(pair.noise_free)
    return replace(pair, hr=rounded(pair.hr), lr=rounded(pair.lr), noise_free=clean)
