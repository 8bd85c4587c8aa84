"""Text to token ids: prompt and completion are tokenised separately and concatenated.

So the prompt's tokens never depend on the answer, the answer starts at a token boundary by construction, and both
halves of a pair condition on the same ids. (Tokenising the joint text may merge across the boundary.)

- Conversational prompt: the tokenizer's chat template with the generation prompt, then tokenised without adding
  special tokens (the template writes its own).
- Plain prompt: tokenised as it is; no BOS and no other special token is added.
- Completion: tokenised as it is; its end follows `unveil.data.end_of_answer`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from datasets import Dataset

from unveil.data.bad_rows import BadRow, BadRows, OnBadRows
from unveil.data.columns import EXAMPLE_ID, column
from unveil.data.conversation import Prompt
from unveil.data.end_of_answer import EndOfAnswer, check_rule, finish_answer
from unveil.errors import UserError, name_rows, warn_user

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH = 1000
_IDS = pa.list_(pa.int32())
_COLUMNS = (EXAMPLE_ID, "prompt_ids", "completion_ids", "tail_ids", "truncated", "label")


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
    """Rows of `unpaired_rows` or `sft_rows` as `TokenizedResponse` columns (`label` only if the input has it).

    `max_length` bounds prompt + response, tail included. `canvas_length` is the response's canvas for the rules with
    a tail, `None` for all that `max_length` leaves. `eos_token_id` defaults to the tokenizer's. Prompts longer than
    `max_prompt_length` keep their last tokens (and a leading BOS); the cut depends on the prompt alone, so that both
    halves of a pair keep the same one. Bad rows are prompts that fill `max_length`, completions without tokens,
    the mask token in the text, and prompts that the chat template refuses. Cuts are warned about with a count.
    """
    eos_id = cast("int | None", tokenizer.eos_token_id) if eos_token_id is None else eos_token_id
    check_rule(end_of_answer, eos_id, canvas_length)
    prompts = _PromptEncoder(tokenizer, max_length, max_prompt_length, mask_token_id, source)
    bad_rows = BadRows(source, on_bad_rows, unit=EXAMPLE_ID)
    columns = _COLUMNS if "label" in dataset.column_names else _COLUMNS[:-1]
    tables, cut = [], []
    for batch in _batches(dataset, source):
        rows = []
        prompts_ids = prompts.encode(batch["prompt"], batch[EXAMPLE_ID])
        answers_ids = _encode(tokenizer, batch["completion"])
        labels = batch.get("label", [None] * len(answers_ids))
        for example_id, prompt_ids, answer_ids, label in zip(batch[EXAMPLE_ID], prompts_ids, answers_ids, labels):
            if isinstance(prompt_ids, BadRow):
                bad_rows.add(example_id, prompt_ids)
                continue
            if problem := _problem_of_answer(answer_ids, eos_id, mask_token_id):
                bad_rows.add(example_id, problem)
                continue
            room = max_length - len(prompt_ids)
            scored, tail, truncated = finish_answer(answer_ids, eos_id, end_of_answer, canvas_length, room)
            rows.append(dict(zip(_COLUMNS, (example_id, prompt_ids, scored, tail, truncated, label))))
        cut += [row[EXAMPLE_ID] for row in rows if row["truncated"]]
        tables.append(_to_table(rows, columns))
    bad_rows.settle(len(dataset))
    prompts.warn_of_cuts(len(dataset))
    if cut:
        limit = f"--max_length {max_length}" + (f" or --canvas_length {canvas_length}" if canvas_length else "")
        warn_user(
            f"{source}: {len(cut)} of {len(dataset)} answers (or their EOS) do not fit into {limit}; "
            f"they are cut and get no EOS ({EXAMPLE_ID} {name_rows(cut)})"
        )
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
) -> Dataset:
    """Rows of `prompt_rows` with a column `prompt_ids`, fewer than `max_length` tokens each."""
    prompts = _PromptEncoder(tokenizer, max_length, max_prompt_length, mask_token_id, source)
    bad_rows = BadRows(source, on_bad_rows, unit=EXAMPLE_ID)
    ids_by_index: dict[int, list[int]] = {}
    for start, batch in zip(range(0, len(dataset), _BATCH), _batches(dataset, source)):
        for index, prompt_ids in enumerate(prompts.encode(batch["prompt"], batch[EXAMPLE_ID])):
            if isinstance(prompt_ids, BadRow):
                bad_rows.add(batch[EXAMPLE_ID][index], prompt_ids)
            else:
                ids_by_index[start + index] = prompt_ids
    bad_rows.settle(len(dataset))
    prompts.warn_of_cuts(len(dataset))
    kept = dataset.select(list(ids_by_index))
    table = {name: column(kept, name) for name in (EXAMPLE_ID, "prompt")}
    return Dataset(pa.table({**table, "prompt_ids": pa.array(list(ids_by_index.values()), type=_IDS)}))


class _PromptEncoder:
    """Encodes prompts under the limits of a run, and remembers which it cut."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
        max_prompt_length: int | None,
        mask_token_id: int,
        source: str,
    ):
        if max_length < 2:
            raise UserError(f"--max_length {max_length}: no room for a prompt and an answer; give at least 2")
        if max_prompt_length is not None and not 1 <= max_prompt_length < max_length:
            raise UserError(
                f"--max_prompt_length {max_prompt_length}: must be at least 1 and below --max_length {max_length}"
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.mask_token_id = mask_token_id
        self.source = source
        self.cut: list[int] = []

    def encode(self, prompts: list[Prompt], example_ids: list[int]) -> list[list[int] | BadRow]:
        """Ids of each prompt, or what is wrong with it."""
        texts = [prompt if isinstance(prompt, str) else self._render(prompt) for prompt in prompts]
        encoded = _encode(self.tokenizer, ["" if isinstance(text, BadRow) else text for text in texts])
        return [
            text if isinstance(text, BadRow) else self._fit(ids, example_id)
            for text, ids, example_id in zip(texts, encoded, example_ids)
        ]

    def _fit(self, ids: list[int], example_id: int) -> list[int] | BadRow:
        if self.mask_token_id in ids:
            return _holds_mask_token("prompt")
        if self.max_prompt_length is not None and len(ids) > self.max_prompt_length:
            start = len(ids) - self.max_prompt_length
            keeps_bos = ids[0] == self.tokenizer.bos_token_id
            ids = [ids[0], *ids[start + 1 :]] if keeps_bos else ids[start:]
            self.cut.append(example_id)
        if len(ids) >= self.max_length:
            return BadRow(
                f"the prompt leaves no room for an answer within --max_length {self.max_length}",
                "raise --max_length, or keep the last tokens of long prompts with --max_prompt_length",
            )
        return ids

    def warn_of_cuts(self, total: int) -> None:
        if self.cut:
            warn_user(
                f"{self.source}: {len(self.cut)} of {total} prompts keep only their last tokens, because of "
                f"--max_prompt_length {self.max_prompt_length} ({EXAMPLE_ID} {name_rows(self.cut)})",
                stacklevel=4,
            )

    def _render(self, messages: list[dict[str, Any]]) -> str | BadRow:
        if not self.tokenizer.chat_template:
            raise UserError(
                f"{self.source}: the prompts are conversations, but the tokenizer has no chat template; "
                f"give one with --chat_template_path, or use prompts of plain text"
            )
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # a template is a program of its own: what it raises is about this row
            reason = str(error).strip().split("\n")[0]
            return BadRow(
                f"the tokenizer's chat template refuses the prompt: {reason}",
                "correct the messages, or give another template with --chat_template_path",
            )


def _problem_of_answer(ids: list[int], eos_id: int | None, mask_token_id: int) -> BadRow | None:
    if all(token == eos_id for token in ids):
        return BadRow("the completion has no tokens")
    return _holds_mask_token("completion") if mask_token_id in ids else None


def _holds_mask_token(what: str) -> BadRow:
    return BadRow(f"the {what} contains the mask token in its text", "take the mask token out of the text")


def _batches(dataset: Dataset, source: str) -> Iterator[dict[str, list[Any]]]:
    if len(dataset) == 0:
        raise UserError(f"{source}: there are no rows to tokenise; give at least one")
    dataset = dataset.with_format(None)
    for start in range(0, len(dataset), _BATCH):
        yield dataset[start : start + _BATCH]


def _encode(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return encoded["input_ids"]  # pyright: ignore[reportReturnType]


def _to_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pa.Table:
    types = {EXAMPLE_ID: pa.int64(), "truncated": pa.bool_(), "label": pa.bool_()}
    return pa.table({name: pa.array([row[name] for row in rows], type=types.get(name, _IDS)) for name in columns})
