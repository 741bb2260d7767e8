"""Upscaling a file: the target grid, what is guessed of the acquisition, and where the result lies."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK

from mrsr_bench import UserError
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.volume import AxisAcquisition, Grid, Volume, load, save
from mrsr_bench.zoo.method import MethodSpec
from mrsr_bench.zoo.regrid import regrid
from mrsr_bench.zoo.upscale import factor_of, fit_of, guess_acquisition, parse_settings, target_grid, upscale_file

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "brain_2d"
BOX, SAMPLE, KSPACE = AxisAcquisition("box", 4.0), AxisAcquisition("sample", 1.0, 3.0), AxisAcquisition("kspace", 2.0)
FULL = AxisAcquisition()
SAGITTAL = np.array([[0, 0, 4.0, -30], [-1, 0, 0, 60], [0, -1, 0, 50], [0, 0, 0, 1]])  # axes P, I, R


@pytest.fixture
def interpolations(monkeypatch):
    """Methods that are interpolations alone, so that no network is needed; the LR volumes they saw."""
    seen, asked = [], []

    def load_method(name, *, target=None, settings=None, **_):
        asked.append(settings)

        def run(lr, target):
            seen.append(lr)
            return regrid(lr, target, name)

        return SimpleNamespace(upscale=run, resolved=name, trained_for=(), notes=())

    monkeypatch.setitem(sys.modules, "mrsr_bench.zoo.inference", SimpleNamespace(load_method=load_method, asked=asked))
    return seen


def written(path, shape=(8, 9, 6), affine=SAGITTAL):
    rng = np.random.default_rng(2)
    data = rng.normal(500, 100, shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)
    return path


def call(source, output, model="linear", factor=None, spacing=None, **more):
    return upscale_file(source, output, model=model, factor=factor, spacing=spacing, **more)


def edges(grid):
    """The first and last voxel edges along each array axis, in world coordinates."""
    low, high = np.full(3, -0.5), np.array(grid.shape) - 0.5
    return nibabel.affines.apply_affine(grid.affine, np.stack([low, high]))


def test_a_kspace_axis_keeps_sample_zero_and_its_field_of_view():
    grid = Grid((8, 9, 6), SAGITTAL)
    target = target_grid(grid, (KSPACE, FULL, KSPACE), (2, 3, 2.5))
    assert target.shape == (16, 27, 15)
    np.testing.assert_allclose(target.affine[:3, 3], grid.affine[:3, 3])
    np.testing.assert_allclose(np.array(target.spacing) * target.shape, np.array(grid.spacing) * grid.shape)


def test_a_box_axis_keeps_its_voxel_edges():
    grid = Grid((8, 9, 6), SAGITTAL)
    target = target_grid(grid, (FULL, BOX, BOX), (1, 3, 4))
    assert target.shape == (8, 27, 24)
    np.testing.assert_allclose(edges(target), edges(grid))
    moved = np.linalg.inv(target.affine) @ grid.affine[:, 3]
    np.testing.assert_allclose(moved[:3], [0, (3 - 1) / 2, (4 - 1) / 2], atol=1e-9)


def test_a_sampled_axis_ends_at_its_outer_slices():
    grid = Grid((8, 9, 6), SAGITTAL)
    target = target_grid(grid, (FULL, FULL, SAMPLE), (1, 1, 4))
    assert target.shape == (8, 9, 21)
    np.testing.assert_allclose(target.affine[:3, 3], grid.affine[:3, 3])
    np.testing.assert_allclose(target.affine @ [7, 8, 20, 1], grid.affine @ [7, 8, 5, 1])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("kspace_truncation", {"factor": [2, 2, 1]}),
        ("thick_slices", {"factor": [1, 1, 4]}),
        ("thick_slices", {"factor": [1, 1, 4], "profile": "gaussian"}),
        ("thin_slices", {"factor": [1, 1, 4]}),
        ("bicubic_downsample", {"factor": [4, 4, 1]}),
    ],
)
def test_the_target_of_a_degraded_volume_is_the_grid_it_came_from(name, settings):
    degradation = degradations.get(name)
    volume = Volume(np.zeros((16, 20, 24), np.float32), SAGITTAL)
    params = degradation.sample(np.random.default_rng(0), volume, settings)
    lr, hr = degradation.apply(volume, params), degradation.reference(volume, params)
    target = target_grid(lr.grid, lr.acquisition, lr.grid.factor_by_axis(settings["factor"]))
    assert target.same_as(hr.grid, 1e-9)


def test_a_fractional_target_stays_inside_the_field_of_view():
    grid = Grid((8, 9, 6), SAGITTAL)
    for kind in (BOX, SAMPLE, KSPACE):
        target = target_grid(grid, (FULL, FULL, kind), (1, 1, 4 / 1.3))
        assert target.spacing[2] == pytest.approx(1.3)
        last = np.linalg.inv(grid.affine) @ target.affine @ [0, 0, target.shape[2] - 1, 1]
        assert last[2] < grid.shape[2] - 0.5 + 0.5 * (kind is KSPACE)


def test_factors_and_spacings_are_in_world_order():
    grid = Grid((8, 9, 6), SAGITTAL)  # array axes lie along A, S, R
    assert factor_of(grid, factor="4x2x1", spacing=None) == (2, 1, 4)
    assert factor_of(grid, factor=None, spacing="2x0.5x1") == (2, 1, 2)


def test_a_spacing_that_differs_by_the_rounding_of_a_header_is_the_same():
    grid = Grid((8, 9, 6), np.diag([0.99999994, 1.0, 4.0, 1]))
    assert factor_of(grid, factor=None, spacing="1x1x1") == (1, 1, pytest.approx(4))


@pytest.mark.parametrize(
    ("factor", "spacing", "said"),
    [
        (None, None, "either --factor"),
        ("2x2x1", "1x1x1", "either --factor"),
        ("2x2", None, "three numbers above 0"),
        ("twox2x1", None, "three numbers above 0"),
        ("2x2x-1", None, "three numbers above 0"),
        ("2x2xnan", None, "three numbers above 0"),
        ("0.5x1x1", None, "from 1 to 64"),
        ("100x1x1", None, "from 1 to 64"),
        ("1x1x1", None, "has that spacing already"),
        (None, "4x1x1", "has that spacing already"),
        (None, "5x1x1", "coarser than the input's 4x1x1 mm"),
        (None, "1x1x0.0001", "from 0.01 to 50 mm"),
    ],
)
def test_impossible_targets_are_refused_in_one_sentence(factor, spacing, said):
    with pytest.raises(UserError, match=said) as raised:
        factor_of(Grid((8, 9, 6), SAGITTAL), factor=factor, spacing=spacing)
    assert "\n" not in str(raised.value)


def kinds(guess):
    return [axis.kind for axis in guess.acquisition]


def test_what_is_stated_wins_over_the_sidecar_and_needs_no_note():
    grid = Grid((8, 9, 6), SAGITTAL)
    sidecar = {"SliceThickness": 4, "MRAcquisitionType": "3D"}
    guess = guess_acquisition(grid, (1, 1, 4), slice_thickness=3.0, sidecar=sidecar)
    assert (guess.acquisition[2], guess.notes) == (AxisAcquisition("box", 3.0, 1.0), ())
    guess = guess_acquisition(grid, (2, 1, 4), profile="gaussian", sidecar=sidecar)
    assert kinds(guess) == ["kspace", "full", "gaussian"]
    assert kinds(guess_acquisition(grid, (1, 1, 4), profile="kspace")) == ["full", "full", "kspace"]
    assert guess_acquisition(grid, (1, 1, 4), profile="sample").acquisition[2] == AxisAcquisition("sample", None, 0.0)


def test_the_sidecar_is_believed_without_a_note():
    grid = Grid((8, 9, 6), SAGITTAL)
    flat = guess_acquisition(grid, (1, 1, 2), sidecar={"MRAcquisitionType": "2D", "SliceThickness": 3})
    assert (flat.acquisition[2], flat.notes) == (AxisAcquisition("box", 3.0, 1.0), ())
    solid = guess_acquisition(grid, (2, 2, 2), sidecar={"MRAcquisitionType": "3D", "SliceThickness": "thin"})
    assert (kinds(solid), solid.notes) == (["kspace"] * 3, ())


def test_without_any_word_a_coarse_axis_is_assumed_to_be_thick_slices_and_that_is_said():
    guess = guess_acquisition(Grid((8, 9, 6), SAGITTAL), (1, 1, 4))
    assert guess.acquisition[2] == AxisAcquisition("box", 4.0, 0.0)
    assert "not known" in guess.notes[0]
    even = guess_acquisition(Grid((8, 9, 6), np.diag([1, 1, 1.4, 1])), (2, 2, 1))
    assert kinds(even) == ["kspace", "kspace", "full"]
    assert "not known" in even.notes[0]


@pytest.mark.parametrize(("more", "said"), [({"profile": "sinc"}, "one of box"), ({"slice_thickness": 0.0}, "above 0")])
def test_impossible_statements_are_refused(more, said):
    with pytest.raises(UserError, match=said):
        guess_acquisition(Grid((8, 9, 6), SAGITTAL), (1, 1, 2), **more)


def test_a_file_is_upscaled_in_place_units_and_axes(tmp_path, interpolations, capsys):
    source = written(tmp_path / "in.nii.gz")
    facts = call(source, tmp_path / "out.nii.gz", spacing="1x1x1")
    result, before = load(tmp_path / "out.nii.gz"), load(source)
    assert result.data.shape == (8, 9, 24)
    assert nibabel.aff2axcodes(result.affine) == nibabel.aff2axcodes(before.affine) == ("P", "I", "R")
    np.testing.assert_allclose(edges(result.grid), edges(before.grid), atol=1e-4)
    assert nibabel.load(tmp_path / "out.nii.gz").get_data_dtype() == np.float32
    assert before.data.min() <= result.data.min()
    assert result.data.max() <= before.data.max()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert (facts["factor"], facts["volumes"], facts["resolved"]) == ([4, 1, 1], 1, "linear")
    said = capsys.readouterr()
    assert said.out == ""
    assert "in.nii.gz: it is not known how this image was acquired" in said.err
    assert facts["notes"]


def test_the_method_is_told_how_the_input_was_acquired(tmp_path, interpolations, capsys):
    source = written(tmp_path / "in.nii")
    (tmp_path / "in.json").write_text(json.dumps({"MRAcquisitionType": "2D", "SliceThickness": 3.5}))
    call(source, tmp_path / "out.nii", factor="4x1x1")
    assert [a.kind for a in interpolations[0].acquisition] == ["full", "full", "box"]
    assert interpolations[0].acquisition[2].width == 3.5
    assert capsys.readouterr().err == ""


def test_a_sidecar_that_is_no_json_is_left_aside_and_that_is_said(tmp_path, interpolations, capsys):
    source = written(tmp_path / "in.nii")
    (tmp_path / "in.json").write_text("{")
    call(source, tmp_path / "out.nii", factor="4x1x1")
    assert "in.json beside the image is not readable JSON" in capsys.readouterr().err


def test_every_volume_of_a_series_is_upscaled(tmp_path, interpolations):
    source = written(tmp_path / "in.nii", (5, 6, 4, 3))
    facts = call(source, tmp_path / "out.nii", factor="2x1x1", profile="sample")
    result = nibabel.load(tmp_path / "out.nii")
    assert result.shape == (5, 6, 7, 3)
    assert facts["volumes"] == 3
    np.testing.assert_allclose(result.get_fdata()[:, :, ::2], nibabel.load(source).get_fdata(), rtol=1e-5)


def test_an_output_that_exists_is_never_overwritten(tmp_path, interpolations):
    source = written(tmp_path / "in.nii")
    before = source.read_bytes()
    with pytest.raises(UserError, match="never overwritten"):
        call(source, source, factor="2x1x1")
    assert source.read_bytes() == before


def test_an_output_that_cannot_be_is_refused_before_the_input_is_read(tmp_path, interpolations):
    for name, said in [("missing/out.nii", "no such folder"), ("out.png", "must be a NIfTI file")]:
        with pytest.raises(UserError, match=said):
            call(tmp_path / "in.nii", tmp_path / name, factor="2x1x1")
    assert list(tmp_path.iterdir()) == []


def test_a_target_beyond_memory_or_format_is_refused_before_any_work(tmp_path, interpolations, monkeypatch):
    source = written(tmp_path / "in.nii", (700, 2, 2), np.diag([1, 1, 1, 1.0]))
    with pytest.raises(UserError, match="too long for NIfTI"):
        call(source, tmp_path / "out.nii", factor="64x1x1")
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=700 * 2 * 2 * 4 * 8))
    with pytest.raises(UserError, match="GiB are free"):
        call(source, tmp_path / "out.nii", factor="2x1x1")
    assert interpolations == []
    assert [p.name for p in tmp_path.iterdir()] == ["in.nii"]


def test_voxels_that_are_not_finite_are_never_written(tmp_path, monkeypatch):
    broken = SimpleNamespace(
        upscale=lambda lr, target: Volume(np.full(target.shape, np.nan), target.affine),
        resolved="broken",
        trained_for=(),
        notes=(),
    )
    fake = SimpleNamespace(load_method=lambda name, **more: broken)
    monkeypatch.setitem(sys.modules, "mrsr_bench.zoo.inference", fake)
    source = written(tmp_path / "in.nii")
    with pytest.raises(UserError, match="not finite, so nothing was written"):
        call(source, tmp_path / "out.nii", factor="2x1x1")
    assert [p.name for p in tmp_path.iterdir()] == ["in.nii"]


def itk_on_grid(path, grid, shift):
    """The image at ``path`` on ``grid`` moved by ``shift`` voxels, by SimpleITK (linear); NaN outside."""
    affine = np.diag([-1, -1, 1, 1.0]) @ grid.affine
    size = np.linalg.norm(affine[:3, :3], axis=0)
    origin = affine[:3, 3] + affine[:3, :3] @ np.asarray(shift)
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetSize([int(n) for n in grid.shape])
    resampler.SetOutputSpacing(size.tolist())
    resampler.SetOutputOrigin(origin.tolist())
    resampler.SetOutputDirection((affine[:3, :3] / size).ravel().tolist())
    resampler.SetInterpolator(SimpleITK.sitkLinear)
    resampler.SetDefaultPixelValue(float("nan"))
    image = SimpleITK.Cast(SimpleITK.ReadImage(str(path)), SimpleITK.sitkFloat32)
    return np.transpose(SimpleITK.GetArrayFromImage(resampler.Execute(image)), (2, 1, 0))


def likeness(a, b):
    both = np.isfinite(a) & np.isfinite(b)
    return float(np.corrcoef(a[both], b[both])[0, 1])


@pytest.mark.parametrize("model", ["linear", "cubic"])
@pytest.mark.parametrize("contrast", ["FLAIR", "T1W"])
def test_a_real_thick_stack_overlays_its_original_in_world_space(contrast, model, tmp_path, interpolations):
    source = REAL / f"sub-msl01_acq-thick_{contrast}.nii.gz"
    if not source.exists():
        pytest.skip("the real thick stacks are not here")
    before = load(source)
    keep = [slice(n // 4, 3 * n // 4) if n > 100 else slice(None) for n in before.data.shape]
    part = before.cropped(
        [s.start or 0 for s in keep], [s.stop or n for s, n in zip(keep, before.data.shape, strict=True)]
    )
    save(part, tmp_path / "in.nii")
    thick = int(np.argmax(part.spacing))
    by_world = [part.spacing[axis] / (4 if axis == thick else 1) for axis in part.grid.world_to_array()]
    call(tmp_path / "in.nii", tmp_path / "out.nii", model=model, spacing="x".join(f"{s:.6f}" for s in by_world))
    result = load(tmp_path / "out.nii")
    assert result.data.shape[thick] == 4 * part.data.shape[thick]
    assert np.percentile(result.data, 99) == pytest.approx(np.percentile(part.data, 99), rel=0.1)
    assert result.data.mean() == pytest.approx(part.data.mean(), rel=0.01)

    slices = np.moveaxis(result.data, thick, 0).reshape(part.data.shape[thick], 4, -1).mean(axis=1)
    original = np.moveaxis(part.data, thick, 0).reshape(part.data.shape[thick], -1)
    assert likeness(slices, original) > 0.985  # degraded back: the mean of each slice's four

    assert likeness(itk_on_grid(tmp_path / "out.nii", part.grid, (0, 0, 0)), part.data) > 0.985
    for axis in range(3):
        step = np.eye(3)[axis]
        left, middle, right = (
            likeness(itk_on_grid(tmp_path / "out.nii", part.grid, shift * step), part.data) for shift in (-1, 0, 1)
        )
        peak = 0.5 * (left - right) / (left - 2 * middle + right)
        assert abs(peak) < 0.05, f"axis {axis} is {peak:.3f} voxels off"


SPEC = MethodSpec(name="net", kind="network", summary="-", paper="-", build="-")
TRAINED_FOR = {"degradation": "kspace_truncation", "parameters": {"factor": [2, 2, 1]}}


@pytest.fixture
def network(monkeypatch):
    """A method that says it was trained for half of k-space in two axes."""
    method = SimpleNamespace(
        upscale=lambda lr, target: regrid(lr, target, "linear"),
        spec=SPEC,
        resolved="net",
        trained_for=(TRAINED_FOR,),
        notes=("its grid was shifted",),
    )
    fake = SimpleNamespace(load_method=lambda name, **more: method)
    monkeypatch.setitem(sys.modules, "mrsr_bench.zoo.inference", fake)


def test_a_network_is_not_used_for_a_factor_it_was_not_trained_for(tmp_path, network):
    source = written(tmp_path / "in.nii")
    with pytest.raises(UserError, match=r"trained for the factor 2x2x1 .*not for 1x1x4"):
        call(source, tmp_path / "out.nii", factor="1x1x4")
    assert [p.name for p in tmp_path.iterdir()] == ["in.nii"]


def test_a_network_on_an_image_of_another_making_says_so(tmp_path, network, capsys):
    source = written(tmp_path / "in.nii")
    sure = call(source, tmp_path / "a.nii", factor="2x2x1", profile="kspace")
    assert not any("trained on" in note for note in sure["notes"])
    unsure = call(source, tmp_path / "b.nii", factor="2x2x1", profile="box", slice_thickness=4)
    assert (
        "net was trained on truncated k-space and this image is thick slices, so do not trust its detail"
        in (unsure["notes"])
    )
    assert sure["notes"][-1] == "its grid was shifted"
    assert "its grid was shifted" in capsys.readouterr().err


def asked(factor, kind="box", affine=SAGITTAL):
    """An LR volume acquired as ``kind`` wherever ``factor`` (R x A x S) exceeds 1, and its target."""
    lr = Volume(np.ones((8, 9, 6), np.float32), affine)
    by_axis = lr.grid.factor_by_axis(factor)
    acquisition = tuple(AxisAcquisition(kind if f > 1 else "full") for f in by_axis)
    lr = lr.with_data(lr.data, acquisition=acquisition)
    return lr, target_grid(lr.grid, acquisition, by_axis)


def trained(degradation, *factors):
    return [{"degradation": degradation, "parameters": {"factor": list(f)}} for f in factors]


THICK = trained("thick_slices", (1, 1, 2), (1, 1, 3), (1, 1, 6))


def test_a_conditioned_network_serves_every_factor_up_to_its_largest_along_any_axis():
    spec = replace(SPEC, conditioned=True)
    for factor in [(1, 1, 2.5), (1, 4, 1), (6, 1, 1), (1, 1, 1.2)]:
        assert fit_of(spec, THICK, *asked(factor)) == ()
    assert "is beyond that" in fit_of(spec, THICK, *asked((1, 1, 8)))[0]
    for factor in [(1, 1, 10), (1, 2, 2)]:
        with pytest.raises(UserError, match=r"trained for the factor 1x1x2, 1x1x3, 1x1x6 \(thick_slices\), not for"):
            fit_of(spec, THICK, *asked(factor))


def test_a_network_of_one_factor_says_what_lies_near_it_and_refuses_the_rest():
    only = trained("thick_slices", (1, 1, 4))
    assert fit_of(SPEC, only, *asked((1, 1, 4))) == ()
    assert "3.5x1x1 is beyond that" in fit_of(SPEC, only, *asked((3.5, 1, 1)))[0]
    with pytest.raises(UserError, match="not for 1x1x2"):
        fit_of(SPEC, only, *asked((1, 1, 2)))


def test_an_upscaling_network_serves_what_can_be_brought_onto_the_target():
    spec = replace(SPEC, dims=2, walk="slices", scale=(4, 4), input="native")
    tasks = trained("bicubic_downsample", (4, 4, 1))
    assert fit_of(spec, tasks, *asked((1, 3, 3), "bicubic")) == ()
    with pytest.raises(UserError, match="not for 1x8x8"):
        fit_of(spec, tasks, *asked((1, 8, 8), "bicubic"))
    with pytest.raises(UserError, match="not for 1x1x4"):
        fit_of(spec, tasks, *asked((1, 1, 4), "bicubic"))


def test_thick_slices_and_point_samples_are_told_apart():
    spec = replace(SPEC, conditioned=True)
    thin = trained("thin_slices", (1, 1, 2), (1, 1, 6))
    assert (
        "trained on thick slices and this image is point samples" in fit_of(spec, THICK, *asked((1, 1, 4), "sample"))[0]
    )
    assert "trained on point samples and this image is thick" in fit_of(spec, thin, *asked((4, 1, 1), "box"))[0]
    assert fit_of(spec, [*THICK, *thin], *asked((1, 1, 4), "sample")) == ()


def test_settings_are_read_as_yaml_and_reach_the_network(interpolations, tmp_path):
    assert parse_settings(["blend=parameters", "count=3", "share=0.5", "on=true"]) == {
        "blend": "parameters",
        "count": 3,
        "share": 0.5,
        "on": True,
    }
    for wrong in ("blend", "blend=", "=parameters", "a b=1", "blend=[1, 2]", "blend={"):
        with pytest.raises(UserError, match="--set is NAME=VALUE, such as blend=parameters; got"):
            parse_settings([wrong])
    source = written(tmp_path / "a.nii.gz")
    facts = call(source, tmp_path / "b.nii.gz", factor="2x1x1", settings={"blend": "parameters"})
    assert facts["settings"] == {"blend": "parameters"}
    assert sys.modules["mrsr_bench.zoo.inference"].asked == [{"blend": "parameters"}]
