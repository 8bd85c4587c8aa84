"""How far the likelihood of a response moves by rounding to bfloat16, and by a dropout that is left on.

Pass 2 of a step must see what pass 1 saw. In float32 a relative gap of 1e-3 tells that it does not; in bfloat16
rounding alone may reach that. This prints both on small random models: the tolerance (`COARSE_TOLERANCE` in
`unveil.training.preference_trainer`) lies between.

    python benchmarks/passes_gap.py
"""

import tempfile
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from unveil.likelihood import combine
from unveil.models import LLaDAConfig, LLaDAModelLM
from unveil.training import PreferenceConfig, PreferenceTrainer
from unveil.training.reference import row_sums_of

MODELS = {"2 layers of 32, answers of 1 to 9": (24, 32, 2, 1, 10), "4 layers of 64, 10 to 119": (200, 64, 4, 10, 120)}
DROPOUTS = (0.3, 0.1, 0.05, 0.01)
ANSWERS = 32


def answers(vocabulary: int, least: int, most: int) -> list[dict[str, Any]]:
    """Random responses of unequal lengths."""
    generator = np.random.default_rng(0)

    def tokens(low: int, high: int) -> list[int]:
        return generator.integers(4, vocabulary, generator.integers(low, high)).tolist()

    return [
        {"example_id": i, "prompt_ids": tokens(1, 12), "completion_ids": tokens(least, most), "tail_ids": [],
         "truncated": False, "label": bool(i % 2)}
        for i in range(ANSWERS)
    ]  # fmt: skip


def likelihoods(model: torch.nn.Module, rows: list[dict[str, Any]], bf16: bool, training: bool) -> torch.Tensor:
    """B of every response, nats."""
    args = PreferenceConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, bf16=bf16, report_to="none", disable_tqdm=True, num_draws=4,
        disable_dropout=False,
    )  # fmt: skip
    trainer = PreferenceTrainer(model, args, train_dataset=Dataset.from_list(rows))
    trainer.denoiser.model = trainer.accelerator.prepare_model(model, evaluation_mode=True)
    batch = trainer.prepare(rows, 0)
    model.train(training)
    torch.manual_seed(0)
    return combine(row_sums_of(batch, trainer.without_graph(batch)), batch.plans).values.double()


def main() -> None:
    """Print the largest relative gap of a response, by model and cause."""
    print("model | bfloat16 against float32 | " + " | ".join(f"dropout {p:g}" for p in DROPOUTS))
    for name, (vocabulary, width, layers, least, most) in MODELS.items():
        rows = answers(vocabulary, least, most)

        def make(dropout: float, size: tuple[int, int, int] = (vocabulary, width, layers)) -> LLaDAModelLM:
            torch.manual_seed(0)
            config = LLaDAConfig(
                vocab_size=size[0], d_model=size[1], n_layers=size[2], n_heads=4, mlp_hidden_size=2 * size[1],
                max_sequence_length=256, eos_token_id=0, pad_token_id=0, mask_token_id=1, residual_dropout=dropout,
            )  # fmt: skip
            return LLaDAModelLM(config).eval()

        exact = likelihoods(make(0.0), rows, bf16=False, training=False)
        gaps = [exact - likelihoods(make(0.0), rows, bf16=True, training=False)]
        gaps += [exact - likelihoods(make(p), rows, bf16=True, training=True) for p in DROPOUTS]
        print(name, *(f"{(gap.abs() / exact.abs().clamp(min=1)).max():.1e}" for gap in gaps), sep=" | ")


if __name__ == "__main__":
    main()
