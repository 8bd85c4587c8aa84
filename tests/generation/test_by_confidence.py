"""Parallel decoding by confidence: what it commits, its limits, and the rules that hold for it too."""

from dataclasses import replace

import pytest
import torch
from table_denoiser import TableDenoiser

from unveil.generation import GenerationConfig, Recorder, generate, sample

PROMPTS = [[0, 1], [2], [1, 1, 1, 0], [], [2, 2], [0, 1], [1, 2, 0, 1, 2, 2, 1], [0]]
MEASURES = ["low_confidence", "entropy", "margin"]


def table(**more):
    return TableDenoiser(vocab=3, length=6, **more)


def options(**more):
    return GenerationConfig(**{"gen_length": 6, "block_length": 3, "temperature": 1.0, **more})


def recorded(config, denoiser=None, eos=None):
    denoiser = denoiser or table()
    recorder = Recorder(PROMPTS, config, denoiser.mask_token_id)
    generate(denoiser, PROMPTS, config, eos, observer=recorder)
    return recorder.trajectories


@pytest.mark.parametrize("remasking", MEASURES)
@pytest.mark.parametrize("bar", [{"confidence_threshold": 1.0}, {"confidence_factor": 1e-9}])
def test_a_bar_that_nothing_reaches_is_one_token_per_forward(remasking, bar):
    plain = options(remasking=remasking)
    assert generate(table(), PROMPTS, plain, 2) == generate(table(), PROMPTS, replace(plain, **bar), 2)


@pytest.mark.parametrize("bar", [{"confidence_threshold": 0.0}, {"confidence_factor": 100.0}])
def test_a_bar_that_all_reach_is_one_forward_per_block(bar):
    fast = sample(table(), PROMPTS, options(**bar), None)
    assert fast.answers == generate(table(), PROMPTS, options(steps=2), None)
    assert fast.statistics.forwards_per_answer == 2
    assert fast.statistics.tokens_per_forward == 3


@pytest.mark.parametrize("remasking", MEASURES)
def test_a_step_commits_what_is_above_the_threshold_and_at_least_the_surest(remasking):
    config = options(block_length=None, confidence_threshold=0.5, remasking=remasking, early_exit=False)
    everything = recorded(replace(config, confidence_threshold=0.0))  # one step, which tells every confidence
    counts = set()
    for whole, path in zip(everything, recorded(config), strict=True):
        (only,) = whole.steps
        confidence = dict(zip(only.positions, only.confidences, strict=True))
        expected = {p for p, c in confidence.items() if c > 0.5} or {max(confidence, key=confidence.__getitem__)}
        assert set(path.steps[0].positions) == expected
        counts.add(len(expected))
        assert sorted(p for step in path.steps for p in step.positions) == list(range(6))
    assert len(counts) > 1


def test_a_factor_commits_the_most_tokens_that_pass_fast_dllms_rule():
    config = options(block_length=None, confidence_factor=1.2, early_exit=False)
    everything = recorded(options(block_length=None, confidence_threshold=0.0))
    counts = set()
    for whole, path in zip(everything, recorded(config), strict=True):
        surest = sorted(whole.steps[0].confidences, reverse=True)
        most = max((n for n in range(1, 7) if (n + 1) * (1 - surest[n - 1]) < 1.2), default=1)
        assert len(path.steps[0].positions) == most
        counts.add(most)
    assert len(counts) > 1


def test_late_holds_end_tokens_back_until_nothing_else_is_masked():
    denoiser = table()
    denoiser.table = torch.zeros_like(denoiser.table)
    denoiser.prompt_effect.zero_()
    denoiser.table[:, 1:, 2] = -50.0
    denoiser.table[:, 0, 2] = 50.0  # position 0 is an end token, the others are uncertain
    config = options(block_length=None, confidence_threshold=0.9, early_exit=False)
    for rule, first in (("free", True), ("late", False)):
        path = recorded(replace(config, eos_rule=rule), denoiser, eos=2)[0]
        assert (0 in path.steps[0].positions) == first
        assert (path.steps[-1].positions == [0]) == (not first)


def test_never_holds_at_every_bar():
    denoiser = table()
    denoiser.table[..., 2] = 20.0
    config = options(confidence_threshold=0.4, eos_rule="never")
    assert all(len(answer) == 6 for answer in generate(denoiser, PROMPTS, config, 2))


@pytest.mark.parametrize("remasking", [*MEASURES, "random"])
@pytest.mark.parametrize("eos_rule", ["free", "late"])
def test_answers_that_leave_early_are_those_that_stay(remasking, eos_rule):
    config = options(remasking=remasking, eos_rule=eos_rule)
    early = sample(table(), PROMPTS * 6, config, 2)
    whole = sample(table(), PROMPTS * 6, replace(config, early_exit=False), 2)
    assert early.answers == whole.answers
    assert early.statistics.token_forwards < whole.statistics.token_forwards
    assert whole.statistics.forwards_per_answer == 6


def test_everything_stops_when_all_answers_are_settled():
    denoiser = table()
    denoiser.table[..., 0, 2] = 50.0  # every answer begins with an end token
    found = sample(denoiser, PROMPTS, options(block_length=1), 2)
    assert found.answers == [[]] * len(PROMPTS)
    assert found.statistics.forwards == len(denoiser.calls) == 1


def test_the_cost_is_counted():
    config = options(block_length=None, steps=2, cfg_scale=1.0)
    lengths = sum(len(prompt) + 6 for prompt in PROMPTS)
    found = sample(table(), PROMPTS, config, None).statistics
    assert (found.answers, found.answer_tokens, found.committed) == (8, 48, 48)
    assert (found.forwards, found.answer_forwards, found.token_forwards) == (4, 32, 4 * lengths)
    assert (found + found).forwards_per_answer == found.forwards_per_answer == 4
    assert found.describe().startswith("1.50 tokens per forward, 4.0 forwards per answer; 4 forwards in all, of 2")
