"""A denoiser that is a lookup table, and exact expectations over its finite world (every set, every order)."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, combinations, pairwise, product
from typing import NamedTuple

import numpy as np
import torch

from unveil.draws import Plan
from unveil.likelihood import Response, build_rows, micro_batches, row_values, row_values_without_graph, score

Subset = tuple[int, ...]


class TablePredictor:
    """Logits of response place i are `table[canvas, i]`: any function of what is visible and where.

    `table` is `[(V + 1)^L, L, V]`; a canvas is the response read as a number in base V + 1, where digit V is the
    mask (`mask_token_id`). Segments are whole responses of L tokens, without prompt.
    """

    device = torch.device("cpu")

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table
        _, self.length, self.mask_token_id = table.shape

    def logits_at(self, input_ids_1T, segment_lengths, index_N):
        assert set(segment_lengths) == {self.length}
        canvas_RL = input_ids_1T[0].view(-1, self.length)
        state_R = (canvas_RL * (self.mask_token_id + 1) ** torch.arange(self.length)).sum(1)
        return self.table[state_R[index_N // self.length], index_N % self.length]

    def read_out_at(self, input_ids_1T, segment_lengths, index_N, read_out):
        return read_out(torch.nn.Identity(), self.logits_at(input_ids_1T, segment_lengths, index_N))


def random_predictor(vocab: int, length: int, seed: int, spread: float = 1.5) -> TablePredictor:
    """Independent logits for every canvas and place: conditionals that no joint law has."""
    generator = torch.Generator().manual_seed(seed)
    shape = ((vocab + 1) ** length, length, vocab)
    return TablePredictor(spread * torch.randn(shape, generator=generator, dtype=torch.float64))


def perturbed(predictor: TablePredictor, seed: int, scale: float = 0.3) -> TablePredictor:
    """A policy near its reference."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(predictor.table.shape, generator=generator, dtype=torch.float64)
    return TablePredictor(predictor.table + scale * noise)


def size_only_predictor(vocab: int, length: int, seed: int) -> TablePredictor:
    """Logits that depend on how many places are hidden and on nothing else: every set of a size is worth the same."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(length + 1, vocab, generator=generator, dtype=torch.float64)
    hidden = (canvases(vocab, length) == vocab).sum(1)
    return TablePredictor(logits[hidden][:, None, :].expand(-1, length, -1))


def canvases(vocab: int, length: int) -> torch.Tensor:
    """Every canvas in the order of its number, `[(V + 1)^L, L]`."""
    digits = product(range(vocab + 1), repeat=length)
    return torch.tensor([canvas[::-1] for canvas in digits])


class MarkovChain:
    """A joint law over V^L sequences; `predictor` knows all its conditionals, exactly."""

    def __init__(self, vocab: int, length: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        start, step = generator.dirichlet(np.ones(vocab)), generator.dirichlet(np.ones(vocab), size=vocab)
        self.joint = {
            y: float(start[y[0]] * np.prod([step[a, b] for a, b in pairwise(y)]))
            for y in product(range(vocab), repeat=length)
        }
        sequences = torch.tensor(list(self.joint))
        weight_S = torch.tensor(list(self.joint.values()), dtype=torch.float64)
        canvas_CL = canvases(vocab, length)
        agrees_CSL = (canvas_CL[:, None] == vocab) | (canvas_CL[:, None] == sequences)
        joint_CS = agrees_CSL.all(-1) * weight_S
        one_hot = torch.nn.functional.one_hot(sequences, vocab).double()
        self.predictor = TablePredictor(torch.einsum("cs,siv->civ", joint_CS, one_hot).log())


def all_subsets(length: int) -> list[Subset]:
    """Every non-empty set of places."""
    return list(chain.from_iterable(combinations(range(length), size) for size in range(1, length + 1)))


def plan_of(sets: Iterable[Subset], length: int, shares=None, sizes_drawn=None, design: str = "iid") -> Plan:
    """The plan that hides these sets, one per draw."""
    positions = tuple(np.array(sorted(hidden), dtype=np.int64) for hidden in sets)
    count = len(positions)
    shares = np.full(count, 1 / count) if shares is None else np.asarray(shares)
    weights = shares * length / np.array([len(hidden) for hidden in positions])
    return Plan(positions, weights, shares, count if sizes_drawn is None else sizes_drawn, design)


def packed_subsets(predictor: TablePredictor, completion: Subset):
    """The package's micro-batches that hide every set of the response once, and the number of rows."""
    subsets = all_subsets(len(completion))
    rows = build_rows([Response(0, (), completion)], [plan_of(subsets, len(completion))], predictor.mask_token_id)
    return micro_batches(rows, tokens_per_batch=64), len(rows)


def set_values(predictor: TablePredictor, completion: Subset) -> dict[Subset, float]:
    """S(M) of every set, by the package."""
    batches, count = packed_subsets(predictor, completion)
    return dict(zip(all_subsets(len(completion)), row_values_without_graph(predictor, batches, count).tolist()))


def token_values(predictor: TablePredictor, completion: Subset) -> dict[Subset, dict[int, float]]:
    """log p(y_i | all but M) for every set M and i in M: the package's row sums, cut into single tokens."""
    subsets, values = all_subsets(len(completion)), {}
    batches, _ = packed_subsets(predictor, completion)
    for packed in batches:
        tokens = row_values(predictor, replace(packed, hidden_counts=[1] * len(packed.index_N))).tolist()
        for row in packed.order:
            values[subsets[row]] = {place: tokens.pop(0) for place in subsets[row]}
    return values


def log_p_of(tokens: dict[Subset, dict[int, float]], drawn: Plan) -> list[np.ndarray]:
    """log p of the scored tokens of each draw, given all that it leaves visible (`tokens` of `token_values`)."""
    besides = drawn.also_hidden or ((),) * len(drawn.positions)
    sets = [tuple(sorted((*scored.tolist(), *map(int, more)))) for scored, more in zip(drawn.positions, besides)]
    return [
        np.array([tokens[hidden][place] for place in scored.tolist()]) for hidden, scored in zip(sets, drawn.positions)
    ]


def elbo_by_subsets(sums: dict[Subset, float], length: int) -> float:
    """B = sum over sets of S(M) / (l C(L, l))."""
    return sum(value / (len(hidden) * math.comb(length, len(hidden))) for hidden, value in sums.items())


def any_order_log_likelihood(tokens: dict[Subset, dict[int, float]], length: int) -> float:
    """log of the likelihood of the random-order process, by dynamic programming over what is visible."""
    reached = {(): 1.0}
    for step in range(length):
        following: dict[Subset, float] = {}
        for visible, mass in reached.items():
            hidden = tuple(place for place in range(length) if place not in visible)
            for place in hidden:
                seen = tuple(sorted((*visible, place)))
                gain = mass * math.exp(tokens[hidden][place]) / (length - step)
                following[seen] = following.get(seen, 0.0) + gain
        reached = following
    return math.log(reached[tuple(range(length))])


def holder_bound(tokens: dict[Subset, dict[int, float]], length: int) -> float:
    """sum_i (1 / L) log E[p(y_i | R)^L], R a uniform subset of the other places, its size uniform on 0..L-1."""
    powers = [0.0] * length
    for hidden, values in tokens.items():
        probability = 1 / (length * math.comb(length - 1, len(hidden) - 1))
        for place, log_p in values.items():
            powers[place] += probability * math.exp(length * log_p)
    return sum(math.log(power) for power in powers) / length


def across_and_within(sums: dict[Subset, float], length: int) -> tuple[float, float]:
    """V_t = Var_l(E[f | l]) and V_y = E_l Var(f | l) of f(M) = (L / l) S(M), l uniform on 1..L."""
    by_size = [
        [length / size * value for hidden, value in sums.items() if len(hidden) == size]
        for size in range(1, length + 1)
    ]
    return float(np.var([np.mean(values) for values in by_size])), float(np.mean([np.var(v) for v in by_size]))


class Moments(NamedTuple):
    """What an estimator does over all its draws: mean, variance, and the mean of its squared standard error."""

    mean: float
    variance: float
    mean_squared_error_bar: float


def exact_moments(predictor: TablePredictor, completion: Subset, law: Iterator[tuple[float, Plan]]) -> Moments:
    """Enumerate a law of plans through `score`."""
    probabilities, plans = zip(*law)
    found = score(predictor, [Response(0, (), completion)] * len(plans), plans, tokens_per_batch=4096)
    p = torch.tensor(probabilities, dtype=torch.float64)
    torch.testing.assert_close(p.sum().item(), 1.0, rtol=0, atol=1e-12)
    mean = (p * found.values).sum()
    variance = (p * (found.values - mean) ** 2).sum()
    return Moments(mean.item(), variance.item(), (p * found.standard_error**2).sum().item())
