"""What every training run on ELBO surrogates shares: optimizer, draws, packing, tokens."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from unveil.draws import DESIGNS, Plan, check_design, plan
from unveil.errors import UserError
from unveil.likelihood import COMBINERS, check_combiner
from unveil.training.argument_checks import check_parts, check_values
from unveil.training.draw_checks import check_count, masks_per_size
from unveil.training.launch_checks import check_launch, check_sharing

_OTHERS = [name for name in DESIGNS if name not in ("quadratic_tiling", "iid", "all_subsets")]


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
        default="quadratic_tiling",
        metadata={"help": f"Draw design: quadratic_tiling, iid as published, or one of {', '.join(_OTHERS)}."},
    )
    combiner: str = field(
        default="ht", metadata={"help": f"Combines draws: {', '.join(COMBINERS)}; only ht is always unbiased."}
    )
    share_sizes: bool = field(
        default=True, metadata={"help": "Candidates of one prompt share their mask sizes (a little less variance)."}
    )
    masks_per_size: int = field(default=1, metadata={"help": "Draws that share one mask size (n_yt); published: 1."})
    strata_exponent: float = field(default=2.0, metadata={"help": "Exponent of quadratic_tiling's strata."})
    size_exponent: float = field(
        default=0.5, metadata={"help": "importance: mask sizes l are drawn with probability like l^-size_exponent."}
    )
    draw_seed: int | None = field(default=None, metadata={"help": "Seed of the draws; unset: --seed."})
    draws: str = field(
        default="fresh", metadata={"help": "fresh draws in every epoch, or fixed ones (published: fixed)."}
    )
    tokens_per_batch: int = field(
        default=8192, metadata={"help": "Tokens in one forward and backward pass; bounds memory, changes no result."}
    )
    pack_by_answer: bool = field(
        default=False,
        metadata={
            "help": "Pack every answer's rows alone: no other row changes a bit, as --ref_cache needs. Cached "
            "values then equal those of a live reference bit for bit."
        },
    )
    kept_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Tokens of a step whose graph pass 1 keeps, which saves their second forward; unset: "
            "--tokens_per_batch, which the second pass holds anyway; 0: none."
        },
    )
    row_budget: float = field(
        default=1.0,
        metadata={"help": "Share of pass 2's tokens for rows of small weight (unbiased); 1: all."},
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
        metadata={"help": "Ending: one_eos, end_of_turn, none, visible_tail, eos_visible_tail or scored_tail."},
    )
    canvas_length: int | None = field(
        default=None, metadata={"help": "Answer tokens up to which the *_tail rules fill with end-of-text tokens."}
    )
    on_bad_rows: str = field(default="error", metadata={"help": "Rows that cannot be used: error, or drop and count."})
    eval_num_draws: int | None = field(
        default=None, metadata={"help": "Draws per held-out answer; unset: --num_draws. More of them measure sharper."}
    )
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on the first so many rows only."})
    resume_with_changes: bool = field(
        default=False,
        metadata={"help": "Go on from a checkpoint of other data or arguments, told instead of refused."},
    )

    def __post_init__(self) -> None:
        check_values(self)
        if self.bf16 is None:
            self.bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        # transformers would hide bars by how much its loggers may say, which is errors alone under our commands.
        if self.disable_tqdm is None:
            self.disable_tqdm = False
        super().__post_init__()
        check_parts(self)
        check_design(self.draw_design, self.num_draws, self.masks_per_size, self.strata_exponent, self.size_exponent)
        check_combiner(self.combiner, self.draw_design, self.num_draws, self.masks_per_size)
        check_count(self, "eval_num_draws")
        check_sharing(self)
        check_launch(self)
        if self.draws not in ("fresh", "fixed"):
            raise UserError(f"--draws {self.draws}: must be fresh or fixed")
        if self.tokens_per_batch < 1:
            raise UserError(f"--tokens_per_batch {self.tokens_per_batch}: at least 1 is needed")
        if not 0 < self.row_budget <= 1:
            raise UserError(f"--row_budget {self.row_budget}: must be above 0 and at most 1")
        if self.kept_tokens is not None and self.kept_tokens < 0:
            raise UserError(f"--kept_tokens {self.kept_tokens}: must not be negative; 0 keeps no graph")

    @property
    def plan_seed(self) -> int:
        """Seed of the draw plans."""
        return self.seed if self.draw_seed is None else self.draw_seed

    @property
    def draws_per_group(self) -> int:
        """Draws that depend on one another: those of one mask size, or of a pair."""
        return max(1, DESIGNS[self.draw_design].draws_per_unit) * self.masks_per_size

    def refuse_dependent_draws(self, what: str) -> None:
        """What leaves draws out, or weighs them by others, needs groups that are independent and alike.

        Raises:
            UserError: strata, draws of unequal shares, or fewer than two whole groups.
        """
        design = DESIGNS[self.draw_design]
        if design.units != "independent" or design.random_shares:
            raise UserError(
                f"{what}: needs draws that are independent and alike, which those of --draw_design {self.draw_design} "
                "are not; give --draw_design iid or mirrored"
            )
        group = self.draws_per_group
        for flag in ("num_draws", "eval_num_draws"):
            count = getattr(self, flag)
            if count is not None and (count % group or count < 2 * group):
                unit = "draws" if group == 1 else f"groups of {group} draws (--draw_design, --masks_per_size)"
                raise UserError(f"--{flag} {count}: {what} needs two or more {unit}; give {2 * group} or a multiple")

    def plan_of(self, example_id: int, epoch: int, length: int, num_draws: int, size_id: int | None = None) -> Plan:
        """Draw plan of an answer in an epoch: a function of integers alone."""
        return plan(
            self.plan_seed,
            example_id,
            epoch,
            length,
            num_draws,
            self.draw_design,
            masks_per_size(self, num_draws),
            self.strata_exponent,
            self.size_exponent,
            size_id=size_id,
        )
