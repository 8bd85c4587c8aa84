"""Training arguments: `transformers.TrainingArguments` with this field's names and the papers' defaults."""

from dataclasses import dataclass, field

from unveil.errors import UserError
from unveil.likelihood import CANONICAL_TOKENS
from unveil.training.draw_checks import check_count
from unveil.training.draw_config import DrawConfig

DEBIAS = ("none", "jackknife", "cross_fit")
NEGATIVE_SURROGATES = ("elbo", "eubo", "mix", "holder")


@dataclass
class PreferenceConfig(DrawConfig):
    """Arguments of `PreferenceTrainer` (`unveil train`)."""

    objective: str = field(
        default="kto", metadata={"help": "Preference objective; `unveil objectives` lists them all."}
    )
    objective_args: list[str] | None = field(
        default=None, metadata={"help": "Further arguments of the objective, as name=value: eps=0.1 alpha=0.5."}
    )
    beta: float | None = field(
        default=None, metadata={"help": "Inverse temperature, per nat of margin; unset: the objective's (kto: 0.1)."}
    )
    desirable_weight: float | None = field(default=None, metadata={"help": "kto: weight of thumbs up (paper: 1)."})
    undesirable_weight: float | None = field(default=None, metadata={"help": "kto: weight of thumbs down (paper: 1)."})
    baseline: str | None = field(
        default=None,
        metadata={
            "help": "kto: centre of the margins: batch (the paper), zero, kl (batch mean, at least 0) or trl_kl "
            "(mean margin under other prompts, at least 0: costs forward passes)."
        },
    )
    debias: str = field(
        default="none",
        metadata={
            "help": "Noise of the surrogates in a curved loss: none, jackknife (removes the bias of order 1/draws) or "
            "cross_fit (weights of a draw from the other draws); both with --draw_design iid or mirrored."
        },
    )
    negative_surrogate: str = field(
        default="elbo",
        metadata={
            "help": "For answers pushed down: elbo, eubo (SPG's), mix or holder. Estimates of these are no bounds."
        },
    )
    eubo_power: float = field(default=1.5, metadata={"help": "Power b of eubo and mix (SPG: 1.5)."})
    num_draws_weight: int | None = field(
        default=None,
        metadata={"help": "Draws per answer in pass 1, for the weights; unset: --num_draws, as in pass 2."},
    )
    sync_ref_model: bool = field(
        default=False, metadata={"help": "Move the reference towards the policy during training (TR-DPO)."}
    )
    ref_model_mixup_alpha: float = field(
        default=0.6, metadata={"help": "Share of the policy in a synchronised reference; 1 copies it."}
    )
    ref_model_sync_steps: int = field(
        default=512, metadata={"help": "Optimizer steps between synchronisations; 1 is a moving average."}
    )
    curriculum_stages: int = field(
        default=0,
        metadata={
            "help": "Curry-DPO: train from easy to hard prompts (largest gap first) in so many stages and copy the "
            "policy to the reference after each; 0: off."
        },
    )
    sft_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of liked answers' -ELBO per token; unset: by objective (vrpo 0.05, kto 0)."},
    )
    replay_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of -ELBO per token of --replay_dataset_name; not in the paper."},
    )
    replay_batch_size: int = field(default=32, metadata={"help": "Replay rows per optimizer step, over all devices."})
    replay_num_draws: int = field(default=1, metadata={"help": "Draws per replay row."})
    precompute_ref_log_probs: bool = field(
        default=False, metadata={"help": "Score the reference once before training and keep only its values."}
    )
    ref_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder that `unveil reference` filled: its values, so no second model is held. Packs answer by "
            "answer (--pack_by_answer)."
        },
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
        if self.replay_weight < 0 or (self.sft_weight or 0) < 0:
            raise UserError("--sft_weight and --replay_weight: must not be negative")
        if self.replay_batch_size < 1:
            raise UserError(f"--replay_batch_size {self.replay_batch_size}: at least 1 is needed")
        if self.ref_cache:
            self.pack_by_answer = True
            if self.precompute_ref_log_probs:
                raise UserError("--precompute_ref_log_probs: --ref_cache holds the values already; give one of them")
        if self.pack_by_answer and self.tokens_per_batch < CANONICAL_TOKENS:
            raise UserError(
                f"--tokens_per_batch {self.tokens_per_batch}: --ref_cache and --pack_by_answer compute "
                f"{CANONICAL_TOKENS} tokens at a time, a number that the values depend on; give that many or more"
            )
        self._check_passes()
        self._check_reference_updates()

    def _check_passes(self) -> None:
        for name, choices in (("debias", DEBIAS), ("negative_surrogate", NEGATIVE_SURROGATES)):
            if getattr(self, name) not in choices:
                raise UserError(f"--{name} {getattr(self, name)}: unknown; choose one of {', '.join(choices)}")
        if self.debias != "none":
            self.refuse_dependent_draws(f"--debias {self.debias}")
        check_count(self, "num_draws_weight")
        if self.replay_weight or self.replay_num_draws < 1:
            check_count(self, "replay_num_draws")
        if self.num_draws_weight is not None and self.debias == "cross_fit":
            raise UserError("--num_draws_weight: has no meaning with --debias cross_fit, which weighs draw by draw")
        if self.negative_surrogate != "elbo":
            if self.num_draws_weight or self.debias != "none":
                raise UserError(
                    f"--negative_surrogate {self.negative_surrogate}: does not go with --num_draws_weight or --debias, "
                    "which know linear surrogates only; leave them out"
                )
            if self.combiner != "ht":
                raise UserError(
                    f"--negative_surrogate {self.negative_surrogate}: takes the plan's own weights of tokens; leave "
                    f"out --combiner {self.combiner}"
                )
            if not self.eubo_power > 0:
                raise UserError(f"--eubo_power {self.eubo_power}: must be above 0")

    def _check_reference_updates(self) -> None:
        if self.curriculum_stages < 0 or self.curriculum_stages == 1:
            raise UserError(f"--curriculum_stages {self.curriculum_stages}: give 2 or more stages, or 0 for none")
        if not (self.sync_ref_model or self.curriculum_stages):
            return
        name = "--sync_ref_model" if self.sync_ref_model else "--curriculum_stages"
        if self.precompute_ref_log_probs or self.ref_cache:
            flag = "--ref_cache" if self.ref_cache else "--precompute_ref_log_probs"
            raise UserError(f"{name}: the reference moves, so its values cannot be computed once; leave out {flag}")
        if not 0 < self.ref_model_mixup_alpha <= 1:
            raise UserError(f"--ref_model_mixup_alpha {self.ref_model_mixup_alpha}: must be above 0 and at most 1")
        if self.ref_model_sync_steps < 1:
            raise UserError(f"--ref_model_sync_steps {self.ref_model_sync_steps}: at least 1 is needed")
        if self.sync_ref_model and self.curriculum_stages:
            raise UserError("--sync_ref_model: --curriculum_stages refreshes the reference itself; give one of them")


@dataclass
class SFTConfig(DrawConfig):
    """Arguments of `SFTTrainer` (`unveil sft`)."""

    learning_rate: float = field(default=2.5e-5, metadata={"help": "Peak learning rate (LLaDA's SFT: 2.5e-5)."})
    num_draws: int = field(default=1, metadata={"help": "Monte-Carlo draws (forward passes) per answer."})
