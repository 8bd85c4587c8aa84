"""Block-wise key-value caches against the exact path, on real (tiny, random) networks in double precision.

Where kept keys and values are what would be computed anew, answers are equal: always in a network of one layer, and in
any network that renews them at every step. Elsewhere the cache is an approximation.
"""

from dataclasses import replace

import pytest
import torch
from table_denoiser import TableDenoiser

from unveil.errors import UserError
from unveil.generation import GenerationConfig, generate, sample
from unveil.models import Denoiser

EOS, MASK = 0, 1
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15], [16, 17, 18], [19, 20, 21], []]
CONFIGS = {
    "schedule": GenerationConfig(gen_length=12, block_length=4, steps=6),
    "threshold": GenerationConfig(gen_length=12, block_length=4, confidence_threshold=0.05, temperature=0.8),
    "guided": GenerationConfig(gen_length=12, block_length=6, cfg_scale=1.0, confidence_factor=1.95),
    "random": GenerationConfig(gen_length=12, block_length=6, steps=4, temperature=1.0, remasking="random"),
    "late": GenerationConfig(gen_length=12, block_length=6, steps=6, temperature=1.0, eos_rule="late"),
    "one_block": GenerationConfig(gen_length=12, block_length=None, steps=6, temperature=1.0),
}


@pytest.fixture
def network(tiny_llada):
    """`network(layers)`: logits far enough apart that rounding decides nothing."""
    return lambda layers: Denoiser(
        tiny_llada(vocab_size=64, n_layers=layers, dtype=torch.float64, init_fn="normal", init_std=0.4)
    )


def answers(denoiser, config, tokens_per_batch=10**6, eos: int | None = EOS):
    return generate(denoiser, PROMPTS, config, eos, tokens_per_batch=tokens_per_batch)


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_one_layer_has_the_same_answers_with_fewer_tokens(network, config, cache):
    denoiser, kept = network(1), replace(config, cache=cache)
    exact = sample(denoiser, PROMPTS, config, EOS)
    found = sample(denoiser, PROMPTS, kept, EOS)
    assert found.answers == exact.answers
    assert found.statistics.forwards == exact.statistics.forwards
    assert found.statistics.token_forwards < exact.statistics.token_forwards


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_renewing_at_every_step_is_exact(network, config, cache):
    denoiser = network(3)
    assert answers(denoiser, replace(config, cache=cache, cache_interval=1)) == answers(denoiser, config)


@pytest.mark.parametrize("cache", ["prefix", "dual"])
def test_blocks_of_one_step_are_exact(network, cache):
    denoiser, config = network(3), GenerationConfig(gen_length=12, block_length=4, steps=3)
    assert answers(denoiser, replace(config, cache=cache)) == answers(denoiser, config)


def test_one_block_without_a_prompt_leaves_nothing_to_keep(network):
    denoiser, config = network(3), GenerationConfig(gen_length=12, block_length=None)
    for cache in ("prefix", "dual"):
        assert generate(denoiser, [[]], replace(config, cache=cache), None) == generate(denoiser, [[]], config, None)


@pytest.mark.parametrize("cache", ["prefix", "dual"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_deep_networks_too_answer_in_batches_as_one_by_one(network, config, cache):
    denoiser, kept = network(3), replace(config, cache=cache)
    together = answers(denoiser, kept)
    for tokens_per_batch in (1, 40):
        assert answers(denoiser, kept, tokens_per_batch) == together


def test_in_deep_networks_a_cache_is_an_approximation(network):
    """It would be suspicious if it were not: in a random network of three layers every token moves the others."""
    denoiser = network(3)
    config = GenerationConfig(gen_length=12, block_length=6)
    exact = answers(denoiser, config, eos=None)
    for cache in ("prefix", "dual"):
        assert answers(denoiser, replace(config, cache=cache), eos=None) != exact


def test_a_network_that_keeps_nothing_is_refused(tiny_llada):
    config = GenerationConfig(gen_length=4, block_length=2, cache="prefix")
    with pytest.raises(UserError, match="--cache prefix: needs keys and values, and this model reads a token's logits"):
        generate(Denoiser(tiny_llada(), logit_shift=1), [[5]], config, None)


def test_other_architectures_are_refused():
    config = GenerationConfig(gen_length=4, block_length=2, cache="dual")
    with pytest.raises(UserError, match=r"--cache dual: .* this model keeps none; give --cache none"):
        generate(TableDenoiser(vocab=3, length=4), [[0]], config, None)
