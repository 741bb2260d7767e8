"""What stands in a submission: the file that `mrsr-bench submit` writes, `verify` reads and the leaderboard shows.

A submission is one method under one protocol on one split of one dataset. A file holds one (a JSON object) or several
(an array of them). Accepted ones lie in ``leaderboards/results``, one a file, called
``{protocol}--{method}--{first 8 of digest}.json`` (`file_name_of`); the ``digest`` is over everything but itself, the
badge and the verification, so it says whether a file was altered.

Everything in a file may have been written by someone who means harm, so what is not known to be harmless is refused:
sizes and depths are bounded, types are strict, unknown entries and repeated keys are errors, numbers are finite, names
are ASCII words, links are https, and free text holds no control or direction characters, no ``<``, ``>`` or
``&``, and does not begin like a formula. A page still escapes what it shows.

Badges: ``self-reported``, or ``re-run`` with the `Verification` that gave it. Tracks: ``fixed`` (trained on the train
split of the dataset that is scored, and nothing else, for at most `FIXED_HOURS` on one device; methods that learn
nothing are in it) and ``open`` (any data, declared).
"""

from __future__ import annotations

import datetime
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import sha256_of

FORMAT = 1
LARGEST_FILE = 4 * 1024 * 1024
"""Bytes of a file: some 5,000 subjects with ten metrics."""
LARGEST_BATCH = 256
"""Submissions in a file."""
DEEPEST = 8
"""Objects and arrays within each other; a submission has five, in an array six."""
LARGEST_NUMBER, SMALLEST_NUMBER = 1e12, 1e-18
"""Of scores, costs and counts, zero apart: sums and the axes of a plot stay far within float64."""
FIXED_HOURS = 24.0
"""Compute of the fixed track: hours of training on one device."""
NOT_DIGESTED = ("digest", "badge", "verification")
MAINTAINERS = "maintainers"
"""The contact of what this project submits itself: ask by an issue in the repository that the board belongs to."""

_FORMULA = "=+-@"
_UNSAFE = "<>&`"
_URL = re.compile(r"https://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?(?::\d{1,5})?(?:/[\w.~%+=#/-]*)?", re.ASCII)
_MAIL = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?", re.ASCII)


def _harmless(text: str) -> str:
    """Text that neither a page nor a spreadsheet nor a terminal can take for more than text."""
    if text != text.strip() or not text:
        raise ValueError("is empty or begins or ends with white space")
    if unicodedata.normalize("NFKC", text[0])[0] in _FORMULA:  # full-width signs count, too, in some spreadsheets
        raise ValueError("begins like a formula")
    for character in text:
        if character in _UNSAFE:
            raise ValueError("holds <, >, & or `, which text of a submission may not")
        kind = unicodedata.category(character)
        if kind[0] == "C" or kind in ("Zl", "Zp") or (kind == "Zs" and character != " "):
            raise ValueError("holds a control, direction or invisible character")
    if unicodedata.normalize("NFC", text) != text:
        raise ValueError("is not in Unicode's normal form C")
    marks = "".join("m" if unicodedata.category(character) in ("Mn", "Me") else " " for character in text)
    if "mmm" in marks:
        raise ValueError("piles up combining marks")
    return text


def _no_way_up(name: str) -> str:
    if ".." in name or "--" in name:
        raise ValueError("holds .. or --, which parts of a path may not")
    return name


def _a_link(text: str) -> str:
    if _URL.fullmatch(text) is None or ".." in text:
        raise ValueError("is no https:// address")
    return text


def _a_contact(text: str) -> str:
    if text != MAINTAINERS and _MAIL.fullmatch(text) is None and _URL.fullmatch(text) is None:
        raise ValueError(f"is neither a mail address nor an https:// address, nor the word {MAINTAINERS}")
    return text


def _measured(value: float) -> float:
    if 0 < abs(value) < SMALLEST_NUMBER:
        raise ValueError("is smaller than anything that is measured, and not zero")
    return value


def _a_day(text: str) -> str:
    try:
        datetime.date.fromisoformat(text)
    except ValueError as error:
        raise ValueError("is no day of the calendar") from error
    return text


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,95}$"), AfterValidator(_no_way_up)]
"""Methods, protocols, datasets, subjects, metrics: words that may stand in a path."""
Repository = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"),
    AfterValidator(_no_way_up),
]
Text = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_harmless)]
Link = Annotated[str, Field(max_length=500), AfterValidator(_a_link)]
Contact = Annotated[str, Field(max_length=320), AfterValidator(_a_contact)]
Licence = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}\+?$")]
"""Of git; ``+`` where files differed from it."""
Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Date = Annotated[str, StringConstraints(pattern=r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_a_day)]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-LARGEST_NUMBER, le=LARGEST_NUMBER), AfterValidator(_measured)]
Amount = Annotated[float, Field(allow_inf_nan=False, ge=0, le=LARGEST_NUMBER), AfterValidator(_measured)]
Count = Annotated[int, Field(ge=0, le=int(LARGEST_NUMBER))]
Scores = dict[Name, "Score"]
M = TypeVar("M", bound=BaseModel)


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Score(_Data):
    """One metric: mean over subjects, its 95 % interval, and the value of each subject (None: no value)."""

    mean: Number | None
    ci95: tuple[Number, Number] | None
    n: Count
    per_subject: Annotated[dict[Name, Number | None], Field(max_length=20_000)] = {}
    reason: Text | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Score:
        known = [value for value in self.per_subject.values() if value is not None]
        if self.n != len(known):
            raise ValueError(f"n is {self.n}, and {len(known)} subjects have a value")
        if (self.mean is None) != (not known):
            raise ValueError("there is a mean without subjects, or subjects without a mean")
        if self.mean is not None and not math.isclose(self.mean, _mean(known), rel_tol=1e-9, abs_tol=1e-12):
            raise ValueError("the mean is not the mean of the subjects")
        low, high = min(known, default=0.0), max(known, default=0.0)
        if self.ci95 is not None and not (low <= self.ci95[0] <= self.ci95[1] <= high):
            raise ValueError("ci95 lies outside the values of the subjects")
        if self.mean is None and self.reason is None:
            raise ValueError("a metric without value needs a reason")
        return self


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


class Weights(_Data):
    """A network's parameters: their SHA-256, and where they can be had (None: with the package, or nowhere)."""

    sha256: Sha256
    repository: Repository | None = None
    revision: Revision | None = None
    shipped: bool = False

    @model_validator(mode="after")
    def _pinned(self) -> Weights:
        if (self.repository is None) != (self.revision is None):
            raise ValueError("a repository and its revision (a commit) belong together")
        return self


class Source(_Data):
    """Where the method's code is: the Python package that brings it, its version, its repository and commit."""

    package: Name
    package_version: Name
    repository: Link | None = None
    commit: Commit | None = None


class Training(_Data):
    """What a method learnt from: dataset, terms, subjects, recipe, and hours on which hardware."""

    dataset: Name
    terms: Text
    train_subjects: Annotated[list[Name], Field(max_length=20_000)] = []
    val_subjects: Annotated[list[Name], Field(max_length=20_000)] = []
    recipe: Text | None = None
    other_data: Text | None = None
    hours: Amount | None = None
    hardware: Text | None = None


class Hardware(_Data):
    """Where it ran."""

    cpu: Text
    cores: Count | None = None
    memory_mb: Count | None = None
    gpu: Text | None = None
    device: Name = "cpu"


class Rehearsal(_Data):
    """Scores on procedural heads drawn from the hash of the weights: whoever trained could not know them."""

    dataset: Name
    scores: Annotated[Scores, Field(max_length=64)]


class Verification(_Data):
    """How a submission was re-run: the largest deviation of PSNR in dB (None: no PSNR was compared), and what kept the
    network out.
    """

    digest: Sha256
    date: Date
    mrsr_bench: Name
    datasets: Annotated[list[Name], Field(min_length=1, max_length=16)]
    compared: Annotated[int, Field(ge=1)]
    largest_psnr_db: Amount | None
    isolation: Literal["namespace", "socket guard"]


class Content(_Data):
    """What a submission says: one method under one protocol on one split of one dataset."""

    format: Literal[1]
    method: Name
    kind: Literal["interpolation", "network"]
    version: Count
    description: Text
    paper: Text
    parameters: Count | None
    track: Literal["fixed", "open"]
    protocol: Name
    protocol_hash: Sha256
    dataset: Name
    split: Name
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    synthetic: bool
    conventions: Annotated[dict[Name, Text], Field(max_length=64)]
    subjects: Annotated[list[Name], Field(min_length=1, max_length=20_000)]
    images: Annotated[dict[Name, Annotated[int, Field(ge=2, le=10_000)]], Field(max_length=20_000)] = {}
    """How many images of a subject were scored, where it was not one: its scores are means over them."""
    scores: Annotated[Scores, Field(min_length=1, max_length=64)]
    seconds_per_volume: Amount | None
    peak_memory_mb: Amount | None
    hardware: Hardware
    versions: Annotated[dict[Name, Name | None], Field(max_length=64)]
    weights: Weights | None
    source: Source
    training: Training | None
    licence: Licence
    contact: Contact
    date: Date
    run_key: Sha256
    rehearsal: Rehearsal | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Content:
        if len(set(self.subjects)) < len(self.subjects):
            raise ValueError("a subject stands twice")
        if not self.images.keys() <= set(self.subjects):
            raise ValueError("images are counted for a subject that is not scored")
        for key, score in self.scores.items():
            if score.per_subject and set(score.per_subject) != set(self.subjects):
                raise ValueError(f"the subjects of {key} are not those of the submission")
            if score.mean is not None and key not in self.conventions:
                raise ValueError(f"{key} has no convention")
        if (self.kind == "network") != (self.weights is not None and self.training is not None):
            raise ValueError("a network, and only a network, has weights and training")
        return self


class Submission(Content):
    """`Content` with its digest and its badge."""

    digest: Sha256
    badge: Literal["self-reported", "re-run"] = "self-reported"
    verification: Verification | None = None

    @model_validator(mode="after")
    def _unaltered(self) -> Submission:
        if self.digest != digest_of(self.model_dump(mode="json")):
            raise ValueError("the digest is not that of the content; it was altered after `mrsr-bench submit` wrote it")
        if self.badge == "re-run" and (self.verification is None or self.verification.digest != self.digest):
            raise ValueError("the badge re-run needs the verification of this very content")
        return self


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a submission without `NOT_DIGESTED`."""
    return sha256_of({key: value for key, value in content.items() if key not in NOT_DIGESTED})


def why_not_fixed(content: Content) -> str | None:
    """Why a submission does not belong to the fixed track; None if it does."""
    training = content.training
    if training is None:
        return None
    if training.dataset != content.dataset:
        return f"it was trained on {training.dataset} and is scored on {content.dataset}"
    if training.other_data is not None:
        return "it declares other data"
    if not training.train_subjects:
        return "it does not say which subjects it was trained on"
    if training.hours is None or training.hours > FIXED_HOURS:
        return f"its training took {'an unknown time' if training.hours is None else f'{training.hours:.1f} h'}; " + (
            f"at most {FIXED_HOURS:g} h are allowed"
        )
    return None


def file_name_of(submission: Submission) -> str:
    """What an accepted submission's file is called in ``leaderboards/results``."""
    return f"{submission.protocol}--{submission.method}--{submission.digest[:8]}.json"


def as_text(submissions: Sequence[Submission]) -> str:
    """The text of a file: one object, or an array of several."""
    found = [submission.model_dump(mode="json") for submission in submissions]
    content = found[0] if len(found) == 1 else found
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n"


def make(content: Mapping[str, Any], source: str) -> Submission:
    """A submission of plain data, checked as one from a stranger would be, with its digest.

    Raises:
        UserError: an entry is not allowed; the first is named.
    """
    whole = _validated(Content, {"format": FORMAT, **content}, source).model_dump(mode="json")
    return _validated(Submission, {**whole, "digest": digest_of(whole)}, source)


def read_submissions(path: Path) -> tuple[Submission, ...]:
    """The submissions in a file.

    Raises:
        UserError: the file is missing, too large, no strict JSON, or an entry of it is not allowed.
    """
    source = shown(path.name)
    try:
        if not path.is_file():
            raise UserError(f"{source}: no such file; expected what `mrsr-bench submit` writes")
        with path.open("rb") as opened:
            raw = opened.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from error
    if len(raw) > LARGEST_FILE:
        raise UserError(f"{source}: is larger than {LARGEST_FILE // 1024**2} MiB, the most a submission may have")
    content = strict_json(raw, source)
    several = content if isinstance(content, list) else [content]
    if not 1 <= len(several) <= LARGEST_BATCH:
        raise UserError(f"{source}: holds {len(several)} submissions; expected 1 to {LARGEST_BATCH}")
    return tuple(_validated(Submission, one, source) for one in several)


def strict_json(raw: bytes, source: str) -> Any:
    """JSON without what readers disagree on: repeated keys, NaN, Infinity, numbers beyond float64, deep nesting.

    Raises:
        UserError: it is not such JSON.
    """

    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key stands twice in an object")
        return found

    def constant(name: str) -> Any:
        raise ValueError(f"{name} is no number of JSON")

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            raise ValueError("a number is beyond what float64 holds")
        return value

    try:
        text = raw.decode("utf-8")
        content = json.loads(text, object_pairs_hook=unique, parse_constant=constant, parse_float=number)
        too_deep = _depth(content) > DEEPEST
    except RecursionError:
        too_deep = True
    except ValueError as error:
        what = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UserError(f"{source}: is not strict JSON ({shown(what)}); submit again") from error
    if too_deep:
        raise UserError(f"{source}: is nested deeper than {DEEPEST} levels, which no submission is")
    return content


def _depth(content: Any) -> int:
    """Levels of objects and arrays, counted without recursion."""
    level, depth = [content], 0
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [part for item in level for part in (item.values() if isinstance(item, dict) else item)]
    return depth


def _validated(model: type[M], content: Any, source: str) -> M:
    try:
        return model.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(shown(str(part)) for part in first["loc"]) or "the submission"
        what = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{source}: {where}: {shown(what, 300)}; correct it, or submit the run again") from error


def shown(text: str, longest: int = 80) -> str:
    """A stranger's text in a sentence of ours: printable ASCII, cut."""
    plain = ascii(text)[1:-1]
    return plain if len(plain) <= longest else plain[:longest] + "..."
