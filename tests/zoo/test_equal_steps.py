"""Trainings read off after equal numbers of updates, from their logs alone."""

import json

import pytest

from mrsr_bench.zoo.equal_steps import main


def training(root, method, psnr, *, level=28.75, parent=None):
    """A folder as a training leaves it: validated after every 10 updates, and what its configuration says of that."""
    folder = root / method
    folder.mkdir()
    stage = {"name": "l1", "steps": 10 * len(psnr), "batch": 4, "patch": [8, 8, 8]}
    config = {
        "method": method,
        "tasks": [{"degradation": "kspace"}],
        "regrid": "zero_fill",
        "recipe": {"stages": [stage], "validation_patches": 16},
        "trained": {"val_subjects": ["v1"], "parent_sha256": parent},
        "validation": {"psnr_regrid": level},
    }
    records = [{"stage": "l1", "step": 10 * (i + 1) - 1, "val_psnr": value} for i, value in enumerate(psnr)]
    records += [{"stage": "gan", "step": 9, "val_psnr": 1.0}]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


def written(root, *folders, steps=(10, 20, 30)):
    main([*map(str, folders), "--steps", *map(str, steps), "--out", str(root / "page")])
    return (root / "page.md").read_text()


def rows(page):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "8 x 8" in line]


def test_values_stand_under_the_updates_they_were_taken_after(tmp_path):
    first = training(tmp_path, "small", [29.0, 29.5])
    second = training(tmp_path, "deep", [28.9, 29.25, 29.75], parent="1" * 64)
    page = written(tmp_path, first, second)
    assert rows(page) == [
        ["small", "4 x 8 x 8 x 8", "29.000", "29.500", "–", "20"],
        ["deep ‡", "4 x 8 x 8 x 8", "28.900", "29.250", "29.750", "30"],
    ]
    assert "28.750 dB for their zero_fill input" in page
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("spoil", ["other patches", "no log", "no training", "no validation"])
def test_what_cannot_be_compared_gives_a_sentence_and_no_page(tmp_path, capsys, spoil):
    first = training(tmp_path, "small", [29.0])
    second = training(tmp_path, "deep", [29.0], level=28.0 if spoil == "other patches" else 28.75)
    if spoil == "no log":
        (second / "log.jsonl").unlink()
    if spoil == "no training":
        (second / "config.json").write_text("[]")
    if spoil == "no validation":
        (second / "log.jsonl").write_text('{"stage": "l1", "step": 0, "loss": 1.0}\n')
    with pytest.raises(SystemExit) as stop:
        written(tmp_path, first, second)
    assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()
