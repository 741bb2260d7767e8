"""LR out, SR in: another lab's method is scored as one of ours, on the same LR and region, or refused with a reason."""

import hashlib
import json

import nibabel
import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks.exchange import Request, export_lr, score_predictions
from mrsr_bench.benchmarks.results import read_run
from mrsr_bench.volume import load, save
from mrsr_bench.zoo.regrid import regrid

P = "kspace-2x2x1"


@pytest.fixture
def exported(bench, monkeypatch, tmp_path):
    """LR of the three fake subjects, whose images have names of their own; only three metrics."""
    from mrsr_bench.benchmarks import exchange, protocol

    content = {**protocol.get_protocol(P).content, "metrics": ["psnr", "ssim", "nrmse"]}
    small = protocol.Protocol(content)
    monkeypatch.setattr(exchange, "get_protocol", lambda name: small)
    monkeypatch.setattr("mrsr_bench.benchmarks.evaluate.get_protocol", lambda name: small)
    for case in bench.dataset.all_cases:
        case.image = f"{case.subject}_T1w"
    out = tmp_path / "exported"
    export_lr(Request(P, "tiny", seed=3, out=out))
    return out


def bring(exported, names, method="linear"):
    """What somebody else would do, with nothing but the files."""
    folder = exported / "mine"
    folder.mkdir(exist_ok=True)
    for name in names:
        target = load(exported / "targets" / f"{name}.nii.gz").grid
        save(regrid(load(exported / "lr" / f"{name}.nii.gz"), target, method), folder / f"{name}.nii.gz")
    return folder


def test_lr_files_have_checksums_that_hold(exported):
    lines = (exported / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == digest


def test_nothing_of_hr_is_among_the_files(exported, tiny_head):
    hr = tiny_head(1).data
    for path in exported.rglob("*.nii.gz"):
        data = load(path).data
        assert data.shape != hr.shape or not data.any()
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    image = manifest["images"][0]
    assert (image["lr_shape"], image["target_shape"]) == ([10, 9, 12], [20, 18, 12])
    assert [axis["kind"] for axis in image["lr_acquisition"]] == ["kspace", "kspace", "full"]


def test_a_second_export_writes_nothing_and_repairs_what_was_altered(bench, exported):
    before = len(bench.acquired)
    file = exported / "lr" / "sub-02_T1w.nii.gz"
    whole = file.read_bytes()
    export_lr(Request(P, "tiny", seed=3, out=exported))
    assert len(bench.acquired) == before
    file.write_bytes(whole[:50])
    export_lr(Request(P, "tiny", seed=3, out=exported))
    assert bench.acquired[before:] == ["sub-02/sub-02_T1w"]
    assert np.array_equal(load(file).data.shape, (10, 9, 12))


def test_predictions_get_the_scores_that_a_run_of_the_same_method_gets(bench, exported):
    folder = bring(exported, [f"sub-0{i}_T1w" for i in (1, 2, 3)])
    report = score_predictions(folder, protocol=P, out=bench.out, name="ours elsewhere")
    ran = bench.run("linear", protocol=P, seed=3, figures=False)
    mine, theirs = report.result["runs"][0]["scores"], ran.result["runs"][0]["scores"]
    for key in ("psnr", "ssim", "nrmse"):
        assert mine[key]["per_subject"] == pytest.approx(theirs[key]["per_subject"], rel=1e-4)
    stored = read_run(report.folders[0])
    assert stored["model"] == "ours elsewhere"
    assert stored["ingredients"]["method"]["brought"] is True
    assert stored["pieces"]["sub-01"]["images"][0]["prediction_sha256"]


def test_a_missing_or_misplaced_prediction_is_a_null_with_its_reason(bench, exported):
    folder = bring(exported, ["sub-01_T1w", "sub-02_T1w"])
    moved = nibabel.load(folder / "sub-02_T1w.nii.gz")
    affine = moved.affine.copy()
    affine[0, 3] += 1
    nibabel.save(nibabel.Nifti1Image(moved.get_fdata(dtype=np.float32), affine), folder / "sub-02_T1w.nii.gz")
    score = score_predictions(folder, protocol=P, out=bench.out).result["runs"][0]["scores"]["psnr"]
    assert score["n"] == 1
    assert score["per_subject"]["sub-02"] is None
    assert "sub-02_T1w.nii.gz: lies on another grid" in score["reason"]
    assert "sub-03_T1w.nii.gz is missing among the predictions" in score["reason"]


def test_predictions_of_another_lr_are_refused(bench, exported):
    folder = bring(exported, ["sub-01_T1w"])
    bench.dataset.all_cases[0].seed = 77
    with pytest.raises(UserError, match="is not the one that was exported"):
        score_predictions(folder, protocol=P, out=bench.out)


def test_predictions_that_cannot_be_read_are_refused_in_a_sentence(bench, exported, tmp_path):
    folder = bring(exported, ["sub-01_T1w"])
    (folder / "sub-01_T1w.nii.gz").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"none of the predictions can be scored .*sub-01_T1w"):
        score_predictions(folder, protocol=P, out=bench.out)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="name the dataset with --dataset"):
        score_predictions(empty, protocol=P, out=bench.out)
    with pytest.raises(UserError, match=r"holds no prediction; expected files named .* sub-01_T1w\.nii\.gz"):
        score_predictions(empty, protocol=P, dataset="tiny", out=bench.out)
    with pytest.raises(UserError, match="no such folder"):
        score_predictions(tmp_path / "nowhere", protocol=P, out=bench.out)
    with pytest.raises(UserError, match="exported under kspace-2x2x1, not thick-4"):
        score_predictions(folder, protocol="thick-4", out=bench.out)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 99, "images": []}'])
def test_a_manifest_that_is_none_is_refused(exported, text):
    folder = bring(exported, ["sub-01_T1w"])
    (exported / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="export the LR files again"):
        score_predictions(folder, protocol=P)


def test_images_that_share_a_name_cannot_be_exported(bench, tmp_path):
    with pytest.raises(UserError, match="two images are called T1w"):
        export_lr(Request(P, "tiny", out=tmp_path / "out"))


def test_the_command_scores_a_folder(bench, exported, capsys):
    from mrsr_bench import cli

    folder = bring(exported, ["sub-01_T1w"])
    with pytest.raises(SystemExit) as stop:
        cli.main(["score", str(folder), "--protocol", P, "--out", str(bench.out), "--json"])
    assert not stop.value.code
    found = json.loads(capsys.readouterr().out)
    assert found["runs"][0]["model"] == "mine"
    assert found["runs"][0]["scores"]["psnr"]["n"] == 1
    with pytest.raises(SystemExit) as stop:
        cli.main(["score", str(folder)])
    assert stop.value.code == 2
    assert "--protocol and a folder of predictions" in capsys.readouterr().err


def test_the_seed_and_suffix_of_the_manifest_stay_where_the_dataset_is_named(bench, exported, monkeypatch):
    folder = bring(exported, ["sub-01_T1w"])
    manifest = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    (exported / "manifest.json").write_text(json.dumps({**manifest, "suffix": "T1w", "seed": 5}), encoding="utf-8")
    asked = []
    monkeypatch.setattr("mrsr_bench.benchmarks.exchange._scored", lambda folder, request, *_: asked.append(request))
    score_predictions(folder, protocol=P, dataset="tiny", out=bench.out)
    score_predictions(folder, protocol=P, dataset="tiny", suffix="T2w", out=bench.out)
    assert [(request.seed, request.suffix) for request in asked] == [(5, "T1w"), (5, "T2w")]
    with pytest.raises(UserError, match="exported with the seed 5, not 0; leave --seed out"):
        score_predictions(folder, protocol=P, dataset="tiny", seed=0, out=bench.out)


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["there", "--protocol", P, "--convention", "all", "--subject", "foo"], "--convention and --subject"),
        (["a.nii", "b.nii", "--dataset", "x", "--split", "test", "--name", "y"], "--dataset and --split and --name"),
        (["a.nii", "b.nii", "--suffix", "T1w"], "--suffix"),
        (["a.nii", "b.nii", "--convention", "all", "--seed", "3"], "--subject and --seed"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(words, refused, capsys):
    from mrsr_bench import cli

    with pytest.raises(SystemExit) as stop:
        cli.main(["score", *words])
    shown = capsys.readouterr().err
    assert (stop.value.code, shown.count("\n")) == (2, 1)
    assert refused in shown
