"""Perceptual losses against features taken another way, and where their parameters come from."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mrsr_bench import UserError
from mrsr_bench.zoo import perceptual
from mrsr_bench.zoo.perceptual import PerceptualLoss, SegmentationPerceptual, build_perceptual
from mrsr_bench.zoo.recipe import Perceptual

WEIGHTS = Path(__file__).resolve().parents[2].parent / "shared" / "weights"
VGG_HEAD = [(0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256)]
"""timm's index, input and output channels of conv1_1, conv1_2, conv2_1, conv2_2, conv3_1 of VGG19."""


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def perceptual_loss(weights=None, batch=16, seed=0, **settings):
    return PerceptualLoss(Perceptual(**settings), weights, batch=batch, seed=seed)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_args, **_kwargs: None)


@pytest.fixture
def vgg_file(tmp_path):
    """Random parameters of VGG19 up to conv2_1, under timm's names."""
    tensors = {}
    for index, entry, out in VGG_HEAD[:3]:
        tensors[f"features.{index}.weight"] = 0.1 * (drawn(out, entry, 3, 3, seed=index) - 0.4)
        tensors[f"features.{index}.bias"] = 0.1 * drawn(out, seed=index + 1)
    save_file(tensors, str(tmp_path / "vgg.safetensors"), metadata={"source": "drawn"})
    return tmp_path / "vgg.safetensors"


def plain_features(images, tensors, until):
    """VGG19's features before the ReLU of the ``until``-th convolution, written out with functional calls."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (torch.cat([images] * 3, dim=1) - mean[:, None, None]) / std[:, None, None]
    for number, (index, _, _) in enumerate(VGG_HEAD[:until]):
        if number > 0:
            x = torch.relu(x)
        if index in (5, 10):
            x = nn.functional.max_pool2d(x, 2)
        x = nn.functional.conv2d(x, tensors[f"features.{index}.weight"], tensors[f"features.{index}.bias"], padding=1)
    return x


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize(("layer", "until"), [("conv1_1", 1), ("conv1_2", 2), ("conv2_1", 3)])
def test_features_are_vggs_at_the_layer(vgg_file, layer, until, activated):
    loss = perceptual_loss(layer=layer, weights=vgg_file, activated=activated)
    images = drawn(2, 1, 9, 8)
    wanted = plain_features(images, load_file(vgg_file), until)
    torch.testing.assert_close(loss.features(images), wanted.relu() if activated else wanted, rtol=1e-4, atol=1e-5)


def test_the_loss_and_its_gradient_are_autograds_whatever_the_batch(vgg_file):
    tensors, peak = load_file(vgg_file), torch.tensor([2.0, 0.5, 1.0])
    sr, hr = drawn(3, 1, 8, 10).requires_grad_(True), drawn(3, 1, 8, 10, seed=1)
    scaled = [plain_features(x / peak[:, None, None, None], tensors, 3) for x in (sr, hr)]
    wanted = (scaled[0] - scaled[1]).square().mean()
    (gradient,) = torch.autograd.grad(3 * wanted, sr)
    for batch in (1, 2, 16):
        got = perceptual_loss(layer="conv2_1", weights=vgg_file, batch=batch)(sr, hr, peak)
        assert got.item() == pytest.approx(wanted.item(), rel=1e-4)
        torch.testing.assert_close(torch.autograd.grad(3 * got, sr)[0], gradient, rtol=1e-3, atol=1e-7)


def test_a_volume_is_compared_in_every_slice_of_its_planes(vgg_file):
    sr, hr = drawn(2, 1, 5, 6, 4), drawn(2, 1, 5, 6, 4, seed=1)
    loss = perceptual_loss(layer="conv1_1", weights=vgg_file)
    by_plane = {}
    for plane, take in (
        ("sagittal", lambda v, i: v[:, :, i]),
        ("coronal", lambda v, i: v[:, :, :, i]),
        ("axial", lambda v, i: v[..., i]),
    ):
        depth = {"sagittal": 5, "coronal": 6, "axial": 4}[plane]
        by_plane[plane] = np.mean([loss(take(sr, i), take(hr, i)).item() for i in range(depth)])
        one = perceptual_loss(layer="conv1_1", weights=vgg_file, planes=[plane])
        assert one(sr, hr).item() == pytest.approx(by_plane[plane], rel=1e-4)
    assert loss(sr, hr).item() == pytest.approx(np.mean(list(by_plane.values())), rel=1e-4)


def test_a_subset_of_slices_moves_on_until_all_have_been_seen(vgg_file):
    loss = perceptual_loss(layer="conv1_1", weights=vgg_file, planes=["axial"], slices=2)
    hr = drawn(1, 1, 4, 4, 6)
    seen = set()
    for step in range(3):
        sr = hr.clone().requires_grad_(True)
        loss(sr + 0.1, hr, 1.0, step).backward()
        touched = torch.nonzero(sr.grad.abs().sum(dim=(0, 1, 2, 3))).flatten().tolist()
        assert len(touched) == 2
        seen |= set(touched)
    assert seen == set(range(6))


def test_small_slices_are_enlarged_to_the_declared_size(vgg_file):
    images = drawn(1, 1, 4, 6)
    enlarged = nn.functional.interpolate(images, size=(8, 12), mode="bilinear", align_corners=False)
    loss = perceptual_loss(layer="conv1_1", weights=vgg_file, resize=8)
    torch.testing.assert_close(loss.features(images), plain_features(enlarged, load_file(vgg_file), 1))
    assert loss.source["resize"] == 8


def test_slices_too_small_for_the_layer_are_refused(vgg_file):
    loss = perceptual_loss(layer="conv2_1", weights=vgg_file)
    with pytest.raises(UserError, match=r"1 x 9 pixels leaves nothing at conv2_1 of vgg19; set perceptual\.resize"):
        loss(drawn(1, 1, 1, 9), drawn(1, 1, 1, 9))


def test_the_features_are_frozen(vgg_file):
    loss = perceptual_loss(layer="conv1_1", weights=vgg_file).train()
    assert not loss.training
    assert not any(p.requires_grad for p in loss.parameters())
    sr = drawn(1, 1, 4, 4).requires_grad_(True)
    with torch.no_grad():
        assert not loss(sr, drawn(1, 1, 4, 4, seed=1)).requires_grad


def test_a_file_that_ends_early_gives_its_deepest_layer_and_says_so(vgg_file, capsys):
    loss = perceptual_loss(layer="conv5_4", weights=vgg_file)
    assert (loss.source["asked_layer"], loss.source["layer"], loss.source["origin"]) == ("conv5_4", "conv2_1", "file")
    assert loss.source["fallback"] is False
    assert len(loss.source["file_sha256"]) == 64
    assert loss.source["file_says"] == {"source": "drawn"}
    assert "ends before conv5_4; its deepest layer conv2_1 is used" in capsys.readouterr().err
    json.dumps(loss.source)


def test_the_file_at_hand_gives_conv3_1():
    path = WEIGHTS / "vgg19_conv1_1-conv3_1.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the repository")
    loss = perceptual_loss(weights=path)
    assert loss.source["layer"] == "conv3_1"
    images = drawn(1, 1, 16, 12)
    torch.testing.assert_close(loss.features(images), plain_features(images, load_file(path), 5), rtol=1e-4, atol=1e-4)


def test_offline_the_fallback_is_the_same_architecture_from_a_seed_and_loud(capsys):
    first, again, other = (perceptual_loss(backbone="vgg11", layer="conv2_1", seed=seed) for seed in (0, 0, 1))
    assert "FALLBACK" in capsys.readouterr().err
    assert first.source["fallback"] is True
    assert first.source["origin"] == "random"
    assert first.source["parameters_sha256"] == again.source["parameters_sha256"] != other.source["parameters_sha256"]
    weights = [m.weight.flatten(1) for m in first.modules() if isinstance(m, nn.Conv2d)]
    assert [w.shape for w in weights] == [(64, 27), (128, 576)]
    torch.testing.assert_close(weights[1] @ weights[1].T, 2 * torch.eye(128), rtol=1e-4, atol=1e-4)


def test_vgg19s_conv5_4_is_its_sixteenth_convolution(monkeypatch):
    monkeypatch.setattr(perceptual, "_orthogonal", lambda *_: None)
    loss = perceptual_loss(layer="conv5_4")
    convs = [m for m in loss.modules() if isinstance(m, nn.Conv2d)]
    assert (loss.source["layer"], loss.source["stride"], len(convs)) == ("conv5_4", 16, 16)
    assert list(loss.backbone)[-1] is convs[-1]
    assert sum(m.weight.numel() + m.bias.numel() for m in convs) == 20_024_384


def test_a_hub_file_is_used_and_named(vgg_file, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_args, **_kwargs: str(vgg_file))
    loss = perceptual_loss(layer="conv2_1")
    assert (loss.source["origin"], loss.source["hub"]) == ("hub", "timm/vgg19.tv_in1k")
    assert loss.source["fallback"] is False


@pytest.mark.parametrize("layer", ["layer1.0.conv2", "layer2"])
def test_any_timm_backbone_is_run_up_to_the_layer(layer, tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("resnet10t").eval()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(tmp_path / "resnet.safetensors"))
    caught = {}
    model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: caught.update(out=out))
    images = drawn(1, 1, 24, 24)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        model((images.expand(-1, 3, -1, -1) - mean[:, None, None]) / std[:, None, None])
    loss = perceptual_loss(backbone="resnet10t", layer=layer, weights=tmp_path / "resnet.safetensors")
    torch.testing.assert_close(loss.features(images), caught["out"], rtol=1e-4, atol=1e-5)
    assert loss.source["origin"] == "file"
    save_file({"nonsense": torch.zeros(1)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(UserError, match="does not make the backbone resnet10t"):
        perceptual_loss(backbone="resnet10t", layer=layer, weights=tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no layer 'layer9'"):
        perceptual_loss(backbone="resnet10t", layer="layer9", weights=tmp_path / "resnet.safetensors")


def test_names_that_do_not_exist_are_refused(vgg_file):
    with pytest.raises(UserError, match=r"no timm backbone called 'vgg91'; did you mean .*vgg19"):
        perceptual_loss(backbone="vgg91")
    with pytest.raises(UserError, match="vgg19 has no layer 'conv6_1'; it has conv1_1, conv1_2"):
        perceptual_loss(layer="conv6_1", weights=vgg_file)


@pytest.mark.parametrize("kind", ["missing", "pickle", "truncated", "nan", "foreign"])
def test_bad_files_give_one_sentence(kind, vgg_file, tmp_path):
    path = tmp_path / ("bad.pth" if kind == "pickle" else "bad.safetensors")
    tensors = load_file(vgg_file)
    if kind == "pickle":
        torch.save(tensors, path)
    elif kind == "truncated":
        path.write_bytes(vgg_file.read_bytes()[:-1000])
    elif kind == "nan":
        tensors["features.0.bias"][3] = torch.nan
        save_file(tensors, str(path))
    elif kind == "foreign":
        save_file({"stem.weight": torch.zeros(3)}, str(path))
    sentence = {
        "missing": "no such file of perceptual weights",
        "pickle": r"expected a \.safetensors file",
        "truncated": "is not a readable safetensors file",
        "nan": "features.0.bias holds NaN",
        "foreign": "holds no parameters of vgg19",
    }[kind]
    with pytest.raises(UserError, match=sentence) as caught:
        perceptual_loss(weights=path)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------- 3D by nature


@pytest.fixture
def meshnet_file(tmp_path):
    tensors = {}
    for index, (entry, dilation) in enumerate([(1, 1), (3, 2)]):
        tensors[f"{index}.weight"] = drawn(3, entry, 3, 3, 3, seed=dilation) - 0.5
        tensors[f"{index}.bias"] = drawn(3, seed=index)
    arch = [{"conv": i, "out": 3, "k": [3] * 3, "d": [d] * 3} for i, d in enumerate((1, 2))] + [{"Activation": "elu"}]
    save_file(tensors, str(tmp_path / "mesh.safetensors"), metadata={"arch": json.dumps(arch)})
    return tmp_path / "mesh.safetensors"


def test_segmentation_features_are_the_dilated_convolutions(meshnet_file):
    loss = build_perceptual(Perceptual(backbone="meshnet", layer="conv1"), meshnet_file)
    assert isinstance(loss, SegmentationPerceptual)
    tensors = load_file(meshnet_file)
    sr, hr = drawn(2, 1, 6, 7, 8).requires_grad_(True), drawn(2, 1, 6, 7, 8, seed=1)

    def plain(x):
        for index, dilation in ((0, 1), (1, 2)):
            weight, bias = tensors[f"{index}.weight"], tensors[f"{index}.bias"]
            x = nn.functional.elu(nn.functional.conv3d(x, weight, bias, padding=dilation, dilation=dilation))
        return x

    wanted = (plain(sr / 2) - plain(hr / 2)).square().mean()
    got = loss(sr, hr, 2.0)
    assert got.item() == pytest.approx(wanted.item(), rel=1e-4)
    torch.testing.assert_close(
        torch.autograd.grad(got, sr)[0], torch.autograd.grad(wanted, sr)[0], rtol=1e-3, atol=1e-8
    )


def test_a_segmentation_network_must_be_named_and_be_one(meshnet_file, vgg_file):
    with pytest.raises(UserError, match="--perceptual-weights"):
        build_perceptual(Perceptual(backbone="meshnet", layer="conv1"))
    for path, layer in ((vgg_file, "conv1"), (meshnet_file, "conv7")):
        with pytest.raises(UserError, match="no MeshNet with a layer"):
            SegmentationPerceptual(path, layer)


def test_a_recipes_settings_reach_the_loss(vgg_file):
    settings = Perceptual(layer="conv1_2", activated=True, planes=("coronal",), slices=3, resize=12)
    source = build_perceptual(settings, vgg_file).source
    assert {k: source[k] for k in ("layer", "activated", "planes", "slices", "resize")} == {
        "layer": "conv1_2",
        "activated": True,
        "planes": ["coronal"],
        "slices": 3,
        "resize": 12,
    }
