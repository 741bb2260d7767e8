"""A re-run: what it must agree with, and what the process it runs in cannot do."""

import math
import socket
import subprocess
import sys

import pytest

from mrsr_bench import UserError
from mrsr_bench.leaderboards.rerun import Limits, Outcome, _isolation, compare, isolated
from mrsr_bench.leaderboards.schema import Score


@pytest.mark.parametrize(
    ("key", "stated", "found", "agrees"),
    [
        ("psnr", 30.0, 30.009, True),
        ("psnr", 30.0, 30.011, False),
        ("niqe", 5.0, 5.04, True),
        ("niqe", 5.0, 5.06, False),
        ("ssim", 0.9, 0.902, False),
        ("psnr", 30.0, math.nan, False),
    ],
)
def test_a_rerun_must_agree(key, stated, found, agrees):
    outcome = Outcome("namespace", [], [], [])
    one = Score(mean=stated, ci95=None, n=1, per_subject={"a": stated})
    compare("heads", {key: one}, {key: {"per_subject": {"a": found, "b": 1.0}}}, outcome)
    assert outcome.compared == 1
    assert (not outcome.problems) == agrees


CONNECT = "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)"


@pytest.mark.parametrize("isolation", ["namespace", "socket guard"])
def test_a_rerun_has_no_network(tmp_path, isolation):
    if isolation == "namespace" and _isolation() != "namespace":
        pytest.skip("this system permits no network namespaces")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        code = CONNECT.format(port=listening.getsockname()[1])
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        # Without site there is no guard either: then only the namespace can be what refuses.
        alone = ["-S"] if isolation == "namespace" else []
        with pytest.raises(UserError, match="exit code 1"):
            isolated([sys.executable, *alone, "-c", code], tmp_path, Limits(60, 4096), isolation)


def test_a_rerun_sees_no_secrets(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    code = "import os; print(sorted(os.environ))"
    seen = isolated([sys.executable, "-c", code], tmp_path, Limits(60, 4096), "socket guard")
    assert "HF_HUB_OFFLINE" in seen
    assert "HF_TOKEN" not in seen


@pytest.mark.parametrize(
    ("code", "limits", "sentence"),
    [
        ("import time; time.sleep(60)", Limits(1, 4096), "longer than 1 s"),
        ("bytearray(2**31)", Limits(60, 1024), "MemoryError"),
        ("open('big', 'wb').write(bytes(3 * 2**20))", Limits(60, 4096, 2), "exit code"),
    ],
)
def test_a_rerun_is_limited(tmp_path, code, limits, sentence):
    with pytest.raises(UserError, match=sentence):
        isolated([sys.executable, "-c", code], tmp_path, limits, "socket guard")
