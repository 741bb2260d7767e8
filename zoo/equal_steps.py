"""Trainings side by side after equal numbers of updates: validation PSNR from their logs, as a table and a figure.

``python -m mrsr_bench.zoo.equal_steps FOLDER... --steps 250 500 1000 --out docs/equal-steps`` writes the page (``.md``)
and the figure (``.png``). Only trainings that validated on the same patches share a table: same tasks and validation
subjects, and the same PSNR of their input, to the last digit.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.zoo.cards import tasks_of
from mrsr_bench.zoo.curves import INK, OKABE_ITO, Stage, read_log, save_png
from mrsr_bench.zoo.weights import CONFIG, LOG


@dataclass(frozen=True)
class Trained:
    """A folder of weights: its method, configuration, and the first stage of its log."""

    folder: Path
    config: Mapping[str, Any]
    stage: Stage

    @property
    def method(self) -> str:
        """The name of the network."""
        return str(self.config["method"])

    @property
    def began_elsewhere(self) -> bool:
        """Whether it started from other weights, whose updates its log does not count."""
        return bool(self.config["trained"].get("parent_sha256"))

    def validated(self) -> dict[int, float]:
        """Validation PSNR (dB) by the number of updates made."""
        steps, values = self.stage.curve("val_psnr")
        return {round(step) + 1: float(value) for step, value in zip(steps, values, strict=True)}

    def batch(self) -> str:
        """Batch and patch of the stage, as ``4 x 24 x 24 x 24``."""
        first = self.config["recipe"]["stages"][0]
        return " x ".join(map(str, (first["batch"], *first["patch"])))


def read(folder: Path) -> Trained:
    """A folder of weights with its log.

    Raises:
        UserError: there is no configuration of a training, or no readable log.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        found = Trained(folder, config, read_log(folder / LOG)[0])
        _ = found.method, found.began_elsewhere, found.batch(), _measured_on(found)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: expected a folder of trained weights, with {CONFIG} and {LOG}") from error
    return found


def _measured_on(trained: Trained) -> str:
    """What two trainings must share for their validations to be one measure."""
    facts, recipe = trained.config["trained"], trained.config["recipe"]
    psnr = trained.config["validation"].get("psnr_regrid")
    same = [
        tasks_of(trained.config),
        facts["val_subjects"],
        recipe["validation_patches"],
        psnr,
    ]
    return json.dumps(same, sort_keys=True)


def table(trainings: Sequence[Trained], steps: Sequence[int], command: str) -> str:
    """The Markdown page.

    Raises:
        UserError: the trainings validated on other patches.
    """
    measured = {_measured_on(t) for t in trainings}
    if len(measured) > 1:
        names = ", ".join(t.folder.name for t in trainings)
        raise UserError(f"{names}: did not validate on the same patches, so equal steps say nothing; name fewer")
    first = trainings[0].config
    regridded = first["validation"].get("psnr_regrid")
    lines = ["# Equal steps", "", "Written by", "", "```", command, "```", ""]
    lines += [
        f"PSNR in dB over the {first['recipe']['validation_patches']} validation patches that all of them share "
        f"({', '.join(first['trained']['val_subjects'])}; {regridded:.3f} dB for their {first['regrid']} input), after "
        "equal numbers of updates of their first stage.",
        "",
        "| method | batch x patch | " + " | ".join(f"{step:,}" for step in steps) + " | planned |",
        "|---|---|" + "--:|" * (len(steps) + 1),
    ]
    for trained in trainings:
        values = trained.validated()
        cells = [f"{values[step]:.3f}" if step in values else "–" for step in steps]
        planned = trained.config["recipe"]["stages"][0]["steps"]
        mark = " ‡" if trained.began_elsewhere else ""
        lines.append(f"| {trained.method}{mark} | {trained.batch()} | {' | '.join(cells)} | {planned:,} |")
    lines += [
        "",
        "–: not validated after that many updates, or stopped before. The learning rate falls over the planned "
        "updates, so that a training read off before its end has not come to rest: its value is a lower bound.",
    ]
    if any(t.began_elsewhere for t in trainings):
        lines += ["", "‡ began with trained weights, whose updates are not counted here."]
    return "\n".join(lines) + "\n"


def draw(trainings: Sequence[Trained], out: Path) -> Path:
    """Validation PSNR against updates, one line per training; the input's PSNR dashed."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context("default"):
        figure = Figure(figsize=(7.5, 4.2), dpi=200, facecolor="white", layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#E2E2E2", lw=0.5)
        for number, trained in enumerate(trainings):
            values = sorted(trained.validated().items())
            steps, psnr = zip(*values, strict=True)
            color = OKABE_ITO[number % len(OKABE_ITO)]
            axes.plot(steps, psnr, color=color, marker="os^Dv"[number % 5], ms=3, lw=1.4, label=trained.method)
        level = trainings[0].config["validation"].get("psnr_regrid")
        if level is not None:
            axes.axhline(level, color=INK, lw=1.0, ls=(0, (5, 3)), label=str(trainings[0].config["regrid"]))
        axes.set_xlabel("updates", color=INK)
        axes.set_ylabel("validation PSNR, dB", color=INK)
        axes.legend(frameon=False, fontsize=8)
        return save_png(figure, out)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    from mrsr_bench.benchmarks.results import write_text

    parser = argparse.ArgumentParser(
        prog="python -m mrsr_bench.zoo.equal_steps", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="weights with their training's log")
    parser.add_argument("--steps", type=int, nargs="+", required=True, help="numbers of updates, the table's columns")
    parser.add_argument("--out", type=Path, required=True, help="page and figure, without their endings")
    asked = parser.parse_args(argv)
    words = [*map(str, asked.folders), "--steps", *map(str, asked.steps), "--out", str(asked.out)]
    command = shlex.join(["python", "-m", "mrsr_bench.zoo.equal_steps", *words])
    try:
        trainings = [read(folder) for folder in asked.folders]
        if empty := [t.folder.name for t in trainings if not t.validated()]:
            raise UserError(f"{', '.join(empty)}: the log holds no validation in the first stage")
        page = table(trainings, asked.steps, command)
        picture = f"\n![validation PSNR against updates]({asked.out.name}.png)\n"
        write_text(asked.out.with_suffix(".md"), page + picture)
        draw(trainings, asked.out.with_suffix(".png"))
    except UserError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
