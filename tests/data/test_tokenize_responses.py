"""Tokenisation: what the model will see, what is scored, and what is refused."""

import pytest
from datasets import Dataset

from unveil.data import (
    describe_example,
    prompt_rows,
    sft_rows,
    subsample,
    tokenize_prompts,
    tokenize_responses,
    unpaired_rows,
)
from unveil.errors import UserError, UserInputWarning

EOS, MASK, PAD, BOS = 0, 1, 2, 3
USER = {"role": "user", "content": "What is the capital of France?"}


def thumbs(*completions: str, prompt="Tell me a short story.") -> Dataset:
    rows = [{"prompt": prompt, "completion": text, "label": i % 2 == 0} for i, text in enumerate(completions)]
    return unpaired_rows(Dataset.from_list(rows), "f", allow_one_label=True)


def tokenize(rows, tokenizer, **options) -> Dataset:
    return tokenize_responses(rows, tokenizer, **{"max_length": 64, "mask_token_id": MASK, "source": "f", **options})


def test_columns_values_and_types_of_a_tokenised_row(bpe_tokenizer):
    rows = tokenize(thumbs("The sea.", "No."), bpe_tokenizer)
    assert rows.column_names == ["example_id", "prompt_ids", "completion_ids", "tail_ids", "truncated", "label"]
    first = rows[0]
    assert bpe_tokenizer.decode(first["prompt_ids"]) == "Tell me a short story."
    assert bpe_tokenizer.decode(first["completion_ids"]) == "The sea.<eos>"
    assert (first["example_id"], first["tail_ids"], first["truncated"], first["label"]) == (0, [], False, True)


def test_prompt_and_completion_are_tokenised_apart_and_never_merged_over_the_boundary(bpe_tokenizer):
    def ids(text: str) -> list[int]:
        return bpe_tokenizer(text, add_special_tokens=False)["input_ids"]

    row = tokenize(thumbs("tal", prompt="What is the capi"), bpe_tokenizer, end_of_answer="none")[0]
    assert row["prompt_ids"] == ids("What is the capi")
    assert row["completion_ids"] == ids("tal")
    assert ids("What is the capital") != row["prompt_ids"] + row["completion_ids"]


def test_plain_prompts_get_no_special_token(bpe_tokenizer):
    row = tokenize(thumbs("x"), bpe_tokenizer, end_of_answer="none")[0]
    assert not {EOS, MASK, PAD, BOS} & set(row["prompt_ids"] + row["completion_ids"])


def test_conversational_prompts_go_through_the_chat_template_with_the_generation_prompt(bpe_tokenizer):
    row = tokenize(thumbs("Paris.", prompt=[USER]), bpe_tokenizer)[0]
    text = "<bos><|user|>What is the capital of France?\n<|assistant|>"
    assert bpe_tokenizer.decode(row["prompt_ids"]) == text
    assert row["prompt_ids"].count(BOS) == 1
    assert bpe_tokenizer.decode(row["completion_ids"]) == "Paris.<eos>"


def test_a_missing_chat_template_names_the_flag(toy_tokenizer):
    toy_tokenizer.chat_template = None
    with pytest.raises(
        UserError, match=r"f: the prompts are conversations.*no chat template; give one with --chat_tem"
    ):
        tokenize(thumbs("x", prompt=[USER]), toy_tokenizer)


def test_a_template_that_refuses_a_prompt_names_the_row_and_its_reason(bpe_tokenizer):
    good = {"prompt": [USER], "completion": "x", "label": True}
    bad = {"prompt": [USER, {"role": "tool", "content": "42"}], "completion": "x", "label": False}
    rows = unpaired_rows(Dataset.from_list([good, bad]), "f")
    message = r"chat template refuses the prompt: tools are unknown here \(example_id 1\).*--chat_template_path"
    with pytest.raises(UserError, match=message):
        tokenize(rows, bpe_tokenizer)
    with pytest.warns(UserInputWarning, match="tools are unknown here"):
        assert tokenize(rows, bpe_tokenizer, on_bad_rows="drop")["example_id"][:] == [0]


@pytest.mark.parametrize("where", ["prompt", "completion"])
def test_the_mask_token_in_the_text_is_refused_and_its_row_named(bpe_tokenizer, where):
    texts = {"prompt": "fine", "completion": "fine"}
    bad = {**texts, where: "so <mask> it"}
    rows = unpaired_rows(Dataset.from_list([{**texts, "label": True}, {**bad, "label": False}]), "f")
    with pytest.raises(UserError, match=rf"the {where} contains the mask token in its text \(example_id 1\)"):
        tokenize(rows, bpe_tokenizer)
    with pytest.warns(UserInputWarning, match="left out"):
        assert len(tokenize(rows, bpe_tokenizer, on_bad_rows="drop")) == 1


def test_the_mask_id_is_the_one_given_not_the_tokenizers(bpe_tokenizer):
    sea = bpe_tokenizer(" sea", add_special_tokens=False)["input_ids"]
    assert len(sea) == 1
    with pytest.raises(UserError, match="mask token"):
        tokenize(thumbs("The sea"), bpe_tokenizer, mask_token_id=sea[0])
    assert len(tokenize(thumbs("so <mask> it"), bpe_tokenizer, mask_token_id=sea[0])) == 1


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_a_prompt_that_fills_max_length_is_refused_and_one_token_of_room_is_enough(bpe_tokenizer, spare):
    rows = thumbs("The river runs to the sea", "No")
    length = len(tokenize(rows, bpe_tokenizer)[0]["prompt_ids"])
    if spare == 0:
        with pytest.raises(
            UserError, match=rf"within --max_length {length} \(example_id 0, 1\); raise --max_length, or"
        ):
            tokenize(rows, bpe_tokenizer, max_length=length)
    else:
        with pytest.warns(UserInputWarning, match="cut"):
            row = tokenize(rows, bpe_tokenizer, max_length=length + spare)[0]
        assert len(row["completion_ids"]) == spare
        assert row["truncated"]


def test_long_prompts_are_dropped_with_a_count_if_asked(bpe_tokenizer):
    rows = [{"prompt": text, "completion": "x", "label": bool(i)} for i, text in enumerate(["a", "the sea " * 50])]
    with pytest.warns(UserInputWarning, match=r"f: 1 of 2 rows cannot be used: the prompt leaves no room"):
        kept = tokenize(unpaired_rows(Dataset.from_list(rows), "f"), bpe_tokenizer, on_bad_rows="drop")
    assert kept["example_id"][:] == [0]


def test_long_prompts_keep_their_last_tokens_the_same_ones_for_both_halves_of_a_pair(bpe_tokenizer):
    pair = {"prompt": "the sea " * 50 + "ends here", "chosen": "yes", "rejected": "no, not at all " * 9}
    rows = unpaired_rows(Dataset.from_list([pair]), "f")
    with pytest.warns(UserInputWarning, match=r"2 of 2 prompts keep only their last tokens.*--max_prompt_length 20"):
        halves = tokenize(rows, bpe_tokenizer, max_length=200, max_prompt_length=20)
    assert halves[0]["prompt_ids"] == halves[1]["prompt_ids"]
    assert len(halves[0]["prompt_ids"]) == 20
    assert bpe_tokenizer.decode(halves[0]["prompt_ids"]).endswith(" ends here")


def test_a_cut_conversation_keeps_its_bos_and_the_answers_header(bpe_tokenizer):
    rows = thumbs("Paris.", prompt=[{"role": "user", "content": "the sea " * 50}])
    with pytest.warns(UserInputWarning, match="keep only their last tokens"):
        ids = tokenize(rows, bpe_tokenizer, max_prompt_length=30)[0]["prompt_ids"]
    assert len(ids) == 30
    assert ids[0] == BOS
    assert bpe_tokenizer.decode(ids).endswith("<|assistant|>")


def test_a_cut_answer_is_marked_counted_and_gets_no_eos(bpe_tokenizer):
    rows = thumbs("The river runs to the sea. " * 20, "No.")
    with pytest.warns(UserInputWarning, match=r"1 of 2 answers .*--max_length 64; they are cut .*\(example_id 0\)"):
        cut, whole = tokenize(rows, bpe_tokenizer)
    assert len(cut["prompt_ids"]) + len(cut["completion_ids"]) == 64
    assert cut["truncated"]
    assert EOS not in cut["completion_ids"] + cut["tail_ids"]
    assert not whole["truncated"]


def test_the_visible_tail_reaches_the_canvas_or_max_length(bpe_tokenizer):
    for canvas, expected in ((10, 10), (None, 64 - len(bpe_tokenizer("Tell me a short story.")["input_ids"]))):
        row = tokenize(thumbs("No."), bpe_tokenizer, end_of_answer="visible_tail", canvas_length=canvas)[0]
        assert len(row["completion_ids"]) + len(row["tail_ids"]) == expected
        assert set(row["tail_ids"]) == {EOS}
        assert EOS not in row["completion_ids"]


def test_an_answer_longer_than_the_canvas_is_cut_to_it(bpe_tokenizer):
    with pytest.warns(UserInputWarning, match="--max_length 64 or --canvas_length 3"):
        row = tokenize(
            thumbs("The river runs to the sea"), bpe_tokenizer, end_of_answer="scored_tail", canvas_length=3
        )[0]
    assert len(row["completion_ids"]) == 3
    assert row["truncated"]


def test_another_eos_may_be_given_and_a_tokenizer_without_one_is_explained(bpe_tokenizer, toy_tokenizer):
    assert tokenize(thumbs("No."), bpe_tokenizer, eos_token_id=PAD)[0]["completion_ids"][-1] == PAD
    toy_tokenizer.eos_token = None
    with pytest.raises(UserError, match="the tokenizer has no EOS token"):
        tokenize(thumbs("No."), toy_tokenizer)
    assert tokenize(thumbs("No."), toy_tokenizer, end_of_answer="none")[0]["completion_ids"] != []


def test_an_answer_of_eos_alone_has_no_tokens(bpe_tokenizer):
    with pytest.raises(UserError, match=r"the completion has no tokens \(example_id 0\)"):
        tokenize(thumbs("<eos><eos>"), bpe_tokenizer)


def test_an_answer_that_ends_with_eos_in_its_text_is_scored_with_one(bpe_tokenizer):
    assert tokenize(thumbs("No.<eos>"), bpe_tokenizer)[0] == tokenize(thumbs("No."), bpe_tokenizer)[0]


def test_sft_rows_have_no_label_and_text_has_no_prompt(bpe_tokenizer):
    rows = tokenize(sft_rows(Dataset.from_list([{"text": "The sea."}]), "f"), bpe_tokenizer)
    assert "label" not in rows.column_names
    assert rows[0]["prompt_ids"] == []
    assert bpe_tokenizer.decode(rows[0]["completion_ids"]) == "The sea.<eos>"


def test_wrong_lengths_and_no_rows_are_refused(bpe_tokenizer):
    with pytest.raises(UserError, match="--max_length 1: no room"):
        tokenize(thumbs("x"), bpe_tokenizer, max_length=1)
    with pytest.raises(UserError, match="--max_prompt_length 64: must be at least 1 and below --max_length 64"):
        tokenize(thumbs("x"), bpe_tokenizer, max_prompt_length=64)
    with pytest.raises(UserError, match="no rows to tokenise"):
        tokenize(thumbs("x").select([]), bpe_tokenizer)


def test_example_ids_survive_dropping_subsampling_and_many_batches(bpe_tokenizer):
    texts = ["" if i % 100 == 7 else f"answer {i}" for i in range(2500)]
    rows = Dataset.from_list(
        [{"prompt": f"question {i}", "completion": text, "label": i % 3 == 0} for i, text in enumerate(texts)]
    )
    with pytest.warns(UserInputWarning, match="25 of 2500 rows"):
        rows = unpaired_rows(rows, "f", on_bad_rows="drop")
    tokenised = tokenize(subsample(rows, 0.5, 400), bpe_tokenizer)
    for row in tokenised:
        assert bpe_tokenizer.decode(row["prompt_ids"]) == f"question {row['example_id']}"
        assert bpe_tokenizer.decode(row["completion_ids"]) == f"answer {row['example_id']}<eos>"
        assert row["label"] == (row["example_id"] % 3 == 0)
    assert tokenised["example_id"][:] == sorted(tokenised["example_id"][:])


def test_the_same_rows_give_the_same_fingerprint_and_leave_the_tokenizer_as_it_was(bpe_tokenizer):
    rows = thumbs("The sea.", "No.")
    before = bpe_tokenizer.backend_tokenizer.to_str()
    assert tokenize(rows, bpe_tokenizer)._fingerprint == tokenize(rows, bpe_tokenizer)._fingerprint
    assert (
        tokenize(rows, bpe_tokenizer, end_of_answer="none")._fingerprint != tokenize(rows, bpe_tokenizer)._fingerprint
    )
    assert bpe_tokenizer.backend_tokenizer.to_str() == before


def test_prompts_are_tokenised_as_in_training(bpe_tokenizer):
    rows = thumbs("x", prompt=[USER])
    prompts = tokenize_prompts(prompt_rows(rows, "f"), bpe_tokenizer, max_length=64, mask_token_id=MASK, source="f")
    assert prompts.column_names == ["example_id", "prompt", "prompt_ids"]
    assert prompts[0]["prompt_ids"] == tokenize(rows, bpe_tokenizer)[0]["prompt_ids"]
    assert prompts[0]["prompt"] == [USER]


def test_prompts_that_cannot_be_used_are_named_or_dropped(bpe_tokenizer):
    texts = ["short"] * 1001 + ["the sea " * 50, "so <mask> it", "last"]
    rows = prompt_rows(Dataset.from_list([{"prompt": text} for text in texts]), "f")
    options = {"max_length": 20, "mask_token_id": MASK, "source": "f"}
    with pytest.raises(UserError, match=r"2 of 1004 rows .*\(example_id 1001\).*\(example_id 1002\)"):
        tokenize_prompts(rows, bpe_tokenizer, **options)
    with pytest.warns(UserInputWarning, match="2 of 1004 rows"):
        kept = tokenize_prompts(rows, bpe_tokenizer, on_bad_rows="drop", **options)
    assert kept["example_id"][-2:] == [1000, 1003]
    assert bpe_tokenizer.decode(kept[-1]["prompt_ids"]) == "last"


def test_the_shown_example_says_what_is_given_scored_and_neither(bpe_tokenizer):
    row = tokenize(thumbs("No."), bpe_tokenizer, end_of_answer="eos_visible_tail", canvas_length=9)[0]
    shown = describe_example(row, bpe_tokenizer)
    scored, tail = len(row["completion_ids"]), len(row["tail_ids"])
    assert shown.splitlines() == [
        "example_id 0 (desirable)",
        f"  prompt, {len(row['prompt_ids'])} tokens, given: 'Tell me a short story.'",
        f"  answer, {scored} tokens, scored: 'No.<eos>'",
        f"  tail, {tail} tokens, seen but not scored: '<eos>' each",
    ]


def test_the_shown_example_is_short_even_for_a_long_row_and_says_when_it_was_cut(bpe_tokenizer):
    with pytest.warns(UserInputWarning, match="cut"):
        row = tokenize(thumbs("The river runs to the sea. " * 500), bpe_tokenizer, max_length=2000)[0]
    shown = describe_example(row, bpe_tokenizer)
    assert len(shown) < 1500
    assert " [...] " in shown
    assert shown.endswith("the answer was cut, so no EOS follows it")
