"""What the demo may claim about its data: who saw which text, and where each thumb comes from."""

from importlib import resources

import pytest

from unveil.demo import feedback_rows, heldout_text, prompts, replay_rows, shuffled_thumbs
from unveil.demo.reviews import HELDOUT, THUMB_THRESHOLD, Review, reviews, select, split_of
from unveil.demo.text import MIN_WORDS, RUN_LENGTH, runs, without_tag, words

ASSETS = resources.files("unveil.demo").joinpath("assets")


def texts(rows):
    return {without_tag(row["prompt"] + row["completion"]) for row in rows}


def test_no_text_is_in_two_splits():
    every = [review.text for review in reviews()]
    assert len(every) == len(set(every))
    assert len(every) > 13_000


def test_the_split_hangs_on_the_text_alone():
    assert all(review.split == split_of(review.domain, review.text) for review in reviews())
    assert split_of("film", "effective but too tepid biopic") == "judge"


def test_training_text_shares_no_run_of_eight_words_with_heldout_text():
    heldout = [r for r in reviews() if r.split in HELDOUT]
    forbidden = set().union(*(runs(review.text) for review in heldout))
    trained = [r for r in reviews() if r.split not in HELDOUT]
    assert not any(runs(review.text) & forbidden for review in trained)
    assert runs("one two three four five six seven eight nine") == {
        ("one", "two", "three", "four", "five", "six", "seven", "eight"),
        ("two", "three", "four", "five", "six", "seven", "eight", "nine"),
    }
    assert RUN_LENGTH == 8


def test_feedback_never_meets_the_judge_or_the_heldout_texts():
    feedback = texts(feedback_rows())
    others = {review.text for review in reviews() if review.split != "feedback"}
    assert feedback.isdisjoint(others)
    assert all(row["prompt"].startswith("film: ") for row in feedback_rows())


def test_labels_follow_the_ratings():
    ratings = {review.text: review.rating for review in select("film", "feedback")}
    labelled = {without_tag(row["prompt"] + row["completion"]): row["label"] for row in feedback_rows()}
    assert all(
        (ratings[text] > THUMB_THRESHOLD) == label and abs(ratings[text]) > THUMB_THRESHOLD
        for text, label in labelled.items()
    )
    assert {text for text, rating in ratings.items() if abs(rating) > THUMB_THRESHOLD} == set(labelled)


@pytest.mark.parametrize(("rating", "thumb"), [(1.5, None), (-1.5, None), (1.51, True), (-1.51, False), (0.0, None)])
def test_a_thumb_is_the_rating_cut_at_one_and_a_half(rating, thumb):
    assert Review("film", "1", rating, "any", "feedback").thumb is thumb


def test_thumbs_are_many_and_balanced():
    labels = [row["label"] for row in feedback_rows()]
    assert len(labels) >= 2_500
    assert 0.45 < sum(labels) / len(labels) < 0.55


def test_prompts_are_three_words_that_no_other_split_begins_with():
    tuning, report = prompts("tuning"), prompts("report")
    assert min(len(tuning), len(report)) >= 800
    trained = {row["prompt"] for row in [*feedback_rows(), *replay_rows()]}
    assert not set(tuning) & set(report)
    assert not (set(tuning) | set(report)) & trained
    assert all(len(prompt.split()) == 4 for prompt in tuning + report)
    assert len(set(report)) == len(report)


def test_rows_join_to_the_text_and_leave_something_to_complete():
    rows = [*feedback_rows(), *replay_rows(), *heldout_text("report"), *heldout_text("product")]
    known = {review.text for review in reviews()}
    assert texts(rows) <= known
    assert all(row["completion"].startswith(" ") and len(row["completion"].split()) >= 3 for row in rows)
    assert all(len(words(text)) >= MIN_WORDS for text in known)


def test_replay_has_no_labels_and_no_heldout_text():
    rows = replay_rows()
    assert all(set(row) == {"prompt", "completion"} for row in rows)
    heldout = texts([*heldout_text("tuning"), *heldout_text("report"), *heldout_text("product")])
    assert texts(rows).isdisjoint(heldout)
    assert len(heldout) > 2_500


def test_shuffling_keeps_texts_and_counts_and_changes_labels():
    rows = feedback_rows()
    control = shuffled_thumbs(rows, seed=0)
    assert [row["completion"] for row in control] == [row["completion"] for row in rows]
    assert sum(row["label"] for row in control) == sum(row["label"] for row in rows)
    moved = sum(a["label"] != b["label"] for a, b in zip(rows, control)) / len(rows)
    assert 0.45 < moved < 0.55
    assert control == shuffled_thumbs(rows, seed=0)
    assert control != shuffled_thumbs(rows, seed=1)


def test_the_vendored_file_is_small_and_has_its_notice():
    assert len(ASSETS.joinpath("reviews.csv.gz").read_bytes()) < 750_000
    notice = ASSETS.joinpath("NOTICE.md").read_text(encoding="utf-8")
    assert all(name in notice for name in ("Hutto", "Pang", "Hu and Bing Liu", "MIT"))
