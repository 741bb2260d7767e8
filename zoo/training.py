"""From names to trained weights: method + dataset + recipe -> a folder of weights with card, log and golden tensors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import Protocol, get_protocol
from mrsr_bench.zoo.method import MethodSpec
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.dataset import Case, Dataset

DEFAULT_FOLDER = Path("checkpoints")


def resolve_recipe(spec: MethodSpec, recipe: str) -> Recipe:
    """A recipe by the method's own name for it, or from a YAML file.

    Raises:
        UserError: there is no such recipe or file.
    """
    from importlib.resources import files

    if recipe in spec.recipes:
        return load_recipe(Path(str(files(f"mrsr_bench.zoo.methods.{spec.folder}") / spec.recipes[recipe])))
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
) -> Path:
    """Train ``model`` on ``dataset`` and install the weights in the local store.

    ``terms`` is what the card says of the data's sources and terms, where the dataset itself cannot know.

    Returns:
        The folder of the weights (`mrsr_bench.zoo.weights`).

    Raises:
        UserError: unknown names, unusable data or recipe, or a training that diverged.
    """
    from accelerate import PartialState

    from mrsr_bench.benchmarks.provenance import choose_device
    from mrsr_bench.zoo.inference import build_network
    from mrsr_bench.zoo.patches import prepare
    from mrsr_bench.zoo.trainer import Trainer
    from mrsr_bench.zoo.weights import export_weights, installed_folder

    if steps is not None and steps < 1:
        raise UserError(f"--steps must be at least 1; got {steps}")
    spec = trainable(model)
    protocol = get_protocol(task or spec.tasks[0])
    chosen = resolve_recipe(spec, recipe).scaled(steps)
    train, val = training_cases(dataset, seed)
    folder = (out or DEFAULT_FOLDER) / spec.name / f"{protocol.name}-{chosen.name}"
    device = choose_device(device)
    processes = PartialState(cpu=device == "cpu")
    with processes.main_process_first():
        chosen, initial, parent = _start_from_twin(spec, protocol, chosen, folder, fresh=fresh)
        prepared = [prepare(cases, protocol, chosen.regrid, seed, folder.parent / "volumes") for cases in (train, val)]
    network = build_network(spec, chosen.network, seed=seed)
    identity = {
        "method": spec.name,
        "version": spec.version,
        "recipe": chosen.model_dump(mode="json"),
        "task": protocol.content["task"],
        "seed": seed,
        "data": sorted(case.fingerprint for case in [*train, *val]),
        "parent": parent,
    }
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
    )
    trainer.run(fresh=fresh)
    facts: dict[str, Any] = {
        "dataset": dataset.name,
        "terms": terms or dataset.terms,
        "train_subjects": sorted({c.subject for c in train}),
        "val_subjects": sorted({c.subject for c in val}),
        "seed": seed,
        "parent_sha256": parent,
        "hardware": _hardware(str(trainer.device)),
    }
    if processes.is_main_process:
        weights = export_weights(spec, protocol, chosen, folder, prepared[1], facts)
        print(f"weights: {weights}", file=sys.stderr)
    processes.wait_for_everyone()
    return installed_folder(spec, protocol)


def _hardware(device: str) -> str:
    import torch

    from mrsr_bench.benchmarks.provenance import cpu_model

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{cpu_model()}, {torch.get_num_threads()} threads"


def _start_from_twin(
    spec: MethodSpec, protocol: Protocol, recipe: Recipe, folder: Path, *, fresh: bool
) -> tuple[Recipe, dict[str, Any] | None, str | None]:
    """For a GAN: begin with its L1-trained twin where one with the same input and network is at hand, else train it.

    The decision is kept beside ``folder``, so that a training resumes from what it began with whatever the store holds.
    """
    import shutil

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
    return recipe.model_copy(update={"stages": recipe.stages[1:]}), load_tensors(twin), twin.sha256
