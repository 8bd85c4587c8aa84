"""From names to things that can be trained: adapters and tokenised data, which every training command needs."""

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import PreTrainedTokenizerBase

from unveil.data import tokenize_groups, tokenize_responses
from unveil.errors import UserError
from unveil.models import Denoiser
from unveil.models.lora_targets import default_targets, read_targets, require_targets


class TokenLimits(Protocol):
    """The flags that shape the tokens of a response; `DrawConfig` has them."""

    max_length: int | None
    max_prompt_length: int | None
    end_of_answer: str
    canvas_length: int | None
    on_bad_rows: str


def add_adapters(
    model: nn.Module,
    r: int = 16,
    alpha: int = 32,
    dropout: float = 0.05,
    target_modules: Sequence[str] | str | None = None,
    revision: str | None = None,
) -> nn.Module:
    """Wrap the model in LoRA adapters (peft); by default on every linear layer of the blocks, not on the head.

    target_modules: names, a regular expression or `all-linear`. revision: of the base on the hub, kept for loading.

    Raises:
        UserError: a rank, alpha or dropout out of range, or targets that the model lacks or that peft cannot adapt.
    """
    if r < 1:
        raise UserError(f"--lora_r {r}: at least rank 1 is needed")
    if alpha < 1:
        raise UserError(f"--lora_alpha {alpha}: must be above 0, or the adapters do nothing")
    if not 0 <= dropout < 1:
        raise UserError(f"--lora_dropout {dropout:g}: must be from 0 to below 1")
    targets = read_targets(target_modules) or default_targets(model)
    require_targets(model, targets)
    config = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
    config.revision = revision
    try:
        with warnings.catch_warnings():  # adapters are not merged in passing, so tied weights do them no harm
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
            return get_peft_model(model, config)  # type: ignore[arg-type]
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UserError(f"--lora_target_modules: {' '.join(str(error).split())}") from error


def tokenize(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, denoiser: Denoiser, args: TokenLimits, source: str
) -> Dataset:
    """Tokenise rows under the run's rules (`--max_length`, `--end_of_answer`, `--canvas_length`, ...)."""
    limits = [n for n in (args.max_length, denoiser.max_length) if n is not None]
    if not limits:
        raise UserError("--max_length: is missing, and the model does not say how long its context is")
    if args.max_length and denoiser.max_length and args.max_length > denoiser.max_length:
        raise UserError(f"--max_length {args.max_length}: the model's context is {denoiser.max_length} tokens")
    rule: Any = args.end_of_answer
    bad_rows: Any = args.on_bad_rows
    tokenized = tokenize_groups if "relevance" in rows.column_names else tokenize_responses
    return tokenized(
        rows,
        tokenizer,
        max_length=min(limits),
        end_of_answer=rule,
        canvas_length=args.canvas_length,
        mask_token_id=denoiser.mask_token_id,
        source=source,
        max_prompt_length=args.max_prompt_length,
        on_bad_rows=bad_rows,
    )
