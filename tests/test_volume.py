"""Volumes: what NIfTI says goes in, and the same comes out."""

import nibabel
import numpy as np
import pytest
import SimpleITK

from mrsr_bench import UserError
from mrsr_bench.volume import Grid, Volume, check_output, count_volumes, load, load_series, save

RNG = np.random.default_rng(11)
OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.3, -0.2, 0.5) @ np.diag([0.8, 1.1, 2.5]), [-40, 12.5, 7]
)
LEFT_HANDED = np.array([[0, 0, -2.0, 50], [-1.1, 0, 0, 30], [0, 0.9, 0, -20], [0, 0, 0, 1]])
SHEARED = np.array([[1.0, 0.2, 0, 1], [0, 1.2, 0.1, 2], [0, 0, 2.0, 3], [0, 0, 0, 1]])


def voxels(*shape):
    return RNG.normal(100, 30, shape).astype(np.float32)


@pytest.mark.parametrize("affine", [OBLIQUE, LEFT_HANDED, SHEARED, np.diag([1, 1, 1, 1.0])])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_saved_volume_comes_back_with_its_voxels_and_place(tmp_path, affine, name):
    data = voxels(4, 5, 6)
    back = load(save(Volume(data, affine), tmp_path / name))
    np.testing.assert_array_equal(back.data, data)
    np.testing.assert_allclose(back.affine, affine, atol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("affine", [OBLIQUE, LEFT_HANDED])
def test_sform_and_qform_agree_and_simpleitk_reads_the_same_place(tmp_path, affine):
    path = save(Volume(voxels(4, 5, 6), affine), tmp_path / "a.nii.gz")
    header = nibabel.load(path).header
    np.testing.assert_allclose(header.get_qform(), affine, atol=1e-4)
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-5)
    assert header["sform_code"] == header["qform_code"] == 1
    assert header.get_xyzt_units()[0] == "mm"
    image = SimpleITK.ReadImage(str(path))
    point = np.array(image.TransformIndexToPhysicalPoint((3, 1, 5))) * [-1, -1, 1]
    np.testing.assert_allclose(point, nibabel.affines.apply_affine(affine, (3, 1, 5)), atol=1e-3)


def test_a_qform_that_cannot_hold_the_shear_is_marked_unknown(tmp_path):
    header = nibabel.load(save(Volume(voxels(4, 5, 6), SHEARED), tmp_path / "a.nii")).header
    assert header["qform_code"] == 0
    assert header["sform_code"] == 1


@pytest.mark.parametrize(
    ("sform", "qform", "expected"), [(4, 1, (4, 1)), (0, 1, (1, 1)), (2, 0, (2, 2)), (0, 0, (1, 1))]
)
def test_form_codes_of_the_source_are_kept(tmp_path, sform, qform, expected):
    image = nibabel.Nifti1Image(voxels(4, 5, 6), None)
    image.set_sform(np.diag([1, 2, 3, 1.0]), code=sform)
    image.set_qform(np.diag([1, 2, 3, 1.0]), code=qform)
    image.header["descrip"] = b"gradient echo"
    nibabel.save(image, tmp_path / "in.nii")
    header = nibabel.load(save(load(tmp_path / "in.nii"), tmp_path / "out.nii")).header
    assert (header["sform_code"], header["qform_code"]) == expected
    assert bytes(header["descrip"].tobytes()).startswith(b"gradient echo")


def test_the_sform_wins_over_the_qform(tmp_path):
    image = nibabel.Nifti1Image(voxels(4, 5, 6), None)
    image.set_qform(np.diag([1, 2, 3, 1.0]), code=1)
    image.set_sform(OBLIQUE, code=2)
    nibabel.save(image, tmp_path / "in.nii")
    np.testing.assert_allclose(load(tmp_path / "in.nii").affine, OBLIQUE, atol=1e-5)


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_slope_and_intercept_are_applied_whatever_the_type(tmp_path, dtype, endian):
    stored = RNG.integers(0, 200, (4, 5, 6)).astype(dtype)
    header = nibabel.Nifti1Header(endianness=endian)
    header.set_data_dtype(dtype)
    image = nibabel.Nifti1Image(stored, np.eye(4), header)
    image.header.set_slope_inter(133.88, -7)
    nibabel.save(image, tmp_path / "in.nii")
    raw = bytearray((tmp_path / "in.nii").read_bytes())
    fields = np.frombuffer(raw, dtype=nibabel.nifti1.header_dtype.newbyteorder(endian), count=1)
    writable = fields.copy()
    writable["scl_slope"], writable["scl_inter"] = 133.88, -7
    raw[: writable.nbytes] = writable.tobytes()
    (tmp_path / "in.nii").write_bytes(raw)
    values = nibabel.load(tmp_path / "in.nii").dataobj.get_unscaled()
    np.testing.assert_allclose(load(tmp_path / "in.nii").data, np.asarray(values, float) * 133.88 - 7, rtol=1e-5)


@pytest.mark.parametrize(("unit", "millimetres"), [("meter", 1000.0), ("mm", 1.0), ("micron", 0.001), ("unknown", 1.0)])
def test_units_of_length_become_millimetres(tmp_path, unit, millimetres):
    affine = OBLIQUE.copy()
    affine[:3] /= millimetres
    image = nibabel.Nifti1Image(voxels(4, 5, 6), affine)
    image.header.set_xyzt_units(xyz=unit)
    nibabel.save(image, tmp_path / "in.nii")
    np.testing.assert_allclose(load(tmp_path / "in.nii").affine[:3], OBLIQUE[:3], rtol=1e-5)


def test_a_series_is_read_volume_by_volume_and_written_back_with_its_time_step(tmp_path):
    data = voxels(4, 5, 6, 3)
    image = nibabel.Nifti1Image(data, OBLIQUE)
    image.header.set_zooms((0.8, 1.1, 2.5, 2500.0))
    image.header.set_xyzt_units("mm", "msec")
    nibabel.save(image, tmp_path / "in.nii.gz")
    series = load_series(tmp_path / "in.nii.gz")
    assert len(series) == count_volumes(tmp_path / "in.nii.gz") == 3
    for index, volume in enumerate(series):
        np.testing.assert_array_equal(volume.data, data[..., index])
        np.testing.assert_array_equal(load(tmp_path / "in.nii.gz", index).data, data[..., index])
    back = nibabel.load(save(series, tmp_path / "out.nii"))
    np.testing.assert_array_equal(back.get_fdata(dtype=np.float32), data)
    assert back.header.get_zooms()[3] == 2500.0
    assert back.header.get_xyzt_units() == ("mm", "msec")


def test_one_volume_of_a_series_must_be_named_and_exist(tmp_path):
    nibabel.save(nibabel.Nifti1Image(voxels(4, 5, 6, 3), OBLIQUE), tmp_path / "in.nii")
    with pytest.raises(UserError, match="series of 3 volumes"):
        load(tmp_path / "in.nii")
    with pytest.raises(UserError, match="has no volume 3; its volumes are 0 to 2"):
        load(tmp_path / "in.nii", 3)


def test_trailing_axes_of_one_voxel_are_no_axes(tmp_path):
    nibabel.save(nibabel.Nifti1Image(voxels(4, 5, 6, 1, 1), OBLIQUE), tmp_path / "in.nii")
    assert load(tmp_path / "in.nii").data.shape == (4, 5, 6)


@pytest.mark.parametrize("name", ["a.mgz", "a.img"])
def test_other_formats_are_read_in_place(tmp_path, name):
    data, kind = voxels(4, 5, 6), {"a.mgz": nibabel.MGHImage, "a.img": nibabel.Nifti1Pair}[name]
    nibabel.save(kind(data, OBLIQUE), tmp_path / name)
    volume = load(tmp_path / name)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)


def test_a_cropped_volume_stays_in_its_place():
    volume = Volume(voxels(6, 7, 8), OBLIQUE)
    part = volume.cropped((1, 2, 3), (5, 6, 8))
    assert part.data[0, 0, 0] == volume.data[1, 2, 3]
    np.testing.assert_allclose(part.affine @ [0, 0, 0, 1], volume.affine @ [1, 2, 3, 1])


@pytest.mark.parametrize(
    ("axes", "expected"),
    [("RAS", (0, 1, 2)), ("LPI", (0, 1, 2)), ("PIR", (2, 0, 1)), ("ASL", (2, 0, 1)), ("SAR", (2, 1, 0))],
)
def test_a_world_factor_finds_the_array_axes(axes, expected):
    ornt = nibabel.orientations.axcodes2ornt(axes)
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(ornt):
        affine[int(world), axis] = sign
    grid = Grid((4, 5, 6), affine)
    assert grid.world_to_array() == expected
    by_axis = grid.factor_by_axis((2, 3, 4))
    assert tuple(by_axis[axis] for axis in expected) == (2, 3, 4)


def test_grids_are_the_same_only_within_the_tolerance():
    grid = Grid((10, 10, 10), OBLIQUE)
    moved = OBLIQUE.copy()
    moved[0, 3] += 1e-2
    turned = OBLIQUE.copy()
    turned[:3, 0] *= 1.01
    assert grid.same_as(Grid((10, 10, 10), OBLIQUE + 1e-6))
    assert not grid.same_as(Grid((10, 10, 10), moved))
    assert not grid.same_as(Grid((10, 10, 10), turned))
    assert not grid.same_as(Grid((10, 10, 11), OBLIQUE))


def test_volumes_of_a_series_on_several_grids_are_refused(tmp_path):
    with pytest.raises(UserError, match="must lie on one grid"):
        save([Volume(voxels(3, 3, 3), np.eye(4)), Volume(voxels(3, 3, 4), np.eye(4))], tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


def test_impossible_outputs_are_refused_before_any_work(tmp_path):
    (tmp_path / "folder.nii").mkdir()
    for path, said in [
        (tmp_path / "a.mgz", "must be a NIfTI file"),
        (tmp_path / "missing" / "a.nii", "no such folder"),
        (tmp_path / "folder.nii", "is a folder"),
    ]:
        with pytest.raises(UserError, match=said):
            check_output(path)


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def break_off(image, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nibabel, "save", break_off)
    with pytest.raises(UserError, match="No space left"):
        save(Volume(voxels(3, 3, 3), np.eye(4)), tmp_path / "a.nii.gz")
    assert list(tmp_path.iterdir()) == []
