"""Fetching: servers that break off, lie, stall or have nothing, archives that attack, and what a person must do."""

import gzip
import hashlib
import http.server
import io
import json
import sys
import tarfile
import threading
import time
import types
from pathlib import Path

import nibabel
import numpy as np
import pytest

from mrsr_bench import UserError
from mrsr_bench.benchmarks import fetch as fetching
from mrsr_bench.benchmarks.datasets import datasets
from mrsr_bench.benchmarks.fetch import Archive, Bucket, IdcCollection, download, fetch, fetch_archive, unpack
from mrsr_bench.cli import main

CONTENT = bytes(range(256)) * 8000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content``; ``breaks`` are byte counts after which one answer each ends early, ``ranges`` may be off."""

    def __init__(self):
        self.content, self.status = CONTENT, 200
        self.breaks, self.asked, self.ranges, self.stall = [], [], True, 0.0
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/data.tar"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(wanted[6:-1]) if wanted and server.ranges else 0
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        until = start + server.breaks.pop(0) if server.breaks else len(server.content)
        self.wfile.write(server.content[start:until])
        self.wfile.flush()
        if until < len(server.content):
            time.sleep(server.stall)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def get(server, target, md5=MD5, **more):
    return download(server.url, target, md5=md5, timeout=(2, 0.4), **more)


def test_a_file_comes_whole_and_nothing_else_is_left(server, tmp_path):
    seen = []
    get(server, tmp_path / "data.tar", notify=lambda text, done, total: seen.append((done, total)))
    assert (tmp_path / "data.tar").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["data.tar"]
    assert seen[-1][0] == seen[-1][1]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server, tmp_path):
    server.breaks = [983_040, 524_288]
    get(server, tmp_path / "data.tar")
    assert server.asked == [None, "bytes=983040-", "bytes=1507328-"]
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


def test_a_stalled_server_is_left_and_asked_again(server, tmp_path):
    server.breaks, server.stall = [655_360], 1.5
    get(server, tmp_path / "data.tar")
    assert server.asked == [None, "bytes=655360-"]


def test_a_server_without_ranges_sends_all_of_it_again(server, tmp_path):
    server.breaks, server.ranges = [655_360], False
    get(server, tmp_path / "data.tar")
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


def test_a_second_command_goes_on_where_a_dead_one_stopped(server, tmp_path):
    server.breaks = [589_824, 0, 0]
    with pytest.raises(UserError, match="run the same command again and it goes on from there"):
        get(server, tmp_path / "data.tar", attempts=2)
    assert not (tmp_path / "data.tar").exists()
    get(server, tmp_path / "data.tar")
    assert server.asked[-1] == "bytes=589824-"
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


def test_a_partial_file_longer_than_the_whole_is_started_over(server, tmp_path):
    (tmp_path / ".data.tar.partial").write_bytes(b"x" * (len(CONTENT) + 5))
    get(server, tmp_path / "data.tar")
    assert (tmp_path / "data.tar").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_no_file(server, tmp_path):
    with pytest.raises(UserError, match="another MD5 than the published 0000"):
        get(server, tmp_path / "data.tar", md5="0" * 32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "sentence"), [(404, "answered 404"), (403, "answered 403"), (500, "stopped at 0 MiB")]
)
def test_a_server_that_refuses_gives_a_sentence(server, tmp_path, status, sentence):
    server.status = status
    with pytest.raises(UserError, match=sentence) as raised:
        get(server, tmp_path / "data.tar", attempts=1)
    assert "\n" not in str(raised.value)


def test_no_server_gives_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"stopped at 0 MiB \(ConnectionError\)"):
        download("http://127.0.0.1:9/x.tar", tmp_path / "x.tar", md5=MD5, attempts=1)


def member(name, data=b"x", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data) if kind == tarfile.REGTYPE else 0, kind, link
    return info, io.BytesIO(data)


def tar(path, *members, mode="w"):
    with tarfile.open(path, mode) as file:
        for info, data in members:
            file.addfile(info, data)
    return path


def test_an_archive_is_unpacked_whole(tmp_path):
    archive = tar(tmp_path / "a.tar", member("./IXI1.nii.gz", b"one"), member("sub/IXI2.nii.gz", b"two"))
    assert unpack(archive, tmp_path / "out", max_bytes=100) == 2
    assert (tmp_path / "out" / "sub" / "IXI2.nii.gz").read_bytes() == b"two"


@pytest.mark.parametrize(
    ("hostile", "sentence"),
    [
        (member("../evil"), "outside its folder"),
        (member("a/../../evil"), "outside its folder"),
        (member("/tmp/evil"), "outside its folder"),
        (member("..\\evil"), "outside its folder"),
        (member("link", kind=tarfile.SYMTYPE, link="/etc/passwd"), "is a link, device or pipe"),
        (member("hard", kind=tarfile.LNKTYPE, link="good"), "is a link, device or pipe"),
        (member("null", kind=tarfile.CHRTYPE), "is a link, device or pipe"),
        (member("pipe", kind=tarfile.FIFOTYPE), "is a link, device or pipe"),
        (member("bell\a"), "no name for a file"),
        (member("GOOD"), "in it twice"),
        (member("big", b"0" * 5000), "holds more than"),
    ],
)
def test_a_hostile_archive_leaves_nothing(tmp_path, hostile, sentence):
    archive = tar(tmp_path / "a.tar", member("good"), hostile)
    with pytest.raises(UserError, match=sentence) as raised:
        unpack(archive, tmp_path / "deep" / "out", max_bytes=4000)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.tar"]


def test_too_many_members_and_damaged_archives_are_refused(tmp_path):
    archive = tar(tmp_path / "a.tar", *[member(f"f{i}") for i in range(9)])
    with pytest.raises(UserError, match="or 5 members"):
        unpack(archive, tmp_path / "out", max_bytes=4000, max_members=5)
    archive.write_bytes(b"not a tar")
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "out", max_bytes=4000)
    whole = tar(tmp_path / "b.tar.gz", member("f", b"0" * 3000), mode="w:gz")
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(whole, tmp_path / "out", max_bytes=4000)
    assert not (tmp_path / "out").exists()


def test_an_archive_is_fetched_once(tmp_path, monkeypatch):
    inside = tar(tmp_path / "x.tar", member("IXI002-Guys-0828-T1.nii.gz", b"1"))
    calls = []

    def serve(url, target, **_):
        calls.append(url)
        target.write_bytes(inside.read_bytes())
        return target

    monkeypatch.setattr(fetching, "download", serve)
    source = Archive("http://127.0.0.1/IXI-T1.tar", MD5, "IXI-T1", 10**6)
    place = tmp_path / "ixi"
    place.mkdir()
    assert fetch_archive(source, place, lambda *_: None)[0] == 1
    assert fetch_archive(source, place, lambda *_: None) == (0, 0)
    assert (len(calls), [path.name for path in place.iterdir()]) == (1, ["IXI-T1"])


def test_the_command_brings_a_dataset_over_a_connection_that_breaks(server, tmp_path, monkeypatch, capsys):
    for variable in ("MRSR_BENCH_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    scan = np.random.default_rng(0).normal(100, 20, (40, 40, 40)).astype(np.float32)
    image = nibabel.Nifti1Image(scan, np.diag([0.9375, 0.9375, 1.2, 1])).to_bytes()
    archive = tar(tmp_path / "x.tar", member("IXI002-Guys-0828-T1.nii.gz", gzip.compress(image)))
    server.content, server.breaks = archive.read_bytes(), [100_000]
    source = Archive(server.url, hashlib.md5(server.content).hexdigest(), "IXI-T1", 10**6)
    monkeypatch.setattr(datasets.get("ixi"), "sources", (source,))
    with pytest.raises(SystemExit) as stop:
        main(["data", "fetch", "ixi", "--root", str(tmp_path / "data"), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert (stop.value.code, said["new_files"], said["new_bytes"]) == (0, 1, len(server.content))
    assert server.asked[0] is None
    assert len(server.asked) == 2
    assert said["next"] == f"mrsr-bench data check ixi --root {tmp_path / 'data'}"
    (case,) = datasets.get("ixi").at(tmp_path / "data").cases("all")
    np.testing.assert_array_equal(case.hr().data, scan)


def test_a_bucket_is_copied_file_by_file_and_only_what_is_new(tmp_path):
    store = tmp_path / "store"
    for name in ("sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz", "sub-01/func/sub-01_bold.nii.gz"):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).write_bytes(name.encode())
    source = Bucket(f"file://{store}", ("sub-*/anat/*_T1w.nii.gz",))
    place = tmp_path / "place"
    assert fetching.fetch_bucket(source, "x", place, lambda *_: None)[0] == 2
    (place / "sub-02/anat/sub-02_T1w.nii.gz").write_bytes(b"cut")
    assert fetching.fetch_bucket(source, "x", place, lambda *_: None)[0] == 1
    assert (place / "sub-02/anat/sub-02_T1w.nii.gz").read_bytes() == b"sub-02/anat/sub-02_T1w.nii.gz"
    assert not list(place.rglob("*partial*")) + list(place.rglob("*bold*"))


def test_a_bucket_is_listed_only_where_a_wildcard_stands(tmp_path, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    listed, ls = [], LocalFileSystem.ls

    def record(system, path, detail=False, **more):
        listed.append(str(path).removeprefix(str(tmp_path)))
        return ls(system, path, detail=detail, **more)

    monkeypatch.setattr(LocalFileSystem, "ls", record)
    image = "unprocessed/3T/T1w_MPR1"
    for subject in ("100206", "100307"):
        for folder in (image, "unprocessed/3T/T1w_MPR2", "MNINonLinear/Results", "T1w/100206/mri"):
            (tmp_path / "store" / subject / folder).mkdir(parents=True)
        (tmp_path / "store" / subject / image / f"{subject}_3T_T1w_MPR1.nii.gz").write_bytes(b"x")
    (tmp_path / "store" / "100408" / "T1w").mkdir(parents=True)
    source = Bucket(f"file://{tmp_path}/store", ("*/unprocessed/3T/T1w_MPR1/*_3T_T1w_MPR1.nii.gz",))
    assert fetching.fetch_bucket(source, "x", tmp_path / "place", lambda *_: None) == (2, 2)
    assert set(listed) == {"/store", *(f"/store/{subject}/{image}" for subject in ("100206", "100307", "100408"))}


def test_hcp_without_access_says_where_to_go_what_to_accept_and_what_checks_it(tmp_path, monkeypatch):
    for name in ("MRSR_BENCH_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    import fsspec

    def refuse(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(UserError) as raised:
        fetch("hcp", root=tmp_path)
    said = str(raised.value)
    check = f"data check hcp --root {tmp_path}"
    for part in ("db.humanconnectome.org", "Open Access Data Use Terms", str(tmp_path / "hcp"), check):
        assert part in said
    monkeypatch.setenv("MRSR_BENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"data check hcp$"):
        fetch("hcp")


@pytest.mark.parametrize("name", ["kirby21", "oasis1"])
def test_what_needs_a_person_says_so(tmp_path, name, monkeypatch):
    for variable in ("MRSR_BENCH_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match=rf"go to https://.*, then run: mrsr-bench data check {name}"):
        fetch(name, root=tmp_path)


def test_offline_and_built_in_datasets_are_not_fetched(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="phantom needs no fetching"):
        fetch("phantom", root=tmp_path)
    with pytest.raises(UserError, match="is made of prostatex_cor and prostatex; fetch each of them"):
        fetch("prostatex_orthogonal", root=tmp_path)
    with pytest.raises(UserError, match="needs no fetching: it is coronal and axial stacks in a folder of your own"):
        fetch(f"orthogonal:{tmp_path}", root=tmp_path)
    monkeypatch.setenv("MRSR_BENCH_OFFLINE", "1")
    with pytest.raises(UserError, match="forbids downloads"):
        fetch("ixi", root=tmp_path)
    for name in ("oasis1", "kirby21"):
        with pytest.raises(UserError, match=rf"{name} cannot be fetched without you: go to https://"):
            fetch(name, root=tmp_path)


class Store:
    """A file system with one file; `fails` is what it raises when that is asked for."""

    def __init__(self, size=4, fails=None):
        self.size, self.fails = size, fails

    def ls(self, folder, detail=True):
        return [{"name": f"{folder}/a.nii.gz", "type": "file", "size": self.size}]

    def get_file(self, remote, local):
        if self.fails is not None:
            raise self.fails
        Path(local).write_bytes(b"four")


class NoCredentialsError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "by_access"),
    [
        (PermissionError("Access Denied"), True),
        (NoCredentialsError("Unable to locate"), True),
        (OSError("An error occurred (403) when calling"), True),
        (TimeoutError("read timed out"), False),
        (ConnectionError("connection reset by peer"), False),
        (OSError("503 Slow Down"), False),
    ],
)
def test_only_an_error_of_access_is_told_as_one(tmp_path, monkeypatch, error, by_access):
    import fsspec

    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url, **options: (Store(fails=error), "bucket"))
    agreement = fetching.ByHand("https://there", "accept the terms", "the keys")
    source = fetching.Bucket("s3://bucket", ("*.nii.gz",), agreement)
    with pytest.raises(UserError) as stopped:
        fetching.fetch_bucket(source, "hcp", tmp_path, lambda *_: None)
    assert ("accept the terms" in str(stopped.value)) == by_access
    assert ("check the network" in str(stopped.value)) != by_access


def test_a_bucket_larger_than_the_disk_is_not_begun(tmp_path, monkeypatch):
    import fsspec

    store = Store(size=10**18, fails=AssertionError("asked for a file"))
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda url, **options: (store, "bucket"))
    with pytest.raises(UserError, match="GiB are needed"):
        fetching.fetch_bucket(fetching.Bucket("s3://bucket", ("*.nii.gz",)), "x", tmp_path, lambda *_: None)


def commons(monkeypatch, *, loses=()):
    """A stand-in for idc-index: like it, it logs what did not come and returns; what it was asked for."""
    pandas = pytest.importorskip("pandas")
    asked = {}

    class Client:
        index = pandas.DataFrame(
            {
                "collection_id": ["prostatex"] * 4 + ["other"],
                "Modality": ["MR", "MR", "SEG", "MR", "MR"],
                "SeriesDescription": ["t2_tse_tra", "ep2d_diff_tra", "t2_tse_tra", "t2_tse_cor", "t2_tse_tra"],
                "PatientID": ["P1"] * 5,
                "StudyInstanceUID": ["9"] * 5,
                "SeriesInstanceUID": ["1", "2", "3", "4", "5"],
                "instanceCount": [3] * 5,
                "series_size_MB": [1.0] * 5,
                "license_short_name": ["CC BY 3.0"] * 5,
            }
        )

        @classmethod
        def client(cls):
            return cls()

        def download_from_selection(self, **selection):
            asked.update(selection)
            for row in self.index[self.index["SeriesInstanceUID"].isin(selection["seriesInstanceUID"])].itertuples():
                folder = selection["dirTemplate"]
                for part in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"):
                    folder = folder.replace(f"%{part}", getattr(row, part))
                for number in range(row.instanceCount - (row.SeriesInstanceUID in loses)):
                    path = Path(selection["downloadDir"], folder, f"{number}.dcm")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(b"four")

    monkeypatch.setitem(sys.modules, "idc_index", types.SimpleNamespace(IDCClient=Client))
    return asked


AXIAL, CORONAL = IdcCollection("prostatex", "^t2_tse_tra"), IdcCollection("prostatex", "^t2_tse_cor")


def test_the_commons_is_asked_for_the_series_of_the_description_alone(tmp_path, monkeypatch):
    asked = commons(monkeypatch)
    assert fetching.fetch_idc(AXIAL, "prostatex", tmp_path, lambda *_: None) == (3, 12)
    assert (asked["seriesInstanceUID"], asked["use_s5cmd_sync"]) == (["1"], True)
    assert json.loads((tmp_path / "licences.json").read_text()) == {"1": "CC BY 3.0"}
    assert fetching.fetch_idc(AXIAL, "prostatex", tmp_path, lambda *_: None) == (0, 0)


def test_two_planes_of_one_collection_keep_the_licences_of_both(tmp_path, monkeypatch):
    commons(monkeypatch)
    for source in (AXIAL, CORONAL):
        fetching.fetch_idc(source, "prostatex", tmp_path, lambda *_: None)
    assert set(json.loads((tmp_path / "licences.json").read_text())) == {"1", "4"}


def test_a_series_that_the_commons_did_not_send_whole_is_no_success(tmp_path, monkeypatch):
    commons(monkeypatch, loses={"4"})
    with pytest.raises(UserError, match=r"1 of 1 series did not come whole \(first: 4\)"):
        fetching.fetch_idc(CORONAL, "prostatex_cor", tmp_path, lambda *_: None)


def test_the_published_checksums_of_ixi_stand_in_its_sources():
    sources = [source for name in ("ixi", "ixi_t2", "ixi_pd") for source in datasets.get(name).sources]
    assert [source.name for source in sources] == ["IXI-T1.tar", "IXI-T2.tar", "IXI-PD.tar"]
    assert sources[0].md5 == "34901a0593b41dd19c1a1f746eac2d58"
