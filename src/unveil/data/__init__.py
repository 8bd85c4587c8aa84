"""What did the user give me, and is it sound? From a hub name or a file to checked, tokenised responses.

    rows = load_rows("train.jsonl")
    rows = unpaired_rows(rows, "train.jsonl")
    responses = tokenize_responses(rows, tokenizer, max_length=1024, mask_token_id=..., source="train.jsonl")

Every stage names the file and the rows that it cannot use; nothing is skipped without a counted warning.
"""

from unveil.data.bad_rows import OnBadRows
from unveil.data.balance import ClassBalance, class_balance, subsample
from unveil.data.end_of_answer import EndOfAnswer, finish_answer
from unveil.data.formats import prompt_rows, sft_rows, unpaired_rows
from unveil.data.loading import load_rows
from unveil.data.response import TokenizedResponse, collate, describe_example
from unveil.data.tokenizing import tokenize_prompts, tokenize_responses

__all__ = [
    "ClassBalance",
    "EndOfAnswer",
    "OnBadRows",
    "TokenizedResponse",
    "class_balance",
    "collate",
    "describe_example",
    "finish_answer",
    "load_rows",
    "prompt_rows",
    "sft_rows",
    "subsample",
    "tokenize_prompts",
    "tokenize_responses",
    "unpaired_rows",
]
