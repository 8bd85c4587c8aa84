"""The shipped tokenizer: size, special ids, and no text lost on the way."""

from importlib import resources

import pytest
from transformers import AutoTokenizer

from unveil.demo.reviews import reviews
from unveil.demo.tokenizer import VOCABULARY_SIZE, save_tokenizer, train_tokenizer

BASE = resources.files("unveil.demo").joinpath("assets/base")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(str(BASE))


def test_it_is_small_and_complete(tokenizer):
    assert len(BASE.joinpath("tokenizer.json").read_bytes()) < 200_000
    assert len(tokenizer) == VOCABULARY_SIZE
    assert tokenizer.eos_token_id == tokenizer.pad_token_id != tokenizer.mask_token_id
    assert tokenizer.model_max_length == 128


def test_every_review_survives_encoding_and_decoding(tokenizer):
    texts = [review.text for review in reviews()]
    ids = tokenizer(texts, verbose=False)["input_ids"]
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == texts


def test_any_other_text_survives_in_lower_case(tokenizer):
    text = "Ein Ærgernis, 東京 🙂"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text.lower()


def test_a_tag_is_one_token_that_decoding_keeps(tokenizer):
    ids = tokenizer("film: the story")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["film:", "Ġthe", "Ġstory"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "film: the story"
    assert tokenizer.convert_tokens_to_ids("text:") not in tokenizer("the subtext: none")["input_ids"]


def test_prompt_and_completion_tokenise_as_the_whole(tokenizer):
    whole = tokenizer("film: the story is told with wit.")["input_ids"]
    parts = tokenizer("film: the story is")["input_ids"] + tokenizer(" told with wit.")["input_ids"]
    assert parts == whole


def test_training_it_again_gives_the_same_file(tmp_path):
    texts = [" " + review.text for review in reviews()[:300]]
    for name in ("a", "b"):
        save_tokenizer(train_tokenizer(texts), tmp_path / name)
    first, second = ((tmp_path / name / "tokenizer.json").read_bytes() for name in ("a", "b"))
    assert first == second
    again = AutoTokenizer.from_pretrained(str(tmp_path / "a"))
    assert again.decode(again(texts[0])["input_ids"]) == texts[0]
