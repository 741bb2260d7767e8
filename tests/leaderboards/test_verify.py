"""What a stranger's submission may not do: hostile files, impossible scores, leakage; and what a re-run proves."""

import json

import pytest
import sound_submission as helpers

from mrsr_bench import UserError
from mrsr_bench.benchmarks.datasets import datasets
from mrsr_bench.benchmarks.datasets.hidden_phantom import hidden_name
from mrsr_bench.cli import main
from mrsr_bench.leaderboards.schema import (
    LARGEST_FILE,
    as_text,
    digest_of,
    make,
    read_submissions,
)
from mrsr_bench.leaderboards.verify import check, verify
from mrsr_bench.zoo.pins import shipped_pins

SUBJECTS = helpers.SUBJECTS
content, foreign, plain, score, sound = helpers.content, helpers.foreign, helpers.plain, helpers.score, helpers.sound
SHIPPED = shipped_pins()["mdcsrn/mdcsrn_b4u4--kspace-2x2x1"]["model.safetensors"]


def quiet(_line):
    pass


def test_a_sound_submission_passes(tmp_path):
    assert check(sound(), []).problems == []
    assert check(sound(method="mdcsrn_b4u4", start=29.0), [sound()]).problems == []


HOSTILE_TEXT = {
    "a script": "<script>alert(1)</script>",
    "an entity": "&lt;script&gt;",
    "a formula": "=HYPERLINK(1)",
    "a formula with a full-width sign": "\uff1dHYPERLINK(1)",
    "a formula with plus": "+1",
    "a formula with minus": "-2+3",
    "a formula with at": "@SUM(A1)",
    "a tab": "a\tb",
    "a line": "a\nb",
    "an escape": "a\x1b[31mb",
    "a NUL": "a\x00b",
    "a direction mark": "abc\u202exyz",
    "an isolate": "abc\u2066xyz",
    "a zero-width space": "a\u200bb",
    "a byte order mark": "\ufeffa",
    "a line separator": "a\u2028b",
    "a lone surrogate": "a\ud800b",
    "another normal form": "e\u0301",
    "a pile of marks": "a" + "\u0316\u0317\u0318\u0319",
    "nothing": "",
    "only spaces": "   ",
    "too much": "a" * 1001,
}
HOSTILE_NAME = {
    **HOSTILE_TEXT,
    "a path up": "../../etc/passwd",
    "dots": "a..b",
    "a root": "/etc/passwd",
    "a drive": "C:evil",
    "backslashes": "..\\evil",
    "a separator of file names": "a--b",
    "a hidden file": ".bashrc",
    "an option": "-rf",
    "letters that look like others": "\u0441ubic",
    "a quote": 'a" onmouseover="x',
}


def refuse(tmp_path, raw):
    """The sentence that a file of these bytes is refused with."""
    path = tmp_path / "s.json"
    path.write_bytes(raw)
    with pytest.raises(UserError) as refused:
        read_submissions(path)
    sentence = str(refused.value)
    assert sentence.isascii()
    assert sentence.isprintable()
    assert len(sentence) < 700
    return sentence


def altered(changed):
    """Bytes of a submission whose digest is right for its changed content: only the content can be at fault."""
    changed["digest"] = digest_of(changed)
    return json.dumps(changed).encode()


@pytest.mark.parametrize("what", HOSTILE_NAME)
@pytest.mark.parametrize("entry", ["method", "subject", "metric", "dataset"])
def test_a_hostile_name_is_refused(tmp_path, entry, what):
    changed, name = plain(), HOSTILE_NAME[what]
    if entry == "subject":
        changed["subjects"][0] = name
        for one in changed["scores"].values():
            one["per_subject"][name] = one["per_subject"].pop("sub-01")
    elif entry == "metric":
        changed["scores"][name] = changed["scores"].pop("psnr")
    else:
        changed[entry] = name
    try:
        raw = altered(changed)
    except UnicodeEncodeError:  # a lone surrogate has no digest
        raw = json.dumps(changed).encode()
    refuse(tmp_path, raw)


@pytest.mark.parametrize("what", HOSTILE_TEXT)
@pytest.mark.parametrize("entry", ["description", "paper", "terms", "cpu", "convention"])
def test_hostile_text_is_refused(tmp_path, entry, what):
    changed, text = plain(method="mdcsrn_b4u4"), HOSTILE_TEXT[what]
    place, key = {
        "terms": (changed["training"], "terms"),
        "cpu": (changed["hardware"], "cpu"),
        "convention": (changed["conventions"], "psnr"),
    }.get(entry, (changed, entry))
    place[key] = text
    try:
        raw = altered(changed)
    except UnicodeEncodeError:
        raw = json.dumps(changed).encode()
    refuse(tmp_path, raw)


@pytest.mark.parametrize(
    "link", ["http://a.org", "javascript:alert(1)", "https://a.org/../b", 'https://a.org/"x', "https://a b"]
)
def test_a_link_is_a_plain_https_address(tmp_path, link):
    changed = plain()
    changed["source"]["repository"] = link
    assert "https" in refuse(tmp_path, altered(changed))


WRONG = {
    "a number as text": ("seed", "0"),
    "a truth value as a number": ("seed", True),
    "a number as a truth value": ("synthetic", 1),
    "an object as a list": ("subjects", {}),
    "a list as an object": ("scores", []),
    "nothing where something must be": ("scores", None),
    "no subjects": ("subjects", []),
    "images of a subject that is not there": ("images", {"sub-77": 2}),
    "one image counted": ("images", {"sub-01": 1}),
    "no images": ("images", {"sub-01": 0}),
    "a subject twice": ("subjects", ["sub-01", "sub-01", "sub-02", "sub-03"]),
    "another format": ("format", 2),
    "an unknown badge": ("badge", "gold"),
    "an unknown track": ("track", "closed"),
    "a negative time": ("seconds_per_volume", -1.0),
    "a time beyond all measure": ("seconds_per_volume", 1e308),
    "a time too small to draw": ("seconds_per_volume", 5e-324),
    "a huge count": ("parameters", 10**30),
    "a short hash": ("protocol_hash", "abc"),
    "no date": ("date", "yesterday"),
    "no day of the calendar": ("date", "2026-02-30"),
    "an unknown entry": ("__proto__", {}),
    "a network without weights": ("kind", "network"),
    "a branch for a commit": ("source", {"package": "a", "package_version": "1", "commit": "main"}),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_type_or_value_is_refused(tmp_path, what):
    entry, value = WRONG[what]
    refuse(tmp_path, altered({**plain(), entry: value}))


def with_text(old, new):
    text = json.dumps(plain())
    assert old in text
    return text.replace(old, new, 1).encode()


FILES = {
    "nothing": (b"", "strict JSON"),
    "no JSON": (b"{'a': 1}", "strict JSON"),
    "cut off": (json.dumps({"a": [1, 2]}).encode()[:-3], "strict JSON"),
    "no UTF-8": (b'{"a": "\xff"}', "UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "strict JSON"),
    "a pickle": (b"\x80\x04\x95\x10\x00\x00\x00", "strict JSON"),
    "NaN": (b'{"a": NaN}', "no number of JSON"),
    "Infinity": (b'{"a": Infinity}', "no number of JSON"),
    "minus Infinity": (b'{"a": -Infinity}', "no number of JSON"),
    "a number too large for float64": (b'{"a": 1e999}', "float64"),
    "a number of ten thousand digits": (b'{"a": ' + b"9" * 10_000 + b"}", "strict JSON"),
    "a key twice": (b'{"a": 1, "a": 2}', "twice"),
    "deep arrays": (b"[" * 200_000, "nested"),
    "deep arrays that close": (b"[" * 50 + b"]" * 50, "nested"),
    "deep objects": (b'{"a":' * 100_000, "nested"),
    "a number": (b"1", "submission"),
    "a string": (b'"submission"', "submission"),
    "null": (b"null", "submission"),
    "no submission in a list": (b"[]", "holds 0"),
    "too many submissions": (b"[" + b"{}," * 300 + b"{}]", "holds 301"),
    "too large": (b" " * (LARGEST_FILE + 1), "larger than 4 MiB"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_hostile_file_is_refused(tmp_path, what):
    raw, part = FILES[what]
    assert part in refuse(tmp_path, raw)


@pytest.mark.parametrize("key", ["seed", "method", "scores", "psnr", "sub-01"])
def test_a_key_that_stands_twice_at_any_depth_is_refused(tmp_path, key):
    assert "twice" in refuse(tmp_path, with_text(f'"{key}": ', f'"{key}": 1, "{key}": '))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(UserError, match="no such file"):
            read_submissions(path)


@pytest.mark.parametrize("entry", ["mean", "subject", "n", "date", "contact"])
def test_an_altered_file_is_refused(tmp_path, entry):
    changed = plain()
    psnr = changed["scores"]["psnr"]
    if entry == "mean":
        psnr["mean"] += 1
    elif entry == "subject":
        psnr["per_subject"]["sub-01"] += 1
    elif entry == "n":
        psnr["n"] = 2
    else:
        changed[entry] = {"date": "2026-11-23", "contact": "other@example.org"}[entry]
    refuse(tmp_path, json.dumps(changed).encode())


def test_a_badge_cannot_be_brought_along(tmp_path):
    changed = plain() | {"badge": "re-run"}
    assert "verification" in refuse(tmp_path, json.dumps(changed).encode())
    proof = {"digest": changed["digest"], "date": "2026-11-22", "mrsr_bench": "0.1.0", "datasets": ["heads"]}
    changed["verification"] = {**proof, "compared": 3, "largest_psnr_db": 0.0, "isolation": "namespace"}
    (tmp_path / "s.json").write_text(json.dumps(changed))
    (one,) = read_submissions(tmp_path / "s.json")
    assert any("badge" in problem for problem in check(one, []).problems)
    assert check(one, [], accepted_before=True).problems == []


def test_huge_scores_are_a_sentence(tmp_path):
    changed = plain()
    changed["scores"]["psnr"]["per_subject"] = dict.fromkeys(SUBJECTS, 1e308)  # whose sum is beyond float64
    assert "less than" in refuse(tmp_path, altered(changed))


def problems(one, *others):
    return " ".join(check(one, others).problems)


def test_training_on_what_is_scored_is_leakage():
    def learnt(**training):
        changed = content(method="mdcsrn_b4u4")
        changed["training"] |= training
        return make(changed, "test")

    for part in ("train_subjects", "val_subjects"):
        assert "trained on subjects" in problems(learnt(dataset="heads", **{part: ["sub-02"]}))
    assert "hidden heads" in problems(learnt(dataset="phantom_hidden-00"))
    same_names = check(learnt(train_subjects=["sub-02"]), [])
    assert same_names.problems == []
    assert any("same names" in doubt for doubt in same_names.doubts)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"protocol": "thick-4"}, "another hash"),
        ({"protocol": "no-such"}, "unknown"),
        ({"version": 7}, "version"),
        ({"parameters": 5}, "parameters"),
        ({"kind": "network", "weights": {"sha256": "1" * 64}, "training": {"dataset": "a", "terms": "b"}}, "kind"),
        ({"conventions": dict.fromkeys(("psnr", "ssim", "nrmse"), "what I like")}, "another convention"),
        ({"conventions": {**content()["conventions"], "my_psnr": "mine"}}, "my_psnr is unknown"),
    ],
)
def test_what_differs_from_this_installation_is_refused(changes, part):
    assert part in problems(sound(**changes))


def test_weights_that_are_said_to_ship_must_ship():
    assert "none of that SHA-256" in problems(
        sound(method="mdcsrn_b4u4", weights={"sha256": "1" * 64, "shipped": True})
    )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, None),
        ({"method": "mdcsrn_b4u4", "start": 29.0, "weights": {"sha256": SHIPPED, "shipped": True}}, None),
        ({"method": "mdcsrn_b4u4", "start": 29.0}, "no weights of SHA-256 1111111111111111 ship"),
        ({"method": "my_own"}, "my_own is no method of this package"),
        ({"source": {"package": "someones", "package_version": "1"}}, "cubic is no method of this package"),
    ],
)
def test_the_maintainers_answer_for_what_comes_with_the_package_alone(changes, part):
    found = [line for line in check(sound(contact="maintainers", **changes), []).problems if "the maintainers" in line]
    assert ([] if part is None else [f"the maintainers are no contact for it: {part}"]) == [
        problem.replace(" with this package", "") for problem in found
    ]


def test_the_maintainers_do_not_answer_for_a_method_that_an_entry_point_brings(monkeypatch):
    assert problems(sound(contact="maintainers")) == ""
    monkeypatch.setattr("mrsr_bench.leaderboards.submit._entry_point", lambda method: method)
    assert "cubic is no method of this package" in problems(sound(contact="maintainers"))


@pytest.mark.parametrize("word", ["maintainer", "Maintainers", "maintainers@", "the maintainers", "lab"])
def test_another_word_is_no_contact(tmp_path, word):
    assert "the word maintainers" in refuse(tmp_path, altered({**plain(), "contact": word}))


def test_the_fixed_track_is_for_this_training_set_and_budget():
    changed = content(method="mdcsrn_b4u4", track="fixed")
    assert "fixed track" in problems(make(changed, "test"))
    changed["training"] |= {"dataset": "heads"}
    assert problems(make(changed, "test")) == ""
    changed["training"] |= {"hours": 25.0}
    assert "25.0 h" in problems(make(changed, "test"))


def test_an_unknown_method_is_doubted_and_not_refused():
    found = check(foreign(), [])
    assert found.problems == []
    assert "not installed" in found.doubts[0]


@pytest.mark.parametrize("package", ["mrsr-bench", "MRSR_Bench", "mrsr.bench"])
def test_an_unknown_method_is_not_of_this_package(package):
    one = foreign(source={"package": package, "package_version": "1.0"})
    assert "it says that mrsr-bench brings my_own, which it does not" in problems(one)


def test_only_known_methods_are_interpolations():
    one = foreign(kind="interpolation", weights=None, training=None, track="fixed")
    assert "says that my_own is an interpolation, and those known here are nearest, linear, cubic" in problems(one)


def impossible():
    changed = content()
    changed["scores"]["ssim"] = score(dict(zip(SUBJECTS, (1.0, 0.6, 0.7), strict=True)))
    return make(changed, "test")


def test_the_command_ends_with_2_where_something_is_refused(tmp_path, capsys):
    (tmp_path / "results").mkdir()
    for one, code in ((sound(), 0), (impossible(), 2)):
        (tmp_path / "s.json").write_text(as_text([one]))
        with pytest.raises(SystemExit) as stopped:
            main(["verify", str(tmp_path / "s.json"), "--results", str(tmp_path / "results"), "--json"])
        assert stopped.value.code == code
        assert json.loads(capsys.readouterr().out)["ok"] == (code == 0)


def test_nothing_refused_is_accepted(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "s.json").write_text(as_text([sound(), impossible()]))
    found = verify(tmp_path / "s.json", quiet, results=tmp_path / "results", accept=tmp_path / "kept")
    assert not found["ok"]
    assert not (tmp_path / "kept").exists()


def test_hidden_heads_follow_from_the_weights():
    names = {hidden_name("net", sha, "p") for sha in ("a" * 64, "b" * 64)}
    assert len(names) == 2
    (one, two) = (datasets.get(name).cases("test")[0].fingerprint for name in names)
    assert one != two
