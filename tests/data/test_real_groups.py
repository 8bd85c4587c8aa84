"""Real preference data (749 prompts of kto-mix-14k) as pairs and lists, when it lies beside the repository."""

from pathlib import Path

import pytest
from datasets import Dataset

from unveil.data import (
    group_balance,
    list_rows,
    load_rows,
    pair_rows,
    pairs_to_thumbs,
    thumbs_to_pairs,
    to_shape,
    tokenize_groups,
)
from unveil.errors import UserError

FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "kto_mix_test"
pytestmark = pytest.mark.skipif(not (FOLDER / "chosen.jsonl").is_file(), reason="kto_mix_test is not here")


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    chosen, rejected = load_rows(FOLDER, split="chosen"), load_rows(FOLDER / "rejected.jsonl")
    return Dataset.from_dict(
        {"prompt": chosen["prompt"][:], "chosen": chosen["completion"][:], "rejected": rejected["completion"][:]}
    )


def test_the_one_identical_pair_is_refused_or_left_out_by_name(pairs):
    with pytest.raises(UserError, match=r"1 of 749 rows .*chosen and rejected are the same text \(rows, from 0: 213\)"):
        pair_rows(pairs, "kto_mix_test")


@pytest.mark.filterwarnings("ignore::unveil.errors.UserInputWarning")
def test_real_pairs_survive_being_thumbs_and_lose_none_but_the_identical_one(pairs):
    groups = pair_rows(pairs, "kto_mix_test", on_bad_rows="drop")
    assert groups["example_id"][:] == [2 * row for row in range(749) if row != 213]
    thumbs = pairs_to_thumbs(groups, "kto_mix_test")
    assert list(thumbs_to_pairs(thumbs, "kto_mix_test")) == list(groups)
    assert list(to_shape(thumbs, "pairs", "kto_mix_test", pairing="in_order")) == list(groups)
    lists = list_rows(thumbs, "kto_mix_test")
    assert sum(map(len, lists["completions"])) <= len(thumbs)
    assert group_balance(lists).n_comparisons >= len(lists)


@pytest.mark.filterwarnings("ignore::unveil.errors.UserInputWarning")
def test_real_pairs_tokenise_to_the_text_that_was_given(pairs, toy_tokenizer):
    groups = pair_rows(pairs.select(range(200, 240)), "f", on_bad_rows="drop")
    options = {"max_length": 4096, "mask_token_id": 1, "end_of_answer": "none", "on_bad_rows": "drop"}
    tokenized = tokenize_groups(groups, toy_tokenizer, source="f", **options)
    texts = dict(zip(groups["example_id"], groups["completions"]))
    assert len(tokenized) > 20
    for row in tokenized:
        assert row["responses"][0]["prompt_ids"] == row["responses"][1]["prompt_ids"]
        for response, text in zip(row["responses"], texts[row["example_id"]]):
            decoded = toy_tokenizer.decode(response["completion_ids"])
            assert decoded == text or (response["truncated"] and text.startswith(decoded.rstrip("\ufffd")))
