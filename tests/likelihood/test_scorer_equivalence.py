"""However rows are put together, a response gets one value: that of its masked copies, each alone, in full."""

import pytest
import torch
from torch.testing import assert_close

from unveil.draws import plan
from unveil.likelihood import Response, build_rows, micro_batches, row_values, row_values_without_graph, score
from unveil.models import Denoiser

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def tokens(seed: int, count: int) -> list[int]:
    return torch.randint(2, 260, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


SHAPES = [(6, 9, 0), (0, 12, 0), (13, 1, 4), (6, 9, 0), (2, 5, 8), (0, 1, 0), (20, 25, 3)]  # P, L, tail
RESPONSES = [Response(i, tokens(i, p), tokens(90 + i, n), tokens(50 + i, t)) for i, (p, n, t) in enumerate(SHAPES)]
PLANS = [plan(0, r.example_id, 0, r.length, draws) for r, draws in zip(RESPONSES, (4, 8, 2, 4, 3, 1, 8))]


def masked_copy(model, response: Response, positions) -> tuple[list[int], list[int], list[int]]:
    """What the model reads, the places it is asked for, and the true tokens there, by hand."""
    ids = [*response.prompt_ids, *response.completion_ids, *response.tail_ids]
    places = [len(response.prompt_ids) + position for position in positions.tolist()]
    return (
        [model.config.mask_token_id if i in places else t for i, t in enumerate(ids)],
        places,
        [ids[i] for i in places],
    )


def one_by_one(model) -> list[torch.Tensor]:
    """`(L / l) S(M)` of every draw from the full logits of one sequence at a time."""
    found = []
    for response, drawn in zip(RESPONSES, PLANS):
        draws = []
        for positions in drawn.positions:
            ids, places, targets = masked_copy(model, response, positions)
            log_p = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            draws.append(log_p[places, targets].sum() * response.length / len(places))
        found.append(torch.stack(draws))
    return found


def padded_with_attention_mask(model) -> list[torch.Tensor]:
    """The same from one batch of all rows, padded on the right."""
    rows = [(r.length, *masked_copy(model, r, m)) for r, drawn in zip(RESPONSES, PLANS) for m in drawn.positions]
    longest = max(len(ids) for _, ids, _, _ in rows)
    batch = torch.tensor([ids + [0] * (longest - len(ids)) for _, ids, _, _ in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for _, ids, _, _ in rows])
    log_p = model(input_ids=batch, attention_mask=mask).logits.log_softmax(-1)
    sums = [n / len(at) * log_p[i, at, targets].sum() for i, (n, _, at, targets) in enumerate(rows)]
    return list(torch.stack(sums).split([len(drawn.positions) for drawn in PLANS]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("by_hand", [one_by_one, padded_with_attention_mask])
def test_packed_and_gathered_equals_full_logits(tiny_llada, dtype, by_hand):
    model, tolerance = tiny_llada(dtype=dtype), TOLERANCE[dtype]
    found = score(Denoiser(model), RESPONSES, PLANS)
    with torch.no_grad():
        expected = by_hand(model)
    for ours, theirs, value, drawn in zip(found.per_draw, expected, found.values, PLANS):
        assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
        assert_close(value, (theirs * torch.tensor(drawn.shares, dtype=dtype)).sum(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("tokens_per_batch", [1, 7, 64, 10**9])
def test_token_budget_changes_nothing(tiny_llada, dtype, tokens_per_batch):
    denoiser, tolerance = Denoiser(tiny_llada(dtype=dtype)), TOLERANCE[dtype]
    expected = score(denoiser, RESPONSES, PLANS, tokens_per_batch=333)
    found = score(denoiser, RESPONSES, PLANS, tokens_per_batch)
    assert_close(found.values, expected.values, rtol=tolerance, atol=tolerance)
    assert_close(found.per_draw, expected.per_draw, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_order_and_companions_change_nothing(tiny_llada, dtype):
    denoiser, tolerance = Denoiser(tiny_llada(dtype=dtype)), TOLERANCE[dtype]
    expected = score(denoiser, RESPONSES, PLANS, tokens_per_batch=64).values
    for chosen in ([3], [6, 2], [5, 0, 3, 1, 6, 4, 2], [2, 2, 2]):
        found = score(denoiser, [RESPONSES[i] for i in chosen], [PLANS[i] for i in chosen], tokens_per_batch=64)
        assert_close(found.values, expected[chosen], rtol=tolerance, atol=tolerance)


def test_gradient_of_packed_rows_is_that_of_single_sequences(tiny_llada):
    model = tiny_llada(dtype=torch.float64)
    denoiser, parameters = Denoiser(model), list(model.parameters())
    weights = torch.linspace(-1, 2, sum(len(drawn.positions) for drawn in PLANS), dtype=torch.float64)
    expected = torch.autograd.grad((torch.cat(one_by_one(model)) * weights).sum(), parameters)
    scale = torch.cat([torch.tensor(drawn.weights / drawn.shares) for drawn in PLANS])
    loss = torch.zeros((), dtype=torch.float64)
    for packed in micro_batches(build_rows(RESPONSES, PLANS, 1), tokens_per_batch=100):
        loss = loss + (row_values(denoiser, packed) * (weights * scale)[packed.order]).sum()
    for ours, theirs in zip(torch.autograd.grad(loss, parameters), expected):
        assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_rows_without_graph_have_none_and_keep_their_order(tiny_llada):
    denoiser, rows = Denoiser(tiny_llada(dtype=torch.float64)), build_rows(RESPONSES, PLANS, 1)
    found = row_values_without_graph(denoiser, micro_batches(rows, 50), len(rows))
    assert not found.requires_grad
    for number, row in enumerate(rows):
        [alone] = micro_batches([row], 1)
        assert_close(found[number], row_values(denoiser, alone)[0].detach(), rtol=1e-10, atol=1e-10)


def test_only_hidden_places_meet_the_head(tiny_llada):
    model, seen = tiny_llada(), []
    model.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[:-1].numel()))
    score(Denoiser(model), RESPONSES, PLANS, tokens_per_batch=100)
    assert sum(seen) == sum(len(positions) for drawn in PLANS for positions in drawn.positions)


def test_sums_over_bfloat16_logits_are_float32(tiny_llada):
    denoiser = Denoiser(tiny_llada(dtype=torch.bfloat16))
    [packed] = micro_batches(build_rows(RESPONSES[-1:], PLANS[-1:], 1), 10**9)
    with torch.no_grad():
        logits = denoiser.logits_at(packed.input_ids_1T, packed.segment_lengths, packed.index_N)
        assert logits.dtype == torch.bfloat16
        found = row_values(denoiser, packed)
    assert found.dtype == torch.float32
    log_p = logits.double().log_softmax(-1).gather(1, packed.targets_N[:, None])[:, 0]
    exact = torch.stack([part.sum() for part in log_p.split(packed.hidden_counts)])
    assert_close(found.double(), exact, rtol=1e-6, atol=0)
    narrow = -torch.nn.functional.cross_entropy(logits, packed.targets_N, reduction="none")
    coarse = torch.stack([part.sum() for part in narrow.split(packed.hidden_counts)])
    assert (coarse.double() - exact).abs().max() > 1e-3  # what the wide sum avoids


def test_visible_tail_is_read(tiny_llada):
    denoiser = Denoiser(tiny_llada(dtype=torch.float64))
    with_tail, drawn = RESPONSES[4], PLANS[4]
    others = [Response(4, with_tail.prompt_ids, with_tail.completion_ids, tail) for tail in ((), tokens(7, 8))]
    values = score(denoiser, [with_tail, *others], [drawn] * 3).values
    assert (values[1:] - values[0]).abs().min() > 1e-4
