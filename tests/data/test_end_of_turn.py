"""`--end_of_answer end_of_turn`: the token with which the chat template ends a turn is scored instead of EOS."""

import pytest
from datasets import Dataset

from unveil.data import tokenize_responses
from unveil.data.end_of_answer import end_of_turn_id
from unveil.errors import UserError

ROWS = Dataset.from_list([{"example_id": i, "prompt": "p", "completion": text} for i, text in enumerate(
    ("ab", "ab<|eot|>", "ab<|eot|><|endoftext|>", "a<|eot|>b"))])  # fmt: skip


def tokenized(tokenizer, rule: str, **options):
    return tokenize_responses(
        ROWS, tokenizer, **{"max_length": 16, "mask_token_id": 1, "source": "f", "end_of_answer": rule, **options}
    )


def test_the_token_that_ends_a_turn_is_scored_once_and_nothing_follows(toy_tokenizer):
    eot, eos = 3, 0
    assert end_of_turn_id(toy_tokenizer) == eot
    turns = tokenized(toy_tokenizer, "end_of_turn")
    plain = tokenized(toy_tokenizer, "one_eos")
    a, b = plain[0]["completion_ids"][:2]
    assert turns["completion_ids"][:] == [[a, b, eot], [a, b, eot], [a, b, eot], [a, eot, b, eot]]
    assert turns["tail_ids"][:] == [[]] * 4
    assert plain["completion_ids"][:2] == [[a, b, eos], [a, b, eot, eos]]


def test_an_answer_that_is_cut_ends_no_turn(toy_tokenizer):
    with pytest.warns(match="do not fit"):
        cut = tokenized(toy_tokenizer, "end_of_turn", max_length=3)
    assert [len(ids) for ids in cut["completion_ids"]] == [2] * 4
    assert 3 not in cut[0]["completion_ids"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "no chat template"),
        ("{% for m in messages %}{{ m['content'] }}\n{% endfor %}", "no token of its own"),
        ("{{ raise_exception('no') }}", "refuses a turn"),
    ],
)
def test_a_template_without_such_a_token_is_refused(toy_tokenizer, template, message):
    toy_tokenizer.chat_template = template
    with pytest.raises(UserError, match=f"--end_of_answer end_of_turn: .*{message}"):
        tokenized(toy_tokenizer, "end_of_turn")


def test_a_template_that_ends_turns_with_eos_scores_eos(toy_tokenizer):
    toy_tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}\n<|endoftext|>\n{% endfor %}"
    assert end_of_turn_id(toy_tokenizer) == 0
