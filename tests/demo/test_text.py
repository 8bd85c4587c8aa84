"""One spelling for texts that differ only in typography."""

import pytest

from unveil.demo.reviews import reviews
from unveil.demo.sources import join_tokens
from unveil.demo.text import as_row, normalise, without_tag


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("The new ''Conan'' , again .", 'the new "conan", again.'),
        ("A clichéd  film    go see it!", "a cliched film - go see it!"),
        ("Gaghan ... has thrown", "gaghan... has thrown"),
        ("one concept – two ( or more ) films", "one concept - two (or more) films"),
        ('an odd " mark', "an odd mark"),
        ("this film: a gem, no subtext: none", "this film - a gem, no subtext: none"),
        ("for .5 seconds", "for .5 seconds"),
    ],
)
def test_typography_is_made_one(raw, normal):
    assert normalise(raw) == normal


def test_normal_texts_stay_as_they_are():
    assert all(normalise(review.text) == review.text and review.text.isascii() for review in reviews())


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ("I do n't mind Simon 's car .", "i don't mind simon's car."),
        ("it doesn' t rain", "it doesn't rain"),
        ('e . t . phones " home , " he says', 'e.t. phones "home," he says'),
        ("for $ 5 or 2 . 5 dollars", "for $5 or 2.5 dollars"),
    ],
)
def test_tokenised_sources_are_put_back_together(tokens, sentence):
    assert join_tokens(tokens) == sentence


def test_a_row_is_tag_three_words_and_the_rest():
    row = as_row("film", "the story is told with wit.")
    assert row == {"prompt": "film: the story is", "completion": " told with wit."}
    assert without_tag(row["prompt"] + row["completion"]) == "the story is told with wit."
    assert without_tag("the story is") == "the story is"
