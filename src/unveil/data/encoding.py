"""What one run does to every prompt and every answer: encode it, fit it into the limits, say why it cannot be used.

Shared by `tokenizing` (one response per row) and `group_tokenizing` (one prompt with its candidates per row).
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from datasets import Dataset

from unveil.data.bad_rows import BadRow
from unveil.data.columns import EXAMPLE_ID
from unveil.data.conversation import Prompt
from unveil.data.end_of_answer import EndOfAnswer, Rule, check_rule, end_of_turn_id, finish_answer
from unveil.errors import UserError, name_rows, warn_user
from unveil.time_limit import SECONDS_OF_A_TEMPLATE, time_limit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH = 1000
IDS = pa.list_(pa.int32())


class PromptEncoder:
    """Encodes prompts under the limits of a run, and remembers which it cut."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
        max_prompt_length: int | None,
        mask_token_id: int,
        source: str,
        gen_length: int | None = None,
    ):
        if max_length < 2:
            raise UserError(f"--max_length {max_length}: no room for a prompt and an answer; give at least 2")
        if max_prompt_length is not None and max_prompt_length < 1:
            raise UserError(f"--max_prompt_length {max_prompt_length}: must be at least 1")
        if max_prompt_length is not None and gen_length is None and max_prompt_length >= max_length:
            raise UserError(
                f"--max_prompt_length {max_prompt_length}: must be at least 1 and below --max_length {max_length}"
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.max_prompt_length = max_prompt_length
        self.mask_token_id = mask_token_id
        self.source = source
        self.gen_length = gen_length
        self.cut: list[int] = []

    def encode(self, prompts: list[Prompt], example_ids: list[int]) -> list[list[int] | BadRow]:
        """Ids of each prompt, or what is wrong with it."""
        texts = [prompt if isinstance(prompt, str) else self._render(prompt) for prompt in prompts]
        encoded = encode(self.tokenizer, ["" if isinstance(text, BadRow) else text for text in texts])
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
        if len(ids) >= self.max_length and self.gen_length is not None:
            return BadRow(
                f"the prompt is longer than the {self.max_length - 1} tokens that --gen_length {self.gen_length} "
                f"leaves of the model's {self.max_length - 1 + self.gen_length}",
                "shorten it, give a smaller --gen_length, or keep the last tokens with --max_prompt_length",
            )
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
            with time_limit(SECONDS_OF_A_TEMPLATE):
                return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # a template is a program of its own: what it raises is about this row
            reason = str(error).strip().split("\n")[0]
            return BadRow(
                f"the tokenizer's chat template refuses the prompt: {reason}",
                "correct the messages, or give another template with --chat_template_path",
            )


class AnswerEncoder:
    """Encodes answers under the rule of a run, and remembers which it cut."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
        end_of_answer: EndOfAnswer,
        canvas_length: int | None,
        mask_token_id: int,
        eos_token_id: int | None,
        source: str,
    ):
        self.eos_id = cast("int | None", tokenizer.eos_token_id) if eos_token_id is None else eos_token_id
        self.end_id = end_of_turn_id(tokenizer) if end_of_answer == "end_of_turn" else self.eos_id
        check_rule(end_of_answer, self.end_id, canvas_length)
        self.max_length = max_length
        self.rule: Rule = "one_eos" if end_of_answer == "end_of_turn" else end_of_answer
        self.canvas_length = canvas_length
        self.mask_token_id = mask_token_id
        self.source = source

    def finish(self, example_id: int, prompt_ids: list[int], answer_ids: Sequence[int]) -> dict[str, Any]:
        """The columns of one `TokenizedResponse`, without `label`. Raises `BadRow`."""
        answer_ids = list(answer_ids)
        while answer_ids and answer_ids[-1] in (self.eos_id, self.end_id):
            answer_ids.pop()
        if not answer_ids:
            raise BadRow("the completion has no tokens")
        if self.mask_token_id in answer_ids:
            raise _holds_mask_token("completion")
        room = self.max_length - len(prompt_ids)
        scored, tail, truncated = finish_answer(answer_ids, self.end_id, self.rule, self.canvas_length, room)
        return {
            EXAMPLE_ID: example_id,
            "prompt_ids": prompt_ids,
            "completion_ids": scored,
            "tail_ids": tail,
            "truncated": truncated,
        }

    def warn_of_cuts(self, cut: list[int], total: int) -> None:
        """Warn that the answers named in `cut` do not fit, of `total`."""
        if cut:
            limit = f"--max_length {self.max_length}"
            limit += f" or --canvas_length {self.canvas_length}" if self.canvas_length else ""
            warn_user(
                f"{self.source}: {len(cut)} of {total} answers (or their EOS) do not fit into {limit}; "
                f"they are cut and get no EOS ({EXAMPLE_ID} {name_rows(cut)})",
                stacklevel=4,
            )


def _holds_mask_token(what: str) -> BadRow:
    return BadRow(f"the {what} contains the mask token in its text", "take the mask token out of the text")


def batches(dataset: Dataset, source: str) -> Iterator[dict[str, list[Any]]]:
    """The columns of `dataset`, some rows at a time."""
    if len(dataset) == 0:
        raise UserError(f"{source}: there are no rows to tokenise; give at least one")
    dataset = dataset.with_format(None)
    for start in range(0, len(dataset), BATCH):
        yield dataset[start : start + BATCH]


def encode(tokenizer: "PreTrainedTokenizerBase", texts: list[str]) -> list[list[int]]:
    """Ids of each text: nothing is added, nothing is cut."""
    return _call(tokenizer, texts)["input_ids"]


def encode_with_places(
    tokenizer: "PreTrainedTokenizerBase", texts: list[str], source: str
) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
    """Ids of each text, and the characters [start, end) that each token stands for."""
    if not tokenizer.is_fast:
        raise UserError(
            f"{source}: steps and spans need to know which characters a token stands for, and this tokenizer does "
            "not tell; use its fast version, or leave the columns steps and spans out"
        )
    encoded = _call(tokenizer, texts, return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]


def _call(tokenizer: "PreTrainedTokenizerBase", texts: list[str], **options: Any) -> dict[str, Any]:
    return cast(
        "dict[str, Any]",
        tokenizer(
            texts,
            add_special_tokens=False,
            padding=False,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
            **options,
        ),
    )
