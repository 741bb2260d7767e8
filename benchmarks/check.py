"""`mrsr-bench data check`: is a dataset what it should be, image by image and as a whole.

Every image, both of a pair, is read to its last voxel in worker processes. Found are counts and subjects that are
missing, images without a partner, pairs that do not lie on one another, images that cannot be read, voxel sizes that
the dataset does not have, images with the same voxels, and axes whose matrix was only partly measured
(`mrsr_bench.benchmarks.bandwidth`), which is a property and no fault, but makes HR less than it says.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mrsr_bench.benchmarks.dataset import Case
    from mrsr_bench.volume import Volume

Notify = Callable[[str, int, int], None]
Facts = dict[str, Any]

MIN_IMAGES_TO_POOL = 4
EDGES_AGREE = 0.05
"""Of Nyquist: spread (interquartile) of the edges of one axis over images that were acquired alike."""
SHOWN = 8
"""Names that the table lists before it counts the rest; ``--json`` has all."""


def examine(case: Case) -> list[Facts]:
    """Facts about every image of a case: of a pair there are two, and the second says how they lie on one another."""
    found = [_facts_of(case, part, read) for part, read in case.parts().items()]
    if len(found) > 1 and not any(facts["fault"] for facts in found):
        try:
            fit = case.fit()
        except UserError as error:
            found[-1]["unaligned"] = str(error)
        else:
            if fit is not None:
                found[-1] |= {
                    "shift_mm": round(fit.shift_mm, 3),
                    "correlation": round(fit.correlation, 3),
                    "unaligned": fit.unaligned,
                }
    return found


def _facts_of(case: Case, part: str, read: Callable[[], Volume]) -> Facts:
    """Shape, spacing (mm), hash of the voxels, bandwidth per axis of an image; or what is wrong with it."""
    from mrsr_bench.benchmarks.bandwidth import bandwidth

    facts: Facts = {"subject": case.subject, "image": case.image, **({"part": part} if part else {}), "fault": None}
    try:
        volume = read()
    except UserError as error:
        return {**facts, "fault": str(error)}
    data = volume.data
    if not data.max() > data.min():
        facts["fault"] = f"{case.image}: all voxels are {data.flat[0]:g}; fetch or export it again"
    measured = bandwidth(data)
    return {
        **facts,
        "shape": list(data.shape),
        "spacing": [round(size, 4) for size in volume.spacing],
        "voxels": hashlib.sha256(str(data.shape).encode() + data.tobytes()).hexdigest(),
        "bandwidth": [None if axis.fraction is None else round(axis.fraction, 3) for axis in measured],
        "step_db": [round(axis.step, 2) for axis in measured],
        "edge": [round(axis.edge, 3) for axis in measured],
        "sharp": [axis.sharp for axis in measured],
        "rolls_off": [axis.rolls_off for axis in measured],
    }


def check(
    name_or_path: str,
    *,
    root: Path | None = None,
    suffix: str | None = None,
    jobs: int | None = None,
    notify: Notify | None = None,
) -> dict[str, Any]:
    """Examine every image of a dataset; ``problems`` is empty and ``ok`` true if nothing is wrong.

    Raises:
        UserError: there is no such dataset, or nothing of it is there.
    """
    from mrsr_bench.benchmarks.datasets import open_dataset
    from mrsr_bench.benchmarks.datasets.published import PublishedDataset

    dataset = open_dataset(name_or_path, suffix=suffix)
    if root is not None and not isinstance(dataset, PublishedDataset):
        raise UserError(
            f"--root is where published datasets lie; {name_or_path} is a place of its own, so leave it out"
        )
    if isinstance(dataset, PublishedDataset):
        if checked_as := getattr(dataset, "checked_as", None):
            raise UserError(f"{dataset.name} is another split of {checked_as}; run: mrsr-bench data check {checked_as}")
        dataset = dataset.at(root)
    cases = dataset.checkable()
    images = _examine_all(cases, jobs, notify)
    of_the_whole = [_problem(fault.kind, fault.sentence, fault.items) for fault in dataset.faults()]
    problems = [*of_the_whole, *_faults(images), *_unaligned(images), *_duplicates(images)]
    found: dict[str, Any] = {
        "dataset": dataset.name,
        "subjects": len({case.subject for case in cases}),
        "images": len(images),
    }
    if isinstance(dataset, PublishedDataset):
        found["place"] = str(dataset.place())
        problems = [*_against_expectation(dataset, images), *problems]
        found["split"] = dataset.split_facts()
    found["spacings"] = dict(
        Counter(" x ".join(f"{s:g}" for s in image["spacing"]) for image in images if "spacing" in image).most_common()
    )
    found["bandwidth"] = [
        {**({"part": part} if part else {}), **axis}
        for part in dict.fromkeys(image.get("part", "") for image in images)
        for axis in pooled_bandwidth([image for image in images if image.get("part", "") == part])
    ]
    if shifts := [image["shift_mm"] for image in images if "shift_mm" in image]:
        found["pairs"] = {"measured": len(shifts), "largest_shift_mm": max(shifts)}
    found["problems"] = problems
    found["ok"] = not problems
    found["details"] = images
    return found


def _examine_all(cases: Sequence[Case], jobs: int | None, notify: Notify | None) -> list[Facts]:
    workers = min(jobs or _usable_cores(), len(cases))
    if workers <= 1:
        return [facts for found in _counted(map(examine, cases), len(cases), notify) for facts in found]
    # Spawned, since a fork copies whatever threads and locks this process holds.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.map(examine, cases, chunksize=1)
        return [facts for of_case in _counted(found, len(cases), notify) for facts in of_case]


def _counted(found: Iterable[list[Facts]], total: int, notify: Notify | None) -> Iterable[list[Facts]]:
    for done, facts in enumerate(found, start=1):
        if notify is not None:
            notify(str(facts[0]["image"]), done, total)
        yield facts


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _problem(kind: str, sentence: str, items: Sequence[str]) -> dict[str, Any]:
    return {"kind": kind, "sentence": sentence, "items": list(items)}


def _against_expectation(dataset: Any, images: Sequence[Facts]) -> list[dict[str, Any]]:
    problems = []
    expected = dataset.expected
    there = {image["subject"] for image in images}
    for what, wanted, count in (
        ("subjects", expected.subjects, len(there)),
        ("images", expected.images, len(images)),
    ):
        if wanted is not None and count != wanted:
            problems.append(_problem("count", f"{count} {what} where a complete copy has {wanted}", []))
    missing = sorted(set(dataset.known_subjects()) - there)
    if missing:
        problems.append(_problem("missing", f"{len(missing)} subjects have no image", missing))
    empty = [name for name, members in dataset.splits().items() if not there & set(members)]
    if empty:
        problems.append(_problem("split", f"no subject that is here is in the split {' or '.join(empty)}", []))
    odd = [
        f"{image['image']} ({' x '.join(f'{s:g}' for s in image['spacing'])} mm)"
        for image in images
        if "spacing" in image and not expected.allows(image["spacing"])
    ]
    if odd:
        ranges = " x ".join(f"{low:.3g}-{high:.3g}" for low, high in expected.spacing)
        problems.append(_problem("spacing", f"{len(odd)} images have other voxels than {ranges} mm", odd))
    return problems


def _faults(images: Sequence[Facts]) -> list[dict[str, Any]]:
    faults = [f"{_subject_and_part(image)}: {image['fault']}" for image in images if image["fault"]]
    return [_problem("corrupt", f"{len(faults)} images cannot be used", faults)] if faults else []


def _subject_and_part(image: Facts) -> str:
    return f"{image['subject']} {image['part']}" if "part" in image else str(image["subject"])


def _unaligned(images: Sequence[Facts]) -> list[dict[str, Any]]:
    """Pairs that no metric with reference is taken of."""
    apart = [f"{image['subject']}: {image['unaligned']}" for image in images if image.get("unaligned")]
    return [_problem("alignment", f"{len(apart)} pairs cannot be compared", apart)] if apart else []


def _duplicates(images: Sequence[Facts]) -> list[dict[str, Any]]:
    same: defaultdict[str, list[Facts]] = defaultdict(list)
    for image in images:
        if "voxels" in image and not image["fault"]:
            same[image["voxels"]].append(image)
    groups = [
        " = ".join(f"{_subject_and_part(i)}/{i['image']}" for i in group) for group in same.values() if len(group) > 1
    ]
    return [_problem("duplicate", f"{len(groups)} images are there more than once", groups)] if groups else []


def pooled_bandwidth(images: Sequence[Facts]) -> list[dict[str, Any]]:
    """Per array axis: how many images show padding, the median fraction of Nyquist measured, and a sentence about it.

    A step too small to be believed in one image is, when the edges of several images agree (see `bandwidth`).
    """
    import numpy as np

    from mrsr_bench.benchmarks.bandwidth import MAX_EDGE, POOLED_STEP_DB

    found = []
    for axis in range(3):
        known = [i for i in images if i.get("bandwidth") and i["bandwidth"][axis] is not None]
        padded = [i for i in known if i["bandwidth"][axis] < 1]
        edges = np.array([i["edge"][axis] for i in known])
        agree = len(known) >= MIN_IMAGES_TO_POOL and float(np.subtract(*np.percentile(edges, [75, 25]))) <= EDGES_AGREE
        pooled = agree and float(np.median([i["step_db"][axis] for i in known])) >= POOLED_STEP_DB
        pooled = pooled and float(np.median(edges)) <= MAX_EDGE
        pooled = pooled and sum(i["sharp"][axis] for i in known) > len(known) / 2
        fraction = None
        if pooled:
            fraction = float(np.median(edges))
        elif padded:
            fraction = float(np.median([i["bandwidth"][axis] for i in padded]))
        many = len(known) if pooled else len(padded)
        sentence = "too short to tell" if not known else "measured to Nyquist as far as can be seen"
        rolling = sum(i["rolls_off"][axis] for i in known)
        if rolling:
            sentence = f"{rolling} of {len(known)} images roll off without an edge: smoothed, as far as can be seen"
        if fraction is not None:
            sentence = f"{many} of {len(known)} images are zero-filled: measured to {fraction:.2f} of Nyquist (median)"
        found.append(
            {
                "axis": axis,
                "images": len(known),
                "zero_filled": many,
                "roll_off": rolling,
                "fraction": fraction,
                "says": sentence,
            }
        )
    return found


def table(found: Mapping[str, Any]) -> RenderableType:
    """The report for people."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    facts = Table(show_header=False, box=None, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("dataset", escape(str(found["dataset"])))
    if "place" in found:
        facts.add_row("place", escape(found["place"]))
    facts.add_row("found", f"{found['subjects']} subjects, {found['images']} images")
    facts.add_row("voxels, mm", escape(_listed([f"{size} ({count})" for size, count in found["spacings"].items()])))
    for axis in found["bandwidth"]:
        facts.add_row(f"{axis.get('part', '')} axis {axis['axis']}".strip(), escape(axis["says"]))
    if "pairs" in found:
        facts.add_row("pairs", "{measured} measured, up to {largest_shift_mm:.2f} mm apart".format(**found["pairs"]))
    if "split" in found:
        split = found["split"]
        sizes = ", ".join(f"{name} {count}" for name, count in split["sizes"].items())
        notes = "; ".join(split[key] for key in ("families", "note") if key in split)
        facts.add_row("split", escape(f"{sizes}; SHA-256 {split['sha256'][:16]}" + (f"; {notes}" if notes else "")))
    faults = Table("problem", "what", "which", show_lines=False)
    for problem in found["problems"]:
        faults.add_row(problem["kind"], escape(problem["sentence"]), escape(_listed(problem["items"])))
    return Group(facts, faults if found["problems"] else "no problem found")


def _listed(items: Sequence[str]) -> str:
    more = f"\n... and {len(items) - SHOWN} more (--json has all)" if len(items) > SHOWN else ""
    return "\n".join(items[:SHOWN]) + more
