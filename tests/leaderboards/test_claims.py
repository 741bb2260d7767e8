"""What a submission says of its heads, its date and its training is held against what is known."""

import sound_submission as helpers

from mrsr_bench.leaderboards.schema import file_name_of, make
from mrsr_bench.leaderboards.verify import check

content, sound = helpers.content, helpers.sound


def problems(one, *others):
    return " ".join(check(one, others).problems)


def test_what_else_it_learnt_from_is_held_against_the_scored_dataset():
    changed = content(method="mdcsrn_b4u4")
    changed["training"] |= {"other_data": "heads; more"}
    assert any("heads at second hand" in doubt for doubt in check(make(changed, "test"), []).doubts)


def test_procedural_heads_are_not_scans_and_scans_are_not_procedural():
    assert "holds scans, which it does not" in problems(sound(dataset="phantom_2mm"))
    assert problems(sound(dataset="phantom_2mm", synthetic=True)) == ""
    assert "holds procedural heads, which it does not" in problems(sound(synthetic=True), sound())
    assert problems(sound(synthetic=True)) == ""  # of a dataset that nobody knows, nobody knows


def test_an_entry_that_would_replace_another_is_looked_at():
    def doubts(**changes):
        return " ".join(check(sound(method="mdcsrn_b4u4", start=29.0, **changes), [older]).doubts)

    older = sound(method="mdcsrn_b4u4", start=28.0, date="2026-11-20", weights={"sha256": "3" * 64})
    assert f"it replaces {file_name_of(older)}" in doubts()
    assert "it replaces" not in doubts(contact="other@example.org")
    assert "it replaces" not in doubts(date="2026-11-19")
    assert "yet to come" in doubts(date="2099-01-01")
    assert "yet to come" not in doubts(date="2020-01-01")
