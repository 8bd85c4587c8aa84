"""What the benchmarks compare is what they say: one gradient by every schedule, one value with and without padding."""

import pytest
import torch

from benchmarks.memory import LiveBytes, peak_bytes
from benchmarks.our_step import Schedule, one_pass, prepare, split_kept, two_pass, values
from benchmarks.parts import full_logits_step, longest_row_step
from benchmarks.proportional import (
    MEAN_COMPLETION,
    MEAN_PROMPT,
    QUICK,
    SHRINK,
    Batch,
    batch_of,
    data_lengths,
    proportional_model,
    representative,
)
from benchmarks.published_step import published_plans, published_step, published_value
from unveil.models import Denoiser

SIZES = [(3, 9), (5, 4), (2, 12), (7, 7)]


@pytest.fixture
def denoiser():
    return Denoiser(proportional_model(**QUICK, vocab_size=64).double())


@pytest.fixture
def batch():
    return batch_of(SIZES, [True, False, True, False], 64)


def gradient(denoiser, step):
    denoiser.model.zero_grad()
    loss = step()
    return loss, torch.cat([p.grad.flatten() for p in denoiser.model.parameters()])


def oracle(denoiser, batch):
    """The batch's rows, a reference that spreads the margins, and the gradient of one graph over all."""
    prepared = prepare(denoiser, batch, Schedule(3, "iid", 40))
    reference = values(denoiser, prepared) + torch.tensor([4.0, -9.0, 13.0, 2.0])
    return prepared, reference, gradient(denoiser, lambda: one_pass(denoiser, prepared, reference, False))


@pytest.mark.parametrize("kept_tokens", [0, 40, 10**9])
def test_two_passes_give_the_gradient_of_one_whatever_is_kept(denoiser, batch, kept_tokens):
    prepared, reference, (loss, expected) = oracle(denoiser, batch)
    assert len(prepared.packed) > 2
    again, found = gradient(denoiser, lambda: two_pass(denoiser, prepared, reference, kept_tokens))
    assert again == pytest.approx(loss, rel=1e-12)
    assert (found - expected).norm() < 1e-12 * expected.norm()


@pytest.mark.parametrize("step", [longest_row_step, full_logits_step])
def test_the_other_ways_give_the_same_gradient(denoiser, batch, step):
    prepared, reference, (loss, expected) = oracle(denoiser, batch)
    again, found = gradient(denoiser, lambda: step(denoiser, prepared, reference))
    assert again == pytest.approx(loss, rel=1e-12)
    assert (found - expected).norm() < 1e-6 * expected.norm()  # rotary tables and softmax of a mask round otherwise


def test_kept_graphs_fit_their_budget(denoiser, batch):
    prepared, _, _ = oracle(denoiser, batch)
    for budget in (0, 40, 80):
        again, kept = split_kept(prepared.packed, budget)
        assert sum(sum(part.segment_lengths) for part in kept) <= budget
        assert len(again) + len(kept) == len(prepared.packed)
        assert bool(kept) == (budget > 0)


def test_the_published_value_without_padding_is_ours(denoiser, batch):
    prepared = prepare(denoiser, batch, Schedule(3, "iid"))
    plans = published_plans(batch, 3)
    for response, draws, ours in zip(batch.responses, plans, values(denoiser, prepared)):
        length = len(response.prompt_ids) + response.length
        theirs = published_value(denoiser.model, response, draws, length).detach()
        assert float(theirs) == pytest.approx(float(ours), rel=1e-6)
        padded = published_value(denoiser.model, response, draws, length + 5).detach()
        assert float(padded) != pytest.approx(float(ours), rel=1e-6)  # the padding is seen


def test_the_published_step_centres_every_example_on_itself(denoiser, batch):
    plans = published_plans(batch, 2)
    one = gradient(denoiser, lambda: published_step(denoiser.model, batch, plans, [0.0] * 4, 24))
    other = gradient(denoiser, lambda: published_step(denoiser.model, batch, plans, [50.0, -50.0, 7.0, 1.0], 24))
    assert one[0] == other[0] == pytest.approx(0.5)
    assert torch.equal(one[1], other[1])


def test_a_row_longer_than_the_padded_length_is_refused(denoiser, batch):
    with pytest.raises(ValueError, match="longer than the padded length 10"):
        published_step(denoiser.model, batch, published_plans(batch, 1), [0.0] * 4, 10)


def test_live_bytes_are_those_of_storages_made_and_not_yet_freed():
    given = torch.ones(1000)
    with LiveBytes() as counter:
        doubled = given * 2
        view = doubled[:10]
        assert counter.now == 4000
        del doubled
        assert counter.now == 4000
        view.add_(1)
        given.mul_(2)
        del view
        assert counter.now == 0
    assert counter.peak == 4000


def peak(model, batch, schedule):
    denoiser = Denoiser(model)
    prepared = prepare(denoiser, batch, schedule)
    reference = values(denoiser, prepared)
    return peak_bytes(model, lambda: two_pass(denoiser, prepared, reference, schedule.kept_tokens))


@pytest.mark.slow
def test_peak_memory_is_flat_in_draws_and_batch_and_kept_graphs_of_one_micro_batch_are_free():
    # Every activation is as wide as the model times a constant: these are the proportions of the large one.
    model = proportional_model(width=32, layers=4, vocab_size=128)
    lengths, _ = data_lengths()
    few, many = (representative(lengths, count, 128) for count in (16, 64))
    usual = peak(model, few, Schedule(4, "iid", 512))
    assert peak(model, few, Schedule(4, "iid", 512, kept_tokens=512)) <= 1.1 * usual
    assert peak(model, many, Schedule(4, "iid", 512)) <= 1.15 * usual
    one, sixteen = (peak(model, few, Schedule(draws, "iid", 512)) for draws in (1, 16))
    assert sixteen <= 1.15 * one
    assert peak(model, few, Schedule(4, "iid", 512, kept_tokens=10**9)) > 3 * usual


def test_batches_have_the_mean_lengths_of_the_data(tmp_path):
    for lengths, source in (data_lengths(), data_lengths(tmp_path)):
        assert source in ("kto_mix_test", "length table")
        for count in (4, 16):
            found = representative(lengths, count).describe()
            assert found["mean_prompt"] == pytest.approx(MEAN_PROMPT / SHRINK, rel=0.1)
            assert found["mean_completion"] == pytest.approx(MEAN_COMPLETION / SHRINK, rel=0.1)
    assert isinstance(representative(lengths, 4), Batch)
