"""Training: exact resumption, honest logs, and what happens when it goes wrong."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from trainings import ADVERSARIAL, CYCLE, SUPERVISED, recipe, trainer, trainer_2d, volumes

from mrsr_bench import UserError
from mrsr_bench.zoo.inference import build_network
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.patches import PatchSampler
from mrsr_bench.zoo.trainer import Trainer, TrainingDivergedError


class KilledError(Exception):
    pass


def killed_after(one, steps):
    """Make the training die in the middle of its update number ``steps``, as a kill would."""
    count = {"left": steps}
    real = one._move

    def dying(*arguments):
        count["left"] -= 1
        if count["left"] < 0:
            raise KilledError
        return real(*arguments)

    one._move = dying
    return one


def final_weights(folder, stage):
    return torch.load(folder / f"best-{stage}.pt", weights_only=True)["network"]


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def without_time(found):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in found]


@pytest.mark.parametrize("kills", [[5], [13], [3, 6], [16, 5]])
def test_killed_and_resumed_ends_with_the_same_bits(tmp_path, kills):
    stages = (SUPERVISED, ADVERSARIAL)
    trainer(tmp_path / "whole", stages).run()
    for steps in kills:
        with pytest.raises(KilledError):
            killed_after(trainer(tmp_path / "killed", stages, checkpoint_seconds=0), steps).run()
    resumed = trainer(tmp_path / "killed", stages, checkpoint_seconds=0)
    resumed.run()
    for stage in ("l1", "gan"):
        whole, again = (final_weights(tmp_path / f, stage) for f in ("whole", "killed"))
        assert all(torch.equal(whole[k], again[k]) for k in whole), stage
    assert without_time(records(tmp_path / "whole")) == without_time(records(tmp_path / "killed"))


def dies_at(monkeypatch, owner, name, call):
    """Make call number ``call`` of ``owner.name`` die, before it has done anything."""
    real, count = getattr(owner, name), {"left": call}

    def dying(*arguments, **more):
        count["left"] -= 1
        if count["left"] == 0:
            raise KilledError
        return real(*arguments, **more)

    monkeypatch.setattr(owner, name, dying)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Both stages, left alone."""
    folder = tmp_path_factory.mktemp("whole")
    trainer(folder, (SUPERVISED, ADVERSARIAL)).run()
    return folder


@pytest.mark.parametrize(
    ("step", "call"),
    [
        ("torch.save", 1),
        ("torch.save", 6),
        ("shutil.copyfile", 1),
        ("shutil.copyfile", 5),
        ("Path.rename", 1),
        ("Path.rename", 7),
        ("Path.replace", 2),
        ("shutil.rmtree", 1),
        ("shutil.rmtree", 9),
    ],
)
def test_a_kill_while_a_checkpoint_is_written_loses_nothing(tmp_path, whole, step, call):
    """Whatever write, copy, rename or removal it dies in, the resumed training ends with the same bits."""
    owner, name = step.split(".")
    stages = (SUPERVISED, ADVERSARIAL)
    with pytest.MonkeyPatch.context() as patch:
        dies_at(patch, {"torch": torch, "shutil": shutil, "Path": Path}[owner], name, call)
        with pytest.raises(KilledError):
            trainer(tmp_path, stages, checkpoint_seconds=0).run()
    trainer(tmp_path, stages, checkpoint_seconds=0).run()
    for stage in ("l1", "gan"):
        left_alone, again = final_weights(whole, stage), final_weights(tmp_path, stage)
        assert all(torch.equal(left_alone[k], again[k]) for k in left_alone), stage
    assert without_time(records(whole)) == without_time(records(tmp_path))


def test_a_kill_between_checkpoints_goes_back_to_the_last_one(tmp_path):
    trainer(tmp_path / "whole", (SUPERVISED,)).run()
    first = killed_after(trainer(tmp_path / "killed", (SUPERVISED,), checkpoint_seconds=1e9), 9)
    with pytest.raises(KilledError):
        first.run()
    resumed = trainer(tmp_path / "killed", (SUPERVISED,))
    resumed.run()
    whole, again = (final_weights(tmp_path / f, "l1") for f in ("whole", "killed"))
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    assert without_time(records(tmp_path / "whole")) == without_time(records(tmp_path / "killed"))


def test_a_half_written_checkpoint_is_never_read(tmp_path):
    stages = (SUPERVISED,)
    with pytest.raises(KilledError):
        killed_after(trainer(tmp_path, stages, checkpoint_seconds=0), 6).run()
    partial = tmp_path / "checkpoint-00-000000099.partial"
    partial.mkdir()
    (partial / "state.pt").write_bytes(b"half")
    trainer(tmp_path, stages).run()
    assert records(tmp_path)[-1]["step"] == 11


def test_a_finished_training_is_not_trained_again(tmp_path):
    trainer(tmp_path, (SUPERVISED,)).run()
    before = records(tmp_path)
    killed_after(trainer(tmp_path, (SUPERVISED,)), 0).run()
    assert records(tmp_path) == before


def test_fresh_starts_anew_and_another_training_is_refused(tmp_path):
    trainer(tmp_path, (SUPERVISED,)).run()
    with pytest.raises(UserError, match=r"another recipe, data set or seed.*--fresh"):
        trainer(tmp_path, (SUPERVISED,), seed=1).run()
    trainer(tmp_path, (SUPERVISED,), seed=1).run(fresh=True)
    assert len([r for r in records(tmp_path) if "loss" in r]) == 12


def test_nan_stops_with_a_sentence_and_keeps_the_last_checkpoint(tmp_path):
    good = trainer(tmp_path, (SUPERVISED,), checkpoint_seconds=0)
    real = good._move

    def poisoned(*arguments):
        record = real(*arguments)
        return {**record, "loss": float("nan")} if good.progress.step == 7 else record

    good._move = poisoned
    with pytest.raises(TrainingDivergedError, match=r"NaN or infinite in stage l1 at step 7") as caught:
        good.run()
    assert "\n" not in str(caught.value)
    kept = sorted(p.name for p in tmp_path.glob("checkpoint-*"))
    assert kept[-1] == "checkpoint-00-000000007"
    assert torch.load(tmp_path / kept[-1] / "state.pt", weights_only=True)["progress"]["step"] == 7


def test_nan_in_the_data_stops_the_training(tmp_path):
    with pytest.raises(TrainingDivergedError):
        trainer(tmp_path, (SUPERVISED,), bad=True).run()


def test_the_log_tells_loss_rate_and_validation_against_the_input(tmp_path):
    trainer(tmp_path, (SUPERVISED,)).run()
    found = records(tmp_path)
    assert [r["step"] for r in found if "loss" in r] == list(range(12))
    validations = [r for r in found if "val_psnr" in r]
    assert [r["step"] for r in validations] == [3, 7, 11]
    assert all(r["val_baseline_psnr"] == validations[0]["val_baseline_psnr"] for r in validations)
    assert found[0]["lr"] == pytest.approx(5e-4)
    assert list((tmp_path / "tensorboard").iterdir())


def test_validation_picks_the_best_step(tmp_path):
    trainer(tmp_path, (SUPERVISED,)).run()
    validations = [r for r in records(tmp_path) if "val_psnr" in r]
    best = torch.load(tmp_path / "best-l1.pt", weights_only=True)
    assert best["val_psnr"] == pytest.approx(max(r["val_psnr"] for r in validations), abs=1e-3)


def test_the_second_stage_starts_from_the_first_ones_best(tmp_path):
    one = trainer(tmp_path, (SUPERVISED, {**ADVERSARIAL, "generator": {"lr": 1e-12}}))
    one.run()
    first, second = (final_weights(tmp_path, s) for s in ("l1", "gan"))
    for name in first:
        if name.endswith(("weight", "bias")):
            torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=0)


def test_the_critic_moves_as_the_game_says(tmp_path):
    trainer(tmp_path, (SUPERVISED, ADVERSARIAL)).run()
    turns = "".join(r["turn"] for r in records(tmp_path) if r["stage"] == "gan" and "turn" in r)
    assert turns == "ddd" + "ddg" + "ddg" + "d" + "ddg" + "ddg"


@pytest.mark.parametrize("kill", [1, 4])
def test_a_cycle_is_resumed_with_the_same_bits(tmp_path, kill):
    trainer_2d(tmp_path / "whole", (CYCLE,)).run()
    with pytest.raises(KilledError):
        killed_after(trainer_2d(tmp_path / "killed", (CYCLE,)), kill).run()
    trainer_2d(tmp_path / "killed", (CYCLE,)).run()
    whole, again = (final_weights(tmp_path / f, "cycle") for f in ("whole", "killed"))
    assert all(torch.equal(whole[k], again[k]) for k in whole)
    found = records(tmp_path / "whole")
    assert without_time(found) == without_time(records(tmp_path / "killed"))
    assert {"adversarial", "cycle", "identity", "joint_sparsifying", "l1"} <= set(next(r for r in found if "loss" in r))
    assert any("em_distance_of_lr" in r for r in found)


def test_the_network_back_to_lr_learns_from_pairs_while_the_critics_warm_up(tmp_path):
    stage = {**CYCLE, "game": {**CYCLE["game"], "warmup": 30}, "steps": 1, "back": {"lr": 1e-3}}
    one = trainer_2d(tmp_path, (stage,))
    before = {key: value.clone() for key, value in one.network.state_dict().items()}
    errors, real = [], one._move

    def watched(players, turn, batch):
        if turn == "d":
            errors.append(float((players.back(batch.hr) - batch.lr).detach().abs().mean()))
            assert all(torch.equal(before[key], value) for key, value in one.network.state_dict().items())
        return real(players, turn, batch)

    one._move = watched
    one.run()
    assert np.mean(errors[25:30]) < 0.7 * np.mean(errors[:5])
    rows = [r for r in records(tmp_path) if r.get("turn") == "d"]
    assert "l1_of_lr" in rows[0]
    assert "l1_of_lr" not in rows[30], "after the warm-up it moves with the network"


def test_an_unpaired_cycle_sees_lr_and_hr_of_different_places(tmp_path):
    unpaired = {**CYCLE, "paired": False, "losses": {"adversarial": 1.0, "cycle": 1.0, "identity": 0.5}}
    seen = []
    one = trainer_2d(tmp_path, ({**unpaired, "patch": [32, 32, 1], "steps": 1},))
    real = one._move
    one._move = lambda players, turn, batch: seen.append(batch) or real(players, turn, batch)
    one.run()
    paired = trainer_2d(tmp_path / "paired", ({**CYCLE, "steps": 1},))
    assert seen
    apart = [float((batch.lr - batch.hr).abs().mean()) for batch in seen]
    sampler = PatchSampler(paired.train, (32, 32, 1), 2, 0, (), dims=2)
    assert min(apart) > float((sampler.get(0).lr - sampler.get(0).hr).abs().mean())


def test_a_plateau_divides_the_rate_and_ends_the_stage(tmp_path):
    plateau = {
        **SUPERVISED,
        "steps": 400,
        "validate_every": 2,
        "generator": {"lr": 1e-12, "schedule": "plateau", "patience": 2, "cycles": 3, "divide": 10},
        "ema": 0.0,
    }
    trainer(tmp_path, (plateau,)).run()
    rates = [r["lr"] for r in records(tmp_path) if "lr" in r]
    assert len(rates) < 400
    assert sorted({float(f"{rate:.1e}") for rate in rates}, reverse=True) == pytest.approx([1e-12, 1e-13, 1e-14])


def test_training_lowers_the_loss(tmp_path):
    trainer(tmp_path, ({**SUPERVISED, "steps": 60, "validate_every": 60},)).run()
    found = [r for r in records(tmp_path) if "val_psnr" in r]
    assert found[-1]["val_psnr"] > found[-1]["val_baseline_psnr"]


def test_the_same_seed_trains_the_same_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        trainer(tmp_path / name, (SUPERVISED,), seed=seed).run()
    a, b, c = (final_weights(tmp_path / n, "l1") for n in "abc")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


DDP_SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = [{tests!r}, {helpers!r}]
import test_trainer
one = test_trainer.{maker}(Path({folder!r}), ({{**test_trainer.SUPERVISED, "ema": 0.0}},))
assert one.accelerator.num_processes == 2
one.run()
"""


def trainer_of_factors(folder, stages):
    """A network of which every factor uses a part; the volumes take turns at two factors."""
    spec = methods.get("soup_multi")
    chosen = recipe(*stages)
    data = [dataclasses.replace(one, factor=float(2 + 2 * at)) for at, one in enumerate(volumes())]
    identity = {"recipe": chosen.model_dump(mode="json")}
    return Trainer(build_network(spec, {}), chosen, data, data[:1], folder, identity=identity, spec=spec)


@pytest.mark.slow
@pytest.mark.parametrize("maker", ["trainer", "trainer_of_factors"])
def test_two_processes_train_together(tmp_path, maker):
    import os
    import subprocess
    import sys

    script = tmp_path / "ddp.py"
    here = Path(__file__).parent
    places = {"tests": str(here), "helpers": str(here.parent / "helpers"), "folder": str(tmp_path / "ddp")}
    script.write_text(DDP_SCRIPT.format(**places, maker=maker))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [r["step"] for r in records(tmp_path / "ddp") if "loss" in r] == list(range(12))
    weights = final_weights(tmp_path / "ddp", "l1")
    assert all(torch.isfinite(v).all() for v in weights.values())
