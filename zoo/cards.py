"""Model cards: one README.md beside every weight file, with metadata that the Hugging Face Hub reads.

Everything on a card comes from ``config.json``, the training log, the method's facts and stored runs.
``python -m mrsr_bench.zoo.cards FOLDER RUN...`` puts the scores of runs on the card of the weights that made them;
without a run it writes the card again. ``--declare`` first takes over what the method's recipe has declared since.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.zoo.method import MethodSpec
from mrsr_bench.zoo.weights import CARD, CONFIG, CURVE, LOG, MODEL, sha256_of_file

SCORED = ("psnr", "ssim", "nrmse", "niqe", "ma", "pi", "piqe", "data_consistency")
PICTURE = "failure--{}.png"
HUB_LICENCES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc0-1.0")
"""Licence names that the Hub knows, of those that weights here may have."""
_PROFILES = {"kspace_truncation": "kspace", "thick_slices": "box", "thin_slices": "sample"}
_ARXIV = re.compile(r"arXiv[ :](\d{4}\.\d{4,5})")
_DATASET = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def write_card(spec: MethodSpec, config: Mapping[str, Any], folder: Path, *, repo: str | None = None) -> Path:
    """Write the card of the weights in ``folder``; returns its path. ``repo`` is where on the Hub they are to be."""
    path = folder / CARD
    path.write_text("\n".join(_lines(spec, config, folder, repo)) + "\n", encoding="utf-8")
    return path


def metadata_of(spec: MethodSpec, config: Mapping[str, Any]) -> dict[str, Any]:
    """The front matter of a card, as the Hub's specification of model cards names its entries."""
    licence = spec.licence.lower()
    known = licence in HUB_LICENCES
    metadata: dict[str, Any] = {
        "library_name": "mrsr-bench",
        "license": licence if known else "other",
        **({} if known else {"license_name": licence}),
        "pipeline_tag": "image-to-image",
        "tags": ["mri", "super-resolution", "medical-imaging", spec.name, str(config["protocol"])],
    }
    metadata["tags"] += [f"arxiv:{number}" for number in _ARXIV.findall(spec.paper)]
    dataset = str(config.get("trained", {}).get("dataset", ""))
    if _DATASET.fullmatch(dataset):
        metadata["datasets"] = [dataset]
    results = [_result(run) for run in config.get("scores", ()) if _shown(run)]
    if results:
        metadata["model-index"] = [{"name": spec.name, "results": results}]
    return metadata


def _shown(run: Mapping[str, Any]) -> list[str]:
    return [key for key in SCORED if run["scores"].get(key, {}).get("mean") is not None]


def _result(run: Mapping[str, Any]) -> dict[str, Any]:
    metrics = []
    for key in _shown(run):
        score = run["scores"][key]
        facts: dict[str, Any] = {"n": score["n"]}
        if score["ci95"]:
            facts["ci95"] = [round(float(end), 4) for end in score["ci95"]]
        metrics.append(
            {"type": key, "value": round(score["mean"], 4), "name": f"{key} ({run['protocol']})", "args": facts}
        )
    dataset = {"type": "mrsr-bench", "name": run["dataset"], "config": run["protocol"]}
    if "split" in run:
        dataset["split"] = run["split"]
    dataset["args"] = {"protocol_hash": run["protocol_hash"]}
    return {"task": {"type": "image-to-image", "name": "MRI super-resolution"}, "dataset": dataset, "metrics": metrics}


def tasks_of(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tasks that weights were trained for; an early configuration names one alone."""
    return config.get("tasks") or [config["task"]]


def _factor(task: Mapping[str, Any]) -> str:
    parameters = task["parameters"]
    steps = [step["parameters"] for step in parameters.get("steps", ())] or [parameters]
    return "x".join(f"{math.prod(float(step['factor'][axis]) for step in steps):g}" for axis in range(3))


def _lines(spec: MethodSpec, config: Mapping[str, Any], folder: Path, repo: str | None) -> Iterator[str]:
    import yaml

    parameters = config.get("parameters") or spec.parameters
    yield from ("---", yaml.safe_dump(metadata_of(spec, config), sort_keys=False, allow_unicode=True).rstrip(), "---")
    yield from ("", f"# {spec.name} for {config['protocol']}", "", "## What it is", "")
    size = "" if parameters is None else f"; {parameters:,} parameters"
    yield f"{spec.summary[0].upper()}{spec.summary[1:]}{size}. Paper: {spec.paper}."
    for task in tasks_of(config):
        yield f"Task: `{task['degradation']}`, factor {_factor(task)} (R x A x S)."
    yield ""
    yield from _training_state(spec, config, folder)
    yield from _use(spec, config, repo)
    yield from ("## Intended use", "")
    yield "Meant for research on MRI super-resolution and for comparison. **Not a medical device**: a network can"
    yield from ("invent or remove structure, and nobody has tested this one for any clinical decision.", "")
    yield from _training_data(config)
    yield from _validation(config, folder)
    yield from _protocols(config)
    for run in config.get("scores", ()):
        yield from _scores(run)
    yield from _failures(config, folder)
    yield from ("## Deviations from the paper", "")
    deviations = [
        *spec.deviations,
        *config.get("recipe", {}).get("deviations", ()),
        *config.get("further_deviations", ()),
    ]
    started = (config.get("trained") or {}).get("parent_sha256")
    if started and all(stage["game"] for stage in config["recipe"]["stages"]):
        deviations.append(
            "the weights that it started from stand in for the stages before the game: what is said here of those "
            "stages (loss, patches, learning rate) is not of this training; their own card tells"
        )
    yield from (f"- {text}" for text in deviations)
    yield from ("" if deviations else "None declared.", *(["![training](loss.png)", ""] * (folder / CURVE).is_file()))
    yield from ("## Citation", "", f"Cite: {spec.paper}; and mrsr-bench, where you quote the scores above.")
    yield from (f"<https://arxiv.org/abs/{number}>" for number in _ARXIV.findall(spec.paper))
    yield f"Licence of these weights: {spec.licence}."


def _stages(recipe: Mapping[str, Any]) -> str:
    return ", then ".join(
        f"{s['steps']:,} {'generator ' if s['game'] else ''}updates of {s['batch']} patches of "
        f"{' x '.join(map(str, s['patch']))} ({s['name']})"
        for s in recipe["stages"]
    )


def _training_state(spec: MethodSpec, config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    from mrsr_bench.zoo.curves import read_log, training_seconds
    from mrsr_bench.zoo.publish import parents_of

    recipe = config.get("recipe")
    if not recipe:
        return
    minutes = training_seconds(read_log(folder / LOG)) / 60 if (folder / LOG).is_file() else 0.0
    hardware = config["trained"]["hardware"]
    yield f"Trained by the recipe `{recipe['name']}`: {_stages(recipe)}; {minutes:.0f} minutes on {hardware}."
    for parent, known in parents_of(config):
        began = f"It started from the weights with SHA-256 `{parent}`"
        if known.get("recipe"):
            seconds = known["trained"].get("seconds")
            time = "" if seconds is None else f"; {seconds / 60:.0f} minutes"
            began += f", trained by the recipe `{known['recipe']['name']}`: {_stages(known['recipe'])}{time}"
        yield f"{began}."
    yield from _perceptual(config)
    if recipe["name"] != "paper" and "paper" in spec.recipes:
        yield ""
        yield "> **Undertrained.** The paper trains far longer, on far more subjects; these scores are a lower bound."
    elif recipe["name"] != "paper":
        yield ""
        yield "> The recipe is not a paper's: longer training may score higher."
    yield ""


def _perceptual(config: Mapping[str, Any]) -> Iterator[str]:
    """Which features a perceptual loss compared, and where their parameters came from."""
    for stage, loss in ((config.get("trained") or {}).get("perceptual") or {}).items():
        side = "after" if loss.get("activated") else "before"
        text = f"The perceptual loss of its stage `{stage}` compares `{loss['backbone']}` {loss['layer']} {side} the "
        text += "activation, "
        if loss.get("fallback"):
            yield f"{text}with random orthogonal parameters: the trained ones could not be had."
            continue
        text += f"with the parameters of `{loss['file']}`"
        text += f" of `{loss['hub']}` on the Hub" if loss.get("hub") else ""
        text += f" (SHA-256 `{loss['file_sha256'][:16]}`)"
        told = "; ".join(
            f"{key}: {value}" for key, value in sorted((loss.get("file_says") or {}).items(), reverse=True)
        )
        yield f"{text}. The file says of itself: {' '.join(told.split())}." if told else f"{text}."


def _use(spec: MethodSpec, config: Mapping[str, Any], repo: str | None) -> Iterator[str]:
    task = config["task"]
    profile = task["parameters"].get("profile", _PROFILES.get(task["degradation"]))
    weights = "" if repo is None else f" --weights hf:{repo}"
    points = entry_points(group="mrsr_bench.methods", name=spec.name)
    others = [point.dist.name for point in points if point.dist is not None]
    yield from ("## Use", "", "```", " ".join(["pip install mrsr-bench", *others]))
    yield (
        f"mrsr-bench upscale IN.nii.gz OUT.nii.gz --model {spec.name} --factor {_factor(task)}"
        + (f" --profile {profile}" if profile else "")
        + weights
    )
    yield f"mrsr-bench run --model {spec.name} --dataset PATH --protocol {_protocol_name(config)}{weights}"
    yield from ("```", "")
    yield f'In Python: `mrsr_bench.load("{repo or spec.name}").upscale(lr, target)`, an LR volume and the grid to fill.'
    yield ""


def _protocol_name(config: Mapping[str, Any]) -> str:
    """A protocol that the weights can be run under: the one they are named after, or the first of their group."""
    from mrsr_bench.benchmarks.protocol import get_protocol, protocol_names

    names = protocol_names()
    if config["protocol"] in names:
        return str(config["protocol"])
    # A paper's protocol may share the task; its name is longer than the common one's.
    same = [name for name in names if get_protocol(name).content["task"] == config["task"]]
    return min(same, key=len, default=str(config["protocol"]))


def terms_of(config: Mapping[str, Any]) -> str:
    """Sources and terms of the training data: what the trainer was told, and ``further_terms``, found wanting later."""
    told = str(config.get("trained", {}).get("terms") or "").rstrip(".")
    return "; ".join(filter(None, (told, str(config.get("further_terms", "")))))


def _training_data(config: Mapping[str, Any]) -> Iterator[str]:
    trained = config.get("trained", {})
    yield from ("## Training data and terms", "")
    if trained.get("train_subjects"):
        yield (
            f"{len(trained['train_subjects'])} subjects: {', '.join(trained['train_subjects'])}; validated on "
            f"{', '.join(trained['val_subjects'])}."
        )
    yield f"Sources and terms: {terms_of(config) or 'not stated'}."
    yield ""


def _validation(config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """What the trainer measured at the step that was kept, and beside it, over whole tiles, the batch norm's mode."""
    validation = config.get("validation")
    if not validation:
        return
    yield from ("## Validation", "")
    step, regridded = validation["best_step"], validation.get("psnr_regrid")
    psnr = _validation_psnr(folder / LOG, step)
    text = f"The weights are those of step {step:,}"
    if config["recipe"]["stages"][-1]["game"]:
        text += " (the turns of both networks, warm-up included)"
    if psnr is not None:
        text += f": PSNR {psnr:.3f} dB over at most {config['recipe']['validation_patches']} validation patches"
        text += "" if regridded is None else f", {regridded:.3f} dB for their {config['regrid']} input"
    modes = validation["psnr_by_batch_norm"]
    if {"tile", "eval"} <= modes.keys():
        text += (
            f". On whole tiles from the middle of the images: {modes['eval']:.3f} dB with the running statistics "
            f"of batch norm, {modes['tile']:.3f} dB with each tile's own; used: {config['tiling']['batch_norm']}"
        )
    yield from (f"{text}.", "")


def _validation_psnr(log: Path, step: int) -> float | None:
    """PSNR (dB) that the log holds for the weights after ``step`` updates of the last stage."""
    from mrsr_bench.zoo.curves import read_log

    if not log.is_file():
        return None
    records = read_log(log)[-1].records
    return next((float(r["val_psnr"]) for r in records if r["step"] == step - 1 and "val_psnr" in r), None)


def _protocols(config: Mapping[str, Any]) -> Iterator[str]:
    """How the scores were taken: the convention of every metric that is shown."""
    from mrsr_bench.benchmarks.metrics import metrics

    shown = [key for key in SCORED if any(key in _shown(run) for run in config.get("scores", ()))]
    if not shown:
        return
    yield from ("## Protocol", "")
    for key in shown:
        spec = metrics.get(key)
        yield f"- `{key}` ({spec.direction} is better): {spec.convention}"
    yield from ("", "Means are over subjects; from eight subjects on with a 95 % bootstrap interval.", "")


def _scores(run: Mapping[str, Any]) -> Iterator[str]:
    keys = _shown(run)
    if not keys:
        return
    subjects = dict.fromkeys(subject for key in keys for subject in run["scores"][key]["per_subject"])
    yield from (f"## Scores: {run['dataset']}, protocol `{run['protocol']}`", "", f"`{run['command']}`", "")
    yield f"Weights SHA-256 `{run['weights_sha256'][:16]}`, protocol hash `{run['protocol_hash'][:16]}`."
    if run.get("synthetic"):
        yield "The data are synthetic: these scores prove the machinery, not the method."
    yield ""
    yield "| subject | " + " | ".join(keys) + " |"
    yield "|---" * (len(keys) + 1) + "|"
    for subject in subjects:
        values = [run["scores"][key]["per_subject"].get(subject) for key in keys]
        yield f"| {subject} | " + " | ".join("-" if v is None else f"{v:.4f}" for v in values) + " |"
    means = []
    for key in keys:
        score = run["scores"][key]
        interval = score["ci95"]
        means.append(f"{score['mean']:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""))
    yield "| **mean** [95 % interval] | " + " | ".join(means) + " |"
    yield ""


def worst_subjects(run: Mapping[str, Any]) -> dict[str, tuple[str, float]]:
    """The subject that fares worst by each reference metric of a run, and its score; none for a single subject."""
    found = {}
    for key, worst in (("psnr", min), ("ssim", min), ("nrmse", max), ("data_consistency", max)):
        scores = run["scores"].get(key, {}).get("per_subject", {})
        values = {subject: value for subject, value in scores.items() if value is not None}
        if len(values) > 1:
            subject = worst(values, key=values.__getitem__)
            found[key] = (subject, values[subject])
    return found


def _failures(config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    yield from ("## Failure cases", "")
    told = False
    for run in config.get("scores", ()):
        for key, (subject, value) in worst_subjects(run).items():
            told = True
            mean = run["scores"][key]["mean"]
            yield (
                f"- {run['dataset']}, `{run['protocol']}`: the worst {key} is that of {subject}, {value:.4f} "
                f"(mean {mean:.4f})"
            )
    pictures = sorted(path.name for path in folder.glob(PICTURE.format("*")))
    if not told:
        yield "Not known: no stored run of several subjects stands on this card."
    elif not pictures:
        yield from ("", "No picture: the runs on this card were stored without figures.")
    for name in pictures:
        protocol, _, subject = name.removeprefix(PICTURE.partition("{")[0]).removesuffix(".png").rpartition("--")
        under = f" under `{protocol}`" if protocol else ""
        yield from ("", f"The worst subject by PSNR{under}, {subject}:", "", f"![{subject}]({name})")
    yield ""


def score_entry(run: Mapping[str, Any], sha256: str, source: Path) -> dict[str, Any]:
    """What a card keeps of a stored run.

    Raises:
        UserError: the run was made with other weights than those of ``sha256``.
    """
    from mrsr_bench.benchmarks.datasets import datasets

    if run.get("weights_sha256") != sha256:
        raise UserError(f"{source}: was made with other weights than those with SHA-256 {sha256[:16]}; run them again")
    suffix = f" --suffix {run['suffix']}" if run.get("suffix") else ""
    place = run["dataset"] if run["dataset"] in datasets.names() else f"PATH/{run['dataset']}"
    return {
        "dataset": run["dataset"],
        "protocol": run["protocol"],
        "protocol_hash": run["protocol_hash"],
        "split": run["split"],
        "synthetic": bool(run.get("synthetic", False)),
        "weights_sha256": sha256,
        "command": f"mrsr-bench run --model {run['resolved']} --dataset {place}{suffix} "
        f"--protocol {run['protocol']} --split {run['split']} --subjects {len(run['subjects'])} --seed {run['seed']}",
        "scores": run["scores"],
    }


def picture_name(entry: Mapping[str, Any]) -> str | None:
    """The file that holds, on a card, the worst subject by PSNR of a `score_entry`; None where it tells of none."""
    from mrsr_bench.benchmarks.results import file_name

    worst = worst_subjects(entry).get("psnr")
    return None if worst is None else PICTURE.format(f"{entry['protocol']}--{file_name(worst[0])}")


def add_picture(folder: Path, run: Path, entry: Mapping[str, Any]) -> Path | None:
    """Copy the figure of the run's worst subject by PSNR to the card's folder, lightly; None where there is none."""
    from mrsr_bench.benchmarks.figures import light_copy
    from mrsr_bench.benchmarks.results import FIGURES_FOLDER, file_name

    name = picture_name(entry)
    if name is None:
        return None
    figures = sorted((run / FIGURES_FOLDER).glob(f"{file_name(worst_subjects(entry)['psnr'][0])}--*.png"))
    if not figures:
        return None
    target = folder / name
    try:
        return light_copy(figures[0], target)
    except (UserError, OSError):  # too large to be made light, or no picture that is understood here
        return Path(shutil.copyfile(figures[0], target))


def declared_since(spec: MethodSpec, config: Mapping[str, Any]) -> list[str]:
    """What the recipe of weights declares now and did not when they were trained.

    Raises:
        UserError: the method has no such recipe any more, or it trains otherwise now.
    """
    from mrsr_bench.zoo.recipe import Recipe
    from mrsr_bench.zoo.training import resolve_recipe

    then = Recipe.model_validate(config["recipe"])
    named = (recipe for recipe in (resolve_recipe(spec, key) for key in spec.recipes) if recipe.name == then.name)
    now = next(named, None)
    apart = {"deviations", "summary", "stages"}
    if (
        now is None
        or now.scaled(then.stages[-1].steps).stages[-len(then.stages) :] != then.stages
        or now.model_dump(exclude=apart) != then.model_dump(exclude=apart)
    ):
        raise UserError(
            f"{config['method']}--{config['protocol']}: the recipe {then.name} is not what these weights were trained "
            "by; what it declares cannot be taken over"
        )
    return [text for text in now.deviations if text not in then.deviations]


def add_scores(folder: Path, runs: Sequence[Path], *, declare: bool = False) -> Path:
    """Put the scores of stored runs and figures of their worst subjects on the card of the weights that made them.

    With ``declare`` what their recipe declares by now (`declared_since`) is kept beside what it declared then.

    Raises:
        UserError: a run was made with other weights, or the recipe with other settings.
    """
    from mrsr_bench.benchmarks.results import read_run, write_text
    from mrsr_bench.zoo.methods import methods

    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder}: expected a folder of weights, with a {CONFIG}")
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if declare:
        # In a place of its own: the recipe is covered by the SHA-256 of the tensors, whose file holds it too.
        config["further_deviations"] = declared_since(methods.get(config["method"]), config)
        write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
    if runs:
        sha256 = sha256_of_file(folder / MODEL)
        config["scores"] = [score_entry(read_run(path), sha256, path) for path in runs]
        write_text(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")
        for old in folder.glob(PICTURE.format("*")):
            old.unlink()
        for path, entry in zip(runs, config["scores"], strict=True):
            add_picture(folder, path if path.is_dir() else path.parent, entry)
    return write_card(methods.get(config["method"]), config, folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mrsr_bench.zoo.cards", description="Write a card again.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="weights, with their config.json")
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="runs whose scores go on the card")
    parser.add_argument("--declare", action="store_true", help="take over what the recipe has declared since")
    asked = parser.parse_args()
    try:
        print(add_scores(asked.folder, asked.runs, declare=asked.declare))
    except UserError as error:
        sys.exit(f"mrsr-bench: {error}")
