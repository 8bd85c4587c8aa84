"""Drawing one token per row of logits: temperature, nucleus, forbidden tokens, confidence."""

import pytest
import torch

from unveil.generation.noise import prompt_keys
from unveil.generation.prediction import nuclei, predict

NOTHING = torch.tensor([], dtype=torch.int64)


def draw(logits_NV, seed=0, temperature=1.0, top_p=1.0, forbidden=NOTHING, measure="probability"):
    keys_N = prompt_keys(seed, torch.arange(len(logits_NV)))
    return predict(
        logits_NV,
        keys_N,
        temperature=temperature,
        top_p=top_p,
        forbidden=forbidden,
        measure=measure,
    )


def assert_law(tokens_N, law_V):
    counts_V = torch.bincount(tokens_N, minlength=len(law_V)).double()
    assert counts_V[law_V == 0].sum() == 0
    expected = law_V[law_V > 0] * len(tokens_N)
    chi_square = ((counts_V[law_V > 0] - expected) ** 2 / expected).sum()
    freedom = int((law_V > 0).sum()) - 1
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5 + 4


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_follow_the_tempered_softmax(temperature):
    logits_V = torch.tensor([0.0, 1.0, -1.0, 2.0])
    tokens_N, _, _ = draw(logits_V.expand(40_000, 4), temperature=temperature)
    assert_law(tokens_N, torch.softmax(logits_V.double() / temperature, 0))


@pytest.mark.parametrize(
    ("top_p", "law"),
    [
        (0.05, [0.0, 1.0, 0.0, 0.0]),
        (0.45, [0.0, 1.0, 0.0, 0.0]),
        (0.55, [0.0, 5 / 8, 3 / 8, 0.0]),
        (0.75, [0.0, 5 / 8, 3 / 8, 0.0]),
        (0.85, [0.15 / 0.95, 0.5 / 0.95, 0.3 / 0.95, 0.0]),
        (0.99, [0.15, 0.5, 0.3, 0.05]),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_it_and_renormalises(top_p, law):
    logits_V = torch.tensor([0.15, 0.5, 0.3, 0.05]).log() + 3.0
    tokens_N, _, _ = draw(logits_V.expand(40_000, 4), top_p=top_p)
    assert_law(tokens_N, torch.tensor(law, dtype=torch.float64))


def test_top_p_acts_after_the_temperature():
    logits_V = torch.tensor([0.5, 0.3, 0.2]).log() * 2.0  # temperature 2 gives back 0.5, 0.3, 0.2
    tokens_N, _, _ = draw(logits_V.expand(40_000, 3), temperature=2.0, top_p=0.7)
    assert_law(tokens_N, torch.tensor([5 / 8, 3 / 8, 0.0], dtype=torch.float64))


def test_a_flat_row_widens_the_nucleus_until_it_is_exact():
    generator = torch.Generator().manual_seed(0)
    scores_NV = torch.randn(5, 300, generator=generator, dtype=torch.float64)
    ((_, wide, wide_tokens),) = nuclei(scores_NV, 0.9, width=300)
    ((rows, grown, grown_tokens),) = nuclei(scores_NV, 0.9, width=2)
    kept = wide.isfinite().sum(1)
    assert kept.min() > 64
    assert kept.max() < 300
    assert rows.tolist() == list(range(5))
    for row in range(5):
        assert grown_tokens[row, grown[row].isfinite()].tolist() == wide_tokens[row, wide[row].isfinite()].tolist()


def test_each_row_is_searched_as_wide_as_it_needs_whatever_the_others_need():
    generator = torch.Generator().manual_seed(0)
    sharpness_N1 = torch.tensor([6.0, 0.0, 2.0, 6.0, 1.0], dtype=torch.float64)[:, None]
    scores_NV = sharpness_N1 * torch.randn(5, 300, generator=generator, dtype=torch.float64)
    together = list(nuclei(scores_NV, 0.9, width=4))
    assert sorted(row for rows, _, _ in together for row in rows.tolist()) == list(range(5))
    assert len({kept.shape[1] for _, kept, _ in together}) == len(together) > 1
    for rows, kept, tokens in together:
        for place, row in enumerate(rows.tolist()):
            ((_, alone, alone_tokens),) = nuclei(scores_NV[row : row + 1], 0.9, width=4)
            assert torch.equal(kept[place], alone[0])
            assert torch.equal(tokens[place], alone_tokens[0])


def test_top_p_one_and_almost_one_draw_the_same_tokens():
    logits_NV = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(logits_NV)[0], draw(logits_NV, top_p=1 - 1e-12)[0])


def test_temperature_zero_takes_the_likeliest_token():
    logits_NV = torch.randn(200, 50, generator=torch.Generator().manual_seed(0))
    for seed in (0, 1):
        assert torch.equal(draw(logits_NV, seed=seed, temperature=0.0)[0], logits_NV.argmax(1))


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (1.0, 0.9)])
def test_forbidden_tokens_are_never_drawn(temperature, top_p):
    logits_NV = torch.zeros(5000, 4)
    logits_NV[:, 2] = 30.0
    tokens_N, confidence_N, _ = draw(logits_NV, temperature=temperature, top_p=top_p, forbidden=torch.tensor([2, 0]))
    assert set(tokens_N.tolist()) <= {1, 3}
    torch.testing.assert_close(confidence_N, torch.full((5000,), 0.5, dtype=torch.float64))


def test_confidence_is_the_plain_probability_of_the_drawn_token():
    logits_NV = torch.randn(500, 20, generator=torch.Generator().manual_seed(0))
    tokens_N, confidence_N, _ = draw(logits_NV, temperature=0.7, top_p=0.8)
    expected = torch.softmax(logits_NV.double(), 1).gather(1, tokens_N[:, None])[:, 0]
    torch.testing.assert_close(confidence_N, expected)


def test_rows_do_not_influence_each_other_across_chunks():
    logits_NV = torch.randn(300, 1000, generator=torch.Generator().manual_seed(0))  # several chunks
    keys_N = prompt_keys(0, torch.arange(300))
    options = {"temperature": 1.0, "top_p": 0.95, "forbidden": NOTHING, "measure": "probability"}
    whole, confidence, _ = predict(logits_NV, keys_N, **options)
    for row in (0, 130, 131, 299):
        alone, alone_confidence, _ = predict(logits_NV[row : row + 1], keys_N[row : row + 1], **options)
        assert alone.item() == whole[row].item()
        torch.testing.assert_close(alone_confidence[0], confidence[row])


@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (1.0, 0.9)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_unusable_logits_are_flagged_and_only_those(temperature, top_p, value):
    logits_NV = torch.randn(6, 30, generator=torch.Generator().manual_seed(0))
    logits_NV[4, 7] = value
    logits_NV[1] = -torch.inf
    _, _, finite_N = draw(logits_NV, temperature=temperature, top_p=top_p)
    assert finite_N.tolist() == [True, False, True, True, False, True]


def test_the_logits_are_not_written_to():
    logits_NV = torch.randn(4, 10).double()
    before = logits_NV.clone()
    draw(logits_NV, forbidden=torch.tensor([1]))
    assert torch.equal(logits_NV, before)
