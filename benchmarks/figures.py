"""One figure per subject: HR, LR and every method on one slice, a zoom, error maps, power spectra.

Which slice is shown is a rule, not a choice (see `views`), and no rule picks a slice through the face. Images are in
radiological convention: the patient's right is on the left, anterior or superior is up; grey runs from 0 to the range
of the metrics. The error maps of all methods share one scale. The zoom is the same box for all, drawn with whole pixels
per voxel, and lies where HR lost most to LR.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from scipy.fft import rfft

from mrsr_bench import UserError
from mrsr_bench.benchmarks.metrics.region import bounding_box
from mrsr_bench.benchmarks.results import write_bytes
from mrsr_bench.benchmarks.views import Window, choose_view, choose_zoom, foreground_window, pixels_per_voxel
from mrsr_bench.zoo.curves import OKABE_ITO, save_png
from mrsr_bench.zoo.regrid import Interpolation, regrid

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.metrics.region import Reference
    from mrsr_bench.volume import FloatArray, Grid, Volume

Image = npt.NDArray[np.float32]
Spectrum = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

DPI = 200
MARGIN, GAP, KEY_HIGH = 40, 12, 320
"""Pixels; the key is the text beside the error maps."""
METHODS_PER_BLOCK = 4
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)))
INK, QUIET, BOX = "#1A1A1A", "#5A5A5A", "#E69F00"
ERROR_STEPS = (0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100)
WORLD_ENDS = ("RL", "PA", "IS")
WORLD_NAMES = ("R-L", "A-P", "S-I")

LIGHT_BYTES = 250_000
LIGHT_SCALES = tuple(percent / 100 for percent in range(75, 35, -5))
"""Of a light copy's size; below the smallest its text cannot be read."""
GREYS = 128
"""Of a light copy's palette; white is the last of them. A figure that stays too large has a quarter."""

LINES_OF_SPECTRUM = 10_000
"""About so many evenly spaced lines are averaged: more change no curve visibly."""


def power_spectrum(data: FloatArray, axis: int, spacing: float) -> Spectrum:
    """Mean power along one axis over all lines, Hann window: frequency (cycles/mm, without 0) and power."""
    size = data.shape[axis]
    shape = [1, 1, 1]
    shape[axis] = size
    window = np.hanning(size + 2)[1:-1].astype(np.float32).reshape(shape)
    mean = (data * window).sum(axis=axis, keepdims=True) / window.sum()
    lines = rfft((data - mean) * window, axis=axis)
    power = (np.abs(lines) ** 2).mean(axis=tuple(i for i in range(3) if i != axis), dtype=np.float64)
    frequency = np.fft.rfftfreq(size, spacing).astype(np.float64)
    return frequency[1:], np.asarray(power[1:], dtype=np.float64)


def draw_subject(
    path: Path,
    *,
    title: str,
    reference: Reference,
    lr: Volume,
    srs: Mapping[str, FloatArray],
    scores: Mapping[str, Mapping[str, float | None]],
) -> Path:
    """Draw one subject's comparison as PNG at ``path``, which appears whole or not at all.

    ``lr`` is on its own grid; ``srs`` maps a method's name to its SR voxels on the HR grid, in the order of drawing (a
    method that failed is simply not in it); ``scores[name]`` holds ``psnr`` (dB) and ``ssim``, None where not computed,
    or, where the reference is no HR, whatever was. Then there is no HR to see, no error, and no spectrum of HR.

    Raises:
        UserError: there is no method, or voxels are not finite, or not on the HR grid, or ``path`` cannot be written.
    """
    _check(path, reference, lr, srs)
    with matplotlib.style.context("default"):
        figure = _SubjectFigure(title, reference, lr, srs, scores).drawn()
        return save_png(figure, path)


def light_copies(figures: Sequence[Path], folder: Path, prefix: str) -> list[Path]:
    """Copy ``figures`` (``{subject}--{key}.png``) to ``folder`` as ``{prefix}--{subject}.png``, at most `LIGHT_BYTES`.

    They are scaled down, and have at most 248 colours: greys, the scale of the errors and those of the curves.

    Raises:
        UserError: a copy cannot be written, or would be unreadable at that size.
    """
    return [light_copy(file, folder / f"{prefix}--{file.stem.rpartition('--')[0]}.png") for file in figures]


def light_copy(figure: Path, target: Path) -> Path:
    """Write ``figure`` to ``target`` scaled down and with few colours; returns the target.

    Raises:
        UserError: the copy cannot be written, or would be unreadable within `LIGHT_BYTES`.
    """
    from io import BytesIO

    from PIL import Image as Picture

    with Picture.open(figure) as opened:
        whole = opened.convert("RGB")
    for shades, scale in itertools.product((GREYS, GREYS // 4), LIGHT_SCALES):
        palette = Picture.new("P", (1, 1))
        palette.putpalette(_light_colours(shades).tobytes())
        smaller = whole.resize((round(whole.width * scale), round(whole.height * scale)), Picture.Resampling.LANCZOS)
        few = smaller.quantize(palette=palette, dither=Picture.Dither.NONE)
        white = smaller.convert("L").point(lambda value: 255 * (value == 255), "1")
        few.paste(shades - 1, mask=white)  # Pillow looks for the nearest colour coarsely
        content = BytesIO()
        few.save(content, "png", optimize=True)
        if content.tell() <= LIGHT_BYTES:
            break
    else:
        raise UserError(f"{figure.name}: is too large for a light copy of {LIGHT_BYTES // 1000} kB; draw fewer methods")
    write_bytes(target, content.getvalue())
    return target


def _light_colours(shades: int) -> npt.NDArray[np.uint8]:
    """RGB: greys, three quarters as many of the errors' scale, the curves' colours, twice paled too."""
    greys = np.repeat(np.linspace(0, 1, shades)[:, None], 3, axis=1)
    errors = matplotlib.colormaps["inferno"](np.linspace(0, 1, 3 * shades // 4))[:, :3]
    curves = np.array([[int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)] for code in OKABE_ITO])
    parts = [greys, errors, *(1 - share * (1 - curves) for share in (1, 0.5, 0.25))]
    return np.round(np.concatenate(parts) * 255).astype(np.uint8)


def _check(path: Path, reference: Reference, lr: Volume, srs: Mapping[str, FloatArray]) -> None:
    if path.suffix.lower() != ".png":
        raise UserError(f"{path.name}: figures are PNG files; end the name in .png")
    if not srs:
        raise UserError("there is no SR volume to draw: every method failed or none was asked for")
    if not (np.isfinite(reference.range) and reference.range > 0):
        raise UserError(f"the range of the reference is {reference.range}; it must be above 0 to draw grey values")
    shape = reference.hr.data.shape
    for name, data in {"HR": reference.hr.data, "LR": lr.data, **srs}.items():
        if name in srs and data.shape != shape:
            raise UserError(f"{name}: its SR volume has shape {data.shape}; the HR grid has {shape}")
        if not np.isfinite(data).all():
            raise UserError(f"{name}: the volume holds NaN or infinite voxels and cannot be drawn")


class _SubjectFigure:
    """Layout in pixels from the top left; every image, zoom and error map has one place in a block of columns."""

    def __init__(
        self,
        title: str,
        reference: Reference,
        lr: Volume,
        srs: Mapping[str, FloatArray],
        scores: Mapping[str, Mapping[str, float | None]],
    ) -> None:
        self.title, self.reference, self.lr, self.srs, self.scores = title, reference, lr, srs, scores
        hr, self.compared = reference.hr, reference.is_hr
        degraded = reference.degraded_axes
        if not self.compared:  # the thick slices of a real scan stay as they are where only their plane is refined
            degraded = tuple(axis for axis in degraded if self._lr_spacing(axis) > 1.001 * hr.spacing[axis])
        view = choose_view(reference.mask, hr.grid, degraded)
        if view.whole(reference.region).any():  # of a stack seen across, LR holds but a part of the slice
            view = replace(view, window=foreground_window(view, reference.region))
        self.view = view
        names = list(srs)
        count = -(-len(names) // METHODS_PER_BLOCK)
        per_block = -(-len(names) // count)
        self.blocks = [names[i : i + per_block] for i in range(0, len(names), per_block)]
        self.shown_first = ("HR", "LR") if self.compared else ("LR",)
        columns = len(self.shown_first) + per_block
        self.width = 1600 + 200 * (columns - 3)
        self.tile = (self.width - 2 * MARGIN - (columns - 1) * GAP) // columns
        high, wide = view.image(reference.mask).shape
        mm_high, mm_wide = high * view.spacing[0], wide * view.spacing[1]
        self.scale = min(self.tile / mm_wide, 1.35 * self.tile / mm_high)
        self.image_high, self.image_wide = round(mm_high * self.scale), round(mm_wide * self.scale)
        self.zoom_pixels = pixels_per_voxel(view.spacing, self.tile / (0.32 * max(mm_high, mm_wide)))
        zoom_high = min(0.9 * self.tile, high * self.zoom_pixels[0])
        size_high, size_wide = int(zoom_high // self.zoom_pixels[0]), int(self.tile // self.zoom_pixels[1])
        size = (max(1, min(high, size_high)), max(1, min(wide, size_wide)))
        linear = self._lr_image("linear")
        row, column = choose_zoom(view, (view.image(hr.data) - linear) ** 2, view.image(reference.region), size)
        self.zoom: Window = (slice(row, row + size[0]), slice(column, column + size[1]))
        self.zoom_high, self.zoom_wide = size[0] * self.zoom_pixels[0], size[1] * self.zoom_pixels[1]
        self.images: dict[str, Image] = {"HR": view.image(hr.data), "LR": self._lr_image("nearest")}
        self.images |= {f"method {name}": view.image(data) for name, data in srs.items()}
        self.block_high = 74 + self.image_high + GAP + self.zoom_high + 40
        if self.compared:
            self.error_top = self._error_top()
            self.block_high += GAP + max(self.image_high, KEY_HIGH)
        self.axes = [axis for axis in degraded if hr.data.shape[axis] >= 4]
        self.spectra_high = 520 if self.axes else 0
        self.height = 132 + len(self.blocks) * self.block_high + self.spectra_high
        self.figure = Figure(figsize=(self.width / DPI, self.height / DPI), dpi=DPI, facecolor="white")

    def _lr_image(self, interpolation: Interpolation) -> Image:
        """LR on the slice of HR."""
        grid = self.reference.hr.grid
        start, stop = [0, 0, 0], list(grid.shape)
        start[self.view.through], stop[self.view.through] = self.view.index, self.view.index + 1
        data = regrid(self.lr, grid.cropped(start, stop), interpolation).data
        return np.asarray(replace(self.view, index=0).image(data))

    def _error(self, name: str) -> Image:
        error = np.abs(self.images[f"method {name}"] - self.images["HR"]) * (100 / self.reference.range)
        return np.asarray(error, dtype=np.float32)

    def _error_top(self) -> float:
        """The 98th percentile of all methods' errors inside the region of the slice, rounded up; % of the range."""
        region = self.view.image(self.reference.region)
        if not region.any():
            region = np.ones_like(region)
        worst = float(np.percentile(np.concatenate([self._error(name)[region] for name in self.srs]), 98))
        return next((step for step in ERROR_STEPS if step >= worst), ERROR_STEPS[-1])

    def drawn(self) -> Figure:
        size = min(12.0, 12.0 * (self.width - 2 * MARGIN) / (24 * max(len(self.title), 1)))
        self._text(MARGIN, 34, self.title, size, weight="bold", va="top")
        self._text(MARGIN, 82, self._where(), 7.5, color=QUIET, va="top")
        top = 132
        for names in self.blocks:
            self._block(top, names, first=top == 132)
            top += self.block_high
        if self.axes:
            self._spectra(top)
        return self.figure

    def _where(self) -> str:
        view, grid = self.view, self.reference.hr.grid
        world = 1 if view.plane == "Coronal" else 2
        centre = [(n - 1) / 2 for n in grid.shape]
        centre[view.through] = view.index
        at = float((grid.affine @ [*centre, 1])[world])
        return (
            f"{view.plane} slice at {'RAS'[world]} = {_signed(at)} mm"
            f" (voxel {view.index + 1} of {grid.shape[view.through]})"
            "  ·  radiological convention: patient's right on the left"
        )

    def _block(self, top: int, names: Sequence[str], *, first: bool) -> None:
        sizes = {"HR": self._size(self.reference.hr.grid), "LR": self._size(self.lr.grid)}
        panels = [(name, name, sizes[name]) for name in self.shown_first]
        panels += [(f"method {name}", name, self._score(name)) for name in names]
        zoom_top = top + 74 + self.image_high + GAP
        error_top = zoom_top + self.zoom_high + GAP
        for column, (key, label, line) in enumerate(panels):
            left = MARGIN + column * (self.tile + GAP)
            middle = left + self.tile / 2
            shown = _short(label, 32)
            size = min(9.0, 9.0 * self.tile / (17 * max(len(shown), 1)))
            self._text(middle, top + 16, shown, size, weight="bold", ha="center", va="center")
            self._text(middle, top + 48, line, 7.2, color=QUIET, ha="center", va="center")
            image = self.images[key]
            axes = self._image(left + (self.tile - self.image_wide) // 2, top + 74, image)
            if column == 0:
                self._mark(axes)
            self._zoomed(left + (self.tile - self.zoom_wide) // 2, zoom_top, image[self.zoom], scale_bar=column == 0)
            if self.compared and key.startswith("method "):
                self._error_map(left + (self.tile - self.image_wide) // 2, error_top, label)
        if self.compared:
            self._key(error_top, notes=first)

    def _size(self, grid: Grid) -> str:
        r, a, s = grid.world_to_array()
        return " × ".join(f"{grid.spacing[axis]:.3g}" for axis in (r, a, s)) + " mm"

    def _score(self, name: str) -> str:
        values = self.scores.get(name, {})
        if not self.compared:
            known = [f"{key.upper()} {value:.2f}" for key, value in values.items() if value is not None]
            return "  ·  ".join(known[:2]) or "no score"
        psnr, ssim = values.get("psnr"), values.get("ssim")
        first = "PSNR n/a" if psnr is None else f"{psnr:.2f} dB"
        return f"{first}  ·  " + ("SSIM n/a" if ssim is None else f"SSIM {ssim:.4f}")

    def _text(self, x: float, y: float, text: str, size: float, *, color: str = INK, **style: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, color=color, **style)

    def _axes(self, left: float, top: float, wide: float, high: float) -> Any:
        box = (left / self.width, 1 - (top + high) / self.height, wide / self.width, high / self.height)
        return self.figure.add_axes(box)

    def _image(self, left: float, top: float, image: Image, **style: Any) -> Any:
        axes = self._axes(left, top, self.image_wide, self.image_high)
        shown = {"cmap": "gray", "vmin": 0, "vmax": self.reference.range, **style}
        axes.imshow(image, aspect="auto", interpolation="antialiased", **shown)
        axes.set_axis_off()
        return axes

    def _mark(self, axes: Any) -> None:
        """The zoom's box, the sides of the patient and a scale on the HR image."""
        rows, columns = self.zoom
        corner = (columns.start - 0.5, rows.start - 0.5)
        axes.add_patch(
            Rectangle(corner, columns.stop - columns.start, rows.stop - rows.start, fill=False, ec=BOX, lw=1.1)
        )
        upper = "A" if self.view.plane == "Axial" else "S"
        lower = "P" if self.view.plane == "Axial" else "I"
        style = {"color": "white", "fontsize": 7, "transform": axes.transAxes, "path_effects": _outline()}
        inset_x, inset_y = 14 / self.image_wide, 16 / self.image_high
        for x, y, text in (
            (inset_x, 0.5, "R"),
            (1 - inset_x, 0.5, "L"),
            (0.5, 1 - inset_y, upper),
            (0.5, inset_y, lower),
        ):
            axes.text(x, y, text, ha="center", va="center", **style)
        self._scale_bar(axes, self.image_wide / self.scale, 1 / self.image_high, self.image_wide)

    def _scale_bar(self, axes: Any, mm_wide: float, pixel: float, wide: int) -> None:
        length = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= 0.34 * mm_wide), default=0)
        if not length:
            return
        left = 14 / wide
        right = left + length / mm_wide
        line = {"transform": axes.transAxes, "path_effects": _outline(), "solid_capstyle": "butt"}
        axes.plot([left, right], [12 * pixel] * 2, color="white", lw=1.6, scalex=False, scaley=False, **line)
        style = {"color": "white", "fontsize": 6, "transform": axes.transAxes, "path_effects": _outline()}
        axes.text(left, 18 * pixel, f"{length} mm", ha="left", va="bottom", **style)

    def _zoomed(self, left: int, top: int, image: Image, *, scale_bar: bool) -> None:
        pixels = np.repeat(np.repeat(image, self.zoom_pixels[0], axis=0), self.zoom_pixels[1], axis=1)
        axes = self._axes(left, top, self.zoom_wide, self.zoom_high)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=self.reference.range, aspect="auto", interpolation="nearest")
        axes.set_axis_off()
        if scale_bar:
            self._scale_bar(axes, image.shape[1] * self.view.spacing[1], 1 / self.zoom_high, self.zoom_wide)

    def _error_map(self, left: int, top: int, name: str) -> None:
        axes = self._image(left, top, self._error(name), cmap="inferno", vmax=self.error_top)
        region = np.pad(self.view.image(self.reference.region), 1).astype(float)
        if region.any() and not region.all():
            grid = [np.arange(-1, n - 1) for n in region.shape]
            limits = axes.axis()
            axes.contour(grid[1], grid[0], region, [0.5], colors="white", linewidths=0.4, alpha=0.7)
            axes.axis(limits)

    def _key(self, top: int, *, notes: bool) -> None:
        """Under HR and LR, where no error can be: the scale of the errors and what is shown."""
        wide = 2 * self.tile + GAP - 60
        bar = self._axes(MARGIN + 20, top + 70, wide - 40, 22)
        ramp = np.linspace(0, self.error_top, 256)[None]
        bar.imshow(ramp, cmap="inferno", aspect="auto", extent=(0, self.error_top, 0, 1))
        bar.set_yticks([])
        bar.set_xticks(np.linspace(0, self.error_top, 5), [f"{tick:g}" for tick in np.linspace(0, self.error_top, 5)])
        bar.tick_params(labelsize=6.5, length=2, width=0.5, color=QUIET, labelcolor=INK)
        bar.spines[:].set_linewidth(0.5)
        self._text(MARGIN, top + 22, "Error |SR − HR|, % of the range", 8, weight="bold", va="center")
        if not notes:
            return
        lines = (
            f"Largest colour: {self.error_top:g} % and above, one scale for all methods.",
            "PSNR and SSIM: the whole volume, inside the region (white outline).",
            f"Grey values: 0 to {_plain(self.reference.range)} (the range) in every image.",
            "LR: its own voxels, enlarged without interpolation. Voxels: R × A × S.",
            f"Zoom: the orange box, {self._zoom_scale()}, where HR lost most to LR.",
        )
        for number, line in enumerate(lines):
            self._text(MARGIN, top + 160 + 32 * number, line, 7, color=QUIET, va="center")

    def _zoom_scale(self) -> str:
        high, wide = self.zoom_pixels
        return f"{high} × {high} pixels a voxel" if high == wide else f"{wide} × {high} pixels a voxel"

    def _spectra(self, top: int) -> None:
        """Mean power along every degraded axis, over the lines through the foreground."""
        self._text(MARGIN, top + 20, "Power spectrum along each degraded axis", 8, weight="bold", va="center")
        note = "mean over the lines through the foreground, Hann window"
        self._text(MARGIN + 580, top + 20, note, 7, color=QUIET, va="center")
        world = {axis: name for name, axis in zip(WORLD_NAMES, self.reference.hr.grid.world_to_array(), strict=True)}
        wide = min((self.width - 2 * MARGIN) / len(self.axes), 1500)
        names = 60 + 11 * min(24, max(len(name) for name in self.srs))
        for number, axis in enumerate(self.axes):
            axes = self._axes(MARGIN + 90 + number * wide, top + 56, wide - 100 - names, self.spectra_high - 56 - 100)
            self._spectrum(axes, axis, world[axis])

    def _spectrum(self, axes: Any, axis: int, direction: str) -> None:
        hr = self.reference.hr
        foreground = bounding_box(self.reference.mask)
        lines = np.prod([part.stop - part.start for i, part in enumerate(foreground) if i != axis])
        step = max(1, round((lines / LINES_OF_SPECTRUM) ** 0.5))
        box = tuple(
            slice(None) if i == axis else slice(part.start, part.stop, step) for i, part in enumerate(foreground)
        )
        curves = {name: power_spectrum(data[box], axis, hr.spacing[axis]) for name, data in self.srs.items()}
        frequency, reference = power_spectrum(hr.data[box], axis, hr.spacing[axis])
        if not self.compared:
            reference = np.max([power for _, power in curves.values()], axis=0)
        peak = max(float(reference.max()), np.finfo(float).tiny)
        tiny = peak * 1e-20
        level = {name: 10 * np.log10(np.maximum(power, tiny) / peak) for name, (_, power) in curves.items()}
        level_hr = 10 * np.log10(np.maximum(reference, tiny) / peak)
        low = max(float(level_hr.min()), -100.0) - 12
        ends = []
        for number, (name, values) in enumerate(level.items()):
            color = OKABE_ITO[number % len(OKABE_ITO)]
            ls = DASHES[number // len(OKABE_ITO) % len(DASHES)]
            axes.plot(frequency, values, color=color, lw=1.3, ls=ls)
            ends.append((float(values[-1]), name, color, ls))
        if self.compared:
            axes.plot(frequency, level_hr, color="black", lw=1.6, zorder=3)
            ends.append((float(level_hr[-1]), "HR", "black", "-"))
        axes.set_xlim(0, frequency[-1])
        axes.set_ylim(low, 4)
        self._labels(axes, ends, low, 4.0)
        nyquist = 0.5 / self._lr_spacing(axis)
        axes.axvline(nyquist, color=QUIET, lw=0.8, ls=(0, (5, 3)), zorder=1)
        axes.text(
            nyquist, 2, f" Nyquist frequency of LR, {nyquist:.3g}/mm", fontsize=6.5, color=QUIET, va="top", ha="left"
        )
        axes.set_xlabel(f"spatial frequency along {direction}, cycles/mm", fontsize=7.5, color=INK)
        axes.set_ylabel(f"power, dB re peak{' of HR' if self.compared else ''}", fontsize=7.5, color=INK)
        axes.tick_params(labelsize=6.5, length=2.5, width=0.6, color=QUIET)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_linewidth(0.6)
        axes.grid(axis="y", color="#E4E4E4", lw=0.5)
        axes.set_axisbelow(True)

    def _labels(self, axes: Any, ends: Sequence[tuple[float, str, str, Any]], low: float, high: float) -> None:
        """The curves' names at their right ends, moved apart where they would meet."""
        step = 26 / (self.spectra_high - 156)
        ends = sorted(ends, key=lambda end: end[0])
        heights = [float(np.clip((value - low) / (high - low), 0, 1)) for value, *_ in ends]
        places = list(heights)
        for index in range(1, len(places)):
            places[index] = max(places[index], places[index - 1] + step)
        ceiling = 1.0
        for index in range(len(places) - 1, -1, -1):
            places[index] = min(places[index], ceiling)
            ceiling = places[index] - step
        for place, height, (_, name, color, ls) in zip(places, heights, ends, strict=True):
            line = {"transform": axes.transAxes, "clip_on": False, "scalex": False, "scaley": False}
            axes.plot([1.0, 1.03], [height, place], color=color, lw=0.6, ls=ls, **line)
            axes.text(1.036, place, _short(name, 24), fontsize=7, color=color, transform=axes.transAxes, va="center")

    def _lr_spacing(self, axis: int) -> float:
        """Spacing of the LR axis that runs nearest to this HR axis, mm."""
        along = np.abs(self.lr.affine[:3, :3].T @ self.reference.hr.affine[:3, axis])
        return self.lr.spacing[int(np.argmax(along / np.array(self.lr.spacing)))]


def _short(name: str, length: int) -> str:
    """``name``, its middle left out if it is longer than ``length``."""
    return name if len(name) <= length else f"{name[: length // 2]}…{name[-(length // 2 - 1) :]}"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _signed(value: float) -> str:
    return f"{value:+.0f}".replace("-", "−")


def _outline() -> list[Any]:
    return [withStroke(linewidth=1.5, foreground="black")]
