"""Perceptual losses: mean squared differences of a frozen network's features, of SR and of HR.

``source`` records which features are compared and where their parameters came from: an explicit file, timm's entry on
the Hugging Face Hub, or, where that cannot be had, the same architecture with seeded random parameters.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, interpolate, relu

from mrsr_bench import UserError

if TYPE_CHECKING:
    from mrsr_bench.zoo.recipe import Perceptual

HUB_FILE = "model.safetensors"
SLICE_AXES = {"sagittal": 2, "coronal": 3, "axial": 4}
"""The axis of (n, 1, R, A, S) along which slices of a plane lie."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _compared(sr: Tensor, hr: Tensor, features: Callable[[Tensor], Tensor], batch: int) -> Tensor:
    """Mean squared difference of ``features`` over (m, 1, ...), ``batch`` images at a time.

    The gradient with respect to SR is taken batch by batch on the way, so memory holds the activations of one batch;
    the second derivative is not to be had.
    """
    wanted = torch.is_grad_enabled() and sr.requires_grad
    total, gradients = torch.zeros((), device=sr.device), []
    for start in range(0, len(sr), batch):
        part = sr[start : start + batch].detach().requires_grad_(wanted)
        with torch.no_grad():
            target = features(hr[start : start + batch]).float()
        with torch.set_grad_enabled(wanted):
            value = (features(part).float() - target).pow(2).mean() * (len(part) / len(sr))
        if wanted:
            gradients.append(torch.autograd.grad(value, part)[0])
        total = total + value.detach()
    if not wanted:
        return total
    return total + (torch.cat(gradients) * (sr - sr.detach())).sum()


def _scaled(images: Tensor, peak: float | Tensor) -> Tensor:
    """``images`` (n, 1, ...) in units of ``peak``: one number, or one per image."""
    if isinstance(peak, Tensor):
        peak = peak.to(images.device).reshape(-1, *[1] * (images.dim() - 1))
    return images.float() / peak


class PerceptualLoss(nn.Module):
    """Mean squared difference of a frozen 2D backbone's features, on slices (n, 1, h, w) or volumes (n, 1, r, a, s).

    ``settings.layer`` is ``convB_I`` (VGG: convolution I of block B, before its ReLU unless ``activated``) or the name
    of a module of any timm backbone. Volumes are compared in every slice of ``planes``, or in ``slices`` of each plane,
    evenly spaced and moving on with the step. Slices whose shorter edge is under ``resize`` pixels are enlarged to it
    (bilinear). A slice becomes three equal channels, divided by the caller's ``peak`` and normalised as ImageNet was.

    ``weights`` is a safetensors file with timm's names. It may stop early: then the deepest VGG convolution it holds is
    used. Without it timm's file from the Hub is, and where that cannot be had, the same architecture with orthogonal
    parameters from ``seed``. ``batch`` slices are compared at a time. ``source`` says what was used.

    Raises:
        UserError: the backbone or layer is unknown, or the file is unreadable or of another network.
    """

    def __init__(self, settings: Perceptual, weights: Path | None = None, *, batch: int = 16, seed: int = 0) -> None:
        super().__init__()
        self.settings, self.batch = settings, batch
        self.backbone, self.source = _backbone(settings.backbone, settings.layer, weights, seed)
        self.source |= settings.model_dump(mode="json", include={"activated", "planes", "slices", "resize"})
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> PerceptualLoss:
        """Frozen: the backbone stays in evaluation mode."""
        return super().train(False)

    def _enlarged(self, height: int, width: int) -> list[int]:
        """The size at which a slice enters the backbone.

        Raises:
            UserError: it is too small for the layer.
        """
        size, shorter = [height, width], min(height, width)
        if self.settings.resize is not None and shorter < self.settings.resize:
            size = [round(n * self.settings.resize / shorter) for n in size]
        needed = self.source["stride"]
        if min(size) < needed:
            raise UserError(
                f"a slice of {size[0]} x {size[1]} pixels leaves nothing at {self.source['layer']} "
                f"of {self.source['backbone']}; set perceptual.resize to at least {needed} or take a shallower layer"
            )
        return size

    def check(self, patch: Sequence[int]) -> None:
        """Refuse a patch, (h, w) or (r, a, s), whose slices are too small for the layer.

        Raises:
            UserError: they are.
        """
        if len(patch) == 2:
            self._enlarged(patch[0], patch[1])
            return
        for plane in self.settings.planes:
            height, width = (n for axis, n in enumerate(patch, start=2) if axis != SLICE_AXES[plane])
            self._enlarged(height, width)

    def features(self, images: Tensor) -> Tensor:
        """Features (m, c, h', w') of slices (m, 1, h, w) scaled to [0, 1].

        Raises:
            UserError: the slices are too small for the layer.
        """
        size = self._enlarged(images.shape[-2], images.shape[-1])
        if size != list(images.shape[-2:]):
            images = interpolate(images, size=size, mode="bilinear", align_corners=False)
        out: Tensor = self.backbone((images.expand(-1, 3, -1, -1) - self.mean) / self.std)
        return relu(out) if self.settings.activated else out

    def _slices(self, volume: Tensor, plane: str, step: int) -> Tensor:
        """The slices of one plane to be compared, (n * k, 1, h, w)."""
        stack = volume.movedim(SLICE_AXES[plane], 1)
        depth = stack.shape[1]
        if self.settings.slices is not None and self.settings.slices < depth:
            chosen = [(step + index * depth // self.settings.slices) % depth for index in range(self.settings.slices)]
            stack = stack[:, chosen]
        return stack.flatten(0, 1)

    def forward(self, sr: Tensor, hr: Tensor, peak: float | Tensor = 1.0, step: int = 0) -> Tensor:
        """The loss; ``peak`` is the intensity that counts as white, ``step`` moves the subset of slices on."""
        sr, hr = _scaled(sr, peak), _scaled(hr, peak)
        if sr.dim() == 4:
            return _compared(sr, hr, self.features, self.batch)
        parts = [
            _compared(self._slices(sr, plane, step), self._slices(hr, plane, step), self.features, self.batch)
            for plane in self.settings.planes
        ]
        return torch.stack(parts).mean()


class SegmentationPerceptual(nn.Module):
    """Mean squared difference of a frozen MeshNet's features: a loss that is 3D by nature, on (n, 1, r, a, s).

    ``weights`` is a safetensors file with ``{i}.weight`` and ``{i}.bias`` of 3x3x3 convolutions, whose dilations stand
    in its metadata (``arch``). ``layer`` is ``conv0``, ``conv1`` ...; its features are taken after the ELU.

    Raises:
        UserError: the file is missing, unreadable or no MeshNet, or has no such layer.
    """

    def __init__(self, weights: Path, layer: str = "conv3") -> None:
        super().__init__()
        tensors, metadata = _read(weights)
        try:
            arch = [entry for entry in json.loads(metadata["arch"]) if "conv" in entry]
            depth = [f"conv{entry['conv']}" for entry in arch].index(layer) + 1
            convs = []
            for entry in arch[:depth]:
                weight, bias = (tensors[f"{entry['conv']}.{part}"] for part in ("weight", "bias"))
                kernel = cast(tuple[int, int, int], tuple(weight.shape[2:]))
                dilation = cast(tuple[int, int, int], tuple(entry["d"]))
                pads = cast(
                    tuple[int, int, int], tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
                )
                conv = nn.Conv3d(weight.shape[1], weight.shape[0], kernel, padding=pads, dilation=dilation)
                conv.load_state_dict({"weight": weight, "bias": bias})
                convs.append(conv)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise UserError(
                f"{weights.name}: holds no MeshNet with a layer {layer}; expected its parameters with their dilations "
                "in the metadata, and a layer conv0, conv1 ..."
            ) from error
        self.convs = nn.ModuleList(convs)
        self.source: dict[str, Any] = {
            "backbone": "meshnet",
            "layer": layer,
            "activated": True,
            "origin": "file",
            "file": weights.name,
            "file_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "fallback": False,
        }
        self.requires_grad_(False)
        self.eval()

    def features(self, volumes: Tensor) -> Tensor:
        """Features (n, c, r, a, s) of volumes (n, 1, r, a, s) scaled to [0, 1]."""
        for conv in self.convs:
            volumes = elu(conv(volumes))
        return volumes

    def forward(self, sr: Tensor, hr: Tensor, peak: float | Tensor = 1.0, step: int = 0) -> Tensor:
        """The loss; ``peak`` is the intensity that counts as white. Every voxel is compared, whatever the ``step``."""
        return _compared(_scaled(sr, peak), _scaled(hr, peak), self.features, 1)


def build_perceptual(
    settings: Perceptual, weights: Path | None = None, seed: int = 0
) -> PerceptualLoss | SegmentationPerceptual:
    """The perceptual loss that a recipe's stage describes; the backbone ``meshnet`` is the 3D one.

    Raises:
        UserError: see `PerceptualLoss` and `SegmentationPerceptual`.
    """
    if settings.backbone == "meshnet":
        if weights is None:
            raise UserError("the perceptual backbone meshnet needs its file of weights; name it, --perceptual-weights")
        return SegmentationPerceptual(weights, settings.layer)
    return PerceptualLoss(settings, weights, seed=seed)


# ---------------------------------------------------------------------------------------------- backbones' parameters


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (float32) and metadata of a safetensors file.

    Raises:
        UserError: it is missing, unreadable, or holds NaN.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors" or not path.is_file():
        raise UserError(f"{path}: no such file of perceptual weights; expected a .safetensors file")
    try:
        with safe_open(str(path), framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            tensors = {key: opened.get_tensor(key).float() for key in opened.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path.name}: is not a readable safetensors file ({error})") from error
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path.name}: the tensor {key} holds NaN or infinite values; fetch the file again")
    return tensors, metadata


def _from_hub(backbone: str) -> tuple[Path | None, str | None, str]:
    """timm's file for a backbone, its Hub entry, and why there is none: from the cache, else downloaded."""
    import timm
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    from mrsr_bench.benchmarks.metrics.no_reference import offline_by

    config = timm.get_pretrained_cfg(backbone)
    hub = None if config is None else cast("str | None", config.hf_hub_id)
    if hub is None:
        return None, None, f"timm names no Hub entry for {backbone}"
    cached = try_to_load_from_cache(hub, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached), hub, ""
    if offline := offline_by():
        return None, hub, f"{hub} is not in the cache and {offline} forbids downloads"
    try:
        return Path(hf_hub_download(hub, HUB_FILE, etag_timeout=5)), hub, ""
    except Exception as error:  # whatever the transport raises, training goes on with the fallback
        return None, hub, f"{hub} could not be downloaded ({type(error).__name__})"


def _backbone(name: str, layer: str, weights: Path | None, seed: int) -> tuple[nn.Module, dict[str, Any]]:
    """The backbone up to its layer, with parameters, and the facts of where they came from."""
    import timm

    if not timm.is_model(name):
        from mrsr_bench.registry import unknown_name

        raise unknown_name("timm backbone", name, timm.list_models())
    path, hub, reason = (weights, None, "") if weights is not None else _from_hub(name)
    make = _vgg if name.startswith("vgg") else _any
    module, used, stride = make(name, layer, path, seed)
    facts: dict[str, Any] = {
        "backbone": name,
        "asked_layer": layer,
        "layer": used,
        "stride": stride,
        "origin": "file" if weights is not None else "hub" if path is not None else "random",
        "file": None if path is None else path.name,
        "file_sha256": None if path is None else hashlib.sha256(path.read_bytes()).hexdigest(),
        "hub": None if path is None else hub,
        "parameters_sha256": _digest(module.state_dict()),
        "fallback": path is None,
    }
    if weights is not None:
        facts["file_says"] = _read(weights)[1]
    if path is None:
        facts["reason"] = reason
        print(
            f"perceptual loss: {reason}; FALLBACK: {name} with random orthogonal parameters (seed {seed}), not the "
            "trained features the recipe asks for; name a file with --perceptual-weights to have them",
            file=sys.stderr,
        )
    elif used != layer:
        print(f"perceptual loss: {path.name} ends before {layer}; its deepest layer {used} is used", file=sys.stderr)
    return module, facts


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors, by name."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _orthogonal(module: nn.Module, seed: int) -> None:
    """Seeded random convolutions that keep the size of what passes through them and a ReLU."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.orthogonal_(part.weight, gain=math.sqrt(2), generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()


def _vgg(name: str, layer: str, path: Path | None, seed: int) -> tuple[nn.Module, str, int]:
    """A VGG's features up to ``layer``, or to the deepest convolution that the file holds; and the layer and stride."""
    import timm

    with torch.device("meta"):
        stack = cast(nn.Sequential, timm.create_model(name).features)
    indices, block, number = {}, 1, 0
    for index, part in enumerate(stack):
        if isinstance(part, nn.Conv2d):
            number += 1
            indices[f"conv{block}_{number}"] = index
        elif isinstance(part, nn.MaxPool2d):
            block, number = block + 1, 0
    if layer not in indices:
        raise UserError(f"{name} has no layer {layer!r}; it has {', '.join(indices)}")
    tensors = {} if path is None else _read(path)[0]
    wanted = {f"features.{key}": value.shape for key, value in stack.state_dict().items()}
    if path is not None:
        first_missing = min(
            (int(k.split(".")[1]) for k, shape in wanted.items() if k not in tensors or tensors[k].shape != shape),
            default=len(stack),
        )
        held = [key for key, index in indices.items() if index < first_missing and index <= indices[layer]]
        if not held:
            raise UserError(f"{path.name}: holds no parameters of {name}; expected timm's names, features.0.weight ...")
        layer = held[-1]
    cut = stack[: indices[layer] + 1].to_empty(device="cpu")
    if path is None:
        _orthogonal(cut, seed)
    else:
        cut.load_state_dict({key: tensors[f"features.{key}"] for key in cut.state_dict()})
    return cut, layer, 2 ** (int(layer[4]) - 1)


class _ReachedError(Exception):
    """Carries a layer's output out of a forward pass that need not go on."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output


class _Tap(nn.Module):
    """A model that is run up to one of its modules and gives that module's output."""

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model, self.layer = model, layer
        model.get_submodule(layer).register_forward_hook(self._stop)

    def _stop(self, _module: nn.Module, _arguments: Any, output: Tensor) -> None:
        raise _ReachedError(output)

    def forward(self, x: Tensor) -> Tensor:
        """The layer's output."""
        try:
            self.model(x)
        except _ReachedError as reached:
            return reached.output
        raise UserError(f"the forward pass does not go through {self.layer}; name another layer of the backbone")


def _any(name: str, layer: str, path: Path | None, seed: int) -> tuple[nn.Module, str, int]:
    """Any timm model up to the module called ``layer``."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            overlay = None if path is None else {"file": str(path)}
            model = timm.create_model(name, pretrained=path is not None, pretrained_cfg_overlay=overlay)
        except Exception as error:  # timm passes on whatever reading or loading raises
            raise UserError(f"{path or name}: does not make the backbone {name} ({type(error).__name__})") from error
    if path is None:
        _orthogonal(model, seed)
    names = [key for key, _ in model.named_modules() if key]
    if layer not in names:
        raise UserError(
            f"{name} has no layer {layer!r}; it has for example {', '.join(names[:: max(1, len(names) // 8)])}"
        )
    return _Tap(model, layer), layer, 1
