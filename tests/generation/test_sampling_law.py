"""The sampler's distribution is the one the method defines, checked against exact enumeration."""

import math
from collections import Counter
from itertools import permutations, product

import pytest
from table_denoiser import TableDenoiser

from unveil.generation import GenerationConfig, generate

PROMPT = [1, 0, 1]
SAMPLES = 30_000


def assert_samples_follow(law, denoiser, config):
    assert math.isclose(sum(law.values()), 1.0, rel_tol=1e-9)
    answers = generate(denoiser, [PROMPT] * SAMPLES, config, None, tokens_per_batch=10**6)
    counts = Counter(map(tuple, answers))
    assert set(counts) <= set(law)
    expected = {answer: mass * SAMPLES for answer, mass in law.items() if mass * SAMPLES >= 5}
    rest = SAMPLES - sum(expected.values())
    chi_square = sum((counts[answer] - mean) ** 2 / mean for answer, mean in expected.items())
    if rest >= 5:
        chi_square += (SAMPLES - sum(counts[answer] for answer in expected) - rest) ** 2 / rest
    freedom = len(expected) - (rest < 5)
    assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom)  # too good a fit is wrong as well


def options(length, **more):
    return GenerationConfig(**{"gen_length": length, "block_length": None, "temperature": 1.0, **more})


def test_random_order_one_token_per_step_is_the_any_order_process():
    # p(y) = average over all orders s of prod_j p(y_{s_j} | y_{s_1..s_{j-1}}): what the ELBO bounds.
    denoiser = TableDenoiser(vocab=3, length=3)
    config = options(3, remasking="random")
    law = {}
    for answer in product(range(3), repeat=3):
        total = 0.0
        for order in permutations(range(3)):
            canvas, path = [denoiser.mask_token_id] * 3, 1.0
            for position in order:
                path *= float(denoiser.probabilities(canvas, PROMPT)[position, answer[position]])
                canvas[position] = answer[position]
            total += path / 6
        law[answer] = total
    enumerated = denoiser.law(PROMPT, config)
    assert all(math.isclose(enumerated[answer], mass, rel_tol=1e-9) for answer, mass in law.items())
    assert_samples_follow(law, denoiser, config)


@pytest.mark.parametrize(
    "more",
    [
        {"remasking": "random", "steps": 2},  # two tokens at once, then one
        {"remasking": "random", "temperature": 0.6},
        {"remasking": "low_confidence"},
        {"remasking": "low_confidence", "steps": 2},
        {"remasking": "low_confidence", "temperature": 1.7},
    ],
)
def test_three_tokens_follow_the_enumerated_law(more):
    denoiser = TableDenoiser(vocab=3, length=3, seed=1)
    config = options(3, **more)
    assert_samples_follow(denoiser.law(PROMPT, config), denoiser, config)


@pytest.mark.parametrize("remasking", ["random", "low_confidence"])
def test_blocks_follow_the_enumerated_law(remasking):
    denoiser = TableDenoiser(vocab=2, length=4, seed=2)
    config = options(4, block_length=2, remasking=remasking)
    assert_samples_follow(denoiser.law(PROMPT, config), denoiser, config)
