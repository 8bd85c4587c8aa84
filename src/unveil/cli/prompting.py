"""From prompts to answers, for `unveil generate` and `unveil compare`."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from unveil.cli.options import HeldOutArguments
from unveil.data import prompt_rows, tokenize_prompts
from unveil.data.columns import EXAMPLE_ID, example_ids
from unveil.data.end_of_answer import CHOICES, end_of_turn_id
from unveil.errors import UserError
from unveil.files import read_json
from unveil.generation import GenerationConfig, Observer, Samples, sample
from unveil.generation.checks import room_for_prompts
from unveil.models import Denoiser, unwrap

_DEFAULT_LENGTH, _DEFAULT_BLOCK = 128, 32
_MOST_SAMPLES = 100_000
_NO_LIMIT = 2**31 - 1


@dataclass
class GenerationArguments:
    """How answers are drawn"""

    gen_length: int | None = field(
        default=None,
        metadata={"help": "Tokens on the canvas: the longest answer; unset: 128, or half of what the model can hold."},
    )
    steps: int | None = field(default=None, metadata={"help": "Forward passes per answer; unset: one per token."})
    block_length: int | None = field(
        default=None,
        metadata={"help": "Tokens per block, left to right; unset: 32, or one block where that does not divide."},
    )
    temperature: float = field(default=0.0, metadata={"help": "0 takes the most likely token."})
    top_p: float = field(default=1.0, metadata={"help": "Below 1: tokens from the nucleus of this probability."})
    top_k: int | None = field(default=None, metadata={"help": "Tokens from the so many most likely ones."})
    remasking: str = field(
        default="low_confidence",
        metadata={"help": "What a step commits: the surest by low_confidence, entropy or margin; or random order."},
    )
    confidence_threshold: float | None = field(
        default=None, metadata={"help": "Commit all tokens surer than this in one step, such as 0.9 (no --steps)."}
    )
    confidence_factor: float | None = field(
        default=None, metadata={"help": "Commit n tokens while (n + 1)(1 - confidence) is below this, such as 1."}
    )
    cache: str = field(
        default="none", metadata={"help": "Keys and values kept inside a block: none, prefix or dual (approximate)."}
    )
    cache_interval: int | None = field(
        default=None, metadata={"help": "Compute them anew every so many steps of a block; 1 is exact."}
    )
    cfg_scale: float = field(default=0.0, metadata={"help": "Classifier-free guidance; above 0 it doubles the cost."})
    eos_rule: str = field(default="free", metadata={"help": "When an answer may end: free, late (last), or never."})
    early_exit: bool = field(
        default=True, metadata={"help": "Stop computing an answer once its end is settled; False fills its canvas."}
    )
    stop_tokens: list[str] | None = field(
        default=None, metadata={"help": "Tokens that end an answer too, such as '<|eot_id|>'."}
    )
    end_of_answer: str | None = field(
        default=None,
        metadata={
            "help": "end_of_turn: an answer ends at the chat template's end of a turn too; unset: if the model was "
            "trained so (run.json beside it)."
        },
    )
    num_samples: int = field(default=1, metadata={"help": "Answers per prompt, with seeds --seed, --seed + 1, ..."})
    seed: int = field(default=0, metadata={"help": "With the row of a prompt it fixes all randomness of its answer."})
    tokens_per_batch: int = field(default=4096, metadata={"help": "Tokens in one forward pass; changes no result."})
    chat: bool = field(default=False, metadata={"help": "Take plain prompts as a user's message (chat template)."})

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a model is loaded, which may decide on the length of the canvas.

        Raises:
            UserError: settings that do not fit together, or samples that would be equal.
        """
        (self if self.gen_length is not None else replace(self, steps=None, block_length=None)).configs()

    def ending(self, name: str, tokenizer: PreTrainedTokenizerBase) -> "GenerationArguments":
        """The settings with the end of a turn among the stop tokens, if the flag or the training of `name` says so."""
        rule = self.end_of_answer or trained_rule(name)
        if rule is not None and rule not in CHOICES:
            raise UserError(f"--end_of_answer {rule}: unknown rule; use one of {', '.join(CHOICES)}")
        if rule != "end_of_turn":
            return self
        token = str(tokenizer.convert_ids_to_tokens(end_of_turn_id(tokenizer)))
        return replace(self, stop_tokens=list(dict.fromkeys([*(self.stop_tokens or []), token])))

    def configs(self, longest: int | None = None) -> list[GenerationConfig]:
        """One configuration per sample.

        longest: tokens that the model (of several, the smallest) can hold, None where it has no limit.

        Raises:
            UserError: settings that do not fit together, or samples that would be equal.
        """
        length, block = self._length(longest), self.block_length
        if block is None and length % _DEFAULT_BLOCK == 0:
            block = _DEFAULT_BLOCK
        remasking: Any = self.remasking
        eos_rule: Any = self.eos_rule
        cache: Any = self.cache
        first = GenerationConfig(
            gen_length=length,
            steps=self.steps,
            block_length=block,
            temperature=self.temperature,
            top_p=self.top_p,
            remasking=remasking,
            cfg_scale=self.cfg_scale,
            eos_rule=eos_rule,
            seed=self.seed,
            top_k=self.top_k,
            confidence_threshold=self.confidence_threshold,
            confidence_factor=self.confidence_factor,
            cache=cache,
            cache_interval=self.cache_interval,
            early_exit=self.early_exit,
        )
        if self.num_samples < 1:
            raise UserError(f"--num_samples {self.num_samples}: at least 1 is needed")
        if self.num_samples > _MOST_SAMPLES:
            raise UserError(f"--num_samples {self.num_samples}: at most {_MOST_SAMPLES} answers per prompt are drawn")
        if self.num_samples > 1:
            self.require_randomness("--num_samples")
        return [replace(first, seed=self.seed + number) for number in range(self.num_samples)]

    def _length(self, longest: int | None) -> int:
        """The canvas: where nobody says how long, a model of short texts keeps half of its room for the prompt."""
        if self.gen_length is not None:
            return self.gen_length
        length = _DEFAULT_LENGTH if longest is None else min(_DEFAULT_LENGTH, max(1, longest // 2))
        block = self.block_length or 1
        return length if block < 1 else max(block, length - length % block)

    def require_randomness(self, flag: str) -> None:
        """Refuse to draw the same answer twice."""
        if self.temperature == 0 and self.remasking != "random":
            raise UserError(
                f"{flag}: with --temperature 0 and --remasking {self.remasking} every seed gives the same answer; "
                "raise --temperature or give --remasking random"
            )


def trained_rule(name: str) -> str | None:
    """`--end_of_answer` of the run that made a model, where its record is in the folder."""
    try:
        arguments = read_json(Path(name) / "run.json")["arguments"]
        return str(arguments["end_of_answer"]) if "end_of_answer" in arguments else None
    except (OSError, ValueError, KeyError, TypeError):  # no record, or none of ours
        return None


class Answer(NamedTuple):
    """Text without special tokens, and its number of tokens."""

    text: str
    tokens: int


def read_prompts(data: HeldOutArguments, given: list[str] | None, chat: bool) -> tuple[Dataset, str]:
    """Rows `row`, `example_id`, `prompt` from the flags or the data, and the name of where they come from.

    `row` is the number of the row in the data, whatever else was left out; `example_id` is its own, where the data has
    one that can serve, else the same number.
    """
    if bool(given) == bool(data.dataset_name):
        raise UserError("--prompt and --dataset_name: give one of them, and not both")
    if given:
        rows, source = _rows_of_flags(given), "--prompt"
    else:
        rows, source = data.read_held_out(), str(data.dataset_name)
    bad_rows: Any = data.on_bad_rows
    ids = example_ids(rows, source)
    if EXAMPLE_ID in rows.column_names:
        rows = rows.remove_columns(EXAMPLE_ID)
    rows = prompt_rows(rows, source, column_map=None if given else data.columns(), on_bad_rows=bad_rows)
    numbers, prompts = rows[EXAMPLE_ID][:], rows["prompt"][:]
    if chat and isinstance(prompts[0], str):
        prompts = [[{"role": "user", "content": prompt}] for prompt in prompts]
    columns = {"row": numbers, EXAMPLE_ID: [ids[number] for number in numbers], "prompt": prompts}
    return Dataset(pa.table(columns)), source


def _rows_of_flags(given: list[str]) -> Dataset:
    try:
        return Dataset(pa.table({"prompt": given}))
    except UnicodeEncodeError as error:
        raise UserError(
            "--prompt: holds bytes that are no text; give UTF-8, or the prompts in a file with --dataset_name"
        ) from error


def prompt_ids(
    rows: Dataset,
    source: str,
    data: HeldOutArguments,
    denoiser: Denoiser,
    tokenizer: PreTrainedTokenizerBase,
    gen_length: int,
) -> dict[int, list[int]]:
    """Token ids of each usable prompt, by the number of its row.

    Raises:
        UserError: rows that cannot be used (unless --on_bad_rows drop), those that leave no room for the canvas too.
    """
    bad_rows: Any = data.on_bad_rows
    room = room_for_prompts(denoiser.max_length, gen_length)
    tokenized = tokenize_prompts(
        rows,
        tokenizer,
        max_length=_NO_LIMIT if room is None else room + 1,
        mask_token_id=denoiser.mask_token_id,
        source=source,
        max_prompt_length=data.max_prompt_length,
        on_bad_rows=bad_rows,
        gen_length=gen_length,
    )
    number = dict(zip(rows[EXAMPLE_ID], rows["row"]))
    return {number[row[EXAMPLE_ID]]: row["prompt_ids"] for row in tokenized}  # type: ignore[index, call-overload]


def end_tokens(denoiser: Denoiser, tokenizer: PreTrainedTokenizerBase, stop_tokens: list[str] | None) -> list[int]:
    """Ids that end an answer beside the tokenizer's own: those of the model's config and of `--stop_tokens`."""
    configured = getattr(unwrap(denoiser.model).config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [] if configured is None else [configured]
    vocabulary = tokenizer.get_vocab()
    for token in stop_tokens or []:
        if token not in vocabulary:
            raise UserError(f"--stop_tokens {token}: the tokenizer has no such token; check the spelling")
    return list(dict.fromkeys([*ids, *(vocabulary[token] for token in stop_tokens or [])]))


def all_end_tokens(denoiser: Denoiser, tokenizer: PreTrainedTokenizerBase, stop_tokens: list[str] | None) -> list[int]:
    """Every id that ends an answer, the tokenizer's own first."""
    own = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]  # type: ignore[arg-type]
    return list(dict.fromkeys([*own, *end_tokens(denoiser, tokenizer, stop_tokens)]))


def answer(
    denoiser: Denoiser,
    tokenizer: PreTrainedTokenizerBase,
    ids_by_row: dict[int, list[int]],
    settings: GenerationArguments,
    config: GenerationConfig,
) -> list[Answer]:
    """One answer per prompt, in order. The number of a prompt's row seeds it, whatever else is asked."""
    return texts(tokenizer, sampled(denoiser, tokenizer, ids_by_row, settings, config))


def sampled(
    denoiser: Denoiser,
    tokenizer: PreTrainedTokenizerBase,
    ids_by_row: dict[int, list[int]],
    settings: GenerationArguments,
    config: GenerationConfig,
    observer: Observer | None = None,
) -> Samples:
    """Answers as token ids, with what they cost."""
    return sample(
        denoiser,
        list(ids_by_row.values()),
        config,
        tokenizer.eos_token_id,  # type: ignore[arg-type]
        end_tokens(denoiser, tokenizer, settings.stop_tokens),
        tokens_per_batch=settings.tokens_per_batch,
        indices=list(ids_by_row),
        progress=sys.stderr.isatty() and observer is None,
        observer=observer,
    )


def texts(tokenizer: PreTrainedTokenizerBase, samples: Samples) -> list[Answer]:
    """Answers as texts."""
    return [Answer(str(tokenizer.decode(ids, skip_special_tokens=True)), len(ids)) for ids in samples.answers]


def as_text(prompt: str | list[dict[str, Any]]) -> str:
    """A prompt for people and judges: text as it is, one message as its content, a conversation with its roles."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0].get("content"))
    return "\n\n".join(f"{message['role']}: {message.get('content')}" for message in prompt)
