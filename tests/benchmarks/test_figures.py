"""Figures show the right slice, the right way up, and never a face; a file is whole or absent."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.benchmarks.figures import LIGHT_BYTES, _SubjectFigure, draw_subject, light_copies, power_spectrum
from mrsr_bench.benchmarks.metrics.region import Reference, reference_of
from mrsr_bench.benchmarks.views import choose_view, choose_zoom, pixels_per_voxel
from mrsr_bench.volume import Grid, Volume
from mrsr_bench.zoo.regrid import regrid

SHAPE, SPACING = (40, 52, 60), (4.0, 4.0, 4.0)
ORIENTATIONS = [(p, f) for p in itertools.permutations(range(3)) for f in itertools.product((1, -1), repeat=3)]


def head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels in RAS+ order of a head of 150 x 185 mm on a neck, where its face is, and their affine."""
    r, a, s = (np.arange(n) * d for n, d in zip(SHAPE, SPACING, strict=True))
    r, a, s = r[:, None, None] - 78, a[None, :, None] - 102, s[None, None, :]
    skull = (r / 75) ** 2 + (a / 92) ** 2 + ((s - 145) / 85) ** 2 < 1
    neck = (r**2 + (a + 30) ** 2 < 50**2) & (s < 120)
    jaw = (np.abs(r) < 50) & (a > 0) & (a < 85) & (s < 130) & (s > 30)
    face = (np.abs(r) < 50) & (a > 40) & (s < 140)
    data = np.where(skull | neck | jaw, 100.0, 0.0)
    data += np.where(skull, 0.2 * r + 0.1 * a + 0.05 * s, 0)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-78, -102, -140)
    return data.astype(np.float32), np.broadcast_to(face, SHAPE), affine


def stored(data: np.ndarray, affine: np.ndarray, axes: tuple[int, ...], flips: tuple[int, ...]) -> tuple:
    """The same volume with its array axes permuted and flipped, in the same place of the world."""
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new, old in enumerate(axes):
        change[old, new] = flips[new]
        change[old, 3] = 0 if flips[new] == 1 else data.shape[old] - 1
    turned = data.transpose(axes)[tuple(slice(None, None, f) for f in flips)]
    return np.ascontiguousarray(turned), affine @ change


def subject(factor: list[int], shape: tuple[int, ...] = (16, 16, 16), spacing: float = 1.0) -> tuple[Reference, Volume]:
    rng = np.random.default_rng(7)
    data = np.zeros(shape, dtype=np.float32)
    data[2:-2, 2:-2, 1:-1] = 50 + 50 * rng.random([n - 2 * e for n, e in zip(shape, (2, 2, 1), strict=True)])
    hr = Volume(data, np.diag([spacing, spacing, spacing, 1]))
    kind = degradations.get("kspace_truncation")
    lr = kind.apply(hr, kind.sample(rng, hr, {"factor": factor}))
    return reference_of(hr, lr), lr


def draw(path: Path, reference: Reference, lr: Volume, srs: dict[str, np.ndarray], **scores: dict) -> Path:
    return draw_subject(path, title="sub-1 · kspace-2x2x1", reference=reference, lr=lr, srs=srs, scores=scores)


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", content[16:24])


@pytest.mark.parametrize("degraded", [(0, 1), (2,)], ids=["axial", "coronal"])
def test_the_slice_looks_the_same_however_the_volume_is_stored(degraded):
    data, _, affine = head()
    expected = choose_view(data > 10, Grid(SHAPE, affine), degraded).image(data)
    for axes, flips in ORIENTATIONS:
        turned, placed = stored(data, affine, axes, flips)
        view = choose_view(turned > 10, Grid(turned.shape, placed), [axes.index(axis) for axis in degraded])
        np.testing.assert_array_equal(view.image(turned), expected, err_msg=f"axes {axes}, flips {flips}")


@pytest.mark.parametrize(("degraded", "upper"), [((0, 1), 1), ((2,), 2)], ids=["axial", "coronal"])
def test_right_is_on_the_left_and_anterior_or_superior_is_up(degraded, upper):
    data, _, affine = head()
    view = choose_view(data > 10, Grid(SHAPE, affine), degraded)
    where = np.indices(SHAPE)
    columns, rows = view.image(where[0]), view.image(where[upper])
    assert (np.diff(columns, axis=1) == -1).all()
    assert (np.diff(rows, axis=0) == -1).all()


@pytest.mark.parametrize(
    ("degraded", "plane"),
    [((), "Axial"), ((0,), "Axial"), ((1,), "Axial"), ((0, 1), "Axial"), ((2,), "Coronal"), ((1, 2), "Coronal")],
)
def test_the_plane_contains_the_degraded_axis_and_misses_the_face(degraded, plane):
    data, face, affine = head()
    view = choose_view(data > 10, Grid(SHAPE, affine), degraded)
    assert view.plane == plane
    assert not (view.image(face) & (view.image(data) > 10)).any()
    sections = (data > 10).sum(axis=tuple({0, 1, 2} - {view.through}))
    assert sections[view.index] > 0.7 * sections.max()


def test_a_reference_without_foreground_is_refused():
    with pytest.raises(UserError, match="no foreground"):
        choose_view(np.zeros(SHAPE, dtype=bool), Grid(SHAPE, np.eye(4)), (0,))


def test_the_zoom_lies_where_most_was_lost_but_not_on_the_rim():
    data, _, affine = head()
    view = choose_view(data > 10, Grid(SHAPE, affine), (0, 1))
    region = view.image(data > 10)
    lost = np.zeros(region.shape, dtype=np.float32)
    middle = region.shape[0] // 2
    rim = int(np.flatnonzero(region[middle])[0])
    lost[middle, rim], lost[middle - 6, rim + 14] = 100.0, 1.0
    row, column = choose_zoom(view, lost, region, (8, 8))
    assert row <= middle - 6 < row + 8
    assert column <= rim + 14 < column + 8


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.333, 1.0), (2.5, 0.43), (0.6, 3.0)])
def test_zoomed_voxels_keep_their_shape_in_whole_pixels(spacing):
    high, wide = pixels_per_voxel(spacing, 6.0)
    assert high / wide == pytest.approx(spacing[0] / spacing[1], rel=0.06)
    assert np.sqrt(high * wide / (spacing[0] * spacing[1])) == pytest.approx(6.0, rel=0.35)


def test_a_wave_has_its_power_at_its_frequency():
    wave = np.cos(2 * np.pi * 0.125 * 2.0 * np.arange(64))
    data = np.broadcast_to(wave[None, :, None], (3, 64, 5)).astype(np.float32)
    frequency, power = power_spectrum(data, 1, spacing=2.0)
    assert frequency[power.argmax()] == pytest.approx(0.125)
    assert power[np.abs(frequency - 0.125) > 0.02].max() < 1e-4 * power.max()


def test_zero_filled_k_space_has_no_power_beyond_the_nyquist_frequency_of_lr():
    reference, lr = subject([2, 2, 1], shape=(64, 16, 16))
    sr = regrid(lr, reference.hr.grid, "zero_fill").data
    frequency, power = power_spectrum(sr, 0, 1.0)
    _, power_hr = power_spectrum(reference.hr.data, 0, 1.0)
    beyond = frequency > 0.25 + 3 / 64
    assert (power[beyond] < 1e-3 * power_hr[beyond]).all()


def test_the_zoom_finds_what_a_dark_organ_holds():
    region = np.zeros((60, 60), dtype=bool)
    region[5:55, 5:55] = True
    region[20:45, 20:45] = False
    region[30:34, 30:34] = True
    lost = np.where(region, 1.0, 0.0).astype(np.float32)
    lost[30:34, 30:34] = 100.0
    view = choose_view(np.ones((60, 60, 4), dtype=bool), Grid((60, 60, 4), np.eye(4)), (0, 1))
    row, column = choose_zoom(view, lost, region, (8, 8))
    assert row <= 30
    assert row + 8 >= 34
    assert column <= 30
    assert column + 8 >= 34


def test_light_copies_are_small_named_by_subject_and_keep_white_and_the_curves_colours(tmp_path):
    from PIL import Image

    reference, lr = subject([2, 2, 1], shape=(64, 64, 16))
    figure = draw(tmp_path / "sub-1--0a1b2c3d.png", reference, lr, {"linear": reference.hr.data * 0.9})
    (copy,) = light_copies([figure], tmp_path / "docs" / "figures", "kspace-2x2x1")
    assert copy == tmp_path / "docs" / "figures" / "kspace-2x2x1--sub-1.png"
    assert copy.stat().st_size <= LIGHT_BYTES < 300_000
    assert list(copy.parent.iterdir()) == [copy]
    with Image.open(copy) as light, Image.open(figure) as heavy:
        assert 0.4 * heavy.width <= light.width < heavy.width
        pixels = np.asarray(light.convert("RGB")).reshape(-1, 3)
    assert (pixels[0] == 255).all()
    assert (pixels == (0x00, 0x72, 0xB2)).all(axis=1).sum() > 50  # the first method's curve
    assert len(np.unique(pixels, axis=0)) <= 248


def test_what_cannot_become_a_light_copy_is_said(tmp_path):
    from PIL import Image

    noise = np.random.default_rng(3).integers(0, 256, (2600, 2600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "sub-1--0a1b2c3d.png")
    with pytest.raises(UserError, match="too large"):
        light_copies([tmp_path / "sub-1--0a1b2c3d.png"], tmp_path / "out", "p")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(("methods", "wide"), [(1, 1600), (4, 2200), (5, 2000), (8, 2200)])
def test_any_number_of_methods_fits_on_a_tiny_volume(tmp_path, methods, wide):
    reference, lr = subject([2, 2, 1])
    srs = {f"method_{n}": reference.hr.data * (1 - 0.02 * n) for n in range(methods)}
    path = draw(tmp_path / "f.png", reference, lr, srs, method_0={"psnr": 31.234, "ssim": None})
    assert png_size(path)[0] == wide
    assert list(tmp_path.iterdir()) == [path]


def test_one_degraded_axis_and_long_thin_voxels_can_be_drawn(tmp_path):
    reference, lr = subject([1, 1, 2], shape=(20, 24, 6), spacing=3.0)
    assert reference.degraded_axes == (2,)
    sr = regrid(lr, reference.hr.grid, "linear").data
    png_size(draw(tmp_path / "f.png", reference, lr, {"linear": sr}, linear={"psnr": 20.0, "ssim": 0.5}))


def test_a_real_stack_refined_in_plane_is_shown_in_plane(tmp_path):
    """Its slices are thick, and remain so."""
    scan = Volume(subject([2, 2, 1])[0].hr.data, np.diag([1.0, 1.0, 4.0, 1.0]))
    kind = degradations.get("as_acquired")
    params = kind.sample(np.random.default_rng(0), scan, {"factor": [2, 2, 1]})
    lr, stand_in = kind.apply(scan, params), kind.reference(scan, params)
    reference = replace(reference_of(stand_in, lr), is_hr=False)
    assert lr.acquisition[2].kind == "box"
    figure = _SubjectFigure("sub-1", reference, lr, {"cubic": stand_in.data}, {})
    assert figure.view.plane == "Axial"
    assert figure.axes == [0, 1]
    png_size(draw(tmp_path / "f.png", reference, lr, {"cubic": stand_in.data}, cubic={"piqe": 40.0}))


def test_only_what_lr_holds_is_shown(tmp_path):
    reference, lr = subject([2, 2, 1], shape=(64, 64, 16))
    region = reference.region.copy()
    region[:, :40] = region[:, 50:] = False
    figure = _SubjectFigure("sub-1", replace(reference, region=region), lr, {"same": reference.hr.data}, {})
    rows, columns = figure.view.window
    assert rows.stop - rows.start == 10 + 2 * 9
    assert columns.stop - columns.start > 50


def test_equal_input_gives_equal_files_and_leaves_matplotlib_as_it_was(tmp_path):
    reference, lr = subject([2, 2, 1])
    srs = {"nearest": regrid(lr, reference.hr.grid, "nearest").data}
    first = draw(tmp_path / "a.png", reference, lr, srs)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        second = draw(tmp_path / "b.png", reference, lr, srs)
        assert matplotlib.rcParams["font.size"] == 30
    assert first.read_bytes() == second.read_bytes()


def test_drawing_needs_no_pyplot():
    code = "import sys, mrsr_bench.benchmarks.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_cannot_be_drawn_is_one_clear_sentence_and_no_file(tmp_path):
    reference, lr = subject([2, 2, 1])
    good = reference.hr.data
    broken = good.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(UserError, match="gan: the volume holds NaN"):
        draw(tmp_path / "f.png", reference, lr, {"linear": good, "gan": broken})
    with pytest.raises(UserError, match=r"linear: its SR volume has shape \(16, 16, 8\)"):
        draw(tmp_path / "f.png", reference, lr, {"linear": good[..., :8]})
    with pytest.raises(UserError, match="no SR volume"):
        draw(tmp_path / "f.png", reference, lr, {})
    with pytest.raises(UserError, match="PNG"):
        draw(tmp_path / "f.jpg", reference, lr, {"linear": good})
    with pytest.raises(UserError, match="cannot be written"):
        draw(tmp_path / "missing" / "f.png", reference, lr, {"linear": good})
    assert list(tmp_path.iterdir()) == []
