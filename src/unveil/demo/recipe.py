"""`Recipe`: every number that the demo depends on, in one place.

The defaults were chosen on the tuning split (prompts and texts that the report never shows); the command, the
benchmark and the report all read them from here.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from unveil.errors import UserError
from unveil.generation import GenerationConfig

Split = Literal["tuning", "report"]


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Recipe:
    """Settings of one run of the demo: alignment, sampling, measurement, seeds."""

    # Alignment
    learning_rate: float = _setting(5e-4, "peak learning rate (AdamW, cosine)")
    steps: int = _setting(100, "optimizer steps")
    batch_size: int = _setting(64, "thumbs per step")
    num_draws: int = _setting(2, "Monte-Carlo draws per answer")
    beta: float = _setting(0.1, "inverse temperature, per nat of margin")
    baseline: str = _setting("batch", "what margins are centred on")
    desirable_weight: float = _setting(1.3, "weight of thumbs up")
    undesirable_weight: float = _setting(0.7, "weight of thumbs down")
    sft_weight: float = _setting(0.0, "weight of -ELBO per token on thumbs up (0 in the paper)")
    replay_weight: float = _setting(0.5, "weight of -ELBO per token on replayed pretraining text (not in the paper)")
    replay_batch_size: int = _setting(48, "replayed texts per step")
    end_of_answer: str = _setting("scored_tail", "which end-of-text tokens the margins of training count")
    canvas_length: int = _setting(40, "tokens of an answer with its end-of-text fill, as in pretraining")
    weight_decay: float = _setting(0.01, "AdamW's weight decay")
    max_grad_norm: float = _setting(1.0, "gradient norm is clipped here")
    # Sampling
    temperature: float = _setting(0.8, "sampling temperature")
    top_p: float = _setting(0.9, "nucleus of the sampling distribution")
    sampling_steps: int = _setting(16, "forward passes per answer (random order, one block)")
    # Measurement
    num_prompts: int = _setting(800, "held-out prompts that base and aligned model answer")
    num_texts: int = _setting(2000, "held-out texts per set, at most")
    eval_draws: int = _setting(2, "draws per held-out text for NELBO and margins")
    # Seeds
    seed: int = _setting(0, "data order, draws, sampling of the aligned model")
    sampling_seed: int = _setting(1, "sampling of the base model (the null comparison takes the next one)")

    def __post_init__(self) -> None:
        counts = "steps", "batch_size", "canvas_length", "num_prompts", "num_texts", "eval_draws", "replay_batch_size"
        for name in counts:
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: at least 1 is needed")
        self.generation(0)

    def generation(self, seed: int) -> GenerationConfig:
        """How both models answer: random order, since that is the process whose likelihood the ELBO bounds."""
        return GenerationConfig(
            gen_length=self.canvas_length,
            steps=self.sampling_steps,
            block_length=None,
            temperature=self.temperature,
            top_p=self.top_p,
            remasking="random",
            seed=seed,
        )

    @property
    def base_seed(self) -> int:
        """Sampling seed of the base's answers."""
        return self.sampling_seed

    @property
    def null_seed(self) -> int:
        """Sampling seed of the base's second answers, which are compared with its first."""
        return self.sampling_seed + 1

    @property
    def aligned_seed(self) -> int:
        """Sampling seed of the aligned model: never that of the base, so that answers are independent samples."""
        return self.sampling_seed + 2 + self.seed

    def as_dict(self) -> dict[str, Any]:
        """Settings by name, ready for JSON."""
        return asdict(self)

    def meanings(self) -> dict[str, str]:
        """What each setting is, by name."""
        return {f.name: f.metadata["meaning"] for f in fields(self)}
