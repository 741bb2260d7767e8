"""The degradation matrix and the hallucination check, against computations by hand on a small phantom."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mrsr_bench import UserError, cli
from mrsr_bench.benchmarks import hallucination, lesions, matrix
from mrsr_bench.benchmarks.datasets import open_dataset
from mrsr_bench.benchmarks.datasets.phantom import PhantomDataset
from mrsr_bench.benchmarks.degradations import degradations
from mrsr_bench.benchmarks.entrants import protocol_tiling
from mrsr_bench.benchmarks.metrics.region import reference_of
from mrsr_bench.benchmarks.protocol import get_protocol, protocol_names
from mrsr_bench.volume import Volume
from mrsr_bench.zoo.regrid import regrid

PROTOCOL = "kspace-2x2x1"


def case():
    return open_dataset("phantom_2mm").cases("test")[0]


# ------------------------------------------------------------------------------------------------------- matrix


@pytest.mark.parametrize("factor", [(2, 2, 1), (1, 1, 4)])
@pytest.mark.parametrize("kind", matrix.KINDS)
def test_every_column_loses_resolution_along_the_axes_of_the_factor(kind, factor):
    hr = Volume(np.random.default_rng(0).normal(100, 5, (16, 16, 16)).astype(np.float32), np.eye(4))
    name, settings = matrix.degradation_of(kind, factor)
    degradation = degradations.get(name)
    params = degradation.sample(np.random.default_rng(0), hr, settings)
    lr = degradation.apply(hr, params)
    assert np.allclose(lr.spacing, factor)
    assert matrix.kind_of((name, settings), factor) == kind


@pytest.mark.parametrize(("task", "kind"), [("kspace-2x2x1", "kspace"), ("thick-4", "thick"), ("thin-4", "thin")])
def test_tasks_are_recognised_as_the_column_they_are(task, kind):
    protocol = get_protocol(task)
    assert matrix.kind_of((protocol.degradation, protocol.settings), protocol.factor) == kind


def test_the_box_is_central_and_inside():
    region = np.zeros((50, 40, 30), dtype=bool)
    region[10:30, 5:35, 28:30] = True
    box = matrix.central_box(region, 16)
    assert [(s.start, s.stop) for s in box] == [(12, 28), (12, 28), (14, 30)]
    assert [s.stop for s in matrix.central_box(region, None)] == [50, 40, 30]


def test_gains_and_losses_are_differences_of_psnr(tmp_path, capsys):
    options = ["--crop", "20", "--device", "cpu", "--json", "--out", str(tmp_path / "m.json")]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["matrix", "--model", "mdcsrn_b4u4", "--dataset", "phantom_2mm", *options])
    assert stopped.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "m.json").read_text()) == found
    (row,) = found["rows"]
    assert row["trained_for"] == "kspace"
    assert set(row["cells"]) == set(matrix.KINDS)
    home = row["cells"]["kspace"]
    assert home["loss"] == 0
    for cell in row["cells"].values():
        assert cell["gain"] == pytest.approx(cell["psnr"] - cell["baseline"])
        assert cell["loss"] == pytest.approx(home["gain"] - cell["gain"])
    pair = case().acquire(degradations.get("kspace_truncation"), {"factor": [2, 2, 1]}, 0)
    reference = reference_of(pair.hr, pair.lr)
    box = matrix.central_box(reference.region, 20)
    inside = reference.region[box]
    cubic = regrid(pair.lr, pair.hr.grid, "cubic").data[box][inside].astype(np.float64)
    error = np.mean((cubic - pair.hr.data[box][inside]) ** 2)
    assert home["baseline"] == pytest.approx(10 * np.log10(reference.range**2 / error), abs=1e-3)


@pytest.mark.parametrize(
    "words",
    [
        ["--model", "cubic"],
        ["--model", "mdcsrn_b4u4", "--crop", "3"],
        ["--model", "mdcsrn_b4u4", "--baseline", "mdcsrn_b4u4"],
        ["--model", "mdcsrn_b4u4", "--subjects", "0"],
        ["--model", "nothing_such"],
    ],
)
def test_mistakes_of_the_matrix_are_one_sentence(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["matrix", "--dataset", "phantom_2mm", *words])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_result_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        matrix.write_json({}, tmp_path / "file" / "m.json")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


# ---------------------------------------------------------------------------------------------------- hallucination


def test_a_lesion_given_back_whole_is_recovered_and_spills_nothing():
    lesion = lesions.Lesion((10, 10, 10), 3.0, 50.0)
    grid = Volume(np.zeros((21, 21, 21)), np.eye(4)).grid
    added = lesion.field(grid, lesion.box(grid, (4, 4, 4)))
    assert hallucination.measures(added, added) == {"recovery": 1.0, "spill": 0.0}
    assert hallucination.measures(0.25 * added, added)["recovery"] == pytest.approx(0.25)
    ghost = added + np.where(added == 0, 1.0, 0.0).astype(np.float32)
    assert hallucination.measures(ghost, added)["spill"] > 0


def test_a_lesion_has_the_volume_of_its_ball():
    lesion = lesions.Lesion((15, 15, 15), 5.0, 2.0)
    grid = Volume(np.zeros((31, 31, 31)), np.eye(4)).grid
    total = lesion.field(grid, lesion.box(grid, (3, 3, 3))).sum() / 2
    assert total == pytest.approx(4 / 3 * np.pi * 5**3, rel=0.02)


def test_lesions_of_the_phantom_lie_apart_in_white_matter():
    from mrsr_bench.benchmarks.datasets.head_rendering import LABELS

    pair = case().acquire(degradations.get("kspace_truncation"), {"factor": [2, 2, 1]}, 0)
    found = lesions.draw_lesions(pair, reference_of(pair.hr, pair.lr), 4, seed=1)
    assert len(found) == 4
    assert all(pair.labels[lesion.centre] == LABELS["white_matter"] for lesion in found)
    centres = np.array([lesion.centre for lesion in found]) * pair.hr.spacing
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1)[np.triu_indices(4, 1)]
    assert apart.min() >= lesions.APART_MM
    assert {np.sign(lesion.amplitude) for lesion in found} == {1, -1}
    again = lesions.draw_lesions(pair, reference_of(pair.hr, pair.lr), 4, seed=1)
    assert again == found


def test_without_labels_lesions_go_into_deep_homogeneous_tissue():
    from mrsr_bench.benchmarks.dataset import Pair

    shape = (60, 60, 60)
    x, y, z = np.meshgrid(*(np.linspace(-60, 60, n) for n in shape), indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    rng = np.random.default_rng(2)
    data = np.where(radius < 55, 60 + rng.normal(0, 20, shape), 0)
    white = radius < 35
    data[white] = 100 + rng.normal(0, 1, white.sum())
    data[radius < 8] = 20
    hr = Volume(data.astype(np.float32), np.diag([2.0, 2, 2, 1]))
    pair = Pair(hr, hr, {})
    places = lesions.white_matter(pair, reference_of(hr))
    assert places.any()
    assert white[places].all()
    assert (radius[places] > 8).all()


def test_recovery_of_zero_filling_is_the_share_of_the_lesion_inside_the_band():
    request = hallucination.Request(["zero_fill"], "phantom_2mm", PROTOCOL, lesions=2, bands=False, device="cpu")
    found = hallucination.hallucination_check(request)
    (method,) = found["methods"]
    (subject,) = found["subjects"]
    hr = case().hr()
    degradation = degradations.get("kspace_truncation")
    params = {**degradation.defaults, "factor": [2, 2, 1]}
    for stated in method["per_subject"][subject]["lesions"]:
        centre = np.rint(np.linalg.inv(hr.affine) @ [*stated["centre_mm"], 1])[:3].astype(int)
        lesion = lesions.Lesion(tuple(int(c) for c in centre), stated["radius_mm"], stated["amplitude"])
        everywhere = lesion.field(hr.grid, tuple(slice(0, n) for n in hr.data.shape))
        lr = degradation.apply(hr.with_data(everywhere), params)
        back = regrid(lr, hr.grid, "zero_fill").data
        expected = float((back * everywhere).sum() / (everywhere**2).sum())
        assert stated["recovery"] == pytest.approx(expected, abs=2e-3)
        assert 0.2 < expected < 1


def test_the_command_states_bands_and_lesions_by_method(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(
            ["hallucinate", "--model", "nearest,zero_fill", "--dataset", "phantom_2mm", "--lesions", "2", "--json"]
        )
    assert stopped.value.code == 0
    found = json.loads(capsys.readouterr().out)
    nearest, zero = found["methods"]
    assert zero["out_of_band_error"] < nearest["out_of_band_error"]
    assert zero["recovery"] > 0
    assert zero["recovery_by_radius_mm"]


@pytest.mark.parametrize("words", [["--lesions", "0"], ["--subjects", "0"], ["--protocol", "nothing"]])
def test_mistakes_of_the_check_are_one_sentence(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["hallucinate", "--model", "cubic", "--dataset", "phantom_2mm", *words])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture
def small_heads(monkeypatch):
    """The phantom at 4 mm under any name."""
    small = PhantomDataset(spacing=4)
    monkeypatch.setattr("mrsr_bench.benchmarks.datasets.open_dataset", lambda name, suffix=None: small)


@pytest.mark.parametrize("name", protocol_names())
def test_every_protocol_is_checked_or_refused_in_a_sentence(name, small_heads, capsys):
    words = ["--model", "nearest", "--dataset", "small", "--protocol", name, "--lesions", "2", "--split", "test"]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["hallucinate", *words, "--device", "cpu", "--json"])
    shown = capsys.readouterr()
    if get_protocol(name).simulates_lr:
        assert stopped.value.code == 0, shown.err
        assert 0 < json.loads(shown.out)["methods"][0]["recovery"] < 1.5
    else:
        assert stopped.value.code == 2
        assert shown.err.count("\n") == 1
        assert f"the LR of {name} is a real scan" in shown.err


def test_networks_get_the_tiles_that_the_protocol_states(small_heads, monkeypatch):
    seen = []

    class StopError(Exception):
        pass

    def load_method(name, **options):
        seen.append(options)
        raise StopError

    monkeypatch.setattr("mrsr_bench.zoo.inference.load_method", load_method)
    with pytest.raises(StopError):
        hallucination.hallucination_check(hallucination.Request(["mdcsrn_b4u4"], "small", "mdcsrn2020", device="cpu"))
    assert seen[0]["tiling"] == protocol_tiling(get_protocol("mdcsrn2020"))
    assert seen[0]["tiling"] is not None


def test_lesions_are_put_in_before_the_eight_bits_of_the_protocol(small_heads):
    request = hallucination.Request(["nearest"], "small", "prostate2019-iso-4x", lesions=2)
    protocol = get_protocol(request.protocol)
    study = hallucination._study(
        PhantomDataset(spacing=4).cases("test")[0], degradations.get(protocol.degradation), protocol, request
    )
    for volume in (study.pair.hr, study.pair.lr, study.with_lesions):
        assert np.array_equal(volume.data, np.round(volume.data))
        assert 0 <= volume.data.min() < 100 < volume.data.max() <= 255
    change = np.abs(study.with_lesions.data - study.pair.lr.data)
    assert 0 < change.max() <= max(abs(lesion.amplitude) for lesion in study.lesions) + 1
    assert 10 < max(abs(lesion.amplitude) for lesion in study.lesions) < 255
