"""Whatever the sampler, lengths, companions and batch sizes: a prompt's answer is the one it gets alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from table_denoiser import TableDenoiser

from unveil.generation import GenerationConfig, generate

LENGTH = 4
PLAIN = {"gen_length": LENGTH, "temperature": 1.0}
SAMPLERS = {
    **{name: {"remasking": name} for name in ("low_confidence", "random", "entropy", "margin")},
    **{f"{name}, steps": {"remasking": name, "steps": 2} for name in ("low_confidence", "random", "entropy")},
    "blocks": {"block_length": 2},
    "random blocks": {"block_length": 2, "remasking": "random", "steps": 2},
    "late": {"eos_rule": "late"},
    "random late": {"eos_rule": "late", "remasking": "random", "block_length": 2},
    "threshold": {"confidence_threshold": 0.5},
    "threshold blocks": {"confidence_threshold": 0.4, "block_length": 2, "remasking": "margin"},
    "threshold late": {"confidence_threshold": 0.4, "block_length": 2, "eos_rule": "late"},
    "factor": {"confidence_factor": 1.3, "block_length": 2, "remasking": "entropy"},
    "guided": {"cfg_scale": 1.0, "confidence_threshold": 0.6},
    "nucleus": {"top_p": 0.8},
    "top k": {"top_k": 2, "top_p": 0.9},
    "whole": {"early_exit": False, "confidence_threshold": 0.5},
}


@pytest.mark.parametrize("name", SAMPLERS)
@settings(max_examples=5, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=7),
    tokens_per_batch=st.integers(1, 60),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 2**63 - 1),
)
def test_batched_is_single(name, prompts, tokens_per_batch, order, seed):
    denoiser = TableDenoiser(vocab=3, length=LENGTH)
    config = GenerationConfig(**{"block_length": None, **PLAIN, **SAMPLERS[name], "seed": seed})
    alone = [generate(denoiser, [prompt], config, 2, indices=[row])[0] for row, prompt in enumerate(prompts)]
    rows = list(range(len(prompts)))
    order.shuffle(rows)
    found = generate(
        denoiser, [prompts[row] for row in rows], config, 2, indices=rows, tokens_per_batch=tokens_per_batch
    )
    assert found == [alone[row] for row in rows]
