"""Publishing to and pulling from the Hub, with the real huggingface_hub against a server on loopback."""

from __future__ import annotations

import hashlib
import json

import hub_server
import pytest
import tiny_weights as tiny

MINE, OTHERS, UNKNOWN = "hf_" + "m" * 34, "hf_" + "o" * 34, "hf_" + "u" * 34
REPO = "me/tiny"
ADDRESS = f"hf:{REPO}"


@pytest.fixture(scope="module")
def server():
    hub, server = hub_server.serve()
    hub.users |= {MINE: "me", OTHERS: "other"}
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def process(server, tmp_path_factory):
    client = hub_server.Client(server.url, tmp_path_factory.mktemp("hf"))
    yield client
    client.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.tiny_weights(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture
def hub(server):
    server.calm()
    server.repos.clear()
    server.objects.clear()
    return server


@pytest.fixture
def client(process, hub, tmp_path):
    process.said = ""
    process.env = {
        "HF_TOKEN": MINE,
        "MRSR_BENCH_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": None,
        "MRSR_BENCH_OFFLINE": None,
    }
    yield process
    assert MINE not in process.said
    assert OTHERS not in process.said


@pytest.fixture
def published(client, hub, folder, tmp_path):
    """A repository with the tiny weights; returns the commit."""
    done = client.run("publish", folder, "--repo", REPO, "--out", tmp_path / "out", "--json")
    hub.log.clear()
    return done["revision"]


def stored(tmp_path):
    """What there is under the store, hidden leftovers included."""
    return sorted(path.name for path in (tmp_path / "home").rglob("*") if path.is_file())


def fetched(hub):
    return [path.rpartition("/")[2] for command, path in hub.log if command == "GET" and "/resolve/" in path]


def digest_of(hub, commit):
    return hashlib.sha256(hub.repos[REPO].commits[commit]["model.safetensors"]).hexdigest()


# ------------------------------------------------------------------------------------------------------ round trip


def test_what_is_published_is_pulled_and_gives_the_same_output(client, hub, folder, tmp_path):
    client.env["MRSR_BENCH_HOME"] = str(tmp_path / "publisher")
    done = client.run("publish", folder, "--repo", REPO, "--out", tmp_path / "out", "--json")
    assert done["published"]
    assert hub.repos[REPO].refs["main"] == done["revision"]
    assert hub.repos[REPO].large >= {"model.safetensors", "golden.safetensors"}
    assert "config.json" not in hub.repos[REPO].large
    commands = {command for command, _ in hub.log}
    assert commands >= {"POST", "PUT", "GET"}

    client.env["MRSR_BENCH_HOME"] = str(tmp_path / "home")
    pulled = client.run("weights", "pull", REPO, "--json")["pulled"][0]
    assert pulled["revision"] == done["revision"]
    assert pulled["sha256"] == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    result = client.python(f"""
import numpy as np, mrsr_bench
from pathlib import Path
from mrsr_bench.volume import Volume
from mrsr_bench.zoo.inference import load_method
data = np.random.default_rng(0).random((8, 9, 10)).astype(np.float32) + 1
lr = Volume(data, np.diag([2.0, 2.0, 1.0, 1.0]))
target = Volume(np.zeros((16, 18, 10), np.float32), np.eye(4)).grid
there = mrsr_bench.load({REPO!r}, revision={done["revision"]!r}, device="cpu")
here = load_method({done["method"]!r}, task=None, weights=Path({str(folder)!r}))
a, b = there.upscale(lr, target).data, here.upscale(lr, target).data
result = [bool((a == b).all()), float(a.std()), there.resolved]
""")
    assert result[0]
    assert result[1] > 0
    assert result[2] == done["method"]


def test_run_and_upscale_take_weights_from_the_hub(client, hub, published, tmp_path):
    weights = f"{ADDRESS}@{published}"
    client.python(f"""
import numpy as np
from pathlib import Path
from mrsr_bench.volume import Volume, save
save([Volume(np.random.default_rng(0).random((8, 9, 10)).astype(np.float32) + 1, np.eye(4))],
     Path({str(tmp_path / "lr.nii.gz")!r}))
""")
    facts = client.run(
        *("upscale", tmp_path / "lr.nii.gz", tmp_path / "sr.nii.gz", "--model", "mdcsrn_b1u1_k2", "--json"),
        *("--factor", "2x2x1", "--profile", "kspace", "--weights", weights, "--device", "cpu"),
    )
    assert facts["shape"] == [16, 18, 10]
    assert (tmp_path / "sr.nii.gz").is_file()
    (tmp_path / "data").mkdir()
    (tmp_path / "sr.nii.gz").rename(tmp_path / "data/sub-a_T1w.nii.gz")
    found = client.run(
        *("run", "--model", "mdcsrn_b1u1_k2", "--weights", weights, "--dataset", tmp_path / "data", "--json"),
        *("--protocol", "kspace-2x2x1", "--no-figures", "--device", "cpu", "--out", tmp_path / "runs"),
        MRSR_BENCH_OFFLINE="1",  # the commit is here by now, and the perceptual metrics are not to be fetched
    )
    assert found["runs"][0]["weights_sha256"] == digest_of(hub, published)


def test_publishing_the_same_again_changes_nothing(client, hub, folder, published, tmp_path):
    client.run("publish", folder, "--repo", REPO, "--out", tmp_path / "out", "--json")
    before, after = hub.repos[REPO].commits[published], hub.repos[REPO].commits[hub.repos[REPO].refs["main"]]
    assert before == after


def test_a_repository_holds_one_method_and_task(client, hub, published, tmp_path):
    other = tiny.tiny_weights(tmp_path / "other", protocol="mdcsrn2020")
    text = client.refused("publish", other, "--repo", REPO, "--out", tmp_path / "out")
    assert "repository of their own" in text
    assert hub.repos[REPO].refs["main"] == published


def test_a_repository_with_files_of_others_is_left_alone(client, hub, folder, tmp_path):
    client.run("publish", folder, "--repo", REPO, "--out", tmp_path / "out", "--json")
    sha = hub.repos[REPO].commit({"thesis.pdf": b"x"})
    assert "thesis.pdf" in client.refused("publish", folder, "--repo", REPO, "--out", tmp_path / "out")
    assert hub.repos[REPO].refs["main"] == sha


# ---------------------------------------------------------------------------------------------------- who may what


def test_a_private_repository_is_seen_by_its_owner_alone(client, hub, folder, tmp_path):
    client.run("publish", folder, "--repo", REPO, "--private", "--out", tmp_path / "out", "--json")
    assert hub.repos[REPO].private
    for token in (None, OTHERS):
        text = client.refused("weights", "pull", REPO, HF_TOKEN=token)
        assert "private" in text
        assert stored(tmp_path) == []
    assert "access token" in client.refused("weights", "pull", REPO, HF_TOKEN=UNKNOWN)
    client.run("weights", "pull", REPO)


def test_private_is_never_published_into_a_public_repository(client, hub, folder, published, tmp_path):
    text = client.refused("publish", folder, "--repo", REPO, "--private", "--out", tmp_path / "out")
    assert "public" in text
    assert hub.repos[REPO].refs["main"] == published


@pytest.mark.parametrize("token", [None, OTHERS, UNKNOWN])
def test_only_the_owner_publishes(client, hub, folder, published, tmp_path, token):
    text = client.refused("publish", folder, "--repo", REPO, "--out", tmp_path / "out", HF_TOKEN=token)
    assert "HF_TOKEN" in text
    assert hub.repos[REPO].refs["main"] == published


def test_another_ones_namespace_is_refused(client, hub, folder, tmp_path):
    text = client.refused("publish", folder, "--repo", "other/tiny", "--out", tmp_path / "out")
    assert "403" in text
    assert hub.repos == {}


def test_no_file_that_was_written_holds_the_token(client, published, tmp_path):
    client.run("weights", "pull", REPO)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if MINE.encode() in path.read_bytes()]


def test_a_token_in_the_log_is_not_published(client, hub, tmp_path):
    leaky = tiny.tiny_weights(tmp_path / "leaky")
    (leaky / "log.jsonl").write_text(json.dumps({"HF_TOKEN": MINE}))
    text = client.refused("publish", leaky, "--repo", REPO, "--out", tmp_path / "out")
    assert "access token" in text
    assert hub.repos == {}
    assert list((tmp_path / "out").iterdir()) == []


# ------------------------------------------------------------------------------------------- revisions and offline


def test_a_revision_is_a_commit_or_a_branch(client, hub, published, tmp_path):
    files = dict(hub.repos[REPO].commits[published])
    newer = hub.repos[REPO].commit({**files, "log.jsonl": b'{"newer": 1}\n'})
    assert client.run("weights", "pull", f"{REPO}@{published}", "--json")["pulled"][0]["revision"] == published
    assert client.run("weights", "pull", ADDRESS, "--json")["pulled"][0]["revision"] == newer
    assert "no revision 'v9'" in client.refused("weights", "pull", f"{REPO}@v9")
    assert "no such model repository" in client.refused("weights", "pull", "me/nothing")


def test_a_pulled_commit_needs_no_network(client, hub, published):
    client.run("weights", "pull", REPO)
    hub.log.clear()
    client.run("weights", "pull", f"{REPO}@{published}")
    assert hub.log == []


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "MRSR_BENCH_OFFLINE"])
def test_offline_uses_what_was_pulled_and_asks_nobody(client, hub, published, variable):
    client.run("weights", "pull", REPO)
    hub.log.clear()
    again = client.run("weights", "pull", REPO, "--json", **{variable: "1"})
    assert again["pulled"][0]["revision"] == published
    assert variable in client.refused("weights", "pull", "me/never", **{variable: "1"})
    assert variable in client.refused("weights", "pull", f"{REPO}@v2", **{variable: "1"})
    assert hub.log == []


def test_offline_uses_the_cache_of_huggingface_hub(client, hub, published, tmp_path):
    client.python(f"import huggingface_hub; huggingface_hub.snapshot_download({REPO!r})")
    hub.log.clear()
    found = client.run("weights", "pull", REPO, "--json", HF_HUB_OFFLINE="1")["pulled"][0]
    assert found["revision"] == published
    assert hub.log == []
    assert "source.json" in stored(tmp_path)


def test_offline_publishes_nothing(client, hub, folder, tmp_path):
    text = client.refused("publish", folder, "--repo", REPO, "--out", tmp_path / "out", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE=1" in text
    assert hub.log == []


def test_a_hub_that_cannot_be_reached_is_a_sentence(tmp_path):
    client = hub_server.Client("http://127.0.0.1:9", tmp_path / "hf")
    try:
        client.env = {"MRSR_BENCH_HOME": str(tmp_path / "home")}
        assert "network" in client.refused("weights", "pull", REPO)
    finally:
        client.close()


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_in_trouble_is_a_sentence(client, hub, published, tmp_path, status):
    hub.failing = status
    assert str(status) in client.refused("weights", "pull", REPO)
    assert stored(tmp_path) == []


# ------------------------------------------------------------------------------------------- what arrives is checked


def test_an_interrupted_transfer_is_taken_up_where_it_broke(client, hub, published):
    hub.cuts["model.safetensors"] = [500]
    client.python("from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = 100")
    pulled = client.run("weights", "pull", REPO, "--json")["pulled"][0]
    assert pulled["sha256"] == digest_of(hub, published)
    assert hub.ranges == ["model.safetensors from 500"]


def test_a_transfer_that_never_ends_leaves_nothing(client, hub, published, tmp_path):
    hub.cuts["model.safetensors"] = [0] * 50
    assert "broke off" in client.refused("weights", "pull", REPO)
    assert stored(tmp_path) == []


@pytest.mark.parametrize("name", ["model.safetensors", "golden.safetensors", "config.json", "log.jsonl"])
def test_a_file_that_arrives_with_another_hash_is_refused(client, hub, published, tmp_path, name):
    hub.tamper[name] = lambda content: content[:-1] + bytes([content[-1] ^ 1])
    text = client.refused("weights", "pull", REPO)
    assert name in text
    assert "another hash" in text
    assert stored(tmp_path) == []


def test_weights_with_another_sha_than_pinned_are_refused(client, published, tmp_path):
    code = f"""
from mrsr_bench.zoo.hub import pull, parse_address
from mrsr_bench import UserError
try:
    pull(parse_address({ADDRESS!r}), sha256="0" * 64)
except UserError as error:
    result = str(error)
"""
    assert "was promised" in client.python(code)
    assert stored(tmp_path) == []
    client.run("weights", "pull", REPO)
    assert "was promised" in client.python(code)


def test_a_pin_of_the_zoo_is_fetched_for_its_method_and_checked(client, published, folder, tmp_path):
    def resolve(sha256):
        return client.python(f"""
from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.zoo import pins
from mrsr_bench.zoo.inference import load_method
from mrsr_bench.zoo.weights import find_weights
pin = pins.Pin("mdcsrn_b1u1_k2", ("kspace-2x2x1",), {REPO!r}, {published!r}, {sha256!r})
pins.hub_pins, before = (lambda: [pin]), pins.hub_pins
try:
    result = load_method("mdcsrn_b1u1_k2", task="kspace-2x2x1").weights_sha256
except UserError as error:
    result = str(error)
finally:
    pins.hub_pins = before
""")

    assert "was promised" in resolve("0" * 64)
    assert stored(tmp_path) == []
    client.env["MRSR_BENCH_OFFLINE"] = "1"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert "no weights" in resolve(digest)
    client.env["MRSR_BENCH_OFFLINE"] = None
    assert resolve(digest) == digest


HOSTILE = {
    "pytorch_model.bin": "any code",
    "weights.pkl": "any code",
    "modeling_evil.py": "never runs code",
    "../../escape.json": "no plain path",
    "/etc/passwd": "no plain path",
    "..\\up.json": "no plain path",
    "a\nb": "no plain path",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_repository_that_lists_something_hostile_is_not_fetched(client, hub, published, tmp_path, name):
    hub.listing = lambda siblings: [*siblings, {"rfilename": name, "size": 1, "blobId": "0" * 40}]
    assert HOSTILE[name] in client.refused("weights", "pull", REPO)
    assert fetched(hub) == []
    assert stored(tmp_path) == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "golden.safetensors"])
def test_oversized_and_missing_files_are_refused_before_they_are_fetched(client, hub, published, name):
    def huge(siblings):
        return [{**s, "size": 10**13} if s["rfilename"] == name else s for s in siblings]

    hub.listing = huge
    assert "MiB" in client.refused("weights", "pull", REPO)
    hub.listing = lambda siblings: [s for s in siblings if s["rfilename"] != name]
    assert f"holds no {name}" in client.refused("weights", "pull", REPO)
    assert fetched(hub) == []


def test_files_that_do_not_belong_are_not_fetched(client, hub, published, tmp_path):
    files = hub.repos[REPO].commits[published]
    hub.repos[REPO].commit({**files, "notes/extra.txt": b"x", "big.zip": b"y"})
    client.run("weights", "pull", REPO)
    assert set(fetched(hub)) == set(files) - {".gitattributes"}


def test_a_config_of_an_unknown_method_is_refused_before_anything_large_is_fetched(client, hub, published, tmp_path):
    files = dict(hub.repos[REPO].commits[published])
    config = json.loads(files["config.json"])
    for change, expected in (
        ({"method": "os.system"}, "unknown here"),
        ({"auto_map": {"AutoModel": "evil.Evil"}}, "never loads"),
    ):
        hub.repos[REPO].commit({**files, "config.json": json.dumps({**config, **change}).encode()})
        hub.log.clear()
        assert expected in client.refused("weights", "pull", REPO)
        assert fetched(hub) == ["config.json"]
        assert stored(tmp_path) == []


def test_weights_that_do_not_give_their_golden_output_are_not_installed(client, hub, published, tmp_path):
    files = dict(hub.repos[REPO].commits[published])
    other = tiny.tiny_weights(tmp_path / "other", seed=5)
    hub.repos[REPO].commit({**files, "model.safetensors": (other / "model.safetensors").read_bytes()})
    text = client.refused("weights", "pull", REPO)
    assert "golden output" in text
    assert "me--tiny" in text
    assert stored(tmp_path) == []


# -------------------------------------------------------------------------------------------------- list and verify


def test_pulled_weights_are_listed_and_verified_and_a_change_is_found(client, published, tmp_path):
    client.run("weights", "pull", REPO)
    listed = client.run("weights", "list", "--json")["weights"]
    name = f"{ADDRESS}@{published}"
    assert [item["origin"] for item in listed if item["name"] == name] == ["hub"]
    assert client.run("weights", "verify", REPO, "--json")["verified"][0]["state"] == "ok"
    folder = tmp_path / "home/weights/hub/me--tiny" / published
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    assert "not what was pulled" in client.refused("weights", "pull", f"{REPO}@{published}")
    answer = client._ask(argv=["weights", "verify", REPO, "--json"])
    assert answer["code"] == 2
    assert "not what was pulled" in json.loads(answer["out"].splitlines()[-1])["verified"][0]["state"]


@pytest.mark.parametrize("address", ["me", "me/..", "../x", "hf:me/a--b/c", "me/a@../b", "me/a@-x"])
def test_an_address_that_is_none_is_a_sentence(client, hub, address):
    text = client.refused("weights", "pull", address)
    assert text.startswith("mrsr-bench: ")
    assert hub.log == []
