"""What did the user give me, and is it sound? From a hub name or a file to checked, tokenised responses.

    rows = load_rows("train.jsonl")
    rows = unpaired_rows(rows, "train.jsonl")
    responses = tokenize_responses(rows, tokenizer, max_length=1024, mask_token_id=..., source="train.jsonl")

and for objectives that compare answers to one prompt:

    rows = to_shape(load_rows("train.jsonl"), "pairs", "train.jsonl", pairing="best_worst")
    groups = tokenize_groups(rows, tokenizer, max_length=1024, mask_token_id=..., source="train.jsonl")

Every stage names the file and the rows that it cannot use; nothing is skipped without a counted warning.
"""

from unveil.data.bad_rows import OnBadRows
from unveil.data.balance import ClassBalance, class_balance, subsample
from unveil.data.conversions import (
    Pairing,
    graded_to_thumbs,
    lists_to_liked,
    lists_to_pairs,
    lists_to_thumbs,
    pairs_to_thumbs,
    thumbs_to_lists,
    thumbs_to_pairs,
)
from unveil.data.curriculum import curriculum
from unveil.data.end_of_answer import EndOfAnswer, finish_answer
from unveil.data.formats import prompt_rows, sft_rows, unpaired_rows
from unveil.data.group_balance import GroupBalance, group_balance
from unveil.data.group_tokenizing import tokenize_groups
from unveil.data.groups import graded_rows, list_rows, pair_rows
from unveil.data.holding_out import shared_prompts, split_by_prompt
from unveil.data.labels import parse_label_map
from unveil.data.loading import load_rows
from unveil.data.position_weights import ld_weights, span_weights, step_weights
from unveil.data.reshaping import to_shape
from unveil.data.response import TokenizedGroup, TokenizedResponse, describe_example, describe_group
from unveil.data.shapes import Shape, shape_of
from unveil.data.tokenizing import tokenize_prompts, tokenize_responses

__all__ = [
    "ClassBalance",
    "EndOfAnswer",
    "GroupBalance",
    "OnBadRows",
    "Pairing",
    "Shape",
    "TokenizedGroup",
    "TokenizedResponse",
    "class_balance",
    "curriculum",
    "describe_example",
    "describe_group",
    "finish_answer",
    "graded_rows",
    "graded_to_thumbs",
    "group_balance",
    "ld_weights",
    "list_rows",
    "lists_to_liked",
    "lists_to_pairs",
    "lists_to_thumbs",
    "load_rows",
    "pair_rows",
    "pairs_to_thumbs",
    "parse_label_map",
    "prompt_rows",
    "sft_rows",
    "shape_of",
    "shared_prompts",
    "span_weights",
    "split_by_prompt",
    "step_weights",
    "subsample",
    "thumbs_to_lists",
    "thumbs_to_pairs",
    "to_shape",
    "tokenize_groups",
    "tokenize_prompts",
    "tokenize_responses",
    "unpaired_rows",
]
