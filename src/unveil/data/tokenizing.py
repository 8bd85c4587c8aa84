"""Text to token ids: prompt and completion are tokenised separately and concatenated.

So the prompt's tokens never depend on the answer, the answer starts at a token boundary by construction, and both
halves of a pair condition on the same ids. (Tokenising the joint text may merge across the boundary.)

- Conversational prompt: the tokenizer's chat template with the generation prompt, then tokenised without adding
  special tokens (the template writes its own).
- Plain prompt: tokenised as it is; no BOS and no other special token is added.
- Completion: tokenised as it is; its end follows `unveil.data.end_of_answer`.
"""

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset

from unveil.data.bad_rows import BadRow, BadRows, OnBadRows
from unveil.data.columns import EXAMPLE_ID, column
from unveil.data.encoding import BATCH, IDS, AnswerEncoder, PromptEncoder, batches, encode
from unveil.data.end_of_answer import EndOfAnswer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_COLUMNS = (EXAMPLE_ID, "prompt_ids", "completion_ids", "tail_ids", "truncated")
_KEPT = ("label", "weight")


def tokenize_responses(
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
    """Rows of `unpaired_rows` or `sft_rows` as `TokenizedResponse` columns (`label` and `weight` only if the input has
    them).

    `max_length` bounds prompt + response, tail included. `canvas_length` is the response's canvas for the rules with
    a tail, `None` for all that `max_length` leaves. `eos_token_id` defaults to the tokenizer's. Prompts longer than
    `max_prompt_length` keep their last tokens (and a leading BOS); the cut depends on the prompt alone, so that both
    halves of a pair keep the same one. Bad rows are prompts that fill `max_length`, completions without tokens,
    the mask token in the text, and prompts that the chat template refuses. Cuts are warned about with a count.
    """
    answers = AnswerEncoder(tokenizer, max_length, end_of_answer, canvas_length, mask_token_id, eos_token_id, source)
    prompts = PromptEncoder(tokenizer, max_length, max_prompt_length, mask_token_id, source)
    bad_rows = BadRows(source, on_bad_rows, unit=EXAMPLE_ID)
    kept = [name for name in _KEPT if name in dataset.column_names]
    tables, cut = [], []
    for batch in batches(dataset, source):
        rows = []
        prompts_ids = prompts.encode(batch["prompt"], batch[EXAMPLE_ID])
        answers_ids = encode(tokenizer, batch["completion"])
        given = [{name: batch[name][place] for name in kept} for place in range(len(answers_ids))]
        for example_id, prompt_ids, answer_ids, said in zip(batch[EXAMPLE_ID], prompts_ids, answers_ids, given):
            if isinstance(prompt_ids, BadRow):
                bad_rows.add(example_id, prompt_ids)
                continue
            try:
                rows.append({**answers.finish(example_id, prompt_ids, answer_ids), **said})
            except BadRow as bad:
                bad_rows.add(example_id, bad)
        cut += [row[EXAMPLE_ID] for row in rows if row["truncated"]]
        tables.append(_to_table(rows, (*_COLUMNS, *kept)))
    bad_rows.settle(len(dataset))
    prompts.warn_of_cuts(len(dataset))
    answers.warn_of_cuts(cut, len(dataset))
    return Dataset(pa.concat_tables(tables))


def tokenize_prompts(
    dataset: Dataset,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_length: int,
    mask_token_id: int,
    source: str,
    max_prompt_length: int | None = None,
    on_bad_rows: OnBadRows = "error",
    gen_length: int | None = None,
) -> Dataset:
    """Rows of `prompt_rows` with a column `prompt_ids`, fewer than `max_length` tokens each.

    `gen_length` is the canvas that `max_length` leaves, for messages, where that is where the limit comes from.
    """
    prompts = PromptEncoder(tokenizer, max_length, max_prompt_length, mask_token_id, source, gen_length)
    bad_rows = BadRows(source, on_bad_rows, unit=EXAMPLE_ID)
    ids_by_index: dict[int, list[int]] = {}
    for start, batch in zip(range(0, len(dataset), BATCH), batches(dataset, source)):
        for index, prompt_ids in enumerate(prompts.encode(batch["prompt"], batch[EXAMPLE_ID])):
            if isinstance(prompt_ids, BadRow):
                bad_rows.add(batch[EXAMPLE_ID][index], prompt_ids)
            else:
                ids_by_index[start + index] = prompt_ids
    bad_rows.settle(len(dataset))
    prompts.warn_of_cuts(len(dataset))
    kept = dataset.select(list(ids_by_index))
    table = {name: column(kept, name) for name in (EXAMPLE_ID, "prompt")}
    return Dataset(pa.table({**table, "prompt_ids": pa.array(list(ids_by_index.values()), type=IDS)}))


def _to_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pa.Table:
    types = {EXAMPLE_ID: pa.int64(), "truncated": pa.bool_(), "label": pa.bool_(), "weight": pa.float64()}
    return pa.table({name: pa.array([row[name] for row in rows], type=types.get(name, IDS)) for name in columns})
