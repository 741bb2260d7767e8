"""Model cards: one README.md beside every weight file, with metadata that the Hugging Face Hub reads.

Everything on a card comes from ``config.json``, the training log and, once there is one, a stored run.
``python -m mrsr_bench.zoo.cards FOLDER RUN...`` puts the scores of runs on the card of the weights that made them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.zoo.method import MethodSpec
from mrsr_bench.zoo.weights import CARD, CONFIG, LOG, MODEL, sha256_of_file

SCORED = ("psnr", "ssim", "nrmse", "piqe", "data_consistency")


def write_card(spec: MethodSpec, config: Mapping[str, Any], folder: Path) -> Path:
    """Write the card of the weights in ``folder``; returns its path."""
    path = folder / CARD
    path.write_text("\n".join(_lines(spec, config, folder)) + "\n", encoding="utf-8")
    return path


def _front_matter(spec: MethodSpec, config: Mapping[str, Any]) -> list[str]:
    import yaml

    entry: dict[str, Any] = {"name": spec.name}
    results = [
        {
            "task": {"type": "image-to-image", "name": "MRI super-resolution"},
            "dataset": {"type": "mrsr-bench", "name": run["dataset"]},
            "metrics": [
                {"type": key, "value": round(run["scores"][key]["mean"], 4), "name": f"{key} ({run['protocol']})"}
                for key in SCORED
                if run["scores"].get(key, {}).get("mean") is not None
            ],
        }
        for run in config.get("scores", ())
    ]
    metadata: dict[str, Any] = {
        "library_name": "mrsr-bench",
        "license": "apache-2.0",
        "pipeline_tag": "image-to-image",
        "tags": ["mri", "super-resolution", "medical-imaging", str(config["protocol"])],
    }
    if results:
        metadata["model-index"] = [{**entry, "results": results}]
    return ["---", yaml.safe_dump(metadata, sort_keys=False).rstrip(), "---"]


def _lines(spec: MethodSpec, config: Mapping[str, Any], folder: Path) -> list[str]:
    trained = config["trained"]
    validation = config["validation"]
    modes = validation["psnr_by_batch_norm"]
    chosen = config["tiling"]["batch_norm"]
    factor = "x".join(f"{f:g}" for f in config["task"]["parameters"]["factor"])
    lines = [
        *_front_matter(spec, config),
        "",
        f"# {spec.name} for {config['protocol']}",
        "",
        f"{spec.summary[0].upper()}{spec.summary[1:]}; {config['parameters']:,} parameters. Paper: {spec.paper}.",
        f"Task: `{config['task']['degradation']}`, factor {factor} (R x A x S).",
        "",
        *_training_state(config, folder),
        "## Use",
        "",
        "```",
        "pip install mrsr-bench",
        f"mrsr-bench upscale IN.nii.gz OUT.nii.gz --model {spec.name} --factor {factor} --profile kspace",
        f"mrsr-bench run --model {spec.name} --dataset PATH --protocol {config['protocol']}",
        "```",
        "",
        "Meant for research on MRI super-resolution and for comparison. **Not a medical device**: a network can",
        "invent or remove structure, and nobody has tested this one for any clinical decision.",
        "",
        "## Training data",
        "",
        f"{len(trained['train_subjects'])} subjects: {', '.join(trained['train_subjects'])}; validated on "
        f"{', '.join(trained['val_subjects'])}.",
        f"Sources and terms: {trained['terms']}.",
        "",
        "## Validation",
        "",
        f"Mean PSNR over {config['recipe']['validation_patches']} fixed validation patches: {modes[chosen]:.3f} dB "
        f"({validation['psnr_regrid']:.3f} dB for its {config['regrid']} input). Batch norm with running statistics: "
        f"{modes['eval']:.3f} dB; with each tile's own statistics: {modes['tile']:.3f} dB; used: {chosen}.",
        "",
    ]
    for run in config.get("scores", ()):
        lines += _scores(run)
    lines += ["## Deviations from the paper", ""]
    lines += [f"- {text}" for text in (*spec.deviations, *config["recipe"]["deviations"])]
    lines += ["", "![training](loss.png)", "", f"Cite: {spec.paper}.", f"Licence of these weights: {spec.licence}."]
    return lines


def _training_state(config: Mapping[str, Any], folder: Path) -> list[str]:
    from mrsr_bench.zoo.curves import read_log, training_seconds

    minutes = training_seconds(read_log(folder / LOG)) / 60 if (folder / LOG).is_file() else 0.0
    recipe = config["recipe"]
    stages = ", then ".join(
        f"{s['steps']:,} {'generator ' if s['game'] else ''}updates of {s['batch']} patches of "
        f"{' x '.join(map(str, s['patch']))} ({s['name']})"
        for s in recipe["stages"]
    )
    lines = [
        f"Trained by the recipe `{recipe['name']}`: {stages}; {minutes:.0f} minutes on {config['trained']['hardware']}."
    ]
    if config["trained"].get("parent_sha256"):
        lines.append(f"It started from the weights with SHA-256 `{config['trained']['parent_sha256']}`.")
    if recipe["name"] != "paper":
        lines += [
            "",
            "> **Undertrained.** The paper trains far longer, on far more subjects; these scores are a lower bound.",
        ]
    return [*lines, ""]


def _scores(run: Mapping[str, Any]) -> list[str]:
    subjects = run["scores"]["psnr"]["per_subject"]
    lines = [
        f"## Scores: {run['dataset']}, protocol `{run['protocol']}`",
        "",
        f"`{run['command']}`",
        "",
        f"Weights SHA-256 `{run['weights_sha256'][:16]}`, protocol hash `{run['protocol_hash'][:16]}`.",
        "",
    ]
    keys = [key for key in SCORED if run["scores"].get(key, {}).get("mean") is not None]
    lines += ["| subject | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for subject in subjects:
        values = [run["scores"][key]["per_subject"].get(subject) for key in keys]
        lines.append(f"| {subject} | " + " | ".join("-" if v is None else f"{v:.4f}" for v in values) + " |")
    means = []
    for key in keys:
        score = run["scores"][key]
        interval = score["ci95"]
        means.append(f"{score['mean']:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""))
    return [*lines, "| **mean** [95 % interval] | " + " | ".join(means) + " |", ""]


def add_scores(folder: Path, runs: Sequence[Path]) -> Path:
    """Put the scores of stored runs (their ``run.json``) on the card of the weights that made them.

    Raises:
        UserError: a run was made with other weights.
    """
    from mrsr_bench.benchmarks.results import read_run
    from mrsr_bench.zoo.methods import methods

    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    sha256 = sha256_of_file(folder / MODEL)
    scores = []
    for path in runs:
        run = read_run(path)
        if run["weights_sha256"] != sha256:
            raise UserError(f"{path}: was made with other weights than those in {folder}; run them again")
        scores.append(
            {
                "dataset": run["dataset"],
                "protocol": run["protocol"],
                "protocol_hash": run["protocol_hash"],
                "weights_sha256": sha256,
                "command": f"mrsr-bench run --model {run['resolved']} --dataset PATH/{run['dataset']} "
                f"--protocol {run['protocol']} --split {run['split']} --seed {run['seed']}",
                "scores": run["scores"],
            }
        )
    config["scores"] = scores
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return write_card(methods.get(config["method"]), config, folder)


if __name__ == "__main__":
    try:
        print(add_scores(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]]))
    except UserError as error:
        sys.exit(f"mrsr-bench: {error}")
