"""From names to trained weights: method + dataset + recipe -> a folder of weights with card, log and golden tensors."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import Protocol, get_protocol
from mrsr_bench.zoo.method import MethodSpec
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from torch import Tensor

    from mrsr_bench.benchmarks.dataset import Case, Dataset
    from mrsr_bench.zoo.perceptual import PerceptualLoss, SegmentationPerceptual
    from mrsr_bench.zoo.weights import Weights

DEFAULT_FOLDER = Path("checkpoints")


def resolve_recipe(spec: MethodSpec, recipe: str) -> Recipe:
    """A recipe by the method's own name for it, or from a YAML file.

    Raises:
        UserError: there is no such recipe or file.
    """
    from importlib.resources import files

    if recipe in spec.recipes:
        return load_recipe(Path(str(files(spec.package) / spec.recipes[recipe])))
    if recipe.endswith((".yaml", ".yml")):
        return load_recipe(Path(recipe))
    raise UserError(
        f"{spec.name} has no recipe called {recipe!r}; it has {', '.join(spec.recipes)}, or name a YAML file"
    )


def trainable(name: str) -> MethodSpec:
    """The method that training ``name`` means: itself, or for an alias its smallest member.

    Raises:
        UserError: the method has nothing to train.
    """
    spec = methods.get(name)
    if spec.alias_for:
        spec = methods.get(spec.alias_for[-1])
    if spec.kind != "network" or not spec.recipes:
        raise UserError(f"{name} is an interpolation, it has nothing to train")
    return spec


@dataclass(frozen=True)
class Group:
    """The protocols that one file of weights serves, and what they are called together."""

    name: str
    protocols: tuple[Protocol, ...]


def training_group(spec: MethodSpec, task: str | None) -> Group:
    """What ``task`` means for a method: a group of its tasks, or a single protocol; without it, the first there is.

    Raises:
        UserError: the method does not do it.
    """
    chosen = task or next(iter(spec.groups), spec.tasks[0])
    names = spec.groups.get(chosen, (chosen,))
    if names == (chosen,):
        get_protocol(chosen)
    if not set(names) <= set(spec.tasks):
        raise UserError(f"{spec.name} does not do {chosen}; it does {', '.join([*spec.groups, *spec.tasks])}")
    return Group(chosen, tuple(get_protocol(name) for name in names))


def _perceptual_losses(
    recipe: Recipe, parameters: Path | None, seed: int, device: str
) -> dict[str, PerceptualLoss | SegmentationPerceptual]:
    """The perceptual loss of every stage that asks for one, by the stage's name."""
    asked = {stage.name: stage.perceptual for stage in recipe.stages if stage.perceptual is not None}
    if parameters is not None and not asked:
        raise UserError(f"the recipe {recipe.name} has no perceptual loss; leave --perceptual-weights out")
    if not asked:
        return {}
    from mrsr_bench.zoo.perceptual import build_perceptual

    return {name: build_perceptual(settings, parameters, seed).to(device) for name, settings in asked.items()}


def training_cases(dataset: Dataset, seed: int) -> tuple[Sequence[Case], Sequence[Case]]:
    """The training and validation cases of a dataset.

    Raises:
        UserError: one of them is empty, or a subject is in both.
    """
    train, val = dataset.cases("train", seed=seed), dataset.cases("val", seed=seed)
    for split, cases in (("train", train), ("val", val)):
        if not cases:
            raise UserError(
                f"the dataset {dataset.name} has no subject in its {split} split; training needs train and val"
            )
    both = {c.subject for c in train} & {c.subject for c in val}
    if both:
        raise UserError(f"the subjects {', '.join(sorted(both))} are in train and in val; a subject stays on one side")
    return train, val


def train_method(
    model: str,
    dataset: Dataset,
    *,
    recipe: str = "quick",
    task: str | None = None,
    steps: int | None = None,
    fresh: bool = False,
    device: str = "auto",
    out: Path | None = None,
    seed: int = 0,
    terms: str | None = None,
    perceptual_weights: Path | None = None,
    weights: Path | None = None,
) -> Path:
    """Train ``model`` on ``dataset`` and install the weights in the local store.

    ``task`` is a protocol, or a group of tasks that one file of weights serves (``thick`` of `MethodSpec.groups`).
    ``terms`` is what the card says of the data's sources and terms, where the dataset itself cannot know.
    ``perceptual_weights`` holds the parameters of the perceptual loss's backbone, where its recipe has one.
    ``weights``, for whatever task, are what the training begins with: all stages of the recipe follow, as when weights
    are tuned to data of one's own. Of another network, all that fits is taken (`fitted`): a network made deeper, or
    one for another factor, need not begin at nothing.

    Returns:
        The folder of the weights (`mrsr_bench.zoo.weights`).

    Raises:
        UserError: unknown names, unusable data or recipe, or a training that diverged.
    """
    from accelerate import PartialState

    from mrsr_bench.benchmarks.provenance import choose_device
    from mrsr_bench.zoo.inference import build_network
    from mrsr_bench.zoo.patches import prepare
    from mrsr_bench.zoo.publish import ancestors_of
    from mrsr_bench.zoo.trainer import Trainer
    from mrsr_bench.zoo.weights import export_weights, installed_folder

    if steps is not None and steps < 1:
        raise UserError(f"--steps must be at least 1; got {steps}")
    spec = trainable(model)
    group = training_group(spec, task)
    protocols = group.protocols
    chosen = resolve_recipe(spec, recipe).scaled(steps)
    train, val = training_cases(dataset, seed)
    folder = (out or DEFAULT_FOLDER) / spec.name / f"{group.name}-{chosen.name}"
    device = choose_device(device)
    processes = PartialState(cpu=device == "cpu")
    network = build_network(spec, chosen.network, seed=seed)
    initial: dict[str, Any] | None
    parent: Weights | None
    with processes.main_process_first():
        if weights is not None:
            initial, parent = _start_from(spec, weights, chosen, network.state_dict())
        else:
            chosen, initial, parent = _start_from_twin(spec, protocols[0], chosen, folder, fresh=fresh)
        store = folder.with_name(f"{folder.name}.volumes")
        prepared = [prepare(cases, protocols, chosen.regrid, seed, store, spec) for cases in (train, val)]
    identity = {
        "method": spec.name,
        "version": spec.version,
        "recipe": chosen.model_dump(mode="json"),
        "tasks": [protocol.content["task"] for protocol in protocols],
        "seed": seed,
        "data": sorted(case.fingerprint for case in [*train, *val]),
        "parent": None if parent is None else parent.sha256,
    }
    perceptual = _perceptual_losses(chosen, perceptual_weights, seed, device)
    identity["perceptual"] = {name: loss.source for name, loss in perceptual.items()}
    trainer = Trainer(
        network,
        chosen,
        prepared[0],
        prepared[1],
        folder,
        identity=identity,
        seed=seed,
        device=device,
        initial=initial,
        spec=spec,
        perceptual=perceptual,
    )
    trainer.run(fresh=fresh)
    facts: dict[str, Any] = {
        "dataset": dataset.name,
        "terms": terms or dataset.terms,
        "train_subjects": sorted({c.subject for c in train}),
        "val_subjects": sorted({c.subject for c in val}),
        "seed": seed,
        "parent_sha256": identity["parent"],
        "hardware": _hardware(str(trainer.device)),
        "seconds": round(trainer.progress.seconds, 1),
        "perceptual": identity["perceptual"],
    }
    if processes.is_main_process:
        ancestors = [] if parent is None else ancestors_of(parent)
        exported = export_weights(spec, group, chosen, folder, prepared[1], facts, ancestors)
        print(f"weights: {exported}", file=sys.stderr)
    processes.wait_for_everyone()
    if processes.is_main_process:
        shutil.rmtree(store, ignore_errors=True)
    return installed_folder(spec, group.name)


def _hardware(device: str) -> str:
    import torch

    from mrsr_bench.benchmarks.provenance import cpu_model

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{cpu_model()}, {torch.get_num_threads()} threads"


def fitted(drawn: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """A network's tensors as they were ``drawn``, with what fits of those ``given`` by another network.

    A tensor of the same name and shape is taken; one that is shorter along a single axis fills the front of it. A
    network with more blocks whose last convolution was drawn as zero so begins by giving what the smaller one gave.

    Returns:
        The tensors, and how many of them took something.
    """
    out, taken = {}, 0
    for name, tensor in drawn.items():
        mine, theirs = tensor.clone(), given.get(name)
        if theirs is not None and theirs.dim() == mine.dim():
            longer = [m - t for m, t in zip(mine.shape, theirs.shape, strict=True) if m != t]
            if not longer or (len(longer) == 1 and longer[0] > 0):
                mine[tuple(slice(n) for n in theirs.shape)] = theirs
                taken += 1
        out[name] = mine
    return out, taken


def _start_from(
    spec: MethodSpec, path: Path, recipe: Recipe, drawn: Mapping[str, Tensor]
) -> tuple[dict[str, Any], Weights]:
    """The tensors that a training begins with, and the weights at ``path`` that they come from.

    Raises:
        UserError: there are none, they are for another form of the network, or none of them fits it.
    """
    from mrsr_bench.zoo.weights import load_tensors, weights_at

    given = weights_at(path)
    donor = given.config["method"]
    if donor == spec.name and given.config["network"] != recipe.network:
        raise UserError(
            f"{path}: these weights were trained with network {given.config['network']}, and the recipe "
            f"{recipe.name} has {recipe.network}; choose a recipe with the same, or write one"
        )
    if given.config["regrid"] != recipe.regrid:
        print(
            f"{path}: these weights know {given.config['regrid']} input, and the recipe {recipe.name} makes "
            f"{recipe.regrid} input: the first updates go into that",
            file=sys.stderr,
        )
    print(f"starting from {given.file}", file=sys.stderr)
    tensors = load_tensors(given)
    if donor != spec.name:
        tensors, taken = fitted(drawn, tensors)
        if not taken:
            raise UserError(f"{path}: holds weights of {donor}, and no tensor of them fits {spec.name}")
        print(f"{taken} of the {len(tensors)} tensors of {spec.name} are those of {donor}", file=sys.stderr)
    return tensors, given


def _start_from_twin(
    spec: MethodSpec, protocol: Protocol, recipe: Recipe, folder: Path, *, fresh: bool
) -> tuple[Recipe, dict[str, Any] | None, Weights | None]:
    """For a GAN: begin with its L1-trained twin where one with the same input and network is at hand, else train it.

    The decision is kept beside ``folder``, so that a training resumes from what it began with whatever the store holds.
    """
    from mrsr_bench.zoo.weights import find_weights, load_tensors

    if spec.generator is None or len(recipe.stages) < 2:
        return recipe, None, None
    kept = folder.with_name(f"{folder.name}-parent.safetensors")
    twin_spec, task = methods.get(spec.generator), protocol.content["task"]
    begun = not fresh and any(folder.glob("checkpoint-*"))
    if begun and not kept.is_file():
        return recipe, None, None
    twin = find_weights(twin_spec, task, kept if begun else None)
    if twin is None or twin.config["regrid"] != recipe.regrid or twin.config["network"] != recipe.network:
        kept.unlink(missing_ok=True)
        return recipe, None, None
    if not begun:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(twin.file, kept)
    print(f"starting from the weights of {spec.generator} ({twin.file})", file=sys.stderr)
    return recipe.model_copy(update={"stages": recipe.stages[1:]}), load_tensors(twin), twin
