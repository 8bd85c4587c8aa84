"""Kept keys and values: what a forward over a part of a stream must equal, and what it must refuse."""

import pytest
import torch

from unveil.models import Denoiser, KeyValues

LENGTHS = [7, 9, 9, 4]
STARTS = [0, 7, 16, 25]


@pytest.fixture
def stream():
    generator = torch.Generator().manual_seed(3)
    return torch.randint(4, 260, (1, sum(LENGTHS)), generator=generator)


def part(windows):
    """Stream index, counts and places of the windows (start, count) inside each segment."""
    index = torch.cat([torch.arange(s + w, s + w + n) for s, (w, n) in zip(STARTS, windows)])
    places = torch.cat([torch.arange(w, w + n) for w, n in windows])
    return index, [n for _, n in windows], places[None]


WINDOWS = {"the same of equals": [(2, 3), (2, 4), (2, 4), (1, 2)], "all different": [(0, 7), (5, 4), (1, 1), (3, 1)]}


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=list(WINDOWS))
@pytest.mark.parametrize("heads", [{}, {"n_kv_heads": 2}])
@torch.no_grad()
def test_a_part_of_an_unchanged_stream_has_the_logits_of_the_whole(tiny_llada, stream, windows, heads):
    denoiser = Denoiser(tiny_llada(dtype=torch.float64, **heads))
    whole = denoiser.logits_at(stream, LENGTHS, torch.arange(sum(LENGTHS)))
    kept = KeyValues(LENGTHS)
    first = denoiser.logits_with(kept, stream, LENGTHS, torch.arange(sum(LENGTHS)))
    assert torch.equal(first, whole)
    index, counts, places = part(windows)
    again = denoiser.logits_with(kept, stream[:, index], counts, torch.arange(len(index)), index, places)
    torch.testing.assert_close(again, whole[index], rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_one_layer_is_exact_after_a_change_and_two_layers_are_not(tiny_llada, stream):
    """Keys of the first layer depend on nothing but their own token, so a changed token spoils no other."""
    index, counts, places = part(WINDOWS["the same of equals"])
    changed = stream.clone()
    changed[0, index] = 5
    errors = []
    for layers in (1, 2):
        denoiser = Denoiser(tiny_llada(dtype=torch.float64, n_layers=layers, init_fn="normal", init_std=0.3))
        kept = KeyValues(LENGTHS)
        denoiser.logits_with(kept, stream, LENGTHS, torch.arange(1))
        found = denoiser.logits_with(kept, changed[:, index], counts, torch.arange(len(index)), index, places)
        exact = denoiser.logits_at(changed, LENGTHS, index)
        errors.append(float((found - exact).abs().max()))
    assert errors[0] < 1e-10 < 1e-3 < errors[1]


@torch.no_grad()
def test_segments_that_leave_take_their_keys_along(tiny_llada, stream):
    denoiser = Denoiser(tiny_llada(dtype=torch.float64))
    kept = KeyValues(LENGTHS)
    denoiser.logits_with(kept, stream, LENGTHS, torch.arange(1))
    kept.keep([1, 3])
    assert kept.lengths == [9, 4]
    rest = torch.cat([stream[:, 7:16], stream[:, 25:]], 1)
    index, places = torch.tensor([3, 4, 10]), torch.tensor([[3, 4, 1]])
    found = denoiser.logits_with(kept, rest[:, index], [2, 1], torch.arange(3), index, places)
    torch.testing.assert_close(found, denoiser.logits_at(rest, [9, 4], index), rtol=1e-10, atol=1e-10)


def test_what_does_not_fit_is_refused(tiny_llada, stream):
    denoiser = Denoiser(tiny_llada())
    index, counts, places = part(WINDOWS["all different"])
    ids, keep = stream[:, index], torch.arange(1)
    with pytest.raises(ValueError, match="first forward"):
        denoiser.logits_with(KeyValues(LENGTHS), ids, counts, keep, index, places)
    with pytest.raises(ValueError, match="every segment"):
        denoiser.logits_with(KeyValues(LENGTHS[:-1]), ids, counts, keep, index, places)
    with pytest.raises(ValueError, match="position_ids"):
        denoiser.logits_with(KeyValues(LENGTHS), ids, counts, keep, index)


def test_only_networks_that_say_so_keep_keys(tiny_llada):
    assert Denoiser(tiny_llada()).keeps_keys
    assert not Denoiser(tiny_llada(), logit_shift=1).keeps_keys
