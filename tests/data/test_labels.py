"""Labels: the usual ways to write them, where they are unambiguous together, and what `--label_map` says."""

import pytest
from datasets import Dataset

from unveil.data import load_rows, parse_label_map, sft_rows, unpaired_rows
from unveil.errors import UserError, UserInputWarning


def thumbs(*labels) -> Dataset:
    return Dataset.from_list([{"prompt": f"p{i}", "completion": "x", "label": label} for i, label in enumerate(labels)])


@pytest.mark.parametrize(
    ("up", "down"),
    [
        ("true", "false"), ("True", "FALSE"), ("yes", "no"), (1, 0), (1.0, 0.0), (1, -1), ("1", "0"), ("+1", "-1"),
        ("thumbs_up", "thumbs_down"), ("Thumbs Up", "thumbs-down"), ("up", "down"), ("good", "bad"),
        ("positive", "negative"), ("👍", "👎"), ("👍🏽", "👎🏿"), ("like", "dislike"), (" desirable ", "undesirable"),
    ],
)  # fmt: skip
def test_usual_spellings_of_a_label_are_read_and_said_in_one_line(up, down):
    with pytest.warns(
        UserInputWarning, match=r"f: labels are read so: .*\(2 rows\) as true, .*\(1 rows\) as false"
    ) as said:
        assert unpaired_rows(thumbs(up, down, up), "f")["label"][:] == [True, False, True]
    assert len(said) == 1
    assert "\n" not in str(said[0].message)


@pytest.mark.parametrize(
    "labels", [(1, 0, -1), (1, 2), (1, 1), (0, 0), (-1, 0), (5, 1, 3), ("1", "2"), (0.5, 1.0), (1, 0, 2)]
)
def test_numbers_that_are_ambiguous_together_are_refused_with_the_flag_that_settles_them(labels):
    with pytest.raises(
        UserError, match=r"not a boolean.*--label_map 1=true,0=false|not a boolean.*--label_map"
    ) as caught:
        unpaired_rows(thumbs(*labels), "f")
    assert "\n" not in str(caught.value)


def test_a_word_without_a_meaning_is_left_out_alone():
    with pytest.warns(UserInputWarning, match=r"1 of 3 rows cannot be used: label is 'meh'|read so"):
        rows = unpaired_rows(thumbs("yes", "meh", "no"), "f", on_bad_rows="drop")
    assert rows["label"][:] == [True, False]
    assert rows["example_id"][:] == [0, 2]


def test_a_label_map_says_what_labels_mean():
    label_map = parse_label_map(["thumbs_up=true,-1=false", "meh=false"])
    assert label_map == {"thumbs_up": True, "-1": False, "meh": False}
    rows = unpaired_rows(thumbs("Thumbs-Up", "-1.0", "meh"), "f", label_map=label_map)
    assert rows["label"][:] == [True, False, False]
    assert unpaired_rows(thumbs(1, 0), "f", label_map={"1": False, "0": True})["label"][:] == [False, True]
    assert unpaired_rows(thumbs(True, False), "f", label_map={"x": True})["label"][:] == [True, False]
    with pytest.raises(UserError, match=r"label is 'yes' .*which --label_map does not name"):
        unpaired_rows(thumbs("yes", "meh"), "f", label_map=label_map)


@pytest.mark.parametrize("given", [["up"], ["up=1"], ["=true"], ["up=true,up=false"], [""]])
def test_a_label_map_that_says_nothing_is_refused(given):
    with pytest.raises(UserError, match="--label_map"):
        parse_label_map(given)


def test_labels_of_several_types_are_read_together(write_rows):
    rows = [{"prompt": f"p{i}", "completion": "x", "label": label} for i, label in enumerate([True, "no", 1, 0, None])]
    loaded = load_rows(write_rows(rows), on_bad_rows="drop")
    with pytest.warns(UserInputWarning, match="1 of 5 rows cannot be used: label is None|read so"):
        assert unpaired_rows(loaded, "f", on_bad_rows="drop")["label"][:] == [True, False, True, False]


def test_sft_counts_the_labels_that_say_no_however_they_are_written():
    with pytest.warns(UserInputWarning, match="though 2 are labelled false"):
        sft_rows(thumbs("up", "down", "down"), "f")
