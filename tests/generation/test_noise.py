"""Noise is a pure function of what it is for, and has the law it should have."""

import math

import torch

from unveil.draws.splitmix import hashes
from unveil.generation.noise import gumbel, mix, prompt_keys, subkeys

MASK = (1 << 64) - 1


def finaliser(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_wrapped_int64_arithmetic_is_splitmix64():
    words = [0, 1, 2, MASK, 1 << 63, (1 << 63) - 1, 0x0123456789ABCDEF, 0xFEDCBA9876543210]
    signed = torch.tensor([word - (1 << 64) if word >> 63 else word for word in words])
    assert [value & MASK for value in mix(signed).tolist()] == [finaliser(word) for word in words]


def test_subkeys_are_the_splitmix_stream_of_the_draws_room():
    stream = subkeys(torch.tensor([123456789]), torch.arange(50)).tolist()
    assert [value & MASK for value in stream] == hashes(123456789, 50).tolist()


def test_keys_depend_on_seed_and_index_only():
    keys = prompt_keys(3, torch.arange(5))
    assert torch.equal(prompt_keys(3, torch.tensor([4, 1])), keys[[4, 1]])
    assert len({*keys.tolist(), *prompt_keys(4, torch.arange(5)).tolist()}) == 10


def test_the_noise_of_a_token_does_not_depend_on_the_other_tokens():
    keys_N1 = prompt_keys(0, torch.arange(3))[:, None]
    whole = gumbel(keys_N1, torch.arange(100))
    some = torch.tensor([[5, 99, 0], [7, 7, 1], [50, 2, 3]])
    assert torch.equal(gumbel(keys_N1, some), whole.gather(1, some))


def test_noise_is_standard_gumbel_and_uncorrelated():
    noise = gumbel(prompt_keys(1, torch.arange(400))[:, None], torch.arange(500))
    uniform = torch.exp(-torch.exp(-noise)).flatten().sort().values
    n = len(uniform)
    grid = torch.arange(n, dtype=torch.float64) / n
    kolmogorov = torch.maximum((uniform - grid).abs().max(), (grid + 1 / n - uniform).abs().max())
    assert kolmogorov * math.sqrt(n) < 1.95  # p = 0.001
    for left, right in ((noise[:, :-1], noise[:, 1:]), (noise[:-1], noise[1:])):
        correlation = torch.corrcoef(torch.stack([left.flatten(), right.flatten()]))[0, 1]
        assert abs(correlation) * math.sqrt(left.numel()) < 4
    assert noise.isfinite().all()


def test_streams_of_neighbouring_prompts_seeds_and_positions_are_uncorrelated():
    first = gumbel(subkeys(prompt_keys(0, torch.arange(2000)), torch.tensor([7]))[:, None], torch.arange(20))
    for seed, position in ((1, 7), (0, 8)):
        other = gumbel(
            subkeys(prompt_keys(seed, torch.arange(2000)), torch.tensor([position]))[:, None], torch.arange(20)
        )
        correlation = torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) * math.sqrt(first.numel()) < 4
