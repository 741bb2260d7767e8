"""Whatever file is named: a result, or one sentence that says what is wrong; never a trace, never half a file."""

import gzip
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

from mrsr_bench import UserError, cli
from mrsr_bench.benchmarks.datasets.folder import FolderDataset
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.volume import load_series
from mrsr_bench.zoo.regrid import regrid
from mrsr_bench.zoo.upscale import upscale_file

ODD = Path(__file__).parents[1].parent / "shared" / "data" / "odd"
ODD_FILES = sorted(path.name for path in ODD.glob("*")) if ODD.is_dir() else []
ODD_REFUSED = {
    "5D_zeros.nii.gz": "has 5 axes",
    "nv_FLAIR.nrrd": "convert it to NIfTI",
    "nv_complex.nii.gz": "complex",
    "nv_ct_perfusion.nii.gz": "RGB",
    "nv_mha.mha": "convert it to NIfTI",
}
AFFINE = np.diag([1.0, 1.2, 3.0, 1.0])
HEADER_BYTES = 352


def voxels(*shape):
    return np.random.default_rng(8).normal(100, 25, shape or (12, 11, 10)).astype(np.float32)


def nifti(path, data, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(data, affine), path)


def one_voxel(value):
    data = voxels()
    data[3, 4, 5] = value
    return data


def with_header(path, **fields):
    """A good file whose header is then edited in place, as no library would write it."""
    nifti(path, voxels())
    raw = bytearray(path.read_bytes())
    header = np.frombuffer(raw, dtype=nibabel.nifti1.header_dtype, count=1).copy()
    for key, value in fields.items():
        header[key][0] = value
    raw[: header.nbytes] = header.tobytes()
    path.write_bytes(raw)


def sform(matrix):
    return {"sform_code": 1, "srow_x": matrix[0], "srow_y": matrix[1], "srow_z": matrix[2]}


def truncated(path, share):
    whole = path.with_name(f"whole-{path.name}")
    nifti(whole, voxels(24, 24, 24))
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    whole.unlink()


def flipped_bit(path):
    nifti(path, voxels(24, 24, 24))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)


def plain(value):
    return np.full((12, 11, 10), value, np.float32)


SINGULAR, NOT_FINITE = AFFINE.copy(), AFFINE.copy()
SINGULAR[:3, 2] = SINGULAR[:3, 0] + SINGULAR[:3, 1]
NOT_FINITE[0, 3] = np.nan
RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])

# name: how it is made, what the sentence holds (None: it is good enough and gives a result)
VARIANTS = {
    "good.nii.gz": (lambda p: nifti(p, voxels()), None),
    "constant.nii": (lambda p: nifti(p, plain(7)), None),
    "zero.nii": (lambda p: nifti(p, plain(0)), None),
    "negative.nii": (lambda p: nifti(p, -voxels() - 500), None),
    "huge_values.nii": (lambda p: nifti(p, voxels() * np.float32(1e30)), None),
    "tiny_values.nii": (lambda p: nifti(p, voxels() * np.float32(1e-30)), None),
    "2x2x2.nii": (lambda p: nifti(p, voxels(2, 2, 2)), None),
    "1x1x1.nii": (lambda p: nifti(p, voxels(1, 1, 1)), None),
    "slice.nii": (lambda p: nifti(p, voxels(12, 11, 1)), None),
    "long.nii": (lambda p: nifti(p, voxels(3, 2, 400)), None),
    "series.nii.gz": (lambda p: nifti(p, voxels(6, 5, 4, 3)), None),
    "bool.nii": (lambda p: nifti(p, (voxels() > 100).astype(np.uint8)), None),
    "trailing_bytes.nii": (lambda p: (nifti(p, voxels()), p.write_bytes(p.read_bytes() + b"more"))[1], None),
    "no_form_codes.nii": (lambda p: with_header(p, sform_code=0, qform_code=0), None),
    "slope_zero.nii": (lambda p: with_header(p, scl_slope=0, scl_inter=5), None),
    "truncated.nii": (lambda p: truncated(p, 0.6), "truncated"),
    "truncated.nii.gz": (lambda p: truncated(p, 0.6), "truncated"),
    "only_header.nii": (lambda p: (nifti(p, voxels()), p.write_bytes(p.read_bytes()[:HEADER_BYTES]))[1], "truncated"),
    "half_header.nii": (lambda p: (nifti(p, voxels()), p.write_bytes(p.read_bytes()[:100]))[1], "not a readable image"),
    "half_header.nii.gz": (lambda p: p.write_bytes(gzip.compress(b"\0" * 100)), "not a readable image"),
    "corrupt.nii.gz": (flipped_bit, "cannot be read"),
    "garbage.nii": (lambda p: p.write_bytes(bytes(range(256)) * 8), "not a readable image"),
    "garbage.nii.gz": (lambda p: p.write_bytes(bytes(range(256)) * 8), "not a readable image"),
    "garbage.mgz": (lambda p: p.write_bytes(gzip.compress(bytes(range(256)) * 8)), "garbage.mgz"),
    "zeros.nii": (lambda p: p.write_bytes(b"\0" * 4096), "not a readable image"),
    "text.nii": (lambda p: p.write_text("this is\nno image\n" * 100), "not a readable image"),
    "empty.nii": (lambda p: p.write_bytes(b""), "the file is empty"),
    "empty.nii.gz": (lambda p: p.write_bytes(b""), "the file is empty"),
    "emptied.nii.gz": (lambda p: p.write_bytes(gzip.compress(b"")), "not a readable image"),
    "alone.img": (lambda p: p.write_bytes(b"\0" * 4096), "alone.img"),
    "nan.nii": (lambda p: nifti(p, one_voxel(np.nan)), "1 of 1320 voxels are NaN"),
    "inf.nii": (lambda p: nifti(p, one_voxel(-np.inf)), "1 of 1320 voxels are NaN, infinite"),
    "beyond_float32.nii": (lambda p: nifti(p, voxels().astype(np.float64) * 1e300), "beyond float32"),
    "slope_nan.nii": (lambda p: with_header(p, scl_slope=2.0, scl_inter=np.nan), "not a readable image"),
    "singular.nii": (lambda p: with_header(p, **sform(SINGULAR)), "singular"),
    "zero_affine.nii": (lambda p: with_header(p, **sform(np.zeros((4, 4)))), "singular"),
    "nan_affine.nii": (lambda p: with_header(p, **sform(NOT_FINITE)), "not finite"),
    "spacing_0.nii": (lambda p: with_header(p, **sform(np.diag([1, 1, 0.0, 1]))), "singular"),
    "spacing_1000.nii": (lambda p: with_header(p, **sform(np.diag([1, 1, 1000.0, 1]))), "1 x 1 x 1000 mm"),
    "in_metres.nii": (lambda p: with_header(p, xyzt_units=1), "1000 x 1200 x 3000 mm"),
    "flat.nii": (lambda p: nifti(p, voxels(12, 11)), "has 2 axes"),
    "line.nii": (lambda p: with_header(p, dim=[1, 1320, 1, 1, 1, 1, 1, 1]), "has 1 axes"),
    "no_voxels.nii": (lambda p: with_header(p, dim=[3, 12, 0, 10, 1, 1, 1, 1]), "has no voxels"),
    "bytes_after.nii.gz": (lambda p: (nifti(p, voxels()), p.write_bytes(p.read_bytes() + b"more"))[1], None),
    "negative_size.nii": (lambda p: with_header(p, dim=[3, 12, -11, 10, 1, 1, 1, 1]), "negative_size.nii"),
    "huge.nii": (lambda p: with_header(p, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1]), "truncated"),
    "nine_axes.nii": (lambda p: with_header(p, dim=[9, 12, 11, 10, 1, 1, 1, 1]), "nine_axes.nii"),
    "odd_type.nii": (lambda p: with_header(p, datatype=999), "not a readable image"),
    "five_axes.nii": (lambda p: nifti(p, voxels(4, 4, 4, 2, 2)), "has 5 axes"),
    "complex.nii": (lambda p: nifti(p, voxels().astype(np.complex64)), "complex"),
    "rgb.nii": (lambda p: nifti(p, np.zeros((4, 4, 4), RGB)), "RGB"),
    "picture.png": (lambda p: p.write_bytes(b"\x89PNG"), "cannot read this format"),
    "nifti.dat": (lambda p: (nifti(p.with_suffix(".nii"), voxels()), p.with_suffix(".nii").rename(p)), "this format"),
    "not_gzip.nii.gz": (lambda p: (nifti(p.with_name("x.nii"), voxels()), p.with_name("x.nii").rename(p)), "not_gzip"),
    "folder.nii": (lambda p: p.mkdir(), "folder.nii"),
    "missing.nii.gz": (lambda p: None, "no such file"),
    "link.nii.gz": (lambda p: p.symlink_to(p.with_name("gone.nii.gz")), "link.nii.gz"),
    "two\nlines.nii": (lambda p: p.write_bytes(b"?"), "not a readable image"),
}


@pytest.fixture
def cubic(monkeypatch):
    """The interpolation as a method, without the machinery of networks."""
    method = SimpleNamespace(
        upscale=lambda lr, target: regrid(lr, target, "cubic"), resolved="cubic", trained_for=(), notes=()
    )
    fake = SimpleNamespace(load_method=lambda name, **more: method)
    monkeypatch.setitem(sys.modules, "mrsr_bench.zoo.inference", fake)


def sentence_of(call):
    """The one sentence that ``call`` is refused with, or None; anything else that it raises fails the test."""
    try:
        call()
    except UserError as error:
        said = str(error)
        assert said.strip()
        assert "\n" not in said
        assert "Traceback" not in said
        return said
    return None


def check(said, expected):
    assert (said is None) == (expected is None), said
    assert expected is None or expected in said


def upscaled(source, folder):
    output = folder / "out.nii"
    said = sentence_of(lambda: upscale_file(source, output, model="cubic", factor="1.5x1x2", spacing=None))
    left = sorted(path.name for path in folder.iterdir())
    if said is None:
        assert np.isfinite(nibabel.load(output).get_fdata(dtype=np.float32)).all()
    assert left == ([] if said else ["out.nii"])
    return said


def acquired(source):
    def every_case():
        for case in FolderDataset(source).cases("all"):
            assert case.fingerprint
            pair = case.acquire(degradations.get("thin_slices"), {"factor": [1, 1, 2]}, seed=0)
            assert np.isfinite(pair.lr.data).all()

    return sentence_of(every_case)


def made(name, folder):
    path = folder / name
    VARIANTS[name][0](path)
    return path, VARIANTS[name][1]


@pytest.mark.parametrize("name", VARIANTS)
def test_reading_gives_volumes_or_one_sentence(name, tmp_path, capfd):
    path, expected = made(name, tmp_path)
    capfd.readouterr()
    check(sentence_of(lambda: load_series(path)), expected)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", VARIANTS)
def test_upscaling_gives_a_whole_file_or_one_sentence(name, tmp_path, cubic):
    path, expected = made(name, tmp_path)
    (tmp_path / "out").mkdir()
    check(upscaled(path, tmp_path / "out"), expected)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_dataset_of_it_gives_pairs_or_one_sentence(name, tmp_path):
    path, expected = made(name, tmp_path)
    said = acquired(path)
    assert (said is None) == (expected is None), said


def test_a_folder_of_all_of_them_lists_them_all_and_reads_the_good_ones(tmp_path):
    for name in VARIANTS:
        if name not in ("folder.nii", "missing.nii.gz"):
            (tmp_path / name.replace(".", "_")).mkdir()
            made(name, tmp_path / name.replace(".", "_"))
    read = {case.path.name for case in FolderDataset(tmp_path).cases("all") if sentence_of(case.hr) is None}
    assert read == {name for name, (_, expected) in VARIANTS.items() if expected is None}


@pytest.mark.skipif(not ODD_FILES, reason="the odd files are not here")
@pytest.mark.parametrize("name", ODD_FILES)
def test_a_dataset_of_odd_files_gives_pairs_or_one_sentence(name):
    check(acquired(ODD / name), ODD_REFUSED.get(name))


def through_the_command(source, folder, capfd, factor="1.5x1x2"):
    """Exit code, and what ``mrsr-bench upscale`` said on stderr."""
    capfd.readouterr()
    options = ["--model", "cubic", "--factor", factor, "--device", "cpu", "--profile", "box"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["upscale", str(source), str(folder / "out.nii"), *options])
    return ended.value.code or 0, capfd.readouterr().err


@pytest.mark.parametrize("name", VARIANTS)
def test_the_command_ends_with_a_file_or_with_code_2_and_one_line(name, tmp_path, capfd):
    path, expected = made(name, tmp_path)
    (tmp_path / "out").mkdir()
    code, said = through_the_command(path, tmp_path / "out", capfd)
    assert code == (2 if expected else 0), said
    assert [p.name for p in (tmp_path / "out").iterdir()] == ([] if expected else ["out.nii"])
    if expected:
        assert expected in said
        assert len(said.splitlines()) == 1


@pytest.mark.skipif(not ODD_FILES, reason="the odd files are not here")
@pytest.mark.parametrize("name", ODD_FILES)
def test_the_command_on_odd_files_ends_with_a_file_or_with_code_2_and_one_line(name, tmp_path, capfd):
    code, said = through_the_command(ODD / name, tmp_path, capfd, factor="1x1x1.1")
    assert code == (2 if name in ODD_REFUSED else 0), said
    assert (tmp_path / "out.nii").exists() == (code == 0)
    assert code == 0 or (ODD_REFUSED[name] in said and len(said.splitlines()) == 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--factor", "2x2"], "--factor is three numbers"),
        (["--factor", "2x2x1", "--spacing", "1x1x1"], "either --factor"),
        ([], "either --factor"),
        (["--spacing", "9x9x9"], "coarser than the input"),
        (["--factor", "2x1x1", "--profile", "sinc"], "--profile is one of"),
        (["--factor", "2x1x1", "--slice-thickness", "-1"], "--slice-thickness is above 0"),
        (["--factor", "2x1x1", "--slice-thickness", "thin"], "--slice-thickness"),
    ],
)
def test_the_command_refuses_impossible_options_with_code_2(options, said, tmp_path, capfd):
    nifti(tmp_path / "in.nii", voxels())
    with pytest.raises(SystemExit) as ended:
        cli.main(["upscale", str(tmp_path / "in.nii"), str(tmp_path / "out.nii"), "--model", "cubic", *options])
    error = capfd.readouterr().err
    assert ended.value.code == 2
    assert said in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out.nii").exists()
