"""What a dataset is: subjects, splits, and for each image an HR volume or, if it can do better, an acquisition.

A `Case` is one image of one subject. Subjects are the unit of every statistic; a subject with several images
(the volumes of a 4D series) counts once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mrsr_bench.benchmarks.degradation import Degradation, Params
    from mrsr_bench.volume import FloatArray, Grid, Volume

SPLITS = ("train", "val", "test", "all")


@dataclass(frozen=True, eq=False)
class Pair:
    """LR and its reference HR on the grid that SR is compared on, with the parameters that made LR.

    ``noise_free`` (same grid as ``hr``) and ``labels`` (integers, same grid) exist where the object is known exactly.
    ``unaligned`` says why nothing may be compared with ``hr`` although it is there: a real HR that is not where LR is.
    Where SR is made on another grid than ``hr``'s, ``target`` is that grid, ``view`` gives what ``hr``'s scanner would
    have seen of it (voxels on ``target`` in, voxels on ``hr``'s grid out), and ``overlap`` are the voxels of ``hr``
    that LR reaches.
    """

    lr: Volume
    hr: Volume
    params: Params
    noise_free: Volume | None = None
    labels: npt.NDArray[np.int16] | None = None
    unaligned: str | None = None
    target: Grid | None = None
    view: Callable[[FloatArray], FloatArray] | None = None
    overlap: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Fit:
    """How far two images of one body lie from one another (mm), how their edges correlate, and why not to compare."""

    shift_mm: float
    correlation: float
    unaligned: str | None


@dataclass(frozen=True)
class Fault:
    """Something wrong with a dataset: its kind in a word or two, a sentence, and the names it is about."""

    kind: str
    sentence: str
    items: Sequence[str] = ()


class Case(ABC):
    """One image of one subject. ``fingerprint`` is cheap and changes when the image does."""

    subject: str
    image: str

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of what the image is made from (file bytes, or generator version and parameters)."""

    @abstractmethod
    def hr(self) -> Volume:
        """The HR volume.

        Raises:
            UserError: the image cannot be read.
        """

    def parts(self) -> Mapping[str, Callable[[], Volume]]:
        """Name to reader of each image that the case is made of; one without a name but of a pair."""
        return {"": self.hr}

    def fit(self) -> Fit | None:
        """How the two images of a pair lie on one another; None where there is one image."""
        return None

    def acquire(self, degradation: Degradation, settings: Mapping[str, Any], seed: int) -> Pair:
        """LR and reference under ``degradation``, its parameters drawn from ``seed`` and the subject."""
        import numpy as np

        from mrsr_bench.benchmarks.protocol import subject_seed

        hr = self.hr()
        params = degradation.sample(np.random.default_rng(subject_seed(seed, self.subject)), hr, settings)
        return Pair(degradation.apply(hr, params), degradation.reference(hr, params), params)


class Dataset(ABC):
    """A named source of cases."""

    name: str
    summary: str
    terms: str
    synthetic: bool = False
    """Whether its images are computed: scores on them prove the machinery, not a method."""
    made_of: tuple[str, ...] = ()
    """The datasets whose images it puts together."""

    @abstractmethod
    def cases(self, split: str, *, seed: int = 0) -> Sequence[Case]:
        """The cases of a split (of `SPLITS`), subjects in sorted order.

        Raises:
            UserError: the dataset is not there, or has no such split.
        """

    def checkable(self) -> Sequence[Case]:
        """All cases that can be looked at, whatever else is wrong."""
        return self.cases("all")

    def faults(self) -> Sequence[Fault]:
        """What is wrong with the dataset and with none of its cases."""
        return ()
