"""Pairs made from ratings: who is in them, what a flip does, and how a length bias is made."""

import pytest

from benchmarks.review_pairs import ReviewPair, as_dataset, flipped, joined, length_biased, review_pairs
from unveil.demo.reviews import Review, select


def review(text: str, rating: float) -> Review:
    return Review("film", "1", rating, text, "feedback")


def text_of(prompt: str, answer: str) -> str:
    return (prompt + answer).removeprefix("film: ")


def test_a_pair_is_a_liked_and_a_disliked_review_that_begin_alike():
    ratings = {r.text: r.rating for r in select("film", "tuning")}
    for pair in review_pairs("tuning"):
        chosen, rejected = (text_of(pair.prompt, answer) for answer in (pair.chosen, pair.rejected))
        assert (ratings[chosen], ratings[rejected]) == pair.ratings
        assert pair.ratings[0] > 1.5
        assert pair.ratings[1] < -1.5
        assert len(pair.prompt.split(" ")) <= 4
        assert pair.chosen.startswith(" ")


def test_every_review_is_in_one_pair_at_most():
    texts = [text_of(p.prompt, answer) for p in review_pairs("report") for answer in (p.chosen, p.rejected)]
    assert len(texts) == len(set(texts))
    thumbs = [r.thumb for r in select("film", "report")]
    assert len(texts) == 2 * min(thumbs.count(True), thumbs.count(False))


def test_reviews_that_share_most_words_are_joined_first():
    liked = [review("a b c good", 2), review("x y good", 2)]
    disliked = [review("x z bad", -2), review("a b c bad", -2)]
    found = {(pair.prompt, pair.chosen, pair.rejected) for pair in joined(liked, disliked)}
    assert found == {("film: a b c", " good", " bad"), ("film: x", " y good", " z bad")}


def test_reviews_that_share_nothing_have_the_tag_as_their_prompt():
    (pair,) = joined([review("some good film", 2)], [review("a bad film", -2)])
    assert (pair.prompt, pair.chosen, pair.rejected) == ("film:", " some good film", " a bad film")


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4])
def test_flips_are_as_many_as_asked_and_turn_the_pair_around(rate):
    pairs = review_pairs("tuning")
    found = flipped(pairs, rate, seed=1)
    turned = [a for a, b in zip(pairs, found) if a != b]
    assert len(turned) == round(rate * len(pairs))
    assert all(a in (b, b.swapped()) for a, b in zip(pairs, found))
    assert all(pair.swapped().swapped() == pair for pair in turned)


def test_a_higher_rate_flips_the_same_pairs_and_more():
    pairs = review_pairs("tuning")
    few, many = (
        {i for i, (a, b) in enumerate(zip(pairs, flipped(pairs, rate, seed=0))) if a != b} for rate in (0.1, 0.3)
    )
    assert few < many
    assert many != {i for i, (a, b) in enumerate(zip(pairs, flipped(pairs, 0.3, seed=1))) if a != b}


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_the_longer_answer_is_chosen_as_often_as_asked(share):
    pairs = [ReviewPair("film:", f" {i}", " no", (2.0, -2.0)) for i in range(100)]
    lengths = [(2, 1) if i % 2 else (1, 2) for i in range(98)] + [(3, 3)] * 2
    kept = length_biased(pairs, lengths, share)
    chosen_longer = [lengths[pairs.index(pair)][0] == 2 for pair in kept]
    assert sum(chosen_longer) / len(kept) == pytest.approx(share, abs=0.02)
    assert chosen_longer.count(True) == 49
    assert kept == [pair for pair in pairs if pair in kept]


def test_the_columns_are_those_of_pairs():
    pairs = review_pairs("tuning")[:3]
    assert as_dataset(pairs)[1] == {"prompt": pairs[1].prompt, "chosen": pairs[1].chosen, "rejected": pairs[1].rejected}
