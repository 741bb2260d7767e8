"""Splits of published datasets: by subject, seeded, exact in size, and hashed.

A committed list (``splits/NAME.json``) says for every subject on which side it is. Where the list of subjects is not
ours to publish or not known from a public source, the file holds the rule alone, and the user's own list of subjects
decides; the hash of the result lets two sites see whether they split alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.datasets.subject_tables import read_rows
from mrsr_bench.benchmarks.protocol import sha256_of, subject_seed

Splits = dict[str, list[str]]


def seeded_split(
    subjects: Iterable[str], sizes: Mapping[str, int], seed: int, families: Mapping[str, str] | None = None
) -> Splits:
    """Subjects to splits of the stated sizes; with ``families`` (subject to family) no family is on two sides.

    The order is that of `subject_seed` (SHA-256 of "{seed}:{name}"), of the family's first member where there are
    families, so the result depends on nothing but the sorted names. The first name of ``sizes`` takes what is left;
    the others are filled one after the other with whole families while they fit.

    Raises:
        UserError: the sizes do not add up to the number of subjects.
    """
    names = sorted(set(subjects))
    if sum(sizes.values()) != len(names):
        raise UserError(f"a split of {sum(sizes.values())} subjects cannot be made of {len(names)}")
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault((families or {}).get(name, name), []).append(name)
    waiting = sorted(groups.values(), key=lambda members: (subject_seed(seed, members[0]), members[0]))
    rest, *filled = sizes
    found: Splits = {name: [] for name in sizes}
    for split in filled:
        left = []
        for members in waiting:
            if len(found[split]) + len(members) <= sizes[split]:
                found[split] += members
            else:
                left.append(members)
        waiting = left
    found[rest] = [name for members in waiting for name in members]
    return {split: sorted(members) for split, members in found.items()}


def share_split(subjects: Iterable[str], shares: Mapping[str, float], seed: int) -> Splits:
    """Subjects to splits by their names alone: `subject_seed` / 2**64 falls into one of the consecutive ``shares``.

    A subject is on the same side whoever else is there, so that contrasts and sites of one dataset agree; the
    sizes are the shares only on average.
    """
    found: Splits = {name: [] for name in shares}
    for subject in sorted(set(subjects)):
        place, reached, side = subject_seed(seed, subject) / 2**64, 0.0, ""
        for side, share in shares.items():  # noqa: B007 - the last one takes what rounding leaves
            reached += share
            if place < reached:
                break
        found[side].append(subject)
    return found


def scaled_sizes(sizes: Mapping[str, int], count: int) -> dict[str, int]:
    """``sizes`` shrunk or stretched to ``count`` subjects, at least one in each while there are enough."""
    total = sum(sizes.values())
    rest, *others = sizes
    scaled = {name: min(max(1, round(sizes[name] * count / total)), max(0, count // len(sizes))) for name in others}
    return {rest: count - sum(scaled.values()), **scaled}


def splits_sha256(splits: Mapping[str, Sequence[str]]) -> str:
    """SHA-256 of the canonical JSON of split to sorted subjects."""
    return sha256_of({name: sorted(members) for name, members in splits.items()})


@lru_cache(maxsize=32)
def committed(name: str) -> dict[str, Any]:
    """The content of ``splits/NAME.json``, its hash verified.

    Raises:
        RuntimeError: the file was changed by hand.
    """
    file = files("mrsr_bench.benchmarks.datasets").joinpath("splits", f"{name}.json")
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if "splits" in content and splits_sha256(content["splits"]) != content["sha256"]:
        raise RuntimeError(f"splits/{name}.json does not have the hash it states; a new split is a new file")
    return content


def families_of(path: Path) -> dict[str, str]:
    """Subject to family (its first member's name) from HCP's restricted table: whoever shares a parent is one family.

    Nothing of the table is stored anywhere but its SHA-256 (`file_sha256`).

    Raises:
        UserError: the file is not that table.
    """
    columns = ("Subject", "Mother_ID", "Father_ID")
    advice = "expected HCP's restricted table, so download it again"
    rows = read_rows(path, columns, advice)
    if not rows:
        raise UserError(f"{path.name}: has no rows; {advice}")
    above: dict[str, str] = {}

    def top(node: str) -> str:
        while above.setdefault(node, node) != node:
            node = above[node]
        return node

    for row in rows:
        for parent in (f"mother:{row['Mother_ID']}", f"father:{row['Father_ID']}"):
            if parent.partition(":")[2]:
                above[top(parent)] = top(row["Subject"])
    first: dict[str, str] = {}
    for subject in sorted(row["Subject"] for row in rows):
        first.setdefault(top(subject), subject)
    return {row["Subject"]: first[top(row["Subject"])] for row in rows}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
