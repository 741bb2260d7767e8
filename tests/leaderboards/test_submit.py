"""From a stored run to a submission: what is kept, what is asked for, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.benchmarks.results import write_run
from mrsr_bench.benchmarks.statistics import summarise
from mrsr_bench.cli import main
from mrsr_bench.leaderboards.schema import digest_of, file_name_of, read_submissions, why_not_fixed
from mrsr_bench.leaderboards.submit import Declaration, plain_text, submission_of, submit
from mrsr_bench.zoo.pins import shipped_folders
from mrsr_bench.zoo.weights import MODEL, sha256_of_file

PROTOCOL = "kspace-2x2x1"
CONTACT = Declaration("lab@example.org", rehearse=False)
PSNR = {f"sub-{i:02d}": 27.0 + 0.1 * i for i in range(9)}


def stored_run(out: Path, method="cubic", *, weights=None, psnr=PSNR, **changes):
    """A run folder with made-up scores, as `mrsr-bench run` leaves one."""
    hardware = {"cpu": "a processor", "cores": 2, "memory_mb": 8000, "platform": "Linux", "gpu": None}
    scores = {"psnr": summarise(psnr), "niqe": summarise({}, missing="a & b <are> not here")}
    run = {
        "model": method,
        "resolved": method,
        "weights_sha256": weights,
        "subjects": list(psnr),
        "scores": scores,
        "seconds_per_volume": 1.5,
        "peak_memory_mb": 100.0,
        "key": "ab" * 32,
        "protocol": PROTOCOL,
        "protocol_hash": get_protocol(PROTOCOL).hash,
        "environments": [
            {"versions": {"torch": "2.6", "timm": None}, "git_commit": "c" * 40, "hardware": hardware, "device": "cpu"}
        ],
        "dataset": "heads",
        "split": "test",
        "seed": 0,
        "synthetic": False,
        "conventions": {"psnr": "over the foreground", "niqe": "per slice"},
        **changes,
    }
    return write_run(out, f"{method}-run", run, [], {})


def quiet(_line):
    pass


def test_a_run_becomes_a_submission_that_reads_back_as_it_was(tmp_path):
    run = stored_run(tmp_path)
    found = submit([run], tmp_path / "submission.json", CONTACT, quiet)
    (one,) = read_submissions(Path(found["files"][0]))
    assert (one.method, one.protocol, one.dataset, one.badge, one.track) == (
        "cubic",
        PROTOCOL,
        "heads",
        "self-reported",
        "open",
    )
    assert one.scores["psnr"].per_subject == PSNR
    assert one.scores["psnr"].ci95 is not None
    assert one.scores["niqe"].reason == "a b are not here"
    assert one.protocol_hash == get_protocol(PROTOCOL).hash
    assert one.source.commit == "c" * 40
    assert one.digest == digest_of(one.model_dump(mode="json"))


def test_the_weights_bring_their_training_along(tmp_path):
    folder = shipped_folders()["mdcsrn/mdcsrn_b4u4--kspace-2x2x1"]
    sha256 = sha256_of_file(folder / MODEL)
    run = stored_run(tmp_path, "mdcsrn_b4u4", weights=sha256)
    one = submission_of(run, CONTACT, quiet)
    assert one.weights.sha256 == sha256
    assert one.weights.shipped
    trained = json.loads((folder / "config.json").read_text())["trained"]
    assert one.training.train_subjects == trained["train_subjects"]
    assert one.training.val_subjects == trained["val_subjects"]
    assert one.training.recipe.startswith("quick: ")
    assert one.parameters == 228_505
    assert "trained on" in why_not_fixed(one)


def test_subjects_with_several_images_are_counted(tmp_path):
    pieces = {"sub-00": {"images": [{}, {}, {}]}, "sub-01": {"images": [{}]}}
    assert submission_of(stored_run(tmp_path, pieces=pieces), CONTACT, quiet).images == {"sub-00": 3}


def test_several_runs_go_into_one_file_or_a_folder(tmp_path):
    runs = [stored_run(tmp_path), stored_run(tmp_path, "linear", key="cd" * 32)]
    submit(runs, tmp_path / "all.json", CONTACT, quiet)
    both = read_submissions(tmp_path / "all.json")
    assert [one.method for one in both] == ["cubic", "linear"]
    (tmp_path / "results").mkdir()
    found = submit(runs, tmp_path / "results", CONTACT, quiet)
    assert [Path(file).name for file in found["files"]] == [file_name_of(one) for one in both]


def test_whoever_submits_an_interpolation_may_do_so_in_the_fixed_track(tmp_path):
    one = submission_of(stored_run(tmp_path), Declaration("lab@example.org", "fixed", rehearse=False), quiet)
    assert one.track == "fixed"


@pytest.mark.parametrize(
    ("changes", "declared", "sentence"),
    [
        ({"protocol_hash": "0" * 64}, CONTACT, "another kspace-2x2x1"),
        ({"weights_sha256": "0" * 64}, CONTACT, "are not here"),
        ({"resolved": "no_such_method"}, CONTACT, "no method called"),
        ({"environments": []}, CONTACT, "does not say its environments"),
        ({"dataset": "../../etc"}, CONTACT, "dataset"),
        ({}, Declaration("lab@example.org", "closed", rehearse=False), "'fixed' or 'open'"),
        ({}, Declaration("lab at example", rehearse=False), "neither a mail address nor"),
        ({}, Declaration("lab@example.org", source="javascript:alert(1)", rehearse=False), "no https:// address"),
        ({}, Declaration("lab@example.org", licence="<b>", rehearse=False), "licence"),
        ({}, Declaration("lab@example.org", commit="main", rehearse=False), "commit"),
    ],
)
def test_what_cannot_be_submitted_is_refused_with_a_sentence(tmp_path, changes, declared, sentence):
    run = stored_run(tmp_path, **changes)
    with pytest.raises(UserError, match=sentence) as refused:
        submit([run], tmp_path / "submission.json", declared, quiet)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "submission.json").exists()


def test_other_weights_than_the_runs_are_refused(tmp_path):
    folder = shipped_folders()["mdcsrn/mdcsrn_b4u4--kspace-2x2x1"]
    run = stored_run(tmp_path, "mdcsrn_b4u4", weights="0" * 64)
    with pytest.raises(UserError, match="are not the weights"):
        submission_of(run, Declaration("lab@example.org", weights=folder, rehearse=False), quiet)


def test_a_network_trained_elsewhere_does_not_enter_the_fixed_track(tmp_path):
    sha256 = sha256_of_file(shipped_folders()["mdcsrn/mdcsrn_b4u4--kspace-2x2x1"] / MODEL)
    run = stored_run(tmp_path, "mdcsrn_b4u4", weights=sha256)
    with pytest.raises(UserError, match="not of the fixed track: it was trained on"):
        submission_of(run, Declaration("lab@example.org", "fixed", rehearse=False), quiet)


def test_the_maintainers_are_a_contact_for_their_own_methods_alone(tmp_path):
    ours = Declaration("maintainers", rehearse=False)
    assert submission_of(stored_run(tmp_path), ours, quiet).contact == "maintainers"
    folder = tmp_path / "mine"
    folder.mkdir()
    shipped = shipped_folders()["mdcsrn/mdcsrn_b4u4--kspace-2x2x1"]
    assert submission_of(stored_run(tmp_path, "mdcsrn_b4u4", weights=sha256_of_file(shipped / MODEL)), ours, quiet)
    tensors, config = load_file(shipped / MODEL), json.loads((shipped / "config.json").read_text())
    first = sorted(tensors)[0]
    tensors[first] = tensors[first] + 1
    save_file(tensors, folder / MODEL, metadata={"mrsr_bench": json.dumps(config)})
    run = stored_run(tmp_path, "mdcsrn_b4u4", weights=sha256_of_file(folder / MODEL))
    with pytest.raises(UserError, match=r"maintainers are no contact for it: no weights .* ship .* --contact"):
        submission_of(run, Declaration("maintainers", weights=folder, rehearse=False), quiet)


def test_weights_that_ship_are_told_by_what_they_are_and_not_by_where_they_lie(tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(shipped_folders()["mdcsrn/mdcsrn_b4u4--kspace-2x2x1"], folder)
    run = stored_run(tmp_path, "mdcsrn_b4u4", weights=sha256_of_file(folder / MODEL))
    one = submission_of(run, Declaration("lab@example.org", weights=folder, rehearse=False), quiet)
    assert one.weights.shipped


def weights_of(folder, **trained):
    """A folder of weights with this said of their training."""
    shipped = shipped_folders()["mdcsrn/mdcsrn_b4u4--kspace-2x2x1"]
    config = json.loads((shipped / "config.json").read_text())
    config["trained"] = {"dataset": "heads", "terms": "CC0", "train_subjects": ["t1"], "seconds": 3600, **trained}
    folder.mkdir(parents=True)
    save_file(load_file(shipped / MODEL), folder / MODEL, metadata={"mrsr_bench": json.dumps(config)})
    (folder / "config.json").write_text(json.dumps(config))
    return sha256_of_file(folder / MODEL)


def training_of(tmp_path, folder, **declared):
    run = stored_run(tmp_path, "mdcsrn_b4u4", weights=sha256_of_file(folder / MODEL))
    declaration = Declaration("lab@example.org", weights=folder, rehearse=False, **declared)
    return submission_of(run, declaration, quiet).training


def test_terms_that_were_found_wanting_later_are_told_too(tmp_path):
    weights_of(tmp_path / "mine")
    config = json.loads((tmp_path / "mine/config.json").read_text()) | {"further_terms": "a knee (CC BY)"}
    (tmp_path / "mine/config.json").write_text(json.dumps(config))
    assert training_of(tmp_path, tmp_path / "mine").terms == "CC0; a knee (CC BY)"


def test_weights_learnt_what_those_had_learnt_that_they_began_from(tmp_path, monkeypatch):
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path / "home"))
    store = tmp_path / "home/weights"
    first = weights_of(store / "mdcsrn_b4u4--first", train_subjects=["t0"], val_subjects=["v0"])
    weights_of(tmp_path / "mine", parent_sha256=first)
    training = training_of(tmp_path, tmp_path / "mine")
    assert (training.train_subjects, training.val_subjects, training.hours) == (["t1", "t0"], ["v0"], 2.0)
    assert training.other_data is None
    elsewhere = weights_of(store / "mdcsrn_b4u4--other", dataset="knees", train_subjects=["k"])
    weights_of(tmp_path / "knees", parent_sha256=elsewhere)
    training = training_of(tmp_path, tmp_path / "knees", other_data="an atlas")
    assert (training.train_subjects, training.other_data) == (["t1"], "an atlas; knees")


def test_what_is_not_known_of_a_training_is_said(tmp_path):
    weights_of(tmp_path / "lost", parent_sha256="d" * 64)
    training = training_of(tmp_path, tmp_path / "lost")
    assert training.hours is None
    assert "dddddddddddddddd" in training.other_data
    weights_of(tmp_path / "judged", perceptual={"gan": {"backbone": "vgg19", "origin": "file"}})
    assert "vgg19" in training_of(tmp_path, tmp_path / "judged").other_data
    weights_of(tmp_path / "drawn", perceptual={"gan": {"backbone": "vgg19", "origin": "random"}})
    assert training_of(tmp_path, tmp_path / "drawn").other_data is None


def test_one_run_named_twice_is_refused(tmp_path):
    run = stored_run(tmp_path)
    with pytest.raises(UserError, match="same run"):
        submit([run, run], tmp_path / "submission.json", CONTACT, quiet)


def test_the_command_says_where_the_file_is(tmp_path, capsys):
    run = stored_run(tmp_path)
    words = ["submit", str(run), "-o", str(tmp_path / "s.json"), "--contact", "https://example.org/me"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--no-rehearse", "--json"])
    assert stopped.value.code == 0
    assert json.loads(capsys.readouterr().out)["files"] == [str(tmp_path / "s.json")]


@pytest.mark.parametrize(
    ("given", "kept"),
    [("a < b & c", "a b c"), ("=1+1", "1+1"), ("-", "none"), ("x\u202ey\n z", "x y z"), ("a" * 2000, "a" * 1000)],
)
def test_our_own_text_is_made_fit_for_a_submission(given, kept):
    assert plain_text(given) == kept
