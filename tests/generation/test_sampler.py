"""What `generate` promises whatever the model: the schedule, end tokens, guidance, independence, errors."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from table_denoiser import TableDenoiser

from unveil.errors import UserError
from unveil.generation import GenerationConfig, generate

CONFIGS = {
    "confident": GenerationConfig(gen_length=6, block_length=None, steps=4, temperature=1.0),
    "confident_blocks": GenerationConfig(gen_length=6, block_length=3, steps=4, temperature=1.0, top_p=0.9),
    "random": GenerationConfig(gen_length=6, block_length=None, steps=4, temperature=1.0, remasking="random"),
    "random_blocks": GenerationConfig(gen_length=6, block_length=2, steps=6, temperature=1.0, remasking="random"),
    "guided": GenerationConfig(gen_length=6, block_length=3, steps=4, temperature=1.0, cfg_scale=1.5),
    "random_late": GenerationConfig(
        gen_length=6, block_length=3, steps=4, temperature=1.0, remasking="random", eos_rule="late"
    ),
}
PROMPTS = [[0, 1], [2], [1, 1, 1, 0], [], [2, 2], [0, 1], [1, 2, 0, 1, 2, 2, 1], [0]]


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def table(**more):
    return TableDenoiser(vocab=3, length=6, **more)


def canvases(denoiser):
    return [canvas for canvas, _ in denoiser.calls]


@pytest.mark.parametrize("remasking", ["low_confidence", "random"])
def test_temperature_zero_does_not_depend_on_the_seed(remasking):
    # Blocks of one token, so that a random order has no choice either.
    config = GenerationConfig(gen_length=6, block_length=1, temperature=0.0, remasking=remasking)
    first = generate(table(), PROMPTS, config, None)
    assert first == generate(table(), PROMPTS, replace(config, seed=1), None)
    assert first != generate(table(), PROMPTS, replace(config, temperature=1.0), None)


def test_confidence_order_at_temperature_zero_does_not_depend_on_the_seed():
    config = GenerationConfig(gen_length=6, block_length=None, steps=3)
    assert generate(table(), PROMPTS, config, None) == generate(table(), PROMPTS, replace(config, seed=1), None)


def test_a_seed_gives_the_same_answers_again_and_another_seed_others(config):
    answers = generate(table(), PROMPTS, config, 2)
    assert answers == generate(table(), PROMPTS, config, 2)
    assert answers != generate(table(), PROMPTS, replace(config, seed=1), 2)


def test_every_position_is_committed_once_and_on_schedule(config):
    denoiser = table()
    answers = generate(denoiser, PROMPTS, replace(config, early_exit=False), 2, tokens_per_batch=10**6)
    mask = denoiser.mask_token_id
    seen = canvases(denoiser)
    if config.cfg_scale:
        assert all(torch.equal(a, b) for a, b in zip(seen[::2], seen[1::2], strict=True))
        seen = seen[::2]
    assert len(seen) == config.num_steps
    assert (seen[0] == mask).all()
    plan = config.commits_per_step * config.num_blocks
    size = 6 // config.num_blocks
    for step, (before, after) in enumerate(pairwise(seen)):
        changed = before != after
        assert (before[changed] == mask).all()
        assert (changed.sum(1) == plan[step]).all()
        block = step // len(config.commits_per_step)
        assert not changed[:, : block * size].any()
        assert not changed[:, (block + 1) * size :].any()
    assert ((seen[-1] == mask).sum(1) == plan[-1]).all()
    assert all(mask not in answer for answer in answers)


def test_random_order_asks_for_logits_only_where_it_commits():
    denoiser = table()
    generate(denoiser, PROMPTS, CONFIGS["random"], None, tokens_per_batch=10**6)
    assert [len(index) for _, index in denoiser.calls] == [len(PROMPTS) * count for count in (2, 2, 1, 1)]


def test_confidence_order_asks_for_logits_only_where_the_block_is_masked():
    denoiser = table()
    generate(denoiser, PROMPTS, CONFIGS["confident_blocks"], None, tokens_per_batch=10**6)
    assert [len(index) for _, index in denoiser.calls] == [len(PROMPTS) * masked for masked in (3, 1, 3, 1)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_mask_token_is_never_an_answer(temperature, config):
    denoiser = table()
    denoiser.table[..., denoiser.mask_token_id] = 50.0
    rule = "late" if config.eos_rule == "late" else "never"
    answers = generate(denoiser, PROMPTS * 20, replace(config, temperature=temperature, eos_rule=rule), 2)
    assert {token for answer in answers for token in answer} <= {0, 1}


def test_an_answer_ends_before_the_first_end_token():
    config = CONFIGS["random"]
    whole = generate(table(), PROMPTS * 30, config, None)
    cut = generate(table(), PROMPTS * 30, config, 2)
    both = generate(table(), PROMPTS * 30, config, 2, extra_eos_ids=[0])
    for full, one, two in zip(whole, cut, both, strict=True):
        assert one == (full[: full.index(2)] if 2 in full else full)
        ends = [position for position, token in enumerate(full) if token in (0, 2)]
        assert two == full[: ends[0] if ends else 6]
    assert {len(answer) for answer in cut} == {0, 1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("temperature", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("remasking", ["low_confidence", "random"])
def test_never_forbids_end_tokens_at_every_temperature(temperature, remasking):
    denoiser = table()
    denoiser.table[..., 2] = 20.0
    config = GenerationConfig(
        gen_length=6, block_length=3, temperature=temperature, remasking=remasking, eos_rule="never"
    )
    answers = generate(denoiser, PROMPTS * 10, config, 2)
    assert all(len(answer) == 6 for answer in answers)
    answers = generate(denoiser, PROMPTS * 10, config, 2, extra_eos_ids=[1])
    assert answers == [[0] * 6] * len(answers)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("remasking", ["low_confidence", "random"])
def test_late_commits_end_tokens_last_at_every_temperature(temperature, remasking):
    # Position 0 is all but certainly an end token, the others are uncertain and never one.
    denoiser = table()
    denoiser.table = torch.zeros_like(denoiser.table)
    denoiser.prompt_effect.zero_()
    denoiser.table[:, 1:, 2] = -50.0
    denoiser.table[:, 0, 2] = 50.0
    config = GenerationConfig(
        gen_length=6, block_length=None, temperature=temperature, remasking=remasking, early_exit=False
    )

    def committed_before_the_last_step(rule):
        denoiser.calls.clear()
        generate(denoiser, PROMPTS, replace(config, eos_rule=rule), 2, tokens_per_batch=10**6)
        return (canvases(denoiser)[-1][:, 0] != denoiser.mask_token_id).tolist()

    assert not any(committed_before_the_last_step("late"))
    assert any(committed_before_the_last_step("free"))


def test_late_changes_nothing_where_no_end_token_is_predicted():
    for name in ("confident", "confident_blocks", "random", "random_blocks"):
        denoiser = table()
        denoiser.table[..., 2] = -50.0
        free = generate(denoiser, PROMPTS, CONFIGS[name], 2)
        assert free == generate(denoiser, PROMPTS, replace(CONFIGS[name], eos_rule="late"), 2)


def test_guidance_of_zero_is_plain_and_costs_no_second_forward():
    plain, guided = table(), table()
    config = CONFIGS["confident"]
    answers = generate(plain, PROMPTS, config, None)
    assert answers == generate(guided, PROMPTS, replace(config, cfg_scale=0.0), None)
    assert len(plain.calls) == len(guided.calls) == config.num_steps
    stronger = table()
    assert answers != generate(stronger, PROMPTS, replace(config, cfg_scale=1.0), None)
    assert len(stronger.calls) == 2 * config.num_steps


def test_guidance_extrapolates_from_the_masked_prompt():
    # logits = un + (w + 1)(cond - un): one position, so the answer is the argmax of that line.
    denoiser = TableDenoiser(vocab=3, length=1, seed=0)
    prompts = [[0, 0], [0, 1], [1, 1], [1, 2], [2, 2]]
    conditional_NV = torch.cat([denoiser.table[3] + denoiser.prompt_effect[sum(prompt) % 7] for prompt in prompts])
    unconditional_V = (denoiser.table[3] + denoiser.prompt_effect[(3 + 3) % 7])[0]
    answers = {}
    for w in (0.0, 0.5, 2.0, 8.0):
        config = GenerationConfig(gen_length=1, block_length=None, cfg_scale=w)
        expected = (unconditional_V + (w + 1) * (conditional_NV - unconditional_V))[:, :3].argmax(1)
        answers[w] = generate(denoiser, prompts, config, None)
        assert answers[w] == expected[:, None].tolist()
    assert answers[0.0] != answers[8.0]


def test_prompts_of_different_lengths_together_are_as_one_by_one(config):
    together = generate(table(), PROMPTS, config, 2, tokens_per_batch=10**6)
    alone = [generate(table(), [prompt], config, 2, indices=[index])[0] for index, prompt in enumerate(PROMPTS)]
    assert together == alone
    assert together[0] != together[5]  # the same prompt at another index is another sample


@pytest.mark.parametrize("tokens_per_batch", [1, 9, 20, 33])
def test_any_batch_size_gives_the_same_answers(tokens_per_batch, config):
    whole = generate(table(), PROMPTS, config, 2, tokens_per_batch=10**6)
    assert whole == generate(table(), PROMPTS, config, 2, tokens_per_batch=tokens_per_batch)


def test_no_forward_exceeds_the_token_budget_and_lengths_are_neighbours():
    denoiser, lengths = table(), []
    logits_at = denoiser.logits_at
    denoiser.logits_at = lambda ids, segments, index: lengths.append(list(segments)) or logits_at(ids, segments, index)
    generate(denoiser, PROMPTS, CONFIGS["random"], None, tokens_per_batch=20)
    assert all(sum(segments) <= 20 for segments in lengths)
    assert [length for segments in lengths[:: CONFIGS["random"].num_steps] for length in segments] == sorted(
        len(prompt) + 6 for prompt in PROMPTS
    )


def test_no_prompts_give_no_answers():
    assert generate(table(), [], CONFIGS["random"], 2) == []


def test_dropout_is_off_while_sampling_and_back_on_afterwards():
    denoiser = table()
    denoiser.model.train()
    generate(denoiser, PROMPTS, CONFIGS["random"], 2)
    assert not any(denoiser.modes)
    assert denoiser.model.training


def test_the_progress_bar_counts_every_token_of_every_canvas_early_exit_or_not(capsys):
    for early_exit in (True, False):
        generate(table(), PROMPTS, replace(CONFIGS["random"], early_exit=early_exit), 2, progress=True)
        assert "48/48" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts_ids": [[0], [1] * 59]}, "prompts 1: longer than the 58 tokens that --gen_length 6 leaves"),
        ({"config": GenerationConfig(gen_length=64)}, "--gen_length 64: leaves nothing of the model's 64 tokens"),
        ({"prompts_ids": [[0], [1, 3]]}, "prompts 1: contain the mask token"),
        ({"eos_token_id": 9}, "end token 9: outside the model's vocabulary of 4"),
        ({"eos_token_id": None, "config": CONFIGS["random_late"]}, "--eos_rule late: the tokenizer has no end token"),
        ({"tokens_per_batch": 0}, "--tokens_per_batch 0"),
        ({"indices": [1]}, "indices: 1 of them for 8 prompts"),
    ],
)
def test_bad_input_is_told_in_one_line(arguments, message):
    given = {"prompts_ids": PROMPTS, "config": CONFIGS["random"], "eos_token_id": 2, **arguments}
    with pytest.raises(UserError) as error:
        generate(table(), **given)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_nan_logits_are_refused_by_prompt(config):
    denoiser = table()
    denoiser.prompt_effect[3] = float("nan")  # the prompts whose ids sum to 3 modulo 7
    bad = [row for row, prompt in enumerate(PROMPTS) if sum(prompt) % 7 == 3]
    with pytest.raises(UserError, match=f"prompts {', '.join(map(str, bad))}: the model's logits are not finite"):
        generate(denoiser, PROMPTS, replace(config, cfg_scale=0.0), 2, tokens_per_batch=10**6)


def test_equal_confidences_are_committed_from_left_to_right():
    denoiser = TableDenoiser(vocab=2, length=4)
    denoiser.table[..., :2] = 0.0
    denoiser.prompt_effect.zero_()
    denoiser.table[-1, :, 0] = torch.tensor([0.1, 0.2, 0.3, 0.4])  # only while all is masked: the last is surest
    generate(denoiser, [[0]], GenerationConfig(gen_length=4, block_length=None), None)
    masked = [(canvas[0] == denoiser.mask_token_id).tolist() for canvas in canvases(denoiser)]
    assert masked[1:] == [[True, True, True, False], [False, True, True, False], [False, False, True, False]]
