"""Weights: safetensors with sha256, configuration, golden tensors, log and card.

Order of resolution: an explicit path, the local store (``MRSR_BENCH_HOME/weights``), the files shipped with the
package, the Hub at a pinned revision (`zoo.hub`).

A folder of weights is called ``{method}--{task}`` and holds ``model.safetensors`` (float16), ``config.json``,
``golden.safetensors``, ``log.jsonl``, ``loss.png`` and ``README.md`` (the card).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.zoo.method import MethodSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from mrsr_bench.zoo.patches import Prepared
    from mrsr_bench.zoo.recipe import Recipe
    from mrsr_bench.zoo.training import Group

MODEL, CONFIG, GOLDEN, LOG, CURVE, CARD = (
    "model.safetensors",
    "config.json",
    "golden.safetensors",
    "log.jsonl",
    "loss.png",
    "README.md",
)
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".npy", ".npz", ".joblib", ".h5")
GOLDEN_SIZE = 24
GOLDEN_TOLERANCE = 1e-4
METADATA_KEY = "mrsr_bench"


@dataclass(frozen=True)
class Weights:
    """Weights at hand: their file, its SHA-256 and their configuration."""

    file: Path
    sha256: str
    config: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where golden tensors, log and card lie too."""
        return self.file.parent


def home() -> Path:
    """``MRSR_BENCH_HOME``, else the platform's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("MRSR_BENCH_HOME")
    return Path(chosen) if chosen else user_cache_path("mrsr-bench")


def folder_name(method: str, task: str) -> str:
    """The name of a folder of weights."""
    return f"{method}--{task}"


def _roots(spec: MethodSpec) -> list[Path]:
    roots = [home() / "weights"]
    if spec.package:
        roots.append(Path(str(files(spec.package))) / "weights")
    return roots


def _candidates(spec: MethodSpec) -> list[Path]:
    found = []
    for root in _roots(spec):
        if root.is_dir():
            found += sorted(f for f in root.glob(f"{spec.name}--*") if (f / MODEL).is_file() and (f / CONFIG).is_file())
    return found


def describe(spec: MethodSpec) -> str | list[str]:
    """The state of a method's weights for listings: "none needed", "missing", or the tasks that have weights."""
    if spec.kind == "interpolation":
        return "none needed"
    from mrsr_bench.zoo.methods import methods

    members = [methods.get(name) for name in spec.alias_for] or [spec]
    tasks = {folder.name.split("--", 1)[1] for member in members for folder in _candidates(member)}
    return sorted(tasks) or "missing"


def undertrained(spec: MethodSpec) -> bool | None:
    """Whether any weights at hand were trained by another recipe than the paper's; None where there are none."""
    from mrsr_bench.zoo.methods import methods

    members = [methods.get(name) for name in spec.alias_for] or [spec]
    recipes = [_recipe_name(folder / CONFIG) for member in members for folder in _candidates(member)]
    return any(name not in (None, "paper") for name in recipes) if recipes else None


def _recipe_name(path: Path) -> str | None:
    """The recipe in a configuration; None where it names none or is damaged, which loading will say."""
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["recipe"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(name)


def find_weights(
    spec: MethodSpec, task: Mapping[str, Any] | None, path: Path | None = None, *, hub: bool = False
) -> Weights | None:
    """The weights of ``spec`` for a ``task`` (a protocol's ``task`` entry; None: the first there are), or None.

    ``path`` may be an address on the Hub (``hf:user/name@revision``). With ``hub``, what the zoo pins there comes last.

    Raises:
        UserError: the explicit ``path`` is missing, a pickle, no safetensors, or of another method or task; what is on
            the Hub cannot be had.
    """
    from mrsr_bench.zoo.hub import pinned_weights

    if path is not None:
        return _explicit(spec, task, path)
    for folder in _candidates(spec):
        config = _metadata(folder / MODEL)
        if task is None or task in config["tasks"]:
            return Weights(folder / MODEL, sha256_of_file(folder / MODEL), config)
    return pinned_weights(spec, task) if hub else None


def weights_at(path: Path) -> Weights:
    """The weights, of whatever method, in a file, a folder of weights or at an address on the Hub.

    Raises:
        UserError: there are none, or they are a pickle or no safetensors.
    """
    from mrsr_bench.zoo.hub import weights_path

    path = weights_path(path)
    if not path.exists():
        raise UserError(f"{path}: no such weights file")
    file = path / MODEL if path.is_dir() else path
    if file.suffix.lower() in PICKLES:
        raise UserError(
            f"{file.name}: weights are read from .safetensors only, since a pickle can run any code; "
            "convert it with safetensors.torch.save_file on a machine you can lose"
        )
    if not file.is_file() or file.suffix != ".safetensors":
        raise UserError(f"{path}: expected a .safetensors file or a folder with {MODEL}")
    return Weights(file, sha256_of_file(file), _metadata(file))


def _explicit(spec: MethodSpec, task: Mapping[str, Any] | None, path: Path) -> Weights:
    given = weights_at(path)
    name, config = given.file.name, given.config
    if config["method"] != spec.name:
        raise UserError(f"{name} holds weights of {config['method']}, not of {spec.name}; name the method they are of")
    if task is not None and task not in config["tasks"]:
        raise UserError(f"{name} was trained for {config['protocol']}, another task than the one asked for")
    return given


@lru_cache(maxsize=64)
def _digest(file: Path, _changed_ns: int) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def sha256_of_file(file: Path) -> str:
    """SHA-256 of a file, hexadecimal; read once per change."""
    return _digest(file, file.stat().st_mtime_ns)


def _parsed(text: str, source: str) -> dict[str, Any]:
    """A configuration of weights from JSON, checked for what loading needs.

    It lies in the metadata of the safetensors file, so the file's SHA-256 covers all that decides what a network gives.
    """
    from pydantic import ValidationError

    from mrsr_bench.zoo.recipe import WeightsConfig

    try:
        return WeightsConfig.model_validate_json(text).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise UserError(
            f"{source}: holds no configuration of weights ({where}: {first['msg']}); "
            "expected weights written by mrsr-bench"
        ) from error


def _metadata(file: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="np") as opened:
            text = (opened.metadata() or {}).get(METADATA_KEY)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file.name}: is not a readable safetensors file ({error})") from error
    if text is None:
        raise UserError(f"{file.name}: does not say which method it belongs to; expected weights written by mrsr-bench")
    return _parsed(text, file.name)


def load_tensors(weights: Weights) -> dict[str, torch.Tensor]:
    """The tensors in float32.

    Raises:
        UserError: the file is corrupt or holds NaN.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(str(weights.file))
    except (SafetensorError, OSError) as error:
        raise UserError(f"{weights.file.name}: is not a readable safetensors file ({error})") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise UserError(
                f"{weights.file.name}: the tensor {name} holds NaN or infinite values; train or fetch the weights again"
            )
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def load_into(network: torch.nn.Module, weights: Weights) -> None:
    """Put ``weights`` into ``network``.

    Raises:
        UserError: a tensor is missing, unknown or of another shape.
    """
    tensors = load_tensors(weights)
    wanted = network.state_dict()
    wrong = [k for k in wanted if k not in tensors or tensors[k].shape != wanted[k].shape] + [
        k for k in tensors if k not in wanted
    ]
    if wrong:
        raise UserError(
            f"{weights.file.name}: the tensor {wrong[0]} is missing, unknown or of another shape than "
            f"{weights.config['method']} has ({len(wrong)} such); these are not its weights"
        )
    network.load_state_dict(tensors)


def golden_input(dims: int = 3) -> torch.Tensor:
    """The input of the golden tensors: (1, 1, 24, 24[, 24]), smooth structure and noise, from a fixed seed."""
    import torch

    generator = torch.Generator().manual_seed(20200301)
    coarse = torch.rand(1, 1, *(6,) * dims, generator=generator)
    mode = "trilinear" if dims == 3 else "bilinear"
    smooth = torch.nn.functional.interpolate(coarse, size=(GOLDEN_SIZE,) * dims, mode=mode)
    return smooth + 0.05 * torch.rand(smooth.shape, generator=generator)


def golden_tensors(spec: MethodSpec, network: torch.nn.Module, factor: float) -> dict[str, torch.Tensor]:
    """Input and output of ``network``, which holds the float16-rounded weights; a conditioned one's factor too."""
    import torch

    given = golden_input(spec.dims)
    golden = {"input": given}
    if spec.conditioned:
        golden["factor"] = torch.tensor(factor)
    with torch.no_grad():
        golden["output"] = _golden_output(network, golden).contiguous()
    return golden


def _golden_output(network: torch.nn.Module, golden: Mapping[str, torch.Tensor]) -> torch.Tensor:
    factor = [float(golden["factor"])] if "factor" in golden else []
    out: torch.Tensor = network.eval()(golden["input"], *factor)
    return out


def verify_golden(network: torch.nn.Module, weights: Weights) -> float:
    """Run the golden input and return the largest deviation relative to the output's range.

    Raises:
        UserError: there are no golden tensors, or the output deviates by more than 1e-4.
    """
    import torch
    from safetensors.torch import load_file

    path = weights.folder / GOLDEN
    if not path.is_file():
        raise UserError(f"{weights.folder}: holds no {GOLDEN}, so these weights cannot be verified")
    golden = load_file(str(path))
    with torch.no_grad():
        got = _golden_output(network, golden)
    apart = float((got - golden["output"]).abs().max() / golden["output"].abs().max())
    if not apart <= GOLDEN_TOLERANCE:
        raise UserError(
            f"{weights.folder.name}: gives {apart:.2g} beside its golden output; the weights or the code changed"
        )
    return apart


def installed_folder(spec: MethodSpec, task: str) -> Path:
    """Where weights for a task or group of tasks are installed in the local store."""
    return home() / "weights" / folder_name(spec.name, task)


def export_weights(
    spec: MethodSpec,
    group: Group,
    recipe: Recipe,
    training: Path,
    val: Sequence[Prepared],
    facts: Mapping[str, Any],
    ancestors: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the best weights of a finished training to the local store, in float16, with all that belongs to them.

    ``facts`` are those of the training, ``ancestors`` what is known of the weights that it began from, the nearest
    first.
    """
    import torch
    from safetensors.torch import save_file

    from mrsr_bench import __version__
    from mrsr_bench.zoo.cards import write_card
    from mrsr_bench.zoo.curves import draw_curves
    from mrsr_bench.zoo.inference import build_network, preferred_mode

    last = recipe.stages[-1]
    best = torch.load(training / f"best-{last.name}.pt", weights_only=True, map_location="cpu")
    tensors = {
        k: v.half().contiguous() if v.is_floating_point() else v.contiguous() for k, v in best["network"].items()
    }
    network = build_network(spec, recipe.network)
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    mode, scores = preferred_mode(network, val, recipe.validation_patches, spec.tiling)
    tasks = [protocol.content["task"] for protocol in group.protocols]
    config = {
        "method": spec.name,
        "method_version": spec.version,
        "mrsr_bench": __version__,
        "protocol": group.name,
        "task": tasks[0],
        "tasks": tasks,
        "network": dict(recipe.network),
        "regrid": recipe.regrid,
        "normalisation": "lr-p99.9-above-mean",
        "tiling": {"window": spec.tiling.window, "margin": spec.tiling.margin, "batch_norm": mode},
        "parameters": spec.parameters,
        "recipe": recipe.model_dump(mode="json"),
        "trained": dict(facts),
        "validation": {
            "psnr_by_batch_norm": scores,
            "psnr_regrid": best.get("val_baseline_psnr"),
            "best_step": best["step"],
        },
        **({"ancestors": list(ancestors)} if ancestors else {}),
    }
    target = installed_folder(spec, group.name)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(tensors, str(partial / MODEL), metadata={METADATA_KEY: json.dumps(config, sort_keys=True)})
    (partial / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    save_file(golden_tensors(spec, network, max(group.protocols[0].factor)), str(partial / GOLDEN))
    shutil.copyfile(training / LOG, partial / LOG)
    draw_curves(partial / LOG, partial / CURVE)
    write_card(spec, config, partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target
