"""Likelihoods of benchmark targets: exact where they must be, within their errors elsewhere, blind to companions."""

import math
import random

import numpy as np
import pytest
import torch

from unveil.draws import plan
from unveil.errors import UserError
from unveil.evaluation.likelihoods import Target, content_id, greedy_matches, plan_of, score_targets
from unveil.evaluation.windows import rolling_targets, total
from unveil.generation import GenerationConfig, generate
from unveil.likelihood import Response, score

PROMPT = tuple(range(20, 32))
LONG = Target(PROMPT, tuple(range(40, 50)))


def exact(denoiser, target: Target) -> float:
    """The ELBO by every subset."""
    drawn = plan(0, 0, 0, len(target.completion_ids), 1, "all_subsets")
    found = score(denoiser, [Response(0, target.prompt_ids, target.completion_ids)], [drawn])
    return float(found.values[0])


def targets(count: int, seed: int = 0) -> list[Target]:
    """Prompts and targets of many lengths, single tokens among them, some prompts shared."""
    numbers = random.Random(seed)
    found = []
    for place in range(count):
        prompt = tuple(numbers.randrange(10, 200) for _ in range(1 + place // 2 % 9))
        found.append(Target(prompt, tuple(numbers.randrange(10, 200) for _ in range(1 + numbers.randrange(8)))))
    return [*found, *(Target(PROMPT, (token,)) for token in (50, 60, 70))]


def test_a_single_token_costs_one_forward_and_is_exact(denoiser, settings):
    [found] = score_targets(denoiser, [Target(PROMPT, (99,))], settings())
    with torch.no_grad():
        logits = denoiser.model(input_ids=torch.tensor([[*PROMPT, 1]])).logits[0, -1]
    log_p = torch.log_softmax(logits.float(), dim=-1)
    assert found.value == pytest.approx(float(log_p[99]), abs=1e-6)
    assert (found.standard_error, found.tokens, found.forwards) == (0.0, 1, 1)
    assert found.greedy is (int(log_p.argmax()) == 99)


def test_options_of_one_token_share_their_forward(denoiser, settings):
    found = score_targets(denoiser, [Target(PROMPT, (token,)) for token in range(10, 20)], settings())
    assert [estimate.forwards for estimate in found] == [1] + [0] * 9
    everything = score_targets(denoiser, [Target(PROMPT, (token,)) for token in range(260)], settings())
    assert math.fsum(math.exp(estimate.value) for estimate in everything) == pytest.approx(1, abs=1e-5)
    best = max((e.value, i) for i, e in enumerate(everything) if i != 1)[1]
    assert [i for i, estimate in enumerate(everything) if estimate.greedy] == [best]


@pytest.mark.parametrize("length", [2, 3, 5])
def test_short_targets_are_exact_with_enough_draws(denoiser, settings, length):
    target = Target(PROMPT, LONG.completion_ids[:length])
    [found] = score_targets(denoiser, [target], settings(num_draws=2**length - 1))
    assert found.value == pytest.approx(exact(denoiser, target), abs=1e-5)
    assert found.standard_error == 0.0
    assert found.forwards == 2**length - 1
    [estimated] = score_targets(denoiser, [target], settings(num_draws=2**length - 1, exact_short=False))
    assert estimated.forwards == 2**length - 1
    if length < 5:  # so few tokens repeat the same masks: the error is not known
        assert estimated.standard_error is None
    else:
        assert estimated.standard_error > 0


def test_all_subsets_by_name_gives_the_exact_value(denoiser, settings):
    [found] = score_targets(denoiser, [LONG], settings(num_draws=1, draw_design="all_subsets"))
    assert found.value == pytest.approx(exact(denoiser, LONG), rel=1e-6)
    assert found.forwards == 2**10 - 1


def test_monte_carlo_mean_is_within_its_standard_errors(denoiser, settings):
    """Sixty seeds of seven draws: the mean is near the exact value, and no seed is wildly off its own error."""
    target = Target(PROMPT, LONG.completion_ids[:7])
    truth = exact(denoiser, target)
    found = [score_targets(denoiser, [target], settings(num_draws=7, seed=seed))[0] for seed in range(60)]
    values = np.array([estimate.value for estimate in found])
    assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / math.sqrt(len(values))
    assert values.std(ddof=1) > 0
    mean_square = np.mean([estimate.standard_error**2 for estimate in found])  # errs on the large side
    assert 0.5 * values.var(ddof=1) < mean_square < 20 * values.var(ddof=1)


def test_companions_and_order_change_no_bit(denoiser, settings):
    asked = targets(20)
    together = score_targets(denoiser, asked, settings(num_draws=6))
    alone = [score_targets(denoiser, [target], settings(num_draws=6))[0] for target in asked]
    order = random.Random(1).sample(range(len(asked)), len(asked))
    shuffled = score_targets(denoiser, [asked[i] for i in order], settings(num_draws=6))
    assert [e.value for e in alone] == [e.value for e in together]
    assert [shuffled[order.index(i)].value for i in range(len(asked))] == [e.value for e in together]
    assert [e.standard_error for e in alone] == [e.standard_error for e in together]


@pytest.mark.parametrize("budget", [1, 64, 4096])
def test_packed_batches_change_rounding_only(denoiser, settings, budget):
    asked = targets(20)
    isolated = score_targets(denoiser, asked, settings(num_draws=6))
    packed = score_targets(denoiser, asked, settings(num_draws=6, batching="packed", tokens_per_batch=budget))
    assert [e.value for e in packed] == pytest.approx([e.value for e in isolated], rel=1e-5)
    assert [e.greedy for e in packed] == [e.greedy for e in isolated]


def test_draws_follow_from_content_and_seed(settings):
    options = settings(num_draws=4)
    same, other = plan_of(LONG, options), plan_of(Target(PROMPT[1:], LONG.completion_ids), options)
    assert all((a == b).all() for a, b in zip(same.positions, plan_of(LONG, options).positions))
    assert not all(np.array_equal(a, b) for a, b in zip(same.positions, other.positions))
    reseeded = plan_of(LONG, settings(num_draws=4, seed=1))
    assert not all(np.array_equal(a, b) for a, b in zip(same.positions, reseeded.positions))


def test_where_prompt_and_target_meet_is_part_of_the_content():
    assert content_id((1, 2), (3,)) != content_id((1,), (2, 3))
    assert 0 <= content_id((1, 2), (3,)) < 2**62


def test_one_draw_says_nothing_of_its_error(denoiser, settings):
    [found] = score_targets(denoiser, [LONG], settings(num_draws=1, draw_design="iid"))
    assert found.standard_error is None


def test_greedy_is_what_the_sampler_writes(denoiser, settings):
    config = GenerationConfig(gen_length=6, steps=6, block_length=None)
    written = tuple(generate(denoiser, [list(PROMPT)], config, None)[0])
    asked = [Target(PROMPT, written), Target(PROMPT, (*written[:-1], written[-1] ^ 1)), Target(PROMPT, written[:2])]
    assert greedy_matches(denoiser, asked, settings())[:2] == [True, False]
    assert greedy_matches(denoiser, asked, settings(batching="packed"))[:2] == [True, False]


def test_single_tokens_are_greedy_where_the_sampler_writes_them(denoiser, settings):
    [token] = generate(denoiser, [list(PROMPT)], GenerationConfig(gen_length=1, steps=1, block_length=None), None)[0]
    found = score_targets(denoiser, [Target(PROMPT, (token,)), Target(PROMPT, (token ^ 1,))], settings())
    assert [estimate.greedy for estimate in found] == [True, False]


def test_values_that_are_no_numbers_are_refused(denoiser, settings):
    next(denoiser.model.parameters()).data.fill_(math.nan)
    with pytest.raises(UserError, match="not a finite number"):
        score_targets(denoiser, [LONG], settings())


@pytest.mark.parametrize(("tokens", "context"), [(5, 8), (8, 8), (9, 8), (40, 8), (41, 7), (3, None)])
def test_windows_score_every_token_once_within_the_context(tokens, context):
    ids = list(range(100, 100 + tokens))
    windows = rolling_targets(ids, context)
    assert [token for window in windows for token in window.completion_ids] == ids
    for window in windows:
        assert context is None or len(window.prompt_ids) + len(window.completion_ids) <= context
        start = window.completion_ids[0] - 100
        assert list(window.prompt_ids) == ids[max(0, start - len(window.prompt_ids)) : start]
    assert rolling_targets([], context) == []


def test_a_prefix_stands_before_the_first_window():
    windows = rolling_targets(range(10), 6, prefix=(99,))
    assert (windows[0].prompt_ids, windows[0].completion_ids) == ((99,), (0, 1, 2, 3, 4))
    assert 99 not in windows[1].prompt_ids


def test_errors_of_windows_add_as_variances(denoiser, settings):
    found = score_targets(denoiser, rolling_targets(range(20, 80), 24), settings(num_draws=4))
    summed = total(found)
    assert summed.value == pytest.approx(sum(e.value for e in found))
    assert summed.standard_error == pytest.approx(math.sqrt(sum(e.standard_error**2 for e in found)))
    assert total([found[0]._replace(standard_error=None), found[1]]).standard_error is None
