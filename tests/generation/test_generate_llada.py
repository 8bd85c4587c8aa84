"""The sampler on a real (tiny, random) LLaDA: packing, batch size and the EOS rules hold there too."""

import pytest
import torch

from unveil.generation import GenerationConfig, generate
from unveil.models import Denoiser, LLaDAConfig, LLaDAModelLM

EOS, EOT, MASK = 60, 61, 63
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15], [16, 17, 18]]
CONFIGS = [
    GenerationConfig(gen_length=12, block_length=4, steps=6),
    GenerationConfig(gen_length=12, block_length=None, steps=5, temperature=0.9, top_p=0.9, remasking="random"),
    GenerationConfig(gen_length=12, block_length=6, steps=4, temperature=1.0, cfg_scale=1.0, eos_rule="late"),
]


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    config = LLaDAConfig(
        d_model=32,
        n_layers=2,
        n_heads=4,
        mlp_hidden_size=64,
        vocab_size=64,
        max_sequence_length=32,
        eos_token_id=EOS,
        mask_token_id=MASK,
        init_fn="normal",
        init_std=0.4,  # logits far enough apart that rounding decides nothing
    )
    return Denoiser(LLaDAModelLM(config).double())


@pytest.mark.parametrize("config", CONFIGS)
def test_a_batch_of_different_lengths_is_as_one_by_one(denoiser, config):
    together = generate(denoiser, PROMPTS, config, EOS, tokens_per_batch=10**6)
    for tokens_per_batch in (1, 35):
        assert generate(denoiser, PROMPTS, config, EOS, tokens_per_batch=tokens_per_batch) == together
    order = [3, 0, 4, 2, 1]
    shuffled = generate(denoiser, [PROMPTS[row] for row in order], config, EOS, indices=order)
    assert shuffled == [together[row] for row in order]


@pytest.mark.parametrize("block_length", [4, 6, None])
def test_packed_is_as_a_plain_loop_over_one_sequence(denoiser, block_length):
    # An independent, literal sampler for temperature 0: one prompt, full logits, one position at a time.
    config = GenerationConfig(gen_length=12, block_length=block_length)
    answers = generate(denoiser, PROMPTS, config, None)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([prompt + [MASK] * 12])
        masked = set(range(12))
        size = 12 // config.num_blocks
        for step in range(12):
            block = range(step // size * size, (step // size + 1) * size)
            with torch.no_grad():
                logits = denoiser.model(input_ids=ids).logits[0, len(prompt) :]
            logits[:, MASK] = -torch.inf
            probability, token = logits.softmax(-1).max(-1)
            place = max((position for position in block if position in masked), key=lambda at: probability[at].item())
            masked.remove(place)
            ids[0, len(prompt) + place] = token[place]
        assert answer == ids[0, len(prompt) :].tolist()


def test_end_rules_shape_the_answers_of_a_model_that_loves_end_tokens(denoiser):
    loving = Denoiser(denoiser.model)
    logits_at = loving.logits_at

    def biased(*arguments):
        logits = logits_at(*arguments).clone()
        logits[:, EOS] += 6.0
        return logits

    loving.logits_at = biased

    def mean_length(rule):
        config = GenerationConfig(gen_length=12, block_length=None, steps=12, temperature=0.7, eos_rule=rule)
        answers = generate(loving, PROMPTS * 8, config, EOS, extra_eos_ids=[EOT])
        assert all(EOS not in answer and EOT not in answer for answer in answers)
        return sum(map(len, answers)) / len(answers)

    assert mean_length("free") < mean_length("late") < mean_length("never") == 12
