"""What the sampler refuses before it starts, in one line each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from unveil.errors import UserError, name_rows
from unveil.generation.config import GenerationConfig
from unveil.generation.network import check_cache

if TYPE_CHECKING:
    from unveil.models import Denoiser


def check(
    denoiser: "Denoiser",
    prompts_ids: Sequence[Sequence[int]],
    indices: list[int],
    config: GenerationConfig,
    end_ids: list[int],
    tokens_per_batch: int,
) -> None:
    """Raise a UserError for arguments of `sample` that do not fit together."""
    check_cache(denoiser, config)
    if len(indices) != len(prompts_ids):
        raise UserError(f"indices: {len(indices)} of them for {len(prompts_ids)} prompts; give one per prompt")
    if tokens_per_batch < 1:
        raise UserError(f"--tokens_per_batch {tokens_per_batch}: no token fits; give 1 or more")
    if config.eos_rule != "free" and not end_ids:
        raise UserError(f"--eos_rule {config.eos_rule}: the tokenizer has no end token; give --eos_rule free")
    foreign = [token for token in end_ids if not 0 <= token < denoiser.vocab_size]
    if foreign:
        raise UserError(
            f"end token {foreign[0]}: outside the model's vocabulary of {denoiser.vocab_size}; "
            "give the tokenizer that belongs to the model"
        )
    room = room_for_prompts(denoiser.max_length, config.gen_length)
    long = [row for row, prompt in enumerate(prompts_ids) if room is not None and len(prompt) > room]
    if long:
        raise UserError(
            f"prompts {name_rows(long)}: longer than the {room} tokens that --gen_length {config.gen_length} "
            f"leaves of the model's {denoiser.max_length}; shorten them or give a smaller --gen_length"
        )
    masked = [row for row, prompt in enumerate(prompts_ids) if denoiser.mask_token_id in prompt]
    if masked:
        raise UserError(f"prompts {name_rows(masked)}: contain the mask token; remove it from the text")


def room_for_prompts(max_length: int | None, gen_length: int) -> int | None:
    """Tokens that a prompt may have beside a canvas of `gen_length`; None where the model has no limit.

    Raises:
        UserError: there is no room for any.
    """
    if max_length is None:
        return None
    if max_length <= gen_length:
        raise UserError(
            f"--gen_length {gen_length}: leaves nothing of the model's {max_length} tokens for a prompt; give a "
            "smaller one"
        )
    return max_length - gen_length
