"""Cross-validation: the subjects of a dataset in folds, each the test set once, as a protocol's ``folds`` states.

Folds are of subjects, never of slices, and depend on nothing but the seed and the sorted names. What trains for a fold
sees the other folds only; weights that have seen one of its subjects are refused for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrsr_bench import UserError
from mrsr_bench.benchmarks.dataset import SPLITS, Case, Dataset
from mrsr_bench.benchmarks.protocol import subject_seed

if TYPE_CHECKING:
    from mrsr_bench.benchmarks.protocol import Protocol
    from mrsr_bench.zoo.inference import LoadedMethod

VALIDATION_SHARE = 0.1
"""Of the subjects outside a fold: they choose the checkpoint. One at least."""


def assigned(subjects: Sequence[str], count: int, seed: int) -> list[list[str]]:
    """``subjects`` in ``count`` folds of sizes that differ by one at most, each sorted.

    Raises:
        UserError: there are fewer subjects than folds.
    """
    order = sorted(set(subjects), key=lambda subject: (subject_seed(seed, subject), subject))
    if len(order) < count:
        raise UserError(f"{count} folds take {count} subjects and there are {len(order)}")
    return [sorted(order[fold::count]) for fold in range(count)]


class FoldDataset(Dataset):
    """A dataset with one fold as its test split and the others as training and validation."""

    def __init__(self, dataset: Dataset, fold: int, count: int, seed: int) -> None:
        self.whole, self.fold, self.count, self.seed = dataset, fold, count, seed
        self.name = f"{dataset.name}-fold-{fold}-of-{count}"
        self.summary, self.terms = dataset.summary, dataset.terms
        self.synthetic = dataset.synthetic

    @property
    def folder(self) -> str:
        """What the folder of a training for this fold is called."""
        return f"fold-{self.fold}-of-{self.count}"

    def cases(self, split: str, *, seed: int = 0) -> Sequence[Case]:
        """The cases of a split: ``test`` is the fold.

        Raises:
            UserError: as the dataset itself, or there are too few subjects.
        """
        if split not in SPLITS:
            raise UserError(f"{self.name} has no split {split!r}; it has: {', '.join(SPLITS)}")
        cases = self.whole.cases("all", seed=seed)
        if split == "all":
            return cases
        chosen = self.splits([case.subject for case in cases])[split]
        return [case for case in cases if case.subject in chosen]

    def splits(self, subjects: Sequence[str]) -> dict[str, list[str]]:
        """Split to subjects, of all the subjects there are."""
        folds = assigned(subjects, self.count, self.seed)
        test = folds[self.fold]
        rest = [subject for fold in folds for subject in fold if subject not in test]
        rest.sort(key=lambda subject: (subject_seed(self.seed + 1, subject), subject))
        held = min(max(1, round(VALIDATION_SHARE * len(rest))), len(rest) - 1)
        return {"test": test, "val": sorted(rest[:held]), "train": sorted(rest[held:])}


def fold_of(dataset: Dataset, protocol: Protocol, fold: int) -> FoldDataset:
    """``dataset`` with the fold ``fold`` (from 0) of ``protocol`` as its test split.

    Raises:
        UserError: the protocol does not cross-validate, or has no such fold.
    """
    if protocol.folds is None:
        raise UserError(f"{protocol.name} has no folds; leave --fold out")
    count = protocol.folds["count"]
    if not 0 <= fold < count:
        raise UserError(f"--fold is 0 to {count - 1} under {protocol.name}; got {fold}")
    return FoldDataset(dataset, fold, count, protocol.folds["seed"])


def refuse_seen(name: str, method: LoadedMethod, dataset: FoldDataset, subjects: Sequence[str]) -> None:
    """Refuse weights whose training or validation saw a subject of the fold.

    Weights of other datasets cannot have seen it; those that do not say what they were trained on are refused too.

    Raises:
        UserError: the weights saw one of ``subjects``, or do not say whom they saw.
    """
    if method.weights_sha256 is None or method.weights is None:
        return
    trained: dict[str, Any] = method.weights.config.get("trained") or {}
    if "train_subjects" not in trained or "dataset" not in trained:
        raise UserError(
            f"the weights of {name} do not say which subjects they were trained on, so nothing vouches for fold "
            f"{dataset.fold}; train them with `mrsr-bench train --fold {dataset.fold}`"
        )
    origin = str(trained["dataset"]).partition("-fold-")[0]
    seen = {*trained["train_subjects"], *trained.get("val_subjects", ())} & set(subjects)
    if origin == dataset.whole.name and seen:
        few = ", ".join(sorted(seen)[:3]) + (", ..." if len(seen) > 3 else "")
        raise UserError(
            f"the weights of {name} were trained on subjects of fold {dataset.fold} ({few}); "
            f"train some on the other folds with `mrsr-bench train --fold {dataset.fold}`"
        )


def training_fold(
    dataset: Dataset, model: str, protocol: str | None, fold: int, out: Path | None
) -> tuple[FoldDataset, str, Path]:
    """What training for a fold takes: the dataset without the fold, the task, and a folder of its own.

    ``protocol`` is the one that cross-validates; its weights are those of the method's task of the same degradation.

    Raises:
        UserError: the protocol has no such fold, or the method does not do it.
    """
    from mrsr_bench.benchmarks.entrants import task_served
    from mrsr_bench.benchmarks.protocol import get_protocol
    from mrsr_bench.zoo.methods import methods
    from mrsr_bench.zoo.training import DEFAULT_FOLDER

    if protocol is None:
        raise UserError("--fold needs --protocol, the one that cross-validates")
    chosen = get_protocol(protocol)
    task = task_served(methods.get(model), chosen)
    if task is None:
        raise UserError(f"{model} does not do {protocol}")
    part = fold_of(dataset, chosen, fold)
    return part, task, (out or DEFAULT_FOLDER) / part.folder
