"""The cost of networks: every walk can be measured, and figures are what they say."""

import json

import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks.throughput import adversarial, as_markdown, inference, main, networks, training
from mrsr_bench.zoo import players
from mrsr_bench.zoo.methods import methods


@pytest.mark.parametrize("name", ["mdcsrn_b1u2_k2", "gan_cpce", "srresnet2d_aniso_4x", "soup_multi"])
def test_a_network_of_every_walk_is_measured(name):
    spec = methods.get(name)
    given = inference(spec, (32, 32, 32), 1)
    assert given["voxels"] <= 32**3
    assert given["voxels_per_second"] == pytest.approx(given["voxels"] / given["seconds"])
    taught = training(spec, 1)
    assert taught["patches_per_second"] == pytest.approx(taught["batch"] / taught["seconds"])


@pytest.mark.parametrize(("name", "critics"), [("gan_circle", 2), ("mdcsrn_gan_b1u2_k2", 2), ("soup_gan", 1)])
def test_a_turn_holds_every_players_updates(name, critics, monkeypatch):
    moved = {"critic": 0, "network": 0}

    def counted(who, move):
        def moves(self, batch, step):
            moved[who] += 1
            return move(self, batch, step)

        return moves

    for kind in (players.Players, players.Adversaries, players.Cycle):
        for who in moved:
            if f"move_{who}" in vars(kind):
                monkeypatch.setattr(kind, f"move_{who}", counted(who, vars(kind)[f"move_{who}"]))
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    played = adversarial(methods.get(name), 1)
    assert played["critic_updates"] == critics
    assert moved == {"critic": 2 * critics, "network": 2}
    assert played["patches_per_second"] == pytest.approx((1 + critics) * played["batch"] / played["seconds"])


def test_a_recipe_without_a_critic_has_no_such_row():
    assert adversarial(methods.get("fsrcnn3d"), 1) is None


def test_without_names_every_network_with_a_recipe_is_meant():
    found = {spec.name for spec in networks()}
    assert {"fsrcnn3d", "srgan_through_plane", "soup_rrdb", "mdcsrn_gan_b4u4"} <= found
    assert not {"cubic", "mdcsrn", "soup_gan_official"} & found


@pytest.mark.parametrize("name", ["cubic", "mdcsrn", "soup_gan_official"])
def test_what_has_no_recipe_is_refused(name):
    with pytest.raises(UserError, match="no recipe to measure"):
        networks([name])


def test_the_command_prints_a_table_and_writes_json(tmp_path, capsys):
    path = tmp_path / "t.json"
    assert main(["--model", "mdcsrn_b1u2_k2", "--edge", "32", "--repetitions", "1", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert [row["name"] for row in report["rows"]] == ["mdcsrn_b1u2_k2"]
    assert as_markdown(report) in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["--model", "nothing"])
    assert caught.value.code == 2
