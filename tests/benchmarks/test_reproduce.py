"""A table run again: ours beside the paper's, nothing dropped, every claim judged by the statistics or not at all."""

import json
import math
import re

import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks.claims import FAILS, HOLDS, UNKNOWN, Measured, judge_claims
from mrsr_bench.benchmarks.contrasts import contrasts_of, why_no_transfer
from mrsr_bench.benchmarks.metrics import metrics
from mrsr_bench.benchmarks.protocol import get_protocol, protocol_names
from mrsr_bench.benchmarks.reproduce import HR, Request, get_reproduction, reproduce, reproduction_names
from mrsr_bench.benchmarks.reproduction_tables import markdown
from mrsr_bench.zoo.method import MethodSpec
from mrsr_bench.zoo.methods import methods

NAMES = (
    *(f"mdcsrn-table{i}" for i in (1, 2, 3, 4)),
    *(f"soup-fig{i}" for i in (2, 5, 8)),
    "prostate-table1",
    "ixi-table1",
)
P = "kspace-2x2x1"


def test_every_table_and_figure_named_is_there():
    assert sorted(reproduction_names()) == sorted(NAMES)
    with pytest.raises(UserError, match="did you mean soup-fig2"):
        get_reproduction("soup-fig22")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_names_things_that_exist(name):
    table = get_reproduction(name)
    labels = {panel["protocol"]: panel["methods"] for panel in table["panels"]}
    assert set(labels) <= set(protocol_names())
    for models in labels.values():
        for model in models.values():
            assert model == HR or methods.get(model).name == model
    scored = [m for m in table["metrics"] if m not in ("seconds", "parameters")]
    assert set(scored) <= set(metrics.names())
    for protocol in labels:
        assert set(scored) <= set(get_protocol(protocol).metrics)
    for value in table["published"]:
        assert value["method"] in labels[value["protocol"]]
        assert set(value) - {"protocol", "method"} <= set(table["metrics"])


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_speaks_of_methods_and_metrics_of_its_table(name):
    table = get_reproduction(name)
    known = set(table["metrics"]) | {"seconds", "parameters"}
    for claim in table["claims"]:
        for check in claim["checks"]:
            for protocol in check.get("protocols") or [p["protocol"] for p in table["panels"]]:
                labels = next(p["methods"] for p in table["panels"] if p["protocol"] == protocol)
                than = check.get("than", [])
                named = [*check.get("methods", []), *([] if than == "others" else than)]
                named += [check[key] for key in ("method", "to") if key in check]
                assert set(named) <= set(labels)
            assert set(check.get("metrics", [])) <= known
            if check["is"] == "similar":
                assert set(check["metrics"]) <= set(table["margins"])


def test_only_the_values_that_are_public_are_published():
    published = {name: get_reproduction(name)["published"] for name in NAMES}
    assert {name for name, values in published.items() if values} == {"prostate-table1", "ixi-table1"}
    assert sorted(v["psnr_slice"] for v in published["prostate-table1"]) == [18.73, 21.27, 21.68, 25.72, 25.72, 29.51]
    assert sorted(v["ssim_slice"] for v in published["ixi-table1"]) == [0.9465, 0.9563]


# ------------------------------------------------------------------------------------------------------- claims


def measured(n=10, **by_label):
    """Methods a, b, ... whose psnr (or another metric, by ``label_metric``) is a function of the subject's number."""
    found = Measured()
    for label, of in by_label.items():
        name, _, metric = label.partition("_")
        found.values[(P, name, metric or "psnr")] = {f"s{i:02d}": of(i) for i in range(n)}
    return found


def verdict(claim, of, **options):
    labels = {P: sorted({label for _, label, _ in of.values} | {label for _, label in (*of.missing, *of.parameters)})}
    found = judge_claims([{"text": "t", "checks": [claim]}], of, labels, higher=frozenset({"psnr"}), **options)
    return found[0]["verdict"], found[0]["checks"][0]["because"]


BETTER = {"is": "better", "method": "a", "than": ["b"], "metrics": ["psnr"]}


def test_better_holds_where_it_is_significant():
    got, why = verdict(BETTER, measured(a=lambda i: 30 + i, b=lambda i: 29 + i))
    assert got == HOLDS
    assert "p = 0.002 (Holm over 1)" in why, "two-sided p of ten differences of one sign is 2 / 2**10"


def test_better_does_not_hold_the_other_way_round_or_without_a_difference():
    assert verdict(BETTER, measured(a=lambda i: 29 + i, b=lambda i: 30 + i))[0] == FAILS
    got, why = verdict(BETTER, measured(a=lambda i: 30 + (-1) ** i * 0.1 * (i + 1), b=lambda i: 30))
    assert (got, why.endswith("no significant difference")) == (FAILS, True)


def test_lower_is_better_of_times():
    faster = {**BETTER, "metrics": ["seconds"]}
    of = measured(a_seconds=lambda i: 1 + i / 100, b_seconds=lambda i: 2 + i / 100)
    assert verdict(faster, of)[0] == HOLDS
    of.machines = {(P, "a"): frozenset({"one"}), (P, "b"): frozenset({"another"})}
    got, why = verdict(faster, of)
    assert (got, "different machines" in why) == (UNKNOWN, True)


def test_nothing_is_said_under_eight_subjects():
    got, why = verdict(BETTER, measured(7, a=lambda i: 30, b=lambda i: 20))
    assert got == UNKNOWN
    assert "n = 7 is below 8" in why


def test_nothing_is_said_where_the_family_is_too_large_for_the_subjects():
    of = measured(8, a=lambda i: 30 + i / 10, **{f"b{k}": lambda i, k=k: 29 - k for k in range(7)})
    many = {**BETTER, "than": "others"}
    got, why = verdict(many, of)
    assert got == UNKNOWN, "seven tests of the smallest p that eight subjects can give, 2 / 2**8, are above 0.05"
    assert "cannot reach" in why


def test_a_missing_method_or_metric_is_named():
    of = measured(a=lambda i: 30)
    of.missing[(P, "b")] = "there are no weights of b here"
    assert verdict(BETTER, of) == (UNKNOWN, "b is missing: there are no weights of b here")
    of = measured(a=lambda i: 30, b=lambda i: None)
    of.reasons[(P, "b", "psnr")] = "no parameters"
    assert verdict(BETTER, of) == (UNKNOWN, "psnr of b: no parameters")


@pytest.mark.parametrize(
    ("apart", "expected"), [(lambda i: 0.01 * i, HOLDS), (lambda i: 5, FAILS), (lambda i: 0.35 * (-1) ** i, UNKNOWN)]
)
def test_similar_is_an_interval_within_the_margin_and_not_a_missing_star(apart, expected):
    check = {"is": "similar", "method": "a", "than": ["b"], "metrics": ["psnr"]}
    of = measured(a=lambda i: 30 + apart(i), b=lambda i: 30)
    assert verdict(check, of, margins={"psnr": 0.1})[0] == expected


@pytest.mark.parametrize(("ratio", "expected"), [(4.2, HOLDS), (2.0, FAILS), (9.0, FAILS)])
def test_about_four_times_as_fast(ratio, expected):
    check = {"is": "times", "method": "a", "than": ["b"], "about": 4}
    of = measured(a_seconds=lambda i: 1 + i / 50, b_seconds=lambda i: ratio * (1 + i / 50))
    got, why = verdict(check, of)
    assert got == expected
    assert f"{ratio:.3g} to {ratio:.3g} times" in why


def test_sizes_are_exact():
    of = Measured(parameters={(P, "a"): 850, (P, "b"): 1000, (P, "c"): 1040})
    claim = {"is": "smaller", "method": "a", "than": ["b"], "percent": 15, "tolerance": 1}
    assert verdict(claim, of)[0] == HOLDS
    assert verdict({**claim, "percent": 12}, of)[0] == FAILS
    assert verdict({"is": "smaller", "method": "b", "than": ["a"]}, of)[0] == FAILS
    assert verdict({"is": "same_size", "method": "b", "than": ["c"]}, of)[0] == HOLDS
    assert verdict({"is": "same_size", "method": "a", "than": ["c"]}, of)[0] == FAILS


def test_closer_compares_distances():
    of = measured(a=lambda i: 30 + i / 10, b=lambda i: 34 + i / 10, h=lambda i: 31)
    check = {"is": "closer", "method": "a", "than": ["b"], "to": "h", "metrics": ["psnr"]}
    assert verdict(check, of)[0] == HOLDS
    assert verdict({**check, "method": "b", "than": ["a"]}, of)[0] == FAILS


def test_one_metric_ranks_like_another():
    check = {"is": "ranks_like", "methods": ["a", "b"], "metric": "dice", "metrics": ["psnr"]}
    values = {"a": lambda i: 30 + i, "b": lambda i: 20 + i, "a_dice": lambda i: 0.9 + i / 100}
    labels, higher = {P: ["a", "b"]}, frozenset({"psnr", "dice"})
    for shift, expected in ((-0.1, HOLDS), (0.1, FAILS)):
        of = measured(**values, b_dice=lambda i, shift=shift: 0.9 + shift + i / 100)
        found = judge_claims([{"text": "t", "checks": [check]}], of, labels, higher=higher)
        assert found[0]["verdict"] == expected


def test_a_claim_fails_with_any_of_its_checks_and_is_open_with_any_other():
    of = measured(a=lambda i: 30 + i, b=lambda i: 29 + i)
    of.missing[(P, "c")] = "no weights"
    labels = {P: ["a", "b", "c"]}
    open_one, wrong = {**BETTER, "than": ["c"]}, {**BETTER, "method": "b", "than": ["a"]}
    for checks, expected in (([BETTER, open_one], UNKNOWN), ([wrong, open_one], FAILS), ([BETTER], HOLDS)):
        claim = {"text": "t", "checks": checks}
        assert judge_claims([claim], of, labels, higher=frozenset({"psnr"}))[0]["verdict"] == expected


# ---------------------------------------------------------------------------------------------------- whole tables


@pytest.fixture
def table_bench(bench):
    """The fakes under the names that the tables use; only some have weights."""
    known = dict(methods._components)
    for name in NAMES:
        for panel in get_reproduction(name)["panels"]:
            for model in panel["methods"].values():
                if model in ("cubic", "zero_fill", "linear", "nearest", HR):
                    kind = "interpolation"
                    spec = MethodSpec(name=model, kind=kind, summary="", paper="-", build="", parameters=0)
                else:
                    tasks = (panel["protocol"], *known[model].tasks) if model in known else (panel["protocol"],)
                    spec = MethodSpec(
                        name=model, kind="network", summary="", paper="-", build="", tasks=tasks, parameters=7
                    )
                if model != HR:
                    known[model] = spec
    methods._components = known
    return bench


def run(bench, name, **options):
    return reproduce(Request(name, "tiny", out=bench.out, device="cpu", **options))


def test_a_table_names_what_is_missing_and_drops_nothing(table_bench):
    table_bench.weights.update(mdcsrn_b4u4="w", mdcsrn_gan_b4u4="w")
    table_bench.behaviours.update(mdcsrn_gan_b4u4="nearest")
    found = run(table_bench, "mdcsrn-table2", subjects=2)
    (panel,) = found["panels"]
    rows = {row["label"]: row for row in panel["rows"]}
    assert list(rows) == list(get_reproduction("mdcsrn-table2")["panels"][0]["methods"])
    assert "no weights for mdcsrn2020" in rows["SRResNet"]["error"]
    assert math.isfinite(rows["mDCSRN b4u4"]["ours"]["psnr_slice"]["mean"])
    assert rows["mDCSRN b4u4"]["paper"] == dict.fromkeys(found["metrics"])
    assert {claim["verdict"] for claim in found["claims"] if "best" in claim["text"]} == {UNKNOWN}
    assert found["other_dataset"] is True
    page = markdown(found)
    assert "ANOTHER DATASET: ours is tiny, the paper's is hcp" in page
    assert "SRResNet missing" in page
    assert "the paper's value: the cells of the 2020 paper could not be obtained" in page
    stored = json.loads((table_bench.out / "reproductions" / "mdcsrn-table2--tiny.json").read_text(encoding="utf-8"))
    assert stored["panels"][0]["rows"][0]["ours"] == panel["rows"][0]["ours"]


def test_a_method_that_is_left_out_keeps_its_row_and_its_size(table_bench):
    table_bench.weights.update(mdcsrn_b4u4="w", fsrcnn3d="w")
    found = run(table_bench, "mdcsrn-table2", subjects=1, without=["fsrcnn3d"])
    rows = {row["model"]: row for row in found["panels"][0]["rows"]}
    assert rows["fsrcnn3d"]["error"] == "left out by --without"
    assert set(rows["fsrcnn3d"]["ours"]) == {"parameters"}
    assert "error" not in rows["mdcsrn_b4u4"]
    assert found["command"].endswith("--subjects 1 --without fsrcnn3d")
    assert "left out by --without" in markdown(found)


def test_hr_can_be_left_out_too(table_bench):
    found = run(table_bench, "mdcsrn-table3", subjects=1, without=["hr"])
    (row,) = (row for row in found["panels"][0]["rows"] if row["model"] == HR)
    assert (row["error"], row["ours"]) == ("left out by --without", {})


@pytest.mark.parametrize(
    ("without", "sentence"),
    [
        (["fsrcnn"], "there is no method of mdcsrn-table4 called 'fsrcnn'; did you mean fsrcnn3d"),
        (list(get_reproduction("mdcsrn-table4")["panels"][0]["methods"].values()), "leaves nothing"),
    ],
)
def test_what_cannot_be_left_out_is_refused_before_anything_runs(table_bench, without, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        run(table_bench, "mdcsrn-table4", without=without)
    assert not table_bench.acquired


def test_a_second_run_computes_nothing(table_bench):
    table_bench.weights.update(mdcsrn_b4u4="w")
    first = run(table_bench, "mdcsrn-table3", subjects=1)
    acquired = len(table_bench.acquired)
    again = run(table_bench, "mdcsrn-table3", subjects=1)
    assert len(table_bench.acquired) == acquired
    assert again["panels"][0]["rows"] == first["panels"][0]["rows"]
    hr = first["panels"][0]["rows"][0]
    assert (hr["label"], hr["ours"]["psnr_slice"]["reason"]) == ("HR", "HR is the reference itself")
    assert hr["ours"]["piqe"]["mean"] is not None or hr["ours"]["piqe"]["reason"]


def test_a_figure_runs_every_factor_with_its_own_methods(table_bench, monkeypatch):
    table_bench.weights.update(soup_multi="w", **{f"soup_single_{s}": "w" for s in range(2, 7)})
    small = {**get_reproduction("soup-fig2")}
    small["panels"] = small["panels"][:2]
    monkeypatch.setattr("mrsr_bench.benchmarks.reproduce.get_reproduction", lambda name: small)
    found = run(table_bench, "soup-fig2", subjects=1)
    assert [panel["protocol"] for panel in found["panels"]] == ["soup2022-thick-2", "soup2022-thick-3"]
    for panel in found["panels"]:
        rows = {row["label"]: row for row in panel["rows"]}
        assert rows["single-scale"]["model"].endswith(panel["protocol"][-1])
        assert rows["multi-scale"]["ours"]["rmse"]["mean"] > 0
        assert rows["SOUP-GAN"]["error"]
        assert rows["multi-scale"]["ours"]["rmse"]["stars"] == ""
        assert "one subject" in rows["multi-scale"]["ours"]["rmse"]["stars_reason"]
    assert found["dataset_of_the_paper"] == []
    assert "rmse is not over the region of psnr volume and ssim volume: it is over mask and hull" in markdown(found)


def test_training_is_passed_through(table_bench, monkeypatch):
    small = {**get_reproduction("mdcsrn-table2"), "claims": []}
    panel = {"protocol": "mdcsrn2020", "methods": {"cubic": "cubic", "b4u4": "mdcsrn_b4u4"}}
    monkeypatch.setattr("mrsr_bench.benchmarks.reproduce.get_reproduction", lambda name: {**small, "panels": [panel]})
    found = run(table_bench, "mdcsrn-table2", subjects=1, train=True)
    assert table_bench.trained == [("mdcsrn_b4u4", "tiny", "mdcsrn2020")]
    assert "error" not in found["panels"][0]["rows"][1]
    assert "not the paper's training" in markdown(found)


def test_without_the_papers_data_other_data_must_be_named(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("MRSR_BENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"mdcsrn-table2 cannot be run on the paper's data \(hcp: .*name other data"):
        reproduce(Request("mdcsrn-table2", out=tmp_path / "runs"))
    with pytest.raises(UserError, match="its data is not public"):
        reproduce(Request("soup-fig2", out=tmp_path / "runs"))


def test_a_figure_is_drawn_and_lies_beside_its_page(table_bench, monkeypatch, tmp_path):
    table_bench.weights.update(soup_multi="w")
    small = {**get_reproduction("soup-fig2")}
    small["panels"] = small["panels"][:2]
    monkeypatch.setattr("mrsr_bench.benchmarks.reproduce.get_reproduction", lambda name: small)
    found = run(table_bench, "soup-fig2", subjects=1, page=tmp_path / "docs")
    names = {path.name: path for path in (tmp_path / "docs").iterdir()}
    assert set(names) == {"soup-fig2--tiny.md", "soup-fig2--tiny.png"}
    assert {str(path) for path in names.values()} <= set(found["files"])
    page = names["soup-fig2--tiny.md"].read_text(encoding="utf-8")
    assert "(soup-fig2--tiny.png)" in page
    assert "mrsr-bench reproduce soup-fig2 --dataset PATH/tiny --subjects 1" in page
    assert "Weights of multi-scale were not trained by the paper's recipe" in page
    assert names["soup-fig2--tiny.png"].read_bytes()[1:4] == b"PNG"
    assert not (tmp_path / "docs" / "soup-fig2--tiny.json").exists()


def test_the_points_of_a_figure_are_the_means_of_its_table(table_bench, monkeypatch):
    from mrsr_bench.benchmarks.reports.drawing import LIGHT
    from mrsr_bench.benchmarks.reproduction_figure import _drawn

    table_bench.weights.update(soup_multi="w")
    small = {**get_reproduction("soup-fig2")}
    small["panels"] = small["panels"][:2]
    monkeypatch.setattr("mrsr_bench.benchmarks.reproduce.get_reproduction", lambda name: small)
    found = run(table_bench, "soup-fig2", subjects=1)
    axes = _drawn(found, [2.0, 3.0], LIGHT).axes[0]
    lines = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
    expected = [p["rows"][2]["ours"]["rmse"]["mean"] for p in found["panels"]]
    assert lines["multi-scale"] == pytest.approx(expected)
    assert lines["SOUP-GAN (missing)"] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_table_runs_on_the_phantom(name, tmp_path, monkeypatch):
    from mrsr_bench.benchmarks.datasets.phantom import PhantomDataset

    coarse = PhantomDataset("phantom_coarse", spacing=5.0, shape=(32, 40, 32))
    monkeypatch.setattr("mrsr_bench.benchmarks.datasets.open_dataset", lambda name, suffix=None: coarse)
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path / "home"))
    found = reproduce(Request(name, "phantom_coarse", subjects=1, device="cpu", out=tmp_path / "runs"))
    assert found["synthetic"] is True
    assert found["other_dataset"] is True
    ran = [row for panel in found["panels"] for row in panel["rows"] if "error" not in row]
    assert {panel["protocol"] for panel in found["panels"]} == {
        panel["protocol"] for panel in get_reproduction(name)["panels"]
    }
    assert all("there are no weights" in row["error"] for p in found["panels"] for row in p["rows"] if "error" in row)
    assert any(row["weights_sha256"] for row in ran), "some weights ship with the package"
    for row in ran:
        assert any(score["mean"] is not None for key, score in row["ours"].items() if key != "parameters"), row
    assert {claim["verdict"] for claim in found["claims"]} <= {HOLDS, FAILS, UNKNOWN}
    assert not [
        c for c in found["claims"] for check in c["checks"] if check["verdict"] == FAILS and "p =" in check["because"]
    ]
    page = markdown(found)
    assert "ANOTHER DATASET" in page
    assert "The phantom is synthetic" in page


def test_the_command_prints_the_table_and_its_claims(table_bench, monkeypatch, capsys):
    from mrsr_bench import cli

    panel = {"protocol": "mdcsrn2020", "methods": {"cubic": "cubic", "b8u4": "mdcsrn_b8u4"}}
    claim = {"text": "b8u4 above cubic", "checks": [{**BETTER, "method": "b8u4", "than": ["cubic"]}]}
    small = {**get_reproduction("mdcsrn-table2"), "panels": [panel], "claims": [claim]}
    monkeypatch.setattr("mrsr_bench.benchmarks.reproduce.get_reproduction", lambda name: small)
    words = ["reproduce", "mdcsrn-table2", "--dataset", "tiny", "--subjects", "1", "--out", str(table_bench.out)]
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    out = capsys.readouterr().out
    assert not stop.value.code
    assert "ANOTHER DATASET" in out
    assert "cannot be said: b8u4 above cubic" in out
    assert "there are no weights" in out or "no weights for mdcsrn2020" in out


def test_an_unknown_table_is_one_sentence(capsys):
    from mrsr_bench import cli

    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", "soup-fig3", "--dataset", "phantom_2mm"])
    assert stop.value.code == 2
    assert "there is no table or figure called 'soup-fig3'; did you mean" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- transfer


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("brain_t1_flair", {"T1w", "FLAIR"}),
        ("phantom_2mm_t2w", {"T2w"}),
        ("phantom_2mm", {"T1w"}),
        ("hcp", {"T1w"}),
        ("ixi_pd", {"PD"}),
        ("my-scans", set()),
    ],
)
def test_a_dataset_says_its_contrasts_by_its_name_or_summary(dataset, expected):
    assert contrasts_of(dataset) == expected


@pytest.mark.parametrize(
    ("trained", "dataset", "why"),
    [
        ("brain_t1_flair", "brain_flair", r"saw FLAIR in training \(brain_t1_flair\)"),
        ("brain_t1_flair", "my-scans", "nothing says which contrast my-scans has"),
        (None, "brain_flair", "do not say which contrast"),
        ("brain_t1_flair", "phantom_2mm_t2w", None),
    ],
)
def test_a_transfer_to_a_contrast_that_was_in_training_cannot_be_said(trained, dataset, why):
    reason = why_no_transfer({} if trained is None else {"dataset": trained}, dataset)
    assert (reason is None) == (why is None)
    assert why is None or re.search(why, reason)
    of = measured(a=lambda i: 30 + i, b=lambda i: 29 + i)
    if reason is not None:
        of.no_transfer[(P, "a")] = reason
    labels, higher = {P: ["a", "b"]}, frozenset({"psnr"})
    for transfer in (True, False):
        claim = {"text": "t", "transfer": transfer, "checks": [BETTER]}
        (found,) = judge_claims([claim], of, labels, higher=higher)
        assert found["verdict"] == (UNKNOWN if transfer and reason else HOLDS)
        assert (f"a: {reason}" in [check["because"] for check in found["checks"]]) == bool(transfer and reason)


def test_the_figure_of_transfer_warns_of_the_weights_that_ship(tmp_path, monkeypatch):
    from mrsr_bench.benchmarks.datasets.phantom import PhantomDataset

    flair = PhantomDataset("brain_flair", spacing=5.0, shape=(32, 40, 32))
    monkeypatch.setattr("mrsr_bench.benchmarks.datasets.open_dataset", lambda name, suffix=None: flair)
    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path / "home"))
    whole = get_reproduction("soup-fig8")
    (panel,) = [panel for panel in whole["panels"] if panel["protocol"].endswith("thick-4")]
    small = {**whole, "panels": [panel], "claims": whole["claims"][1:]}
    monkeypatch.setattr("mrsr_bench.benchmarks.reproduce.get_reproduction", lambda name: small)
    found = reproduce(Request("soup-fig8", "brain_flair", subjects=1, device="cpu", out=tmp_path / "runs"))
    (claim,) = found["claims"]
    assert claim["verdict"] == UNKNOWN
    assert all("saw FLAIR in training (brain_t1_flair)" in check["because"] for check in claim["checks"])
    page = markdown(found)
    assert "Weights of single-scale, multi-scale, SOUP-GAN saw FLAIR in training too (brain_t1_flair)" in page
    assert "saw T1w only" not in found["reading"].partition("The paper's networks")[0]
