"""Training arguments: `transformers.TrainingArguments` with this field's names and the papers' defaults."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from unveil.draws import check_design
from unveil.errors import UserError


@dataclass
class DrawConfig(TrainingArguments):
    """What every training run on ELBO surrogates shares: optimizer, draws, token budget."""

    learning_rate: float = field(default=1e-6, metadata={"help": "Peak learning rate (paper: 1e-6, full fine-tuning)."})
    adam_beta2: float = field(default=0.95, metadata={"help": "AdamW's second moment decay (paper: 0.95)."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay (paper: 0.01)."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Learning rate schedule (paper: cosine)."})
    warmup_steps: float = field(default=0.03, metadata={"help": "Warm-up steps, or below 1 their share of the run."})
    num_train_epochs: float = field(default=1.0, metadata={"help": "Passes over the data (paper: 1)."})
    logging_steps: float = field(default=10, metadata={"help": "Log every this many optimizer steps."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Kept off: the trainer reads token columns."})
    bf16: bool | None = field(
        default=None, metadata={"help": "bfloat16 autocast; unset: on CUDA devices that have it."}
    )
    num_draws: int = field(default=4, metadata={"help": "Monte-Carlo draws (forward passes) per answer; published: 8."})
    draw_design: str = field(
        default="quadratic_tiling", metadata={"help": "Draw design: quadratic_tiling, or iid as published."}
    )
    masks_per_size: int = field(default=1, metadata={"help": "Draws that share one mask size (n_yt); published: 1."})
    strata_exponent: float = field(default=2.0, metadata={"help": "Exponent of quadratic_tiling's strata."})
    draw_seed: int | None = field(default=None, metadata={"help": "Seed of the draws; unset: --seed."})
    draws: str = field(
        default="fresh", metadata={"help": "fresh draws in every epoch, or fixed ones (published: fixed)."}
    )
    tokens_per_batch: int = field(
        default=8192, metadata={"help": "Tokens in one forward and backward pass; bounds memory, changes no result."}
    )
    kept_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Tokens of a step whose graph pass 1 keeps, which saves their second forward; unset: "
            "--tokens_per_batch, which the second pass holds anyway; 0: none."
        },
    )
    disable_dropout: bool = field(
        default=True, metadata={"help": "Set every dropout to 0, so that all passes compute one function."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Longest prompt + answer in tokens; unset: the model's context."}
    )
    max_prompt_length: int | None = field(
        default=None, metadata={"help": "Keep the last so many tokens of longer prompts; unset: all."}
    )
    end_of_answer: str = field(
        default="one_eos",
        metadata={"help": "What follows an answer: one_eos, none, visible_tail, eos_visible_tail or scored_tail."},
    )
    canvas_length: int | None = field(
        default=None, metadata={"help": "Answer tokens up to which the *_tail rules fill with end-of-text tokens."}
    )
    on_bad_rows: str = field(default="error", metadata={"help": "Rows that cannot be used: error, or drop and count."})
    eval_num_draws: int | None = field(
        default=None, metadata={"help": "Draws per held-out answer; unset: --num_draws. More of them measure sharper."}
    )
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on the first so many rows only."})

    def __post_init__(self) -> None:
        if self.bf16 is None:
            self.bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        super().__post_init__()
        check_design(self.draw_design, self.num_draws, self.masks_per_size, self.strata_exponent)
        if self.draws not in ("fresh", "fixed"):
            raise UserError(f"--draws {self.draws}: must be fresh or fixed")
        if self.tokens_per_batch < 1:
            raise UserError(f"--tokens_per_batch {self.tokens_per_batch}: at least 1 is needed")
        if self.kept_tokens is not None and self.kept_tokens < 0:
            raise UserError(f"--kept_tokens {self.kept_tokens}: must not be negative; 0 keeps no graph")

    @property
    def plan_seed(self) -> int:
        """Seed of the draw plans."""
        return self.seed if self.draw_seed is None else self.draw_seed


@dataclass
class PreferenceConfig(DrawConfig):
    """Arguments of `PreferenceTrainer` (`unveil train`)."""

    objective: str = field(default="kto", metadata={"help": "Preference objective: kto (ELBO-KTO)."})
    beta: float = field(default=0.1, metadata={"help": "Inverse temperature, per nat of margin (paper: 0.1)."})
    desirable_weight: float = field(default=1.0, metadata={"help": "Weight of thumbs up (paper: 1)."})
    undesirable_weight: float = field(default=1.0, metadata={"help": "Weight of thumbs down (paper: 1)."})
    baseline: str = field(
        default="batch",
        metadata={"help": "What margins are centred on: batch (the paper), zero, or kl (batch mean, never below 0)."},
    )
    sft_weight: float = field(
        default=0.0, metadata={"help": "Weight of -ELBO per token on thumbs up; 0 in the paper; holds likelihood up."}
    )
    replay_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of -ELBO per token on rows of --replay_dataset_name; not in the paper."},
    )
    replay_batch_size: int = field(default=32, metadata={"help": "Replay rows per optimizer step, over all devices."})
    replay_num_draws: int = field(default=1, metadata={"help": "Draws per replay row."})
    precompute_ref_log_probs: bool = field(
        default=False, metadata={"help": "Score the reference once before training and keep only its values."}
    )
    n_desirable: float | None = field(
        default=None, metadata={"help": "Thumbs up to keep: a share in (0, 1], or a count above 1."}
    )
    n_undesirable: float | None = field(
        default=None, metadata={"help": "Thumbs down to keep: a share in (0, 1], or a count above 1."}
    )
    allow_one_label: bool = field(default=False, metadata={"help": "Accept data with thumbs of one kind only."})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.replay_weight < 0 or self.sft_weight < 0:
            raise UserError("--sft_weight and --replay_weight: must not be negative")
        if self.replay_batch_size < 1:
            raise UserError(f"--replay_batch_size {self.replay_batch_size}: at least 1 is needed")


@dataclass
class SFTConfig(DrawConfig):
    """Arguments of `SFTTrainer` (`unveil sft`)."""

    learning_rate: float = field(default=2.5e-5, metadata={"help": "Peak learning rate (LLaDA's SFT: 2.5e-5)."})
    num_draws: int = field(default=1, metadata={"help": "Monte-Carlo draws (forward passes) per answer."})
