"""Groups to token ids: a prompt with its candidates, tokenised as `tokenizing` says, kept or left out as a whole."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from unveil.data.bad_rows import BadRow, BadRows, OnBadRows
from unveil.data.candidates import PER_PROMPT
from unveil.data.columns import EXAMPLE_ID
from unveil.data.encoding import IDS, AnswerEncoder, PromptEncoder, batches, encode, encode_with_places
from unveil.data.end_of_answer import EndOfAnswer
from unveil.data.grouping import RESPONSE_IDS
from unveil.data.position_weights import span_weights, step_weights, tokens_of
from unveil.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_RESPONSE = pa.struct(
    {EXAMPLE_ID: pa.int64(), "prompt_ids": IDS, "completion_ids": IDS, "tail_ids": IDS, "truncated": pa.bool_()}
)
_NUMBERS = pa.list_(pa.float64())
_TYPES: dict[str, pa.DataType] = {
    EXAMPLE_ID: pa.int64(),
    "responses": pa.list_(_RESPONSE),
    "relevance": _NUMBERS,
    "rank": pa.list_(pa.int64()),
    "score": _NUMBERS,
    "position_weights": pa.list_(_NUMBERS),
    "steps": pa.list_(pa.list_(pa.list_(pa.int64()))),
    **{name: pa.float64() for name in PER_PROMPT},
}

Row = dict[str, Any]


def tokenize_groups(
    dataset: Dataset,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int,
    end_of_answer: EndOfAnswer = "one_eos",
    canvas_length: int | None = None,
    mask_token_id: int,
    source: str,
    eos_token_id: int | None = None,
    max_prompt_length: int | None = None,
    on_bad_rows: OnBadRows = "error",
) -> Dataset:
    """Rows of `pair_rows` or `list_rows` as `TokenizedGroup` columns, under the rules of `tokenize_responses`.

    All candidates have the prompt's ids. A group with a bad member is bad as a whole, and named by that member's
    example_id: besides what is bad in single responses, candidates that were told apart and have the same tokens once
    they are cut, and items (`spans`) without a token. Optional columns go along; `steps` become [start, end) in
    scored tokens, and `step_weights` or `spans` become `position_weights`.
    """
    missing = [name for name in (RESPONSE_IDS, "completions", "relevance") if name not in dataset.column_names]
    if missing:
        raise UserError(
            f"{source}: no column {', '.join(missing)}; make groups with unveil.data.pair_rows or list_rows first"
        )
    answers = AnswerEncoder(tokenizer, max_length, end_of_answer, canvas_length, mask_token_id, eos_token_id, source)
    prompts = PromptEncoder(tokenizer, max_length, max_prompt_length, mask_token_id, source)
    bad_rows = BadRows(source, on_bad_rows, unit=EXAMPLE_ID)
    names = _columns(dataset)
    has_parts = "steps" in dataset.column_names or "spans" in dataset.column_names
    tables: list[pa.Table] = []
    truncated: dict[int, bool] = {}  # by id: an answer may be in several pairs
    for batch in batches(dataset, source):
        groups = [dict(zip(batch, values)) for values in zip(*batch.values())]
        texts = [text for group in groups for text in group["completions"]]
        if has_parts:
            ids, places = encode_with_places(tokenizer, texts, source)
        else:
            ids, places = encode(tokenizer, texts), [[]] * len(texts)
        encoded = iter(zip(ids, places))
        rows = []
        for group, prompt_ids in zip(groups, prompts.encode(batch["prompt"], batch[EXAMPLE_ID])):
            members = [next(encoded) for _ in group["completions"]]
            if isinstance(prompt_ids, BadRow):
                bad_rows.add(group[EXAMPLE_ID], prompt_ids)
                continue
            try:
                rows.append(_finish_group(group, prompt_ids, members, answers))
            except BadMember as member:
                bad_rows.add(member.example_id, member.bad)
        truncated |= {one[EXAMPLE_ID]: one["truncated"] for row in rows for one in row["responses"]}
        tables.append(pa.table({name: pa.array([row[name] for row in rows], type=_TYPES[name]) for name in names}))
    bad_rows.settle(len(dataset))
    prompts.warn_of_cuts(len(dataset))
    answers.warn_of_cuts([one for one, is_cut in truncated.items() if is_cut], len(truncated))
    return Dataset(pa.concat_tables(tables))


class BadMember(Exception):  # noqa: N818 (a finding about one response, collected by `BadRows`; users never see it)
    """The response that makes its group unusable."""

    def __init__(self, example_id: int, bad: BadRow):
        super().__init__(str(bad))
        self.example_id = example_id
        self.bad = bad


def _columns(dataset: Dataset) -> list[str]:
    present = set(dataset.column_names)
    if present & {"step_weights", "spans"}:
        present.add("position_weights")
    return [name for name in _TYPES if name in present | {EXAMPLE_ID, "responses"}]


def _finish_group(
    group: Row, prompt_ids: list[int], members: list[tuple[list[int], list[tuple[int, int]]]], answers: AnswerEncoder
) -> Row:
    responses, weights, steps = [], [], []
    for place, (example_id, (ids, places)) in enumerate(zip(group[RESPONSE_IDS], members)):
        try:
            response = answers.finish(example_id, prompt_ids, ids)
            length = len(response["completion_ids"])
            weight = np.ones(length)
            if "steps" in group:
                steps.append(tokens_of(places, group["steps"][place], length))
                if "step_weights" in group:
                    weight *= step_weights(steps[-1], group["step_weights"][place], length)
            if "spans" in group:
                weight *= _weights_of_item(places, group["spans"][place], length)
            weights.append(weight)
        except BadRow as bad:
            raise BadMember(example_id, bad) from None
        responses.append(response)
    if "spans" not in group:
        _refuse_same_tokens(responses, group["relevance"])
    return {**group, "responses": responses, "position_weights": weights, "steps": steps}


def _weights_of_item(places: list[tuple[int, int]], span: list[int], length: int) -> np.ndarray:
    (tokens,) = tokens_of(places, [span], length)
    if tokens[0] == tokens[1]:
        raise BadRow(
            "an item of spans has no token, or lies behind the cut of its answer",
            "raise --max_length, or give items of at least one word",
        )
    return span_weights(tokens, length)


def _refuse_same_tokens(responses: list[Row], relevance: list[float]) -> None:
    """Answers that begin alike may be the same once they are cut; then nothing tells them apart."""
    said: dict[tuple[int, ...], float] = {}
    for response, value in zip(responses, relevance):
        if said.setdefault(tuple(response["completion_ids"]), value) != value:
            bad = BadRow("the answer has the same tokens as another one of its prompt", "raise --max_length")
            raise BadMember(response[EXAMPLE_ID], bad)
