"""A random model that reads the demo's data, small enough to run the whole demo in seconds."""

from typing import Any

import pytest
import torch

from unveil.demo import align
from unveil.demo.base import Base, load_base, shipped_folder
from unveil.demo.recipe import Recipe
from unveil.models import LLaDAConfig, LLaDAModelLM, load_tokenizer


@pytest.fixture(scope="session")
def random_base(tmp_path_factory) -> Base:
    """Random weights behind the demo's own tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer: Any = load_tokenizer(shipped_folder())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LLaDAConfig(
            vocab_size=4096,
            d_model=16,
            n_layers=1,
            n_heads=2,
            mlp_hidden_size=24,
            max_sequence_length=128,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            mask_token_id=tokenizer.mask_token_id,
        )
        LLaDAModelLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))
    return load_base(folder)


@pytest.fixture(scope="session")
def small_recipe() -> Recipe:
    """Two steps, sixteen prompts."""
    return Recipe(
        steps=2, batch_size=8, replay_batch_size=12, num_draws=2, num_prompts=16, num_texts=24, eval_draws=1,
        sampling_steps=4,
    )  # fmt: skip


@pytest.fixture(scope="module")
def fewer_rows():
    """One in twenty thumbs and replayed texts, since tokenising all of them is most of a small run."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("feedback_rows", "replay_rows"):
            rows = getattr(align, name)()[::20]
            patch.setattr(align, name, lambda rows=rows: rows)
        yield
