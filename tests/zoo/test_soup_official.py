"""The import of the SOUP-GAN authors' released weights, from a checkpoint that is read without TensorFlow."""

import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import mrsr_bench
from mrsr_bench import UserError
from mrsr_bench.benchmarks.protocol import get_protocol
from mrsr_bench.zoo.inference import build_network
from mrsr_bench.zoo.methods import methods
from mrsr_bench.zoo.methods.soup.network import SoupGenerator
from mrsr_bench.zoo.methods.soup.official import import_official, install_official, layer_names
from mrsr_bench.zoo.methods.soup.tensor_bundle import masked_crc32c, read_bundle
from mrsr_bench.zoo.weights import find_weights, load_into, verify_golden

RELEASED = Path(mrsr_bench.__file__).resolve().parent.parent / "shared" / "weights" / "soup_official_thin.safetensors"
needs_release = pytest.mark.skipif(not RELEASED.is_file(), reason="the authors' weights lie in ../shared only")


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def block(entries):
    """A table block with prefix-compressed keys and its trailer."""
    body, last = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(last, key, strict=False)) if a != b), min(len(last), len(key)))
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    body += struct.pack("<II", 0, 1)
    return body, body + b"\0" + struct.pack("<I", masked_crc32c(body + b"\0"))


def write_bundle(arrays, *, shards=1):
    """A checkpoint as TensorFlow writes it: index and shard."""
    shard, entries = b"", [(b"", field(1, shards))]
    for name, array in sorted(arrays.items()):
        data = np.ascontiguousarray(array, "<f4").tobytes()
        shape = b"".join(field(2, field(1, n)) for n in array.shape)
        entry = field(1, 1) + field(2, shape) + (field(4, len(shard)) if shard else b"") + field(5, len(data))
        entry += varint(6 << 3 | 5) + struct.pack("<I", masked_crc32c(data))
        entries.append((name.encode(), entry))
        shard += data
    index, footer, handles = b"", b"", []
    for start in range(0, len(entries), 16):
        body, stored = block(entries[start : start + 16])
        handles.append((entries[start : start + 16][-1][0] + b"~", varint(len(index)) + varint(len(body))))
        index += stored
    for part in ([], handles):
        body, stored = block(part)
        footer += varint(len(index)) + varint(len(body))
        index += stored
    return index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57), shard


@pytest.fixture(scope="module")
def random_release():
    """Tensors with the release's names and shapes, random, and the same as TensorFlow's variables."""
    rng = np.random.default_rng(4)
    shapes = SoupGenerator().state_dict()
    tensors = {k: torch.from_numpy(rng.standard_normal(v.shape).astype(np.float32) * 0.05) for k, v in shapes.items()}
    variables = {}
    for number, layer in enumerate(layer_names()):
        for ours, theirs in (("weight", "kernel"), ("bias", "bias")):
            array = tensors[f"{layer}.{ours}"].numpy()
            array = array.transpose(2, 3, 4, 1, 0) if array.ndim == 5 else array
            variables[f"layer_with_weights-{number}/{theirs}/.ATTRIBUTES/VARIABLE_VALUE"] = array
    return tensors, variables


@pytest.fixture(scope="module")
def bundle(random_release):
    return write_bundle(random_release[1])


def members(bundle, root="KevinSR-0.1.20/KevinSR/"):
    names = ("variables.index", "variables.data-00000-of-00001")
    return {f"{root}Thin-to-thin/variables/{name}": content for name, content in zip(names, bundle, strict=True)}


def pack(path, contents):
    if path.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def test_the_checksum_is_crc32c():
    """RFC 3720, B.4: 32 bytes of zeros and the check value of '123456789', then LevelDB's mask."""

    def mask(crc):
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    assert masked_crc32c(bytes(32)) == mask(0x8A9136AA)
    assert masked_crc32c(b"123456789") == mask(0xE3069283)


def test_a_checkpoint_is_read_without_tensorflow():
    rng = np.random.default_rng(0)
    arrays = {f"layer-{i}/kernel": rng.standard_normal((3, i + 1)).astype(np.float32) for i in range(40)}
    got = read_bundle(*write_bundle(arrays), "here")
    assert set(got) == set(arrays)
    assert all(np.array_equal(got[name], arrays[name]) for name in arrays)
    assert set(read_bundle(*write_bundle(arrays), "here", lambda name: name == "layer-7/kernel")) == {"layer-7/kernel"}


def sentence_about(broken):
    try:
        read_bundle(*broken, "variables.index")
    except UserError as error:
        return str(error)
    return None


def test_a_damaged_checkpoint_is_refused_in_a_sentence_whatever_the_damage():
    rng = np.random.default_rng(1)
    arrays = {f"layer-{i}/bias": rng.standard_normal(5).astype(np.float32) for i in range(20)}
    index, shard = write_bundle(arrays)
    damaged = [(index[:cut], shard) for cut in range(0, len(index), 7)] + [
        (index, shard[:-1]),
        (index, b""),
        (shard, shard),
    ]
    for _ in range(300):
        where, what = int(rng.integers(len(index) - 8)), int(rng.integers(1, 256))
        damaged.append((index[:where] + bytes([index[where] ^ what]) + index[where + 1 :], shard))
    damaged.append((index, shard[:3] + b"\xff" + shard[4:]))
    damaged.append(write_bundle(arrays, shards=2))
    refused = 0
    for broken in damaged:
        said = sentence_about(broken)
        if said is None:  # a bit of the footer or of the unused metaindex: what is read is right all the same
            got = read_bundle(*broken, "variables.index")
            assert all(np.array_equal(got[name], arrays[name]) for name in arrays)
            assert len(got) == len(arrays)
        else:
            assert said.startswith("variables.index: is not a readable TensorFlow checkpoint")
            assert "\n" not in said
            refused += 1
    assert refused > 0.9 * len(damaged)


@pytest.mark.parametrize("name", ["KevinSR-0.1.20.tar.gz", "KevinSR-0.1.20-py3-none-any.whl", "folder"])
def test_the_release_is_read_from_its_archive_or_folder(tmp_path, random_release, bundle, name):
    path = tmp_path / name
    if name == "folder":
        for member, content in members(bundle).items():
            (path / member).parent.mkdir(parents=True, exist_ok=True)
            (path / member).write_bytes(content)
    else:
        pack(path, members(bundle))
    got = import_official(path)
    assert all(torch.equal(got.tensors[key], tensor) for key, tensor in random_release[0].items())
    assert len(got.tensors) == len(random_release[0])
    assert got.facts["release"] == "unknown, not KevinSR 0.1.20"


def test_the_release_is_read_from_the_installed_package(tmp_path, monkeypatch, random_release, bundle):
    for member, content in members(bundle, "KevinSR/").items():
        (tmp_path / member).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / member).write_bytes(content)
    (tmp_path / "KevinSR" / "__init__.py").write_text("raise RuntimeError('the package must not be run')")
    monkeypatch.syspath_prepend(str(tmp_path))
    got = import_official(None)
    assert torch.equal(got.tensors["post.6.1.bias"], random_release[0]["post.6.1.bias"])


@needs_release
def test_the_weights_at_hand_are_the_released_ones():
    assert import_official(RELEASED).facts["release"] == "KevinSR 0.1.20"


def test_importing_what_is_not_the_release_is_refused_in_a_sentence(tmp_path, monkeypatch, random_release, bundle):
    from safetensors.torch import save_file

    tensors = random_release[0]
    files = members(bundle)
    index = next(name for name in files if name.endswith("index"))
    without = {k: v for k, v in tensors.items() if k != "backbone.3.bias"}
    save_file(without, str(tmp_path / "short.safetensors"))
    save_file({**tensors, "post.2.1.bias": torch.full((1,), torch.nan)}, str(tmp_path / "nan.safetensors"))
    save_file({**tensors, "post.2.1.bias": torch.zeros(2)}, str(tmp_path / "shape.safetensors"))
    for name, content in {
        "cut.tar.gz": b"\x1f\x8b\x08",
        "cut.whl": b"PK",
        "noise.safetensors": b"x" * 50,
        "a.pt": b"x",
    }.items():
        (tmp_path / name).write_bytes(content)
    pack(tmp_path / "whole.tar.gz", files)
    (tmp_path / "half.tar.gz").write_bytes((tmp_path / "whole.tar.gz").read_bytes()[:200_000])
    pack(tmp_path / "other.tar.gz", {"KevinSR/__init__.py": b""})
    pack(tmp_path / "twice.whl", {**files, f"again/{index}": files[index]})
    monkeypatch.setattr("mrsr_bench.zoo.methods.soup.official._LARGEST", 1000)
    pack(tmp_path / "huge.whl", files)
    (tmp_path / "empty").mkdir()
    reasons = {
        "short.safetensors": "backbone.3.bias is missing",
        "nan.safetensors": "NaN",
        "shape.safetensors": "another shape",
        "cut.tar.gz": "cannot be read",
        "cut.whl": "cannot be read",
        "half.tar.gz": "cannot be read|larger than",
        "noise.safetensors": "not a readable safetensors",
        "a.pt": "expected the archive of KevinSR",
        "other.tar.gz": "found none",
        "twice.whl": "found 2",
        "huge.whl": "larger than",
        "empty": "found none",
        "nowhere.tar.gz": "no such file",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason) as caught:
            import_official(tmp_path / name)
        assert "\n" not in str(caught.value), name


def test_without_the_package_one_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"KevinSR is not installed here; get it with .*pip download"):
        import_official(None)


def test_installed_official_weights_are_found_verified_and_carded(tmp_path, monkeypatch, random_release):
    from safetensors.torch import save_file

    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path / "home"))
    save_file(random_release[0], str(tmp_path / "theirs.safetensors"))
    spec = methods.get("soup_gan_official")
    folder = install_official(tmp_path / "theirs.safetensors")
    assert install_official(tmp_path / "theirs.safetensors") == folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    for task in spec.tasks:
        assert find_weights(spec, get_protocol(task).content["task"]) is not None
    assert find_weights(spec, get_protocol("thick-4").content["task"]) is None
    weights = find_weights(spec, None)
    network = build_network(spec)
    load_into(network, weights)
    assert verify_golden(network, weights) <= 1e-6
    assert "BSD-3-Clause" in (folder / "README.md").read_text()
    assert json.loads((folder / "config.json").read_text())["imported"]["file"] == "theirs.safetensors"


def test_a_failed_import_leaves_what_was_there(tmp_path, monkeypatch, random_release):
    from safetensors.torch import save_file

    monkeypatch.setenv("MRSR_BENCH_HOME", str(tmp_path / "home"))
    save_file(random_release[0], str(tmp_path / "theirs.safetensors"))
    folder = install_official(tmp_path / "theirs.safetensors")
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(UserError):
        install_official(tmp_path / "gone.whl")
    (tmp_path / "theirs.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError):
        install_official(tmp_path / "theirs.safetensors")
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
