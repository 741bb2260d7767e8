"""The command: one object on stdout, one sentence on stderr, and an exit code that says whose move it is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mrsr_bench.benchmarks import evaluate as evaluation
from mrsr_bench.benchmarks import tables
from mrsr_bench.benchmarks.catalogue import KINDS
from mrsr_bench.cli import main
from mrsr_bench.volume import Volume, save


@pytest.fixture
def command(capsys):
    """Runs the command in this process: (exit code, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code, out, err

    return run


@pytest.fixture
def run(command, bench):
    """``mrsr-bench run`` on the fakes."""

    def start(*arguments):
        return command("run", "--dataset", "tiny", "--protocol", "tiny-protocol", "--out", bench.out, *arguments)

    return start


def no_constants(name):
    raise AssertionError(f"{name} in JSON")


def parsed(text):
    return json.loads(text, parse_constant=no_constants)


def one_sentence(err):
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("mrsr-bench: ")
    assert "Traceback" not in err
    return lines[0]


# -- run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["thick-2", "thick-3", "thick-4"], "thick-2..4"),
        (["thick-2", "thick-4"], "thick-2, thick-4"),
        (["kspace-2x2x1", "thin-5"], "kspace-2x2x1, thin-5"),
        ([], ""),
    ],
)
def test_tasks_in_a_row_are_shortened_for_people(names, text):
    assert tables.tasks(names) == text


def test_json_is_exactly_one_object_on_stdout(run, bench):
    code, out, err = run("--model", "linear,net", "--json")
    found = parsed(out)
    assert code == 0
    assert [r["model"] for r in found["runs"]] == ["linear", "net"]
    assert str(bench.out) in err


def test_what_libraries_print_does_not_reach_stdout(run, bench, monkeypatch):
    draw = sys.modules["mrsr_bench.benchmarks.figures"].draw_subject

    def noisy(*arguments, **options):
        print("downloading ...")
        return draw(*arguments, **options)

    monkeypatch.setattr(sys.modules["mrsr_bench.benchmarks.figures"], "draw_subject", noisy)
    _, out, err = run("--model", "linear", "--json")
    parsed(out)
    assert "downloading" in err


def test_the_table_names_methods_subjects_metrics_conventions_and_cost(run):
    code, out, _ = run("--model", "linear,net")
    assert code == 0
    for text in ("linear", "net_large", "sub-01", "psnr", "s / volume", "peak MiB", "99.9th percentile", "sha256"):
        assert text in out


def test_a_missing_value_has_a_footnote(run):
    _, out, _ = run("--model", "linear")
    assert "niqe is not a metric of tiny-protocol" in out


def test_a_method_that_fails_makes_the_exit_code_two_and_the_others_still_show(run):
    code, out, _ = run("--model", "linear,refuses", "--json")
    first, second = parsed(out)["runs"]
    assert code == 2
    assert first["scores"]["psnr"]["n"] == 3
    assert second == {"model": "refuses", "error": "refuses: cannot do this volume"}
    code, out, _ = run("--model", "linear,refuses")
    assert code == 2
    assert "refuses: cannot do this volume" in out


def test_models_may_be_repeated(run):
    _, out, _ = run("--model", "nearest", "--model", "linear,nearest", "--json")
    assert [r["model"] for r in parsed(out)["runs"]] == ["nearest", "linear"]


def test_a_run_remembers_which_image_of_a_subject_was_asked_for(run, bench):
    run("--model", "linear", "--suffix", "T1w")
    run("--model", "nearest")
    stored = {
        found["model"]: found for path in bench.out.glob("*/run.json") for found in [json.loads(path.read_text())]
    }
    assert stored["linear"]["suffix"] == "T1w"
    assert "suffix" not in stored["nearest"]


def test_the_first_n_subjects(run):
    _, out, _ = run("--model", "linear", "--subjects", 2, "--json")
    assert parsed(out)["runs"][0]["subjects"] == ["sub-01", "sub-02"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "liner"], "linear"),
        (["--model", "linear", "--subjects", "0"], "--subjects"),
        (["--model", "linear", "--subjects", "-1"], "--subjects"),
        (["--model", "linear", "--subjects", "two"], "--subjects"),
        (["--model", "linear", "--device", "tpu"], "--device"),
        (["--model", "linear", "--moddel", "x"], "--moddel"),
        ([], "--model"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_two(run, arguments, words):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert words in one_sentence(err)


def test_an_unknown_dataset_or_path_is_one_sentence(command, bench):
    for dataset in ("phantm", "no/such/folder"):
        code, _, err = command("run", "--model", "linear", "--dataset", dataset, "--out", bench.out)
        assert code == 2
        one_sentence(err)


def test_a_fault_of_ours_is_exit_code_one_and_points_to_debug(run, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(evaluation, "evaluate", broken)
    code, _, err = run("--model", "linear")
    assert code == 1
    assert "--debug" in one_sentence(err)


@pytest.mark.parametrize("place", [0, -1])
def test_debug_shows_the_trace_wherever_it_stands(monkeypatch, bench, place):
    def broken(*_, **__):
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(evaluation, "evaluate", broken)
    words = ["run", "--dataset", "tiny", "--model", "linear"]
    words.insert(0 if place == 0 else len(words), "--debug")
    with pytest.raises(ZeroDivisionError):
        main(words)


def test_interrupting_is_exit_code_130_and_what_was_done_is_kept(run, bench):
    code, out, err = run("--model", "killed", "--json")
    assert code == 130
    assert out == ""
    assert "interrupted" in one_sentence(err)
    assert len(list((bench.out / ".cache").glob("*/*.json"))) == 2


@pytest.fixture
def scans(tmp_path, tiny_head):
    """Two subjects' images, and what is needed to score them with the real interpolations in another process."""
    for subject in (1, 2):
        save(tiny_head(subject), tmp_path / f"sub-{subject:02d}_T1w.nii.gz")
    return tmp_path


def in_another_process(*arguments, cwd):
    words = [sys.executable, "-m", "mrsr_bench", *map(str, arguments)]
    environment = {**os.environ, "MRSR_BENCH_OFFLINE": "1", "MRSR_BENCH_HOME": str(cwd / "home")}
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300, env=environment)


def test_ones_own_images_end_to_end(scans):
    done = in_another_process("run", "--model", "nearest,cubic", "--dataset", scans, "--json", cwd=scans)
    assert done.returncode == 0, done.stderr
    found = parsed(done.stdout)
    assert found["protocol"] == "kspace-2x2x1"
    nearest, cubic = found["runs"]
    assert nearest["subjects"] == ["sub-01", "sub-02"]
    assert cubic["scores"]["psnr"]["mean"] > nearest["scores"]["psnr"]["mean"] > 10
    assert cubic["scores"]["niqe"]["mean"] is None
    assert cubic["scores"]["niqe"]["reason"]
    assert len(list((scans / "runs").glob("*/run.json"))) == 2
    assert len(list((scans / "runs" / "figures").glob("*/*.png"))) == 2


def test_a_broken_image_is_one_sentence_in_a_real_process(scans):
    whole = (scans / "sub-02_T1w.nii.gz").read_bytes()
    (scans / "sub-02_T1w.nii.gz").write_bytes(whole[: len(whole) // 2])
    done = in_another_process("run", "--model", "cubic", "--dataset", scans, "--json", cwd=scans)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "sub-02" in one_sentence(done.stderr)


# -- list, show ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_lists_are_json_objects_with_named_items(command, bench, kind):
    code, out, _ = command("list", kind, "--json")
    items = parsed(out)[kind]
    assert code == 0
    assert items
    assert all(item["name"] for item in items)


def test_the_list_of_models_has_the_keys_of_the_contract(command, bench):
    models = {m["name"]: m for m in parsed(command("list", "models", "--json")[1])["models"]}
    keys = ["name", "kind", "tasks", "parameters", "weights", "undertrained", "paper"]
    assert all(list(m) == keys for m in models.values())
    assert "kspace-2x2x1" in models["linear"]["tasks"]
    assert models["net"]["undertrained"] is True
    assert models["untrained"]["undertrained"] is models["linear"]["undertrained"] is None
    assert models["linear"]["weights"] == "none needed"
    assert models["untrained"]["weights"] == "missing"


@pytest.mark.parametrize("name", ["linear", "net", "kspace_truncation", "psnr", "thick-4", "soup-fig8", "hcp"])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_anything_listed_can_be_shown(command, bench, name, form):
    code, out, _ = command("show", name, *form)
    assert code == 0
    assert name in out


def test_a_metric_says_its_units_its_source_and_whether_it_may_rank(command, bench):
    bias = parsed(command("show", "tissue_volume_bias", "--json")[1])
    assert (bias["direction"], bias["units"], bias["ranked"], bias["reference"]) == ("nearest zero", "1", False, True)
    listed = {m["name"]: m for m in parsed(command("list", "metrics", "--json")[1])["metrics"]}
    assert listed["tissue_volume_bias"].items() <= bias.items()
    assert (listed["psnr"]["units"], listed["psnr"]["ranked"]) == ("dB", True)
    assert listed["psnr"]["source"]


def test_a_dataset_says_where_it_comes_from_how_it_lies_and_how_it_is_split(command, bench):
    hcp = parsed(command("show", "hcp", "--json")[1])
    assert hcp["sources"][0].startswith("s3://hcp-openaccess/HCP_1200")
    assert hcp["complete"]["subjects"] == 1113
    assert hcp["split"]["sizes"] == {"train": 780, "val": 111, "evaluation": 111, "test": 111}
    assert hcp["split"]["rule"]
    assert any("T1w_MPR1" in layout for layout in hcp["layouts"])
    assert parsed(command("show", "prostatex", "--json")[1])["split"]["sizes"]["train"] == 242
    code, out, _ = command("show", "hcp")
    assert (code, "s3://hcp-openaccess" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(("show", "thick4"), "thick-4"), (("show", "psnrr"), "psnr"), (("list", "modles"), "models"), (("ran",), "run")],
)
def test_near_names_are_suggested(command, bench, arguments, meant):
    code, _, err = command(*arguments)
    assert code == 2
    assert meant in one_sentence(err)


# -- score, compare, doctor ----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, bench):
    hr = bench.dataset.all_cases[0].hr()
    sr = hr.with_data(hr.data + np.random.default_rng(0).normal(0, 2, hr.data.shape))
    return save(sr, tmp_path / "sr.nii.gz"), save(hr, tmp_path / "hr.nii.gz"), hr, sr


def test_files_are_scored_on_the_mask_of_hr(command, files):
    code, out, _ = command("score", files[0], files[1], "--json")
    found = parsed(out)
    assert code == 0
    assert found["protocol"] is None
    assert found["scores"]["psnr"]["value"] == pytest.approx(20 * np.log10(found["range"] / 2), abs=0.5)


def test_a_protocol_narrows_the_region_to_its_hull(command, files):
    whole = parsed(command("score", files[0], files[1], "--json")[1])
    inside = parsed(command("score", files[0], files[1], "--protocol", "thick-4", "--json")[1])
    assert inside["region_voxels"] < whole["region_voxels"]
    assert inside["protocol_hash"]
    assert "data_consistency" not in inside["scores"] or inside["scores"]["data_consistency"]["value"] is not None


def test_a_file_is_degraded_with_the_seed_of_its_subject_as_in_a_run(files, monkeypatch):
    from mrsr_bench.benchmarks import comparison
    from mrsr_bench.benchmarks.protocol import subject_seed

    asked = []
    monkeypatch.setattr(comparison, "subject_seed", lambda *given: asked.append(given) or subject_seed(*given))
    found = [comparison.score_files(*files[:2], protocol="thick-4", seed=3, subject=s) for s in (None, "sub-07")]
    assert asked == [(3, "hr"), (3, "sub-07")]
    assert [one["subject"] for one in found] == ["hr", "sub-07"]


def test_a_protocol_without_a_reference_cannot_score_files(command, files):
    code, out, err = command("score", files[0], files[1], "--protocol", "real", "--json")
    assert (code, out) == (2, "")
    assert "no reference" in one_sentence(err)


def test_scores_are_shown_with_their_conventions(command, files):
    code, out, _ = command("score", files[0], files[1])
    assert code == 0
    assert "99.9th percentile" in out


def test_an_image_on_another_grid_is_refused_and_never_resampled(command, files, tmp_path):
    hr = files[2]
    moved = hr.affine.copy()
    moved[0, 3] += 0.5
    shifted = save(Volume(hr.data, moved), tmp_path / "moved.nii.gz")
    code, out, err = command("score", shifted, files[1], "--json")
    assert code == 2
    assert out == ""
    assert "grid" in one_sentence(err)


def folders(bench, *models, **options):
    return [str(folder) for folder in bench.run(*models, figures=False, **options).folders]


def test_runs_are_compared_subject_by_subject(command, bench):
    a, b = folders(bench, "linear", "nearest")
    code, out, _ = command("compare", a, b, "--json")
    psnr = parsed(out)["differences"]["psnr"]
    assert code == 0
    assert psnr["n"] == 3
    assert psnr["mean"] == pytest.approx(np.mean(list(psnr["per_subject"].values())))
    assert (psnr["ci95"], psnr["p"]) == (None, None)
    assert psnr["reason"]
    assert "sub-02" in command("compare", a, b)[1]


def test_what_runs_hold_beside_the_protocols_metrics_is_compared_when_asked_for(command, bench):
    a, b = folders(bench, "linear", "nearest", metrics=("hfen",))
    found = parsed(command("compare", a, b, "--json")[1])
    assert found["further"] == ["hfen"]
    assert "hfen" not in found["differences"]
    assert "--metrics adds them" in command("compare", a, b)[1]
    found = parsed(command("compare", a, b, "--metrics", "hfen", "--json")[1])
    assert found["further"] == []
    assert found["differences"]["hfen"]["n"] == 3
    code, _, err = command("compare", a, b, "--metrics", "no_metric")
    assert code == 2
    assert "no_metric" in one_sentence(err)


def test_from_eight_subjects_on_a_comparison_has_interval_and_test(command, bench):
    kind = type(bench.dataset.all_cases[0])
    bench.dataset.all_cases = [kind(f"sub-{i:02d}", "T1w", i, bench.acquired) for i in range(1, 10)]
    a, b = folders(bench, "linear", "nearest")
    psnr = parsed(command("compare", a, b, "--json")[1])["differences"]["psnr"]
    assert psnr["p"] == pytest.approx(2 / 512)
    assert psnr["p_holm"] >= psnr["p"]
    low, high = psnr["ci95"]
    assert low < psnr["mean"] < high
    code, out, _ = command("run", "--model", "linear,nearest", "--dataset", "tiny", "--protocol", "tiny-protocol",
                           "--out", bench.out, "--no-figures")  # fmt: skip
    assert code == 0
    assert "rank 1" in out
    assert "rank 2" in out
    assert " to " in out


def test_runs_that_cannot_be_paired_are_refused(command, bench):
    kind = type(bench.dataset.all_cases[0])
    (first,) = folders(bench, "linear")
    (other_protocol,) = folders(bench, "linear", protocol="thick-4")
    (other_seed,) = folders(bench, "linear", seed=3)
    bench.dataset.all_cases = [kind("sub-77", "T1w", 7, bench.acquired)]
    (other_subjects,) = folders(bench, "linear")
    bench.dataset.all_cases = [kind("sub-01", "T1w", 1, bench.acquired, revision="r2")]
    (other_image,) = folders(bench, "linear")
    pairs = [
        (other_protocol, "protocols"),
        (other_seed, "seeds"),
        (other_subjects, "no subject"),
        (other_image, "sub-01"),
    ]
    for folder, words in pairs:
        code, _, err = command("compare", first, folder)
        assert code == 2
        assert words in one_sentence(err)


def test_what_is_not_a_run_is_refused(command, bench, tmp_path):
    code, _, err = command("compare", tmp_path / "nothing", tmp_path)
    assert code == 2
    assert "nothing" in one_sentence(err)


def test_the_doctor_reports_every_section(command, bench, monkeypatch, tmp_path):
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path / "home"))
    code, out, _ = command("doctor", "--json")
    found = parsed(out)
    assert code == 0
    assert {"versions", "devices", "places", "weights", "metrics", "datasets"} <= set(found)
    assert found["places"]["MRSR_BENCH_HOME"] == {"path": str(tmp_path / "home"), "exists": False}
    assert found["versions"]["mrsr-bench"]
    assert found["weights"]["untrained"] == "missing"
    assert [name for name, section in found.items() if "error" in section] == []


def test_the_doctor_runs_the_golden_tensors_and_one_bad_file_hides_nothing_else(monkeypatch, tmp_path):
    from mrsr_bench.benchmarks import doctor
    from mrsr_bench.zoo import weights
    from mrsr_bench.zoo.methods import methods

    shipped = Path(weights.__file__).parent / "methods/mdcsrn/weights/mdcsrn_b4u4--kspace-2x2x1"
    broken = tmp_path / "weights" / "mdcsrn_b4u4--thick-4"
    shutil.copytree(shipped, broken)
    (broken / weights.MODEL).write_bytes(b"damaged")
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path))
    spec = methods.get("mdcsrn_b4u4")
    assert doctor._verified(spec, "kspace-2x2x1").startswith("verified, ")
    assert doctor._verified(spec, "thick-4").startswith("not usable: ")
    shutil.copytree(shipped, tmp_path / "weights" / shipped.name)
    (tmp_path / "weights" / shipped.name / weights.GOLDEN).unlink()
    assert "golden" in doctor._verified(spec, "kspace-2x2x1")


def test_the_doctor_survives_a_section_that_fails(command, bench, monkeypatch):
    from mrsr_bench.benchmarks import doctor

    def broken():
        raise OSError("disk on fire")

    monkeypatch.setitem(doctor.SECTIONS, "places", broken)
    code, out, _ = command("doctor", "--json")
    assert code == 0
    assert "disk on fire" in parsed(out)["places"]["error"]
