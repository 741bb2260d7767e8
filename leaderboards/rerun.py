"""`mrsr-bench verify --rerun`: run a submitted method again, away from the network, and compare.

The run is ``python -m mrsr_bench run`` in a process of its own: without network (an empty network namespace where the
system permits one, else a guard that refuses every socket but local ones), without the environment's secrets, with
limits on memory, processor time, file size and wall time, in an empty folder that is removed afterwards. Weights are
safetensors and hold no code; the method's code is that of an installed package. The guard is for honest mistakes: code
that means harm can go round it, so where namespaces are refused, run this in a container.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mrsr_bench import UserError
from mrsr_bench.benchmarks.datasets.hidden_phantom import hidden_name
from mrsr_bench.benchmarks.protocol import sha256_of
from mrsr_bench.leaderboards.plausible import WITHIN, WITHIN_SHARE, agrees, required_metrics
from mrsr_bench.leaderboards.schema import LARGEST_FILE, Score, Submission, shown, strict_json

Isolation = Literal["namespace", "socket guard"]
SUBJECTS = 2
"""So many subjects of a dataset are run again; which, follows from the digest of the submission."""
_KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "TORCH_HOME", "MRSR_BENCH_DATA", "OMP_NUM_THREADS")
_GUARD = '''\
"""No connection leaves this process."""
import socket

_connect = socket.socket.connect

def _refused(self, address, *rest):
    if self.family == getattr(socket, "AF_UNIX", None):
        return _connect(self, address, *rest)
    raise OSError("a re-run has no network")

socket.socket.connect = socket.socket.connect_ex = _refused
socket.socket.sendto = socket.socket.sendmsg = _refused
socket.getaddrinfo = socket.gethostbyname = lambda *_, **__: _refused(socket.socket(), None)
'''


@dataclass(frozen=True)
class Limits:
    """What a re-run may cost: wall time, and the address space of a process."""

    seconds: int = 3600
    memory_mb: int = 16 * 1024
    file_mb: int = 2 * 1024


@dataclass
class Outcome:
    """What a re-run found. ``problems`` are deviations; ``absent`` says what could not be compared and why.

    ``largest_psnr_db`` is None where no PSNR was compared.
    """

    isolation: Isolation
    datasets: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    compared: int = 0
    largest_psnr_db: float | None = None


@dataclass(frozen=True)
class Place:
    """Where to run again: what ``--dataset`` and ``--split`` take, the subjects, and what was stated of them."""

    name: str
    dataset: str
    split: str
    subjects: tuple[str, ...]
    stated: Mapping[str, Score]


def rerun(
    submission: Submission,
    *,
    weights: Path | None = None,
    data: Sequence[str] = (),
    limits: Limits | None = None,
) -> Outcome:
    """Run the method again on its hidden heads and on the dataset of the submission, where that is here.

    ``weights``: a folder or address to use instead of what the submission names; ``data``: folders of datasets.

    Raises:
        UserError: the weights cannot be had or are others, the run failed, or it exceeded a limit.
    """
    limits = limits or Limits()
    folder = None if submission.weights is None else _weights_folder(submission, weights)
    outcome = Outcome(_isolation())
    required = required_metrics(submission.protocol)
    for place in _places(submission, data, outcome):
        found = _run(submission, place, folder, limits, outcome.isolation)
        compare(place, found, outcome, required)
        outcome.datasets.append(place.name)
    return outcome


def _weights_folder(submission: Submission, named: Path | None) -> Path:
    """The folder of the weights with the SHA-256 that the submission states, here or from the Hub."""
    from mrsr_bench.zoo.hub import Address, pull, weights_path
    from mrsr_bench.zoo.publish import every_folder
    from mrsr_bench.zoo.weights import MODEL, sha256_of_file

    stated = submission.weights
    assert stated is not None
    if named is not None:
        path = weights_path(named)
        file = path / MODEL if path.is_dir() else path
        if not file.is_file() or sha256_of_file(file) != stated.sha256:
            raise UserError(f"{named}: holds no weights of SHA-256 {stated.sha256[:16]}, which the submission states")
        return file.parent
    for folder in every_folder():
        if sha256_of_file(folder / MODEL) == stated.sha256:
            return folder
    if stated.repository is None or stated.revision is None:
        raise UserError(
            f"the weights of {submission.method} (SHA-256 {stated.sha256[:16]}) are neither here nor on the Hub; "
            "name them with --weights"
        )
    return pull(Address(stated.repository, stated.revision), sha256=stated.sha256)


def _places(submission: Submission, data: Sequence[str], outcome: Outcome) -> Iterator[Place]:
    """All that can be run here: the hidden heads, and the dataset."""
    from mrsr_bench.benchmarks.datasets import open_dataset

    if submission.rehearsal is not None:
        sha256 = None if submission.weights is None else submission.weights.sha256
        name = hidden_name(submission.method, sha256, submission.protocol_hash)
        if submission.rehearsal.dataset == name:
            heads = tuple(dict.fromkeys(case.subject for case in open_dataset(name).cases("test")))
            yield Place(name, name, "test", heads, submission.rehearsal.scores)
        else:
            outcome.problems.append(f"its hidden heads are not {name}, which follow from its weights")
    why = f"{submission.dataset} is not here, so none of its scores was compared"
    for where in (*data, submission.dataset):
        try:
            dataset = open_dataset(where)
            if dataset.name != submission.dataset:
                continue
            chosen = drawn(submission, [c.subject for c in dataset.cases(submission.split, seed=submission.seed)])
        except UserError:
            continue
        if chosen:
            path = Path(where)
            resolved = str(path.resolve()) if path.exists() else where
            yield Place(dataset.name, resolved, submission.split, chosen, submission.scores)
            return
        why = f"{submission.dataset} is here without any of its subjects, so none of its scores was compared"
    outcome.absent.append(why)


def drawn(submission: Submission, here: Sequence[str]) -> tuple[str, ...]:
    """The subjects to run again of those that are ``here``: nobody who writes a submission chooses them."""

    def lot(subject: str) -> str:
        return sha256_of([submission.digest, subject])

    return tuple(sorted(set(here) & set(submission.subjects), key=lot)[:SUBJECTS])


def compare(place: Place, found: Mapping[str, Any], outcome: Outcome, required: Sequence[str]) -> None:
    """Add to ``outcome`` how the scores found agree with those stated; the ``required`` metrics must be in both."""
    for key in (*WITHIN, *WITHIN_SHARE):
        stated = place.stated[key].per_subject if key in place.stated else {}
        again = (found.get(key) or {}).get("per_subject") or {}
        for subject in place.subjects:
            wanted, value = stated.get(subject), again.get(subject)
            of = f"{key} of {subject} ({place.name})"
            if wanted is None or value is None:
                _missing(of, wanted, value, outcome, required=key in required)
                continue
            outcome.compared += 1
            if key == "psnr":
                outcome.largest_psnr_db = max(outcome.largest_psnr_db or 0.0, abs(value - wanted))
            if not agrees(key, value, wanted):
                outcome.problems.append(f"{of} is {value:.4f}; the submission states {wanted:.4f}")


def _missing(of: str, wanted: float | None, value: float | None, outcome: Outcome, *, required: bool) -> None:
    """Say which side has no value; one that is not required may lack its parameters here or there."""
    if required and wanted is None:
        outcome.problems.append(f"the submission states no {of}")
    elif required:
        outcome.problems.append(f"the re-run has no {of}; the submission states {wanted:.4f}")
    elif wanted is not None:
        outcome.absent.append(f"the re-run has no {of}, so it was not compared")


def _isolation() -> Isolation:
    """How processes can be kept from the network here."""
    unshare, true = shutil.which("unshare"), shutil.which("true")
    if unshare is None or true is None:
        return "socket guard"
    command = [unshare, "--user", "--map-root-user", "--net", true]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)  # noqa: S603
    return "namespace" if done.returncode == 0 else "socket guard"


def isolated(command: Sequence[str], scratch: Path, limits: Limits, isolation: Isolation) -> str:
    """The standard output of ``command``, run in ``scratch`` with limits and without network.

    Raises:
        UserError: it failed, took too long or wrote too much.
    """
    from mrsr_bench.zoo.weights import home

    guard = scratch / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(_GUARD, encoding="utf-8")
    environment = {key: os.environ[key] for key in _KEPT if key in os.environ}
    environment |= {"HOME": str(scratch), "TMPDIR": str(scratch), "MRSR_BENCH_HOME": str(home().resolve())}
    environment |= {"HF_HUB_OFFLINE": "1", "MRSR_BENCH_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(guard), *filter(None, [environment.get("PYTHONPATH")])])
    if isolation == "namespace":
        command = ["unshare", "--user", "--map-root-user", "--net", *command]

    def limit() -> None:
        mib = 1024 * 1024
        for what, most in (
            (resource.RLIMIT_AS, limits.memory_mb * mib),
            (resource.RLIMIT_CPU, limits.seconds * (os.cpu_count() or 1)),
            (resource.RLIMIT_FSIZE, limits.file_mb * mib),
            (resource.RLIMIT_CORE, 0),
        ):
            hard = resource.getrlimit(what)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(what, (most, most))

    out, err = scratch / "stdout", scratch / "stderr"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=scratch,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=limit,
        )
        try:
            code = process.wait(limits.seconds)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"the re-run took longer than {limits.seconds} s and was stopped; allow more") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code != 0:
        last = next(iter(_tail(err).splitlines()[::-1]), "")
        raise UserError(f"the re-run failed with exit code {code}: {shown(last, 300)}")
    if out.stat().st_size > LARGEST_FILE:
        raise UserError("the re-run printed more than any result has; it was not read")
    return out.read_text(encoding="utf-8", errors="replace")


def _tail(file: Path) -> str:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 4096))
        return opened.read().decode("utf-8", errors="replace").strip()


def _run(
    submission: Submission, place: Place, weights: Path | None, limits: Limits, isolation: Isolation
) -> Mapping[str, Any]:
    """The scores of the method on the subjects of a place."""
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made).resolve()
        command = [sys.executable, "-m", "mrsr_bench", "run", "--json", "--no-figures", "--device", "cpu"]
        command += ["--model", submission.method, "--protocol", submission.protocol]
        command += ["--dataset", place.dataset, "--split", place.split, "--only", ",".join(place.subjects)]
        command += ["--seed", str(submission.seed), "--out", str(scratch / "runs")]
        if weights is not None:
            command += ["--weights", str(weights.resolve())]
        printed = isolated(command, scratch, limits, isolation)
    result = strict_json(printed.encode(), "the result of the re-run")
    scores: Mapping[str, Any] = result["runs"][0]["scores"]
    return scores
